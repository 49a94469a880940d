/*
 * test_import_binary.c -- archives of PyTorch, NumPy and safetensors, imported to the last id.
 *
 * The files of tests/torch/ were written by PyTorch 2.15, safetensors 0.8 and NumPy 2.4
 * (tests/torch/make.py), with what they must become beside them.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/import.h"
#include "load_file.h"
#include "npy.h"
#include "trace.h"

#define TORCH  SOURCE_DIRECTORY "/tests/torch/"
#define SGLANG TORCH "expert_distribution_recorder_1700000000.5"

static char folder[64];
static char out[96];
static struct error error;
static struct import_summary summary;

static void make_folder(void)
{
    (void)snprintf(folder, sizeof folder, "/tmp/moesim_import_XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    (void)snprintf(out, sizeof out, "%s/trace", folder);
}

static void remove_folder(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(import_binary, .init = make_folder, .fini = remove_folder);

/* Imports files of a model that is a mere name with 8 experts. */
static enum status import(const char *format, int32_t num_paths, const char *const *paths)
{
    struct import_options options = {
        .paths = paths,
        .num_paths = num_paths,
        .format = format,
        .axis = {TRACE_AXIS_TOKEN, TRACE_AXIS_LAYER, TRACE_AXIS_K},
        .model = "tiny",
        .num_experts = 8,
        .top_k = 2,
        .replace = true,
    };
    error = (struct error){0};
    return import_run(out, &options, &summary, &error);
}

/* The trace holds the ids of a golden array [layers][tokens][k], no more and no less. */
static void check_ids(const char *golden_path)
{
    struct npy golden;
    struct trace trace;
    cr_assert_eq(npy_open(&golden, golden_path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace_open(&trace, out, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace_check(&trace, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(trace.num_layers, golden.dim[0]);
    cr_assert_eq(trace.num_tokens, golden.dim[1]);
    cr_assert_eq(trace.top_k, golden.dim[2]);
    for (int64_t layer = 0; layer < golden.dim[0]; layer++) {
        for (int64_t token = 0; token < golden.dim[1]; token++) {
            int32_t expert[8];
            cr_assert_eq(trace_read(&trace, expert, NULL, (int32_t)layer, &token, 1, &error),
                         STATUS_OK);
            for (int64_t k = 0; k < golden.dim[2]; k++) {
                int64_t index = (layer * golden.dim[1] + token) * golden.dim[2] + k;
                cr_assert_eq(expert[k], npy_int(&golden, index), "layer %d token %d k %d",
                             (int)layer, (int)token, (int)k);
            }
        }
    }
    trace_close(&trace);
    npy_close(&golden);
}

static void refuse(const char *format, const char *path, const char *words)
{
    cr_assert_neq(import(format, 1, &path), STATUS_OK, "%s", path);
    cr_assert_eq(error.num_problems, 1, "%s", error.text);
    cr_assert(strstr(error.text, words) != NULL, "'%s' is not in: %s", words, error.text);
}

Test(import_binary, sglangs_recorder_is_read_to_the_last_id)
{
    const char *const paths[] = {SGLANG "_0.pt", SGLANG "_1.pt"};

    cr_assert_eq(import(NULL, 2, paths), STATUS_OK, "%s", error.text);

    cr_assert_str_eq(summary.format, "sglang_recorder");
    cr_assert_eq(summary.num_dense_layers_dropped, 1);
    cr_assert_eq(summary.num_pads, 2); /* one in each rank's first pass */
    check_ids(TORCH "sglang_per_token.npy");
}

Test(import_binary, what_two_ranks_of_sglang_recorded_alike_counts_once)
{
    const char *const paths[] = {SGLANG "_0.pt", SGLANG "_0.pt"};

    cr_assert_eq(import(NULL, 2, paths), STATUS_OK, "%s", error.text);

    cr_assert_eq(summary.num_tokens, 6);
    cr_assert_eq(summary.num_drops, 1);
    cr_assert_eq(summary.drop[0].count, 6);
}

Test(import_binary, recordings_of_another_mode_are_refused_with_the_format_that_reads_them)
{
    refuse("sglang_recorder", SGLANG ".pt", "it is sglang_recorder_counts");
    refuse("sglang_recorder", TORCH "sglang_per_pass.pt",
           "record 0, forward pass 0: has no tensor topk_ids_of_layer");
    refuse("sglang_recorder", TORCH "os_system.pt", "names posix.system");
}

/* The scores of a trace are those of an array [layers][tokens][experts], as float16. */
static void check_scores(const char *golden_path)
{
    char path[128];
    struct npy golden;
    struct npy scores;
    (void)snprintf(path, sizeof path, "%s/scores-00000.npy", out);
    cr_assert_eq(npy_open(&golden, golden_path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(npy_open(&scores, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(scores.type, NPY_FLOAT16);
    cr_assert_eq(scores.num_elements, golden.num_elements);
    for (int64_t i = 0; i < golden.num_elements; i++) {
        cr_assert_eq(((const uint16_t *)scores.data)[i],
                     npy_float_to_half(((const float *)golden.data)[i]));
    }
    npy_close(&golden);
    npy_close(&scores);
}

Test(import_binary, router_logits_of_an_archive_become_scores_and_ids)
{
    static const char *const files[] = {TORCH "router_logits.npz", TORCH "router_logits_batch.npz"};
    for (int32_t i = 0; i < 2; i++) {
        cr_assert_eq(import(NULL, 1, &files[i]), STATUS_OK, "%s: %s", files[i], error.text);

        cr_assert_str_eq(summary.format, "hf_router_logits");
        cr_assert_eq(summary.num_requests, i == 0 ? 0 : 2);
        check_ids(TORCH "router_logits_expected.npy");
        check_scores(TORCH "router_logits.npy");
    }
}

Test(import_binary, router_logits_of_one_array_have_its_layers_as_the_first_axis)
{
    static const int32_t layers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    const char *const path = TORCH "router_logits.npy";
    struct import_options options = {.paths = &path,
                                     .num_paths = 1,
                                     .model = "tiny",
                                     .num_experts = 8,
                                     .top_k = 2,
                                     .model_layer = layers,
                                     .num_layers = 12};

    cr_assert_eq(import_run(out, &options, &summary, &error), STATUS_OK, "%s", error.text);

    check_ids(TORCH "router_logits_expected.npy");
    check_scores(TORCH "router_logits.npy");
}

Test(import_binary, router_logits_of_another_model_are_refused)
{
    const char *const path = TORCH "router_logits.npz";
    struct import_options options = {
        .paths = &path, .num_paths = 1, .model = "tiny", .num_experts = 16, .top_k = 2};

    cr_assert_eq(import_run(out, &options, &summary, &error), STATUS_INVALID);
    cr_assert(strstr(error.text, "and 16 experts are expected") != NULL, "%s", error.text);

    error = (struct error){0};
    options.num_experts = 8;
    options.top_k = 0;
    cr_assert_eq(import_run(out, &options, &summary, &error), STATUS_INVALID);
    cr_assert(strstr(error.text, "give --top-k") != NULL, "%s", error.text);
    cr_assert_eq(error.num_problems, 1);

    refuse("hf_router_logits", TORCH "sglang_per_token.npy", "floats over tokens");
    refuse("hf_router_logits", TORCH "types.safetensors", "is no .npy file");
}

/* Loads as moesim place reads them. */
static void load_counts(struct load_file *load, struct arena *arena, const char *path)
{
    cr_assert_eq(load_file_read(load, path, arena, &error), STATUS_OK, "%s", error.text);
}

/* Imports to a .npy or .csv file of loads. */
static enum status import_loads(const char *name, int32_t num_paths, const char *const *paths)
{
    (void)snprintf(out, sizeof out, "%s/%s", folder, name);
    return import(NULL, num_paths, paths);
}

/* tests/torch/make.py: 5 steps of 4 layers x 8 experts, numbered through; steps 3 and 4 and layer 0
 * are zero. */
Test(import_binary, sglangs_ring_of_counts_loses_what_was_not_reached)
{
    const char *const path = SGLANG ".pt";
    struct arena arena = {0};
    struct load_file load;

    cr_assert_eq(import_loads("counts.npy", 1, &path), STATUS_OK, "%s", error.text);

    cr_assert_str_eq(summary.format, "sglang_recorder_counts");
    cr_assert_eq(summary.drop[0].count, 2);
    load_counts(&load, &arena, out);
    cr_assert_eq(load.num_steps, 3);
    cr_assert_eq(load.num_layers, 3);
    cr_assert_eq(load.num_experts, 8);
    for (int32_t i = 0; i < 3 * 3 * 8; i++) {
        int32_t step = i / 24;
        cr_assert_eq(load.step_tokens[i], step * 32 + 8 + i % 24);
    }
    arena_free(&arena);
}

/* The same passes of rank 0, token by token, are the first 6 tokens of sglang_per_token.npy. */
Test(import_binary, sglangs_counts_by_slot_become_those_by_expert)
{
    const char *const path = TORCH "sglang_per_pass.pt";
    struct arena arena = {0};
    struct load_file load;
    struct npy golden;

    cr_assert_eq(import_loads("counts.csv", 1, &path), STATUS_OK, "%s", error.text);

    load_counts(&load, &arena, out);
    cr_assert_eq(npy_open(&golden, TORCH "sglang_per_token.npy", &error), STATUS_OK);
    cr_assert_eq(load.num_layers, golden.dim[0]);
    for (int32_t layer = 0; layer < load.num_layers; layer++) {
        int64_t wanted[8] = {0};
        for (int64_t i = 0; i < 6 * golden.dim[2]; i++) {
            int64_t expert = npy_int(&golden, layer * golden.dim[1] * golden.dim[2] + i);
            if (expert >= 0) {
                wanted[expert]++;
            }
        }
        for (int32_t expert = 0; expert < 8; expert++) {
            cr_assert_eq(load.load_tokens[layer * 8 + expert], wanted[expert]);
        }
    }
    npy_close(&golden);
    arena_free(&arena);
}

Test(import_binary, passes_that_two_ranks_counted_alike_count_once)
{
    const char *const paths[] = {TORCH "sglang_per_pass.pt", TORCH "sglang_per_pass.pt"};

    cr_assert_eq(import_loads("counts.csv", 2, paths), STATUS_OK, "%s", error.text);

    cr_assert_eq(summary.num_drops, 1);
    cr_assert_eq(summary.drop[0].count, 4);
    cr_assert_eq(summary.num_assignments, 6 * 3 * 2 - 1); /* one is a gap */
}

/* tests/torch/make.py: iterations 50 to 52, layers 1, 2 and 12, expert + 10 step + layer + 1000
 * rank, of two ranks. */
Test(import_binary, tensorrt_llms_statistics_add_up_over_ranks)
{
    static const char *const folders[] = {TORCH "trtllm"};
    static const char *const files[] = {TORCH "trtllm/rank1.safetensors",
                                        TORCH "trtllm/rank0.safetensors"};
    static const int32_t layers[] = {1, 2, 12};
    for (int form = 0; form < 2; form++) {
        struct arena arena = {0};
        struct load_file load;

        cr_assert_eq(form == 0 ? import_loads("folder.npy", 1, folders)
                               : import_loads("files.npy", 2, files),
                     STATUS_OK, "%s", error.text);

        cr_assert_str_eq(summary.format, "trtllm_statistics");
        load_counts(&load, &arena, out);
        cr_assert_eq(load.num_steps, 3);
        cr_assert_eq(load.num_layers, 3);
        cr_assert_eq(load.num_experts, 8);
        for (int32_t i = 0; i < 3 * 3 * 8; i++) {
            int32_t wanted = 2 * (i % 8 + 10 * (i / 24) + layers[i / 8 % 3]) + 1000;
            cr_assert_eq(load.step_tokens[i], wanted);
        }
        arena_free(&arena);
    }
}

/* tests/torch/make.py: layers 1, 2 and 11 with 100 layer + expert tokens. */
Test(import_binary, llama_cpps_imatrix_counts_each_layer_once)
{
    static const int32_t layers[] = {1, 2, 11};
    const char *const path = TORCH "imatrix.gguf";
    struct arena arena = {0};
    struct load_file load;

    cr_assert_eq(import_loads("counts.csv", 1, &path), STATUS_OK, "%s", error.text);

    cr_assert_str_eq(summary.format, "llama_imatrix");
    load_counts(&load, &arena, out);
    cr_assert_eq(load.num_layers, 3);
    cr_assert_eq(load.num_experts, 8);
    for (int32_t i = 0; i < 3 * 8; i++) {
        cr_assert_eq(load.load_tokens[i], 100 * layers[i / 8] + i % 8);
    }
    arena_free(&arena);
}

/* Whatever is cut off, there is one clear error. */
Test(import_binary, a_truncated_imatrix_is_refused)
{
    char short_path[96];
    unsigned char bytes[4096];
    FILE *file = fopen(TORCH "imatrix.gguf", "rb");
    cr_assert_not_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    cr_assert_eq(fclose(file), 0);
    (void)snprintf(short_path, sizeof short_path, "%s/short.gguf", folder);
    (void)snprintf(out, sizeof out, "%s/x.csv", folder);
    for (size_t length = 4; length + 64 < size; length += 37) {
        const char *path = short_path;
        file = fopen(short_path, "wb");
        cr_assert_eq(fwrite(bytes, 1, length, file), length);
        cr_assert_eq(fclose(file), 0);

        cr_assert_eq(import("llama_imatrix", 1, &path), STATUS_INVALID, "%zu bytes", length);
        cr_assert_geq(error.num_problems, 1);
    }
}

Test(import_binary, loads_that_are_none_are_refused)
{
    (void)snprintf(out, sizeof out, "%s/x.csv", folder);
    refuse("trtllm_statistics", TORCH "types.safetensors", "names are ITERATION_LAYER");
    refuse("trtllm_statistics", TORCH, "rank0.safetensors: No such file");
    refuse("sglang_recorder_counts", TORCH "types.pt", "has neither logical_count nor records");
    refuse("sglang_recorder_counts", TORCH "repeated.pt", "shows an element twice");
}
