/*
 * bench_csv.h -- the rows that moe-bench leaves: one schema for every command and device.
 *
 * A row is one measured or checked case. Where a column does not apply it is empty. Which columns
 * there are, and their units, stands in bench_csv.c (bench_csv_header); the file begins with them.
 */
#ifndef MOESIM_BENCH_CSV_H
#define MOESIM_BENCH_CSV_H

#include <stdint.h>
#include <stdio.h>

#include "bench.h"
#include "status.h"

/* Of the machine at one moment. 0 and "": not known. */
struct bench_machine {
    char device[96]; /* "NVIDIA H100 80GB HBM3", "Intel(R) Xeon(R) ..., 16 threads" */
    char driver[32]; /* of the GPU; for the CPU device the BLAS */
    int32_t num_sms; /* multiprocessors, or threads */
    int32_t sm_mhz;  /* clocks and power as they are right after the case */
    int32_t hbm_mhz;
    double power_w;
    int32_t temperature_c;
};

/* Zero-initialise, fill in what applies. Negative relative_error: not checked. */
struct bench_row {
    const char *command; /* check, time, forward, ceilings */
    const char *kernel;  /* gate, permute, combine, grouped_gate_up, grouped_down, layer, ... */
    const char *version; /* v1, v2, ...; of a peer its name */
    const char *phase;   /* forward: gate, permute, gate_up, down, combine, shared, dispatch, ... */
    const struct bench_layer *layer; /* NULL: no shape */
    int32_t num_tokens;              /* of the whole group of virtual ranks */
    const char *routing;
    int32_t rank;
    int32_t num_ranks;            /* 0: the row is of no rank */
    const int32_t *expert_tokens; /* [num_expert_tokens] rows of each expert of this rank */
    int32_t num_expert_tokens;
    int32_t num_samples;
    double median_ns;
    double min_ns;
    double p10_ns;
    double p90_ns;
    double flops; /* arithmetic that the case needs, multiplications and additions apart */
    double bytes; /* memory traffic that the case needs: every input and output once */
    double copy_bytes_per_s; /* this run's copy ceiling, read + written; 0: not measured */
    double gemm_flops_per_s; /* dense GEMM of the same dtype; where that was done, in turns */
    double relative_error;   /* Frobenius, against the twin */
    const char *status;      /* ok, differs, failed, skipped */
};

struct bench_csv {
    FILE *file; /* NULL: rows go to the table only */
    bool close;
    FILE *table; /* where people read along: a line a row */
    uint64_t seed;
    struct bench_machine machine;
};

/* Column names, without newline. */
const char *bench_csv_header(void);

/* Of the sources that this program was built from; "unknown" outside of a git checkout. */
const char *bench_commit(void);

/* Appends to path ("-": stdout, and the table goes to stderr; NULL: the table alone, on stdout). A
 * new or empty file gets the header; one with another header is refused (STATUS_INVALID). */
MUST_CHECK enum status bench_csv_open(struct bench_csv *csv, const char *path, uint64_t seed,
                                      struct error *error);
/* Writes a row and flushes it, and a line of the table, so that a run that is cut off keeps what it
 * has measured. */
MUST_CHECK enum status bench_csv_row(struct bench_csv *csv, const struct bench_row *row);
MUST_CHECK enum status bench_csv_close(struct bench_csv *csv); /* STATUS_IO: the disk is full */

/* Sorts sample[count] and fills num_samples, median, min, p10 and p90 (nearest rank). */
void bench_row_samples(struct bench_row *row, double *sample_ns, int32_t count);

#endif
