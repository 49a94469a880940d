/*
 * plain.c -- rows with nothing special about them, which nearly all are, by whole words.
 *
 * Up to eight ids of one byte are a word, in which a subtraction finds an id twice: two bytes of x
 * are equal, s apart, exactly if x ^ (x >> 8 s) has a zero byte. Wider rows look each id up in
 * the stamps. What is not plain is left to rows.c, which says what is wrong or sets pads.
 */
#include <string.h>

#include "import/sink.h"

#define LOW_BITS  UINT64_C(0x0101010101010101)
#define HIGH_BITS UINT64_C(0x8080808080808080)
#define WORD_IDS  8

/* Ids of one layer: where they stand and where they go. */
struct plain {
    const unsigned char *from;
    int64_t from_bytes; /* from one row to the next */
    unsigned char *to;
    int32_t top_k;
    uint32_t num_experts;
};

/* The high bit of some byte is set exactly if one of the bytes is zero. */
static inline uint64_t zero_bytes(uint64_t word)
{
    return (word - LOW_BITS) & ~word;
}

static inline uint64_t rotate(uint64_t word, int32_t bytes)
{
    return word >> (8 * bytes) | word << (64 - 8 * bytes);
}

/* Are two of the lowest top_k bytes equal? A full word turns round: four turns meet all pairs. */
static inline bool has_twin(uint64_t word, int32_t top_k)
{
    if (top_k == WORD_IDS) {
        return ((zero_bytes(word ^ rotate(word, 1)) | zero_bytes(word ^ rotate(word, 2)) |
                 zero_bytes(word ^ rotate(word, 3)) | zero_bytes(word ^ rotate(word, 4))) &
                HIGH_BITS) != 0;
    }
    uint64_t zeros = 0;
    for (int32_t apart = 1; apart < top_k; apart++) {
        uint64_t beyond = UINT64_MAX << (8 * (top_k - apart));
        zeros |= zero_bytes((word ^ (word >> (8 * apart))) | beyond);
    }
    return (zeros & HIGH_BITS) != 0;
}

/* Reads an id; what an unsigned 32 bits cannot hold becomes one that no trace has. */
static inline uint32_t read_id(const unsigned char *from, int32_t k, enum npy_type type)
{
    if (type == NPY_UINT8) {
        return from[k];
    }
    if (type == NPY_UINT16) {
        uint16_t id;
        memcpy(&id, from + k * 2, sizeof id);
        return id;
    }
    if (type == NPY_INT32) {
        uint32_t id;
        memcpy(&id, from + k * 4, sizeof id);
        return id;
    }
    uint64_t id;
    memcpy(&id, from + k * 8, sizeof id);
    return id <= UINT32_MAX ? (uint32_t)id : UINT32_MAX;
}

/* Rows of at most WORD_IDS ids that go into one byte each. The type is a constant at every call,
 * so that each becomes a loop of its own. */
static inline int64_t convert_words(const struct plain *plain, int64_t count, enum npy_type type,
                                    int32_t top_k)
{
    const unsigned char *from = plain->from;
    unsigned char *to = plain->to;
    for (int64_t row = 0; row < count; row++) {
        uint64_t word = 0;
        bool is_special = false;
        for (int32_t k = 0; k < top_k; k++) {
            uint32_t id = read_id(from, k, type);
            is_special |= id >= plain->num_experts;
            word |= (uint64_t)(id & UINT8_MAX) << (8 * k);
        }
        if (is_special || has_twin(word, top_k)) {
            return row;
        }
        memcpy(to, &word, (size_t)top_k);
        from += plain->from_bytes;
        to += top_k;
    }
    return count;
}

/* Four ids of a row, at place k, as the bytes of a half word; every bit of them goes into bits. */
static inline uint64_t read_four(const unsigned char *from, int32_t k, enum npy_type type,
                                 uint32_t *bits)
{
    uint32_t a = read_id(from, k, type);
    uint32_t b = read_id(from, k + 1, type);
    uint32_t c = read_id(from, k + 2, type);
    uint32_t d = read_id(from, k + 3, type);
    *bits |= a | b | c | d;
    return (uint64_t)(a & UINT8_MAX) | (uint64_t)(b & UINT8_MAX) << 8 |
           (uint64_t)(c & UINT8_MAX) << 16 | (uint64_t)(d & UINT8_MAX) << 24;
}

/* Rows of eight where the number of experts is a power of two: an id is one of them exactly if it
 * has no higher bit. */
static inline int64_t convert_eights(const struct plain *plain, int64_t count, enum npy_type type)
{
    const unsigned char *from = plain->from;
    unsigned char *to = plain->to;
    for (int64_t row = 0; row < count; row++) {
        uint32_t bits = 0;
        uint64_t word = 0;
        if (type == NPY_UINT8) {
            memcpy(&word, from, sizeof word);
            uint32_t half = (uint32_t)(word | word >> 32);
            bits = (half | half >> 16 | half >> 8 | half >> 24) & UINT8_MAX;
        } else {
            word = read_four(from, 0, type, &bits) | read_four(from, 4, type, &bits) << 32;
        }
        if (bits >= plain->num_experts || has_twin(word, WORD_IDS)) {
            return row;
        }
        memcpy(to, &word, sizeof word);
        from += plain->from_bytes;
        to += WORD_IDS;
    }
    return count;
}

static int64_t convert_words_of_type(const struct plain *plain, int64_t count, enum npy_type type)
{
    bool is_power = (plain->num_experts & (plain->num_experts - 1)) == 0;
    bool is_8 = plain->top_k == WORD_IDS && is_power;
    if (type == NPY_UINT8) {
        return is_8 ? convert_eights(plain, count, NPY_UINT8)
                    : convert_words(plain, count, NPY_UINT8, plain->top_k);
    }
    if (type == NPY_UINT16) {
        return is_8 ? convert_eights(plain, count, NPY_UINT16)
                    : convert_words(plain, count, NPY_UINT16, plain->top_k);
    }
    if (type == NPY_INT32) {
        return is_8 ? convert_eights(plain, count, NPY_INT32)
                    : convert_words(plain, count, NPY_INT32, plain->top_k);
    }
    return is_8 ? convert_eights(plain, count, NPY_INT64)
                : convert_words(plain, count, NPY_INT64, plain->top_k);
}

/* Rows of any width, by the stamps of experts. */
static int64_t convert_stamped(struct import_sink *sink, const struct plain *plain, int64_t count,
                               enum npy_type type)
{
    const unsigned char *from = plain->from;
    unsigned char *to = plain->to;
    for (int64_t row = 0; row < count; row++) {
        bool is_special = false;
        import_stamp_next(sink);
        for (int32_t k = 0; k < plain->top_k; k++) {
            uint32_t id = read_id(from, k, type);
            uint32_t known = id < plain->num_experts ? id : 0;
            is_special |= known != id || sink->stamp[known] == sink->stamp_now;
            sink->stamp[known] = sink->stamp_now;
            uint16_t stored = (uint16_t)id;
            memcpy(to + k * sink->id_bytes, &stored, (size_t)sink->id_bytes);
        }
        if (is_special) {
            return row;
        }
        from += plain->from_bytes;
        to += plain->top_k * sink->id_bytes;
    }
    return count;
}

bool import_is_plain(const struct import_sink *sink, const struct import_block *block)
{
    return block->expert.data != NULL && block->expert.stride[TRACE_AXIS_K] == 1 &&
           block->top_k == sink->summary->top_k && sink->chunk.gate_weight == NULL &&
           sink->chunk.score == NULL && sink->physical == NULL;
}

int64_t import_rows_plain(struct import_sink *sink, const struct import_block *block, int32_t layer,
                          int64_t first, int64_t count, int64_t at)
{
    const struct import_array *expert = &block->expert;
    const int32_t top_k = sink->summary->top_k;
    bool has_kernel = expert->type == NPY_UINT8 || expert->type == NPY_UINT16 ||
                      expert->type == NPY_INT32 || expert->type == NPY_INT64;
    if (!has_kernel || !import_is_plain(sink, block)) {
        return 0;
    }
    int64_t index = import_array_at(expert, first, sink->file_layer[layer], 0);
    int64_t row = layer * sink->chunk.capacity + at;
    int32_t type_bytes = npy_type_bytes(expert->type);
    const struct plain plain = {
        .from = (const unsigned char *)expert->data + index * type_bytes,
        .from_bytes = expert->stride[TRACE_AXIS_TOKEN] * type_bytes,
        .to = sink->chunk.expert + row * top_k * sink->id_bytes,
        .top_k = top_k,
        .num_experts = (uint32_t)sink->summary->num_experts,
    };
    return sink->id_bytes == 1 && top_k <= WORD_IDS
               ? convert_words_of_type(&plain, count, expert->type)
               : convert_stamped(sink, &plain, count, expert->type);
}
