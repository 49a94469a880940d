/*
 * tile.c -- whole tiles of tokens with nothing special about them, checked by vectors.
 *
 * Ids of one byte, four or eight a row, stand token by token and layer by layer: 32 bytes are
 * several rows, a lane each. Two ids of a lane are equal, s apart, exactly if the lane has a byte
 * in common with itself turned round by s bytes; half as many turns as bytes meet all pairs. A tile
 * that is sound is moved as it is, a row a word. Of any other, plain.c and rows.c do what can be
 * done, and say what is wrong.
 */
#include <string.h>

#include "import/sink.h"

#define VECTOR_BYTES 32

typedef uint8_t bytes __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t fours __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t eights __attribute__((vector_size(VECTOR_BYTES)));

/* Sets bits of those bytes that are equal to another of their row, or no experts. */
__attribute__((always_inline)) static inline void
add_special(bytes *special, const unsigned char *from, int32_t top_k, uint8_t expert_max)
{
    bytes id;
    memcpy(&id, from, sizeof id);
    *special |= (bytes)(id > expert_max);
    for (int32_t apart = 1; apart <= top_k / 2; apart++) {
        const int32_t bits = 8 * apart;
        bytes turned = top_k == 8 ? (bytes)((eights)id >> bits | (eights)id << (64 - bits))
                                  : (bytes)((fours)id >> bits | (fours)id << (32 - bits));
        *special |= (bytes)(id == turned);
    }
}

/* Are num_bytes of rows sound? The last vector may overlap the one before it. */
__attribute__((always_inline)) static inline bool
is_sound(const unsigned char *from, int64_t num_bytes, int32_t top_k, uint8_t expert_max)
{
    bytes special = {0};
    int64_t last = num_bytes - VECTOR_BYTES;
    for (int64_t i = 0; i < last; i += VECTOR_BYTES) {
        add_special(&special, from + i, top_k, expert_max);
    }
    add_special(&special, from + last, top_k, expert_max);
    eights any = (eights)special;
    return (any[0] | any[1] | any[2] | any[3]) == 0;
}

/* Ids of a tile: [num_tokens] tokens from_bytes apart, [num_layers][top_k] each. */
struct tile {
    const unsigned char *from;
    int64_t from_bytes;
    int64_t num_tokens;
    int64_t row_bytes; /* of all layers of a token */
    int32_t top_k;
    uint8_t expert_max;
};

__attribute__((always_inline)) static inline bool all_sound(const struct tile *tile, int32_t top_k)
{
    bool sound = true;
    for (int64_t token = 0; token < tile->num_tokens; token++) {
        const unsigned char *from = tile->from + token * tile->from_bytes;
        sound = sound && is_sound(from, tile->row_bytes, top_k, tile->expert_max);
    }
    return sound;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static bool all_sound_avx2(const struct tile *tile)
{
    return tile->top_k == 8 ? all_sound(tile, 8) : all_sound(tile, 4);
}
#endif

static bool all_sound_anywhere(const struct tile *tile)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        return all_sound_avx2(tile);
    }
#endif
    return tile->top_k == 8 ? all_sound(tile, 8) : all_sound(tile, 4);
}

/* Moves a tile to [num_layers] arrays of rows, to_bytes apart. top_k is a constant at each call. */
__attribute__((always_inline)) static inline void move(unsigned char *to, int64_t to_bytes,
                                                       const struct tile *tile, int32_t top_k)
{
    for (int64_t at = 0; at < tile->row_bytes; at += top_k) {
        const unsigned char *from = tile->from + at;
        for (int64_t token = 0; token < tile->num_tokens; token++) {
            memcpy(to + token * top_k, from + token * tile->from_bytes, (size_t)top_k);
        }
        to += to_bytes;
    }
}

/* Do the layers that are recorded stand side by side in the file? */
static bool are_neighbours(const struct import_sink *sink)
{
    int32_t last = sink->summary->num_layers - 1;
    return sink->file_layer[last] - sink->file_layer[0] == last; /* all differ, in order */
}

bool import_tile(struct import_sink *sink, const struct import_block *block, int64_t first,
                 int64_t count, int64_t at)
{
    const struct import_array *expert = &block->expert;
    const int32_t top_k = sink->summary->top_k;
    const int64_t row_bytes = (int64_t)sink->summary->num_layers * top_k;
    if (!import_is_plain(sink, block) || expert->type != NPY_UINT8 || sink->id_bytes != 1 ||
        (top_k != 8 && top_k != 4) || expert->stride[TRACE_AXIS_LAYER] != top_k ||
        row_bytes < VECTOR_BYTES || !are_neighbours(sink)) {
        return false;
    }
    const struct tile tile = {
        .from = (const unsigned char *)expert->data +
                import_array_at(expert, first, sink->file_layer[0], 0),
        .from_bytes = expert->stride[TRACE_AXIS_TOKEN],
        .num_tokens = count,
        .row_bytes = row_bytes,
        .top_k = top_k,
        .expert_max = (uint8_t)(sink->summary->num_experts - 1),
    };
    if (!all_sound_anywhere(&tile)) {
        return false;
    }
    unsigned char *to = sink->chunk.expert + at * top_k;
    if (top_k == 8) {
        move(to, sink->chunk.capacity * top_k, &tile, 8);
    } else {
        move(to, sink->chunk.capacity * top_k, &tile, 4);
    }
    return true;
}
