/*
 * test_kernel_lanes.c -- what the lanes of gate.cu and permute.cu compute, run lane after lane on
 * the CPU against the references: the same per-lane functions, with loops where the GPU has
 * shuffles.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "ep_plan.h"
#include "gate_lane.h"
#include "gate_math.h"
#include "permute.h"
#include "permute_plan.h"

#define KEYS_MAX (GATE_EXPERTS_MAX / GATE_LANES)

/* A warp: every lane's keys. */
struct warp {
    uint32_t key[GATE_LANES][KEYS_MAX];
    int32_t n; /* keys a lane */
};

static void warp_load(struct warp *warp, const float *score, int32_t num_experts)
{
    warp->n = gate_keys_per_lane(num_experts);
    for (int32_t lane = 0; lane < GATE_LANES; lane++) {
        for (int32_t i = 0; i < warp->n; i++) {
            int32_t expert = lane * warp->n + i;
            warp->key[lane][i] = expert < num_experts ? gate_key(score[expert]) : KEY_NONE;
        }
    }
}

/* group_score() of gate.cu: each lane's pair, met by exclusive or. */
static void warp_group_scores(const struct warp *warp, const struct gate_rule *rule, float *score)
{
    int32_t experts = rule->num_experts / rule->num_groups;
    int32_t lanes = gate_lanes_per_group(experts, warp->n);
    for (int32_t group = 0; group < rule->num_groups; group++) {
        struct lane_pair pair[GATE_LANES];
        for (int32_t lane = 0; lane < GATE_LANES; lane++) {
            pair[lane] = lane_pair_of(warp->key[lane], warp->n, lane * warp->n,
                                      lanes > 0 ? 0 : group * experts,
                                      lanes > 0 ? rule->num_experts : (group + 1) * experts);
        }
        for (int32_t distance = 1; distance < (lanes > 0 ? lanes : GATE_LANES); distance *= 2) {
            struct lane_pair before[GATE_LANES];
            memcpy(before, pair, sizeof before);
            for (int32_t lane = 0; lane < GATE_LANES; lane++) {
                pair[lane] = lane_pair_merge(before[lane], before[lane ^ distance]);
            }
        }
        struct lane_pair mine = pair[group * lanes % GATE_LANES];
        score[group] = gate_key_score(mine.first);
        score[group] += rule->group_score == GATE_GROUP_TOP2 ? gate_key_score(mine.second) : 0.0f;
    }
}

static bool warp_limit_groups(struct warp *warp, const struct gate_rule *rule, float margin)
{
    float score[GATE_LANES];
    bool clear = true;
    int32_t experts = rule->num_experts / rule->num_groups;
    warp_group_scores(warp, rule, score);
    for (int32_t group = 0; group < rule->num_groups; group++) {
        int32_t better = 0;
        for (int32_t other = 0; other < rule->num_groups; other++) {
            better += gate_group_before(score[other], other, score[group], group);
            clear = clear && (other == group || fabsf(score[other] - score[group]) > margin);
        }
        for (int32_t e = group * experts; e < (group + 1) * experts; e++) {
            uint32_t *key = &warp->key[e / warp->n][e % warp->n];
            *key = better < rule->topk_groups ? *key : KEY_NONE;
        }
    }
    return clear;
}

static uint32_t warp_max(const struct warp *warp)
{
    uint32_t best = KEY_NONE;
    for (int32_t lane = 0; lane < GATE_LANES; lane++) {
        uint32_t mine = lane_max(warp->key[lane], warp->n);
        best = mine > best ? mine : best;
    }
    return best;
}

static bool warp_choose(struct warp *warp, int32_t top_k, float margin, int32_t *expert)
{
    bool clear = true;
    float before = INFINITY;
    for (int32_t k = 0; k < top_k; k++) {
        uint32_t best = warp_max(warp);
        int32_t owner = 0; /* the lowest lane of the ballot */
        while (lane_max(warp->key[owner], warp->n) != best) {
            owner++;
        }
        expert[k] = owner * warp->n + lane_take(warp->key[owner], warp->n, best);
        clear = clear && before - gate_key_score(best) > margin;
        before = gate_key_score(best);
    }
    uint32_t next = warp_max(warp);
    return clear && (next == KEY_NONE || before - gate_key_score(next) > margin);
}

static bool warp_gate(const struct gate_rule *rule, const float *score, float choice_margin,
                      float group_margin, int32_t *expert)
{
    static struct warp warp;
    warp_load(&warp, score, rule->num_experts);
    bool clear = rule->num_groups == 1 || warp_limit_groups(&warp, rule, group_margin);
    return warp_choose(&warp, rule->top_k, choice_margin, expert) && clear;
}

static const struct gate_rule rules[] = {
    {GATE_SOFTMAX, 8, 2, true, 1, 1, GATE_GROUP_MAX, 1.0f},
    {GATE_SOFTMAX, 128, 8, true, 1, 1, GATE_GROUP_MAX, 1.0f},
    {GATE_CHOSEN_SOFTMAX, 32, 4, false, 1, 1, GATE_GROUP_MAX, 1.0f},
    {GATE_SIGMOID, 256, 8, true, 8, 4, GATE_GROUP_TOP2, 2.5f},
    {GATE_SIGMOID, 384, 8, true, 1, 1, GATE_GROUP_MAX, 1.0f},
    {GATE_SOFTMAX, 160, 6, false, 8, 3, GATE_GROUP_MAX, 16.0f}, /* groups cut lanes: 20 by 8 */
    {GATE_SIGMOID, 1024, 16, true, 32, 8, GATE_GROUP_TOP2, 1.0f},
    {GATE_SOFTMAX, 77, 3, false, 11, 4, GATE_GROUP_MAX, 1.0f},
    {GATE_SIGMOID, 48, 5, true, 3, 2, GATE_GROUP_TOP2, 1.0f},
    {GATE_SOFTMAX, 1, 1, true, 1, 1, GATE_GROUP_MAX, 1.0f},
};

#define NUM_RULES (sizeof rules / sizeof rules[0])

static float exact_score(const struct gate_rule *rule, float logit, float bias)
{
    logit = isnan(logit) ? -INFINITY : logit;
    return rule->score == GATE_SIGMOID ? gate_sigmoid(logit) + bias : logit;
}

static float any_logit(uint64_t *state, int kind)
{
    uint64_t dice = bench_random(state);
    if (kind == 1) { /* ties, and both zeros */
        return (dice & 1) != 0 ? (float)(dice >> 1 & 3) : -(float)(dice >> 1 & 3);
    }
    if (kind == 2 && dice % 5 == 0) {
        return dice % 3 == 0 ? NAN : dice % 3 == 1 ? -INFINITY : INFINITY;
    }
    return (float)bench_random_normal(state);
}

Test(kernel_lanes, a_warp_chooses_what_the_reference_chooses)
{
    uint64_t state = 1;
    for (size_t r = 0; r < NUM_RULES; r++) {
        for (int32_t token = 0; token < 90; token++) {
            float logit[GATE_EXPERTS_MAX];
            float bias[GATE_EXPERTS_MAX];
            float score[GATE_EXPERTS_MAX];
            float weight[GATE_TOP_K_MAX];
            int32_t expected[GATE_TOP_K_MAX];
            int32_t expert[GATE_TOP_K_MAX];
            bool biased = rules[r].score == GATE_SIGMOID;
            for (int32_t e = 0; e < rules[r].num_experts; e++) {
                logit[e] = any_logit(&state, token % 3);
                bias[e] = biased ? 0.25f * (float)(bench_random(&state) % 3) : 0.0f;
                score[e] = exact_score(&rules[r], logit[e], bias[e]);
            }
            cr_assert_eq(ref_gate(rules[r], 1, expected, weight, logit, biased ? bias : NULL),
                         STATUS_OK);

            warp_gate(&rules[r], score, GATE_NO_MARGIN, GATE_NO_MARGIN, expert);

            cr_assert_arr_eq(expert, expected, (size_t)rules[r].top_k * sizeof *expert,
                             "rule %zu, token %d", r, (int)token);
        }
    }
}

/* The worst that fast scores may be: off by the stated error, in any direction. */
Test(kernel_lanes, clear_choices_from_inexact_scores_are_the_exact_ones)
{
    uint64_t state = 2;
    int32_t num_clear = 0;
    int32_t num_wrong = 0;
    const int32_t num_tokens = 3000;
    const struct gate_rule *rule = &rules[3];
    for (int32_t token = 0; token < num_tokens; token++) {
        float logit[GATE_EXPERTS_MAX];
        float bias[GATE_EXPERTS_MAX];
        float score[GATE_EXPERTS_MAX];
        float weight[GATE_TOP_K_MAX];
        int32_t expected[GATE_TOP_K_MAX];
        int32_t expert[GATE_TOP_K_MAX];
        float width = token % 2 == 0 ? 1.0f : 1e-4f; /* every second token is full of near ties */
        for (int32_t e = 0; e < rule->num_experts; e++) {
            logit[e] = width * (float)bench_random_normal(&state);
            bias[e] = 0.1f * width * bench_random_float(&state);
            score[e] = exact_score(rule, logit[e], bias[e]) +
                       GATE_SCORE_ERROR * bench_random_float(&state);
        }
        cr_assert_eq(ref_gate(*rule, 1, expected, weight, logit, bias), STATUS_OK);

        bool clear = warp_gate(rule, score, GATE_CHOICE_MARGIN, GATE_GROUP_MARGIN, expert);

        bool equal = memcmp(expert, expected, (size_t)rule->top_k * sizeof *expert) == 0;
        cr_assert(!clear || equal, "token %d", (int)token);
        num_clear += clear && width == 1.0f;
        num_wrong += !equal;
    }
    cr_expect_gt(num_wrong, 0, "no token was close: the margins are not tested");
    cr_expect_gt(num_clear, num_tokens / 2 * 95 / 100, "%d clear", (int)num_clear);
}

Test(kernel_lanes, keys_order_as_scores_and_come_back)
{
    const float ascending[] = {-INFINITY, -3.5f, -1e-42f, 0.0f, 1e-42f, 2.0f, INFINITY};
    for (size_t i = 0; i + 1 < sizeof ascending / sizeof ascending[0]; i++) {
        cr_expect_lt(gate_key(ascending[i]), gate_key(ascending[i + 1]));
        cr_expect_eq(gate_key_score(gate_key(ascending[i])), ascending[i]);
    }
    cr_expect_eq(gate_key(-0.0f), gate_key(0.0f));
    cr_expect_eq(gate_key(NAN), gate_key(-INFINITY));
    cr_expect_gt(gate_key(-INFINITY), KEY_NONE);
}

/* ---- permute.cu: counts, sums and places of one chunk after the other ---- */

struct sorter {
    struct permute_shape shape;
    int64_t num_choices;
    const int32_t *expert;
    int32_t *row_of;
    int32_t *token_of;
};

/* The lanes of a step that have this lane's expert; lanes beyond the end have none. */
static uint32_t same_expert(const struct sorter *sorter, int64_t first, int64_t end, int32_t lane)
{
    uint32_t same = 0;
    for (int32_t other = 0; other < 32; other++) {
        bool both = first + other < end && first + lane < end;
        same |= (uint32_t)(both && sorter->expert[first + other] == sorter->expert[first + lane])
                << other;
    }
    return same;
}

static void count_run(const struct sorter *sorter, struct permute_run run, uint16_t *rows)
{
    for (int64_t i = run.begin; i < run.end; i++) {
        int32_t lane = (int32_t)((i - run.begin) % 32);
        uint32_t same = same_expert(sorter, i - lane, run.end, lane);
        if (sorter->expert[i] >= 0 && permute_lanes_below(same, lane) == 0) {
            rows[sorter->expert[i]] =
                (uint16_t)(rows[sorter->expert[i]] + __builtin_popcount(same));
        }
    }
}

static void place_run(const struct sorter *sorter, struct permute_run run, uint16_t *before,
                      const int32_t *begin)
{
    for (int64_t first = run.begin; first < run.end; first += 32) {
        uint16_t added[64] = {0};
        for (int32_t lane = 0; lane < 32 && first + lane < run.end; lane++) {
            int32_t expert = sorter->expert[first + lane];
            uint32_t below = permute_lanes_below(same_expert(sorter, first, run.end, lane), lane);
            sorter->row_of[first + lane] = ROW_DROPPED;
            if (expert >= 0) {
                int32_t row = begin[expert] + before[expert] + __builtin_popcount(below);
                sorter->row_of[first + lane] = row;
                sorter->token_of[row] = (int32_t)((first + lane) / sorter->shape.top_k);
                added[expert]++;
            }
        }
        for (int32_t expert = 0; expert < sorter->shape.num_experts; expert++) {
            before[expert] = (uint16_t)(before[expert] + added[expert]);
        }
    }
}

/* chunk_choices: PERMUTE_CHUNK as v2 has it, or all, as v3. */
static void sort(const struct sorter *sorter, int64_t chunk_choices, const int32_t *row_begin)
{
    int32_t experts = sorter->shape.num_experts;
    int32_t chunk_rows[64] = {0}; /* of the chunks before */
    for (int64_t chunk = 0; chunk < sorter->num_choices; chunk += chunk_choices) {
        static uint16_t rows[PERMUTE_WARPS * 64];
        int32_t begin[64];
        memset(rows, 0, sizeof rows);
        for (int32_t warp = 0; warp < PERMUTE_WARPS; warp++) {
            count_run(sorter, permute_warp_run(sorter->num_choices, chunk, chunk_choices, warp),
                      &rows[warp * experts]);
        }
        for (int32_t expert = 0; expert < experts; expert++) {
            int32_t sum = 0;
            begin[expert] = row_begin[expert] + chunk_rows[expert];
            for (int32_t warp = 0; warp < PERMUTE_WARPS; warp++) {
                int32_t mine = rows[warp * experts + expert];
                rows[warp * experts + expert] = (uint16_t)sum;
                sum += mine;
            }
            chunk_rows[expert] += sum;
        }
        for (int32_t warp = 0; warp < PERMUTE_WARPS; warp++) {
            place_run(sorter, permute_warp_run(sorter->num_choices, chunk, chunk_choices, warp),
                      &rows[warp * experts], begin);
        }
    }
}

static void sort_and_compare(struct permute_shape shape, int64_t chunk_choices, uint64_t seed)
{
    int64_t choices = (int64_t)shape.num_tokens * shape.top_k;
    size_t rows_max = (size_t)permute_rows_max(shape);
    int32_t *expert = malloc((size_t)choices * sizeof *expert);
    int32_t *row_of = malloc((size_t)choices * sizeof *row_of);
    int32_t *expected = malloc((size_t)choices * sizeof *expected);
    int32_t *token_of = malloc(rows_max * sizeof *token_of);
    int32_t *expected_token = malloc(rows_max * sizeof *expected_token);
    int32_t num_rows[64];
    int32_t row_begin[65];
    uint64_t state = bench_random_seed(seed, 3);
    for (int64_t i = 0; i < choices; i++) { /* skewed, a tenth dropped */
        uint64_t dice = bench_random(&state);
        expert[i] = dice % 10 == 0
                        ? EXPERT_NONE
                        : (int32_t)(dice / 10 % (uint64_t)shape.num_experts * (dice / 1000 % 2));
    }
    cr_assert_eq(ref_permute(shape, num_rows, row_begin, expected, expected_token, expert),
                 STATUS_OK);
    memset(token_of, 0xff, rows_max * sizeof *token_of); /* ROW_PADDING */

    struct sorter sorter = {shape, choices, expert, row_of, token_of};
    sort(&sorter, chunk_choices, row_begin);

    cr_expect_arr_eq(row_of, expected, (size_t)choices * sizeof *row_of);
    cr_expect_arr_eq(token_of, expected_token, rows_max * sizeof *token_of);
    free(expert);
    free(row_of);
    free(expected);
    free(token_of);
    free(expected_token);
}

Test(kernel_lanes, chunks_warps_and_lanes_sort_as_the_reference_does)
{
    const struct permute_shape shapes[] = {
        {1, 8, 64, 1}, {3, 1, 1, 16}, {1025, 4, 64, 1}, {511, 3, 5, 64}, {2048, 2, 8, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        int64_t choices = (int64_t)shapes[i].num_tokens * shapes[i].top_k;
        int64_t step = 32 * PERMUTE_WARPS;
        sort_and_compare(shapes[i], PERMUTE_CHUNK, i);
        sort_and_compare(shapes[i], (choices + step - 1) / step * step, i);
    }
}

Test(kernel_lanes, a_sent_row_finds_its_slot_past_empty_ones)
{
    const int32_t rows[] = {0, 3, 0, 0, 1, 2, 0};
    const int32_t num_slots = sizeof rows / sizeof rows[0];
    int32_t begin[8] = {0};
    for (int32_t slot = 0; slot < num_slots; slot++) {
        begin[slot + 1] = begin[slot] + rows[slot];
    }
    for (int32_t slot = 0; slot < num_slots; slot++) {
        for (int32_t row = begin[slot]; row < begin[slot + 1]; row++) {
            cr_expect_eq(ep_slot_of_row(begin, num_slots, row), slot, "row %d", (int)row);
        }
    }
}
