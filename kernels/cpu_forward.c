/* cpu_forward.c -- the phases of a step, one after the other. */
#include "cpu_forward.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "bench_cpu_mpi.h"
#include "combine.h"
#include "expert_parallel.h"
#include "permute.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define WIDE_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE_VECTORS
#endif

/* logits [count][num_experts] = x [count][hidden_dim] router_columns [hidden_dim][num_experts],
 * each sum in the order of hidden_dim: a token's logits, and so its experts, are the same wherever
 * in a batch it stands, which a BLAS does not promise. Four tokens at a time share what is read. */
WIDE_VECTORS
static void router_logits(int32_t count, int32_t num_experts, int32_t hidden_dim, float *logits,
                          const float *x, const float *router_columns, const float *bias)
{
    for (int32_t token = 0; token < count; token++) {
        for (int32_t expert = 0; expert < num_experts; expert++) {
            logits[token * num_experts + expert] = bias == NULL ? 0.0f : bias[expert];
        }
    }
    for (int32_t first = 0; first < count; first += 4) {
        int32_t end = first + 4 < count ? first + 4 : count;
        for (int64_t h = 0; h < hidden_dim; h++) {
            const float *column = &router_columns[h * num_experts];
            for (int32_t token = first; token < end; token++) {
                float value = x[token * (int64_t)hidden_dim + h];
                float *sum = &logits[token * num_experts];
#pragma omp simd
                for (int32_t expert = 0; expert < num_experts; expert++) {
                    sum[expert] += value * column[expert];
                }
            }
        }
    }
}

static enum status run_gate(struct cpu_layer *cpu, int32_t num_tokens, int32_t *expert,
                            float *gate_weight, const float *x)
{
    int32_t top_k = cpu->layer.gate.top_k;
    enum status status = STATUS_OK;
#pragma omp parallel for schedule(static) num_threads(cpu->num_threads)
    for (int32_t first = 0; first < num_tokens; first += CPU_GATE_TOKENS) {
        int32_t left = num_tokens - first;
        int64_t thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        const struct moe_layer *layer = &cpu->layer;
        int32_t count = left < CPU_GATE_TOKENS ? left : CPU_GATE_TOKENS;
        float *logits = cpu->thread_work + thread * cpu->thread_floats;
        router_logits(count, cpu->num_experts, layer->expert.hidden_dim, logits,
                      &x[(int64_t)first * layer->expert.hidden_dim], cpu->router_columns,
                      layer->router_bias);
        enum status mine =
            ref_gate(layer->gate, count, &expert[(int64_t)first * top_k],
                     &gate_weight[(int64_t)first * top_k], logits, layer->choice_bias);
        if (mine != STATUS_OK) {
#pragma omp critical
            status = mine;
        }
    }
    return status;
}

/* out[to[i]] = in[from[i]], rows of hidden_dim; to or from NULL: i itself; padding rows: zeros. */
static void move_rows(const struct cpu_layer *cpu, int32_t count, float *out, const int32_t *to,
                      const float *in, const int32_t *from, const float *weight)
{
    int64_t hidden_dim = cpu->layer.expert.hidden_dim;
#pragma omp parallel for schedule(static) num_threads(cpu->num_threads)
    for (int32_t i = 0; i < count; i++) {
        float *target = &out[(to == NULL ? i : to[i]) * hidden_dim];
        int64_t source_row = from == NULL ? i : from[i];
        const float *source = source_row == ROW_PADDING ? NULL : &in[source_row * hidden_dim];
        if (source_row == ROW_PADDING) {
            memset(target, 0, (size_t)hidden_dim * sizeof *target);
        } else if (weight == NULL) {
            memcpy(target, source, (size_t)hidden_dim * sizeof *target);
        } else {
            for (int64_t h = 0; h < hidden_dim; h++) {
                target[h] = source[h] * weight[i];
            }
        }
    }
}

/* Rows as they lie on one side: this rank's tokens by expert of the group, or its experts' rows. */
struct rows {
    int32_t count;
    int32_t *num_rows;  /* [experts] */
    int32_t *row_begin; /* [experts + 1] */
    float *x;           /* [count][hidden_dim] */
    float *y;
};

static bool take_rows(struct cpu_layer *cpu, struct rows *rows, int32_t experts, int64_t count)
{
    size_t row_bytes = (size_t)cpu->layer.expert.hidden_dim * sizeof(float);
    rows->num_rows = arena_take(&cpu->scratch, (size_t)experts, sizeof *rows->num_rows);
    rows->row_begin = arena_take(&cpu->scratch, (size_t)experts + 1, sizeof *rows->row_begin);
    rows->x = arena_take(&cpu->scratch, (size_t)count, row_bytes);
    rows->y = arena_take(&cpu->scratch, (size_t)count, row_bytes);
    return rows->num_rows != NULL && rows->row_begin != NULL && rows->x != NULL && rows->y != NULL;
}

static enum status run_permute(struct cpu_layer *cpu, int32_t num_tokens, struct rows *own,
                               int32_t *row_of, const int32_t *expert, const float *gate_weight,
                               const float *x)
{
    /* On one rank these rows are the experts' already. */
    struct permute_shape shape = {num_tokens, cpu->layer.gate.top_k, cpu->num_experts,
                                  cpu->num_ranks == 1 ? CPU_ROW_ALIGN : 1};
    size_t choices = (size_t)num_tokens * (size_t)shape.top_k;
    size_t rows_max = (size_t)permute_rows_max(shape);
    int32_t *token_of = arena_take(&cpu->scratch, rows_max, sizeof *token_of);
    float *row_weight = arena_take(&cpu->scratch, rows_max, sizeof *row_weight);
    if (!take_rows(cpu, own, cpu->num_experts, (int64_t)rows_max) || token_of == NULL ||
        row_weight == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status =
        ref_permute(shape, own->num_rows, own->row_begin, row_of, token_of, expert);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; cpu->layer.weigh_input && i < choices; i++) {
        if (row_of[i] != ROW_DROPPED) {
            row_weight[row_of[i]] = gate_weight[i];
        }
    }
    own->count = own->row_begin[cpu->num_experts];
    move_rows(cpu, own->count, own->x, NULL, x, token_of,
              cpu->layer.weigh_input ? row_weight : NULL);
    return STATUS_OK;
}

/* Who sends how many rows, and where they lie before and after. */
struct traffic {
    int32_t *send_count; /* [num_ranks], and so on */
    int32_t *send_begin;
    int32_t *receive_count;
    int32_t *receive_begin;
    int32_t rows;    /* received */
    int32_t *row_of; /* [rows] */
    float *buffer;   /* [rows][hidden_dim] in the order of receiving */
};

/* The ranks tell each other how many rows go to each expert; returns the rows received, or -1. */
static int64_t exchange_counts(struct cpu_layer *cpu, struct traffic *traffic,
                               const struct rows *own, int32_t *sent)
{
    int32_t experts = cpu->layer.expert.num_experts;
    for (int32_t r = 0; r < cpu->num_ranks; r++) {
        traffic->send_begin[r] = cpu->expert_begin[r];
        traffic->send_count[r] = cpu->expert_begin[r + 1] - cpu->expert_begin[r];
        traffic->receive_begin[r] = r * experts;
        traffic->receive_count[r] = experts;
    }
    cpu_exchange(own->num_rows, traffic->send_count, traffic->send_begin, sent,
                 traffic->receive_count, traffic->receive_begin, sizeof *sent);
    int64_t received = 0;
    for (int32_t r = 0; r < cpu->num_ranks; r++) {
        traffic->send_begin[r] = own->row_begin[cpu->expert_begin[r]];
        traffic->send_count[r] = own->row_begin[cpu->expert_begin[r + 1]] - traffic->send_begin[r];
        traffic->receive_begin[r] = (int32_t)received;
        for (int32_t expert = 0; expert < experts; expert++) {
            received += sent[r * experts + expert];
        }
        traffic->receive_count[r] = (int32_t)received - traffic->receive_begin[r];
    }
    return received;
}

static void clear_padding(const struct cpu_layer *cpu, const struct rows *held)
{
    int64_t hidden_dim = cpu->layer.expert.hidden_dim;
    for (int32_t expert = 0; expert < cpu->layer.expert.num_experts; expert++) {
        int64_t first = held->row_begin[expert] + held->num_rows[expert];
        int64_t end = held->row_begin[expert + 1];
        memset(&held->x[first * hidden_dim], 0,
               (size_t)((end - first) * hidden_dim) * sizeof *held->x);
    }
}

static enum status run_dispatch(struct cpu_layer *cpu, struct traffic *traffic,
                                const struct rows *own, struct rows *held)
{
    int32_t experts = cpu->layer.expert.num_experts;
    size_t ranks = (size_t)cpu->num_ranks;
    int32_t row_bytes = cpu->layer.expert.hidden_dim * (int32_t)sizeof(float);
    int32_t *counts = arena_take(&cpu->scratch, 4 * ranks, sizeof *counts);
    int32_t *sent = arena_take(&cpu->scratch, ranks * (size_t)experts, sizeof *sent);
    if (counts == NULL || sent == NULL) {
        return STATUS_NO_MEMORY;
    }
    *traffic = (struct traffic){.send_count = counts,
                                .send_begin = counts + ranks,
                                .receive_count = counts + 2 * ranks,
                                .receive_begin = counts + 3 * ranks};
    int64_t received = exchange_counts(cpu, traffic, own, sent);
    traffic->row_of = arena_take(&cpu->scratch, (size_t)received, sizeof(int32_t));
    traffic->buffer = arena_take(&cpu->scratch, (size_t)received, (size_t)row_bytes);
    int64_t padded = received + (int64_t)experts * (CPU_ROW_ALIGN - 1);
    if (!take_rows(cpu, held, experts, padded) || traffic->row_of == NULL ||
        traffic->buffer == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = ref_ep_receive(cpu->num_ranks, experts, CPU_ROW_ALIGN, held->num_rows,
                                        held->row_begin, traffic->row_of, sent);
    if (status != STATUS_OK) {
        return status;
    }
    held->count = held->row_begin[experts];
    traffic->rows = (int32_t)received;
    cpu_exchange(own->x, traffic->send_count, traffic->send_begin, traffic->buffer,
                 traffic->receive_count, traffic->receive_begin, row_bytes);
    clear_padding(cpu, held);
    move_rows(cpu, traffic->rows, held->x, traffic->row_of, traffic->buffer, NULL, NULL);
    return STATUS_OK;
}

static void run_return(struct cpu_layer *cpu, struct traffic *traffic, struct rows *own,
                       const struct rows *held)
{
    move_rows(cpu, traffic->rows, traffic->buffer, NULL, held->y, traffic->row_of, NULL);
    cpu_exchange(traffic->buffer, traffic->receive_count, traffic->receive_begin, own->y,
                 traffic->send_count, traffic->send_begin,
                 cpu->layer.expert.hidden_dim * (int32_t)sizeof(float));
}

/* Combine and shared experts need no more than this rank's tokens. */
static enum status run_shared(struct cpu_layer *cpu, int32_t num_tokens, float *shared,
                              const float *x)
{
    const struct moe_layer *layer = &cpu->layer;
    struct expert_shape shape = layer_shared_shape(layer);
    const int32_t row_begin[2] = {0, num_tokens};
    float *h = arena_take(&cpu->scratch, (size_t)num_tokens, (size_t)shape.ffn_dim * sizeof *h);
    if (h == NULL) {
        return STATUS_NO_MEMORY;
    }
    cpu_gate_up(cpu, shape, h, x, row_begin, layer->shared_gate_up.data, NULL);
    cpu_down(cpu, shape, shared, h, row_begin, layer->shared_down.data, NULL);
    return STATUS_OK;
}

static void run_combine(const struct cpu_layer *cpu, int32_t num_tokens, float *out, const float *y,
                        const int32_t *row_of, const float *gate_weight, const float *shared)
{
    int64_t hidden_dim = cpu->layer.expert.hidden_dim;
    int64_t top_k = cpu->layer.gate.top_k;
#pragma omp parallel for schedule(static) num_threads(cpu->num_threads)
    for (int32_t token = 0; token < num_tokens; token++) {
        float *sum = &out[token * hidden_dim];
        memset(sum, 0, (size_t)hidden_dim * sizeof *sum);
        for (int64_t k = token * top_k; k < (token + 1) * top_k; k++) {
            if (row_of[k] != ROW_DROPPED) {
                float weight = cpu->layer.weigh_input ? 1.0f : gate_weight[k];
                const float *row = &y[row_of[k] * hidden_dim];
#pragma omp simd
                for (int64_t h = 0; h < hidden_dim; h++) {
                    sum[h] += weight * row[h];
                }
            }
        }
        for (int64_t h = 0; shared != NULL && h < hidden_dim; h++) {
            sum[h] += shared[token * hidden_dim + h];
        }
    }
}

double cpu_busy_s(int32_t num_threads)
{
    struct timespec now;
    if (num_threads > 1) {
        return bench_now_s();
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void begin(struct cpu_layer *cpu)
{
    cpu->begin_s = bench_now_s();
    cpu->busy_begin_s = cpu_busy_s(cpu->num_threads);
}

static void mark(struct cpu_layer *cpu, enum cpu_phase phase)
{
    cpu->end_s[phase] = bench_now_s() - cpu->begin_s;
    cpu->busy_end_s[phase] = cpu_busy_s(cpu->num_threads) - cpu->busy_begin_s;
}

struct step {
    struct rows own;
    struct rows held; /* of one rank: own */
    struct traffic traffic;
    int32_t *row_of;
    float *shared;
};

static enum status run_experts(struct cpu_layer *cpu, const struct rows *held)
{
    const struct moe_layer *layer = &cpu->layer;
    float *h =
        arena_take(&cpu->scratch, (size_t)held->count, (size_t)layer->expert.ffn_dim * sizeof *h);
    if (h == NULL) {
        return STATUS_NO_MEMORY;
    }
    cpu_gate_up(cpu, layer->expert, h, held->x, held->row_begin, layer->gate_up.data,
                layer->gate_up_bias);
    mark(cpu, CPU_GATE_UP);
    cpu_down(cpu, layer->expert, held->y, h, held->row_begin, layer->down.data, layer->down_bias);
    mark(cpu, CPU_DOWN);
    return STATUS_OK;
}

/* From permuted rows to the experts' outputs for them. */
static enum status run_rows(struct cpu_layer *cpu, struct step *step)
{
    bool alone = cpu->num_ranks == 1;
    enum status status = STATUS_OK;
    step->held = step->own;
    if (!alone) {
        status = run_dispatch(cpu, &step->traffic, &step->own, &step->held);
    }
    mark(cpu, CPU_DISPATCH);
    if (status == STATUS_OK) {
        status = run_experts(cpu, &step->held);
    }
    if (status == STATUS_OK && !alone) {
        run_return(cpu, &step->traffic, &step->own, &step->held);
    }
    mark(cpu, CPU_RETURN);
    return status;
}

enum status cpu_forward(struct cpu_layer *cpu, int32_t num_tokens, float *out, int32_t *expert,
                        float *gate_weight, bool given, const float *x, int32_t *num_rows)
{
    struct step step = {.shared = NULL};
    size_t choices = (size_t)num_tokens * (size_t)cpu->layer.gate.top_k;
    size_t row_bytes = (size_t)cpu->layer.expert.hidden_dim * sizeof(float);
    arena_reset(&cpu->scratch);
    step.row_of = arena_take(&cpu->scratch, choices, sizeof *step.row_of);
    int32_t *chosen = given ? arena_take(&cpu->scratch, choices, sizeof *chosen) : expert;
    float *weight = given ? arena_take(&cpu->scratch, choices, sizeof *weight) : gate_weight;
    if (cpu->layer.shared_ffn_dim > 0) {
        step.shared = arena_take(&cpu->scratch, (size_t)num_tokens, row_bytes);
    }
    if (step.row_of == NULL || chosen == NULL || weight == NULL ||
        (cpu->layer.shared_ffn_dim > 0 && step.shared == NULL)) {
        return STATUS_NO_MEMORY;
    }
    cpu_barrier();
    begin(cpu);
    enum status status = run_gate(cpu, num_tokens, chosen, weight, x);
    mark(cpu, CPU_GATE);
    if (status == STATUS_OK) {
        status = run_permute(cpu, num_tokens, &step.own, step.row_of, expert, gate_weight, x);
    }
    mark(cpu, CPU_PERMUTE);
    if (status == STATUS_OK) {
        status = run_rows(cpu, &step);
    }
    if (status == STATUS_OK && step.shared != NULL) {
        status = run_shared(cpu, num_tokens, step.shared, x);
    }
    mark(cpu, CPU_SHARED);
    if (status == STATUS_OK) {
        run_combine(cpu, num_tokens, out, step.own.y, step.row_of, gate_weight, step.shared);
        mark(cpu, CPU_COMBINE);
        memcpy(num_rows, step.held.num_rows,
               (size_t)cpu->layer.expert.num_experts * sizeof *num_rows);
    }
    return status;
}
