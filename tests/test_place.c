/* test_place.c -- moesim place as its users meet it: goldens, exports, refusals, whole files. */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace.h"

static char directory[64];
static char output[16384]; /* what the program said, both streams */

static void start(void)
{
    snprintf(directory, sizeof directory, "/tmp/moesim-place-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void stop(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(place, .init = start, .fini = stop);

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

static char *get(const char *path)
{
    static char text[2][1 << 19];
    static int next;
    char *into = text[next++ % 2];
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    size_t bytes = fread(into, 1, sizeof text[0] - 1, file);
    into[bytes] = '\0';
    fclose(file);
    return into;
}

static char *get_out(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return get(path);
}

/* Runs moesim place with these arguments, in the directory; returns its exit code. */
static int run_place(const char *arguments)
{
    char command[4096];
    snprintf(command, sizeof command, "cd %s && %s place %s 2>&1", directory, MOESIM_PROGRAM,
             arguments);
    FILE *pipe = popen(command, "r");
    cr_assert_not_null(pipe);
    size_t bytes = fread(output, 1, sizeof output - 1, pipe);
    output[bytes] = '\0';
    int state = pclose(pipe);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

/* The program refuses with exit code 1, one line that holds words, and leaves no file. */
static void expect_refusal(const char *arguments, const char *words)
{
    char path[128];
    char whole[1024];
    snprintf(whole, sizeof whole, "--strategy eplb --out out.csv %s", arguments);

    cr_expect_eq(run_place(whole), 1, "%s: %s", arguments, output);

    cr_expect_not_null(strstr(output, words), "'%s' in: %s", words, output);
    cr_expect_eq(strchr(output, '\n'), output + strlen(output) - 1, "one line: %s", output);
    snprintf(path, sizeof path, "%s/out.csv", directory);
    cr_expect_neq(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/out.csv.partial", directory);
    cr_expect_neq(access(path, F_OK), 0);
}

/* INPUT_SLOTS_nNODESgGPUS_MODE.eplbstable.phy2log.csv; hier has 8 groups, glob 1. */
Test(place, eplb_equals_every_golden_byte_for_byte)
{
    glob_t files = {0};
    if (glob(SHARED_DATA "/placement/*_n*g*_*.eplbstable.phy2log.csv", 0, NULL, &files) != 0) {
        cr_skip_test("no data: %s/placement", SHARED_DATA);
    }
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char load_path[1024];
        char arguments[2048];
        char mode[8];
        int slots;
        int nodes;
        int ranks;
        snprintf(load_path, sizeof load_path, "%s", files.gl_pathv[i]);
        char *tail = strrchr(load_path, '_');
        for (int part = 0; part < 2; part++) {
            *tail = ' ';
            tail = strrchr(load_path, '_');
        }
        cr_assert_eq(sscanf(tail, "_%d n%dg%d %4[a-z]", &slots, &nodes, &ranks, mode), 4);
        snprintf(tail, sizeof load_path - (size_t)(tail - load_path), ".csv");
        snprintf(
            arguments, sizeof arguments,
            "--strategy eplb --load %s --slots %d --gpus %d --nodes %d --groups %d --out o.csv",
            load_path, slots, ranks, nodes, strcmp(mode, "hier") == 0 ? 8 : 1);

        cr_assert_eq(run_place(arguments), 0, "%s", output);

        cr_expect_eq(strcmp(get_out("o.csv"), get(files.gl_pathv[i])), 0, "%s", files.gl_pathv[i]);
    }
    globfree(&files);
}

/* Ranks of 8 and 4 tokens: mean / max = 6 / 8. Dealt anew, one has 6 + 2 again: nothing moves. */
Test(place, says_what_it_is_worth)
{
    put("load.csv", "6,2,2,2\n");

    cr_assert_eq(
        run_place("--strategy smart --load load.csv --slots 4 --gpus 2 --out o.csv --json"), 0,
        "%s", output);

    cr_expect_not_null(strstr(output, "\"balancedness\":\t0.75"), "%s", output);
    cr_expect_not_null(strstr(output, "\"moves\":\t0"), "%s", output);
    cr_expect_str_eq(get_out("o.csv"), "0,1,2,3\n");
}

Test(place, reads_steps_of_a_npy_and_a_placement_in_force)
{
    if (access(SHARED_DATA "/placement/dsv3_ts64.npy", R_OK) != 0) {
        cr_skip_test("no data: %s/placement", SHARED_DATA);
    }
    const char *shape = "--load " SHARED_DATA "/placement/dsv3_ts64.npy --slots 288 --gpus 32";
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "--strategy deepseek_vec %s --out o.csv", shape);
    cr_assert_eq(run_place(arguments), 0, "%s", output);
    snprintf(arguments, sizeof arguments,
             "--strategy deepseek_vec %s --previous o.csv --out p.csv --json", shape);

    cr_assert_eq(run_place(arguments), 0, "%s", output);

    cr_expect_not_null(strstr(output, "\"moves\":\t0"), "%s", output);
    cr_expect_eq(strcmp(get_out("o.csv"), get_out("p.csv")), 0);
}

Test(place, exports_what_engines_load)
{
    put("load.csv", "1,1\n1,1\n");
    const char *shape = "--strategy static --load load.csv --slots 4 --gpus 2 --first-layer 3";
    static const struct {
        const char *format;
        const char *text;
    } exports[] = {
        {"sglang", "{\"physical_to_logical_map\": [\n[0, 1, 0, 1],\n[0, 1, 0, 1]\n]}\n"},
        {"trtllm", "num_slots: 4\ninitial_global_assignments:\n  3: [0, 1, 0, 1]\n"
                   "  4: [0, 1, 0, 1]\nlayer_updates_per_iter: 0\n"},
        {"ascend", "{\"moe_layer_count\": 2, \"layer_list\": [\n"
                   "{\"layer_id\": 3, \"device_count\": 2, \"device_list\": [\n"
                   "{\"device_id\": 0, \"device_expert\": [0, 1]},\n"
                   "{\"device_id\": 1, \"device_expert\": [0, 1]}\n]},\n"
                   "{\"layer_id\": 4, \"device_count\": 2, \"device_list\": [\n"
                   "{\"device_id\": 0, \"device_expert\": [0, 1]},\n"
                   "{\"device_id\": 1, \"device_expert\": [0, 1]}\n]}\n]}\n"},
    };
    for (size_t i = 0; i < sizeof exports / sizeof exports[0]; i++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments, "%s --format %s --out o", shape, exports[i].format);

        cr_assert_eq(run_place(arguments), 0, "%s", output);

        cr_expect_str_eq(get_out("o"), exports[i].text);
    }
}

Test(place, refuses_bad_loads_with_their_line)
{
    put("negative.csv", "1,2,3,4\n5,-6,7,8\n");
    put("nan.csv", "1,2,3,4\n5,6,nan,8\n");
    put("ragged.csv", "1,2,3,4\n5,6,7\n");
    put("zero.csv", "0,0,0,0\n0,0,0,0\n");
    put("empty.csv", "");
    put("short.npy", "no array");
    const char *shape = "--slots 4 --gpus 2";
    static const char *const cases[][2] = {
        {"negative.csv", "negative.csv:2: column 2: -6"},
        {"nan.csv", "nan.csv:2: column 3: 'nan' is no whole number"},
        {"ragged.csv", "ragged.csv:2: 3 values; the first line has 4"},
        {"zero.csv", "zero.csv: no expert has any tokens"},
        {"empty.csv", "empty.csv:1: no values"},
        {"short.npy", "short.npy"},
        {"missing.csv", "missing.csv: No such file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments, "--load %s %s", cases[i][0], shape);

        expect_refusal(arguments, cases[i][1]);
    }
}

Test(place, refuses_shapes_that_do_not_fit)
{
    put("load.csv", "1,2,3,4\n5,6,7,8\n");

    expect_refusal("--load load.csv --slots 2 --gpus 2", "--slots 2: fewer than the 4 experts");
    expect_refusal("--load load.csv --slots 5 --gpus 2", "--slots 5: not a multiple of --gpus 2");
    expect_refusal("--load load.csv --slots 6 --gpus 3 --nodes 2",
                   "--gpus 3: not a multiple of --nodes 2");
    expect_refusal("--load load.csv --slots 4 --gpus 2 --groups 3",
                   "--groups 3: does not divide the 4 experts");
    expect_refusal("--load load.csv --slots 4 --gpus 0", "--gpus 0: not a whole number");
    expect_refusal("--load load.csv --slots 4", "--gpus is missing");
}

/* static answers with the placement in force: what was read is what is written. */
Test(place, every_format_it_writes_is_read_back_slot_for_slot)
{
    static const char *const formats[][2] = {{"csv", "p.csv"},
                                             {"sglang", "p.json"},
                                             {"trtllm", "p.yaml"},
                                             {"ascend", "expert_map.json"}};
    put("load.csv", "9,1,1,1\n1,5,1,1\n2,2,9,2\n");
    const char *shape = "--load load.csv --slots 6 --gpus 2";
    char arguments[256];
    cr_assert_eq(snprintf(arguments, sizeof arguments, "--strategy eplb %s --out whole.csv", shape),
                 (int)strlen(arguments));
    cr_assert_eq(run_place(arguments), 0, "%s", output);

    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        snprintf(arguments, sizeof arguments,
                 "--strategy static %s --previous whole.csv --format %s --first-layer 3 --out %s",
                 shape, formats[i][0], formats[i][1]);
        cr_assert_eq(run_place(arguments), 0, "%s", output);
        snprintf(arguments, sizeof arguments, "--strategy static %s --previous %s --out back.csv",
                 shape, formats[i][1]);
        cr_assert_eq(run_place(arguments), 0, "%s", output);

        cr_expect_str_eq(get_out("back.csv"), get_out("whole.csv"), "%s", formats[i][0]);
    }
}

Test(place, loads_of_sglang_are_read_with_and_without_steps)
{
    put("load.csv", "6,1,1,1\n1,5,1,1\n");
    put("flat.json", "{\"logical_count\": [[6,1,1,1],[1,5,1,1]]}\n");
    put("steps.json", "{\"logical_count\":[[[5,0,1,1],[1,5,0,1]],[[1,1,0,0],[0,0,1,0]]]}\n");
    const char *shape = "--strategy eplb --slots 6 --gpus 2";
    char arguments[256];
    snprintf(arguments, sizeof arguments, "%s --load load.csv --out a.csv", shape);
    cr_assert_eq(run_place(arguments), 0, "%s", output);

    for (int i = 0; i < 2; i++) {
        snprintf(arguments, sizeof arguments, "%s --load %s.json --out b.csv", shape,
                 i == 0 ? "flat" : "steps");
        cr_assert_eq(run_place(arguments), 0, "%s", output);

        cr_expect_str_eq(get_out("a.csv"), get_out("b.csv"));
    }
}

/* The trace's tokens by expert, written out as CSV, place alike. */
Test(place, counts_a_trace)
{
    static const char path[] = SOURCE_DIRECTORY "/scenarios/traces/router-lab/aux_loss";
    struct trace trace;
    struct error error = {0};
    cr_assert_eq(trace_open(&trace, path, &error), STATUS_OK, "%s", error.text);
    char text[16384];
    size_t used = 0;
    for (int32_t layer = 0; layer < trace.num_layers; layer++) {
        int64_t tokens[256] = {0};
        cr_assert_eq(trace_count(&trace, tokens, layer, 0, trace.num_tokens, &error), STATUS_OK);
        for (int32_t expert = 0; expert < trace.num_experts; expert++) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%lld%c",
                                     (long long)tokens[expert],
                                     expert + 1 < trace.num_experts ? ',' : '\n');
        }
    }
    trace_close(&trace);
    cr_assert_lt(used, sizeof text);
    put("load.csv", text);
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             "--strategy eplb --load %s --slots 72 --gpus 8 --out trace.csv", path);

    cr_assert_eq(run_place(arguments), 0, "%s", output);
    cr_assert_eq(run_place("--strategy eplb --load load.csv --slots 72 --gpus 8 --out csv.csv"), 0,
                 "%s", output);

    cr_expect_str_eq(get_out("trace.csv"), get_out("csv.csv"));
}

Test(place, refuses_a_folder_of_loads)
{
    put("load.csv", "1,1,1,1\n");

    expect_refusal("--load . --slots 4 --gpus 2", ".: is a folder");
}

Test(place, refuses_files_that_are_half_a_placement)
{
    static const struct {
        const char *text;
        const char *words;
    } cases[] = {
        {"{\"physical_to_logical_map\": [[0,1,2,3],[0,1,2]]}", "p.json:1: expected a list of 4"},
        {"{\"physical_to_logical_map\": [[0,1,2,-3],[0,1,2,3]]}", "a whole number from 0"},
        {"{\"physical_to_logical_map\": 7}", "physical_to_logical_map: expected a list of layers"},
        {"{\"physical_to_logical_map\": [[0,1,2,2],[0,1,2,3]]}", "p.json:1: expert 3 has no slot"},
        {"{\"physical_to_logical_map\": [[0,1,2,3]]}", "1 layers of 4 slots; the loads"},
        {"num_slots: 5\ninitial_global_assignments:\n  3: [0, 1, 2, 3]\n",
         "p.json:3: 3: expected a list of 5 experts"},
        {"num_slots: 4\ninitial_global_assignments:\n  3: [0, 1, 2, 3]\n  3: [0, 1, 2, 3]\n", "3"},
        {"num_slots: 4\ninitial_global_assignments:\n  4: [0, 1, 2, 3]\n  3: [0, 1, 2, 3]\n",
         "p.json:4: 3: layer numbers must ascend"},
        {"initial_global_assignments:\n  3: [0, 1, 2, 3]\n", "expected num_slots"},
        {"layer_list: [{layer_id: 0, device_list: [{device_id: 1, device_expert: [0, 1]}]}]\n",
         "device_id in order from 0"},
        {"layer_list: []\n", "layers with a device_list"},
        {"{\"logical_count\": [[1,2,3,4]]}", "no placement: give it as --load"},
        {"{\"other\": 1}", "is no placement: neither CSV"},
        {"[1, 2", "p.json:"},
    };
    put("load.csv", "1,1,1,1\n1,1,1,1\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("p.json", cases[i].text);

        expect_refusal("--load load.csv --slots 4 --gpus 2 --previous p.json", cases[i].words);
    }
}

Test(place, refuses_a_placement_of_another_model)
{
    put("load.csv", "1,2,3,4\n5,6,7,8\n");
    put("layers.csv", "0,1,2,3\n");
    put("experts.csv", "0,1,2,3\n0,1,2,7\n");
    put("lost.csv", "0,1,2,3\n0,1,2,2\n");
    const char *shape = "--load load.csv --slots 4 --gpus 2 --previous";
    static const char *const cases[][2] = {
        {"layers.csv", "layers.csv:1: 1 layers of 4 slots"},
        {"experts.csv", "experts.csv:2: slot 3: expert 7 of 4"},
        {"lost.csv", "lost.csv:2: expert 3 has no slot"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments, "%s %s", shape, cases[i][0]);

        expect_refusal(arguments, cases[i][1]);
    }
}

Test(place, names_the_strategy_one_meant)
{
    put("load.csv", "1,2,3,4\n");

    cr_expect_eq(run_place("--strategy swfit --load load.csv --slots 4 --gpus 2 --out o.csv"), 1);

    cr_expect_not_null(strstr(output, "did you mean 'swift'"), "%s", output);
}

/* A directory stands where the file should go: the rename fails, and nothing is left. */
Test(place, leaves_nothing_half_written)
{
    char path[128];
    put("load.csv", "1,2,3,4\n");
    snprintf(path, sizeof path, "%s/o.csv", directory);
    cr_assert_eq(mkdir(path, 0700), 0);

    cr_expect_eq(run_place("--strategy eplb --load load.csv --slots 4 --gpus 2 --out o.csv"), 1);

    cr_expect_not_null(strstr(output, "o.csv: "), "%s", output);
    snprintf(path, sizeof path, "%s/o.csv.partial", directory);
    cr_expect_neq(access(path, F_OK), 0);
}
