/* scored.c -- opens, routes and drops with asserts, so that tests stay short. */
#include "scored.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source_batch.h"
#include "trace_writer.h"

void scored_make_directory(char *directory, size_t size)
{
    snprintf(directory, size, "/tmp/moesim-test-scores-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

void scored_remove_directory(const char *directory)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

static void allocate_route(struct scored *scored)
{
    int32_t num_tokens = scored->batch.num_tokens;
    size_t num_wishes = (size_t)num_tokens * (size_t)scored->trace.top_k;
    scored->route = (struct route){
        .num_tokens = num_tokens,
        .top_k = scored->trace.top_k,
        .num_experts = scored->trace.num_experts,
        .expert = arena_alloc(&scored->arena, num_wishes, sizeof(int32_t)),
        .gate_weight = arena_alloc(&scored->arena, num_wishes, sizeof(float)),
    };
    cr_assert(scored->route.expert != NULL && scored->route.gate_weight != NULL);
    memset(scored->route.expert, 0xff, num_wishes * sizeof(int32_t));
    memset(scored->route.gate_weight, 0xff, num_wishes * sizeof(float));
}

/* Expert e goes where experts of equal parts stand in order. */
static void place(struct scored *scored, int32_t num_ranks)
{
    int32_t num_experts = scored->trace.num_experts;
    cr_assert_eq(num_experts % num_ranks, 0);
    cr_assert_eq(placement_init(&scored->placement, &scored->arena, num_experts, num_experts,
                                num_ranks, &scored->error),
                 STATUS_OK, "%s", scored->error.text);
}

void scored_open(struct scored *scored, const char *path, int32_t num_ranks)
{
    *scored = (struct scored){
        .model = {.num_expert_groups = 1, .topk_groups = 1},
        .cluster = {.num_nodes = 1, .gpus_per_node = num_ranks},
        .settings = {.num_ranks = num_ranks,
                     .capacity_scope = CAPACITY_RANK,
                     .seed = 1,
                     .tolerance = 0.05,
                     .bias_update = 0.001,
                     .bias_decay = 0.0,
                     .off_node_share = 0.14,
                     .min_capacity = -1,
                     .exempt_share = 0.1},
    };
    cr_assert_eq(trace_open(&scored->trace, path, &scored->error), STATUS_OK, "%s",
                 scored->error.text);
    cr_assert_eq(trace_side_open_scores(&scored->side, &scored->trace, "a test", &scored->error),
                 STATUS_OK, "%s", scored->error.text);
    int32_t num_tokens = (int32_t)scored->trace.num_tokens;
    int64_t *row = arena_alloc(&scored->arena, (size_t)num_tokens, sizeof *row);
    int32_t *source_rank = arena_alloc(&scored->arena, (size_t)num_tokens, sizeof *source_rank);
    int32_t *rank_begin = arena_alloc(&scored->arena, (size_t)num_ranks + 1, sizeof *rank_begin);
    cr_assert(row != NULL && source_rank != NULL && rank_begin != NULL);
    for (int32_t token = 0; token < num_tokens; token++) {
        row[token] = num_tokens - 1 - token;
        source_rank[token] = (int32_t)((int64_t)token * num_ranks / num_tokens);
        rank_begin[source_rank[token] + 1] = token + 1;
    }
    for (int32_t rank = 0; rank < num_ranks; rank++) { /* ranks without tokens */
        rank_begin[rank + 1] = rank_begin[rank + 1] > 0 ? rank_begin[rank + 1] : rank_begin[rank];
    }
    scored->batch = (struct trace_batch){
        .num_tokens = num_tokens, .row = row, .source_rank = source_rank, .rank_begin = rank_begin};
    place(scored, num_ranks);
}

void scored_close(struct scored *scored)
{
    free(scored->state);
    trace_side_close(&scored->side);
    trace_close(&scored->trace);
    arena_free(&scored->arena);
    *scored = (struct scored){.state = NULL};
}

static struct route_input input_of(struct scored *scored, int32_t layer)
{
    return (struct route_input){.settings = &scored->settings,
                                .model = &scored->model,
                                .trace = &scored->trace,
                                .side = &scored->side,
                                .batch = &scored->batch,
                                .trace_layer = layer,
                                .placement = &scored->placement,
                                .cluster = &scored->cluster,
                                .scratch = &scored->arena};
}

enum status scored_route(struct scored *scored, const char *router, int32_t layer)
{
    const struct router *wanted = route_find(router);
    cr_assert_not_null(wanted, "%s", router);
    if (wanted != scored->router) {
        size_t cells = (size_t)scored->trace.num_layers * (size_t)scored->trace.num_experts;
        free(scored->state);
        scored->state = calloc(1, wanted->state_bytes + cells * wanted->expert_state_bytes + 1);
        cr_assert_not_null(scored->state);
        scored->router = wanted;
    }
    allocate_route(scored);
    const struct route_input input = input_of(scored, layer);
    return wanted->route(scored->state, &input, &scored->route, &scored->error);
}

void scored_drop(struct scored *scored, const char *policy)
{
    struct route *route = &scored->route;
    const struct route_input input = input_of(scored, 0);
    size_t num_wishes = (size_t)route->num_tokens * (size_t)route->top_k;
    route->dropped = arena_alloc(&scored->arena, num_wishes, sizeof *route->dropped);
    cr_assert_not_null(route->dropped);
    cr_assert_eq(capacity_apply(route, drop_find(policy), &input), STATUS_OK);
}

void scored_write(const char *path, int32_t num_tokens, int32_t num_experts, int32_t top_k,
                  enum trace_score kind, const float *score)
{
    static const int32_t model_layer[] = {0};
    static struct error error;
    const struct trace_description description = {.model = "tiny",
                                                  .num_experts = num_experts,
                                                  .top_k = top_k,
                                                  .num_layers = 1,
                                                  .model_layer = model_layer,
                                                  .tokens_per_shard = 3,
                                                  .has_scores = true,
                                                  .score = kind,
                                                  .origin = "mock"};
    size_t num_wishes = (size_t)num_tokens * (size_t)top_k;
    int32_t *expert = calloc(num_wishes, sizeof *expert);
    cr_assert_not_null(expert);
    for (size_t i = 0; i < num_wishes; i++) {
        expert[i] = (int32_t)(i % (size_t)top_k);
    }
    const struct trace_rows rows = {.expert = expert, .score = score, .layer_tokens = num_tokens};
    struct trace_writer *writer = NULL;
    cr_assert_eq(trace_writer_open(&writer, path, &description, true, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(trace_writer_append_rows(writer, &rows, num_tokens, &error), STATUS_OK, "%s",
                 error.text);
    cr_assert_eq(trace_writer_finish(writer, NULL, 0, &error), STATUS_OK, "%s", error.text);
    free(expert);
}

void scored_open_source_batch(struct scored *scored, const char *path, int32_t top_k,
                              int32_t num_ranks)
{
    static float logits[SOURCE_TOKENS * SOURCE_EXPERTS];
    for (int32_t i = 0; i < SOURCE_TOKENS * SOURCE_EXPERTS; i++) {
        logits[i] = (float)source_logits_64[i / SOURCE_EXPERTS][i % SOURCE_EXPERTS] / 64.0f;
    }
    scored_write(path, SOURCE_TOKENS, SOURCE_EXPERTS, top_k, TRACE_SCORE_LOGITS, logits);
    scored_close(scored);
    scored_open(scored, path, num_ranks);
    for (int32_t token = 0; token < SOURCE_TOKENS; token++) {
        scored->batch.row[token] = token;
    }
}
