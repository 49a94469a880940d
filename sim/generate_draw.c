/*
 * generate_draw.c -- the tokens of each request.
 *
 * Each request, and where layers are independent each (request, layer), has a stream of its own,
 * which first draws the request's preferences and then its tokens in order. So threads share
 * nothing, a block may begin in the middle of a request (the rows before it are drawn again), and a
 * shorter trace is the beginning of a longer one.
 */
#include "generate_draw.h"

#include <omp.h>
#include <string.h>

#include "rng.h"

/* Each expert's factor for one request in one layer, from the stream's first numbers. */
static void preferences_draw(struct generate_worker *worker, const struct generate_factors *factors,
                             int32_t num_experts)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        worker->factor[expert] = factors->factor[gsl_rng_get(worker->rng) >> (32 - NORMAL_BITS)];
    }
}

/* Writes those tokens of a request that lie in rows first .. first + count - 1 of the trace. */
static void request_draw(struct generator *generator, struct generate_worker *worker, int64_t index,
                         int64_t first, int64_t count)
{
    const struct generate_preset *preset = generator->preset;
    const struct trace_request *request = &generator->requests.request[index];
    int64_t end = request->row_offset + request->num_rows;
    end = end < first + count ? end : first + count;
    for (int64_t layer = 0; layer < preset->num_layers; layer++) {
        rng_restream(worker->rng, generator->options.seed, "generate.tokens",
                     (uint64_t)(index * preset->num_layers + layer));
        preferences_draw(worker, &generator->factors, preset->num_experts);
        generate_table_set(&worker->table, generator->base_weight + layer * preset->num_experts,
                           worker->factor);
        for (int64_t row = request->row_offset; row < end; row++) {
            int32_t expert[GENERATE_TOP_K_MAX];
            struct generate_choice choice = generate_token_begin(&worker->table);
            for (int32_t k = 0; k < preset->top_k; k++) {
                expert[k] = generate_token_next(&worker->table, &choice, worker->rng);
            }
            if (row >= first) {
                memcpy(generator->expert + (layer * count + row - first) * preset->top_k, expert,
                       (size_t)preset->top_k * sizeof expert[0]);
            }
        }
    }
}

/* The same of a coupled law. */
static void walk_draw(struct generator *generator, struct generate_worker *worker, int64_t index,
                      int64_t first, int64_t count)
{
    const struct generate_preset *preset = generator->preset;
    const struct trace_request *request = &generator->requests.request[index];
    const int64_t top_k = preset->top_k;
    const int64_t experts = preset->num_experts;
    int64_t end = request->row_offset + request->num_rows;
    end = end < first + count ? end : first + count;
    rng_restream(worker->rng, generator->options.seed, "generate.walk", (uint64_t)index);
    coupled_walk_begin(&worker->walk, generator->requests.domain[index], worker->rng);
    int32_t walked = 0;
    for (int64_t row = request->row_offset; row < end; row += walked) {
        int64_t rest = (row < first ? first : end) - row;
        walked = rest < COUPLED_BLOCK ? (int32_t)rest : COUPLED_BLOCK;
        struct coupled_tokens tokens = {
            .expert = worker->skipped, .stride = COUPLED_BLOCK * top_k, .count = walked};
        if (row >= first) {
            tokens.expert = generator->expert + (row - first) * top_k;
            tokens.stride = count * top_k;
            tokens.score_stride = count * experts;
            if (generator->gate_weight != NULL) {
                tokens.gate_weight = generator->gate_weight + (row - first) * top_k;
            }
            if (generator->score != NULL) {
                tokens.score = generator->score + (row - first) * experts;
            }
        }
        coupled_walk_tokens(&worker->walk, &tokens, worker->rng);
    }
}

int64_t generate_block_draw(struct generator *generator, int64_t first_request, int64_t first,
                            int64_t count)
{
    int64_t end_request = first_request;
    while (end_request < generator->requests.count &&
           generator->requests.request[end_request].row_offset < first + count) {
        end_request++;
    }
#pragma omp parallel for num_threads(generator->options.num_threads) schedule(dynamic)
    for (int64_t request = first_request; request < end_request; request++) {
        struct generate_worker *worker = &generator->worker[omp_get_thread_num()];
        if (generator->preset->coupled != NULL) {
            walk_draw(generator, worker, request, first, count);
        } else {
            request_draw(generator, worker, request, first, count);
        }
    }
    const struct trace_request *last = &generator->requests.request[end_request - 1];
    return last->row_offset + last->num_rows > first + count ? end_request - 1 : end_request;
}
