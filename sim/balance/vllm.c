/*
 * vllm -- EPLB in fp64 that leaves an expert in its slot when it stays on its GPU.
 *
 * Source: vllm-project/vllm, vllm/distributed/eplb/policy/default.py @ 45232a4. Differs: equal
 * weights keep their order (NumPy's default sort promises none), a group's sum is exact, and a
 * shape that the hierarchical policy cannot serve gets the global one. Where the slots of a node or
 * the groups of a node are as many as the packs, each stays its own pack, as there. The engine
 * sends nothing for a renamed slot, so the answer costs what EPLB's costs; it differs in what has
 * to be copied inside a GPU.
 */
#include "balance/deal.h"

struct packing {
    int32_t num_nodes;
    int32_t num_groups;
};

/* work->item[num_items], ids ascending, to packs of equal size; answers pack by pack in fresh. */
static void pack(struct deal_work *work, int32_t num_items, int32_t num_packs)
{
    if (num_items == num_packs) {
        for (int32_t i = 0; i < num_items; i++) {
            work->fresh[i] = work->item[i].expert;
        }
        return;
    }
    deal_sort(work->item, num_items);
    deal_clear(work, num_packs);
    deal_to_lightest(work, num_items, num_packs, num_items / num_packs, false);
}

/* Lists experts node by node: groups dealt to nodes by their sums. */
static void order_by_node(struct deal_work *work, int32_t *expert, int32_t num_experts,
                          const struct packing *packing)
{
    int32_t group_size = num_experts / packing->num_groups;
    for (int32_t group = 0; group < packing->num_groups; group++) {
        double sum_tokens = 0.0;
        for (int32_t i = 0; i < group_size; i++) {
            sum_tokens += work->tokens[group * group_size + i];
        }
        work->item[group] = (struct deal_item){sum_tokens, group, group};
    }
    pack(work, packing->num_groups, packing->num_nodes);
    for (int32_t i = 0; i < num_experts; i++) {
        expert[i] = work->fresh[i / group_size] * group_size + i % group_size;
    }
}

/* The slots of one node in the order of replication: each expert once, then the spare ones. */
static void list_slots(struct deal_work *work, const double *tokens, int32_t num_experts,
                       int32_t num_slots)
{
    for (int32_t expert = 0; expert < num_experts; expert++) {
        work->replicas[expert] = 1;
        work->item[expert].expert = expert;
    }
    for (int32_t slot = num_experts; slot < num_slots; slot++) {
        int32_t hottest = 0;
        for (int32_t expert = 1; expert < num_experts; expert++) {
            if (tokens[expert] / work->replicas[expert] >
                tokens[hottest] / work->replicas[hottest]) {
                hottest = expert;
            }
        }
        work->item[slot].expert = hottest;
        work->replicas[hottest]++;
    }
    for (int32_t slot = 0; slot < num_slots; slot++) {
        int32_t expert = work->item[slot].expert;
        work->item[slot].id = slot;
        work->item[slot].tokens = tokens[expert] / work->replicas[expert];
    }
}

/*   expert  [num_experts]  scratch
 *   tokens  [num_experts]  scratch */
static void balance_layer(struct deal_work *work, const struct balance_input *input,
                          const struct packing *packing, int32_t *expert, double *tokens,
                          int32_t *map)
{
    int32_t node_experts = input->num_experts / packing->num_nodes;
    int32_t node_slots = input->num_slots / packing->num_nodes;
    int32_t node_ranks = input->num_ranks / packing->num_nodes;
    order_by_node(work, expert, input->num_experts, packing);
    for (int32_t node = 0; node < packing->num_nodes; node++) {
        const int32_t *of_node = expert + node * node_experts;
        for (int32_t i = 0; i < node_experts; i++) {
            tokens[i] = work->tokens[of_node[i]];
        }
        list_slots(work, tokens, node_experts, node_slots);
        pack(work, node_slots, node_ranks);
        for (int32_t slot = 0; slot < node_slots; slot++) {
            map[node * node_slots + slot] = of_node[work->fresh[slot]];
        }
    }
}

static enum status plan_vllm(void *state, const struct balance_input *input,
                             int32_t *expert_of_slot, struct error *error)
{
    (void)state; /* memoryless: each window stands alone */
    bool hierarchical = input->num_groups % input->num_nodes == 0 &&
                        input->num_experts % input->num_groups == 0 &&
                        input->num_ranks % input->num_nodes == 0;
    struct packing packing = {hierarchical ? input->num_nodes : 1,
                              hierarchical ? input->num_groups : 1};
    struct deal_work work;
    enum status status = deal_open(&work, "vllm", input, error);
    size_t experts = (size_t)input->num_experts;
    int32_t *expert = arena_alloc(input->scratch, experts, sizeof *expert);
    double *tokens = arena_alloc(input->scratch, experts, sizeof *tokens);
    if (status == STATUS_OK && (expert == NULL || tokens == NULL)) {
        status = error_add(error, STATUS_NO_MEMORY, "vllm: no memory");
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < input->num_layers; layer++) {
        int32_t *map = expert_of_slot + (int64_t)layer * input->num_slots;
        deal_load(&work, input, layer);
        balance_layer(&work, input, &packing, expert, tokens, map);
        deal_keep_places(&work, map, input->placement[layer].expert_of_slot, input->num_slots,
                         input->num_slots / input->num_ranks);
    }
    return status;
}

const struct balance_strategy balance_vllm = {
    .name = "vllm",
    .summary = "EPLB in fp64; an expert that stays on its GPU keeps its slot",
    .source = "vllm-project/vllm, distributed/eplb/policy/default.py @ 45232a4",
    .needs = BALANCE_NEEDS_WINDOW,
    .settles = true,
    .plan = plan_vllm,
};
