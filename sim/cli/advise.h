/*
 * advise.h -- what the files of moesim advise share: from a dump to a trace, a scenario, runs and
 * sentences.
 */
#ifndef MOESIM_ADVISE_H
#define MOESIM_ADVISE_H

#include "cluster.h"
#include "collective/collective.h"
#include "import/import.h"
#include "model.h"
#include "price.h"
#include "scenario.h"
#include "study.h"
#include "trace.h"

#define ADVISE_REDUNDANT_MAX 8
#define ADVISE_LINES_MAX     12
#define ADVISE_LINE_BYTES    1536
#define ADVISE_NEXT          3

/* One piece of advice: what it is about, and sentences made of computed numbers. */
struct advise_line {
    const char *topic; /* "hot layers" */
    char text[ADVISE_LINE_BYTES];
};

/* A command to go on with, and what for. */
struct advise_next {
    const char *purpose;
    char command[2 * PATH_BYTES];
};

/* One command, from the question to the answer. */
struct advise {
    /* Asked; zero or NULL where nothing is. */
    struct import_options import; /* paths [1] is the dump or the trace */
    const char *source;           /* import.paths points to it */
    const char *gpu_name;         /* a GPU or a cluster, preset or path */
    const char *price_name;
    const char *redundant_text;
    const char *out;
    int32_t num_gpus;
    int32_t num_nodes;
    int32_t tokens_per_rank;
    int32_t context_tokens;
    bool prefill;
    bool all; /* however long it takes */
    bool force;

    /* Settled by advise_ask, before anything is read or written: */
    struct moe_model model;
    char model_written[PATH_BYTES]; /* as the scenario has it */
    char gpu_written[PATH_BYTES];
    char price_written[PATH_BYTES];
    struct cluster cluster; /* with nodes and GPUs of a node */
    struct price price;
    const struct collective *collective;
    bool is_fitted;         /* the GPU has constants for the experts */
    int32_t redundant_base; /* that make experts divide by ranks */

    /* By advise_take_trace: */
    char trace_path[PATH_BYTES];    /* as opened */
    char trace_written[PATH_BYTES]; /* as the scenario has it */
    bool is_reused;                 /* an earlier call has imported it */
    struct trace trace;

    /* By advise_settle: */
    bool is_asked_tokens; /* tokens_per_rank was asked for, and is not lowered */
    int32_t redundant[ADVISE_REDUNDANT_MAX];
    int32_t num_redundant;
    int32_t redundant_too_many; /* the fewest that do not fit in memory; 0: all fit */
    int32_t interval;
    int64_t num_steps_there; /* that the trace fills */
    int64_t num_steps;       /* that are simulated */
    const char *strategies;  /* as --strategies of compare */
    int64_t kv_tokens;       /* of the fullest rank */

    /* By advise_say: */
    struct advise_line line[ADVISE_LINES_MAX];
    int32_t num_lines;
    struct advise_next next[ADVISE_NEXT];
};

/* Loads model, GPU and price, and deals the GPUs out. Without --model a trace says its own, and of
 * a dump the presets of its shape are offered. STATUS_INVALID says what to do. */
MUST_CHECK enum status advise_ask(struct advise *advise, struct error *error);

/* Its first part: the model. */
MUST_CHECK enum status advise_take_model(struct advise *advise, struct error *error);

/* A preset's name, or the whole path of a file: the scenario lies elsewhere than where paths were
 * typed. */
void advise_write_name(char written[PATH_BYTES], const char *name);

/* Opens the trace that was named, or imports the dump into OUT/trace, unless an earlier call did
 * and neither the files nor what was asked of them have changed since. STATUS_INVALID: the shape is
 * not the model's (with presets of that shape), or OUT/trace is of something else. */
MUST_CHECK enum status advise_take_trace(struct advise *advise, struct error *error);

/* Chooses tokens a rank, steps, interval, redundancy and strategies, and writes OUT/scenario.yaml.
 * STATUS_INVALID: the trace is too short, the GPUs are too small, or the scenario that stands there
 * has been edited. */
MUST_CHECK enum status advise_settle(struct advise *advise, struct error *error);

/* The scenario's text, complete and commented; release with free. NULL: out of memory. */
char *advise_scenario_text(const struct advise *advise);

/* Who could have recorded a trace. */
struct advise_shape {
    int32_t num_layers; /* with experts, or all */
    int32_t top_k;
    int32_t num_experts;
    bool is_exact; /* false: of a look at ids, so it may have some more */
};

/* The presets of a shape, "a, b"; of those with more experts the ones with the fewest. "": none. */
MUST_CHECK enum status advise_presets_like(char *text, size_t bytes,
                                           const struct advise_shape *shape, struct error *error);

/* Puts what was judged into words, and says how to go on. */
void advise_say(struct advise *advise, const struct study *study);

/* A layer by how uneven its ranks are where experts stay in place. */
struct advise_layer {
    int32_t model_layer;
    double step_over_mean; /* busiest rank over the mean, of the mean step */
    double run_over_mean;  /* of the whole run: what does not come and go */
    int32_t expert;        /* the busiest */
    double expert_over_mean;
};

/* Of one layer of a run. */
struct advise_layer advise_layer_of(const struct run_metrics *metrics, int32_t layer);

/* A redundancy's best strategy, and what replicas take of each GPU's memory beyond the first
 * group's. */
struct advise_replicas {
    const struct study_run *best;
    double gain; /* of a step, net, beside experts left in place in the first group */
    int64_t bytes;
    double kv_tokens; /* that the bytes would hold */
};
struct advise_replicas advise_replicas_of(const struct study *study, int32_t group);

/* The run that a group is compared with: experts left in place. */
const struct study_run *advise_reference(const struct study *study, int32_t group);

/* The study's run with a place in a group. */
const struct study_run *advise_place(const struct study *study, int32_t group, int32_t place);

#endif
