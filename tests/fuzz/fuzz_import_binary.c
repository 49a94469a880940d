/*
 * fuzz_import_binary.c -- any bytes as an archive that an engine or NumPy wrote: refused, or
 * imported into a sound trace or loads.
 *
 * The first byte chooses the format; the rest is the file.
 */
#include <stdlib.h>

#include "import/import.h"
#include "input.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_trace(const char *path)
{
    static struct error error;
    error.num_problems = 0;
    error.text_bytes = 0;
    struct trace trace = {0};
    if (trace_open(&trace, path, &error) != STATUS_OK || trace_check(&trace, &error) != STATUS_OK) {
        __builtin_trap();
    }
    trace_close(&trace);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const struct {
        const char *format;
        const char *name;
        const char *out;
    } cases[] = {
        {"sglang_recorder", "x.pt", "trace"},
        {"sglang_recorder_counts", "x.pt", "loads.csv"},
        {"trtllm_statistics", "x.safetensors", "loads.npy"},
        {"hf_router_logits", "x.npz", "trace"},
        {"llama_imatrix", "x.gguf", "loads.csv"},
    };
    static struct error error;
    static struct import_summary summary;
    if (bytes < 1) {
        return 0;
    }
    setenv("MOESIM_DATA", "/nonexistent", 1); /* no search through presets for "tiny" */
    size_t choice = data[0] % (sizeof cases / sizeof cases[0]);
    error.num_problems = 0;
    error.text_bytes = 0;
    const char *path = input_write(cases[choice].name, data + 1, bytes - 1);
    const char *out = input_path(cases[choice].out);
    const struct import_options options = {
        .paths = &path,
        .num_paths = 1,
        .format = cases[choice].format,
        .model = "tiny",
        .num_experts = 8,
        .top_k = 2,
        .tokens_per_shard = 16, /* a shard is gathered in memory */
        .replace = true,
    };
    enum status status = import_run(out, &options, &summary, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK && (choice == 0 || choice == 3)) {
        check_trace(out);
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
