/*
 * expert_choice -- each expert takes its best tokens; a token has as many experts as took it.
 *
 *     C = ceil(T k CF / E), rounded up to a multiple of routing.capacity_multiple (1)
 *
 * of each scope of routing.capacity_scope; with capacity_factor 0, CF is 1: as many assignments as
 * top-k has, spread perfectly. The literature's factor counts experts a token: k CF. A token's
 * experts and weights, its scores (routing.score), stand best first; tokens that no expert took
 * have none. A token's choice depends on tokens behind it, so no model decodes like this: it is the
 * balanced end of what routers can do.
 *
 * Source: Zhou et al. (arXiv 2202.09368); vmoe/moe.py @ 1030c71, top items per expert, which rounds
 * up to multiples of 4.
 */
#include "gate_choose.h"
#include "route/from_scores.h"

/* What experts took, token by token, as it is found. */
struct taken {
    int32_t *begin;     /* [num_tokens + 1] */
    int32_t *expert;    /* [room] */
    float *gate_weight; /* [room] */
    int64_t room;
};

static int64_t capacity_of(const struct route_input *input, const struct route *route,
                           int32_t count)
{
    const struct route_settings *settings = input->settings;
    double factor = settings->capacity_factor > 0.0 ? settings->capacity_factor : 1.0;
    int64_t multiple = settings->capacity_multiple > 0 ? settings->capacity_multiple : 1;
    int64_t capacity = capacity_assignments(count, route->top_k, route->num_experts, factor);
    capacity = (capacity + multiple - 1) / multiple * multiple;
    return capacity < count ? capacity : count;
}

static enum status make_room(const struct route_input *input, const struct route *route,
                             struct taken *taken)
{
    int32_t num_scopes = route_num_scopes(input->settings);
    for (int32_t scope = 0; scope < num_scopes; scope++) {
        int32_t first = 0;
        int32_t end = 0;
        route_scope(input, scope, route->num_tokens, &first, &end);
        taken->room += capacity_of(input, route, end - first) * route->num_experts;
    }
    taken->begin = arena_alloc(input->scratch, (size_t)route->num_tokens + 1, sizeof *taken->begin);
    taken->expert = arena_take(input->scratch, (size_t)taken->room, sizeof *taken->expert);
    taken->gate_weight =
        arena_take(input->scratch, (size_t)taken->room, sizeof *taken->gate_weight);
    bool complete = taken->begin != NULL && taken->expert != NULL && taken->gate_weight != NULL;
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

/* Writes the experts of one token behind those of the tokens before, best first. */
static void list_token(struct taken *taken, int32_t token, const bool *takes, const float *affinity,
                       int32_t num_experts)
{
    int32_t begin = taken->begin[token];
    int32_t end = begin;
    for (int32_t e = 0; e < num_experts; e++) {
        if (!takes[e]) {
            continue;
        }
        int32_t place = end++;
        for (; place > begin && affinity[e] > taken->gate_weight[place - 1]; place--) {
            taken->gate_weight[place] = taken->gate_weight[place - 1];
            taken->expert[place] = taken->expert[place - 1];
        }
        taken->gate_weight[place] = affinity[e];
        taken->expert[place] = e;
    }
    taken->begin[token + 1] = end;
}

static enum status choose_in_scope(const struct route_input *input, struct route *route,
                                   struct taken *taken, int32_t first, int32_t count)
{
    const int32_t num_experts = route->num_experts;
    struct gate_batch batch = route_batch(input, route, first, count);
    size_t room = (size_t)count * (size_t)num_experts;
    float *affinity = arena_take(input->scratch, room, sizeof *affinity);
    bool *takes = arena_take(input->scratch, room, sizeof *takes);
    uint64_t *work = arena_take(input->scratch, 2 * (size_t)count, sizeof *work);
    if (batch.logits == NULL || affinity == NULL || takes == NULL || work == NULL) {
        return STATUS_NO_MEMORY;
    }
    ref_affinity(batch, input->settings->score == ROUTE_SIGMOID, affinity);
    ref_expert_choice(batch, capacity_of(input, route, count), takes, affinity, work);
    for (int32_t i = 0; i < count; i++) {
        const float *own = &affinity[(int64_t)i * num_experts];
        int32_t likeliest[GATE_TOP_K_MAX];
        float sum = 0.0f;
        ref_top_k(likeliest, own, num_experts, route->top_k);
        for (int32_t k = 0; k < route->top_k; k++) {
            sum += own[likeliest[k]];
        }
        route->full_weight[first + i] = sum;
        list_token(taken, first + i, &takes[(int64_t)i * num_experts], own, num_experts);
    }
    return STATUS_OK;
}

/* Gives the route arrays as wide as the token with most experts. */
static enum status widen(const struct route_input *input, struct route *route,
                         const struct taken *taken)
{
    int32_t width = route->top_k;
    for (int32_t token = 0; token < route->num_tokens; token++) {
        int32_t count = taken->begin[token + 1] - taken->begin[token];
        width = count > width ? count : width;
    }
    size_t room = (size_t)route->num_tokens * (size_t)width;
    if (room > INT32_MAX) {
        return STATUS_NO_MEMORY; /* a wish is named by 32 bits */
    }
    route->model_top_k = route->top_k;
    route->top_k = width;
    route->expert = arena_take(input->scratch, room, sizeof *route->expert);
    route->gate_weight = arena_take(input->scratch, room, sizeof *route->gate_weight);
    if (route->expert == NULL || route->gate_weight == NULL) {
        return STATUS_NO_MEMORY;
    }
    int64_t wish = 0;
    for (int32_t token = 0; token < route->num_tokens; token++) {
        int32_t count = taken->begin[token + 1] - taken->begin[token];
        for (int32_t k = 0; k < width; k++, wish++) {
            int32_t at = taken->begin[token] + k;
            route->expert[wish] = k < count ? taken->expert[at] : EXPERT_NOT_ROUTED;
            route->gate_weight[wish] = k < count ? taken->gate_weight[at] : 0.0f;
        }
    }
    route->assignments = taken->begin[route->num_tokens];
    return STATUS_OK;
}

static enum status expert_choice(void *state, const struct route_input *input, struct route *route,
                                 struct error *error)
{
    (void)state; /* memoryless: the batch says it all */
    struct taken taken = {0};
    enum status status = route_check_limits(route, error);
    if (status == STATUS_OK) {
        status = route_take_full_weight(input, route);
    }
    if (status == STATUS_OK) {
        status = make_room(input, route, &taken);
    }
    int32_t num_scopes = route_num_scopes(input->settings);
    for (int32_t scope = 0; scope < num_scopes && status == STATUS_OK; scope++) {
        int32_t first = 0;
        int32_t end = 0;
        route_scope(input, scope, route->num_tokens, &first, &end);
        status = choose_in_scope(input, route, &taken, first, end - first);
    }
    return status == STATUS_OK ? widen(input, route, &taken) : status;
}

const struct router route_expert_choice = {
    .name = "expert_choice",
    .summary = "from scores: each expert takes its best tokens, a token has 0 to all experts",
    .source = "Expert Choice, arXiv 2202.09368",
    .needs_scores = true,
    .route = expert_choice,
};
