/*
 * validate_serving_trace.c -- what the tokens of a published row choose, and where experts lie.
 *
 * "Perfectly balanced" are experts dealt in a random order, each as often as any other, from as
 * many groups as the model allows a token. Every other row is served a generated trace with the
 * skew that was measured of its model, where there is a preset, prompts as long as the row's;
 * placed by EPLB where the row says so, from the loads of as many tokens again: EPLB on the
 * distribution it serves, the step itself among them. What EPLB leaves is then what requests differ
 * in.
 */
#include <stdlib.h>

#include "balance/eplb.h"
#include "generate.h"
#include "trace_internal.h"
#include "validate_serving.h"

#define EXPERTS_MAX 1024
#define SEED        1
#define STEPS       2 /* of tokens whose loads EPLB sees, the first of them simulated */

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

/* Balanced choices: groups from a deck of groups, a token's experts evenly from those groups'. */
static enum status choose(uint16_t *expert, const struct moe_model *model, int64_t num_choices)
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
                                  struct error *error)
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
    if (choose(wide, model, num_choices) != STATUS_OK) {
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

/* Fills the scenario's placement; its owner frees it. */
static enum status place_experts(struct scenario *scenario, const struct trace *trace,
                                 struct error *error)
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
    scenario->initial_expert_of_slot = malloc((size_t)trace->num_layers * slots * sizeof(int32_t));
    if (scenario->initial_expert_of_slot == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t layer = 0; layer < trace->num_layers && status == STATUS_OK; layer++) {
        int64_t load_tokens[EXPERTS_MAX] = {0};
        arena_reset(&scratch);
        status = trace_count(trace, load_tokens, layer, 0, trace->num_tokens, error);
        if (status == STATUS_OK &&
            eplb_layer(scenario->initial_expert_of_slot + (size_t)layer * slots, load_tokens,
                       &shape, &scratch) != STATUS_OK) {
            status = error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
    }
    arena_free(&scratch);
    return status;
}

static enum status skewed_trace(struct trace *trace, const struct scenario *scenario,
                                struct error *error)
{
    int64_t step_tokens = (int64_t)scenario->tokens_per_rank * scenario->ep;
    const struct generate_options options = {
        .preset = scenario->model.name,
        .num_tokens = STEPS * step_tokens,
        .seed = SEED,
        .num_threads = 1,
        .request_rows = scenario->phase == PHASE_PREFILL ? scenario->context_tokens : 0};
    return generate_in_memory(trace, &options, error);
}

enum status serving_trace(struct trace *trace, struct scenario *scenario, bool is_skewed,
                          bool is_placed, struct error *error)
{
    scenario->num_steps = 1;
    enum status status =
        is_skewed ? skewed_trace(trace, scenario, error) : balanced_trace(trace, scenario, error);
    if (status == STATUS_OK && is_placed) {
        status = place_experts(scenario, trace, error);
    }
    return status;
}
