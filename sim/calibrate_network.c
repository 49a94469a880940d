/* calibrate_network.c -- sets of rows, their fits and what the fits are worth. */
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate_network_internal.h"
#include "rng.h"
#include "robust_fit.h"

#define SIZE_FOLDS 8

_Static_assert(sizeof(struct exchange_constants) == NETWORK_CONSTANTS * sizeof(double),
               "the constants are read as an array");

static const double floors[NETWORK_CONSTANTS] = {[NETWORK_BLEND] = 1.0};
static const double scales[] = {0.0, 0.2, 0.05, -1.0};

/* A row of a set, with what its plan takes without overhead and with an overhead of 1. */
struct sample {
    const struct alltoall_row *row;
    double plain_ns;
    double stretched_ns;
    int32_t fold;
};

struct sampler {
    const struct network_set *set;
    const struct network_kind *kind;
    struct sample *sample; /* [num_rows] */
    double *weight;        /* [num_rows] */
    double *error;         /* [num_rows] */
    int64_t num_rows;
    int32_t num_folds;
    int32_t sms_of_rate;
};

static struct exchange_constants constants_of(const struct sampler *sampler, const double *value)
{
    struct exchange_constants constants;
    memcpy(&constants, value, sizeof constants);
    if (sampler->kind->one_startup) {
        constants.far_startup_ns = constants.startup_ns;
    }
    return constants;
}

static double predict(const void *context, int64_t index, const double *value)
{
    const struct sampler *sampler = context;
    const struct sample *sample = &sampler->sample[index];
    struct exchange_constants constants = constants_of(sampler, value);
    struct exchange_cost cost =
        exchange_cost(&constants, &sample->row->leg[0].load, sampler->set->gpu,
                      sample->row->num_sms, sampler->sms_of_rate);
    double overhead = cost.overhead[TIER_SCALE_UP];
    return cost.startup_ns + sample->plain_ns +
           overhead * (sample->stretched_ns - sample->plain_ns);
}

static double measured(const void *context, int64_t index)
{
    return ((const struct sampler *)context)->sample[index].row->latency_ns;
}

static enum status fit_weighted(double *value, const struct sampler *sampler, struct error *error)
{
    const struct network_kind *kind = sampler->kind;
    double prior[NETWORK_CONSTANTS];
    double width[NETWORK_CONSTANTS];
    for (int32_t i = 0; i < NETWORK_CONSTANTS; i++) {
        prior[i] = kind->constant[i].prior;
        width[i] = kind->constant[i].width;
    }
    if (sampler->set->exchange == EXCHANGE_PREPARE) { /* nothing is sent */
        for (int32_t i = NETWORK_FILL; i < NETWORK_CONSTANTS; i++) {
            width[i] = i == NETWORK_TOKEN ? width[i] : 0.0;
        }
        prior[NETWORK_FILL] = 0.0;
    }
    const struct robust_fit fit = {.num_params = NETWORK_CONSTANTS,
                                   .prior = prior,
                                   .width = width,
                                   .floor = floors,
                                   .num_rows = sampler->num_rows,
                                   .weight = sampler->weight,
                                   .scales = scales,
                                   .predict = predict,
                                   .measured = measured,
                                   .context = sampler};
    return robust_fit(value, &fit, error);
}

static bool belongs(const struct alltoall_row *row, const struct network_set *set)
{
    return row->skip == ALLTOALL_USED && row->num_legs == 1 && row->collective == set->collective &&
           row->leg[0].exchange == set->exchange && strcmp(row->cluster, set->cluster) == 0 &&
           strcmp(row->dtype, set->dtype) == 0;
}

static enum status take_rows(struct sampler *sampler, const struct alltoall_rows *rows,
                             struct error *error)
{
    const struct net_model *net = net_find("alpha_beta");
    const struct exchange_cost stretch = {.overhead = {1.0, 1.0}};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < rows->num_rows && status == STATUS_OK; i++) {
        const struct alltoall_row *row = &rows->row[i];
        if (!belongs(row, sampler->set)) {
            continue;
        }
        struct sample *sample = &sampler->sample[sampler->num_rows++];
        *sample = (struct sample){.row = row};
        const struct gpu_spec *gpu = sampler->set->gpu;
        status = alltoall_run(&sample->plain_ns, row, &row->leg[0], gpu, NULL, net);
        if (status == STATUS_OK) {
            status = alltoall_run(&sample->stretched_ns, row, &row->leg[0], gpu, &stretch, net);
        }
    }
    return status == STATUS_OK ? STATUS_OK : error_add(error, status, "out of memory");
}

/* What tells sizes apart. */
static double size_of(const struct alltoall_row *row)
{
    return row->message_bytes > 0.0 ? row->message_bytes : (double)row->tokens;
}

/* How many distinct values below a row's own the set has: its rank among sizes or degrees. */
static int32_t rank_of(const struct sampler *sampler, const struct alltoall_row *row, bool by_ep)
{
    int32_t rank = 0;
    double own = by_ep ? row->ep : size_of(row);
    for (int64_t i = 0; i < sampler->num_rows; i++) {
        double other = by_ep ? sampler->sample[i].row->ep : size_of(sampler->sample[i].row);
        bool is_first = other < own;
        for (int64_t k = 0; k < i && is_first; k++) {
            double before = by_ep ? sampler->sample[k].row->ep : size_of(sampler->sample[k].row);
            is_first = before < other || before > other;
        }
        rank += is_first;
    }
    return rank;
}

static void make_folds(struct sampler *sampler, const struct network_options *options, gsl_rng *rng)
{
    bool by_ep = false;
    for (int64_t i = 1; i < sampler->num_rows && options->holdout == NETWORK_BY_EP; i++) {
        by_ep = by_ep || sampler->sample[i].row->ep != sampler->sample[0].row->ep;
    }
    sampler->num_folds = options->holdout == NETWORK_BY_CHANCE ? 1 : by_ep ? 0 : SIZE_FOLDS;
    for (int64_t i = 0; i < sampler->num_rows; i++) {
        struct sample *sample = &sampler->sample[i];
        if (options->holdout == NETWORK_BY_CHANCE) {
            sample->fold = gsl_rng_uniform(rng) < options->random_share ? 0 : -1;
            continue;
        }
        int32_t rank = rank_of(sampler, sample->row, by_ep);
        sample->fold = by_ep ? rank % NETWORK_FOLDS_MAX : rank % SIZE_FOLDS;
        if (by_ep && sample->fold >= sampler->num_folds) {
            sampler->num_folds = sample->fold + 1;
        }
    }
}

/* Predicts every row of a fold by constants that have not seen it. */
static enum status hold_out(struct network_set *set, struct sampler *sampler, bool by_ep,
                            struct error *error)
{
    enum status status = STATUS_OK;
    double *of_fold = calloc((size_t)sampler->num_rows + 1, sizeof *of_fold);
    if (of_fold == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t fold = 0; fold < sampler->num_folds && status == STATUS_OK; fold++) {
        double value[NETWORK_CONSTANTS];
        int64_t count = 0;
        for (int64_t i = 0; i < sampler->num_rows; i++) {
            sampler->weight[i] = sampler->sample[i].fold == fold ? 0.0 : 1.0;
        }
        status = fit_weighted(value, sampler, error);
        for (int64_t i = 0; i < sampler->num_rows && status == STATUS_OK; i++) {
            const struct sample *sample = &sampler->sample[i];
            if (sample->fold == fold) {
                sampler->error[i] = predict(sampler, i, value) / sample->row->latency_ns - 1.0;
                of_fold[count++] = sampler->error[i];
                set->fold[fold].ep = by_ep ? sample->row->ep : 0;
            }
        }
        set->fold[fold].error = error_summarise(of_fold, count);
    }
    set->num_folds = sampler->num_folds;
    free(of_fold);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status bootstrap(struct network_set *set, struct sampler *sampler, int32_t num_fits,
                             struct error *error)
{
    size_t size = (size_t)num_fits * NETWORK_CONSTANTS;
    double *values = calloc(size + 1, sizeof *values);
    gsl_rng *rng = rng_stream(1, "calibrate network bootstrap", 0);
    enum status status = STATUS_OK;
    if (values == NULL || rng == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (int32_t round = 0; round < num_fits && status == STATUS_OK; round++) {
        double value[NETWORK_CONSTANTS];
        memset(sampler->weight, 0, (size_t)sampler->num_rows * sizeof *sampler->weight);
        for (int64_t i = 0; i < sampler->num_rows; i++) {
            sampler->weight[gsl_rng_uniform_int(rng, (unsigned long)sampler->num_rows)] += 1.0;
        }
        status = fit_weighted(value, sampler, error);
        for (int32_t p = 0; p < NETWORK_CONSTANTS; p++) {
            values[(int64_t)p * num_fits + round] = value[p];
        }
    }
    for (int32_t p = 0; p < NETWORK_CONSTANTS && status == STATUS_OK && num_fits > 0; p++) {
        double *value = values + (int64_t)p * num_fits;
        qsort(value, (size_t)num_fits, sizeof *value, compare_doubles);
        set->low[p] = nearest_rank(value, num_fits, 0.05);
        set->high[p] = nearest_rank(value, num_fits, 0.95);
    }
    gsl_rng_free(rng);
    free(values);
    return status;
}

enum status calibrate_network_set(struct network_set *set, const struct alltoall_rows *rows,
                                  const struct network_options *options,
                                  struct network_calibration *calibration, struct error *error)
{
    size_t size = (size_t)rows->num_rows + 1;
    struct sampler sampler = {.set = set,
                              .kind = network_kind_of(set),
                              .sample = calloc(size, sizeof *sampler.sample),
                              .weight = calloc(size, sizeof *sampler.weight),
                              .error = calloc(size, sizeof *sampler.error),
                              .sms_of_rate = set->num_sms};
    gsl_rng *rng = rng_stream(1, "calibrate network holdout", 0);
    enum status status = STATUS_NO_MEMORY;
    double value[NETWORK_CONSTANTS];
    if (sampler.sample == NULL || sampler.weight == NULL || sampler.error == NULL || rng == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
    } else {
        status = take_rows(&sampler, rows, error);
    }
    if (status == STATUS_OK) {
        make_folds(&sampler, options, rng);
        bool by_ep = options->holdout == NETWORK_BY_EP && sampler.num_folds != SIZE_FOLDS;
        status = hold_out(set, &sampler, by_ep, error);
    }
    if (status == STATUS_OK) {
        status = bootstrap(set, &sampler, options->num_bootstrap, error);
    }
    if (status == STATUS_OK) {
        for (int64_t i = 0; i < sampler.num_rows; i++) {
            sampler.weight[i] = 1.0;
        }
        status = fit_weighted(value, &sampler, error);
    }
    if (status == STATUS_OK) {
        set->constants = constants_of(&sampler, value);
        set->first_error = calibration->num_errors;
        for (int64_t i = 0; i < sampler.num_rows; i++) {
            if (sampler.sample[i].fold >= 0) {
                calibration->ep[calibration->num_errors] = sampler.sample[i].row->ep;
                calibration->error[calibration->num_errors++] = sampler.error[i];
            }
        }
        set->num_errors = (int32_t)(calibration->num_errors - set->first_error);
    }
    gsl_rng_free(rng);
    free(sampler.sample);
    free(sampler.weight);
    free(sampler.error);
    return status;
}
