/*
 * validate_engines.h -- the rows of a sample of engines under load, and their deployments.
 */
#ifndef MOESIM_VALIDATE_ENGINES_H
#define MOESIM_VALIDATE_ENGINES_H

#include <stdbool.h>
#include <stdint.h>

#include "csv_table.h"
#include "odd_rows.h"
#include "scenario.h"

#define SAMPLE_SEED         1
#define SAMPLE_BATCH_TOKENS 8192 /* what vLLM, SGLang and TensorRT-LLM set where nobody says */
#define SAMPLE_COUNT_MAX    (1 << 20)
#define SAMPLE_BATCH_MAX    65536

/* Columns of aiconfigurator's silicon_sample.csv. */
enum sample_column {
    SAMPLE_ENGINE,
    SAMPLE_MODEL,
    SAMPLE_GPU,
    SAMPLE_MODE,
    SAMPLE_ISL,
    SAMPLE_OSL,
    SAMPLE_GEMM_FORMAT,
    SAMPLE_MOE_FORMAT,
    SAMPLE_BATCH,
    SAMPLE_TP,
    SAMPLE_PP,
    SAMPLE_DP,
    SAMPLE_MOE_TP,
    SAMPLE_EP,
    SAMPLE_TTFT,
    SAMPLE_TPOT,
    SAMPLE_SOURCE,
    SAMPLE_COLUMNS,
};

/* How the model is spread over the GPUs of a group, and how many groups there are. */
struct sample_pool {
    int32_t workers, tp, pp, dp, moe_tp, ep;
};

/* Numbers of a row; what a cell leaves out is 1 of degrees and 0 of the rest. */
struct sample_row {
    int64_t index;
    int32_t isl, osl;
    int32_t batch;              /* requests outstanding */
    struct sample_pool main;    /* answers; reads prompts too, unless others do */
    struct sample_pool prefill; /* only reads prompts; workers 0: there is none */
    double ttft_ms, tpot_ms;
    double predicted_ttft_ms, predicted_tpot_ms;
    const char *reason; /* why it is not predicted; NULL: it is */
    const char *words;  /* what is odd about it; NULL: nothing */
    bool is_done;
};

/* All rows of a table, in its order. */
struct sample {
    struct csv_table table;
    struct arena arena;
    struct odd_rows odd;
    struct sample_row *row; /* [table.num_rows] */
};

static inline const char *sample_cell(const struct sample *sample, const struct sample_row *row,
                                      enum sample_column column)
{
    return csv_cell(&sample->table, row->index, (int32_t)column);
}

/* Reads what a row of mode disagg says of its pools; the file's other rows stay as they are. A file
 * without the columns says nothing of them. Why a row cannot be predicted is its reason then. */
MUST_CHECK enum status sample_read_pools(struct sample *sample, struct error *error);

/* Why a pool of so many GPUs cannot be simulated, whatever it runs; NULL: none. */
const char *sample_pool_reason(const struct sample_pool *pool);

/* Reads all rows of the file at path; those that no deployment could be made of have a reason.
 * STATUS_INVALID, STATUS_IO or STATUS_NO_MEMORY. Release with sample_free, also after a failure. */
MUST_CHECK enum status sample_read(struct sample *sample, const char *path, struct error *error);
void sample_free(struct sample *sample);

/* Whether two rows are of one deployment, whatever its load. */
bool sample_same_deployment(const struct sample *sample, const struct sample_row *a,
                            const struct sample_row *b);
bool sample_same_measurement(const struct sample_row *a, const struct sample_row *b);

/* The pool that reads the prompts of what main answers. Why it cannot be made; NULL: done. */
const char *sample_prefill_scenario(struct scenario *prefill, const struct scenario *main,
                                    const struct sample *sample, const struct sample_row *row);

/* How tokens of a pool come to its experts, by engine. */
void sample_set_exchange(struct scenario *scenario, const char *engine,
                         const struct sample_pool *pool);

/* GPUs, experts and exchange of a pool of the scenario's model. Why it cannot be; NULL: done. */
const char *sample_set_pool(struct scenario *scenario, const struct sample *sample,
                            const struct sample_row *row, const struct sample_pool *pool);

/* Fills what the row says and, by what engines differ in least, the rest; scenario->serving is then
 * serving. Why it cannot be; NULL: done. Release with scenario_free, without serving. */
const char *sample_scenario(struct scenario *scenario, struct serving_config *serving,
                            const struct sample *sample, const struct sample_row *row);

#endif
