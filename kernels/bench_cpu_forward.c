/*
 * bench_cpu_forward.c -- moe-bench forward on the CPU: the layer, phase by phase.
 *
 * Other programs share a machine's cores, caches and memory with the measurement. So the samples of
 * all cases are taken in turn, a dense GEMM beside each, and the CSV has the smallest of them
 * beside the median: what the machine can do, and what it did.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_cpu_internal.h"
#include "bench_cpu_mpi.h"
#include "bench_routing.h"
#include "permute.h"

/* Routes the whole group's tokens, as every rank does, and keeps this rank's. */
static enum status make_case(struct bench *bench, struct forward_case *made, const char *routing,
                             int32_t num_tokens, struct error *error)
{
    const struct gate_rule *gate = &bench->shape.gate;
    int64_t ranks = cpu_num_ranks();
    int32_t first = (int32_t)((int64_t)num_tokens * cpu_rank() / ranks);
    int32_t end = (int32_t)((int64_t)num_tokens * (cpu_rank() + 1) / ranks);
    size_t choices = (size_t)num_tokens * (size_t)gate->top_k;
    size_t kinds = (size_t)bench->options->num_samples * SAMPLE_KINDS;
    *made = (struct forward_case){
        .routing = routing, .num_tokens = num_tokens, .local_tokens = end - first};
    made->expert = arena_take(&bench->arena, choices, sizeof *made->expert);
    made->gate_weight = arena_take(&bench->arena, choices, sizeof *made->gate_weight);
    made->num_rows = arena_alloc(&bench->arena, (size_t)gate->num_experts, sizeof *made->num_rows);
    made->sample_ns = arena_take(&bench->arena, kinds, sizeof *made->sample_ns);
    if (made->expert == NULL || made->gate_weight == NULL || made->num_rows == NULL ||
        made->sample_ns == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct bench_routing_request request = {.name = routing,
                                            .num_tokens = num_tokens,
                                            .num_experts = gate->num_experts,
                                            .top_k = gate->top_k,
                                            .sigma = bench->options->sigma,
                                            .seed = bench->options->seed};
    enum status status = bench_routing(request, made->expert, error);
    bench_gate_weights(num_tokens, gate->top_k, bench->options->seed, made->gate_weight);
    made->expert += (int64_t)first * gate->top_k;
    made->gate_weight += (int64_t)first * gate->top_k;
    return status;
}

static size_t last_cache_bytes(void)
{
    long bytes = -1;
#ifdef _SC_LEVEL3_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return bytes > 0 ? (size_t)bytes : (size_t)32 << 20;
}

static enum status make_bench(struct bench *bench, const struct bench_options *options,
                              struct error *error)
{
    *bench = (struct bench){.options = options, .shape = options->layer};
    bench->shape.dtype = DTYPE_FP32;
    int32_t tokens_max = 0;
    size_t num_cases = (size_t)options->num_tokens_count * (size_t)options->num_routings;
    bench->cases = arena_alloc(&bench->arena, num_cases, sizeof *bench->cases);
    enum status status = bench->cases == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (int32_t i = 0; i < (int32_t)num_cases && status == STATUS_OK; i++) {
        struct forward_case *made = &bench->cases[bench->num_cases++];
        status = make_case(bench, made, options->routing[i % options->num_routings],
                           options->num_tokens[i / options->num_routings], error);
        tokens_max = made->local_tokens > tokens_max ? made->local_tokens : tokens_max;
    }
    size_t row_bytes = (size_t)bench->shape.expert.hidden_dim * sizeof(float);
    size_t dense_bytes = (size_t)DENSE_DIM * DENSE_DIM * sizeof(float);
    bench->flush_bytes = 2 * last_cache_bytes();
    if (status == STATUS_OK) {
        bench->x = arena_take(&bench->arena, (size_t)tokens_max, row_bytes);
        bench->out = arena_take(&bench->arena, (size_t)tokens_max, row_bytes);
        bench->dense = arena_take(&bench->arena, 3, dense_bytes);
        bench->flush = arena_take(&bench->arena, 1, bench->flush_bytes);
        status =
            bench->x == NULL || bench->out == NULL || bench->dense == NULL || bench->flush == NULL
                ? STATUS_NO_MEMORY
                : cpu_layer_make(&bench->cpu, &bench->shape, cpu_threads(options), cpu_rank(),
                                 cpu_num_ranks(), options->seed);
    }
    if (status == STATUS_OK) {
        uint64_t state = bench_random_seed(options->seed, (uint64_t)cpu_rank());
        for (int64_t i = 0; i < (int64_t)tokens_max * bench->shape.expert.hidden_dim; i++) {
            bench->x[i] = bench_random_float(&state);
        }
        for (int64_t i = 0; i < (int64_t)2 * DENSE_DIM * DENSE_DIM; i++) {
            bench->dense[i] = bench_random_float(&state);
        }
    }
    return status;
}

static void free_bench(struct bench *bench)
{
    cpu_layer_free(&bench->cpu);
    arena_free(&bench->arena);
}

/* An exchange lasts from when the last rank has come to it until the last has left it. */
static double phase_s(const struct cpu_layer *cpu, int32_t phase)
{
    if (phase == CPU_DISPATCH || phase == CPU_RETURN) {
        /* Ranks of one host have one clock; of several, the step's barrier is where clocks meet. */
        bool one_clock = cpu_ranks_on_host() == cpu_num_ranks();
        double zero_s = one_clock ? cpu->begin_s : 0.0;
        return cpu_max(zero_s + cpu->end_s[phase]) - cpu_max(zero_s + cpu->end_s[phase - 1]);
    }
    return cpu->busy_end_s[phase] - (phase == 0 ? 0.0 : cpu->busy_end_s[phase - 1]);
}

/* The longest way through the step. phase_ns [CPU_PHASES] of this rank. */
static double layer_ns(const double *phase_ns)
{
    double before = phase_ns[CPU_GATE] + phase_ns[CPU_PERMUTE];
    double experts = phase_ns[CPU_GATE_UP] + phase_ns[CPU_DOWN];
    double after = phase_ns[CPU_SHARED] + phase_ns[CPU_COMBINE];
    if (cpu_num_ranks() == 1) {
        return before + experts + after;
    }
    return cpu_max(before) + cpu_max(phase_ns[CPU_DISPATCH]) + cpu_max(experts) +
           cpu_max(phase_ns[CPU_RETURN]) + cpu_max(after);
}

static enum status take_sample(struct bench *bench, struct forward_case *one)
{
    memset(bench->flush, one->num_samples, bench->flush_bytes);
    enum status status = cpu_forward(&bench->cpu, one->local_tokens, bench->out, one->expert,
                                     one->gate_weight, true, bench->x, one->num_rows);
    if (status != STATUS_OK) {
        return status;
    }
    double *sample_ns = &one->sample_ns[one->num_samples++ * SAMPLE_KINDS];
    for (int32_t phase = 0; phase < CPU_PHASES; phase++) {
        sample_ns[phase] = phase_s(&bench->cpu, phase) * 1e9;
    }
    sample_ns[SAMPLE_LAYER] = layer_ns(sample_ns);
    sample_ns[SAMPLE_WALL] = cpu_max(bench->cpu.end_s[CPU_COMBINE]) * 1e9;
    sample_ns[SAMPLE_DENSE] = cpu_dense_ns(bench->dense, bench->cpu.num_threads);
    return STATUS_OK;
}

static enum status take_samples(struct bench *bench)
{
    double start_s = bench_now_s();
    bool tell = cpu_rank() == 0 && isatty(STDERR_FILENO);
    enum status status = STATUS_OK;
    for (int32_t round = -1; round < bench->options->num_samples && status == STATUS_OK; round++) {
        double spent_s = cpu_max(bench_now_s() - start_s); /* all ranks stop at the same round */
        if (round > 0 && bench->options->budget_s > 0.0 && spent_s > bench->options->budget_s) {
            break;
        }
        if (tell) {
            fprintf(stderr, "\rmoe-bench: round %d of %d, %.0f s ", (int)round + 1,
                    (int)bench->options->num_samples, spent_s);
        }
        for (int32_t i = 0; i < bench->num_cases && status == STATUS_OK; i++) {
            status = take_sample(bench, &bench->cases[i]);
            /* The first round touches memory for the first time. */
            bench->cases[i].num_samples -= round < 0;
        }
    }
    if (tell) {
        fputs("\n", stderr);
    }
    return status;
}

static void list_cases(const struct bench_options *options)
{
    for (int32_t i = 0; i < options->num_tokens_count * options->num_routings; i++) {
        printf("forward %s fp32, %d tokens, %s, %d ranks, %d threads, %d samples\n",
               options->layer.name, (int)options->num_tokens[i / options->num_routings],
               options->routing[i % options->num_routings], (int)cpu_num_ranks(),
               (int)cpu_threads(options), (int)options->num_samples);
    }
}

int bench_cpu_forward(const struct bench_options *options, struct bench_csv *csv)
{
    int code = cpu_check_device(options);
    if (code != BENCH_OK) {
        return code;
    }
    if (options->dry_run) {
        list_cases(options);
        return BENCH_OK;
    }
    static struct error error; /* too large for the stack */
    struct bench bench;
    enum status status = make_bench(&bench, options, &error);
    if (status == STATUS_OK) {
        cpu_blas_threads(1);
        cpu_describe_machine(&csv->machine, bench.cpu.num_threads);
        status = take_samples(&bench);
    }
    for (int32_t i = 0; i < bench.num_cases && status == STATUS_OK; i++) {
        status = cpu_write_case(&bench, csv, &bench.cases[i]);
    }
    code = status == STATUS_OK ? BENCH_OK : cpu_fail(status, &error);
    free_bench(&bench);
    return code;
}
