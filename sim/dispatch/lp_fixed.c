/*
 * lp_fixed -- the linear program of lp by five steps of an interior-point method.
 *
 * Source: sgl-project/sglang, kernels/ops/lplb (solve_ipm) for deepseek-ai/LPLB @ 9db27ad: affine
 * scaling on  min c'x, Ax = b, x >= 0,  with a fixed number of steps so that it fits a GPU kernel
 * and a CUDA graph. A step solves  (A X^2 A') y = A X^2 c,  takes d = X (c - A'y)  and scales
 * x *= 1 - 0.999 / max(d) d. Rows of A are experts (shares sum to the load) and ranks (their
 * tokens and a slack make M). Here X^2 of the slots couples each expert only with ranks, so
 * experts are eliminated and a Cholesky factor of one row a rank remains.
 *
 * Differs: there x begins at 1 with an artificial variable at a price, and where it does not
 * vanish every expert falls back on even shares; ours begins at the even split, which is feasible
 * and stays so, with M a tenth above its busiest rank. Arithmetic is fp64 (there fp32). Shares
 * become whole tokens by largest remainder and slots take turns (there dice). Left out: the
 * all-reduce of counts, and the time to solve. The factor takes the cube of the ranks; lp is exact
 * and no slower, so this one is for what engines would get.
 */
#include "dispatch/split.h"

#include <assert.h>
#include <math.h>

#define STEPS      5
#define STEP_SHARE 0.999
#define M_START    1.1
#define D_MIN      1e-9  /* theirs: below it the step is over */
#define PIVOT_MIN  1e-12 /* theirs */

/* Loads are in units of the mean rank. Ranks without a slot of choice have a row all the same. */
struct interior {
    const struct placement *placement;
    const struct split *split;
    double unit;         /* tokens */
    double *x;           /* [num_slots] of experts with a choice */
    double *slack;       /* [num_ranks] */
    double busiest;      /* M */
    double *expert_y;    /* [num_experts] */
    double *rank_y;      /* [num_ranks] */
    double *matrix;      /* [num_ranks][num_ranks] lower triangle */
    double *expert_diag; /* [num_experts] */
};

static bool allocate(struct interior *in, const struct split *split, struct arena *scratch)
{
    size_t ranks = (size_t)split->placement->num_ranks;
    size_t experts = (size_t)split->placement->num_experts;
    *in = (struct interior){
        .placement = split->placement,
        .split = split,
        .x = arena_take(scratch, (size_t)split->placement->num_slots, sizeof(double)),
        .slack = arena_alloc(scratch, ranks, sizeof(double)),
        .expert_y = arena_take(scratch, experts, sizeof(double)),
        .rank_y = arena_take(scratch, ranks, sizeof(double)),
        .matrix = arena_take(scratch, ranks * ranks, sizeof(double)),
        .expert_diag = arena_take(scratch, experts, sizeof(double)),
    };
    return in->x != NULL && in->slack != NULL && in->expert_y != NULL && in->rank_y != NULL &&
           in->matrix != NULL && in->expert_diag != NULL;
}

/* Every slot an even share; M above the busiest rank, so all slacks are positive. */
static void start_evenly(struct interior *in)
{
    const struct placement *placement = in->placement;
    const struct split *split = in->split;
    double sum = 0.0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        in->slack[rank] = split->rank_tokens[rank];
        sum += in->slack[rank];
    }
    for (int32_t i = 0; i < split->num_choices; i++) {
        int32_t expert = split->choice[i];
        double share = (double)split->tokens[expert] / placement_num_replicas(placement, expert);
        sum += split->tokens[expert];
        for (int32_t j = placement->slot_begin[expert]; j < placement->slot_begin[expert + 1];
             j++) {
            int32_t slot = placement->slot_of[j];
            in->x[slot] = share;
            in->slack[placement->rank_of_slot[slot]] += share;
        }
    }
    in->unit = sum / placement->num_ranks;
    in->busiest = 0.0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        in->busiest = fmax(in->busiest, M_START * in->slack[rank] / in->unit);
    }
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        in->slack[rank] = in->busiest - in->slack[rank] / in->unit;
    }
    for (int32_t i = 0; i < split->num_choices; i++) {
        int32_t expert = split->choice[i];
        for (int32_t j = placement->slot_begin[expert]; j < placement->slot_begin[expert + 1];
             j++) {
            in->x[placement->slot_of[j]] /= in->unit;
        }
    }
}

/* A X^2 A' with the experts eliminated: lower triangle. */
static void fill_matrix(struct interior *in)
{
    const struct placement *placement = in->placement;
    int32_t num_ranks = placement->num_ranks;
    double busiest_square = in->busiest * in->busiest;
    for (int32_t row = 0; row < num_ranks; row++) {
        for (int32_t column = 0; column <= row; column++) {
            in->matrix[row * num_ranks + column] = busiest_square;
        }
        in->matrix[row * num_ranks + row] += in->slack[row] * in->slack[row];
    }
    for (int32_t i = 0; i < in->split->num_choices; i++) {
        int32_t expert = in->split->choice[i];
        int32_t begin = placement->slot_begin[expert];
        int32_t end = placement->slot_begin[expert + 1];
        double diag = 0.0;
        for (int32_t j = begin; j < end; j++) {
            diag += in->x[placement->slot_of[j]] * in->x[placement->slot_of[j]];
        }
        in->expert_diag[expert] = diag > PIVOT_MIN ? diag : PIVOT_MIN;
        for (int32_t j = begin; j < end; j++) { /* ranks ascend with slots */
            int32_t row = placement->rank_of_slot[placement->slot_of[j]];
            double square = in->x[placement->slot_of[j]] * in->x[placement->slot_of[j]];
            in->matrix[row * num_ranks + row] += square;
            for (int32_t k = begin; k < end; k++) {
                int32_t column = placement->rank_of_slot[placement->slot_of[k]];
                double other = in->x[placement->slot_of[k]] * in->x[placement->slot_of[k]];
                if (column <= row) {
                    in->matrix[row * num_ranks + column] -=
                        square * other / in->expert_diag[expert];
                }
            }
        }
    }
}

/* Solves matrix rank_y = right side in place, which is overwritten by its Cholesky factor. */
static void solve(double *matrix, double *rank_y, int32_t count)
{
    for (int32_t row = 0; row < count; row++) {
        for (int32_t column = 0; column <= row; column++) {
            double sum = matrix[row * count + column];
            for (int32_t k = 0; k < column; k++) {
                sum -= matrix[row * count + k] * matrix[column * count + k];
            }
            matrix[row * count + column] = column < row ? sum / matrix[column * count + column]
                                                        : sqrt(sum > PIVOT_MIN ? sum : PIVOT_MIN);
        }
        for (int32_t k = 0; k < row; k++) {
            rank_y[row] -= matrix[row * count + k] * rank_y[k];
        }
        rank_y[row] /= matrix[row * count + row];
    }
    for (int32_t row = count - 1; row >= 0; row--) {
        for (int32_t k = row + 1; k < count; k++) {
            rank_y[row] -= matrix[k * count + row] * rank_y[k];
        }
        rank_y[row] /= matrix[row * count + row];
    }
}

static void find_multipliers(struct interior *in)
{
    const struct placement *placement = in->placement;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        in->rank_y[rank] = -in->busiest * in->busiest; /* A X^2 c: M alone has a price */
    }
    fill_matrix(in);
    solve(in->matrix, in->rank_y, placement->num_ranks);
    for (int32_t i = 0; i < in->split->num_choices; i++) {
        int32_t expert = in->split->choice[i];
        double sum = 0.0;
        for (int32_t j = placement->slot_begin[expert]; j < placement->slot_begin[expert + 1];
             j++) {
            int32_t slot = placement->slot_of[j];
            sum += in->x[slot] * in->x[slot] * in->rank_y[placement->rank_of_slot[slot]];
        }
        in->expert_y[expert] = -sum / in->expert_diag[expert];
    }
}

/* d of a slot: what the price of its place is above its expert's. */
static double slot_d(const struct interior *in, int32_t expert, int32_t slot)
{
    return -in->x[slot] * (in->expert_y[expert] + in->rank_y[in->placement->rank_of_slot[slot]]);
}

/* One step of affine scaling. Returns false when there is nowhere to go. */
static bool step(struct interior *in)
{
    const struct placement *placement = in->placement;
    find_multipliers(in);
    double price = 1.0;
    double d_max = 0.0;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        price += in->rank_y[rank];
        d_max = fmax(d_max, -in->slack[rank] * in->rank_y[rank]);
    }
    double busiest_d = in->busiest * price;
    d_max = fmax(d_max, busiest_d);
    for (int32_t i = 0; i < in->split->num_choices; i++) {
        int32_t expert = in->split->choice[i];
        for (int32_t j = placement->slot_begin[expert]; j < placement->slot_begin[expert + 1];
             j++) {
            d_max = fmax(d_max, slot_d(in, expert, placement->slot_of[j]));
        }
    }
    if (d_max <= D_MIN) {
        return false;
    }
    double share = STEP_SHARE / d_max;
    for (int32_t i = 0; i < in->split->num_choices; i++) {
        int32_t expert = in->split->choice[i];
        for (int32_t j = placement->slot_begin[expert]; j < placement->slot_begin[expert + 1];
             j++) {
            int32_t slot = placement->slot_of[j];
            in->x[slot] *= 1.0 - share * slot_d(in, expert, slot);
        }
    }
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        in->slack[rank] *= 1.0 + share * in->slack[rank] * in->rank_y[rank];
    }
    in->busiest *= 1.0 - share * busiest_d;
    return true;
}

/* Whole tokens: the shares rounded down, then one more each to the largest remainders. */
static void round_shares(struct split *split, const double *x, int32_t expert)
{
    const struct placement *placement = split->placement;
    int32_t begin = placement->slot_begin[expert];
    int32_t end = placement->slot_begin[expert + 1];
    double sum = 0.0;
    for (int32_t j = begin; j < end; j++) {
        sum += x[placement->slot_of[j]];
    }
    int32_t left = split->tokens[expert];
    for (int32_t j = begin; j < end; j++) {
        int32_t slot = placement->slot_of[j];
        split->quota[slot] = (int32_t)floor(x[slot] / sum * split->tokens[expert]);
        left -= split->quota[slot];
    }
    for (; left > 0; left--) { /* fewer than the expert has slots */
        int32_t furthest = placement->slot_of[begin];
        double most = -2.0; /* all are above -1 */
        for (int32_t j = begin; j < end; j++) {
            int32_t slot = placement->slot_of[j];
            double behind = x[slot] / sum * split->tokens[expert] - split->quota[slot];
            if (behind > most) {
                most = behind;
                furthest = slot;
            }
        }
        split->quota[furthest]++;
    }
    assert(left == 0);
}

static enum status assign_fixed(void *state, const struct dispatch_input *input,
                                struct route *route)
{
    (void)state; /* each batch stands alone */
    struct split split;
    struct interior in;
    enum status status = split_open(&split, input, route);
    if (status == STATUS_OK && !allocate(&in, &split, input->scratch)) {
        status = STATUS_NO_MEMORY;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (split.num_choices > 0) {
        start_evenly(&in);
        for (int32_t i = 0; i < STEPS && step(&in); i++) {
        }
    }
    for (int32_t i = 0; i < split.num_choices; i++) {
        round_shares(&split, in.x, split.choice[i]);
    }
    return split_deal_mixed(&split, route, input->scratch);
}

const struct replica_dispatch dispatch_lp_fixed = {
    .name = "lp_fixed",
    .summary = "the same split by five interior-point steps, as engines can afford",
    .source = "sgl-project/sglang, kernels/ops/lplb; deepseek-ai/LPLB @ 9db27ad",
    .assign = assign_fixed,
};
