/*
 * llep -- an overloaded rank's tokens spill to the least loaded, and the expert's weights with
 * them.
 *
 * Source: SalesforceAIResearch/LeastLoadedEP @ 0349746, compute_llep_lpt_plan. No rank shall have
 * more than 1.1 of the mean. Experts in order of their tokens, most first: the native rank takes
 * what fits beside what is still to come to it; the rest goes to other ranks, the least loaded
 * first, in chunks of 1024 tokens at least unless it is all that is left, and to the least loaded
 * whatever its load where none has room. Every spill sends the expert's weights. Nothing is done
 * while the busiest rank has less than 1.3 of the mean.
 *
 * Differs: there an expert has one GPU; here each replica is an expert of its own with an even
 * share of the tokens, and a rank that holds a replica needs no weights. Helpers are put in order
 * anew after every chunk (there not where the native rank takes nothing). Of equals the lowest id
 * comes first, as there.
 */
#include "dispatch/lend.h"

#include <gsl/gsl_heapsort.h>

#define CAPACITY_FACTOR 1.1
#define CHUNK_MIN       1024 /* tokens */
#define IMBALANCE_MIN   1.3  /* below it nothing is done */

struct unit {
    int32_t tokens;
    int32_t slot;
};

struct llep {
    struct lend lend;
    int64_t tokens_max; /* that a rank should have */
    int64_t *load;      /* [num_ranks] assigned, and of its own still to come */
    int32_t *helper;    /* [num_ranks] the other ranks, by load */
    int32_t num_ranks;
};

static int heavier_first(const void *left, const void *right)
{
    const struct unit *a = left;
    const struct unit *b = right;
    if (a->tokens != b->tokens) {
        return a->tokens > b->tokens ? -1 : 1;
    }
    return (a->slot > b->slot) - (a->slot < b->slot);
}

/* Lists the ranks but native by load, of equals the lowest first: an insertion sort, because from
 * spill to spill one or two change their place. */
static void sort_helpers(struct llep *llep)
{
    for (int32_t i = 1; i < llep->num_ranks; i++) {
        int32_t rank = llep->helper[i];
        int32_t hole = i;
        for (; hole > 0; hole--) {
            int32_t other = llep->helper[hole - 1];
            if (llep->load[other] < llep->load[rank] ||
                (llep->load[other] == llep->load[rank] && other < rank)) {
                break;
            }
            llep->helper[hole] = other;
        }
        llep->helper[hole] = rank;
    }
}

/* The least loaded helper with room for a chunk worth sending, else the least loaded of all. Sets
 * how many tokens go there. */
static int32_t choose_helper(const struct llep *llep, int32_t native, int32_t tokens,
                             int32_t *chunk)
{
    int32_t least = -1;
    for (int32_t i = 0; i < llep->num_ranks; i++) {
        int32_t rank = llep->helper[i];
        if (rank == native) {
            continue;
        }
        least = least < 0 ? rank : least;
        int64_t room = llep->tokens_max - llep->load[rank];
        *chunk = tokens < room ? tokens : (int32_t)room;
        if (room > 0 && (*chunk >= CHUNK_MIN || *chunk == tokens)) {
            return rank;
        }
    }
    *chunk = tokens;
    return least;
}

/* The unit's own tokens are not in load any more. */
static enum status spill(struct llep *llep, int32_t slot, int32_t tokens)
{
    struct lend *lend = &llep->lend;
    int32_t native = lend->input->placement->rank_of_slot[slot];
    int64_t room = llep->tokens_max - llep->load[native];
    int32_t kept = room <= 0 ? 0 : tokens < room ? tokens : (int32_t)room;
    llep->load[native] += kept;
    enum status status = STATUS_OK;
    for (int32_t left = tokens - kept; left > 0 && status == STATUS_OK;) {
        int32_t chunk = 0;
        sort_helpers(llep);
        int32_t rank = choose_helper(llep, native, left, &chunk);
        int32_t begin = lend->begin[slot + 1] - left;
        status = lend_shift(lend, (struct shift){begin, begin + chunk, slot, rank});
        llep->load[rank] += chunk;
        left -= chunk;
    }
    return status;
}

static enum status schedule(struct llep *llep, struct unit *unit)
{
    struct lend *lend = &llep->lend;
    int32_t num_slots = lend->input->placement->num_slots;
    int64_t sum = 0;
    int64_t most = 0;
    for (int32_t rank = 0; rank < llep->num_ranks; rank++) {
        llep->load[rank] = lend->rank_tokens[rank];
        llep->helper[rank] = rank;
        sum += llep->load[rank];
        most = llep->load[rank] > most ? llep->load[rank] : most;
    }
    if (llep->num_ranks == 1 || (double)most * llep->num_ranks < IMBALANCE_MIN * (double)sum) {
        return STATUS_OK;
    }
    int64_t mean = sum / llep->num_ranks;
    llep->tokens_max = mean > 0 ? (int64_t)(CAPACITY_FACTOR * (double)mean) : sum;
    llep->tokens_max = llep->tokens_max > 1 ? llep->tokens_max : 1;
    for (int32_t slot = 0; slot < num_slots; slot++) {
        unit[slot] = (struct unit){lend_tokens(lend, slot), slot};
    }
    gsl_heapsort(unit, (size_t)num_slots, sizeof *unit, heavier_first);
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < num_slots && unit[i].tokens > 0 && status == STATUS_OK; i++) {
        llep->load[lend->input->placement->rank_of_slot[unit[i].slot]] -= unit[i].tokens;
        status = spill(llep, unit[i].slot, unit[i].tokens);
    }
    return status;
}

static enum status assign_spilling(void *state, const struct dispatch_input *input,
                                   struct route *route)
{
    (void)state; /* each batch stands alone */
    size_t ranks = (size_t)input->placement->num_ranks;
    struct llep llep = {
        .load = arena_take(input->scratch, ranks, sizeof(int64_t)),
        .helper = arena_take(input->scratch, ranks, sizeof(int32_t)),
        .num_ranks = input->placement->num_ranks,
    };
    struct unit *unit =
        arena_take(input->scratch, (size_t)input->placement->num_slots, sizeof *unit);
    if (llep.load == NULL || llep.helper == NULL || unit == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = lend_open(&llep.lend, input, route);
    if (status == STATUS_OK) {
        status = schedule(&llep, unit);
    }
    return status == STATUS_OK ? lend_settle(&llep.lend) : status;
}

const struct replica_dispatch dispatch_llep = {
    .name = "llep",
    .summary = "overloaded ranks spill tokens to the least loaded and lend the weights",
    .source = "SalesforceAIResearch/LeastLoadedEP @ 0349746, compute_llep_lpt_plan",
    .lends = true,
    .assign = assign_spilling,
};
