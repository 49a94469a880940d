/* replay_scalar.c -- the twin that every other path must equal bit for bit. */
#include <stddef.h>

#include "replay_internal.h"

static int32_t id_at(const void *id, int32_t id_bytes, int64_t index)
{
    return id_bytes == 1 ? ((const uint8_t *)id)[index] : ((const uint16_t *)id)[index];
}

/* A rank or node counts a row when it was not the last that got in. */
static void count_places(struct replay *replay, const struct replay_counts *counts, int32_t expert,
                         int64_t *node_tokens)
{
    int32_t rank = replay->rank_of_expert[expert];
    counts->rank_tokens[rank] += replay->rank_last_row[rank] != replay->serial;
    replay->rank_last_row[rank] = replay->serial;
    if (node_tokens != NULL) {
        int32_t node = replay->node_of_expert[expert];
        node_tokens[node] += replay->node_last_row[node] != replay->serial;
        replay->node_last_row[node] = replay->serial;
    }
}

int64_t replay_count_scalar(struct replay *replay, const struct replay_counts *counts,
                            const void *id, int64_t first_row, int64_t num_rows)
{
    const struct replay_shape *shape = &replay->shape;
    const int32_t not_routed = replay_not_routed(shape);
    bool has_places = counts->rank_tokens != NULL;
    for (int64_t i = 0; i < num_rows; i++) {
        int64_t *node_tokens = NULL;
        replay->serial++;
        if (counts->node_tokens != NULL) {
            int32_t source;
            (void)replay_run(&source, shape, first_row + i, 1);
            node_tokens = counts->node_tokens + (int64_t)source * shape->num_nodes;
        }
        for (int64_t index = i * shape->top_k; index < (i + 1) * shape->top_k; index++) {
            int32_t expert = id_at(id, shape->id_bytes, index);
            if (expert < shape->num_experts) {
                counts->expert_tokens[expert]++;
                if (has_places) {
                    count_places(replay, counts, expert, node_tokens);
                }
            } else if (expert != not_routed) {
                return index;
            }
        }
    }
    return -1;
}
