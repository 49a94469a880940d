/*
 * validate_serving_trace.c -- what the tokens of a published row choose, and where experts lie.
 *
 * "Perfectly balanced" are experts dealt in a random order, each as often as any other, from as
 * many groups as the model allows a token. Every other row is served a generated trace with the
 * skew that was measured of its model, where there is a preset, prompts as long as the row's. EPLB,
 * where the row says so, places by the loads of other requests of the same kind, so it leaves what
 * requests differ in. SGLang's prompts differ much:
 * its benchmark repeats a text of ShareGPT up to the wanted length, and half of those texts are
 * shorter than 41 tokens, so a prompt of 4,096 tokens chooses like a few. Taken for granted: a text
 * chooses the same experts each time that it is repeated.
 */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>

#include "balance/eplb.h"
#include "generate.h"
#include "trace_internal.h"
#include "validate_serving.h"

#define EXPERTS_MAX   1024
#define SEED          1
#define PLACING_TEXTS 1024 /* whose loads EPLB sees */
#define TEXT_ROWS     512  /* at most: a longer text is as good as different tokens */
#define TEXT_LOAD     (INT64_C(1) << 20)
#define TEXT_MEDIAN   41.0
#define TEXT_MEAN     302.0
#define DRAW_RANGE    (1u << 24)

/* splitmix64 (Steele, Lea and Flood 2014): a number a call, cheap enough for a trace's choices. */
static uint32_t draw(uint64_t *state, uint32_t below)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(((z ^ (z >> 31)) >> 32) * below >> 32);
}

/* Puts count different numbers below limit to the front of pool [limit], which holds all of them.
 */
static void shuffle_front(int32_t *pool, int32_t count, int32_t limit, uint64_t *state)
{
    for (int32_t i = 0; i < count; i++) {
        int32_t other = i + (int32_t)draw(state, (uint32_t)(limit - i));
        int32_t kept = pool[i];
        pool[i] = pool[other];
        pool[other] = kept;
    }
}

/* Numbers below count, dealt in a random order without repeating one before all were dealt. */
struct deck {
    int32_t card[EXPERTS_MAX];
    int32_t count;
    int32_t dealt;
};

static void deck_open(struct deck *deck, int32_t count)
{
    deck->count = count;
    deck->dealt = count; /* the first hand shuffles */
    for (int32_t i = 0; i < count; i++) {
        deck->card[i] = i;
    }
}

/* The next cards, all different: what is left of a deck that is too small is not dealt. */
static const int32_t *deck_deal(struct deck *deck, int32_t cards, uint64_t *state)
{
    if (deck->dealt + cards > deck->count) {
        shuffle_front(deck->card, deck->count, deck->count, state);
        deck->dealt = 0;
    }
    deck->dealt += cards;
    return &deck->card[deck->dealt - cards];
}

/* Balanced choices: groups from a deck of groups, a token's experts evenly from those groups'. A
 * random choice shuffles all cards before each hand. */
static enum status choose(uint16_t *expert, const struct moe_model *model, int64_t num_choices,
                          bool is_random)
{
    int32_t groups = model->num_expert_groups;
    int32_t picked = model->topk_groups > 0 && groups > 1 ? model->topk_groups : groups;
    int32_t per_group = model->num_experts / groups;
    uint64_t state = SEED;
    struct deck *deck = calloc((size_t)groups + 1, sizeof *deck);
    if (deck == NULL) {
        return STATUS_NO_MEMORY;
    }
    deck_open(&deck[groups], groups);
    for (int32_t group = 0; group < groups; group++) {
        deck_open(&deck[group], per_group);
    }
    for (int64_t token = 0; token < num_choices; token++) {
        for (int32_t i = 0; i <= groups && is_random; i++) {
            deck[i].dealt = deck[i].count;
        }
        const int32_t *group = deck_deal(&deck[groups], picked, &state);
        for (int32_t i = 0; i < picked; i++) {
            int32_t cards = model->top_k * (i + 1) / picked - model->top_k * i / picked;
            const int32_t *member = deck_deal(&deck[group[i]], cards, &state);
            for (int32_t card = 0; card < cards; card++) {
                *expert++ = (uint16_t)(group[i] * per_group + member[card]);
            }
        }
    }
    free(deck);
    return STATUS_OK;
}

static enum status balanced_trace(struct trace *trace, const struct scenario *scenario,
                                  bool is_random, struct error *error)
{
    const struct moe_model *model = &scenario->model;
    int32_t num_layers = model_num_moe_layers(model);
    int64_t num_tokens = (int64_t)scenario->tokens_per_rank * scenario->ep;
    int64_t num_choices = num_tokens * num_layers;
    bool is_wide = model->num_experts > 256;
    int32_t layer[EXPERTS_MAX];
    int32_t count = 0;
    uint16_t *wide = malloc((size_t)num_choices * (size_t)model->top_k * sizeof *wide);
    if (wide == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t i = 0; i < model->num_layers && count < num_layers; i++) {
        if (model_layer_is_moe(model, i)) {
            layer[count++] = i;
        }
    }
    if (choose(wide, model, num_choices, is_random) != STATUS_OK) {
        free(wide);
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    if (!is_wide) { /* in place: a byte is never written before its word is read */
        uint8_t *narrow = (uint8_t *)wide;
        for (int64_t i = 0; i < num_choices * model->top_k; i++) {
            narrow[i] = (uint8_t)wide[i];
        }
    }
    const struct trace_description description = {.model = model->name,
                                                  .num_experts = model->num_experts,
                                                  .top_k = model->top_k,
                                                  .num_layers = num_layers,
                                                  .model_layer = layer,
                                                  .origin = "generated",
                                                  .source = "balanced choices",
                                                  .licence = "none"};
    return trace_from_memory(trace, &description, wide, NULL, NULL, 0, num_tokens, error);
}

/* Adds up what every expert of a layer is loaded with by texts first .. end - 1, each as long as
 * the others: a text of few tokens counts them more often. */
static enum status add_texts(int64_t *load_tokens, const struct trace *texts, int32_t layer,
                             int64_t first, int64_t end, struct error *error)
{
    enum status status = STATUS_OK;
    for (int64_t text = first; text < end && status == STATUS_OK; text++) {
        const struct trace_request *request = &texts->requests[text];
        int64_t load[EXPERTS_MAX] = {0};
        status = trace_count(texts, load, layer, request->row_offset, request->num_rows, error);
        for (int32_t expert = 0; expert < texts->num_experts; expert++) {
            load_tokens[expert] += load[expert] * TEXT_LOAD / request->num_rows;
        }
    }
    return status;
}

/* Fills the scenario's placement, by the loads of texts first .. end - 1, all alike where there are
 * none; its owner frees it. */
static enum status place_experts(struct scenario *scenario, const struct trace *texts,
                                 int64_t first, int64_t end, struct error *error)
{
    const struct moe_model *model = &scenario->model;
    const struct eplb_shape shape = {.num_experts = model->num_experts,
                                     .num_slots = model->num_experts + scenario->redundant_experts,
                                     .num_groups = model->num_expert_groups,
                                     .num_nodes = scenario->cluster.num_nodes,
                                     .num_ranks = scenario->ep};
    struct arena scratch = {0};
    enum status status = eplb_check(&shape, error);
    size_t slots = (size_t)shape.num_slots;
    scenario->initial_expert_of_slot = malloc((size_t)texts->num_layers * slots * sizeof(int32_t));
    if (scenario->initial_expert_of_slot == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t layer = 0; layer < texts->num_layers && status == STATUS_OK; layer++) {
        int64_t load_tokens[EXPERTS_MAX];
        for (int32_t expert = 0; expert < model->num_experts; expert++) {
            load_tokens[expert] = first < end ? 0 : 1;
        }
        arena_reset(&scratch);
        status = add_texts(load_tokens, texts, layer, first, end, error);
        if (status == STATUS_OK &&
            eplb_layer(scenario->initial_expert_of_slot + (size_t)layer * slots, load_tokens,
                       &shape, &scratch) != STATUS_OK) {
            status = error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
    }
    arena_free(&scratch);
    return status;
}

/* Prompts of rows tokens each, one a text: the text over and over. expert [num_layers][prompts *
 * rows][top_k] out, bytes an id. */
static enum status repeat_texts(void *expert, size_t bytes, const struct trace *texts,
                                int64_t prompts, int64_t rows, struct error *error)
{
    int32_t top_k = texts->top_k;
    int64_t *row = malloc((size_t)rows * sizeof *row);
    int32_t *wide = malloc((size_t)(rows * top_k) * sizeof *wide);
    enum status status = row != NULL && wide != NULL
                             ? STATUS_OK
                             : error_add(error, STATUS_NO_MEMORY, "out of memory");
    int64_t next = 0;
    for (int64_t i = 0; i < texts->num_layers * prompts && status == STATUS_OK; i++) {
        const struct trace_request *text = &texts->requests[i % prompts];
        for (int64_t j = 0; j < rows; j++) {
            row[j] = text->row_offset + j % text->num_rows;
        }
        status = trace_read(texts, wide, NULL, (int32_t)(i / prompts), row, (int32_t)rows, error);
        for (int64_t j = 0; j < rows * top_k && status == STATUS_OK; j++, next++) {
            if (bytes == 1) {
                ((uint8_t *)expert)[next] = (uint8_t)wide[j];
            } else {
                ((uint16_t *)expert)[next] = (uint16_t)wide[j];
            }
        }
    }
    free(row);
    free(wide);
    return status;
}

/* Texts as long as ShareGPT's: a lognormal law with their median, 41 tokens (of the file's first
 * turns, by Gemma's tokenizer, in a published study of vLLM), and their mean, 302 (1,000 prompts
 * that SGLang drew, by DeepSeek's: sgl-project/sglang issue 6017, comment of 2025-05-23). */
static void cut_texts(struct trace *texts)
{
    const double sigma = sqrt(2.0 * log(TEXT_MEAN / TEXT_MEDIAN));
    uint64_t state = SEED;
    for (int64_t text = 0; text < texts->num_requests; text++) {
        double u = ((double)draw(&state, DRAW_RANGE) + 0.5) / DRAW_RANGE;
        double rows = ceil(TEXT_MEDIAN * exp(sigma * gsl_cdf_ugaussian_Pinv(u)));
        int64_t *num_rows = &texts->requests[text].num_rows;
        *num_rows = rows < (double)*num_rows ? (int64_t)rows : *num_rows;
    }
}

/* A step's prompts as texts over and over, and the placement by texts behind those. */
static enum status repeated_trace(struct trace *trace, struct scenario *scenario, bool is_placed,
                                  struct error *error)
{
    const int64_t step_tokens = (int64_t)scenario->tokens_per_rank * scenario->ep;
    const int64_t rows =
        scenario->context_tokens < step_tokens ? scenario->context_tokens : step_tokens;
    const int64_t prompts = (step_tokens + rows - 1) / rows;
    const int32_t text_rows = rows < TEXT_ROWS ? (int32_t)rows : TEXT_ROWS;
    const struct generate_options options = {.preset = scenario->model.name,
                                             .num_tokens = (prompts + PLACING_TEXTS) * text_rows,
                                             .seed = SEED,
                                             .num_threads = 1,
                                             .request_rows = text_rows};
    struct trace texts = {0};
    enum status status = generate_in_memory(&texts, &options, error);
    if (status != STATUS_OK) {
        return status;
    }
    cut_texts(&texts);
    size_t bytes = texts.num_experts <= 256 ? 1 : 2;
    size_t ids = (size_t)texts.num_layers * (size_t)(prompts * rows) * (size_t)texts.top_k;
    void *expert = malloc(ids * bytes);
    status = expert != NULL ? repeat_texts(expert, bytes, &texts, prompts, rows, error)
                            : error_add(error, STATUS_NO_MEMORY, "out of memory");
    if (status == STATUS_OK && is_placed) {
        status = place_experts(scenario, &texts, prompts, texts.num_requests, error);
    }
    if (status == STATUS_OK) {
        const struct trace_description description = {.model = texts.model,
                                                      .num_experts = texts.num_experts,
                                                      .top_k = texts.top_k,
                                                      .num_layers = texts.num_layers,
                                                      .model_layer = texts.model_layer,
                                                      .origin = texts.origin,
                                                      .source = texts.source,
                                                      .licence = texts.licence};
        status =
            trace_from_memory(trace, &description, expert, NULL, NULL, 0, prompts * rows, error);
        expert = NULL;
    }
    free(expert);
    trace_close(&texts);
    return status;
}

/* Prompts as long as the row's, placed by as many again; or answers as long as the preset's, placed
 * by as many as texts are: the statistics of an engine that has been at it for a while. */
static enum status skewed_trace(struct trace *trace, struct scenario *scenario, bool is_placed,
                                struct error *error)
{
    const bool is_prefill = scenario->phase == PHASE_PREFILL;
    const int64_t step_tokens = (int64_t)scenario->tokens_per_rank * scenario->ep;
    const int64_t placing_tokens = is_prefill ? step_tokens : PLACING_TEXTS * TEXT_ROWS;
    const struct generate_options options = {
        .preset = scenario->model.name,
        .num_tokens = step_tokens + (is_placed ? placing_tokens : 0),
        .seed = SEED,
        .num_threads = 1,
        .request_rows = is_prefill ? scenario->context_tokens : 0};
    enum status status = generate_in_memory(trace, &options, error);
    if (status == STATUS_OK && is_placed) {
        int64_t first = 0;
        while (first < trace->num_requests && trace->requests[first].row_offset < step_tokens) {
            first++;
        }
        status = place_experts(scenario, trace, first, trace->num_requests, error);
    }
    return status;
}

enum status serving_trace(struct trace *trace, struct scenario *scenario,
                          const struct serving_traffic *traffic, struct error *error)
{
    scenario->num_steps = 1;
    if (!traffic->is_skewed) {
        enum status status = balanced_trace(trace, scenario, traffic->is_random, error);
        return status == STATUS_OK && traffic->is_placed
                   ? place_experts(scenario, trace, 0, 0, error)
                   : status;
    }
    return traffic->is_repeated && scenario->phase == PHASE_PREFILL
               ? repeated_trace(trace, scenario, traffic->is_placed, error)
               : skewed_trace(trace, scenario, traffic->is_placed, error);
}
