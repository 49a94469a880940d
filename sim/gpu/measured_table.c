/* measured_table.c -- points in order of their places, and what lies between them. */
#include <math.h>
#include <stdlib.h>

#include "gpu/measured.h"

#define POINTS_MAX INT64_C(10000000)
#define SAME       1e-9 /* of logarithms */

enum kind { KIND_GEMM, KIND_ATTENTION, KIND_EXPERTS };

static int32_t kind_of(enum kind kind, int32_t phase, enum precision precision)
{
    return ((int32_t)kind * ATTENTION_PHASE_COUNT + phase) * PRECISION_COUNT + (int32_t)precision;
}

struct measured_place measured_place_gemm(const struct gemm_shape *shape, enum precision precision)
{
    return (struct measured_place){.kind = kind_of(KIND_GEMM, shape->is_ragged ? 1 : 0, precision),
                                   .side = {shape->columns, shape->depth, shape->groups},
                                   .along = log(shape->rows)};
}

struct measured_place measured_place_attention(const struct attention_shape *shape,
                                               enum attention_phase phase, enum precision precision)
{
    return (struct measured_place){
        .kind = kind_of(KIND_ATTENTION, (int32_t)phase, precision),
        .side = {shape->q_heads, shape->kv_heads, shape->qk_dim, shape->hidden_dim},
        .across = log(shape->sequences),
        .along = log(shape->tokens)};
}

struct measured_place measured_place_experts(const struct expert_shape *shape,
                                             const struct expert_load *load,
                                             enum precision precision)
{
    return (struct measured_place){.kind = kind_of(KIND_EXPERTS, 0, precision),
                                   .side = {load->slots, shape->hidden_dim, shape->ffn_dim},
                                   .along = log(load->copies)};
}

static int compare_numbers(double a, double b)
{
    return (a > b) - (a < b);
}

/* By kind and shape. */
static int compare_shapes(const struct measured_place *a, const struct measured_place *b)
{
    int order = (a->kind > b->kind) - (a->kind < b->kind);
    for (int32_t i = 0; i < MEASURED_SIDES && order == 0; i++) {
        order = compare_numbers(a->side[i], b->side[i]);
    }
    return order;
}

static int compare_points(const void *left, const void *right)
{
    const struct measured_point *a = left;
    const struct measured_point *b = right;
    int order = compare_shapes(&a->place, &b->place);
    order = order != 0 ? order : compare_numbers(a->place.across, b->place.across);
    order = order != 0 ? order : compare_numbers(a->place.along, b->place.along);
    return order != 0 ? order : (a->row > b->row) - (a->row < b->row);
}

enum status measured_add(struct measured_table *table, const struct measured_place *place,
                         double measured_ns, double predicted_ns, int64_t row, struct error *error)
{
    if (!isfinite(place->across) || !isfinite(place->along) || !(measured_ns > 0.0) ||
        !(predicted_ns > 0.0)) {
        return STATUS_OK;
    }
    if (table->num_points == table->capacity) {
        int64_t capacity = table->capacity > 0 ? 2 * table->capacity : 256;
        void *grown = capacity > POINTS_MAX
                          ? NULL
                          : realloc(table->point, (size_t)capacity * sizeof *table->point);
        if (grown == NULL) {
            return error_add(error, STATUS_NO_MEMORY, "out of memory");
        }
        table->point = grown;
        table->capacity = capacity;
    }
    table->point[table->num_points++] = (struct measured_point){
        .place = *place, .log_ratio = log(measured_ns / predicted_ns), .row = row};
    return STATUS_OK;
}

void measured_sort(struct measured_table *table)
{
    if (table->num_points > 0) {
        qsort(table->point, (size_t)table->num_points, sizeof *table->point, compare_points);
    }
}

void measured_free(struct measured_table *table)
{
    free(table->point);
    *table = (struct measured_table){0};
}

/* The first point whose shape is not below the place's. */
static int64_t find_shape(const struct measured_table *table, const struct measured_place *place)
{
    int64_t low = 0;
    int64_t high = table->num_points;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (compare_shapes(&table->point[middle].place, place) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Linear between what lies at `from` and at `to`, which may be one place. */
static double between(double at, double from, double to, double from_value, double to_value)
{
    double share = to - from > SAME ? (at - from) / (to - from) : 0.0;
    return from_value + share * (to_value - from_value);
}

/* On the curve [begin, end), at a place along it; of points there, their mean. */
static bool on_curve(double *log_ratio, const struct measured_table *table, int64_t begin,
                     int64_t end, double along, int64_t without)
{
    const struct measured_point *below = NULL;
    const struct measured_point *above = NULL;
    double sum = 0.0;
    int32_t count = 0;
    for (int64_t i = begin; i < end && above == NULL; i++) {
        const struct measured_point *point = &table->point[i];
        if (i == without) {
            continue;
        }
        if (fabs(point->place.along - along) <= SAME) {
            sum += point->log_ratio;
            count++;
        } else if (point->place.along < along) {
            below = point;
        } else {
            above = point;
        }
    }
    if (count == 0 && (below == NULL || above == NULL)) {
        return false;
    }
    *log_ratio = count > 0 ? sum / count
                           : between(along, below->place.along, above->place.along,
                                     below->log_ratio, above->log_ratio);
    return true;
}

bool measured_ratio(double *ratio, const struct measured_table *table,
                    const struct measured_place *place, int64_t without)
{
    double log_ratio[2] = {0};
    double across[2] = {0};
    bool has_below = false;
    bool has_above = false;
    *ratio = 1.0;
    if (table == NULL || !isfinite(place->across) || !isfinite(place->along)) {
        return false;
    }
    int64_t next = 0;
    for (int64_t begin = find_shape(table, place);
         begin < table->num_points && compare_shapes(&table->point[begin].place, place) == 0 &&
         !has_above;
         begin = next) {
        double here = table->point[begin].place.across;
        double value = 0.0;
        next = begin;
        while (next < table->num_points && compare_shapes(&table->point[next].place, place) == 0 &&
               table->point[next].place.across <= here + SAME) {
            next++;
        }
        if (!on_curve(&value, table, begin, next, place->along, without)) {
            continue;
        }
        if (here <= place->across + SAME) {
            has_below = true;
            across[0] = here;
            log_ratio[0] = value;
        }
        if (here >= place->across - SAME) {
            has_above = true;
            across[1] = here;
            log_ratio[1] = value;
        }
    }
    if (!has_below || !has_above) {
        return false;
    }
    *ratio = exp(between(place->across, across[0], across[1], log_ratio[0], log_ratio[1]));
    return true;
}
