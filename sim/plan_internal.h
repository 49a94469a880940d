/*
 * plan_internal.h -- what the plan*.c files share.
 */
#ifndef MOESIM_PLAN_INTERNAL_H
#define MOESIM_PLAN_INTERNAL_H

#include "load_file.h"
#include "plan.h"
#include "trace.h"

/* What every point of a search needs and none changes. */
struct plan_world {
    const struct plan *plan;
    struct trace trace;
    bool has_trace;
    struct load_file load; /* of the whole trace, for strategies that look at one */
    struct arena arena;
};

MUST_CHECK enum status plan_world_open(struct plan_world *world, const struct plan *plan,
                                       int32_t num_threads, struct error *error);
void plan_world_close(struct plan_world *world);

/* All points of the plan, pruned by memory, targets and number of GPUs. [*count] owned, also after
 * a failure. STATUS_INVALID: too many. */
MUST_CHECK enum status plan_enumerate(struct plan_point **points, int32_t *count,
                                      const struct plan *plan, struct error *error);

/* Whether a point fits into memory at the plan's contexts. */
bool plan_point_fits(const struct plan *plan, const struct plan_point *point);

/* The scenario of a point, without a placement of its own. */
void plan_point_scenario(struct scenario *scenario, const struct plan *plan,
                         const struct plan_point *point);

double plan_peak_requests_per_s(const struct cost_traffic *traffic); /* in the busiest hour */

/* Input tokens of a request that no cache holds, at least one; tokens that a replica, of tp ranks,
 * takes in a step; steps of those that a prompt takes. */
double plan_computed_tokens(const struct cost_traffic *traffic);
double plan_replica_tokens(const struct plan_point *point);
double plan_prompt_steps(const struct plan *plan, const struct plan_point *prefill);

/* Lower bound of the step: what the fullest rank computes with experts in perfect balance. *own_ns
 * out: the part of it that is no expert's. */
double plan_point_bound_ns(double *own_ns, const struct plan *plan, const struct plan_point *point);

/* Simulates a step and fills step_ns, phase_ns, imbalance and fate. STATUS_INVALID of the engine
 * becomes PLAN_IMPOSSIBLE. */
MUST_CHECK enum status plan_point_run(struct plan_point *point, const struct plan_world *world,
                                      struct error *error);

/* Takes a point from the store, or simulates and stores it. store NULL: none. */
MUST_CHECK enum status plan_point_find(struct plan_point *point, const struct plan_world *world,
                                       struct plan_store *store, struct error *error);

/* Fingerprint of all that a point's simulation depends on. */
uint64_t plan_point_digest(const struct plan_point *point, const struct plan_world *world);

/* GPUs of this kind a point's step takes a million tokens of, in GPU-seconds; by bound or run. */
double plan_gpu_s_per_million(const struct plan_point *point, double step_ns);

/* The same GPUs, parallelism and placement of experts: two points that can share a pool. */
bool plan_same_layout(const struct plan_point *a, const struct plan_point *b);

bool plan_same_point(const struct plan_point *a, const struct plan_point *b);

/* Fills low, high and known_share of a simulated point. */
void plan_point_note_error(struct plan_point *point, const struct plan *plan);

/* Fills interval of a deployment that was worked out. */
void plan_note_interval(struct plan_deployment *deployment, const struct plan *plan,
                        const struct plan_point *points);

/* What prompts and answers in one pool make of each other in the busiest hour; plan_shared.c. */
struct plan_turns {
    double step_s;           /* mean */
    double read_s;           /* of one in which a given replica reads */
    double read_share;       /* of steps: some replica of the group reads */
    double prompt_chunks;    /* of a prompt, a step each */
    double load[COST_POOLS]; /* of steps that can read; of places for sequences */
};
struct plan_turns plan_take_turns(const struct plan *plan, const struct plan_point *prefill,
                                  const struct plan_point *decode, int32_t groups);

/* The groups that both find room in, at least so many. */
int32_t plan_shared_groups(const struct plan *plan, const struct plan_point *prefill,
                           const struct plan_point *decode, int32_t least);

/* A deployment's groups, latencies and cost for the traffic; false: cannot work together. */
bool plan_deploy(struct plan_deployment *deployment, const struct plan *plan,
                 const struct plan_point *points, int32_t prefill, int32_t decode, bool shared);

/* The same of a deployment whose points are set, with pools at most so much of their rate in use;
 * false too: more GPUs than may be had. */
bool plan_deploy_at(struct plan_deployment *deployment, const struct plan *plan,
                    const struct plan_point *points, const double utilisation[COST_POOLS]);

/* Gives pools more groups in the busiest hour, and as much more room in all others. shared: added
 * of COST_PREFILL. false: more GPUs than may be had. */
bool plan_add_groups(struct plan_deployment *deployment, const struct plan *plan,
                     const struct plan_point *points, const int32_t added[COST_POOLS]);

/* Puts one more deployment, of at most PLAN_FINALISTS, to its place by dollars a day, which is
 * returned; winner and reference stay who they are. */
#define PLAN_FINALISTS 6
int32_t plan_insert(struct plan_answer *answer, const struct plan_deployment *deployment);

/* Fills error of the answer, by its winner. */
void plan_note_error(struct plan_answer *answer, const struct plan *plan);

/* All deployments of the simulated points, by dollars a day, front and winner marked. */
MUST_CHECK enum status plan_combine(struct plan_answer *answer, const struct plan *plan);

/* Simulates finalists request by request, gives them the groups that percentiles take, and chooses
 * the winner among them. The answer must have one by means. */
#define REFUSED_MAX 0.01 /* longer prompts than a cache holds, of drawn lengths */
MUST_CHECK enum status plan_serve_finalists(struct plan_answer *answer,
                                            const struct plan_world *world,
                                            const struct plan_options *options,
                                            struct error *error);

/* A finalist's latency over its target, prefill for TTFT and decode for TPOT; 0: there is none. */
double plan_target_excess(const struct plan_deployment *deployment, const struct plan *plan,
                          enum cost_pool pool);

/* Prompts at a time of a replica that only reads: those of a step, and those that wait for their KV
 * entries to be gone; some, as they differ in length. */
int32_t plan_prompts(const struct plan *plan, const struct plan_point *prefill);

/* What 10 % more or less of price, traffic, context and targets does to the winner. */
#define PLAN_MORE 1.1 /* of a target too, so points that just miss it are simulated */
MUST_CHECK enum status plan_shift_all(struct plan_answer *answer, const struct plan_world *world,
                                      struct plan_store *store, struct error *error);

/* How far whole engines' times to the first token were off, as factors on the plan's: with the host
 * of the engine that it names, or without any. False: steps have no measured error either. */
bool plan_ttft_error(struct plan_range *factor, const struct plan *plan);

/* What is known of the error of a point's step. */
struct plan_error plan_point_error(const struct plan *plan, const struct plan_point *point);

#endif
