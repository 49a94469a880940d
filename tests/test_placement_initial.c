/*
 * test_placement_initial.c -- a run that starts from a placement out of a file.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"
#include "scenario.h"
#include "simulate.h"

#define NUM_SLOTS 16 /* mixtral-8x7b: 32 layers of 8 experts, and 8 redundant */

#define SMALL                                                                                      \
    "version: 1\nmodel: mixtral-8x7b\ncluster: {gpu: h100-sxm, nodes: 1, gpus_per_node: 8}\n"      \
    "phase: decode\ncontext_tokens: 128\ntrace: {path: trace, tokens_per_rank: 4, steps: 2}\n"     \
    "placement: {initial: p.json, redundant_experts: 8}\nprice: h100-neocloud\n"

static struct error error;
static struct scenario scenario;
static char directory[64];

static void make_directory(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/moesim-initial-%d", (int)getpid());
    cr_assert_eq(mkdir(directory, 0700), 0);
}

static void clean_up(void)
{
    char command[128];
    scenario_free(&scenario);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(placement_initial, .init = make_directory, .fini = clean_up);

static FILE *create(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    return file;
}

/* SGLang's map: slot s of a layer holds expert (s + shift of the layer) % 8. */
static void write_map(int32_t num_layers, int32_t num_slots, int32_t (*shift)(int32_t layer))
{
    FILE *file = create("p.json");
    fputs("{\"physical_to_logical_map\": [", file);
    for (int32_t layer = 0; layer < num_layers; layer++) {
        fputs(layer > 0 ? ",\n[" : "[", file);
        for (int32_t slot = 0; slot < num_slots; slot++) {
            fprintf(file, "%s%d", slot > 0 ? "," : "", (slot + shift(layer)) % 8);
        }
        fputs("]", file);
    }
    fputs("]}\n", file);
    cr_assert_eq(fclose(file), 0);
}

static int32_t none(int32_t layer)
{
    (void)layer;
    return 0;
}

static int32_t by_layer(int32_t layer)
{
    return layer;
}

static enum status load(const char *override)
{
    char path[128];
    FILE *file = create("s.yaml");
    fputs(SMALL, file);
    cr_assert_eq(fclose(file), 0);
    (void)snprintf(path, sizeof path, "%s/trace", directory);
    (void)mkdir(path, 0700); /* what is in it the scenario does not look at */
    (void)snprintf(path, sizeof path, "%s/s.yaml", directory);
    error = (struct error){0};
    scenario_free(&scenario);
    return scenario_load(&scenario, path, &override, override != NULL ? 1 : 0, &error);
}

static void refuse(const char *override, const char *words)
{
    cr_assert_eq(load(override), STATUS_INVALID, "%s", words);
    cr_assert_eq(error.num_problems, 1, "%s", error.text);
    cr_assert(strstr(error.text, words) != NULL, "'%s' is not in: %s", words, error.text);
}

Test(placement_initial, the_scenario_holds_the_files_slots)
{
    write_map(32, NUM_SLOTS, by_layer);

    cr_assert_eq(load(NULL), STATUS_OK, "%s", error.text);

    for (int32_t layer = 0; layer < 32; layer++) {
        for (int32_t slot = 0; slot < NUM_SLOTS; slot++) {
            cr_assert_eq(scenario.initial_expert_of_slot[layer * NUM_SLOTS + slot],
                         (slot + layer) % 8);
        }
    }
}

Test(placement_initial, equal_text_means_equal_placements)
{
    char sealed[128];
    write_map(32, NUM_SLOTS, none);
    cr_assert_eq(load(NULL), STATUS_OK, "%s", error.text);
    const char *digest = strstr(scenario.text, "initial_digest: ");
    cr_assert_not_null(digest, "%s", scenario.text);
    (void)snprintf(sealed, sizeof sealed, "placement.initial_digest=%.18s",
                   digest + strlen("initial_digest: "));

    cr_assert_eq(load(sealed), STATUS_OK, "%s", error.text);
    write_map(32, NUM_SLOTS, by_layer);
    refuse(sealed, "is not the placement it was");
}

Test(placement_initial, what_does_not_fit_is_refused_in_one_line)
{
    write_map(32, NUM_SLOTS, none);
    refuse("placement.initial=nothing.json", "moesim place makes one");
    refuse("placement.redundant_experts=0",
           "16 slots a layer; mixtral-8x7b has 8 experts, which makes "
           "placement.redundant_experts: 8");
    write_map(31, NUM_SLOTS, none);
    refuse(NULL, "31 layers; mixtral-8x7b has 32 with experts");
    write_map(32, 8, none);
    refuse("placement.redundant_experts=16", "which makes placement.redundant_experts: 0");
    FILE *file = create("p.json");
    fputs("num_slots: 16\n", file);
    cr_assert_eq(fclose(file), 0);
    refuse(NULL, "is no placement");
}

/* Layers 3 to 60 of DeepSeek-V3 have experts. A file may number them by the model, from 0, or have
 * a row for the dense ones too. */
Test(placement_initial, layers_are_found_by_number_or_in_order)
{
    for (int form = 0; form < 3; form++) {
        FILE *file = create("p.json");
        fputs(form < 2 ? "num_slots: 256\ninitial_global_assignments:\n"
                       : "{\"physical_to_logical_map\": [\n",
              file);
        int32_t first = form == 0 ? 3 : 0;
        int32_t count = form == 2 ? 61 : 58;
        for (int32_t row = 0; row < count; row++) {
            if (form < 2) {
                fprintf(file, "  %d: ", first + row);
            }
            for (int32_t slot = 0; slot < 256; slot++) {
                int32_t moe_layer = form == 2 ? row - 3 : row;
                fprintf(file, "%s%d", slot > 0 ? "," : "[", (slot + 256 + moe_layer) % 256);
            }
            fputs(form < 2 || row == count - 1 ? "]\n" : "],\n", file);
        }
        fputs(form < 2 ? "" : "]}\n", file);
        cr_assert_eq(fclose(file), 0);
        file = create("v3.yaml");
        fputs("inherits: s.yaml\nmodel: deepseek-v3\nplacement: {redundant_experts: 0}\n", file);
        cr_assert_eq(fclose(file), 0);
        (void)load(NULL); /* writes s.yaml */
        char path[128];
        (void)snprintf(path, sizeof path, "%s/v3.yaml", directory);
        error = (struct error){0};
        scenario_free(&scenario);

        cr_assert_eq(scenario_load(&scenario, path, NULL, 0, &error), STATUS_OK, "%s", error.text);

        for (int32_t layer = 0; layer < 58; layer++) {
            cr_assert_eq(scenario.initial_expert_of_slot[layer * 256], layer, "form %d", form);
        }
    }
}

/* Loads that name one expert: it gets the copies. */
Test(placement_initial, loads_of_sglang_are_placed_by_eplb)
{
    FILE *file = create("p.json");
    fputs("{\"logical_count\": [", file);
    for (int32_t layer = 0; layer < 32; layer++) {
        fputs(layer > 0 ? ",[1,1,1,90,1,1,1,1]" : "[1,1,1,90,1,1,1,1]", file);
    }
    fputs("]}\n", file);
    cr_assert_eq(fclose(file), 0);

    cr_assert_eq(load(NULL), STATUS_OK, "%s", error.text);

    int32_t copies = 0;
    for (int32_t slot = 0; slot < NUM_SLOTS; slot++) {
        copies += scenario.initial_expert_of_slot[slot] == 3;
    }
    cr_assert_eq(copies, 9);
}

/* Runs two steps of DeepSeek-V3 on 32 GPUs, slot s of each layer holding expert (a s + b) % 256,
 * and returns the digest; a 0: without a file. */
static uint64_t run_digest(int32_t a, int32_t b)
{
    char path[128];
    struct trace trace;
    struct engine *engine = NULL;
    FILE *file = create("p.json"); /* CSV: the content decides, not the name */
    for (int32_t layer = 0; layer < 58; layer++) {
        for (int32_t slot = 0; slot < 256; slot++) {
            fprintf(file, "%s%d", slot > 0 ? "," : "", (a * slot + b) % 256);
        }
        fputs("\n", file);
    }
    cr_assert_eq(fclose(file), 0);
    file = create("v3.yaml");
    fputs("version: 1\nmodel: deepseek-v3\ncluster: {gpu: h100-sxm, nodes: 4, gpus_per_node: 8}\n"
          "phase: decode\ncontext_tokens: 128\nprice: h100-neocloud\n"
          "trace: {preset: deepseek-v3, tokens: 256, tokens_per_rank: 4, steps: 2}\n",
          file);
    fputs(a != 0 ? "placement: {initial: p.json}\n" : "", file);
    cr_assert_eq(fclose(file), 0);
    (void)snprintf(path, sizeof path, "%s/v3.yaml", directory);
    scenario_free(&scenario);
    cr_assert_eq(scenario_load(&scenario, path, NULL, 0, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(simulate_open_trace(&trace, &scenario, 1, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(engine_open(&engine, &scenario, &trace, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(engine_run(engine, NULL, &error), STATUS_OK, "%s", error.text);
    uint64_t digest = engine_metrics(engine)->digest;
    engine_close(engine);
    trace_close(&trace);
    return digest;
}

/* The engine's own placement is slot s for expert s % 256. */
Test(placement_initial, the_engine_starts_from_it)
{
    uint64_t own = run_digest(0, 0);

    cr_assert_eq(run_digest(1, 0), own);
    cr_assert_neq(run_digest(5, 3), own);
}
