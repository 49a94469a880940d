/*
 * bench.h -- what the commands of moe-bench share: options, the shape of a layer, exit codes.
 *
 * moe-bench COMMAND --device cuda|cpu: bench_main.c holds the table of commands. A command of the
 * CUDA device is bench_cuda_COMMAND.c, one of the CPU device is in bench_cpu*.c. Shapes are flags
 * and data are .npy files, so nothing of the simulator is linked.
 */
#ifndef MOESIM_BENCH_H
#define MOESIM_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "gate.h"
#include "grouped_gemm.h"
#include "status.h"

#define BENCH_LIST_MAX 64
#define BENCH_NAME_MAX 64

enum bench_exit {
    BENCH_OK = 0,
    BENCH_FAILED = 1,   /* a kernel differs from its twin, a call fails, an option is wrong */
    BENCH_SKIPPED = 77, /* the device is not there: ctest's code for "skipped" */
};

enum bench_device {
    BENCH_DEVICE_CUDA,
    BENCH_DEVICE_CPU,
};

/* How the ranks of an expert-parallel group meet: virtual ones on one GPU, or by NCCL, a GPU each.
 */
enum bench_ep {
    BENCH_EP_LOOPBACK,
    BENCH_EP_NCCL,
};

/* One MoE layer. Routed experts come from expert and gate, which agree in num_experts. */
struct bench_layer {
    char name[BENCH_NAME_MAX]; /* of the model, for the CSV: --name */
    struct expert_shape expert;
    struct gate_rule gate;
    bool choice_bias;       /* DeepSeek-V3: --choice-bias */
    bool biases;            /* router and experts have biases (GPT-OSS): --biases */
    bool weigh_input;       /* gate weights multiply what goes into an expert (Llama-4) */
    int32_t shared_ffn_dim; /* of all shared experts together; 0: none */
    enum dtype dtype;       /* of activations and weights; fp32 on the CPU only */
};

struct bench_options {
    enum bench_device device;
    const char *csv; /* file the rows are appended to, "-": stdout; NULL: a table on stdout only */
    uint64_t seed;
    bool dry_run;
    bool small;           /* check: --size small, for sanitizers */
    const char *kernels;  /* check, time: names, separated by commas; NULL: all */
    const char *versions; /* check, time: likewise */
    const char *without;  /* versions that are neither checked, timed nor chosen; or NULL */
    double budget_s;      /* no new case is begun after so many seconds; 0: no limit */
    int32_t num_samples;  /* timed repetitions of a case, at most */
    int32_t num_threads;  /* CPU; 0: as many as OpenMP takes */
    int32_t num_ranks;    /* EP ranks: experts in even blocks by id */
    enum bench_ep ep;     /* CUDA, forward */
    int32_t comm_sms;     /* multiprocessors left to communication */
    bool peers;           /* time, forward: the peers too, alternately */
    bool turns;           /* forward: "turn" and a wait for a line before each round */
    struct bench_layer layer;
    int32_t num_tokens_count;
    int32_t num_tokens[BENCH_LIST_MAX];
    int32_t num_routings;
    const char *routing[BENCH_LIST_MAX]; /* a name of bench_routing.h, or FILE.npy[:layer] */
    double sigma;                        /* of the lognormal popularity */
};

/* Reads argv[2..]; argv[1] is the command. All problems go to error, one a line. Strings stay
 * argv's. */
MUST_CHECK enum status bench_options_parse(struct bench_options *options, int argc, char **argv,
                                           struct error *error);
void bench_options_help(FILE *file);

/* Whether name is among --kernels', or there are none. */
bool bench_wants_kernel(const struct bench_options *options, const char *name);
bool bench_wants_version(const struct bench_options *options, const char *name);

/* Whether list, names separated by commas or NULL, has name. */
bool bench_list_has(const char *list, const char *name);

/* The words of flags and CSV for an enum. */
const char *bench_dtype_name(enum dtype dtype);
const char *bench_score_name(enum gate_score score);
const char *bench_activation_name(enum activation activation);

/* Wall clock, for budgets. */
double bench_now_s(void);

/* A number in [0, 2^64) that depends on the seed and the stream alone (splitmix64), and the next of
 * such a state; a float in [-1, 1); a standard normal. The same on every machine. */
uint64_t bench_random_seed(uint64_t seed, uint64_t stream);
uint64_t bench_random(uint64_t *state);
float bench_random_float(uint64_t *state);
double bench_random_normal(uint64_t *state);

#endif
