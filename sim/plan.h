/*
 * plan.h -- the cheapest deployment that meets latency targets: what is asked, and the answer.
 *
 * A deployment is two points, one for prefill and one for decode, on GPUs of one kind: either a
 * pool each (disaggregated), or one pool that takes turns (shared; both points then have the same
 * layout). A point is one expert-parallel group and its batch; the engine simulates a step of it.
 *
 *     PLAN.yaml -> points -> bounds prune -> engine -> deployments -> front, winner, sensitivity
 *
 * Points are independent of prices, traffic and targets, so finished ones are kept (store_plan.h)
 * and serve every later question.
 */
#ifndef MOESIM_PLAN_H
#define MOESIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "cost.h"
#include "engine_host.h"
#include "metrics.h"
#include "plan_arrivals.h"
#include "plan_offload.h"
#include "scenario.h"
#include "status.h"

#define PLAN_GPUS_MAX 8
#define PLAN_LIST_MAX 24
#define PLAN_SHIFTS   16 /* kinds of sensitivity, both ways */

/* A kind of GPU one could rent. */
struct plan_gpu {
    struct cluster cluster; /* its GPU, gpus_per_node and fitted collectives */
    struct price price;
    double spot_usd_per_gpu_hour; /* of preemptible hours; only where terms.spot_share is above 0 */
    int32_t nodes_max;            /* 0: no limit */
    struct plan_host host;        /* of a node; zeroes: experts live on GPUs alone */
};

struct plan_list {
    int32_t count;
    int32_t value[PLAN_LIST_MAX];
};

/* What is tried for one phase. */
struct plan_space {
    struct plan_list ep;
    struct plan_list tokens_per_rank; /* decode: sequences */
};

/* A deployment that the reader wants to see beside the front. */
struct plan_reference {
    bool given;
    char name[NAME_BYTES];
    int32_t prefill_ep;
    int32_t decode_ep;
    int32_t redundant_experts;
};

struct plan {
    char name[NAME_BYTES];
    char question[TEXT_BYTES];
    struct moe_model model;
    char model_written[PATH_BYTES]; /* as the plan names it */
    char trace_path[PATH_BYTES];
    char trace_preset[NAME_BYTES];
    struct cost_traffic traffic;   /* of the day */
    struct plan_arrivals arrivals; /* a file that it comes from; zeroes: none. Owned */
    double ttft_s;                 /* target, mean in the busiest hour; 0: none */
    double tpot_s;                 /* likewise, of a full batch */
    int32_t ttft_percentile;       /* the target is this one, of plan_percentiles; 0: the mean */
    int32_t tpot_percentile;
    double usd_per_day_max; /* 0: no budget */
    int32_t gpus_max;       /* 0: no limit */
    struct plan_gpu gpu[PLAN_GPUS_MAX];
    int32_t num_gpus;
    struct cost_terms terms; /* prices and watts come from the GPU */

    struct plan_space space[COST_POOLS];
    struct plan_list redundant_experts; /* at least; rounded up to equal slots */
    struct plan_list micro_batches;
    struct plan_list attention_tp;
    struct plan_list expert_tp;
    struct plan_list expert_precision; /* enum precision */
    const struct balance_strategy *strategy[PLAN_LIST_MAX];
    int32_t num_strategies;
    struct plan_offloads offloads; /* num_homes 0: experts stay on GPUs */
    bool disaggregated;            /* which kinds of deployment are tried */
    bool shared;
    double utilisation_max; /* of a pool in the busiest hour */
    double memory_fraction;
    const struct net_model *net;
    const struct gpu_model *gpu_model;
    char kernels[NAME_BYTES];
    char engine[PATH_BYTES]; /* whose host delays first tokens, as the plan names it; "": none */
    struct engine_host host; /* its preset */
    struct plan_reference reference;
    uint64_t seed;
    char *text; /* canonical YAML; owned */
};

enum plan_fate {
    PLAN_OPEN, /* to be simulated, or left because no point of the other pool is */
    PLAN_SIMULATED,
    PLAN_NO_MEMORY,  /* does not fit */
    PLAN_TOO_SLOW,   /* its lower bound misses a latency target by 10 % */
    PLAN_DOMINATED,  /* a simulated point is as fast and as cheap as its bound */
    PLAN_TOO_MANY,   /* more GPUs than may be had */
    PLAN_IMPOSSIBLE, /* layout that the model does not allow */
    PLAN_FATES,
};

struct plan_point {
    int32_t gpu; /* index in the plan */
    enum cost_pool pool;
    int32_t ep;
    int32_t tp;
    int32_t expert_tp; /* GPUs that every expert is cut over; 1 or less: none is */
    int32_t redundant_experts;
    int32_t tokens_per_rank;
    int32_t micro_batches;
    enum precision expert_precision;
    const struct balance_strategy *strategy;
    struct plan_offload offload;

    enum plan_fate fate;
    struct memory_use memory; /* at the mean context */
    double bound_ns;          /* the step takes at least as long */
    double own_bound_ns;      /* part of it that a rank's own tokens take, without experts */
    /* Of the simulation: */
    double step_ns;
    double phase_ns[STEP_PHASE_COUNT];
    double imbalance;   /* busiest rank over mean */
    double hit_rate;    /* of touched experts, those that the GPU had; -1: none is offloaded */
    double low, high;   /* factors on step_ns, by the models' held-out errors; plan_combine's */
    double known_share; /* of the step's time, that these errors are of */
    char why[128];      /* PLAN_IMPOSSIBLE */
};

/* Of requests in the serving simulator, in the busiest hour. */
#define PLAN_PERCENTILES 4
extern const int32_t plan_percentiles[PLAN_PERCENTILES]; /* 50, 90, 95, 99 */
struct plan_latency {
    double mean_s;
    double percentile_s[PLAN_PERCENTILES];
};

/* From the least to the most. */
struct plan_range {
    double low;
    double high;
};

/* A deployment's figures when prefill's and decode's steps are off by the models' held-out errors,
 * each either way, with as many groups as that takes; plan_interval.c. */
struct plan_interval {
    double known_share[COST_POOLS]; /* of a step's time; the rest counts as if it had no error */
    struct plan_range usd_per_day;
    struct plan_range usd_per_request;
    struct plan_range usd_per_million_input;
    struct plan_range usd_per_million_output;
    struct plan_range ttft_s; /* means */
    struct plan_range tpot_s;
    struct plan_range groups[COST_POOLS]; /* in the busiest hour */
};

/* Two points at work for the plan's traffic. */
struct plan_deployment {
    int32_t point[COST_POOLS]; /* indices */
    bool shared;
    int32_t groups[COST_POOLS];     /* in the busiest hour; shared: of COST_PREFILL */
    int32_t num_gpus;               /* in the busiest hour */
    double load[COST_POOLS];        /* share of the full rate in use then; shared: of the steps
                                     * that can read, and of the places that answers have */
    double read_share;              /* shared: of steps that some replica of the group reads in */
    double utilisation[COST_POOLS]; /* most of it that is planned with */
    int32_t added[COST_POOLS];      /* of groups, those that a percentile takes over the means */
    double ttft_s;
    double wait_s; /* part of it: queue and running step */
    double tpot_s;
    struct cost_day cost;
    struct plan_interval interval; /* once the search is through */
    bool meets_targets; /* by its means, or if is_served by simulation: see plan_verdict */
    bool on_front;  /* nobody else is as cheap, as quick to the first token and as quick after it */
    bool is_served; /* a finalist: what follows was simulated, request by request */
    double usd_per_day_mean; /* of a finalist: what its groups for the means cost */
    struct plan_latency ttft;
    struct plan_latency tpot;
    double refused_share; /* of requests that fit into no KV cache */
};

/* What the models behind a step were off when held out: medians, so that half of all measurements
 * lie within; all parts of a step off the same way. */
struct plan_error {
    double share;      /* of the step's time that comes from models with a measured error */
    double low, high;  /* factors on the step's time */
    bool is_known;     /* some part of the step has a measured error */
    char words[384];   /* by part of the step */
    const char *whole; /* of whole steps; NULL: not known either */
};

/* What 10 % more or less of something does to the winner. */
struct plan_shift {
    const char *what; /* "price", "traffic", "context", ... */
    double factor;
    bool feasible; /* some deployment meets the targets; of other lengths: the winner's does */
    double usd_per_day;
    bool winner_changes;
};

struct plan_answer {
    struct plan_point *point; /* [num_points] owned */
    int32_t num_points;
    int64_t fates[PLAN_FATES];
    struct plan_deployment *deployment; /* [num_deployments] by dollars a day; owned */
    int32_t num_deployments;
    int32_t num_front;
    int64_t gpus_least;      /* of those that take more than may be had; 0: none does */
    int32_t num_served;      /* finalists, where a target is a percentile; one that takes more
                              * groups than its means is a deployment of its own */
    int32_t winner;          /* index; -1: no deployment meets the targets */
    int32_t reference;       /* likewise: the cheapest of the reference's layout; -1: none */
    double reference_excess; /* its dollars over the cheapest that is as fast, less 1 */
    struct plan_error error[COST_POOLS]; /* of the winner's points, or the cheapest */
    struct plan_shift shift[PLAN_SHIFTS];
    int32_t num_shifts;
};

/* Reads PLAN.yaml, or the plan of that name in scenarios/plans (path NULL: none, all comes from
 * overrides "slo.ttft=2s"). All problems at once, each with file and line. Release with plan_free,
 * also after a failure. */
MUST_CHECK enum status plan_load(struct plan *plan, const char *path, const char *const *overrides,
                                 int32_t num_overrides, struct error *error);
void plan_free(struct plan *plan); /* safe on a zeroed struct, and twice */

struct plan_store; /* finished points, see store_plan.h */

struct plan_options {
    struct plan_store *store; /* NULL: none */
    int32_t num_threads;
    bool (*progress)(void *context, int64_t done, int64_t total); /* false stops; or NULL */
    void *context;
};

/* Searches. The answer does not depend on num_threads, nor on what the store held. Release with
 * plan_answer_free, also after a failure. */
MUST_CHECK enum status plan_search(struct plan_answer *answer, const struct plan *plan,
                                   const struct plan_options *options, struct error *error);
void plan_answer_free(struct plan_answer *answer);

/* Whether a deployment meets its targets. A target that is a percentile is judged by simulation, so
 * what is no finalist, and by its means meets all, is not judged. */
enum plan_verdict { PLAN_MISSES, PLAN_MEETS, PLAN_NOT_JUDGED };
enum plan_verdict plan_verdict(const struct plan *plan, const struct plan_deployment *deployment);
int32_t plan_count(const struct plan *plan, const struct plan_answer *answer,
                   enum plan_verdict verdict);

const char *plan_fate_name(enum plan_fate fate); /* "simulated", "does not fit", ... */

/* The least seconds to the first token (prefill) or to the next (decode) that a point could give,
 * by the lower bound of its step; 0 for one whose bound was not computed. */
double plan_point_least_s(const struct plan *plan, const struct plan_point *point);

/* By which shares the GPU time of a deployment would be less and more if groups did not come whole:
 * the errors of its pools, by their dollars. */
struct plan_range plan_work_error(const struct plan_deployment *deployment,
                                  const struct plan_point *points);

/* A deployment's day: hour [HOURS_A_DAY] out. */
void plan_hours(struct cost_hour *hour, const struct plan_deployment *deployment,
                const struct plan *plan, const struct plan_point *points);

/* "EP32, 64 sequences a GPU, 32 redundant experts, eplb". */
void plan_point_words(char *text, size_t bytes, const struct plan_point *point);

/* KV tokens of a decoding sequence on average, and the length of a prompt whose tokens look back as
 * far as the computed ones of this traffic do. */
int32_t plan_decode_context(const struct cost_traffic *traffic);
int32_t plan_prefill_context(const struct cost_traffic *traffic);

#endif
