/*
 * fuzz_import_text.c -- any bytes as JSON, JSON lines or CSV that an engine or a logger wrote:
 * refused, or imported into a sound trace, loads or arrivals.
 *
 * The first byte chooses the format and the options, the rest is the file; behind a line "----" may
 * follow a physical-to-logical map.
 */
#include <stdlib.h>
#include <unistd.h>

#include "arrivals.h"
#include "import/import.h"
#include "input.h"
#include "load_file.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct error error;

static void clear_error(void)
{
    error.num_problems = 0;
    error.text_bytes = 0;
}

/* What came out is read back without a complaint. */
static void check_result(const char *path, const struct import_summary *summary)
{
    struct trace trace = {0};
    struct arena arena = {0};
    struct load_file load;
    struct arrivals arrivals;
    enum status status = STATUS_OK;
    clear_error();
    if (summary->num_arrivals > 0) {
        status = arrivals_read(&arrivals, path, ARRIVALS_OWN, &error);
        if (status == STATUS_OK && arrivals.count != summary->num_arrivals) {
            __builtin_trap();
        }
        arrivals_free(&arrivals);
    } else if (summary->num_assignments > 0) {
        status = load_file_read(&load, path, &arena, &error);
        arena_free(&arena);
    } else {
        status = trace_open(&trace, path, &error);
        if (status == STATUS_OK) {
            status = trace_check(&trace, &error);
        }
        if (status == STATUS_OK && trace.num_tokens != summary->num_tokens) {
            __builtin_trap();
        }
        trace_close(&trace);
    }
    if (status != STATUS_OK) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const struct {
        const char *format;
        const char *out;
    } cases[] = {
        {"sglang_routed_experts", "trace"},
        {"vllm_routed_experts", "trace"},
        {"megatron_router_trace", "trace"},
        {"jsonl", "trace"},
        {"csv", "trace"},
        {"vllm_load_history", "loads.npy"},
        {"load_histogram", "loads.csv"},
        {"azure_arrivals", "arrivals.csv"},
        {"burstgpt_arrivals", "a.csv"},
        {"mooncake_arrivals", "a.csv"},
        {"arrivals", "a.csv"},
        {NULL, "trace"},
    };
    static const int32_t model_layer[] = {1, 4};
    static const char *const names[] = {"input", "map"};
    static struct import_summary summary;
    if (bytes < 1) {
        return 0;
    }
    const size_t choice = data[0] % (sizeof cases / sizeof cases[0]);
    const int options_bits = data[0] / 16;
    const bool is_mere_name = options_bits == 4; /* rarely: looking for a preset takes its time */
    input_write_pieces(names, 2, data + 1, bytes - 1);
    const char *path = input_path("input");
    const char *map = input_path("map");
    const char *out = input_path(cases[choice].out);
    const struct import_options options = {
        .paths = &path,
        .num_paths = 1,
        .format = cases[choice].format,
        .model = choice < 5 || choice == 11 ? "tiny" : NULL,
        .num_experts = (options_bits & 1) != 0 ? 256 : 8,
        .top_k = (options_bits & 2) != 0 ? 2 : 0,
        .model_layer = is_mere_name ? NULL : model_layer,
        .num_layers = is_mere_name ? 0 : 2,
        .physical_path = access(map, F_OK) == 0 ? map : NULL,
        .strip_dummy = (options_bits & 8) != 0,
        .tokens_per_shard = 32,
        .replace = true,
    };
    clear_error();
    enum status status = import_run(out, &options, &summary, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK) {
        check_result(out, &summary);
    }
    clear_error();
    struct import_look look;
    bool has_look = import_look(&look, &options, &error) == STATUS_OK;
    if (has_look != (error.num_problems == 0) || look.num_layers < 0 || look.id_max < 0) {
        __builtin_trap();
    }
    return 0;
}
