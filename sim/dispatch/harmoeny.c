/*
 * harmoeny -- the busiest rank's largest expert moves to the idlest rank until all are average.
 *
 * Source: sacs-epfl/HarMoEny @ 563b5a6, schedule_harmony. While a rank is above the average: of
 * the busiest rank take the expert with the most tokens there, if it has 150 or more; give its
 * tokens to the idlest rank, the biggest sender's first, until the busiest is average or the
 * idlest is. It ends when the idlest has no room for 150 tokens. There the idlest rank fetches the
 * weights from its host's memory; here the expert's own rank sends them. Differs too: replicas
 * have an even share of their expert's tokens each, and a rank that holds one needs no weights.
 */
#include "dispatch/lend.h"

#define TOKENS_MIN 150 /* theirs (q, eq_tokens): fewer do not pay for an expert's weights */

/* Tokens that one source rank sends to one slot: a range of lend.list whose front is given away. */
struct run {
    int32_t sender;
    int32_t begin;
    int32_t end;
};

struct harmoeny {
    struct lend lend;
    struct run *run;      /* [num_kept at most] by slot, senders ascending */
    int32_t *run_begin;   /* [num_slots + 1] */
    int32_t *slot_tokens; /* [num_slots] that are left at home */
    int64_t *load;        /* [num_ranks] */
};

static void list_runs(struct harmoeny *harmoeny, const struct dispatch_input *input, int32_t top_k)
{
    const struct lend *lend = &harmoeny->lend;
    int32_t count = 0;
    for (int32_t slot = 0; slot < input->placement->num_slots; slot++) {
        harmoeny->run_begin[slot] = count;
        harmoeny->slot_tokens[slot] = lend_tokens(lend, slot);
        for (int32_t at = lend->begin[slot]; at < lend->begin[slot + 1]; at++) {
            int32_t sender = input->batch->source_rank[lend->list[at] / top_k];
            bool goes_on =
                count > harmoeny->run_begin[slot] && harmoeny->run[count - 1].sender == sender;
            if (!goes_on) {
                harmoeny->run[count++] = (struct run){sender, at, at};
            }
            harmoeny->run[count - 1].end++;
        }
    }
    harmoeny->run_begin[input->placement->num_slots] = count;
}

/* Of equals, the first; -1 without any slot. */
static int32_t largest_slot(const struct harmoeny *harmoeny, const struct placement *placement,
                            int32_t rank)
{
    int32_t largest = -1;
    for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
         slot++) {
        if (largest < 0 || harmoeny->slot_tokens[slot] > harmoeny->slot_tokens[largest]) {
            largest = slot;
        }
    }
    return largest;
}

static struct run *biggest_sender(const struct harmoeny *harmoeny, int32_t slot)
{
    struct run *biggest = &harmoeny->run[harmoeny->run_begin[slot]];
    for (int32_t i = harmoeny->run_begin[slot]; i < harmoeny->run_begin[slot + 1]; i++) {
        struct run *run = &harmoeny->run[i];
        biggest = run->end - run->begin > biggest->end - biggest->begin ? run : biggest;
    }
    return biggest;
}

/* Gives tokens of the slot to the idlest rank until one of the two ranks is average, or none are
 * left. */
static enum status give(struct harmoeny *harmoeny, int32_t slot, int32_t busiest, int32_t idlest,
                        int64_t mean)
{
    enum status status = STATUS_OK;
    while (harmoeny->load[busiest] > mean && harmoeny->load[idlest] < mean &&
           harmoeny->slot_tokens[slot] > 0 && status == STATUS_OK) {
        struct run *run = biggest_sender(harmoeny, slot);
        int64_t room = mean - harmoeny->load[idlest];
        int32_t tokens = run->end - run->begin;
        tokens = tokens < room ? tokens : (int32_t)room;
        status = lend_shift(&harmoeny->lend,
                            (struct shift){run->begin, run->begin + tokens, slot, idlest});
        run->begin += tokens;
        harmoeny->slot_tokens[slot] -= tokens;
        harmoeny->load[busiest] -= tokens;
        harmoeny->load[idlest] += tokens;
    }
    return status;
}

static enum status schedule(struct harmoeny *harmoeny, const struct placement *placement)
{
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        harmoeny->load[rank] = harmoeny->lend.rank_tokens[rank];
    }
    int64_t mean = harmoeny->lend.num_kept / placement->num_ranks;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) { /* each turn makes a rank average or a slot empty */
        int32_t busiest = 0;
        int32_t idlest = 0;
        for (int32_t rank = 1; rank < placement->num_ranks; rank++) {
            busiest = harmoeny->load[rank] > harmoeny->load[busiest] ? rank : busiest;
            idlest = harmoeny->load[rank] < harmoeny->load[idlest] ? rank : idlest;
        }
        int32_t slot = largest_slot(harmoeny, placement, busiest);
        if (harmoeny->load[busiest] <= mean || harmoeny->load[idlest] + TOKENS_MIN > mean ||
            slot < 0 || harmoeny->slot_tokens[slot] < TOKENS_MIN) {
            break;
        }
        status = give(harmoeny, slot, busiest, idlest, mean);
    }
    return status;
}

static enum status assign_rescheduled(void *state, const struct dispatch_input *input,
                                      struct route *route)
{
    (void)state; /* each batch stands alone */
    struct harmoeny harmoeny;
    enum status status = lend_open(&harmoeny.lend, input, route);
    if (status != STATUS_OK) {
        return status;
    }
    struct arena *scratch = input->scratch;
    size_t slots = (size_t)input->placement->num_slots;
    size_t kept = (size_t)harmoeny.lend.num_kept;
    harmoeny.run = arena_take(scratch, kept, sizeof *harmoeny.run);
    harmoeny.run_begin = arena_take(scratch, slots + 1, sizeof(int32_t));
    harmoeny.slot_tokens = arena_take(scratch, slots, sizeof(int32_t));
    harmoeny.load = arena_take(scratch, (size_t)input->placement->num_ranks, sizeof(int64_t));
    if (harmoeny.run == NULL || harmoeny.run_begin == NULL || harmoeny.slot_tokens == NULL ||
        harmoeny.load == NULL) {
        return STATUS_NO_MEMORY;
    }
    list_runs(&harmoeny, input, route->top_k);
    status = schedule(&harmoeny, input->placement);
    return status == STATUS_OK ? lend_settle(&harmoeny.lend) : status;
}

const struct replica_dispatch dispatch_harmoeny = {
    .name = "harmoeny",
    .summary = "the busiest rank's largest expert goes to the idlest, weights are lent",
    .source = "sacs-epfl/HarMoEny @ 563b5a6, schedule_harmony",
    .lends = true,
    .assign = assign_rescheduled,
};
