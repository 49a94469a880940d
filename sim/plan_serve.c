/* plan_serve.c -- writes a deployment's scenarios. */
#include "plan_serve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "directory.h"
#include "plan_internal.h"
#include "textfile.h"

#define REQUESTS           20000.0 /* enough for a 99th percentile, */
#define LIVES              10.0    /* or as long as so many requests after each other */
#define LENGTH_CV          0.7
#define PROMPTS_MIN        4.0  /* of a prefill replica at a time */
#define REBALANCE_INTERVAL 1000 /* serve places once, by the loads of warm-up steps */
#define TRACE_TOKENS       131072

/* Groups of part of a node are nodes of their own: whole nodes may hold more of them than asked. */
static void write_cluster(FILE *file, const struct cluster *cluster, int32_t ep, int32_t groups)
{
    int32_t on_node = ep < cluster->gpus_per_node ? ep : cluster->gpus_per_node;
    fprintf(file, "cluster: {%s: %s, nodes: %lld, gpus_per_node: %d}\n",
            cluster->preset[0] != '\0' ? "preset" : "gpu",
            cluster->preset[0] != '\0' ? cluster->preset : cluster->gpu.name,
            (long long)groups * (ep / on_node), (int)on_node);
}

/* A scenario wants constants for its experts where it says fitted; a plan goes on without. */
static const char *compute_model(const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario;
    plan_point_scenario(&scenario, plan, point);
    bool can = plan->model.num_experts == 0 || scenario_choose_kernels(&scenario);
    return can ? plan->gpu_model->name : "roofline";
}

/* The host is said in ms, so what else the engine does is said, too. */
static void write_overlap(FILE *file, const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario;
    plan_point_scenario(&scenario, plan, point);
    fprintf(file, "overlap: {micro_batches: %d", (int)point->micro_batches);
    if (scenario.shared_tokens > 0) {
        int32_t most = point->tokens_per_rank * point->tp; /* a step has no more */
        fprintf(file, ", shared_tokens: %d",
                (int)(scenario.shared_tokens < most ? scenario.shared_tokens : most));
    }
    fputs("}\n", file);
}

static const char *collective_of(const struct plan *plan, const struct plan_point *point)
{
    struct scenario scenario;
    plan_point_scenario(&scenario, plan, point);
    return scenario.collective->name;
}

/* Where prompts and answers of one pool treat misses unlike, a step that has both does what is
 * faster. */
static void write_offload(FILE *file, const struct plan *plan,
                          const struct plan_deployment *deployment, struct plan_point point,
                          const struct plan_answer *answer)
{
    const struct plan_offload *prefill = &answer->point[deployment->point[COST_PREFILL]].offload;
    bool is_unlike = deployment->shared && prefill->misses != point.offload.misses;
    point.offload.misses = is_unlike ? OFFLOAD_FASTER : point.offload.misses;
    plan_offload_write(file, plan, &point);
}

static void write_point(FILE *file, const struct plan *plan,
                        const struct plan_deployment *deployment, enum cost_pool pool,
                        const struct plan_answer *answer)
{
    const struct plan_point *point = &answer->point[deployment->point[pool]];
    int32_t groups = deployment->groups[pool];
    const struct plan_gpu *gpu = &plan->gpu[point->gpu];
    bool prefill = point->pool == COST_PREFILL;
    fprintf(file, "version: 1\nmodel: %s\n", plan->model_written);
    write_cluster(file, &gpu->cluster, point->ep, groups);
    fprintf(file, "parallel: {ep: %d, ", (int)point->ep);
    if (point->expert_tp > 1) {
        fprintf(file, "expert_tp: %d, ", (int)point->expert_tp);
    }
    fprintf(file, "attention: %s, tp: %d}\nphase: %s\ncontext_tokens: %d\n",
            point->tp > 1 ? "tp" : "dp", (int)point->tp, prefill ? "prefill" : "decode",
            prefill ? (int)point->tokens_per_rank : (int)plan_decode_context(&plan->traffic));
    if (plan->model.num_experts > 0) {
        fprintf(file, "precision: {expert: %s}\n", precision_name(point->expert_precision));
    }
    if (plan->trace_preset[0] != '\0') {
        fprintf(file, "trace: {preset: %s, tokens: %d, tokens_per_rank: %d, steps: 8}\n",
                plan->trace_preset, TRACE_TOKENS, (int)point->tokens_per_rank);
    } else if (plan->trace_path[0] != '\0') {
        fprintf(file, "trace: {path: \"%s\", tokens_per_rank: %d, steps: 8}\n", plan->trace_path,
                (int)point->tokens_per_rank);
    } else {
        fprintf(file, "trace: {tokens_per_rank: %d, steps: 8}\n", (int)point->tokens_per_rank);
    }
    if (plan->model.num_experts > 0) {
        fprintf(file, "placement: {strategy: %s, redundant_experts: %d", point->strategy->name,
                (int)point->redundant_experts);
        fprintf(file, point->strategy->needs != 0 ? ", rebalance_interval_steps: %d}\n" : "}\n",
                REBALANCE_INTERVAL);
    }
    write_offload(file, plan, deployment, *point, answer);
    fprintf(file, "dispatch: {collective: %s, dtype: %s, combine_dtype: bf16}\n",
            collective_of(plan, point),
            gpu->cluster.gpu.flops_per_s[PRECISION_FP8] > 0.0 && point->expert_tp <= 1 ? "fp8"
                                                                                       : "bf16");
    write_overlap(file, plan, point);
    fprintf(file,
            "network: %s\ncompute: {model: %s, kernels: %s}\nmemory_fraction: %g\nprice: %.6g\n"
            "seed: %llu\n",
            plan->net->name, compute_model(plan, point), plan->kernels, plan->memory_fraction,
            gpu->price.usd_per_gpu_hour, (unsigned long long)plan->seed);
}

int32_t plan_prompts(const struct plan *plan, const struct plan_point *prefill)
{
    double width = plan_replica_tokens(prefill);
    double of_step = ceil(width / plan_computed_tokens(&plan->traffic));
    return (int32_t)fmax(PROMPTS_MIN, fmin(2.0 * of_step, width));
}

/* Who comes, and for how long. */
struct coming {
    double rate_per_s;
    double duration_s;
};

static struct coming who_comes(const struct plan *plan, const struct plan_deployment *deployment,
                               double share)
{
    double rate_per_s = share * plan_peak_requests_per_s(&plan->traffic);
    double life_s = deployment->ttft_s + plan->traffic.output_tokens * deployment->tpot_s;
    return (struct coming){rate_per_s, ceil(fmax(REQUESTS / rate_per_s, LIVES * life_s))};
}

static void write_serving(FILE *file, const struct plan *plan,
                          const struct plan_deployment *deployment,
                          const struct plan_point *prefill, const struct plan_point *decode,
                          const struct coming *coming)
{
    const struct cost_traffic *traffic = &plan->traffic;
    if (plan->arrivals.path[0] != '\0') {
        fprintf(file, "serving:\n  arrivals: {path: %s}\n", PLAN_SERVE_ARRIVALS);
    } else {
        fprintf(file,
                "serving:\n  arrivals: {rate_per_s: %.6g, cv: 1, duration_s: %g, prompt_tokens: "
                "%.6g, prompt_cv: %g, decode_tokens: %.6g, decode_cv: %g}\n",
                coming->rate_per_s, coming->duration_s, traffic->input_tokens, LENGTH_CV,
                traffic->output_tokens, LENGTH_CV);
    }
    int32_t read = deployment->shared ? prefill->tokens_per_rank * prefill->tp : 0;
    fprintf(file, "  batch: {tokens: %d, sequences: %d}\n",
            (int)(read + decode->tokens_per_rank * decode->tp),
            (int)(decode->tokens_per_rank * decode->tp));
    if (!deployment->shared) {
        fprintf(file, "  prefill: {scenario: prefill.yaml, tokens: %d, sequences: %d}\n",
                (int)(prefill->tokens_per_rank * prefill->tp), (int)plan_prompts(plan, prefill));
    }
    if (plan->host.request_ms > 0.0) {
        fprintf(file, "  host: {request_ms: %.6g}\n", plan->host.request_ms);
    }
    if (traffic->cached_share > 0.0) {
        fprintf(file, "  prefix_cache: {kind: rate, hit_rate: %g}\n", traffic->cached_share);
    }
    if (plan->ttft_s > 0.0 || plan->tpot_s > 0.0) {
        fprintf(file, "  targets: {ttft_s: %g, tpot_s: %g}\n", plan->ttft_s, plan->tpot_s);
    }
}

static enum status close_file(FILE *file, const char *path, struct error *error)
{
    bool failed = fflush(file) != 0 || ferror(file) != 0;
    failed = fclose(file) != 0 || failed;
    return failed ? error_add(error, STATUS_IO, "%s: %s", path, strerror(errno)) : STATUS_OK;
}

static enum status open_file(FILE **file, char path[FILE_PATH_BYTES], const char *directory,
                             const char *name, struct error *error)
{
    int length = snprintf(path, FILE_PATH_BYTES, "%s/%s", directory, name);
    if (length < 0 || length >= FILE_PATH_BYTES) {
        return error_add(error, STATUS_INVALID, "%.40s...: too long a name", directory);
    }
    *file = fopen(path, "w");
    return *file == NULL ? error_add(error, STATUS_IO, "%s: %s", path, strerror(errno)) : STATUS_OK;
}

/* Of a file of requests those of the busiest hour. */
static enum status write_arrivals(const char *directory, const struct plan *plan,
                                  const struct coming *coming, struct error *error)
{
    char path[FILE_PATH_BYTES];
    struct arrivals drawn = {0};
    int length = snprintf(path, sizeof path, "%s/%s", directory, PLAN_SERVE_ARRIVALS);
    if (length < 0 || length >= FILE_PATH_BYTES) {
        return error_add(error, STATUS_INVALID, "%.40s...: too long a name", directory);
    }
    enum status status =
        plan_arrivals_draw(&drawn, &plan->arrivals, &plan->traffic, coming->rate_per_s,
                           coming->duration_s, plan->seed, error);
    if (status == STATUS_OK) {
        status = arrivals_write(&drawn, path, true, error);
    }
    arrivals_free(&drawn);
    return status;
}

enum status plan_serve_write(const char *directory, const struct plan *plan,
                             const struct plan_answer *answer,
                             const struct plan_deployment *deployment, double share,
                             struct error *error)
{
    const struct plan_point *prefill = &answer->point[deployment->point[COST_PREFILL]];
    const struct plan_point *decode = &answer->point[deployment->point[COST_DECODE]];
    char path[FILE_PATH_BYTES];
    FILE *file = NULL;
    enum status status = directory_make(directory, error);
    if (status == STATUS_OK && !deployment->shared) {
        status = open_file(&file, path, directory, "prefill.yaml", error);
        if (status == STATUS_OK) {
            write_point(file, plan, deployment, COST_PREFILL, answer);
            status = close_file(file, path, error);
        }
    }
    const struct coming coming = who_comes(plan, deployment, share);
    if (status == STATUS_OK && plan->arrivals.path[0] != '\0') {
        status = write_arrivals(directory, plan, &coming, error);
    }
    if (status == STATUS_OK) {
        status = open_file(&file, path, directory, "serve.yaml", error);
    }
    if (status == STATUS_OK) {
        fprintf(file, "question: How long do users wait in the busiest hour of %s?\n", plan->name);
        write_point(file, plan, deployment, COST_DECODE, answer);
        write_serving(file, plan, deployment, prefill, decode, &coming);
        status = close_file(file, path, error);
    }
    return status;
}
