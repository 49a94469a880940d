/*
 * cpu_forward_gemm.c -- grouped GEMMs as tasks of one expert, some rows and some columns.
 *
 * Gate and up of a task lie in the thread's scratch, which stays in the cache, and leave it as h.
 */
#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <string.h>

#include "cpu_forward.h"

#ifdef BENCH_OPENBLAS
#include <cblas.h>

const char *cpu_blas(void)
{
    return openblas_get_config();
}

void cpu_blas_threads(int32_t num_threads)
{
    openblas_set_num_threads(num_threads);
}

void cpu_gemm(int32_t m, int32_t n, int32_t depth, const float *a, const float *b, float *c,
              int32_t c_stride)
{
    if (m > 0 && n > 0) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, depth, 1.0f, a, depth, b, depth,
                    0.0f, c, c_stride);
    }
}

#else

const char *cpu_blas(void)
{
    return NULL;
}

void cpu_blas_threads(int32_t num_threads)
{
    (void)num_threads;
}

/* Never reached: the commands ask cpu_blas first. */
void cpu_gemm(int32_t m, int32_t n, int32_t depth, const float *a, const float *b, float *c,
              int32_t c_stride)
{
    (void)m, (void)n, (void)depth, (void)a, (void)b, (void)c, (void)c_stride;
}

#endif

/* exp(x) in float32 within 2 units, without branches, so that a compiler computes several at a
 * time: 2^n exp(r), the series of exp(r) to r^6. Clamped to [-87, 88], where floats end. */
static inline float fast_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts */
    float sum = 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

static void swiglu(int32_t count, float *h, const float *gate, const float *up)
{
#pragma omp simd
    for (int32_t i = 0; i < count; i++) {
        h[i] = gate[i] / (1.0f + fast_exp(-gate[i])) * up[i];
    }
}

static void swiglu_clamped(int32_t count, float *h, const float *gate, const float *up)
{
#pragma omp simd
    for (int32_t i = 0; i < count; i++) {
        float g = gate[i] > SWIGLU_LIMIT ? SWIGLU_LIMIT : gate[i];
        float u = up[i] > SWIGLU_LIMIT ? SWIGLU_LIMIT : up[i];
        u = u < -SWIGLU_LIMIT ? -SWIGLU_LIMIT : u;
        h[i] = (u + 1.0f) * g / (1.0f + fast_exp(-SWIGLU_ALPHA * g));
    }
}

/* One task, bounds in rows of tokens and rows of weights. */
struct task {
    int32_t first_row;
    int32_t rows;
    int32_t first_column;
    int32_t columns;
    int32_t expert;
};

/* Granules of gate and up of a task's columns -> columns of h; gelu: one to one. */
static void activate(const struct task *task, struct expert_shape shape, float *h,
                     const float *value)
{
    if (shape.activation == ACTIVATION_GELU) {
        for (int32_t i = 0; i < task->columns; i++) {
            h[task->first_column + i] =
                0.5f * value[i] * (1.0f + erff(value[i] * 0.70710678f)); /* 1 / sqrt 2 */
        }
        return;
    }
    for (int32_t i = 0; i < task->columns; i += 2 * GATE_UP_GRANULE) {
        int32_t left = (task->columns - i) / 2;
        int32_t width = left < GATE_UP_GRANULE ? left : GATE_UP_GRANULE;
        float *out = &h[(task->first_column + i) / 2];
        if (shape.activation == ACTIVATION_SWIGLU) {
            swiglu(width, out, &value[i], &value[i + width]);
        } else {
            swiglu_clamped(width, out, &value[i], &value[i + width]);
        }
    }
}

static void add_bias(const struct task *task, float *value, int32_t stride, const float *bias)
{
    for (int32_t row = 0; bias != NULL && row < task->rows; row++) {
        for (int32_t i = 0; i < task->columns; i++) {
            value[(int64_t)row * stride + i] += bias[i];
        }
    }
}

static int32_t blocks(int32_t count, int32_t block)
{
    return (count + block - 1) / block;
}

/* The number-th task of an expert, columns first, so that neighbours share their tokens. */
static struct task task_of(int32_t number, int32_t columns, int32_t expert, int32_t first_row,
                           int32_t rows)
{
    int32_t column_blocks = blocks(columns, CPU_TASK_COLUMNS);
    struct task task = {.expert = expert,
                        .first_row = number / column_blocks * CPU_TASK_ROWS,
                        .first_column = number % column_blocks * CPU_TASK_COLUMNS};
    int32_t rows_left = rows - task.first_row;
    int32_t columns_left = columns - task.first_column;
    task.rows = rows_left < CPU_TASK_ROWS ? rows_left : CPU_TASK_ROWS;
    task.columns = columns_left < CPU_TASK_COLUMNS ? columns_left : CPU_TASK_COLUMNS;
    task.first_row += first_row;
    return task;
}

static int32_t thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static void gate_up_task(const struct cpu_layer *cpu, struct expert_shape shape,
                         const struct task *task, float *h, const float *x, const float *weight,
                         const float *bias)
{
    float *work = cpu->thread_work + thread_number() * cpu->thread_floats;
    int64_t first = (int64_t)task->expert * gate_up_rows(shape) + task->first_column;
    cpu_gemm(task->rows, task->columns, shape.hidden_dim,
             &x[(int64_t)task->first_row * shape.hidden_dim], &weight[first * shape.hidden_dim],
             work, task->columns);
    add_bias(task, work, task->columns, bias == NULL ? NULL : &bias[first]);
    for (int32_t row = 0; row < task->rows; row++) {
        activate(task, shape, &h[(int64_t)(task->first_row + row) * shape.ffn_dim],
                 &work[(int64_t)row * task->columns]);
    }
}

static void down_task(struct expert_shape shape, const struct task *task, float *y, const float *h,
                      const float *weight, const float *bias)
{
    int64_t first = (int64_t)task->expert * shape.hidden_dim + task->first_column;
    float *out = &y[(int64_t)task->first_row * shape.hidden_dim + task->first_column];
    cpu_gemm(task->rows, task->columns, shape.ffn_dim, &h[(int64_t)task->first_row * shape.ffn_dim],
             &weight[first * shape.ffn_dim], out, shape.hidden_dim);
    add_bias(task, out, shape.hidden_dim, bias == NULL ? NULL : &bias[first]);
}

void cpu_gate_up(const struct cpu_layer *cpu, struct expert_shape shape, float *h, const float *x,
                 const int32_t *row_begin, const float *weight, const float *bias)
{
    int32_t columns = gate_up_rows(shape);
#pragma omp parallel num_threads(cpu->num_threads)
    for (int32_t expert = 0; expert < shape.num_experts; expert++) {
        int32_t rows = row_begin[expert + 1] - row_begin[expert];
        int32_t tasks = blocks(rows, CPU_TASK_ROWS) * blocks(columns, CPU_TASK_COLUMNS);
#pragma omp for schedule(dynamic) nowait
        for (int32_t number = 0; number < tasks; number++) {
            struct task task = task_of(number, columns, expert, row_begin[expert], rows);
            gate_up_task(cpu, shape, &task, h, x, weight, bias);
        }
    }
}

void cpu_down(const struct cpu_layer *cpu, struct expert_shape shape, float *y, const float *h,
              const int32_t *row_begin, const float *weight, const float *bias)
{
    (void)cpu; /* read with OpenMP only */
#pragma omp parallel num_threads(cpu->num_threads)
    for (int32_t expert = 0; expert < shape.num_experts; expert++) {
        int32_t rows = row_begin[expert + 1] - row_begin[expert];
        int32_t tasks = blocks(rows, CPU_TASK_ROWS) * blocks(shape.hidden_dim, CPU_TASK_COLUMNS);
#pragma omp for schedule(dynamic) nowait
        for (int32_t number = 0; number < tasks; number++) {
            struct task task = task_of(number, shape.hidden_dim, expert, row_begin[expert], rows);
            down_task(shape, &task, y, h, weight, bias);
        }
    }
}
