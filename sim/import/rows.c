/*
 * rows.c -- turns foreign ids, weights and scores into rows of a trace, checked.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "import/sink.h"

#define WEIGHT_MAX  65504.0 /* the largest float16 */
#define TILE_TOKENS 32      /* all layers of as many tokens fit in the nearest cache */

int64_t import_array_int(const struct import_array *array, int64_t index, bool ones_are_pads)
{
    static const int64_t ones[NPY_TYPE_COUNT] = {
        [NPY_UINT8] = UINT8_MAX, [NPY_UINT16] = UINT16_MAX, [NPY_UINT32] = UINT32_MAX};
    int64_t value = npy_int_of(array->type, array->data, index);
    if (!ones_are_pads) {
        return value;
    }
    if (array->type == NPY_UINT64) { /* beyond int64, so that value is not all ones */
        return ((const uint64_t *)array->data)[index] == UINT64_MAX ? -1 : value;
    }
    return ones[array->type] > 0 && value == ones[array->type] ? -1 : value;
}

static double array_float(const struct import_array *array, int64_t index)
{
    if (array->type == NPY_FLOAT16) {
        return (double)npy_half_to_float(((const uint16_t *)array->data)[index]);
    }
    if (array->type == NPY_FLOAT32) {
        return (double)((const float *)array->data)[index];
    }
    assert(array->type == NPY_FLOAT64);
    return ((const double *)array->data)[index];
}

static enum status complain(struct import_sink *sink, const struct import_block *block,
                            int64_t token, int32_t layer, const char *what, double value,
                            const char *advice)
{
    return import_complain(sink, block->path, block->place,
                           "token %lld, layer %d of the file (model layer %d): %s %.15g: %s",
                           (long long)(block->first_token + token), sink->file_layer[layer],
                           sink->model_layer[layer], what, value, advice);
}

/* The expert of a slot; -1: there is none, -2: there is no such slot. */
static int64_t expert_of_slot(const struct import_sink *sink, int32_t layer, int64_t slot)
{
    bool by_file = sink->physical_layers == sink->num_file_layers;
    int32_t row = by_file ? sink->file_layer[layer] : layer;
    if (slot < 0 || slot >= sink->physical_slots) {
        return -2;
    }
    return sink->physical[(int64_t)row * sink->physical_slots + slot];
}

/* What one column of a row says: an expert, EXPERT_NOT_ROUTED, or a problem. */
static enum status convert_id(struct import_sink *sink, const struct import_block *block,
                              int64_t token, int32_t layer, int64_t id, int32_t *expert)
{
    int32_t num_experts = sink->summary->num_experts;
    *expert = EXPERT_NOT_ROUTED;
    if (id == -1) {
        sink->summary->num_pads++;
        return STATUS_OK;
    }
    bool is_physical = sink->physical != NULL && (block->is_physical || sink->physical_is_users);
    int64_t slot = id;
    id = is_physical ? expert_of_slot(sink, layer, slot) : id;
    if (is_physical && id < 0) {
        return complain(sink, block, token, layer, "slot", (double)slot,
                        "the physical-to-logical map has no expert there");
    }
    if (id < 0 || id >= num_experts) {
        char advice[128];
        (void)snprintf(
            advice, sizeof advice,
            "ids go from 0 to %d, -1 or all ones is a pad; look at --model and --num-experts",
            num_experts - 1);
        return complain(sink, block, token, layer, "expert", (double)id, advice);
    }
    *expert = (int32_t)id;
    if (sink->stamp[id] == sink->stamp_now) {
        return complain(sink, block, token, layer, "twice the expert", (double)id,
                        id == 0 ? "if the layer or token was not recorded, write -1"
                                : "a token picks an expert once");
    }
    sink->stamp[id] = sink->stamp_now;
    return STATUS_OK;
}

void import_stamp_next(struct import_sink *sink)
{
    if (sink->stamp_now == INT32_MAX) {
        memset(sink->stamp, 0, (size_t)sink->summary->num_experts * sizeof *sink->stamp);
        sink->stamp_now = 0;
    }
    sink->stamp_now++;
}

static enum status convert_ids(struct import_sink *sink, const struct import_block *block,
                               int64_t token, int32_t layer, int32_t *expert)
{
    int32_t top_k = sink->summary->top_k;
    bool ones_are_pads = block->expert.type != NPY_UINT8 || sink->summary->num_experts < 256 ||
                         sink->physical != NULL;
    enum status status = STATUS_OK;
    import_stamp_next(sink);
    for (int32_t k = 0; k < block->top_k && status == STATUS_OK; k++) {
        int64_t index = import_array_at(&block->expert, token, sink->file_layer[layer], k);
        int64_t id = import_array_int(&block->expert, index, ones_are_pads);
        if (k < top_k) {
            status = convert_id(sink, block, token, layer, id, &expert[k]);
        } else if (id != -1) {
            status = complain(sink, block, token, layer, "one expert too many,", (double)id,
                              "look at --model and --top-k");
        }
    }
    return status;
}

static enum status convert_weights(struct import_sink *sink, const struct import_block *block,
                                   int64_t token, int32_t layer, const int32_t *expert,
                                   float *weight)
{
    enum status status = STATUS_OK;
    for (int32_t k = 0; k < sink->summary->top_k && status == STATUS_OK; k++) {
        int64_t index = import_array_at(&block->gate_weight, token, sink->file_layer[layer], k);
        double value = array_float(&block->gate_weight, index);
        weight[k] = 0.0f;
        if (expert[k] == EXPERT_NOT_ROUTED) {
            continue; /* whatever a pad weighs */
        }
        if (!(value >= 0.0 && value <= WEIGHT_MAX)) {
            status = complain(sink, block, token, layer, "gate weight", value,
                              "weights go from 0 to 65504");
            continue;
        }
        weight[k] = (float)value;
    }
    return status;
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

static enum status convert_scores(struct import_sink *sink, const struct import_block *block,
                                  int64_t token, int32_t layer, float *score)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < sink->summary->num_experts && status == STATUS_OK; i++) {
        int64_t index = import_array_at(&block->score, token, sink->file_layer[layer], i);
        double value = array_float(&block->score, index);
        score[i] = (float)value;
        if (!(fabs(value) <= WEIGHT_MAX)) {
            score[i] = 0.0f;
            status = complain(sink, block, token, layer, "score", value,
                              "scores go from -65504 to 65504");
        }
    }
    return status;
}

/* The top_k experts of the highest scores; of equals, the lowest id. */
static void choose_best(int32_t *expert, int32_t top_k, const float *score, int32_t num_experts)
{
    int32_t count = 0;
    for (int32_t id = 0; id < num_experts; id++) {
        if (count == top_k && score[id] <= score[expert[count - 1]]) {
            continue;
        }
        int32_t hole = count < top_k ? count++ : top_k - 1;
        while (hole > 0 && score[expert[hole - 1]] < score[id]) {
            expert[hole] = expert[hole - 1];
            hole--;
        }
        expert[hole] = id;
    }
}

/* The row at hand into the bytes of the trace: a pad becomes all ones by truncation. */
static void store_row(struct import_sink *sink, int64_t row)
{
    int32_t top_k = sink->summary->top_k;
    unsigned char *to = sink->chunk.expert + row * top_k * sink->id_bytes;
    for (int32_t k = 0; k < top_k; k++) {
        uint16_t id = (uint16_t)sink->row[k];
        memcpy(to + k * sink->id_bytes, &id, (size_t)sink->id_bytes); /* little-endian hosts */
    }
}

/* One row, behind those of the chunk. */
static enum status convert_row(struct import_sink *sink, const struct import_block *block,
                               int64_t token, int32_t layer, int64_t at)
{
    const struct import_summary *summary = sink->summary;
    struct import_chunk *chunk = &sink->chunk;
    int64_t row = layer * chunk->capacity + at;
    int32_t *expert = sink->row;
    float *weight = chunk->gate_weight != NULL ? chunk->gate_weight + row * summary->top_k : NULL;
    float *score = chunk->score != NULL ? chunk->score + row * summary->num_experts : NULL;
    enum status status = STATUS_OK;
    if (score != NULL) {
        status = convert_scores(sink, block, token, layer, score);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (block->expert.data == NULL) {
        choose_best(expert, summary->top_k, score, summary->num_experts);
        store_row(sink, row);
        return STATUS_OK;
    }
    status = convert_ids(sink, block, token, layer, expert);
    if (status == STATUS_OK && weight != NULL) {
        status = convert_weights(sink, block, token, layer, expert, weight);
    }
    sink->summary->num_rows_reordered += sort_row(expert, weight, summary->top_k) ? 1 : 0;
    store_row(sink, row);
    return status;
}

static enum status check_arrays(struct import_sink *sink, const struct import_block *block)
{
    bool same_weights = (block->gate_weight.data != NULL) == sink->summary->has_gate_weights;
    bool same_scores = (block->score.data != NULL) == sink->summary->has_scores;
    if (!same_weights || !same_scores) {
        return import_refuse(
            sink, block->path, block->place,
            "has %s %s, unlike the rows before: all rows have them or none",
            (same_weights ? block->score.data : block->gate_weight.data) != NULL ? "also" : "no",
            same_weights ? "scores" : "gate weights");
    }
    if (block->is_physical && sink->physical == NULL) {
        return import_refuse(sink, block->path, block->place,
                             "holds physical ids, of slots: name the map with "
                             "--physical-to-logical FILE");
    }
    if (sink->physical != NULL && sink->physical_layers != sink->num_file_layers &&
        sink->physical_layers != sink->summary->num_layers) {
        return import_refuse(sink, block->path, block->place,
                             "has %d layers, %d of them recorded, but the physical-to-logical map "
                             "has %d",
                             sink->num_file_layers, sink->summary->num_layers,
                             sink->physical_layers);
    }
    return STATUS_OK;
}

/* Rows of one layer: the plain ones at once, the others one by one. */
static enum status convert_layer(struct import_sink *sink, const struct import_block *block,
                                 int32_t layer, int64_t first, int64_t count, int64_t at)
{
    enum status status = STATUS_OK;
    int64_t i = 0;
    while (i < count && status == STATUS_OK) {
        i += import_rows_plain(sink, block, layer, first + i, count - i, at + i);
        if (i < count) {
            status = convert_row(sink, block, first + i, layer, at + i);
            i++;
        }
    }
    return status;
}

enum status import_rows(struct import_sink *sink, const struct import_block *block, int64_t first,
                        int64_t count)
{
    assert(count <= sink->chunk.capacity - sink->chunk.count);
    int64_t num_pads = sink->summary->num_pads;
    enum status status = check_arrays(sink, block);
    for (int64_t i = 0; i < count && status == STATUS_OK; i += TILE_TOKENS) {
        int64_t tile = count - i < TILE_TOKENS ? count - i : TILE_TOKENS;
        int64_t at = sink->chunk.count + i;
        bool is_done = import_tile(sink, block, first + i, tile, at);
        int32_t num_layers = is_done ? 0 : sink->summary->num_layers;
        for (int32_t layer = 0; layer < num_layers && status == STATUS_OK; layer++) {
            status = convert_layer(sink, block, layer, first + i, tile, at);
        }
    }
    bool no_room_for_pads = sink->summary->num_experts == 256 && !sink->has_gaps;
    sink->wants_restart =
        no_room_for_pads && sink->summary->num_pads > num_pads && sink->num_problems == 0;
    return status;
}
