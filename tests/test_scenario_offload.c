/* test_scenario_offload.c -- the offload keys of a scenario, and every reason to refuse them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"
#include "text_file.h"

#define OVERRIDES_MAX 6

/* Mixtral, 8 experts of 176 M parameters in 32 layers, on two cards: 4 a card and layer. */
static const char small[] =
    "version: 1\nmodel: mixtral-8x7b\ncluster: {gpu: rtx-3090, nodes: 1, gpus_per_node: 2}\n"
    "phase: decode\ncontext_tokens: 100\nprecision: {expert: mxfp4}\n"
    "trace: {preset: mixtral-8x7b, tokens: 1000, tokens_per_rank: 1}\n"
    "price: rtx-3090-marketplace\n";

static struct error error;
static struct scenario scenario;

static void clean_up(void)
{
    scenario_free(&scenario);
}

TestSuite(scenario_offload, .fini = clean_up);

/* Loads it with overrides that are separated by spaces. */
static enum status load(const char *overrides)
{
    const char *path = text_file(".yaml", small);
    char text[512];
    const char *list[OVERRIDES_MAX];
    int32_t count = 0;
    (void)snprintf(text, sizeof text, "%s", overrides);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        cr_assert_lt(count, OVERRIDES_MAX);
        list[count++] = word;
    }
    error = (struct error){0};
    scenario_free(&scenario);
    enum status status = scenario_load(&scenario, path, list, count, &error);
    cr_assert_eq(remove(path), 0);
    return status;
}

static void expect_refused(const char *overrides, const char *message)
{
    cr_expect_eq(load(overrides), STATUS_INVALID, "%s", overrides);
    cr_expect(strstr(error.text, message) != NULL, "'%s' lacks '%s'", error.text, message);
    cr_expect_eq(error.num_problems, 1, "%s", error.text);
}

static void expect_slots(const char *overrides, int32_t slots)
{
    cr_expect_eq(load(overrides), STATUS_OK, "%s", error.text);
    cr_expect_eq(scenario.offload.num_slots, slots, "%s: %d", overrides,
                 (int)scenario.offload.num_slots);
}

#define HOST "offload.where=host offload.slots=2 "

Test(scenario_offload, nothing_is_offloaded_unless_said)
{
    cr_expect_eq(load(""), STATUS_OK, "%s", error.text);
    cr_expect_eq(scenario.offload.home, OFFLOAD_NOTHING);
    cr_expect_eq(load(HOST "offload.where=nothing"), STATUS_OK, "%s", error.text);
    cr_expect_eq(scenario.offload.home, OFFLOAD_NOTHING);
}

Test(scenario_offload, defaults_are_as_documented)
{
    cr_assert_eq(load(HOST), STATUS_OK, "%s", error.text);

    cr_expect_str_eq(scenario.offload.policy->name, "lru");
    cr_expect_eq(scenario.offload.misses, OFFLOAD_FETCH);
    cr_expect_eq(scenario.offload.prefetch, 0);
    cr_expect_float_eq(scenario.offload.link_bytes_per_s, 32e9 * 0.78, 1.0); /* the GPU's */
    cr_expect_float_eq(scenario.offload.link_latency_ns, 10000.0, 1e-9);
}

/* A slot in 32 layers takes 32 x 176,160,768 x 4.25 / 8 bytes = 2.995 GB. */
Test(scenario_offload, slots_are_a_count_a_share_or_bytes)
{
    expect_slots("offload.where=host offload.slots=3", 3);
    expect_slots("offload.where=host offload.share=0.5", 2);
    expect_slots("offload.where=host offload.share=0.51", 3);
    expect_slots("offload.where=host offload.share=1", 4);
    expect_slots("offload.where=host offload.bytes=8.9e9", 2);
    expect_slots("offload.where=host offload.bytes=9.1e9", 3);
    expect_slots("offload.where=host offload.bytes=9e12", 4);
}

Test(scenario_offload, wrong_sizes_are_refused)
{
    expect_refused("offload.where=host", "offload: give one of slots (of each layer), share");
    expect_refused(HOST "offload.share=0.5", "give one of slots");
    expect_refused("offload.where=host offload.slots=5",
                   "offload.slots: 5 are more than the 4 experts of a layer that a GPU serves");
    expect_refused("offload.where=host offload.slots=0", "0: a GPU needs a slot to compute in");
    expect_refused("offload.where=host offload.bytes=1e9",
                   "offload.bytes: 1 GB are less than a slot in each of the 32 layers takes, 2.99");
    expect_refused("offload.where=host offload.slots=-1", "offload.slots");
    expect_refused("offload.slots=2", "where");
    expect_refused(HOST "offload.prefetch=5", "offload.prefetch: 5 are more than the 4 experts");
    expect_refused(HOST "offload.home_bytes=16000000000",
                   "offload.home_bytes: a node's experts take 24 GB, and there are 16");
}

Test(scenario_offload, names_are_suggested)
{
    expect_refused(HOST "offload.policy=lur", "did you mean 'lru'? Known: lru, lfu, lrfu, pinned");
    expect_refused(HOST "offload.wher=host", "wher");
    expect_refused("offload.where=disk offload.slots=2", "disk");
    expect_refused("offload=host", "expected keys and values, as {where: host, slots: 4}");
}

Test(scenario_offload, rates_go_with_what_they_are_of)
{
    expect_refused("offload.where=nvme offload.slots=2",
                   "offload.home_bytes_per_s: is missing: how fast do a node's drives read");
    expect_refused(HOST "offload.cpu_bytes_per_s=7e9", "goes with misses: cpu or faster");
    expect_refused(HOST "offload.cpu_latency_ns=9e4", "goes with misses: cpu or faster");
    expect_refused(HOST "offload.misses=cpu offload.cpu_flops_per_s=1e12",
                   "offload.cpu_bytes_per_s: is missing: CPUs shall compute experts");
    expect_refused("offload.where=nvme offload.slots=2 offload.home_bytes_per_s=7e9 "
                   "offload.misses=cpu offload.cpu_flops_per_s=1e12 offload.cpu_bytes_per_s=1e11",
                   "CPUs compute what lies in host memory, not on drives");
    expect_refused(HOST "offload.profile_steps=7", "goes with policy: pinned");
    expect_refused(HOST "cluster.gpu=h20 price=1 precision.expert=bf16",
                   "offload.link_bytes_per_s: is missing: h20 says nothing about its link");
}

/* Memory that GPU and CPUs share has no link: drives alone decide. */
Test(scenario_offload, drives_need_no_link)
{
    cr_assert_eq(load("offload.where=nvme offload.share=0.5 offload.home_bytes_per_s=5e9 "
                      "cluster.gpu=laptop-32gb price=1"),
                 STATUS_OK, "%s", error.text);

    cr_expect_float_eq(offload_bytes_per_s(&scenario.offload), 5e9, 1e-3);
}

Test(scenario_offload, what_moves_experts_otherwise_is_refused)
{
    expect_refused(HOST "placement.strategy=eplb placement.rebalance_interval_steps=10",
                   "eplb moves experts between GPUs");
    expect_refused(HOST "dispatch.replica=llep", "llep lends experts");
    expect_refused(HOST "overlap.micro_batches=2 trace.tokens_per_rank=4",
                   "does not go with overlap.micro_batches or chunks");
    expect_refused(HOST "model=llama-2-7b trace.preset= trace.tokens=",
                   "llama-2-7b has no experts");
}
