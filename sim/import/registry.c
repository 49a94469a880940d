/* registry.c -- the formats that moesim trace import reads, one line each. */
#include "import/import.h"

#include <string.h>

/* clang-format off */
#define FORMATS(X)                                                                                 \
    X(sglang_routed_experts)                                                                       \
    X(vllm_routed_experts)                                                                         \
    X(megatron_router_trace)                                                                       \
    X(vllm_load_history)                                                                           \
    X(load_histogram)                                                                              \
    X(jsonl)                                                                                       \
    X(csv)                                                                                         \
    X(npy)                                                                                         \
    X(sglang_recorder)                                                                             \
    X(sglang_recorder_counts)                                                                      \
    X(trtllm_statistics)                                                                           \
    X(llama_imatrix)                                                                               \
    X(hf_router_logits)                                                                            \
    X(azure_arrivals)                                                                              \
    X(burstgpt_arrivals)                                                                           \
    X(mooncake_arrivals)                                                                           \
    X(arrivals)
/* clang-format on */

#define DECLARE(name) extern const struct import_format import_##name;
FORMATS(DECLARE)

#define LIST(name) &import_##name,
static const struct import_format *const all[] = {FORMATS(LIST)};

const struct import_format *const *import_formats(int32_t *count)
{
    *count = (int32_t)(sizeof all / sizeof all[0]);
    return all;
}

const struct import_format *import_format_find(const char *name)
{
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}
