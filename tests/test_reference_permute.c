/* test_reference_permute.c -- laws of permutations and drops over shapes at the edges. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "drop.h"
#include "permute.h"

struct arrays {
    int32_t *expert;
    int32_t *num_rows;
    int32_t *row_begin;
    int32_t *row_of;
    int32_t *token_of;
};

static struct arrays make(struct permute_shape shape)
{
    size_t choices = (size_t)shape.num_tokens * (size_t)shape.top_k;
    struct arrays made = {calloc(choices + 1, sizeof(int32_t)),
                          calloc((size_t)shape.num_experts, sizeof(int32_t)),
                          calloc((size_t)shape.num_experts + 1, sizeof(int32_t)),
                          calloc(choices + 1, sizeof(int32_t)),
                          calloc((size_t)permute_rows_max(shape) + 1, sizeof(int32_t))};
    for (size_t i = 0; i < choices; i++) {
        made.expert[i] = rand() % (shape.num_experts + 1) - 1; /* some go nowhere */
    }
    return made;
}

static void release(struct arrays *made)
{
    free(made->expert);
    free(made->num_rows);
    free(made->row_begin);
    free(made->row_of);
    free(made->token_of);
}

/* Each choice has a row of its own, in its expert's group, in order; all other rows are padding. */
static void check_laws(struct permute_shape shape, const struct arrays *made)
{
    int64_t rows = 0;
    for (int32_t expert = 0; expert < shape.num_experts; expert++) {
        cr_assert_eq(made->row_begin[expert] % shape.row_align, 0);
        cr_assert_geq(made->row_begin[expert + 1],
                      made->row_begin[expert] + made->num_rows[expert]);
        rows += made->num_rows[expert];
        for (int32_t i = 0; i < made->row_begin[expert + 1] - made->row_begin[expert]; i++) {
            int32_t token = made->token_of[made->row_begin[expert] + i];
            cr_assert_eq(token == ROW_PADDING, i >= made->num_rows[expert]);
        }
    }
    int64_t placed = 0;
    for (int64_t i = 0; i < (int64_t)shape.num_tokens * shape.top_k; i++) {
        int32_t row = made->row_of[i];
        int32_t expert = made->expert[i];
        if (expert == EXPERT_NONE) {
            cr_assert_eq(row, ROW_DROPPED);
            continue;
        }
        cr_assert(row >= made->row_begin[expert] &&
                  row < made->row_begin[expert] + made->num_rows[expert]);
        cr_assert_eq(made->token_of[row], i / shape.top_k);
        cr_assert(row == made->row_begin[expert] || made->token_of[row - 1] <= made->token_of[row]);
        placed++;
    }
    cr_assert_eq(placed, rows);
    cr_assert_leq(made->row_begin[shape.num_experts], permute_rows_max(shape));
}

Test(permute, is_a_permutation_for_every_shape)
{
    const struct permute_shape shapes[] = {{0, 2, 8, 1},       {1, 1, 1, 1},      {1, 16, 1024, 64},
                                           {77, 8, 256, 1},    {77, 8, 256, 128}, {500, 2, 3, 16},
                                           {333, 16, 1024, 8}, {64, 4, 1, 4}};
    srand(1);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct arrays made = make(shapes[i]);
        cr_assert_eq(ref_permute(shapes[i], made.num_rows, made.row_begin, made.row_of,
                                 made.token_of, made.expert),
                     STATUS_OK);
        check_laws(shapes[i], &made);
        release(&made);
    }
}

Test(permute, by_hand)
{
    const struct permute_shape shape = {3, 2, 3, 4};
    const int32_t expert[6] = {2, 0, EXPERT_NONE, 2, 2, 0};
    int32_t num_rows[3];
    int32_t row_begin[4];
    int32_t row_of[6];
    int32_t token_of[14];
    const int32_t expected_row_of[6] = {4, 0, ROW_DROPPED, 5, 6, 1};
    const int32_t expected_token_of[8] = {0, 2, -1, -1, 0, 1, 2, -1};

    cr_assert_leq(permute_rows_max(shape), 15);
    int32_t *tokens = calloc((size_t)permute_rows_max(shape), sizeof *tokens);
    cr_assert_eq(ref_permute(shape, num_rows, row_begin, row_of, tokens, expert), STATUS_OK);
    memcpy(token_of, tokens, 8 * sizeof *tokens);
    free(tokens);

    cr_expect(num_rows[0] == 2 && num_rows[1] == 0 && num_rows[2] == 3);
    cr_expect(row_begin[1] == 4 && row_begin[2] == 4 && row_begin[3] == 8);
    cr_expect_arr_eq(row_of, expected_row_of, sizeof row_of);
    cr_expect_arr_eq(token_of, expected_token_of, sizeof expected_token_of);
}

Test(permute, copies_weighs_and_leaves_padding_alone)
{
    float x[2 * 3] = {1.0f, 2.0f, 3.0f, 10.0f, 20.0f, 30.0f};
    float out[3 * 3] = {-1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f, -1.0f};
    const int32_t token_of[3] = {1, ROW_PADDING, 0};
    const float weight[3] = {0.5f, 9.0f, 2.0f};
    const float expected[9] = {5.0f, 10.0f, 15.0f, -1.0f, -1.0f, -1.0f, 2.0f, 4.0f, 6.0f};
    struct matrix from = {.dtype = DTYPE_FP32, .data = x};
    struct matrix to = {.dtype = DTYPE_FP32, .data = out};

    cr_assert_eq(ref_permute_rows(3, 3, to, from, token_of, weight), STATUS_OK);

    cr_expect_arr_eq(out, expected, sizeof out);
    cr_expect_eq(ref_permute_rows(-1, 3, to, from, token_of, NULL), STATUS_INVALID);
    cr_expect_eq(ref_permute_rows(3, 0, to, from, token_of, NULL), STATUS_INVALID);
}

Test(permute, refuses_what_is_no_routing)
{
    const int32_t expert[2] = {0, 2};
    int32_t out[4][8];
    struct permute_shape shape = {1, 2, 2, 1};

    cr_expect_eq(ref_permute(shape, out[0], out[1], out[2], out[3], expert), STATUS_INVALID);
    shape.num_experts = 3;
    cr_expect_eq(ref_permute(shape, out[0], out[1], out[2], out[3], expert), STATUS_OK);
    shape.row_align = 3;
    cr_expect_eq(ref_permute(shape, out[0], out[1], out[2], out[3], expert), STATUS_INVALID);
    shape = (struct permute_shape){1 << 30, 16, 8, 1}; /* more rows than an int32 counts */
    cr_expect_eq(ref_permute(shape, out[0], out[1], out[2], out[3], expert), STATUS_INVALID);
}

Test(drop, keeps_the_earliest_or_the_heaviest)
{
    const struct permute_shape shape = {4, 2, 3, 1};
    const int32_t wishes[8] = {0, 1, 0, 1, 0, 2, EXPERT_NONE, 0};
    const float weight[8] = {0.1f, 0.9f, 0.7f, 0.3f, 0.7f, 0.3f, 0.0f, 0.9f};
    const int32_t by_position[8] = {0, 1, 0, 1, EXPERT_NONE, 2, EXPERT_NONE, EXPERT_NONE};
    /* of expert 0: 0.9, and the earlier of the two 0.7 */
    const int32_t by_weight[8] = {EXPERT_NONE, 1, 0, 1, EXPERT_NONE, 2, EXPERT_NONE, 0};
    uint64_t work[3 + 16];
    int32_t expert[8];

    memcpy(expert, wishes, sizeof expert);
    cr_expect_eq(ref_drop(shape, 2, DROP_POSITION, expert, NULL, work), 2);
    cr_expect_arr_eq(expert, by_position, sizeof expert);
    memcpy(expert, wishes, sizeof expert);
    cr_expect_eq(ref_drop(shape, 2, DROP_GATE_WEIGHT, expert, weight, work), 2);
    cr_expect_arr_eq(expert, by_weight, sizeof expert);
    cr_expect_eq(ref_drop(shape, 0, DROP_POSITION, expert, NULL, work), 5); /* all that is left */
    cr_expect_eq(ref_drop(shape, -1, DROP_POSITION, expert, NULL, work), -1);
}
