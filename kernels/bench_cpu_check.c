/*
 * bench_cpu_check.c -- moe-bench check on the CPU: layers of every kind against reference/.
 *
 * Each rank holds its own tokens against the reference layer with all experts. A digest of the
 * outputs of layers without shared experts is printed: it is the same for any number of ranks and
 * threads (cpu_forward.h).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_cpu_internal.h"
#include "bench_cpu_mpi.h"
#include "bench_routing.h"

/* float32 sums of a few hundred products, twice over. */
#define RELATIVE_ERROR_MAX 1e-5

/* Small, because the reference is slow; some odd, one beyond a task's columns and rows. */
static const struct check_case {
    struct bench_layer shape;
    int32_t num_tokens;
    const char *routing; /* NULL: what the gate chooses */
} cases[] = {
    {{.name = "mixtral",
      .expert = {8, 128, 96, ACTIVATION_SWIGLU},
      .gate = {.score = GATE_SOFTMAX, .top_k = 2, .renormalize = true}},
     70,
     NULL},
    {{.name = "deepseek-v3",
      .expert = {64, 160, 40, ACTIVATION_SWIGLU},
      .choice_bias = true,
      .shared_ffn_dim = 200,
      .gate = {.score = GATE_SIGMOID,
               .top_k = 8,
               .renormalize = true,
               .num_groups = 8,
               .topk_groups = 4,
               .group_score = GATE_GROUP_TOP2}},
     133,
     NULL},
    {{.name = "gpt-oss",
      .expert = {32, 90, 90, ACTIVATION_SWIGLU_CLAMPED},
      .biases = true,
      .gate = {.score = GATE_CHOSEN_SOFTMAX, .top_k = 4}},
     65,
     NULL},
    {{.name = "llama4",
      .expert = {16, 64, 72, ACTIVATION_SWIGLU},
      .weigh_input = true,
      .shared_ffn_dim = 960,
      .gate = {.score = GATE_CHOSEN_SIGMOID, .top_k = 1}},
     80,
     NULL},
    {{.name = "two-layer",
      .expert = {4, 33, 17, ACTIVATION_GELU},
      .gate = {.score = GATE_SOFTMAX, .top_k = 1}},
     29,
     NULL},
    {{.name = "wide",
      .expert = {2, 24, 1100, ACTIVATION_SWIGLU},
      .gate = {.score = GATE_SOFTMAX, .top_k = 1}},
     1100,
     "one"},
    {{.name = "1024-experts",
      .expert = {1024, 16, 8, ACTIVATION_SWIGLU},
      .gate = {.score = GATE_SOFTMAX, .top_k = 16}},
     100,
     "lognormal"},
    {{.name = "one-token",
      .expert = {8, 64, 64, ACTIVATION_SWIGLU},
      .gate = {.score = GATE_SOFTMAX, .top_k = 2}},
     1,
     "balanced"},
    {{.name = "no-token",
      .expert = {8, 64, 64, ACTIVATION_SWIGLU},
      .gate = {.score = GATE_SOFTMAX, .top_k = 2}},
     0,
     "balanced"},
};

struct check {
    struct bench_layer shape;
    int32_t tokens; /* of this rank */
    float *x;
    float *out;
    float *expected;
    int32_t *expert;
    float *gate_weight;
    struct arena arena;
};

static enum status fill_check(struct check *check, const struct check_case *from, uint64_t seed)
{
    int64_t ranks = cpu_num_ranks();
    int64_t first = from->num_tokens * (int64_t)cpu_rank() / ranks;
    *check = (struct check){.shape = from->shape};
    struct gate_rule *gate = &check->shape.gate;
    gate->num_experts = check->shape.expert.num_experts;
    gate->num_groups = gate->num_groups == 0 ? 1 : gate->num_groups;
    gate->topk_groups = gate->topk_groups == 0 ? 1 : gate->topk_groups;
    gate->scale = 1.5f;
    check->tokens = (int32_t)(from->num_tokens * (int64_t)(cpu_rank() + 1) / ranks - first);
    size_t hidden = (size_t)check->shape.expert.hidden_dim;
    size_t all = (size_t)from->num_tokens + 1;
    check->x = arena_take(&check->arena, all, hidden * sizeof *check->x);
    check->out = arena_take(&check->arena, all, hidden * sizeof *check->out);
    check->expected = arena_take(&check->arena, all, hidden * sizeof *check->expected);
    check->expert = arena_take(&check->arena, all, (size_t)gate->top_k * sizeof *check->expert);
    check->gate_weight =
        arena_take(&check->arena, all, (size_t)gate->top_k * sizeof *check->gate_weight);
    if (check->x == NULL || check->out == NULL || check->expected == NULL ||
        check->expert == NULL || check->gate_weight == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint64_t state = bench_random_seed(seed, 7);
    for (size_t i = 0; i < (size_t)from->num_tokens * hidden; i++) {
        check->x[i] = bench_random_float(&state);
    }
    memset(check->out, 0xff, all * hidden * sizeof *check->out); /* NaNs */
    check->x += (size_t)first * hidden;
    if (from->routing == NULL) {
        return STATUS_OK;
    }
    struct bench_routing_request request = {.name = from->routing,
                                            .num_tokens = from->num_tokens,
                                            .num_experts = gate->num_experts,
                                            .top_k = gate->top_k,
                                            .sigma = 1.0,
                                            .seed = seed};
    enum status status = bench_routing(request, check->expert, NULL);
    bench_gate_weights(from->num_tokens, gate->top_k, seed, check->gate_weight);
    check->expert += first * gate->top_k;
    check->gate_weight += first * gate->top_k;
    return status;
}

static enum status run_reference(struct check *check, bool given, uint64_t seed)
{
    struct cpu_layer whole;
    enum status status = cpu_layer_make(&whole, &check->shape, 1, 0, 1, seed);
    if (status != STATUS_OK) {
        return status;
    }
    struct matrix x = {.dtype = DTYPE_FP32, .data = check->x};
    struct matrix out = {.dtype = DTYPE_FP32, .data = check->expected};
    status = given ? ref_forward_routed(&whole.layer, check->tokens, out, check->expert,
                                        check->gate_weight, x, &whole.scratch)
                   : ref_forward(&whole.layer, check->tokens, out, check->expert,
                                 check->gate_weight, x, &whole.scratch);
    cpu_layer_free(&whole);
    return status;
}

/* Frobenius norm of the difference over that of the reference. */
static double relative_error(const struct check *check)
{
    double difference = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < (int64_t)check->tokens * check->shape.expert.hidden_dim; i++) {
        double here = (double)check->out[i] - (double)check->expected[i];
        difference += here * here;
        norm += (double)check->expected[i] * (double)check->expected[i];
    }
    return difference == 0.0 ? 0.0 : sqrt(difference / norm);
}

/* FNV-1a over the bits of all ranks' outputs, in the order of tokens. */
static enum status add_digest(uint64_t *digest, struct check *check, int32_t num_tokens)
{
    int32_t hidden = check->shape.expert.hidden_dim;
    size_t elements = (size_t)num_tokens * (size_t)hidden;
    float *all = arena_take(&check->arena, elements, sizeof *all);
    if (all == NULL) {
        return STATUS_NO_MEMORY;
    }
    cpu_gather_floats(check->out, check->tokens * hidden, all);
    for (size_t i = 0; i < elements && cpu_rank() == 0; i++) {
        uint32_t bits;
        memcpy(&bits, &all[i], sizeof bits);
        *digest = (*digest ^ bits) * UINT64_C(0x100000001b3);
    }
    return STATUS_OK;
}

/* 1: differs, 0: equal, by status. */
static enum status check_one(const struct bench_options *options, struct bench_csv *csv,
                             const struct check_case *from, uint64_t *digest, bool *differs)
{
    struct check check;
    struct cpu_layer cpu = {0};
    bool given = from->routing != NULL;
    enum status status = fill_check(&check, from, options->seed);
    if (status == STATUS_OK) {
        status = cpu_layer_make(&cpu, &check.shape, cpu_threads(options), cpu_rank(),
                                cpu_num_ranks(), options->seed);
    }
    if (status == STATUS_OK) {
        int32_t num_rows[GATE_EXPERTS_MAX];
        status = cpu_forward(&cpu, check.tokens, check.out, check.expert, check.gate_weight, given,
                             check.x, num_rows);
    }
    if (status == STATUS_OK) {
        status = from->shape.shared_ffn_dim > 0 ? STATUS_OK
                                                : add_digest(digest, &check, from->num_tokens);
    }
    if (status == STATUS_OK) {
        status = run_reference(&check, given, options->seed);
    }
    if (status == STATUS_OK) {
        double error = relative_error(&check);
        error = cpu_max(isnan(error) ? HUGE_VAL : error);
        *differs |= error > RELATIVE_ERROR_MAX;
        struct bench_row row = {.command = "check",
                                .kernel = "layer",
                                .version = "cpu",
                                .layer = &check.shape,
                                .num_tokens = from->num_tokens,
                                .routing = given ? from->routing : "gate",
                                .relative_error = error,
                                .status = error > RELATIVE_ERROR_MAX ? "differs" : "ok"};
        status = cpu_rank() == 0 ? bench_csv_row(csv, &row) : STATUS_OK;
    }
    cpu_layer_free(&cpu);
    arena_free(&check.arena);
    return status;
}

int bench_cpu_check(const struct bench_options *options, struct bench_csv *csv)
{
    int code = cpu_check_device(options);
    if (code != BENCH_OK || options->dry_run) {
        return code;
    }
    static struct error error;
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    bool differs = false;
    enum status status = STATUS_OK;
    cpu_blas_threads(1);
    cpu_describe_machine(&csv->machine, cpu_threads(options));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0] && status == STATUS_OK; i++) {
        status = check_one(options, csv, &cases[i], &digest, &differs);
    }
    if (status == STATUS_OK && cpu_rank() == 0) {
        fprintf(csv->table, "digest of routed outputs %016llx (%d ranks, %d threads)\n",
                (unsigned long long)digest, (int)cpu_num_ranks(), (int)cpu_threads(options));
    }
    return status != STATUS_OK ? cpu_fail(status, &error) : differs ? BENCH_FAILED : BENCH_OK;
}
