/*
 * fuzz_placement.c -- any text as a placement of an engine: refused, or one expert in every slot
 * and a slot for every expert.
 *
 * The model has 4 layers of 4 experts, of which the first is dense; 6 slots on 2 ranks.
 */
#include "input.h"
#include "placement_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    static const struct moe_model model = {.name = "tiny",
                                           .num_layers = 4,
                                           .first_dense_layers = 1,
                                           .moe_layer_step = 1,
                                           .num_experts = 4,
                                           .top_k = 2};
    const struct place_options options = {.strategy = balance_find("eplb"),
                                          .num_slots = 6,
                                          .num_ranks = 2,
                                          .num_nodes = 1,
                                          .num_groups = 1};
    struct arena arena = {0};
    int32_t *expert_of_slot = NULL;
    error.num_problems = 0;
    error.text_bytes = 0;
    const char *path = input_write("placement.json", data, bytes);
    enum status status =
        placement_file_of_model(&expert_of_slot, path, &model, &options, &arena, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < 3; layer++) {
        unsigned held = 0;
        for (int32_t slot = 0; slot < 6; slot++) {
            int32_t expert = expert_of_slot[layer * 6 + slot];
            if (expert < 0 || expert >= 4) {
                __builtin_trap();
            }
            held |= 1U << expert;
        }
        if (held != 0xf) {
            __builtin_trap();
        }
    }
    arena_free(&arena);
    return 0;
}
