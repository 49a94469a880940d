/*
 * swift -- change little: other spare copies, then a few exchanges with the busiest rank.
 *
 * Source: vllm-project/vllm-ascend, eplb/core/policy/policy_swift_balancer.py @ 182b75e, with
 * is_node_redundant off. An expert's first copy stays (first by place in the rank, then by rank);
 * only the spare slots are given out anew, each rank sending at most one expert to each other rank;
 * then up to 100 exchanges between the busiest and the idlest rank that will do, each worth 1 % of
 * the mean at least. Layers with max / mean below 1.01 are left alone; so is everything unless the
 * sum over layers of the busiest rank falls below 0.95 of what it is. As there, an expert given its
 * n-th spare copy is taken to weigh 2 / (n + 2) of its load a copy (an even share is 1 / (n + 1)),
 * and loads are fp32. Differs: mean and threshold are each layer's own (there layer 0's); exchanges
 * worth the same go to the lowest experts (there a set's order); newcomers of a rank stand in the
 * order in which they came (there a set's); a layer whose slots cannot be filled without doubles
 * keeps its placement.
 */
#include "balance/deal.h"

#include <string.h>

#define IMBALANCE_MIN 1.01
#define SWAP_GAIN_MIN 0.01 /* of the mean rank */
#define SWAPS_MAX     100
#define GAIN_ENOUGH   0.95
#define EMPTY         (-1)

struct swift {
    struct deal_work work;
    int32_t num_ranks, num_experts, slots_per_rank;
    double *current;   /* [num_experts] tokens a copy, while spare copies are chosen */
    float *weight;     /* [num_experts] tokens a copy */
    float *rank_load;  /* [num_ranks] */
    int32_t *spare;    /* [num_experts] spare copies wanted, then copies placed */
    int32_t *home;     /* [num_experts] rank of the first copy */
    uint8_t *is_spare; /* [num_slots] not yet given out */
    uint8_t *sent;     /* [num_ranks][num_ranks] by sender, receiver */
    uint8_t *received; /* [num_ranks][num_experts] came in this change */
};

static bool holds(const struct swift *swift, int32_t rank, int32_t expert)
{
    return deal_holds(swift->work.fresh + rank * swift->slots_per_rank, swift->slots_per_rank,
                      expert);
}

/* Keeps first copies in fresh, empties the spare slots. Returns how many there are. */
static int32_t find_spare_slots(struct swift *swift, const int32_t *in_force)
{
    int32_t num_spare = 0;
    int32_t *fresh = swift->work.fresh;
    memset(swift->home, 0xff, (size_t)swift->num_experts * sizeof *swift->home);
    for (int32_t place = 0; place < swift->slots_per_rank; place++) {
        for (int32_t rank = 0; rank < swift->num_ranks; rank++) {
            int32_t slot = rank * swift->slots_per_rank + place;
            int32_t expert = in_force[slot];
            bool first = swift->home[expert] < 0;
            swift->home[expert] = first ? rank : swift->home[expert];
            fresh[slot] = first ? expert : EMPTY;
            swift->is_spare[slot] = !first;
            num_spare += !first;
        }
    }
    return num_spare;
}

/* The hottest expert that may have one more copy; of equals, the last. -1: none. */
static int32_t hottest_expert(const struct swift *swift)
{
    int32_t hottest = -1;
    for (int32_t expert = 0; expert < swift->num_experts; expert++) {
        if (swift->spare[expert] + 1 < swift->num_ranks &&
            (hottest < 0 || swift->current[expert] >= swift->current[hottest])) {
            hottest = expert;
        }
    }
    return hottest;
}

static void choose_spare_copies(struct swift *swift, int32_t num_spare)
{
    for (int32_t expert = 0; expert < swift->num_experts; expert++) {
        swift->current[expert] = swift->work.tokens[expert];
        swift->spare[expert] = 0;
    }
    for (int32_t i = 0; i < num_spare; i++) {
        int32_t expert = hottest_expert(swift);
        if (expert >= 0) {
            double copies = ++swift->spare[expert];
            swift->current[expert] = swift->current[expert] * (copies + 1.0) / (copies + 2.0);
        }
    }
    for (int32_t expert = 0; expert < swift->num_experts; expert++) {
        swift->weight[expert] = (float)swift->current[expert];
    }
}

static void add_rank_loads(struct swift *swift)
{
    for (int32_t rank = 0; rank < swift->num_ranks; rank++) {
        swift->rank_load[rank] = 0.0f;
        for (int32_t place = 0; place < swift->slots_per_rank; place++) {
            int32_t expert = swift->work.fresh[rank * swift->slots_per_rank + place];
            swift->rank_load[rank] += expert == EMPTY ? 0.0f : swift->weight[expert];
        }
    }
}

/* The rank's last open spare slot, or -1. */
static int32_t last_spare_slot(const struct swift *swift, int32_t rank)
{
    int32_t first = rank * swift->slots_per_rank;
    int32_t slot = first + swift->slots_per_rank - 1;
    while (slot >= first && !swift->is_spare[slot]) {
        slot--;
    }
    return slot >= first ? slot : -1;
}

static void receive(struct swift *swift, int32_t slot, int32_t expert)
{
    int32_t rank = slot / swift->slots_per_rank;
    swift->work.fresh[slot] = expert;
    swift->is_spare[slot] = 0;
    uint8_t *sent = &swift->sent[swift->home[expert] * swift->num_ranks + rank];
    *sent = *sent < 2 ? *sent + 1 : 2;
    swift->received[rank * swift->num_experts + expert] = 1;
}

/* Heaviest spare copy first, each to the lightest rank that may receive it. */
static void deal_spare_copies(struct swift *swift)
{
    int32_t count = 0;
    for (int32_t expert = 0; expert < swift->num_experts; expert++) {
        for (int32_t copy = 0; copy < swift->spare[expert]; copy++) {
            swift->work.item[count] =
                (struct deal_item){(double)swift->weight[expert], count, expert};
            count++;
        }
    }
    deal_sort(swift->work.item, count);
    for (int32_t i = 0; i < count; i++) {
        int32_t expert = swift->work.item[i].expert;
        const uint8_t *sent = &swift->sent[swift->home[expert] * swift->num_ranks];
        int32_t lightest = -1;
        for (int32_t rank = 0; rank < swift->num_ranks; rank++) {
            bool lighter = lightest < 0 || swift->rank_load[rank] < swift->rank_load[lightest];
            if (lighter && sent[rank] == 0 && last_spare_slot(swift, rank) >= 0 &&
                !holds(swift, rank, expert)) {
                lightest = rank;
            }
        }
        if (lightest >= 0) {
            swift->rank_load[lightest] += swift->weight[expert];
            receive(swift, last_spare_slot(swift, lightest), expert);
        }
    }
}

/* Gives slots that are still open the hottest expert that their rank does not hold. Returns false
 * when there is none. */
static bool fill_open_slots(struct swift *swift)
{
    int32_t *copies = swift->spare;
    int32_t num_slots = swift->num_ranks * swift->slots_per_rank;
    bool any = false;
    memset(copies, 0, (size_t)swift->num_experts * sizeof *copies);
    for (int32_t slot = 0; slot < num_slots; slot++) {
        any = any || swift->is_spare[slot];
        if (!swift->is_spare[slot]) {
            copies[swift->work.fresh[slot]]++;
        }
    }
    if (!any) {
        return true;
    }
    for (int32_t expert = 0; expert < swift->num_experts; expert++) {
        swift->weight[expert] = (float)(swift->work.tokens[expert] / copies[expert]);
    }
    for (int32_t slot = 0; slot < num_slots; slot++) {
        int32_t rank = slot / swift->slots_per_rank;
        int32_t hottest = -1;
        for (int32_t expert = 0; swift->is_spare[slot] && expert < swift->num_experts; expert++) {
            if ((hottest < 0 || swift->weight[expert] >= swift->weight[hottest]) &&
                !holds(swift, rank, expert)) {
                hottest = expert;
            }
        }
        if (swift->is_spare[slot] && hottest < 0) {
            return false;
        }
        if (hottest >= 0) {
            receive(swift, slot, hottest);
            double before = copies[hottest]++;
            swift->weight[hottest] =
                (float)((double)swift->weight[hottest] * (before / (before + 1.0)));
        }
    }
    add_rank_loads(swift);
    return true;
}

/* An exchange of two slots, and what the busier of the two ranks has left to do. */
struct exchange {
    int32_t hot_slot;
    int32_t cold_slot;
    double max_load;
};

static void try_exchange(const struct swift *swift, struct exchange *best, int32_t hot_slot,
                         int32_t cold_slot)
{
    int32_t hot_rank = hot_slot / swift->slots_per_rank;
    int32_t cold_rank = cold_slot / swift->slots_per_rank;
    const int32_t *fresh = swift->work.fresh;
    double hot = (double)swift->weight[fresh[hot_slot]];
    double cold = (double)swift->weight[fresh[cold_slot]];
    double hot_load = (double)swift->rank_load[hot_rank] - hot + cold;
    double cold_load = (double)swift->rank_load[cold_rank] - cold + hot;
    double max_load = hot_load > cold_load ? hot_load : cold_load;
    bool first =
        max_load == best->max_load && best->hot_slot >= 0 &&
        (fresh[hot_slot] < fresh[best->hot_slot] ||
         (fresh[hot_slot] == fresh[best->hot_slot] && fresh[cold_slot] < fresh[best->cold_slot]));
    if (max_load < best->max_load || first) {
        *best = (struct exchange){hot_slot, cold_slot, max_load};
    }
}

static struct exchange best_exchange(const struct swift *swift, int32_t hot_rank, int32_t cold_rank)
{
    const int32_t *fresh = swift->work.fresh;
    struct exchange best = {-1, -1, (double)swift->rank_load[hot_rank]};
    for (int32_t i = 0; i < swift->slots_per_rank; i++) {
        int32_t hot_slot = hot_rank * swift->slots_per_rank + i;
        if (swift->received[hot_rank * swift->num_experts + fresh[hot_slot]] ||
            holds(swift, cold_rank, fresh[hot_slot])) {
            continue;
        }
        for (int32_t j = 0; j < swift->slots_per_rank; j++) {
            int32_t cold_slot = cold_rank * swift->slots_per_rank + j;
            if (!swift->received[cold_rank * swift->num_experts + fresh[cold_slot]] &&
                !holds(swift, hot_rank, fresh[cold_slot])) {
                try_exchange(swift, &best, hot_slot, cold_slot);
            }
        }
    }
    return best;
}

static void make_exchange(struct swift *swift, const struct exchange *exchange)
{
    int32_t hot_rank = exchange->hot_slot / swift->slots_per_rank;
    int32_t cold_rank = exchange->cold_slot / swift->slots_per_rank;
    int32_t *fresh = swift->work.fresh;
    int32_t hot = fresh[exchange->hot_slot];
    int32_t cold = fresh[exchange->cold_slot];
    fresh[exchange->hot_slot] = cold;
    fresh[exchange->cold_slot] = hot;
    swift->rank_load[hot_rank] += swift->weight[cold] - swift->weight[hot];
    swift->rank_load[cold_rank] += swift->weight[hot] - swift->weight[cold];
    swift->received[hot_rank * swift->num_experts + cold] = 1;
    swift->received[cold_rank * swift->num_experts + hot] = 1;
    swift->sent[hot_rank * swift->num_ranks + cold_rank] = 1;
    swift->sent[cold_rank * swift->num_ranks + hot_rank] = 1;
}

/* One exchange of the busiest rank with the idlest that will do. False: there is none. */
static bool exchange_once(struct swift *swift, double gain_min)
{
    struct deal_item *order = swift->work.item; /* ranks, the busiest first; of equals the last */
    int32_t num_ranks = swift->num_ranks;
    for (int32_t i = 0; i < num_ranks; i++) {
        int32_t rank = num_ranks - 1 - i;
        order[i] = (struct deal_item){(double)swift->rank_load[rank], i, rank};
    }
    deal_sort(order, num_ranks);
    int32_t hot_rank = order[0].expert;
    for (int32_t i = num_ranks - 1; i > 0; i--) {
        int32_t cold_rank = order[i].expert;
        if (swift->sent[cold_rank * num_ranks + hot_rank] != 0 ||
            swift->sent[hot_rank * num_ranks + cold_rank] != 0) {
            continue;
        }
        struct exchange best = best_exchange(swift, hot_rank, cold_rank);
        if (best.hot_slot >= 0 && (double)swift->rank_load[hot_rank] - best.max_load >= gain_min) {
            make_exchange(swift, &best);
            return true;
        }
    }
    return false;
}

static double busiest_load(const struct swift *swift)
{
    float busiest = 0.0f;
    for (int32_t rank = 0; rank < swift->num_ranks; rank++) {
        busiest = swift->rank_load[rank] > busiest ? swift->rank_load[rank] : busiest;
    }
    return (double)busiest;
}

/* Leaves the new layer in fresh; returns the load of its busiest rank, or -1: leave it alone. */
static double plan_layer(struct swift *swift, const int32_t *in_force, double mean_tokens)
{
    size_t ranks = (size_t)swift->num_ranks;
    memset(swift->sent, 0, ranks * ranks);
    memset(swift->received, 0, ranks * (size_t)swift->num_experts);
    int32_t num_spare = find_spare_slots(swift, in_force);
    choose_spare_copies(swift, num_spare);
    add_rank_loads(swift);
    deal_spare_copies(swift);
    if (!fill_open_slots(swift)) {
        return -1.0;
    }
    for (int32_t swaps = 0; swaps < SWAPS_MAX; swaps++) {
        if (!exchange_once(swift, SWAP_GAIN_MIN * mean_tokens)) {
            break;
        }
    }
    return busiest_load(swift);
}

static enum status swift_open(struct swift *swift, const struct balance_input *input,
                              struct error *error)
{
    enum status status = deal_open(&swift->work, "swift", input, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct arena *arena = input->scratch;
    size_t ranks = (size_t)input->num_ranks;
    size_t experts = (size_t)input->num_experts;
    swift->num_ranks = input->num_ranks;
    swift->num_experts = input->num_experts;
    swift->slots_per_rank = input->num_slots / input->num_ranks;
    swift->current = arena_alloc(arena, experts, sizeof *swift->current);
    swift->weight = arena_alloc(arena, experts, sizeof *swift->weight);
    swift->rank_load = arena_alloc(arena, ranks, sizeof *swift->rank_load);
    swift->spare = arena_alloc(arena, experts, sizeof *swift->spare);
    swift->home = arena_alloc(arena, experts, sizeof *swift->home);
    swift->is_spare = arena_alloc(arena, (size_t)input->num_slots, 1);
    swift->sent = arena_alloc(arena, ranks, ranks);
    swift->received = arena_alloc(arena, ranks, experts);
    bool complete = swift->current != NULL && swift->weight != NULL && swift->rank_load != NULL &&
                    swift->spare != NULL && swift->home != NULL && swift->is_spare != NULL &&
                    swift->sent != NULL && swift->received != NULL;
    return complete ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "swift: no memory");
}

static enum status plan_swift(void *state, const struct balance_input *input,
                              int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    struct swift swift = {0};
    size_t slots = (size_t)input->num_layers * (size_t)input->num_slots;
    enum status status = swift_open(&swift, input, error);
    int32_t *answer = arena_alloc(input->scratch, slots, sizeof *answer);
    if (status == STATUS_OK && answer == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "swift: no memory for %zu slots", slots);
    }
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(answer, expert_of_slot, slots * sizeof *answer);
    double before_sum = 0.0, after_sum = 0.0;
    for (int32_t layer = 0; layer < input->num_layers; layer++) {
        const int32_t *in_force = input->placement[layer].expert_of_slot;
        deal_load(&swift.work, input, layer);
        double before = deal_busiest(&swift.work, input, in_force);
        double mean = 0.0;
        for (int32_t rank = 0; rank < input->num_ranks; rank++) {
            mean += swift.work.rank_tokens[rank] / input->num_ranks;
        }
        double after = before;
        if (before >= IMBALANCE_MIN * mean && mean > 0.0) {
            double planned = plan_layer(&swift, in_force, mean);
            after = planned < 0.0 ? before : planned;
            if (planned >= 0.0 && planned < before) {
                deal_keep_places(&swift.work, swift.work.fresh, in_force, input->num_slots,
                                 swift.slots_per_rank);
                deal_copy(answer, &swift.work, input, layer);
            }
        }
        before_sum += before;
        after_sum += after;
    }
    if (after_sum < GAIN_ENOUGH * before_sum) {
        memcpy(expert_of_slot, answer, slots * sizeof *answer);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_swift = {
    .name = "swift",
    .summary = "other spare copies, then exchanges with the busiest rank; changes little",
    .source = "vllm-project/vllm-ascend, eplb/core/policy/policy_swift_balancer.py @ 182b75e",
    .needs = BALANCE_NEEDS_WINDOW,
    .keeps_balanced = true,
    .plan = plan_swift,
};
