/*
 * nested_rows.c -- reads nested lists twice: once for their shape, once for the ids, a piece at a
 * time.
 */
#include "import/nested_rows.h"

#include <stdio.h>
#include <stdlib.h>

#include "import/json_pull.h"

#define PIECE_IDS   (INT64_C(64) << 10) /* passed on at a time: stays in the cache */
#define LAYERS_MAX  4096
#define TOP_K_MAX   65535
#define PLACE_BYTES 32

/* A walk over the lists; an axis is a depth. */
struct list_walk {
    struct json_reader reader;
    int64_t count[TRACE_AXIS_COUNT]; /* so far, in the list that is open */
    int64_t size[TRACE_AXIS_COUNT];  /* of lists that were closed; -1: none was */
};

enum item {
    ITEM_ID,
    ITEM_END,
    ITEM_BAD, /* no number where one belongs, or a list longer than another */
};

static struct list_walk begin_walk(const struct nested_rows *rows)
{
    const unsigned char *begin = (const unsigned char *)rows->text;
    struct list_walk walk = {.size = {-1, -1, -1}};
    walk.reader.begin = walk.reader.at = walk.reader.kept = begin;
    walk.reader.end = begin + rows->length;
    walk.reader.line = rows->line;
    return walk;
}

static enum item next_item(struct list_walk *walk, int32_t *id)
{
    struct json_token token;
    while (true) {
        int32_t axis = walk->reader.depth - 1; /* of the list that is open */
        enum json_kind kind = json_next(&walk->reader, &token);
        if (kind == JSON_ARRAY && axis + 1 < TRACE_AXIS_COUNT) {
            if (axis >= 0) {
                walk->count[axis]++;
            }
            walk->count[axis + 1] = 0;
        } else if (kind == JSON_ARRAY_END) {
            if (walk->size[axis] >= 0 && walk->size[axis] != walk->count[axis]) {
                return ITEM_BAD;
            }
            walk->size[axis] = walk->count[axis];
            if (axis == 0) {
                return ITEM_END;
            }
        } else {
            int64_t whole = 0;
            bool is_id = kind == JSON_NUMBER && axis == TRACE_AXIS_COUNT - 1 &&
                         json_whole(&token, &whole) && whole >= INT32_MIN && whole <= INT32_MAX;
            walk->count[TRACE_AXIS_COUNT - 1]++;
            *id = (int32_t)whole;
            return is_id ? ITEM_ID : ITEM_BAD;
        }
    }
}

/* Leaves tokens, layers and k in walk->size. */
static bool find_shape(struct list_walk *walk)
{
    enum item item = ITEM_ID;
    int32_t id = 0;
    while (item == ITEM_ID) {
        item = next_item(walk, &id);
    }
    int64_t layers = walk->size[1];
    int64_t top_k = walk->size[2];
    bool is_small = layers >= 1 && layers <= LAYERS_MAX && top_k >= 1 && top_k <= TOP_K_MAX;
    return item == ITEM_END && (walk->size[0] == 0 || is_small);
}

static enum status pass_on(const struct nested_rows *rows, const int64_t *size, const char *place,
                           const struct import_input *input, struct import_sink *sink)
{
    int64_t token_ids = size[1] * size[2];
    int64_t piece = PIECE_IDS / token_ids > 0 ? PIECE_IDS / token_ids : 1;
    piece = piece < size[0] ? piece : size[0];
    int32_t *ids = malloc((size_t)(piece * token_ids) * sizeof *ids);
    if (ids == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory for %lld tokens",
                         (long long)piece);
    }
    struct import_block block = {
        .num_layers = (int32_t)size[1],
        .top_k = (int32_t)size[2],
        .expert = {.data = (const unsigned char *)ids,
                   .type = NPY_INT32,
                   .stride = {token_ids, size[2], 1}},
        .path = rows->path,
        .place = place,
    };
    struct list_walk walk = begin_walk(rows);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && block.first_token < size[0] && import_wants_more(sink)) {
        int64_t left = size[0] - block.first_token;
        block.num_tokens = left < piece ? left : piece;
        for (int64_t i = 0; i < block.num_tokens * token_ids; i++) {
            (void)next_item(&walk, &ids[i]); /* an id each: the shape was found */
        }
        status = import_block(sink, &block);
        block.first_token += block.num_tokens;
    }
    free(ids);
    return status;
}

enum status nested_rows_read(const struct nested_rows *rows, const struct import_input *input,
                             struct import_sink *sink)
{
    char place[PLACE_BYTES];
    struct list_walk walk = begin_walk(rows);
    bool is_array = find_shape(&walk);
    (void)snprintf(place, sizeof place, "line %lld",
                   (long long)(is_array ? rows->line : walk.reader.line));
    if (!is_array) {
        return import_complain(sink, rows->path, place,
                               "routed_experts: expected lists of whole numbers over tokens, "
                               "layers and k, all layers and all k alike");
    }
    if (walk.size[0] == 0) {
        import_drop(sink, "responses of no token", 1);
        return STATUS_OK;
    }
    enum status status = import_request(sink, NULL, (int32_t)rows->start_token, 0.0);
    return status == STATUS_OK ? pass_on(rows, walk.size, place, input, sink) : status;
}
