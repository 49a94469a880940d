/*
 * plan_words_edges.c -- what to widen when a target is met by nothing.
 *
 * A searched list is named where the best there is of a target has the list's largest or smallest
 * value, and the best with the value beside it is worse: what lies beyond has not been looked at.
 * Where larger values are in the list and failed on memory or GPUs, the list is not what binds.
 */
#include <math.h>
#include <stdlib.h>

#include "format.h"
#include "plan_internal.h"
#include "plan_words.h"

#define WORSE 1.01 /* less is none */

enum key { EP, BATCH, TP, KEYS };

static const char *const names[COST_POOLS][KEYS] = {
    {"search.prefill.ep", "search.prefill.tokens_per_rank", "search.attention_tp"},
    {"search.decode.ep", "search.decode.sequences_per_rank", "search.attention_tp"}};

static const struct plan_list *list_of(const struct plan *plan, enum cost_pool pool, enum key key)
{
    return key == EP      ? &plan->space[pool].ep
           : key == BATCH ? &plan->space[pool].tokens_per_rank
                          : &plan->attention_tp;
}

static int32_t value_of(const struct plan_point *point, enum key key)
{
    return key == EP ? point->ep : key == BATCH ? point->tokens_per_rank : point->tp;
}

/* The best seconds with each value of a list; infinite where nothing is known. */
struct bests {
    const struct plan_list *list;
    double best_s[PLAN_LIST_MAX];
    double least_s; /* of all */
};

static void note(struct bests *bests, int32_t value, double seconds)
{
    bests->least_s = fmin(bests->least_s, seconds);
    for (int32_t i = 0; i < bests->list->count; i++) {
        if (bests->list->value[i] == value) {
            bests->best_s[i] = fmin(bests->best_s[i], seconds);
        }
    }
}

/* Of deployments, and of points that were too slow for one those whose bound is above them all;
 * without any deployment the bounds of all points that fit. */
static void fill(struct bests *bests, const struct plan *plan, const struct plan_answer *answer,
                 enum cost_pool pool, enum key key)
{
    *bests = (struct bests){.list = list_of(plan, pool, key), .least_s = HUGE_VAL};
    for (int32_t i = 0; i < bests->list->count; i++) {
        bests->best_s[i] = HUGE_VAL;
    }
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *deployment = &answer->deployment[i];
        note(bests, value_of(&answer->point[deployment->point[pool]], key),
             pool == COST_PREFILL ? deployment->ttft_s : deployment->tpot_s);
    }
    double above_s = answer->num_deployments > 0 ? bests->least_s : 0.0;
    for (int32_t i = 0; i < answer->num_points; i++) {
        const struct plan_point *point = &answer->point[i];
        double bound_s = plan_point_least_s(plan, point);
        bool counts = point->fate == PLAN_TOO_SLOW ||
                      (answer->num_deployments == 0 && point->fate == PLAN_OPEN);
        if (counts && point->pool == pool && bound_s >= above_s) {
            note(bests, value_of(point, key), bound_s);
        }
    }
}

/* Whether a value beyond the list's largest or smallest is one at all. */
static bool has_beyond(const struct plan *plan, enum key key, int32_t value, bool is_largest)
{
    bool may_grow = key == BATCH;
    if (key == TP) {
        may_grow = plan->model.num_q_heads % (2 * value) == 0;
    }
    for (int32_t gpu = 0; gpu < plan->num_gpus && key == EP; gpu++) {
        int32_t nodes = plan->gpu[gpu].nodes_max;
        bool has_nodes = nodes == 0 || nodes * plan->gpu[gpu].cluster.gpus_per_node > value;
        may_grow |= has_nodes && (plan->gpus_max == 0 || plan->gpus_max > value);
    }
    return is_largest ? may_grow : value > 1;
}

/* The nearest other value of which something is known, or -1. */
static int32_t find_beside(const struct bests *bests, int32_t value)
{
    const struct plan_list *list = bests->list;
    int32_t beside = -1;
    for (int32_t i = 0; i < list->count; i++) {
        bool is_nearer =
            beside < 0 || abs(list->value[i] - value) < abs(list->value[beside] - value);
        if (list->value[i] != value && isfinite(bests->best_s[i]) && is_nearer) {
            beside = i;
        }
    }
    return beside;
}

/* "largest" or "smallest", where the list ends at its best value; else NULL. */
static const char *edge_of(const struct plan *plan, const struct bests *bests, enum key key,
                           int32_t *value)
{
    const struct plan_list *list = bests->list;
    bool is_largest = true;
    bool is_smallest = true;
    int32_t at = 0;
    for (int32_t i = 1; i < list->count; i++) {
        at = bests->best_s[i] < bests->best_s[at] ? i : at;
    }
    *value = list->value[at];
    for (int32_t i = 0; i < list->count; i++) {
        is_largest = is_largest && list->value[i] <= *value;
        is_smallest = is_smallest && list->value[i] >= *value;
    }
    int32_t beside = find_beside(bests, *value);
    bool is_edge = is_largest != is_smallest && beside >= 0 &&
                   bests->best_s[beside] > WORSE * bests->best_s[at] &&
                   has_beyond(plan, key, *value, is_largest);
    return !is_edge ? NULL : is_largest ? "largest" : "smallest";
}

void plan_say_edges(char *line, size_t bytes, const struct plan *plan,
                    const struct plan_answer *answer)
{
    for (int32_t pool = 0; pool < COST_POOLS; pool++) {
        double target_s = pool == COST_PREFILL ? plan->ttft_s : plan->tpot_s;
        int32_t edges = 0;
        for (int32_t key = 0; key < KEYS && target_s > 0.0; key++) {
            struct bests bests;
            int32_t value;
            fill(&bests, plan, answer, (enum cost_pool)pool, (enum key)key);
            bool is_missed = isfinite(bests.least_s) && bests.least_s > target_s;
            const char *edge = is_missed ? edge_of(plan, &bests, (enum key)key, &value) : NULL;
            if (edge != NULL && edges++ == 0) {
                format_append(line, bytes, " The %s %s has",
                              answer->num_deployments > 0 ? "best" : "lowest bound of",
                              pool == COST_PREFILL ? "TTFT" : "TPOT");
            }
            if (edge != NULL) {
                format_append(line, bytes, "%s %s at its %s, %d", edges > 1 ? " and" : "",
                              names[pool][key], edge, (int)value);
            }
        }
        format_append(line, bytes, "%s", edges > 0 ? "; what lies beyond was not searched." : "");
    }
}
