/* test_route_laws.c -- what every router must do, over the registry and the router lab's scores. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "scored.h"

#define LAB         SOURCE_DIRECTORY "/scenarios/traces/router-lab/"
#define LAB_EXPERTS 64
#define NUM_RANKS   4

static struct scored scored;

static void fini(void)
{
    scored_close(&scored);
}

TestSuite(route_law, .fini = fini);

static void choose(const char *router, int32_t layer)
{
    cr_assert_eq(scored_route(&scored, router, layer), STATUS_OK, "%s: %s", router,
                 scored.error.text);
}

/* sinkhorn's order is that of scores which it scaled. */
static bool has_best_first(const char *router)
{
    return strcmp(router, "sinkhorn") != 0;
}

static void expect_lawful_token(const struct route *route, int32_t token, const char *router,
                                int64_t *assignments)
{
    bool taken[LAB_EXPERTS] = {false};
    bool ended = false;
    for (int32_t i = token * route->top_k; i < (token + 1) * route->top_k; i++) {
        int32_t expert = route->expert[i];
        ended |= expert == EXPERT_NOT_ROUTED;
        cr_expect_eq(ended, expert == EXPERT_NOT_ROUTED, "%s: a gap in token %d", router, token);
        if (ended) {
            cr_expect_eq(route->gate_weight[i], 0.0f, "%s", router);
            continue;
        }
        cr_assert(expert >= 0 && expert < route->num_experts, "%s: expert %d", router, expert);
        cr_expect(!taken[expert], "%s: token %d has expert %d twice", router, token, expert);
        taken[expert] = true;
        ++*assignments;
        cr_expect(route->gate_weight[i] >= 0.0f && route->gate_weight[i] <= 1.0f, "%s", router);
        cr_expect(!has_best_first(router) || i == token * route->top_k ||
                      route->gate_weight[i] <= route->gate_weight[i - 1],
                  "%s: token %d is not best first", router, token);
    }
}

/* Experts differ and come best first, weights are shares, nothing weighs more than the likeliest.
 */
static void expect_lawful(const char *router)
{
    const struct route *route = &scored.route;
    int64_t assignments = 0;
    for (int32_t token = 0; token < route->num_tokens; token++) {
        double sum = 0.0;
        expect_lawful_token(route, token, router, &assignments);
        for (int32_t i = token * route->top_k; i < (token + 1) * route->top_k; i++) {
            sum += (double)route->gate_weight[i];
        }
        bool is_wide = route->model_top_k > 0;
        if (route->full_weight != NULL && !is_wide) {
            cr_expect(sum <= (double)route->full_weight[token] * (1.0 + 1e-6), "%s: token %d",
                      router, token);
        }
    }
    cr_expect_eq(route->assignments, assignments, "%s", router);
    int64_t expected = (int64_t)route->num_tokens * scored.trace.top_k;
    cr_expect(route->model_top_k > 0 ? assignments >= expected : assignments == expected, "%s",
              router); /* experts that choose round up */
}

Test(route_law, every_router_gives_tokens_different_experts_best_first_and_the_same_again)
{
    static const int32_t groups[][2] = {{1, 1}, {8, 4}, {4, 2}};
    int32_t count = 0;
    const struct router *const *all = route_all(&count);
    cr_assert_gt(count, 1);
    for (int32_t i = 0; i < 3 * count; i++) {
        const struct router *router = all[i / 3];
        if (router->top_k != 0 && router->top_k != 8) {
            continue; /* a gate of another k than the lab's */
        }
        struct route first = {.num_tokens = 0};
        for (int32_t run = 0; run < 2; run++) {
            scored_close(&scored);
            scored_open(&scored, LAB "loss_free_scores", NUM_RANKS);
            scored.model.num_expert_groups = groups[i % 3][0];
            scored.model.topk_groups = groups[i % 3][1];
            choose(router->name, 5);
            expect_lawful(router->name);
            size_t num_wishes = (size_t)scored.route.num_tokens * (size_t)scored.route.top_k;
            if (run == 0) {
                first = scored.route;
                first.expert = malloc(num_wishes * sizeof *first.expert);
                first.gate_weight = malloc(num_wishes * sizeof *first.gate_weight);
                cr_assert(first.expert != NULL && first.gate_weight != NULL);
                memcpy(first.expert, scored.route.expert, num_wishes * sizeof *first.expert);
                memcpy(first.gate_weight, scored.route.gate_weight,
                       num_wishes * sizeof *first.gate_weight);
                continue;
            }
            cr_assert_eq(scored.route.top_k, first.top_k);
            cr_expect_arr_eq(scored.route.expert, first.expert, num_wishes * sizeof *first.expert,
                             "%s", router->name);
            cr_expect_arr_eq(scored.route.gate_weight, first.gate_weight,
                             num_wishes * sizeof *first.gate_weight, "%s", router->name);
        }
        free(first.expert);
        free(first.gate_weight);
    }
}

/* Where ranks have no tokens, and where nobody has. */
Test(route_law, every_router_takes_ranks_and_steps_without_tokens)
{
    int32_t count = 0;
    const struct router *const *all = route_all(&count);
    for (int32_t i = 0; i < 2 * count; i++) {
        const struct router *router = all[i / 2];
        if (router->top_k != 0 && router->top_k != 8) {
            continue;
        }
        scored_close(&scored);
        scored_open(&scored, LAB "aux_loss_scores", NUM_RANKS);
        int32_t num_tokens = i % 2 == 0 ? 5 : 0;
        scored.batch.num_tokens = num_tokens;
        for (int32_t rank = 0; rank <= NUM_RANKS; rank++) {
            scored.batch.rank_begin[rank] = rank < 2 ? 0 : num_tokens; /* all are rank 1's */
        }
        choose(router->name, 0);
        expect_lawful(router->name);
        for (enum capacity_scope scope = CAPACITY_RANK; scope <= CAPACITY_GLOBAL; scope++) {
            scored.settings.capacity_scope = scope;
            scored.settings.capacity_factor = 0.5;
            choose(router->name, 1);
            scored_drop(&scored, "reroute");
        }
    }
}

/* Nobody can lose more to a tolerance than it allows, nor more to a larger one... of the sum over
 * tokens of the plain choice. */
Test(route_law, node_aware_stays_within_its_tolerance)
{
    static const double tolerances[] = {0.0, 0.01, 0.05, 0.1, 0.5, 1.0};
    for (int32_t i = 0; i < 6; i++) {
        scored_close(&scored);
        scored_open(&scored, LAB "loss_free_scores", 8);
        scored.cluster = (struct cluster){.num_nodes = 4, .gpus_per_node = 2};
        scored.settings.tolerance = tolerances[i];
        choose("node_aware", 2);
        expect_lawful("node_aware");
        for (int32_t token = 0; token < scored.route.num_tokens; token++) {
            double sum = 0.0;
            for (int32_t k = 0; k < 8; k++) {
                sum += (double)scored.route.gate_weight[token * 8 + k];
            }
            double kept = sum / (double)scored.route.full_weight[token];
            cr_expect_geq(kept, 1.0 - tolerances[i] - 1e-6, "tolerance %g, token %d", tolerances[i],
                          token);
        }
    }
}
