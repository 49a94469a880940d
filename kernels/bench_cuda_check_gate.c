/* bench_cuda_check_gate.c -- the gate's rules, on logits that tie, overflow and are not numbers. */
#include "bench_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "moe_kernels.h"

/* Logits of a case: what the choice must get right. */
enum logits {
    LOGITS_NORMAL,
    LOGITS_TIES,    /* eight different values, both zeros */
    LOGITS_EXTREME, /* some infinite, some not numbers, the others of size 100 */
};

static const char *const logits_names[] = {"normal", "ties", "extreme"};

static const struct gate_model {
    const char *name;
    struct gate_rule rule;
    bool bias;
} models[] = {
    {"mixtral-8x7b", {GATE_SOFTMAX, 8, 2, true, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"qwen3-30b-a3b", {GATE_SOFTMAX, 128, 8, true, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"olmoe-1b-7b", {GATE_SOFTMAX, 64, 8, false, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"gpt-oss-20b", {GATE_CHOSEN_SOFTMAX, 32, 4, false, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"deepseek-v3", {GATE_SIGMOID, 256, 8, true, 8, 4, GATE_GROUP_TOP2, 2.5f}, true},
    {"deepseek-v2", {GATE_SOFTMAX, 160, 6, false, 8, 3, GATE_GROUP_MAX, 16.0f}, false},
    {"kimi-k2", {GATE_SIGMOID, 384, 8, true, 1, 1, GATE_GROUP_MAX, 2.827f}, true},
    {"llama-4-maverick", {GATE_CHOSEN_SIGMOID, 128, 1, false, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"softmax-256", {GATE_SOFTMAX, 256, 8, true, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"widest", {GATE_SOFTMAX, 1024, 16, true, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
    {"widest-sigmoid", {GATE_SIGMOID, 1024, 16, true, 32, 8, GATE_GROUP_TOP2, 1.0f}, true},
    {"odd", {GATE_SOFTMAX, 77, 3, false, 11, 4, GATE_GROUP_MAX, 1.0f}, false},
    {"many-groups", {GATE_SIGMOID, 120, 5, false, 60, 7, GATE_GROUP_TOP2, 1.0f}, true},
    {"one", {GATE_SOFTMAX, 1, 1, true, 1, 1, GATE_GROUP_MAX, 1.0f}, false},
};

#define NUM_MODELS (sizeof models / sizeof models[0])

struct gate_case {
    struct gate_rule rule;
    int32_t num_tokens;
    int32_t *expert;
    float *gate_weight;
    const float *logits;
    const float *bias;
};

static enum status launch_gate(void *context, int32_t version, int32_t input, cudaStream_t stream)
{
    const struct gate_case *gate = context;
    (void)input;
    return dev_gate_version(version, gate->rule, gate->num_tokens, gate->expert, gate->gate_weight,
                            gate->logits, gate->bias, stream);
}

static float one_logit(enum logits kind, uint64_t *state)
{
    uint64_t dice = bench_random(state);
    switch (kind) {
    case LOGITS_NORMAL:
        break;
    case LOGITS_TIES:
        return (dice & 1) != 0 ? (float)(dice >> 1 & 3) : -(float)(dice >> 1 & 3);
    case LOGITS_EXTREME:
        return dice % 13 == 0   ? -INFINITY
               : dice % 17 == 0 ? NAN
               : dice % 97 == 0 ? 100.0f
                                : 100.0f * bench_random_float(state);
    }
    return (float)bench_random_normal(state);
}

static enum status run_case(struct check *check, const struct gate_model *model, int32_t num_tokens,
                            enum logits kind)
{
    int64_t logit_count = (int64_t)num_tokens * model->rule.num_experts;
    int64_t choices = (int64_t)num_tokens * model->rule.top_k;
    struct dev_memory memory = {0};
    float *logits = malloc((size_t)(logit_count + 1) * sizeof *logits);
    float bias[GATE_EXPERTS_MAX];
    int32_t *expert = check_poison(CHECK_BITS, choices * 4);
    float *gate_weight = check_poison(CHECK_FP32, choices * 4);
    enum status status = STATUS_NO_MEMORY;
    if (logits == NULL || expert == NULL || gate_weight == NULL) {
        goto done;
    }
    uint64_t state = bench_random_seed(check->options->seed, (uint64_t)num_tokens * 4 + kind);
    for (int64_t i = 0; i < logit_count; i++) {
        logits[i] = one_logit(kind, &state);
    }
    for (int32_t i = 0; i < model->rule.num_experts; i++) {
        bias[i] = kind == LOGITS_TIES ? (float)(bench_random(&state) % 3) * 0.25f
                                      : 0.1f * bench_random_float(&state);
    }
    status =
        ref_gate(model->rule, num_tokens, expert, gate_weight, logits, model->bias ? bias : NULL);
    struct gate_case gate = {
        .rule = model->rule,
        .num_tokens = num_tokens,
        .expert = dev_alloc(&memory, choices * 4),
        .gate_weight = dev_alloc(&memory, choices * 4),
        .logits = dev_alloc_copy(&memory, logits, logit_count * 4),
        .bias = model->bias ? dev_alloc_copy(&memory, bias, model->rule.num_experts * 4) : NULL,
    };
    if (status == STATUS_OK && memory.failed) {
        status = STATUS_CUDA;
    }
    if (status == STATUS_OK) {
        struct bench_layer layer = {.gate = model->rule,
                                    .expert = {.num_experts = model->rule.num_experts}};
        snprintf(layer.name, sizeof layer.name, "%s", model->name);
        struct bench_row row = {.kernel = "gate",
                                .layer = &layer,
                                .num_tokens = num_tokens,
                                .routing = logits_names[kind]};
        struct check_output output[] = {
            {CHECK_BITS, gate.expert, expert, choices * 4, 0.0, "expert", model->rule.top_k * 4},
            {CHECK_FP32, gate.gate_weight, gate_weight, choices * 4, 1e-5, "gate_weight",
             model->rule.top_k * 4}};
        status = check_versions(check, &row, check_version_names, 1, DEV_GATE_VERSIONS,
                                (struct gpu_work){launch_gate, &gate}, output, 2);
    }
done:
    dev_memory_free(&memory);
    free(logits);
    free(expert);
    free(gate_weight);
    return status;
}

enum status check_gate(struct check *check)
{
    static const int32_t small_tokens[] = {1, 6};
    static const int32_t full_tokens[] = {1, 37, 8192};
    bool small = check->options->small;
    int32_t num_sizes = small ? 2 : 3;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < NUM_MODELS; i++) {
        for (int32_t size = 0; size < num_sizes; size++) {
            for (int kind = LOGITS_NORMAL; kind <= LOGITS_EXTREME; kind++) {
                int32_t tokens = small ? small_tokens[size] : full_tokens[size];
                char what[96];
                snprintf(what, sizeof what, "%s, %d tokens, %s logits", models[i].name, (int)tokens,
                         logits_names[kind]);
                if (check->options->dry_run) {
                    check_plan(check, "gate", what, DEV_GATE_VERSIONS);
                } else if (status == STATUS_OK && check_goes_on(check)) {
                    status = run_case(check, &models[i], tokens, (enum logits)kind);
                }
            }
        }
    }
    return status;
}
