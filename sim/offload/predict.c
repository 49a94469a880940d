/* predict.c -- pairs of experts, counted; the formula is in predict.h. */
#include "offload/predict.h"

enum status follows_init(struct follows *follows, int32_t num_from, int32_t num_to,
                         struct arena *arena)
{
    follows->num_from = num_from;
    follows->num_to = num_to;
    follows->count = arena_alloc(arena, (size_t)num_from * (size_t)num_to, sizeof(int32_t));
    follows->sources = arena_alloc(arena, (size_t)num_from, sizeof(int32_t));
    return follows->count != NULL && follows->sources != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

void follows_learn(struct follows *follows, const int32_t *from, int32_t num_from,
                   const int32_t *to, int32_t num_to)
{
    for (int32_t i = 0; i < num_from; i++) {
        int32_t *row = &follows->count[(int64_t)from[i] * follows->num_to];
        follows->sources[from[i]]++;
        for (int32_t k = 0; k < num_to; k++) {
            row[to[k]]++;
        }
    }
}

void follows_predict(const struct follows *follows, const int32_t *from, int32_t num_from,
                     const int64_t *base, int64_t num_lookups, double *chance)
{
    double per_lookup = num_lookups > 0 ? 1.0 / (double)num_lookups : 0.0;
    for (int32_t to = 0; to < follows->num_to; to++) {
        chance[to] = num_from == 0 ? (double)base[to] * per_lookup : 0.0;
    }
    for (int32_t i = 0; i < num_from; i++) {
        const int32_t *row = &follows->count[(int64_t)from[i] * follows->num_to];
        double weight =
            1.0 / (((double)follows->sources[from[i]] + PREDICT_BASE_LOOKUPS) * (double)num_from);
        for (int32_t to = 0; to < follows->num_to; to++) {
            double prior = PREDICT_BASE_LOOKUPS * (double)base[to] * per_lookup;
            chance[to] += ((double)row[to] + prior) * weight;
        }
    }
}
