/*
 * fuzz_trace.c -- any files as a trace directory: refused, or readable to the last row.
 *
 * The input is the directory's files one after the other, cut at lines "----", in the order below.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "input.h"
#include "trace.h"

#define ROWS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void read_rows(const struct trace *trace, struct error *error)
{
    int32_t num_rows = trace->num_tokens < ROWS_MAX ? (int32_t)trace->num_tokens : ROWS_MAX;
    int64_t row[ROWS_MAX];
    for (int32_t index = 0; index < num_rows; index++) {
        row[index] = index % 2 == 0 ? index : trace->num_tokens - index;
    }
    size_t count = (size_t)num_rows * (size_t)trace->top_k;
    int32_t *expert = malloc((count + 1) * sizeof *expert);
    float *gate_weight = malloc((count + 1) * sizeof *gate_weight);
    for (int32_t layer = 0; expert != NULL && gate_weight != NULL && layer < trace->num_layers;
         layer++) {
        if (trace_read(trace, expert, gate_weight, layer, row, num_rows, error) != STATUS_OK) {
            break;
        }
        for (size_t index = 0; index < count; index++) {
            if (expert[index] < EXPERT_NOT_ROUTED || expert[index] >= trace->num_experts) {
                __builtin_trap();
            }
        }
    }
    free(expert);
    free(gate_weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {
        "trace/trace.yaml",   "trace/experts-00000.npy", "trace/gate_weights-00000.npy",
        "trace/requests.csv", "trace/steps.npy",         "trace/experts-00001.npy"};
    static struct error error;
    error.num_problems = 0;
    error.text_bytes = 0;
    mkdir(input_path("trace"), 0700);
    input_write_pieces(names, (int32_t)(sizeof names / sizeof names[0]), data, bytes);
    struct trace trace = {0};
    if (trace_open(&trace, input_path("trace"), &error) == STATUS_OK) {
        read_rows(&trace, &error);
        if (trace_check(&trace, &error) == STATUS_OK && trace_digest(&trace, &error) != STATUS_OK) {
            __builtin_trap();
        }
    }
    trace_close(&trace);
    return 0;
}
