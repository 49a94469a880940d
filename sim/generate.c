/*
 * generate.c -- requests, and the tokens of each, block by block into files or memory.
 *
 * Each (request, layer) has a stream of its own, which first draws the request's preferences and
 * then its tokens in order. So threads share nothing, a block may begin in the middle of a request
 * (the rows before it are drawn again), and a shorter trace is the beginning of a longer one.
 */
#include "generate.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>

#include "generate_internal.h"
#include "rng.h"
#include "trace_internal.h"
#include "trace_writer.h"

#define BLOCK_TOKENS     16384 /* drawn at once: 30 MB of ids for DeepSeek-V3 */
#define TOKENS_PER_SHARD 65536 /* a multiple of BLOCK_TOKENS: no block ends in two shards */
#define TOKENS_MAX       ((int64_t)TOKENS_PER_SHARD * TRACE_SHARDS_MAX)
#define FIRST_REQUESTS   256 /* room for requests, at first */

/* One thread's memory. */
struct worker {
    gsl_rng *rng;
    struct generate_table table;
    uint32_t factor[GENERATE_EXPERTS_MAX];
};

struct generator {
    struct generate_options options;
    struct generate_preset preset;
    struct generate_normal normal;
    struct generate_factors factors;
    char source[SOURCE_BYTES];
    int32_t model_layer[GENERATE_LAYERS_MAX];
    uint32_t *base_weight; /* [num_layers][num_experts] */
    struct worker *worker; /* [num_threads] */
    struct trace_request *requests;
    int64_t num_requests;
    int32_t *expert; /* [num_layers][tokens of the block][top_k] */
};

/* Where blocks go: one of the two. */
struct sink {
    struct trace_writer *writer;
    void *ids; /* [num_layers][num_tokens][top_k], as trace_id_bytes says */
};

static int32_t length_draw(const struct generate_lengths *lengths,
                           const struct generate_normal *normal, gsl_rng *rng)
{
    double length = lengths->median * exp(lengths->sigma * generate_normal_draw(normal, rng));
    if (length >= lengths->max) {
        return lengths->max;
    }
    return length < 1 ? 1 : (int32_t)lround(length);
}

/* Draws requests until they hold num_tokens; the last one is cut to fit. */
static enum status requests_draw(struct generator *generator, gsl_rng *rng, struct error *error)
{
    const struct generate_preset *preset = &generator->preset;
    int64_t capacity = 0;
    double arrival_s = 0;
    rng_restream(rng, generator->options.seed, "generate.requests", 0);
    for (int64_t row = 0; row < generator->options.num_tokens;) {
        if (generator->num_requests == capacity) {
            capacity = capacity == 0 ? FIRST_REQUESTS : 2 * capacity;
            struct trace_request *more =
                realloc(generator->requests, (size_t)capacity * sizeof *more);
            if (more == NULL) {
                return error_add(error, STATUS_NO_MEMORY, "generate: no memory for requests");
            }
            generator->requests = more;
        }
        struct trace_request *request = &generator->requests[generator->num_requests++];
        *request = (struct trace_request){.row_offset = row};
        memcpy(request->tag, preset->tag, sizeof request->tag);
        request->num_rows = length_draw(&preset->rows, &generator->normal, rng);
        request->prompt_tokens = length_draw(&preset->prompt_tokens, &generator->normal, rng);
        arrival_s += gsl_ran_exponential(rng, 1 / preset->arrivals_per_s);
        arrival_s = round(arrival_s * 1e6) / 1e6; /* as requests.csv can hold it */
        request->arrival_s = arrival_s;
        if (request->num_rows > generator->options.num_tokens - row) {
            request->num_rows = generator->options.num_tokens - row;
        }
        row += request->num_rows;
    }
    return STATUS_OK;
}

/* Each expert's factor for one request in one layer, from the stream's first numbers. */
static void preferences_draw(struct worker *worker, const struct generate_factors *factors,
                             int32_t num_experts)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        worker->factor[expert] = factors->factor[gsl_rng_get(worker->rng) >> (32 - NORMAL_BITS)];
    }
}

/* Writes those tokens of a request that lie in rows first .. first + count - 1 of the trace. */
static void request_draw(struct generator *generator, struct worker *worker, int64_t index,
                         int64_t first, int64_t count)
{
    const struct trace_request *request = &generator->requests[index];
    const int64_t num_layers = generator->preset.num_layers;
    const int32_t top_k = generator->preset.top_k;
    int64_t end = request->row_offset + request->num_rows;
    if (end > first + count) {
        end = first + count;
    }
    for (int64_t layer = 0; layer < num_layers; layer++) {
        rng_restream(worker->rng, generator->options.seed, "generate.tokens",
                     (uint64_t)(index * num_layers + layer));
        preferences_draw(worker, &generator->factors, generator->preset.num_experts);
        generate_table_set(&worker->table,
                           generator->base_weight + layer * generator->preset.num_experts,
                           worker->factor);
        for (int64_t row = request->row_offset; row < end; row++) {
            int32_t expert[GENERATE_TOP_K_MAX];
            struct generate_choice choice = generate_token_begin(&worker->table);
            for (int32_t k = 0; k < top_k; k++) {
                expert[k] = generate_token_next(&worker->table, &choice, worker->rng);
            }
            if (row >= first) {
                memcpy(generator->expert + (layer * count + row - first) * top_k, expert,
                       (size_t)top_k * sizeof expert[0]);
            }
        }
    }
}

/* Draws all tokens of a block. first_request holds its first row; returns the request that holds
 * the row after its last. */
static int64_t block_draw(struct generator *generator, int64_t first_request, int64_t first,
                          int64_t count)
{
    int64_t end_request = first_request;
    while (end_request < generator->num_requests &&
           generator->requests[end_request].row_offset < first + count) {
        end_request++;
    }
#pragma omp parallel for num_threads(generator->options.num_threads) schedule(dynamic)
    for (int64_t request = first_request; request < end_request; request++) {
        request_draw(generator, &generator->worker[omp_get_thread_num()], request, first, count);
    }
    const struct trace_request *last = &generator->requests[end_request - 1];
    return last->row_offset + last->num_rows > first + count ? end_request - 1 : end_request;
}

static void block_copy(void *ids, const struct generator *generator, int64_t first, int64_t count)
{
    const int64_t num_experts = generator->preset.num_experts;
    const int64_t top_k = generator->preset.top_k;
    const bool is_byte = trace_id_bytes((int32_t)num_experts, false) == 1;
    uint8_t *id_u8 = ids;
    uint16_t *id_u16 = ids;
    for (int64_t layer = 0; layer < generator->preset.num_layers; layer++) {
        const int32_t *from = generator->expert + layer * count * top_k;
        int64_t to = (layer * generator->options.num_tokens + first) * top_k;
        for (int64_t i = 0; i < count * top_k; i++) {
            if (is_byte) {
                id_u8[to + i] = (uint8_t)from[i];
            } else {
                id_u16[to + i] = (uint16_t)from[i];
            }
        }
    }
}

static enum status tokens_draw(struct generator *generator, const struct sink *sink,
                               struct error *error)
{
    const struct generate_options *options = &generator->options;
    enum status status = STATUS_OK;
    int64_t request = 0;
    for (int64_t first = 0; status == STATUS_OK && first < options->num_tokens;
         first += BLOCK_TOKENS) {
        int64_t count = options->num_tokens - first;
        count = count > BLOCK_TOKENS ? BLOCK_TOKENS : count;
        request = block_draw(generator, request, first, count);
        if (sink->writer != NULL) {
            status = trace_writer_append(sink->writer, generator->expert, NULL, count, error);
        } else {
            block_copy(sink->ids, generator, first, count);
        }
        if (options->progress != NULL) {
            options->progress(options->context, first + count, options->num_tokens);
        }
    }
    return status;
}

static void generator_close(struct generator *generator)
{
    if (generator == NULL) {
        return;
    }
    for (int32_t thread = 0; generator->worker != NULL && thread < generator->options.num_threads;
         thread++) {
        if (generator->worker[thread].rng != NULL) {
            gsl_rng_free(generator->worker[thread].rng);
        }
    }
    free(generator->worker);
    free(generator->base_weight);
    free(generator->requests);
    free(generator->expert);
    free(generator);
}

static bool arrays_allocate(struct generator *generator)
{
    const struct generate_preset *preset = &generator->preset;
    int64_t tokens = generator->options.num_tokens;
    tokens = tokens < BLOCK_TOKENS ? tokens : BLOCK_TOKENS;
    generator->base_weight =
        calloc((size_t)preset->num_layers * (size_t)preset->num_experts, sizeof(uint32_t));
    generator->expert = malloc((size_t)tokens * (size_t)preset->num_layers * (size_t)preset->top_k *
                               sizeof(int32_t));
    generator->worker = calloc((size_t)generator->options.num_threads, sizeof generator->worker[0]);
    bool complete =
        generator->base_weight != NULL && generator->expert != NULL && generator->worker != NULL;
    for (int32_t thread = 0; complete && thread < generator->options.num_threads; thread++) {
        generate_table_init(&generator->worker[thread].table, preset);
        generator->worker[thread].rng = rng_stream(0, "generate.tokens", 0);
        complete = generator->worker[thread].rng != NULL;
    }
    return complete;
}

/* Everything but the tokens. Release with generator_close, also after a failure. */
static enum status generator_open(struct generator **opened, const struct generate_options *options,
                                  struct error *error)
{
    assert(options->num_threads >= 1);
    struct generator *generator = calloc(1, sizeof *generator);
    *opened = generator;
    if (generator == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
    }
    generator->options = *options;
    struct generate_preset *preset = &generator->preset;
    enum status status = generate_preset_load(preset, options->preset, error);
    if (options->num_tokens < 1 || options->num_tokens > TOKENS_MAX) {
        status = error_add(error, STATUS_INVALID, "generate: num_tokens must be 1 to %lld",
                           (long long)TOKENS_MAX);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!arrays_allocate(generator)) {
        return error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
    }
    (void)snprintf(generator->source, sizeof generator->source, "preset %s, seed %llu",
                   preset->name, (unsigned long long)options->seed);
    for (int32_t layer = 0; layer < preset->num_layers; layer++) {
        generator->model_layer[layer] = preset->layer[layer].model_layer;
    }
    generate_normal_init(&generator->normal);
    generate_factors_init(&generator->factors, &generator->normal, preset->request_sigma);
    status = requests_draw(generator, generator->worker[0].rng, error);
    if (status == STATUS_OK) {
        status = generate_calibrate(generator->base_weight, preset, options->seed,
                                    options->num_threads, error);
    }
    return status;
}

static struct trace_description description_of(const struct generator *generator)
{
    return (struct trace_description){
        .model = generator->preset.model,
        .num_experts = generator->preset.num_experts,
        .top_k = generator->preset.top_k,
        .num_layers = generator->preset.num_layers,
        .model_layer = generator->model_layer,
        .tokens_per_shard = TOKENS_PER_SHARD,
        .has_gate_weights = false,
        .origin = "generated",
        .source = generator->source,
        .licence = generator->preset.licence,
    };
}

enum status generate_trace(const char *path, bool replace, const struct generate_options *options,
                           struct error *error)
{
    struct generator *generator = NULL;
    struct sink sink = {0};
    enum status status = generator_open(&generator, options, error);
    if (status != STATUS_OK) {
        goto done;
    }
    struct trace_description description = description_of(generator);
    status = trace_writer_open(&sink.writer, path, &description, replace, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = tokens_draw(generator, &sink, error);
    if (status != STATUS_OK) {
        trace_writer_abandon(sink.writer);
        goto done;
    }
    status = trace_writer_finish(sink.writer, generator->requests, generator->num_requests, error);
done:
    generator_close(generator);
    return status;
}

enum status generate_in_memory(struct trace *trace, const struct generate_options *options,
                               struct error *error)
{
    *trace = (struct trace){0};
    struct generator *generator = NULL;
    struct sink sink = {0};
    enum status status = generator_open(&generator, options, error);
    if (status != STATUS_OK) {
        goto done;
    }
    struct trace_description description = description_of(generator);
    size_t num_ids =
        (size_t)options->num_tokens * (size_t)description.num_layers * (size_t)description.top_k;
    sink.ids = malloc(num_ids * (size_t)trace_id_bytes(description.num_experts, false));
    if (sink.ids == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "generate: no memory for %lld tokens",
                           (long long)options->num_tokens);
        goto done;
    }
    status = tokens_draw(generator, &sink, error);
    assert(status == STATUS_OK); /* only a writer fails */
    struct trace_request *requests = generator->requests;
    generator->requests = NULL; /* the trace owns them now, and the ids */
    status = trace_from_memory(trace, &description, sink.ids, NULL, requests,
                               generator->num_requests, options->num_tokens, error);
done:
    generator_close(generator);
    return status;
}
