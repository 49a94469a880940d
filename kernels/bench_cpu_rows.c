/* bench_cpu_rows.c -- the CPU device's rows: rank 0 collects what all ranks measured. */
#include <string.h>

#include "bench_cpu_internal.h"
#include "bench_cpu_mpi.h"
#include "bench_routing.h"

/* Sorted samples of one kind, out of samples by time. */
static void fill_samples(struct bench_row *row, const double *sample_ns, int32_t num_samples,
                         int32_t kind, double *work)
{
    for (int32_t i = 0; i < num_samples; i++) {
        work[i] = sample_ns[i * SAMPLE_KINDS + kind];
    }
    bench_row_samples(row, work, num_samples);
}

static int64_t sum_rows(const int32_t *num_rows, int32_t experts)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < experts; i++) {
        sum += num_rows[i];
    }
    return sum;
}

/* Arithmetic, and memory traffic in which every input and output counts once. */
static void fill_work(struct bench_row *row, const struct bench_layer *layer, int32_t kind,
                      double tokens)
{
    double hidden = layer->expert.hidden_dim;
    double ffn = layer->expert.ffn_dim;
    double wide = gate_up_rows(layer->expert);
    double rows = (double)sum_rows(row->expert_tokens, row->num_expert_tokens);
    double active = 0.0;
    for (int32_t i = 0; i < row->num_expert_tokens; i++) {
        active += row->expert_tokens[i] > 0 ? 1.0 : 0.0;
    }
    double choices = tokens * layer->gate.top_k;
    switch (kind) {
    case CPU_GATE:
        row->flops = 2.0 * tokens * layer->gate.num_experts * hidden;
        break;
    case CPU_PERMUTE:
        row->bytes = 4.0 * hidden * (tokens + choices);
        break;
    case CPU_DISPATCH:
    case CPU_RETURN:
        row->bytes = 4.0 * hidden * rows;
        break;
    case CPU_GATE_UP:
        row->flops = 2.0 * rows * wide * hidden;
        row->bytes = 4.0 * (active * wide * hidden + rows * (hidden + ffn));
        break;
    case CPU_DOWN:
        row->flops = 2.0 * rows * hidden * ffn;
        row->bytes = 4.0 * (active * hidden * ffn + rows * (hidden + ffn));
        break;
    case CPU_SHARED:
        row->flops = 2.0 * tokens * hidden * (wide / ffn + 1.0) * layer->shared_ffn_dim;
        break;
    case CPU_COMBINE:
        row->bytes = 4.0 * hidden * (tokens + choices);
        break;
    default:
        break;
    }
}

static const char *row_phase(int32_t kind)
{
    return kind == SAMPLE_LAYER  ? "layer"
           : kind == SAMPLE_WALL ? "wall"
                                 : cpu_phase_name((enum cpu_phase)kind);
}

/* Rows of one rank: its phases; of rank 0 the layer too. */
static enum status write_rank(struct bench *bench, struct bench_csv *csv,
                              const struct forward_case *one, int32_t rank, const int32_t *num_rows,
                              const double *sample_ns, double *work)
{
    const int32_t *begin = bench->cpu.expert_begin;
    int64_t first = (int64_t)one->num_tokens * rank / cpu_num_ranks();
    int64_t end = (int64_t)one->num_tokens * (rank + 1) / cpu_num_ranks();
    struct bench_row dense = {0};
    enum status status = STATUS_OK;
    fill_samples(&dense, sample_ns, one->num_samples, SAMPLE_DENSE, work);
    for (int32_t kind = 0; kind <= SAMPLE_WALL && status == STATUS_OK; kind++) {
        bool exchange = kind == CPU_DISPATCH || kind == CPU_RETURN;
        if ((exchange && cpu_num_ranks() == 1) || (kind >= SAMPLE_LAYER && rank > 0) ||
            (kind == CPU_SHARED && bench->shape.shared_ffn_dim == 0)) {
            continue;
        }
        struct bench_row row = {.command = "forward",
                                .kernel = "layer",
                                .version = "cpu",
                                .phase = row_phase(kind),
                                .layer = &bench->shape,
                                .num_tokens = one->num_tokens,
                                .routing = bench_routing_label(one->routing),
                                .rank = rank,
                                .num_ranks = cpu_num_ranks(),
                                .expert_tokens = num_rows,
                                .num_expert_tokens = begin[rank + 1] - begin[rank],
                                .relative_error = -1.0,
                                .status = "ok"};
        fill_samples(&row, sample_ns, one->num_samples, kind, work);
        fill_work(&row, &bench->shape, kind, (double)(end - first));
        if (row.flops > 0.0) {
            double flops = 2.0 * DENSE_DIM * DENSE_DIM * (double)DENSE_DIM;
            row.gemm_flops_per_s = flops / dense.median_ns * 1e9;
        }
        status = bench_csv_row(csv, &row);
    }
    return status;
}

enum status cpu_write_case(struct bench *bench, struct bench_csv *csv,
                           const struct forward_case *one)
{
    int32_t experts = bench->shape.expert.num_experts;
    int32_t count = one->num_samples * SAMPLE_KINDS;
    size_t ranks = (size_t)cpu_num_ranks();
    size_t width = (size_t)count + (size_t)experts;
    double *mine = arena_alloc(&bench->arena, width, sizeof *mine);
    double *all = arena_take(&bench->arena, ranks * width, sizeof *all);
    double *work = arena_take(&bench->arena, (size_t)count, sizeof *work);
    int32_t *num_rows = arena_take(&bench->arena, (size_t)experts, sizeof *num_rows);
    if (mine == NULL || all == NULL || work == NULL || num_rows == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(mine, one->sample_ns, (size_t)count * sizeof *mine);
    for (int32_t i = 0; i < bench->cpu.layer.expert.num_experts; i++) {
        mine[count + i] = one->num_rows[i];
    }
    cpu_gather(mine, (int32_t)width, all);
    enum status status = STATUS_OK;
    for (int32_t rank = 0; rank < (int32_t)ranks && cpu_rank() == 0 && status == STATUS_OK;
         rank++) {
        const double *theirs = &all[(size_t)rank * width];
        for (int32_t i = 0; i < experts; i++) {
            num_rows[i] = (int32_t)theirs[count + i];
        }
        status = write_rank(bench, csv, one, rank, num_rows, theirs, work);
    }
    return status;
}
