/*
 * trace_import_rows.c -- turns a chunk of foreign ids and weights into rows of a trace, checked.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "trace_import_internal.h"

#define WEIGHT_MAX 65504.0 /* the largest float16 */

static int64_t element(const struct trace_import_job *job, const int64_t stride[TRACE_AXIS_COUNT],
                       int64_t token, int32_t layer, int32_t k)
{
    return token * stride[TRACE_AXIS_TOKEN] + job->file_layer[layer] * stride[TRACE_AXIS_LAYER] +
           k * stride[TRACE_AXIS_K];
}

/* All ones mark a pad, unless they are an expert: 255 in a uint8 file of 256 experts. */
static bool is_pad(const struct trace_import_job *job, int64_t index, int64_t id)
{
    switch (job->expert_file.type) {
    case NPY_UINT8:
        return id == UINT8_MAX && id >= job->summary->num_experts;
    case NPY_UINT16:
        return id == UINT16_MAX;
    case NPY_UINT32:
        return id == UINT32_MAX;
    case NPY_UINT64:
        return ((const uint64_t *)job->expert_file.data)[index] == UINT64_MAX;
    case NPY_INT8:
    case NPY_INT16:
    case NPY_INT32:
    case NPY_INT64:
    case NPY_FLOAT16:
    case NPY_FLOAT32:
    case NPY_FLOAT64:
    case NPY_TYPE_COUNT:
        break;
    }
    return id == -1;
}

bool trace_import_has_pads(const struct trace_import_job *job)
{
    for (int64_t token = 0; token < job->summary->num_tokens; token++) {
        for (int32_t layer = 0; layer < job->summary->num_layers; layer++) {
            for (int32_t k = 0; k < job->summary->top_k; k++) {
                int64_t index = element(job, job->stride, token, layer, k);
                if (is_pad(job, index, npy_int(&job->expert_file, index))) {
                    return true;
                }
            }
        }
    }
    return false;
}

static void complain(struct trace_import_job *job, const char *path, int64_t token, int32_t layer,
                     const char *what, double value, const char *advice)
{
    job->num_problems++;
    if (job->num_problems > IMPORT_PROBLEMS_MAX) {
        return;
    }
    (void)error_add(job->error, STATUS_INVALID,
                    "%s: token %lld, layer %d of the file (model layer %d): %s %.15g: %s", path,
                    (long long)token, job->file_layer[layer], job->model_layer[layer], what, value,
                    advice);
}

static void convert_ids(struct trace_import_job *job, int32_t *expert, int64_t token, int32_t layer)
{
    const struct trace_import_summary *summary = job->summary;
    for (int32_t k = 0; k < summary->top_k; k++) {
        int64_t index = element(job, job->stride, token, layer, k);
        int64_t id = npy_int(&job->expert_file, index);
        expert[k] = EXPERT_NOT_ROUTED;
        if (is_pad(job, index, id)) {
            job->summary->num_pads++;
            continue;
        }
        if (id < 0 || id >= summary->num_experts) {
            char advice[128];
            (void)snprintf(
                advice, sizeof advice,
                "ids go from 0 to %d, -1 or all ones is a pad; look at --model and --num-experts",
                summary->num_experts - 1);
            complain(job, job->options->expert_path, token, layer, "expert", (double)id, advice);
            continue;
        }
        expert[k] = (int32_t)id;
        for (int32_t other = 0; other < k; other++) {
            if (expert[other] == expert[k]) {
                complain(job, job->options->expert_path, token, layer, "twice the expert",
                         (double)id,
                         id == 0 ? "if the layer or token was not recorded, write -1"
                                 : "a token picks an expert once");
                break;
            }
        }
    }
}

static void convert_weights(struct trace_import_job *job, float *weight, const int32_t *expert,
                            int64_t token, int32_t layer)
{
    const struct npy *file = &job->gate_weight_file;
    for (int32_t k = 0; k < job->summary->top_k; k++) {
        int64_t index = element(job, job->gate_weight_stride, token, layer, k);
        double value = 0.0;
        if (file->type == NPY_FLOAT16) {
            value = (double)npy_half_to_float(((const uint16_t *)file->data)[index]);
        } else if (file->type == NPY_FLOAT32) {
            value = (double)((const float *)file->data)[index];
        } else {
            value = ((const double *)file->data)[index];
        }
        weight[k] = 0.0f;
        if (expert[k] == EXPERT_NOT_ROUTED) {
            continue; /* whatever a pad weighs */
        }
        if (!(value >= 0.0 && value <= WEIGHT_MAX)) {
            complain(job, job->options->gate_weight_path, token, layer, "gate weight", value,
                     "weights go from 0 to 65504");
            continue;
        }
        weight[k] = (float)value;
    }
}

/* Best expert first, pads last; equal weights keep their order. True if anything moved. */
static bool sort_row(int32_t *expert, float *weight, int32_t top_k)
{
    bool moved = false;
    for (int32_t k = 1; k < top_k; k++) {
        int32_t expert_k = expert[k];
        float weight_k = weight != NULL ? weight[k] : 0.0f;
        int32_t hole = k;
        while (hole > 0 && expert_k != EXPERT_NOT_ROUTED &&
               (expert[hole - 1] == EXPERT_NOT_ROUTED ||
                (weight != NULL && weight[hole - 1] < weight_k))) {
            expert[hole] = expert[hole - 1];
            if (weight != NULL) {
                weight[hole] = weight[hole - 1];
            }
            hole--;
        }
        expert[hole] = expert_k;
        if (weight != NULL) {
            weight[hole] = weight_k;
        }
        moved = moved || hole != k;
    }
    return moved;
}

static void end_run(struct trace_import_job *job)
{
    if (job->num_tokens_run >= IMPORT_RUN_TOKENS) {
        job->summary->num_tokens_alike += job->num_tokens_run;
    }
    job->num_tokens_run = 1;
}

/* Finds runs of identical tokens, also across chunks. */
static void count_alike(struct trace_import_job *job, int64_t first, int64_t count)
{
    int32_t top_k = job->summary->top_k;
    int32_t num_layers = job->summary->num_layers;
    size_t row_bytes = (size_t)top_k * sizeof *job->expert;
    for (int64_t i = 0; i < count; i++) {
        bool same = first + i > 0;
        for (int32_t layer = 0; same && layer < num_layers; layer++) {
            const int32_t *now = job->expert + (layer * count + i) * top_k;
            const int32_t *before = i > 0 ? now - top_k : job->expert_before + layer * top_k;
            same = memcmp(now, before, row_bytes) == 0;
        }
        if (same) {
            job->num_tokens_run++;
        } else {
            end_run(job);
        }
    }
    for (int32_t layer = 0; layer < num_layers; layer++) {
        memcpy(job->expert_before + layer * top_k,
               job->expert + (layer * count + count - 1) * top_k, row_bytes);
    }
    if (first + count == job->summary->num_tokens) {
        end_run(job);
    }
}

enum status trace_import_rows(struct trace_import_job *job, int64_t first, int64_t count)
{
    assert(count >= 1 && count <= job->num_tokens_chunk);
    int32_t top_k = job->summary->top_k;
    for (int32_t layer = 0; layer < job->summary->num_layers; layer++) {
        for (int64_t i = 0; i < count && job->num_problems < IMPORT_PROBLEMS_MAX; i++) {
            int32_t *expert = job->expert + (layer * count + i) * top_k;
            float *weight = NULL;
            convert_ids(job, expert, first + i, layer);
            if (job->gate_weight != NULL) {
                weight = job->gate_weight + (layer * count + i) * top_k;
                convert_weights(job, weight, expert, first + i, layer);
            }
            job->summary->num_rows_reordered += sort_row(expert, weight, top_k) ? 1 : 0;
        }
    }
    if (job->num_problems >= IMPORT_PROBLEMS_MAX) {
        return error_add(job->error, STATUS_INVALID, "%s: stopped reading after %d problems",
                         job->options->expert_path, IMPORT_PROBLEMS_MAX);
    }
    count_alike(job, first, count);
    return STATUS_OK;
}
