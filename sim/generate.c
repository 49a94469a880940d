/*
 * generate.c -- traces from presets, block by block into files or memory.
 */
#include "generate.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate_draw.h"
#include "rng.h"
#include "trace_internal.h"
#include "trace_writer.h"

#define BLOCK_TOKENS     16384 /* drawn at once: 30 MB of ids for DeepSeek-V3 */
#define TOKENS_PER_SHARD 65536 /* a multiple of BLOCK_TOKENS: no block ends in two shards */
#define TOKENS_MAX       ((int64_t)TOKENS_PER_SHARD * TRACE_SHARDS_MAX)
/* Scores of all experts take so much more room that shards and blocks are smaller. */
#define SCORES_PER_SHARD    4096
#define SCORES_BLOCK_TOKENS 1024

/* Where blocks go: one of the two. */
struct sink {
    struct trace_writer *writer;
    void *ids; /* [num_layers][num_tokens][top_k], as trace_id_bytes says */
};

static void block_copy(void *ids, const struct generator *generator, int64_t first, int64_t count)
{
    const int64_t num_experts = generator->preset->num_experts;
    const int64_t top_k = generator->preset->top_k;
    const bool is_byte = trace_id_bytes((int32_t)num_experts, false) == 1;
    uint8_t *id_u8 = ids;
    uint16_t *id_u16 = ids;
    for (int64_t layer = 0; layer < generator->preset->num_layers; layer++) {
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
         first += generator->block_tokens) {
        int64_t count = options->num_tokens - first;
        count = count > generator->block_tokens ? generator->block_tokens : count;
        request = generate_block_draw(generator, request, first, count);
        if (sink->writer != NULL) {
            struct trace_rows rows = {.expert = generator->expert,
                                      .gate_weight = generator->gate_weight,
                                      .score = generator->score,
                                      .layer_tokens = count};
            status = trace_writer_append_rows(sink->writer, &rows, count, error);
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
        struct generate_worker *worker = &generator->worker[thread];
        if (worker->rng != NULL) {
            gsl_rng_free(worker->rng);
        }
        coupled_walk_close(&worker->walk);
        free(worker->skipped);
    }
    free(generator->worker);
    free(generator->base_weight);
    generate_requests_free(&generator->requests);
    free(generator->expert);
    free(generator->gate_weight);
    free(generator->score);
    free(generator);
}

static bool worker_open(struct generate_worker *worker, const struct generator *generator)
{
    const struct generate_preset *preset = generator->preset;
    worker->rng = rng_stream(0, "generate.tokens", 0);
    if (preset->coupled == NULL) {
        generate_table_init(&worker->table, preset);
        return worker->rng != NULL;
    }
    worker->skipped = calloc((size_t)preset->num_layers * COUPLED_BLOCK * (size_t)preset->top_k,
                             sizeof worker->skipped[0]);
    return worker->rng != NULL && worker->skipped != NULL &&
           coupled_walk_open(&worker->walk, preset->coupled, &generator->noise, &generator->normal);
}

static bool arrays_allocate(struct generator *generator)
{
    const struct generate_options *options = &generator->options;
    const struct generate_preset *preset = generator->preset;
    size_t layers = (size_t)preset->num_layers;
    int64_t block = options->with_scores ? SCORES_BLOCK_TOKENS : BLOCK_TOKENS;
    generator->block_tokens = block;
    size_t rows = layers * (size_t)(options->num_tokens < block ? options->num_tokens : block);
    size_t choices = rows * (size_t)preset->top_k;
    generator->base_weight = calloc(layers * (size_t)preset->num_experts, sizeof(uint32_t));
    generator->expert = malloc(choices * sizeof(int32_t));
    generator->worker = calloc((size_t)options->num_threads, sizeof generator->worker[0]);
    bool complete =
        generator->base_weight != NULL && generator->expert != NULL && generator->worker != NULL;
    if (complete && options->with_gate_weights) {
        generator->gate_weight = malloc(choices * sizeof(float));
        complete = generator->gate_weight != NULL;
    }
    if (complete && options->with_scores) {
        generator->score = malloc(rows * (size_t)preset->num_experts * sizeof(float));
        complete = generator->score != NULL;
    }
    for (int32_t thread = 0; complete && thread < options->num_threads; thread++) {
        complete = worker_open(&generator->worker[thread], generator);
    }
    return complete;
}

static enum status options_check(const struct generate_options *options,
                                 const struct generate_preset *preset, struct error *error)
{
    enum status status = STATUS_OK;
    if (options->num_tokens < 1 || options->num_tokens > TOKENS_MAX) {
        status = error_add(error, STATUS_INVALID, "generate: num_tokens must be 1 to %lld",
                           (long long)TOKENS_MAX);
    }
    if (preset->coupled == NULL && (options->with_gate_weights || options->with_scores)) {
        status = error_add(error, STATUS_INVALID,
                           "generate: preset %s knows shares of experts only, so it has no gate "
                           "weights or scores; presets made by moesim trace fit have",
                           preset->name);
    }
    return status;
}

/* Everything but the tokens. Release with generator_close, also after a failure. */
static enum status generator_open(struct generator **opened, const struct generate_preset *preset,
                                  const struct generate_options *options, struct error *error)
{
    assert(options->num_threads >= 1);
    *opened = NULL;
    enum status status = options_check(options, preset, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct generator *generator = calloc(1, sizeof *generator);
    *opened = generator;
    if (generator == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
    }
    generator->options = *options;
    generator->preset = preset;
    generate_normal_init(&generator->normal);
    coupled_noise_init(&generator->noise);
    if (!arrays_allocate(generator)) {
        return error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
    }
    (void)snprintf(generator->source, sizeof generator->source, "preset %s, seed %llu",
                   preset->name, (unsigned long long)options->seed);
    for (int32_t layer = 0; layer < preset->num_layers; layer++) {
        generator->model_layer[layer] = preset->layer[layer].model_layer;
    }
    status = generate_requests_draw(&generator->requests, preset, options, &generator->normal,
                                    generator->worker[0].rng, error);
    if (status == STATUS_OK && preset->coupled == NULL) {
        generate_factors_init(&generator->factors, &generator->normal, preset->request_sigma);
        status = generate_calibrate(generator->base_weight, preset, options->seed,
                                    options->num_threads, error);
    }
    return status;
}

static struct trace_description description_of(const struct generator *generator)
{
    return (struct trace_description){
        .model = generator->preset->model,
        .num_experts = generator->preset->num_experts,
        .top_k = generator->preset->top_k,
        .num_layers = generator->preset->num_layers,
        .model_layer = generator->model_layer,
        .tokens_per_shard = generator->score != NULL ? SCORES_PER_SHARD : TOKENS_PER_SHARD,
        .has_gate_weights = generator->gate_weight != NULL,
        .has_scores = generator->score != NULL,
        .origin = "generated",
        .source = generator->source,
        .licence = generator->preset->licence,
    };
}

static enum status preset_write(const char *path, bool replace,
                                const struct generate_preset *preset,
                                const struct generate_options *options, struct error *error)
{
    struct generator *generator = NULL;
    struct sink sink = {0};
    enum status status = generator_open(&generator, preset, options, error);
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
    status = trace_writer_finish(sink.writer, generator->requests.request,
                                 generator->requests.count, error);
done:
    generator_close(generator);
    return status;
}

enum status generate_from_preset(struct trace *trace, const struct generate_preset *preset,
                                 const struct generate_options *options, struct error *error)
{
    *trace = (struct trace){0};
    assert(!options->with_gate_weights && !options->with_scores); /* generate.h: only into files */
    struct generator *generator = NULL;
    struct sink sink = {0};
    enum status status = generator_open(&generator, preset, options, error);
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
    struct trace_request *requests = generator->requests.request;
    generator->requests.request = NULL; /* the trace owns them now, and the ids */
    status = trace_from_memory(trace, &description, sink.ids, NULL, requests,
                               generator->requests.count, options->num_tokens, error);
done:
    generator_close(generator);
    return status;
}

/* Loads the preset that options name; free it with preset_drop, also after a failure. */
static enum status preset_take(struct generate_preset **preset,
                               const struct generate_options *options, struct error *error)
{
    *preset = calloc(1, sizeof **preset);
    if (*preset == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "generate: out of memory");
    }
    return generate_preset_load(*preset, options->preset, error);
}

static void preset_drop(struct generate_preset *preset)
{
    if (preset != NULL) {
        generate_preset_free(preset);
        free(preset);
    }
}

enum status generate_trace(const char *path, bool replace, const struct generate_options *options,
                           struct error *error)
{
    struct generate_preset *preset = NULL;
    enum status status = preset_take(&preset, options, error);
    if (status == STATUS_OK) {
        status = preset_write(path, replace, preset, options, error);
    }
    preset_drop(preset);
    return status;
}

enum status generate_in_memory(struct trace *trace, const struct generate_options *options,
                               struct error *error)
{
    struct generate_preset *preset = NULL;
    *trace = (struct trace){0};
    enum status status = preset_take(&preset, options, error);
    if (status == STATUS_OK) {
        status = generate_from_preset(trace, preset, options, error);
    }
    preset_drop(preset);
    return status;
}
