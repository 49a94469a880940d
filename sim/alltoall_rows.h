/*
 * alltoall_rows.h -- published measurements of all-to-all exchanges, read for calibrate and
 * validate.
 *
 * One exchange a row, in the columns of alltoall.csv: group (the testbed), library, version, mode,
 * op, gpu, nodes, gpus_per_node, ep, inter_link, tokens_per_rank, hidden, topk, experts, dtype,
 * sms, latency_us, distribution, date, notes. A row is predicted by making the collective's own
 * plan for routing as stated (uniform, or balanced) and running it through a network model.
 *
 * What stands behind the values:
 *   - low-latency DeepEP before June 2025, or of a version that says so, is pure RDMA also inside a
 *     node: deepep_low_latency_rdma; later ones use NVLink there;
 *   - an inter_link that begins with "none" is one scale-up domain, however many trays it spans;
 *   - combine rows of TensorRT-LLM name the format of the dispatch; bf16 travels, or nvfp4 where
 * the op is combine_low_precision;
 *   - nccl-tests have no tokens but a buffer ("message bytes=N"), of which 1/ep goes to each rank.
 */
#ifndef MOESIM_ALLTOALL_ROWS_H
#define MOESIM_ALLTOALL_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "cluster.h"
#include "collective/collective.h"
#include "collective/exchange.h"
#include "net/net.h"
#include "odd_rows.h"
#include "status.h"

enum alltoall_skip {
    ALLTOALL_USED,
    ALLTOALL_SKIP_NUMBER,    /* a cell that is no number, or out of range */
    ALLTOALL_SKIP_RANKS,     /* no nodes, GPUs a node or EP */
    ALLTOALL_SKIP_LATENCY,   /* only a bandwidth is stated */
    ALLTOALL_SKIP_LIBRARY,   /* no collective stands for library and mode */
    ALLTOALL_SKIP_OP,        /* an operation that is not modelled */
    ALLTOALL_SKIP_DTYPE,     /* a format that is not modelled */
    ALLTOALL_SKIP_GPU,       /* no preset has the GPU's name as an alias */
    ALLTOALL_SKIP_NETWORK,   /* GPUs that share a NIC */
    ALLTOALL_SKIP_SHAPE,     /* no tokens or message size, or experts that do not divide */
    ALLTOALL_SKIP_CLUSTER,   /* validate: there is no cluster preset of that kind */
    ALLTOALL_SKIP_CONSTANTS, /* validate: the preset has no constants for the collective */
    ALLTOALL_SKIP_COUNT,
};

/* One direction of a row: its plan, and what of it the cost depends on. */
struct alltoall_leg {
    enum exchange exchange;
    struct transfer_plan plan;
    struct exchange_load load;
};

#define ALLTOALL_LEGS 2

struct alltoall_row {
    int64_t line;
    enum alltoall_skip skip;
    const char *odd;          /* NUMBER: which cell, with file and line; else NULL */
    int32_t gpu;              /* index into alltoall_rows.gpu; -1: not known */
    char cluster[NAME_BYTES]; /* preset that stands for the testbed: GPU family and fabric */
    const char *group, *library, *version, *mode, *op, *gpu_name;
    const struct collective *collective;
    char dtype[NAME_BYTES]; /* of fitted_collective: of the dispatched payload, or any */
    int32_t nodes, gpus_per_node, ep, tokens, hidden_dim, top_k, num_experts, num_sms;
    double dispatch_bytes; /* of a token */
    double combine_bytes;
    double message_bytes; /* of the whole buffer of a rank, instead of tokens; 0: tokens */
    bool is_balanced;     /* every rank that can be is met by every token alike */
    double latency_ns;
    int32_t num_legs; /* 2: dispatch and combine, one after the other */
    struct alltoall_leg leg[ALLTOALL_LEGS];
};

#define ALLTOALL_GPUS_MAX 32

/* Zero-initialise; release with alltoall_rows_free. */
struct alltoall_rows {
    struct arena arena;
    struct odd_rows odd;
    int64_t num_rows;
    struct alltoall_row *row;
    int32_t num_gpus;
    struct gpu_spec *gpu; /* [ALLTOALL_GPUS_MAX] */
};

/* Reads the table and plans every row that can be used; the others say why they cannot. Errors are
 * those of csv_table_read. */
MUST_CHECK enum status alltoall_rows_read(struct alltoall_rows *rows, const char *path,
                                          struct error *error);
void alltoall_rows_free(struct alltoall_rows *rows); /* safe on a zeroed struct, and twice */

/* The cluster that a row was measured on, without constants. */
void alltoall_cluster(struct cluster *cluster, const struct alltoall_row *row,
                      const struct gpu_spec *gpu);

/* Runs a leg's plan, every rank ready at once: *ns out, from then until the last message is there.
 * cost NULL: neither start-up nor overhead. */
MUST_CHECK enum status alltoall_run(double *ns, const struct alltoall_row *row,
                                    const struct alltoall_leg *leg, const struct gpu_spec *gpu,
                                    const struct exchange_cost *cost, const struct net_model *net);

/* What a row takes with the constants, in ns, run through the network model. */
MUST_CHECK enum status alltoall_predict(double *ns, const struct alltoall_row *row,
                                        const struct gpu_spec *gpu,
                                        const struct fitted_collective *fitted,
                                        const struct net_model *net);

const char *alltoall_skip_reason(enum alltoall_skip skip);

#endif
