/*
 * fuzz_import.c -- any bytes as an array of expert ids: refused, or imported into a sound trace.
 *
 * The first byte chooses the order of the axes and the number of experts; the rest is the array.
 */
#include <stdlib.h>

#include "import/import.h"
#include "input.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* "Every id is checked on the way": so the trace that comes out passes trace_check. */
static void check_result(const char *path, const struct import_summary *summary)
{
    static struct error error;
    error.num_problems = 0;
    error.text_bytes = 0;
    struct trace trace = {0};
    if (trace_open(&trace, path, &error) != STATUS_OK || trace_check(&trace, &error) != STATUS_OK ||
        trace.num_tokens != summary->num_tokens || trace.num_experts != summary->num_experts) {
        __builtin_trap();
    }
    trace_close(&trace);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const axes[] = {"token,layer,k", "token,k,layer", "layer,token,k",
                                       "layer,k,token", "k,token,layer", "k,layer,token"};
    static const int32_t model_layer[] = {3, 5};
    static struct error error;
    if (bytes < 1) {
        return 0;
    }
    error.num_problems = 0;
    error.text_bytes = 0;
    const char *const paths[] = {input_write("ids.npy", data + 1, bytes - 1)};
    struct import_options options = {
        .format = "npy",
        .paths = paths,
        .num_paths = 1,
        .model = "tiny",
        .num_experts = (data[0] & 64) != 0 ? 300 : 8,
        .model_layer = model_layer,
        .num_layers = 2,
        .tokens_per_shard = (data[0] & 128) != 0 ? 2 : 0,
        .replace = true,
    };
    if (!trace_axes_parse(options.axis, axes[data[0] % 6])) {
        __builtin_trap();
    }
    struct import_summary summary = {0};
    const char *path = input_path("imported");
    if (import_run(path, &options, &summary, &error) == STATUS_OK) {
        check_result(path, &summary);
    } else if (error.num_problems == 0) {
        __builtin_trap();
    }
    error.num_problems = 0;
    error.text_bytes = 0;
    struct import_look look;
    bool has_look = import_look(&look, &options, &error) == STATUS_OK;
    if (has_look != (error.num_problems == 0) || look.num_layers < 0 || look.id_max < 0) {
        __builtin_trap();
    }
    return 0;
}
