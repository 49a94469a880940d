/*
 * eplb -- DeepSeek's load balancer: groups to nodes, spare slots to hot experts, slots to GPUs.
 *
 * Source: deepseek-ai/EPLB, eplb.py @ d52c72d. Loads, quotients and pack sums are fp32 as there,
 * and ties go to the first index, so placements are equal to the original's with a stable sort.
 * (Past 2^24 tokens a group's sum may round otherwise: torch does not fix its order of addition.)
 *
 * Faster in two ways. The order of non-negative floats is that of their bits, so a weight and an
 * index make one integer whose order is (weight, index): one comparison, no tie rule. And the
 * scans for the hottest expert and the lightest pack are heaps: O(log n) instead of O(n).
 */
#include "balance/eplb.h"

#include <assert.h>
#include <string.h>

#include "balance/balance.h"
#include "radix_sort.h"

/* All arrays that one layer needs; items are groups, then the slots of a node. */
struct work {
    float *weight;            /* [num_experts] load, experts in node order */
    int32_t *expert;          /* [num_experts] which expert that is */
    int32_t *replicas;        /* [num_experts] */
    int32_t *local_of_slot;   /* [num_slots] index into weight, before slots are packed */
    float *item_weight;       /* [num_slots] */
    int32_t *item_at;         /* [num_slots] which item stands at each place */
    uint64_t *key;            /* [num_slots] to sort, or a heap */
    uint64_t *key_swap;       /* [num_slots] */
    int32_t *items_in_pack;   /* [num_ranks] */
    uint64_t *lightest_packs; /* [num_ranks] heap */
};

/* Ascending keys are ascending weights, then ascending indices. */
static uint64_t light_key(float weight, int32_t index)
{
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    assert(bits >> 31 == 0);
    return (uint64_t)bits << 32 | (uint32_t)index;
}

/* Ascending keys are descending weights, then ascending indices. */
static uint64_t heavy_key(float weight, int32_t index)
{
    return light_key(weight, index) ^ UINT64_C(0xffffffff00000000);
}

static float light_key_weight(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float weight;
    memcpy(&weight, &bits, sizeof weight);
    return weight;
}

static int32_t key_index(uint64_t key)
{
    return (int32_t)(uint32_t)key;
}

/* Restores a min-heap whose root alone may be too large. */
static void sift_down(uint64_t *heap, int32_t count, int32_t root)
{
    uint64_t key = heap[root];
    int32_t hole = root;
    int32_t child;
    while ((child = 2 * hole + 1) < count) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (key <= heap[child]) {
            break;
        }
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = key;
}

/* balanced_packing: heaviest item first, each to the lightest pack that is not full. Packs take
 * num_items / num_packs items; item_at lists them pack by pack. */
static void pack_items(struct work *work, const float *item_weight, int32_t num_items,
                       int32_t num_packs)
{
    int32_t pack_size = num_items / num_packs;
    if (pack_size == 1) {
        for (int32_t item = 0; item < num_items; item++) {
            work->item_at[item] = item;
        }
        return;
    }
    for (int32_t item = 0; item < num_items; item++) {
        work->key[item] = heavy_key(item_weight[item], item);
    }
    const uint64_t *sorted = radix_sort(work->key, work->key_swap, num_items);
    for (int32_t pack = 0; pack < num_packs; pack++) {
        work->items_in_pack[pack] = 0;
        work->lightest_packs[pack] = light_key(0.0f, pack);
    }
    int32_t num_open = num_packs;
    for (int32_t i = 0; i < num_items; i++) {
        int32_t item = key_index(sorted[i]);
        uint64_t lightest = work->lightest_packs[0];
        int32_t pack = key_index(lightest);
        work->item_at[pack * pack_size + work->items_in_pack[pack]++] = item;
        if (work->items_in_pack[pack] < pack_size) {
            float sum = light_key_weight(lightest) + item_weight[item];
            work->lightest_packs[0] = light_key(sum, pack);
        } else {
            work->lightest_packs[0] = work->lightest_packs[--num_open];
        }
        sift_down(work->lightest_packs, num_open, 0);
    }
}

/* Step 1: groups to nodes; experts are renumbered so that those of a node stand together. */
static void order_experts_by_node(struct work *work, const int64_t *load_tokens,
                                  int32_t num_experts, int32_t num_groups, int32_t num_nodes)
{
    int32_t group_size = num_experts / num_groups;
    for (int32_t group = 0; group < num_groups; group++) {
        float sum = 0.0f;
        for (int32_t i = 0; i < group_size; i++) {
            sum += (float)load_tokens[group * group_size + i];
        }
        work->item_weight[group] = sum;
    }
    pack_items(work, work->item_weight, num_groups, num_nodes);
    for (int32_t place = 0; place < num_groups; place++) {
        for (int32_t i = 0; i < group_size; i++) {
            int32_t expert = work->item_at[place] * group_size + i;
            work->expert[place * group_size + i] = expert;
            work->weight[place * group_size + i] = (float)load_tokens[expert];
        }
    }
}

/* Step 2, replicate_experts: each spare slot of a node to its expert with the most load a replica.
 */
static void replicate(struct work *work, const float *weight, int32_t num_experts,
                      int32_t num_slots)
{
    uint64_t *heap = work->key;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        work->replicas[expert] = 1;
        work->local_of_slot[expert] = expert;
        heap[expert] = heavy_key(weight[expert], expert);
    }
    for (int32_t root = num_experts / 2 - 1; root >= 0; root--) {
        sift_down(heap, num_experts, root);
    }
    for (int32_t slot = num_experts; slot < num_slots; slot++) {
        int32_t hottest = key_index(heap[0]);
        work->local_of_slot[slot] = hottest;
        work->replicas[hottest]++;
        heap[0] = heavy_key(weight[hottest] / (float)work->replicas[hottest], hottest);
        sift_down(heap, num_experts, 0);
    }
}

static void balance_layer(struct work *work, int32_t *expert_of_slot, const int64_t *load_tokens,
                          const struct eplb_shape *shape)
{
    bool hierarchical = shape->num_groups % shape->num_nodes == 0;
    int32_t num_groups = hierarchical ? shape->num_groups : 1;
    int32_t num_nodes = hierarchical ? shape->num_nodes : 1;
    int32_t node_experts = shape->num_experts / num_nodes;
    int32_t node_slots = shape->num_slots / num_nodes;
    order_experts_by_node(work, load_tokens, shape->num_experts, num_groups, num_nodes);
    for (int32_t node = 0; node < num_nodes; node++) {
        const float *weight = work->weight + node * node_experts;
        const int32_t *expert = work->expert + node * node_experts;
        replicate(work, weight, node_experts, node_slots);
        for (int32_t slot = 0; slot < node_slots; slot++) {
            int32_t local = work->local_of_slot[slot];
            work->item_weight[slot] = weight[local] / (float)work->replicas[local];
        }
        /* Step 3: the slots of a node to its GPUs. */
        pack_items(work, work->item_weight, node_slots, shape->num_ranks / num_nodes);
        for (int32_t place = 0; place < node_slots; place++) {
            int32_t local = work->local_of_slot[work->item_at[place]];
            expert_of_slot[node * node_slots + place] = expert[local];
        }
    }
}

static enum status work_init(struct work *work, const struct eplb_shape *shape,
                             struct arena *scratch)
{
    size_t experts = (size_t)shape->num_experts;
    size_t slots = (size_t)shape->num_slots;
    size_t packs = (size_t)shape->num_ranks; /* nodes are never more */
    *work = (struct work){
        .weight = arena_alloc(scratch, experts, sizeof *work->weight),
        .expert = arena_alloc(scratch, experts, sizeof *work->expert),
        .replicas = arena_alloc(scratch, experts, sizeof *work->replicas),
        .local_of_slot = arena_alloc(scratch, slots, sizeof *work->local_of_slot),
        .item_weight = arena_alloc(scratch, slots, sizeof *work->item_weight),
        .item_at = arena_alloc(scratch, slots, sizeof *work->item_at),
        .key = arena_alloc(scratch, slots, sizeof *work->key),
        .key_swap = arena_alloc(scratch, slots, sizeof *work->key_swap),
        .items_in_pack = arena_alloc(scratch, packs, sizeof *work->items_in_pack),
        .lightest_packs = arena_alloc(scratch, packs, sizeof *work->lightest_packs),
    };
    bool complete = work->weight != NULL && work->expert != NULL && work->replicas != NULL &&
                    work->local_of_slot != NULL && work->item_weight != NULL &&
                    work->item_at != NULL && work->key != NULL && work->key_swap != NULL &&
                    work->items_in_pack != NULL && work->lightest_packs != NULL;
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status eplb_check(const struct eplb_shape *shape, struct error *error)
{
    assert(shape->num_experts >= 1 && shape->num_ranks >= 1);
    assert(shape->num_groups >= 1 && shape->num_nodes >= 1);
    enum status status = STATUS_OK;
    if (shape->num_slots < shape->num_experts || shape->num_slots % shape->num_ranks != 0) {
        status = error_add(error, STATUS_INVALID,
                           "eplb: %d slots for %d experts cannot be dealt evenly to %d ranks",
                           shape->num_slots, shape->num_experts, shape->num_ranks);
    }
    if (shape->num_groups % shape->num_nodes != 0) {
        return status; /* the global policy asks for no more */
    }
    if (shape->num_experts % shape->num_groups != 0) {
        status = error_add(error, STATUS_INVALID, "eplb: %d experts do not form %d equal groups",
                           shape->num_experts, shape->num_groups);
    }
    if (shape->num_ranks % shape->num_nodes != 0) {
        status = error_add(error, STATUS_INVALID, "eplb: %d ranks do not fill %d nodes evenly",
                           shape->num_ranks, shape->num_nodes);
    }
    return status;
}

enum status eplb_layer(int32_t *expert_of_slot, const int64_t *load_tokens,
                       const struct eplb_shape *shape, struct arena *scratch)
{
    assert(eplb_check(shape, NULL) == STATUS_OK);
    struct work work;
    enum status status = work_init(&work, shape, scratch);
    if (status == STATUS_OK) {
        balance_layer(&work, expert_of_slot, load_tokens, shape);
    }
    return status;
}

static enum status plan_all_layers(void *state, const struct balance_input *input,
                                   int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    assert(input->load_tokens != NULL);
    struct eplb_shape shape = {
        .num_experts = input->num_experts,
        .num_slots = input->num_slots,
        .num_groups = input->num_groups,
        .num_nodes = input->num_nodes,
        .num_ranks = input->num_ranks,
    };
    enum status status = eplb_check(&shape, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct work work;
    status = work_init(&work, &shape, input->scratch);
    if (status != STATUS_OK) {
        return error_add(error, status, "eplb: no memory for %d slots", shape.num_slots);
    }
    for (int64_t layer = 0; layer < input->num_layers; layer++) {
        balance_layer(&work, expert_of_slot + layer * shape.num_slots,
                      input->load_tokens + layer * shape.num_experts, &shape);
    }
    return STATUS_OK;
}

const struct balance_strategy balance_eplb = {
    .name = "eplb",
    .summary = "DeepSeek's EPLB: replicates hot experts, packs slots to GPUs",
    .source = "deepseek-ai/EPLB, eplb.py @ d52c72d",
    .needs = BALANCE_NEEDS_WINDOW,
    .settles = true,
    .plan = plan_all_layers,
};
