/*
 * test_plan_offload.c -- plans that may keep experts in host memory or on drives.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "plan.h"
#include "plan_internal.h"
#include "plan_launch.h"
#include "plan_serve.h"

/* 8 layers of 64 experts of 3 x 128 x 64 parameters in bf16: 49,152 bytes each, 25.2 MB in all. */
#define EXPERT_BYTES 49152.0
#define ALL_BYTES    (8.0 * 64.0 * EXPERT_BYTES)

#define GPUS                                                                                       \
    "gpus=[{gpu: rtx-4090, price: 1, gpus_per_node: 2, host: {memory: 1e9, "                       \
    "cpu_bytes_per_s: 60e9, cpu_flops_per_s: 1e12, nvme: 1e12, nvme_bytes_per_s: 6e9, "            \
    "nvme_latency_ns: 1e5}}]"

static const char *const small[] = {
    "model=router-lab-14m",
    "trace.path=scenarios/traces/router-lab/loss_free",
    "traffic={output_tokens_per_s: 200, input_tokens: 1000, output_tokens: 200}",
    GPUS,
    "compute={model: roofline}",
    "search.pools=shared",
    "search.prefill={ep: [1], tokens_per_rank: [256]}",
    "search.decode={ep: [1], sequences_per_rank: [1, 4]}",
    "search.redundant_experts=0",
    "search.micro_batches=1",
    "search.strategy=static",
};

#define SMALL ((int32_t)(sizeof small / sizeof small[0]))

static enum status load(struct plan *plan, const char *const *more, struct error *error)
{
    const char *overrides[SMALL + 4];
    int32_t count = SMALL;
    memcpy(overrides, small, sizeof small);
    for (; *more != NULL; more++) {
        overrides[count++] = *more;
    }
    return plan_load(plan, NULL, overrides, count, error);
}

static struct plan_answer search(struct plan *plan, const char *offload)
{
    struct error error = {0};
    struct plan_answer answer;
    const struct plan_options options = {.num_threads = 1};
    const char *const more[] = {offload, NULL};
    cr_assert_eq(load(plan, more, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(plan_search(&answer, plan, &options, &error), STATUS_OK, "%s", error.text);
    return answer;
}

static const struct plan_point *find(const struct plan_answer *answer, enum cost_pool pool,
                                     int32_t tokens, enum offload_home home, int32_t slots,
                                     enum offload_misses misses)
{
    for (int32_t i = 0; i < answer->num_points; i++) {
        const struct plan_point *point = &answer->point[i];
        bool is_same = point->offload.home == home && point->offload.num_slots == slots &&
                       point->offload.misses == misses;
        if (point->pool == pool && point->tokens_per_rank == tokens && is_same) {
            return point;
        }
    }
    return NULL;
}

Test(plan_offload, points_without_it_are_what_they_are_in_a_plan_that_knows_none)
{
    struct plan plan, plain;
    struct plan_answer answer =
        search(&plan, "search.offload={where: [nothing, host], share: [0.25]}");
    struct plan_answer before = search(&plain, NULL);
    cr_assert_eq(before.num_points, 3);
    cr_assert_eq(answer.num_points, 6);
    for (int32_t i = 0; i < before.num_points; i++) {
        const struct plan_point *point = &before.point[i];
        const struct plan_point *again =
            find(&answer, point->pool, point->tokens_per_rank, OFFLOAD_NOTHING, 0, OFFLOAD_FETCH);
        cr_assert_not_null(again);
        cr_expect_eq(again->step_ns, point->step_ns);
        cr_expect_eq(again->hit_rate, -1.0);
        cr_expect_eq(plan_point_digest(again, &(struct plan_world){.plan = &plan}),
                     plan_point_digest(point, &(struct plan_world){.plan = &plain}));
    }
    plan_answer_free(&answer);
    plan_answer_free(&before);
    plan_free(&plan);
    plan_free(&plain);
}

Test(plan_offload, fewer_experts_on_the_gpu_take_less_memory_and_more_time)
{
    struct plan plan;
    struct plan_answer answer = search(
        &plan, "search.offload={where: [nothing, host, nvme], share: [0.25, 0.5], misses: fetch}");
    const struct plan_point *all = find(&answer, COST_DECODE, 4, OFFLOAD_NOTHING, 0, OFFLOAD_FETCH);
    const struct plan_point *half = find(&answer, COST_DECODE, 4, OFFLOAD_HOST, 32, OFFLOAD_FETCH);
    const struct plan_point *some = find(&answer, COST_DECODE, 4, OFFLOAD_HOST, 16, OFFLOAD_FETCH);
    const struct plan_point *drive = find(&answer, COST_DECODE, 4, OFFLOAD_NVME, 16, OFFLOAD_FETCH);
    cr_assert(all != NULL && half != NULL && some != NULL && drive != NULL);
    cr_expect_eq(all->memory.expert_bytes, (int64_t)ALL_BYTES);
    cr_expect_eq(half->memory.expert_bytes,
                 (int64_t)(ALL_BYTES / 2.0 + MEMORY_OFFLOAD_BUFFERS * EXPERT_BYTES));
    cr_expect_gt(half->memory.expert_bytes, some->memory.expert_bytes);
    cr_expect_lt(all->step_ns, half->step_ns);
    cr_expect_lt(half->step_ns, some->step_ns);
    cr_expect_lt(some->step_ns, drive->step_ns);
    cr_expect_gt(half->hit_rate, some->hit_rate);
    cr_expect_eq(drive->hit_rate, some->hit_rate, "the policy sees no home");
    for (int32_t i = 0; i < answer.num_points; i++) {
        cr_expect_leq(answer.point[i].bound_ns, answer.point[i].step_ns);
    }
    plan_answer_free(&answer);
    plan_free(&plan);
}

/* Two groups on a node: half of the CPUs and drives each, and a copy of the experts each. */
Test(plan_offload, groups_on_a_node_share_its_host)
{
    struct plan plan;
    struct error error = {0};
    struct scenario scenario;
    const char *const more[] = {"search.offload.where=host", NULL};
    cr_assert_eq(load(&plan, more, &error), STATUS_OK, "%s", error.text);
    struct plan_point point = {.ep = 1,
                               .tp = 1,
                               .tokens_per_rank = 1,
                               .micro_batches = 1,
                               .pool = COST_DECODE,
                               .expert_precision = PRECISION_BF16,
                               .strategy = balance_find("static"),
                               .offload = {OFFLOAD_HOST, OFFLOAD_CPU, offload_find("lru"), 0}};
    plan_point_scenario(&scenario, &plan, &point);
    cr_expect_eq(scenario.offload.cpu_bytes_per_s, 30e9);
    cr_expect_eq(scenario.offload.cpu_flops_per_s, 0.5e12);
    cr_expect_eq(plan_offload_bytes(&plan, &point), ALL_BYTES);
    plan.gpu[0].host.memory_bytes = 2.0 * ALL_BYTES;
    cr_expect(plan_offload_fits(&plan, &point));
    plan.gpu[0].host.memory_bytes = 2.0 * ALL_BYTES - 1.0;
    cr_expect_not(plan_offload_fits(&plan, &point));
    point.ep = 2; /* one group on both GPUs */
    cr_expect(plan_offload_fits(&plan, &point));
    plan_point_scenario(&scenario, &plan, &point);
    cr_expect_eq(scenario.offload.cpu_bytes_per_s, 60e9);
    point.ep = 4; /* a group on two nodes: half of the experts on each */
    cr_expect_eq(plan_offload_bytes(&plan, &point), ALL_BYTES / 2.0);
    plan_free(&plan);
}

static double decode_step_ns(const char *latency)
{
    struct plan plan;
    struct error error = {0};
    struct plan_answer answer;
    const struct plan_options options = {.num_threads = 1};
    const char *const more[] = {"search.offload={where: host, share: 0, misses: cpu}", latency,
                                NULL};
    cr_assert_eq(load(&plan, more, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(plan_search(&answer, &plan, &options, &error), STATUS_OK, "%s", error.text);
    const struct plan_point *point = find(&answer, COST_DECODE, 1, OFFLOAD_HOST, 0, OFFLOAD_CPU);
    cr_assert_not_null(point);
    double step_ns = point->step_ns;
    plan_answer_free(&answer);
    plan_free(&plan);
    return step_ns;
}

/* 8 layers, each handed over once. */
Test(plan_offload, a_layer_pays_the_latency_of_the_cpus_once)
{
    double more_ns = decode_step_ns("gpus.0.host.cpu_latency_ns=1e6") -
                     decode_step_ns("gpus.0.host.cpu_latency_ns=0");
    cr_expect_float_eq(more_ns, 8e6, 16.0);
}

static bool says(const char *command, const char *words)
{
    return strstr(command, words) != NULL;
}

struct expected {
    const char *offload;
    const char *words[LAUNCH_ENGINES]; /* NULL: the engine cannot */
};

/* Of 64 experts in 8 layers 16 stay: 6 layers go to the CPU, 6.3 MB are a cache of 6 MiB, and
 * three quarters of 25.2 MB are 0.0 GiB. */
Test(plan_offload, commands_are_of_engines_that_can)
{
    static const struct expected cases[] = {
        {"search.offload={where: host, share: 0.25, misses: fetch}",
         {[LAUNCH_VLLM] = "--cpu-offload-gb 0.0 --cpu-offload-params experts",
          [LAUNCH_LLAMA] = "--cpu-moe --moe-cache-mib 6"}},
        {"search.offload={where: host, share: 0.25, policy: pinned, misses: cpu}",
         {[LAUNCH_LLAMA] = "--n-cpu-moe 6", [LAUNCH_KTRANSFORMERS] = "--kt-num-gpu-experts 16"}},
        {"search.offload={where: host, share: 0, misses: cpu}",
         {[LAUNCH_LLAMA] = "--cpu-moe \\", [LAUNCH_KTRANSFORMERS] = "--kt-num-gpu-experts 0"}},
        {"search.offload={where: nvme, share: 0.25}", {NULL}},
        {"search.offload={where: nothing}",
         {[LAUNCH_VLLM] = "vllm serve",
          [LAUNCH_SGLANG] = "sglang.launch_server",
          [LAUNCH_TRTLLM] = "trtllm-serve"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plan plan;
        struct plan_answer answer = search(&plan, cases[i].offload);
        cr_assert_geq(answer.winner, 0);
        for (int32_t engine = 0; engine < LAUNCH_ENGINES; engine++) {
            char command[LAUNCH_BYTES];
            const char *words = cases[i].words[engine];
            bool can =
                plan_launch(command, &plan, &answer, (enum launch_engine)engine, COST_DECODE);
            cr_expect_eq(can, words != NULL, "%s: %s", cases[i].offload, command);
            cr_expect(words == NULL || says(command, words), "%s: %s", words, command);
            cr_expect_not(says(command, "deepep"), "%s", command);
        }
        plan_answer_free(&answer);
        plan_free(&plan);
    }
}

/* A scenario has one way with misses, for prompts and answers in one pool. */
Test(plan_offload, a_served_pool_does_what_is_faster_where_prompts_and_answers_differ)
{
    struct plan plan;
    struct error error = {0};
    struct plan_answer answer =
        search(&plan, "search.offload={where: host, share: 0.25, misses: [fetch, cpu]}");
    int32_t num_unlike = 0;
    for (int32_t i = 0; i < answer.num_deployments; i++) {
        const struct plan_deployment *deployment = &answer.deployment[i];
        enum offload_misses prefill = answer.point[deployment->point[COST_PREFILL]].offload.misses;
        enum offload_misses decode = answer.point[deployment->point[COST_DECODE]].offload.misses;
        char text[4096] = "", words[64];
        cr_assert_eq(
            plan_serve_write("test_plan_offload.served", &plan, &answer, deployment, 1.0, &error),
            STATUS_OK, "%s", error.text);
        FILE *file = fopen("test_plan_offload.served/serve.yaml", "r");
        cr_assert_not_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        (void)snprintf(words, sizeof words, "misses: %s",
                       offload_misses_name(prefill == decode ? decode : OFFLOAD_FASTER));
        cr_expect(says(text, words), "%s: %s", words, text);
        num_unlike += prefill != decode;
    }
    cr_expect_gt(num_unlike, 0);
    cr_expect_eq(unlink("test_plan_offload.served/serve.yaml"), 0);
    cr_expect_eq(rmdir("test_plan_offload.served"), 0); /* nothing else was written */
    plan_answer_free(&answer);
    plan_free(&plan);
}

Test(plan_offload, what_a_host_cannot_do_is_no_point)
{
    struct plan plan;
    struct plan_answer answer = search(
        &plan, "search.offload={where: [host, nvme], share: [0, 0.25], misses: [fetch, cpu]}");
    int32_t impossible = 0;
    for (int32_t i = 0; i < answer.num_points; i++) {
        const struct plan_point *point = &answer.point[i];
        bool is_wrong = point->offload.home == OFFLOAD_NVME && point->offload.misses == OFFLOAD_CPU;
        cr_expect_eq(point->fate == PLAN_IMPOSSIBLE, is_wrong, "%s", point->why);
        cr_expect(point->offload.num_slots > 0 || point->offload.misses == OFFLOAD_CPU);
        impossible += is_wrong;
    }
    cr_expect_eq(impossible, 6);
    plan_answer_free(&answer);
    plan_free(&plan);
}

Test(plan_offload, wrong_keys_are_refused_with_words)
{
    static const struct {
        const char *more[3];
        const char *words;
    } cases[] = {
        {{"search.offload=all", NULL}, "search.offload: keys are expected"},
        {{"search.offload={places: host}", NULL}, "places"},
        {{"search.offload={where: [nothing, tape]}", NULL}, "nothing, host or nvme"},
        {{"search.offload={share: [0.5, 1]}", NULL}, "a share of the experts in 0 ... 1"},
        {{"search.offload={share: []}", NULL}, "an empty list"},
        {{"search.offload={share: [.1, .2, .3, .4, .5, .6, .7, .8, .9]}", NULL}, "at most 8"},
        {{"search.offload={policy: oldest}", NULL}, "moesim list caches"},
        {{"search.offload={misses: wait}", NULL}, "fetch, cpu or faster"},
        {{"search.offload={where: host}", "gpus.0.host.memory=0", NULL}, "give gpus.host.memory"},
        {{"search.offload={where: nvme}", "gpus.0.host={memory: 1e9}", NULL}, "gpus.host.nvme"},
        {{"gpus.0.host.nvme_bytes_per_s=0", NULL}, "nvme and nvme_bytes_per_s go together"},
        {{"gpus.0.host.cpu_bytes_per_s=0", NULL}, "cpu_bytes_per_s and cpu_flops_per_s"},
        {{"gpus.0.host=much", NULL}, "gpus.host: keys are expected"},
        {{"traffic.requests_per_day=1k", NULL}, "either requests_per_day or output_tokens_per_s"},
        {{"traffic.output_tokens_per_s=few", NULL}, "traffic.output_tokens_per_s: 'few'"},
        {{"traffic={output_tokens_per_s: 0.001, input_tokens: 1, output_tokens: 1M}", NULL},
         "less than a request a day"},
        {{"traffic={input_tokens: 1, output_tokens: 1}", NULL}, "either requests_per_day or"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plan plan;
        struct error error = {0};
        cr_expect_eq(load(&plan, cases[i].more, &error), STATUS_INVALID, "%s", cases[i].words);
        cr_expect_not_null(strstr(error.text, cases[i].words), "%s in %s", cases[i].words,
                           error.text);
        plan_free(&plan);
    }
}

/* 200 tokens a second in answers of 200 are a request a second. */
Test(plan_offload, traffic_may_be_tokens_a_second)
{
    struct plan plan;
    struct error error = {0};
    const char *const more[] = {NULL};
    cr_assert_eq(load(&plan, more, &error), STATUS_OK, "%s", error.text);
    cr_expect_float_eq(plan.traffic.requests_per_day, 86400.0, 1e-6);
    plan_free(&plan);
}

/* 24 batches on 1 and 2 GPUs of 8 x 5 x 3 ways in 5 formats are 28,800. */
Test(plan_offload, a_search_that_spans_too_much_says_so)
{
    struct plan plan;
    struct plan_answer answer;
    struct error error = {0};
    const struct plan_options options = {.num_threads = 1};
    const char *const more[] = {
        "search.decode={ep: [1, 2], sequences_per_rank: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, "
        "13, 14, "
        "15, 16, 17, 18, 19, 20, 21, 22, 23, 24]}",
        "search.offload={where: host, share: [.1, .2, .3, .4, .5, .6, .7, .8], policy: [lru, lfu, "
        "lrfu, pinned, predicted], misses: [fetch, cpu, faster]}",
        "search.expert_precision=[bf16, fp8, int8, mxfp4, nvfp4]", NULL};
    cr_assert_eq(load(&plan, more, &error), STATUS_OK, "%s", error.text);
    cr_expect_eq(plan_search(&answer, &plan, &options, &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "spans more than 16384 points"), "%s", error.text);
    plan_answer_free(&answer);
    plan_free(&plan);
}
