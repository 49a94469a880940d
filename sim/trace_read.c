/*
 * trace_read.c -- ids and gate weights of rows, as a step or a statistic wants them.
 *
 * The common case is copied without a branch an id; only rows among which something is above the
 * last expert are looked at again, to tell "not routed" from damage.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "trace_internal.h"

#define ROWS_AHEAD 64    /* fetched early; a cache miss lasts about as long as reading these */
#define DIGEST_IDS 16384 /* read at a time: 64 KiB of ids, which stays in cache */

/* Consecutive rows within one shard. */
struct run {
    const struct trace_shard *shard;
    int64_t row;    /* of the trace */
    int64_t offset; /* of the run's first id in the shard's arrays */
    int64_t count;  /* rows */
};

static struct run find_run(const struct trace *trace, int32_t layer, int64_t row, int64_t count)
{
    assert(row >= 0 && row < trace->num_tokens);
    int64_t index = trace->num_shards == 1 ? 0 : row / trace->tokens_per_shard;
    const struct trace_shard *shard = &trace->shards[index];
    int64_t first = row - index * trace->tokens_per_shard;
    int64_t room = shard->num_tokens - first;
    return (struct run){
        .shard = shard,
        .row = row,
        .offset = ((int64_t)layer * shard->num_tokens + first) * trace->top_k,
        .count = count < room ? count : room,
    };
}

static void shard_label(char path[TRACE_PATH_BYTES], const struct trace *trace,
                        const struct trace_shard *shard, const char *stem)
{
    const char *directory = trace->directory != NULL ? trace->directory : trace->name;
    if (!trace_shard_path(path, directory, stem, (int32_t)(shard - trace->shards))) {
        memcpy(path, stem, strlen(stem) + 1);
    }
}

static enum status bad_expert(const struct trace *trace, const struct run *run, int32_t layer,
                              int64_t index, int32_t id, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    shard_label(path, trace, run->shard, "experts");
    return error_add(error, STATUS_INVALID,
                     "%s: layer %d, token %lld: expert %d is not one of 0 to %d", path, layer,
                     (long long)(run->row + index / trace->top_k), id, trace->num_experts - 1);
}

static enum status bad_weight(const struct trace *trace, const struct run *run, int32_t layer,
                              int64_t index, float weight, struct error *error)
{
    char path[TRACE_PATH_BYTES];
    shard_label(path, trace, run->shard, "gate_weights");
    return error_add(error, STATUS_INVALID,
                     "%s: layer %d, token %lld: gate weight %g is not a number of at least 0", path,
                     layer, (long long)(run->row + index / trace->top_k), (double)weight);
}

/* 255 or 65535; never below num_experts but for a uint8 trace of 256, which has no gaps. */
static int32_t not_routed_id(const struct trace_shard *shard)
{
    return shard->expert_u8 != NULL ? 0xff : 0xffff;
}

typedef int16_t eight_ids __attribute__((vector_size(16)));

/* Widens ids eight at a time. Lanes of above become true where one is above the last expert. */
static inline void widen_u8(int32_t *expert, const uint8_t *id, int32_t count, int32_t last,
                            eight_ids *above)
{
    typedef uint8_t narrow __attribute__((vector_size(16)));
    typedef uint64_t words __attribute__((vector_size(16)));
    const narrow zero = {0};
    int32_t i = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ /* an id's byte comes before the zeros */
    for (; i + 8 <= count; i += 8) {
        uint64_t word; /* straight into a register: eight bytes of a vector in memory would stall */
        memcpy(&word, id + i, sizeof word);
        narrow ids = (narrow)(words){word, 0};
        eight_ids half = (eight_ids)__builtin_shufflevector(ids, zero, 0, 16, 1, 17, 2, 18, 3, 19,
                                                            4, 20, 5, 21, 6, 22, 7, 23);
        eight_ids first = __builtin_shufflevector(half, (eight_ids)zero, 0, 8, 1, 9, 2, 10, 3, 11);
        eight_ids second =
            __builtin_shufflevector(half, (eight_ids)zero, 4, 12, 5, 13, 6, 14, 7, 15);
        *above |= half > (int16_t)last;
        memcpy(expert + i, &first, sizeof first);
        memcpy(expert + i + 4, &second, sizeof second);
    }
#endif
    for (; i < count; i++) {
        expert[i] = id[i];
        (*above)[0] |= (int16_t)(id[i] > last);
    }
}

/* A row's first id in the arrays of the run's shard. */
static inline int64_t row_offset(const struct run *run, int64_t row, int32_t top_k)
{
    return run->offset + (row - run->row) * top_k;
}

/* Copies rows of the run's shard, in any order. Returns whether any id is above the last expert. */
static inline bool gather_u8(const struct trace *trace, int32_t *restrict expert,
                             const struct run *run, const int64_t *restrict row, int64_t num_rows,
                             int32_t top_k)
{
    const uint8_t *restrict id = run->shard->expert_u8;
    const int64_t start = row_offset(run, 0, top_k);
    const int32_t last = trace->num_experts - 1;
    eight_ids above = {0};
    for (int64_t i = 0; i < num_rows; i++, expert += top_k) {
        int64_t ahead = i + ROWS_AHEAD < num_rows ? i + ROWS_AHEAD : i;
        __builtin_prefetch(id + (start + row[ahead] * top_k));
        widen_u8(expert, id + (start + row[i] * top_k), top_k, last, &above);
    }
    uint64_t halves[2];
    memcpy(halves, &above, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

static bool gather_u16(const struct trace *trace, int32_t *expert, const struct run *run,
                       const int64_t *row, int64_t num_rows)
{
    const uint16_t *id = run->shard->expert_u16;
    const int32_t top_k = trace->top_k;
    int32_t id_max = 0;
    for (int64_t i = 0; i < num_rows; i++, expert += top_k) {
        if (i + ROWS_AHEAD < num_rows) {
            __builtin_prefetch(id + row_offset(run, row[i + ROWS_AHEAD], top_k));
        }
        const uint16_t *from = id + row_offset(run, row[i], top_k);
        for (int32_t k = 0; k < top_k; k++) {
            expert[k] = from[k];
            id_max = expert[k] > id_max ? expert[k] : id_max;
        }
    }
    return id_max >= trace->num_experts;
}

/* Tells "not routed" from damage, and counts it. */
static enum status mark_gaps(const struct trace *trace, int32_t *expert, int64_t *num_gaps,
                             int32_t layer, const struct run *run, struct error *error)
{
    int32_t not_routed = not_routed_id(run->shard);
    for (int64_t i = 0; i < run->count * trace->top_k; i++) {
        if (expert[i] >= trace->num_experts && expert[i] != not_routed) {
            return bad_expert(trace, run, layer, i, expert[i], error);
        }
        if (expert[i] >= trace->num_experts) {
            expert[i] = EXPERT_NOT_ROUTED;
            *num_gaps += 1;
        }
    }
    return STATUS_OK;
}

/* Weights of a trace without any: 1 for a wish, 0 for none. */
static void set_weights(float *gate_weight, const int32_t *expert, int64_t count)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        gate_weight[i] = expert[i] == EXPERT_NOT_ROUTED ? 0.0f : 1.0f;
    }
}

static enum status read_weights(const struct trace *trace, float *gate_weight,
                                const int32_t *expert, int32_t layer, const struct run *run,
                                struct error *error)
{
    for (int64_t i = 0; i < trace->top_k; i++) {
        uint16_t half = run->shard->gate_weight[run->offset + i];
        gate_weight[i] = npy_half_to_float(half);
        if (expert[i] == EXPERT_NOT_ROUTED) {
            gate_weight[i] = 0.0f;
        } else if (half >= 0x7c00 && half != 0x8000) { /* infinite, no number or below -0 */
            return bad_weight(trace, run, layer, i, gate_weight[i], error);
        }
    }
    return STATUS_OK;
}

/* Reads rows of the run's shard, in any order. */
static enum status read_rows(const struct trace *trace, int32_t *expert, float *gate_weight,
                             int64_t *num_gaps, int32_t layer, const struct run *run,
                             const int64_t *row, int64_t num_rows, struct error *error)
{
    bool is_above = run->shard->expert_u8 == NULL ? gather_u16(trace, expert, run, row, num_rows)
                    : trace->top_k == 8 /* as a rule: straight from register to register */
                        ? gather_u8(trace, expert, run, row, num_rows, 8)
                        : gather_u8(trace, expert, run, row, num_rows, trace->top_k);
    bool is_weighed = gate_weight != NULL && trace->has_gate_weights;
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < num_rows && (is_above || is_weighed) && status == STATUS_OK; i++) {
        int64_t at = i * trace->top_k;
        struct run one = {run->shard, row[i], row_offset(run, row[i], trace->top_k), 1};
        if (is_above) {
            status = mark_gaps(trace, expert + at, num_gaps, layer, &one, error);
        }
        if (is_weighed && status == STATUS_OK) {
            status = read_weights(trace, gate_weight + at, expert + at, layer, &one, error);
        }
    }
    return status;
}

enum status trace_read_counted(const struct trace *trace, int32_t *expert, float *gate_weight,
                               int64_t *num_gaps, int32_t layer, const int64_t *row,
                               int32_t num_rows, struct error *error)
{
    enum status status = STATUS_OK;
    *num_gaps = 0;
    assert(layer >= 0 && layer < trace->num_layers);
    assert(num_rows >= 0);
    int64_t done = 0;
    while (done < num_rows && status == STATUS_OK) {
        int64_t first = trace->num_shards == 1
                            ? 0
                            : row[done] / trace->tokens_per_shard * trace->tokens_per_shard;
        struct run run = find_run(trace, layer, first, INT64_MAX);
        int64_t count = 0; /* of rows in this shard */
        while (done + count < num_rows && row[done + count] >= first &&
               row[done + count] - first < run.count) {
            count++;
        }
        assert(count > 0); /* else the row is not one of the trace */
        int64_t at = done * trace->top_k;
        status = read_rows(trace, expert + at, gate_weight == NULL ? NULL : gate_weight + at,
                           num_gaps, layer, &run, row + done, count, error);
        done += count;
    }
    if (status == STATUS_OK && gate_weight != NULL && !trace->has_gate_weights) {
        set_weights(gate_weight, expert, (int64_t)num_rows * trace->top_k);
    }
    return status;
}

enum status trace_read(const struct trace *trace, int32_t *expert, float *gate_weight,
                       int32_t layer, const int64_t *row, int32_t num_rows, struct error *error)
{
    int64_t num_gaps;
    return trace_read_counted(trace, expert, gate_weight, &num_gaps, layer, row, num_rows, error);
}

static enum status count_run(const struct trace *trace, int64_t *load_tokens, int32_t layer,
                             const struct run *run, struct error *error)
{
    int64_t count = run->count * trace->top_k;
    const uint8_t *id_u8 = run->shard->expert_u8;
    const uint16_t *id_u16 = run->shard->expert_u16;
    const int32_t num_experts = trace->num_experts;
    const int32_t not_routed = not_routed_id(run->shard);
    for (int64_t i = 0; i < count; i++) { /* which of the two is settled outside by the compiler */
        int32_t id = id_u8 != NULL ? id_u8[run->offset + i] : id_u16[run->offset + i];
        if (id < num_experts) {
            load_tokens[id]++;
        } else if (id != not_routed) {
            return bad_expert(trace, run, layer, i, id, error);
        }
    }
    return STATUS_OK;
}

enum status trace_count(const struct trace *trace, int64_t *load_tokens, int32_t layer,
                        int64_t first, int64_t count, struct error *error)
{
    enum status status = STATUS_OK;
    assert(layer >= 0 && layer < trace->num_layers);
    assert(first >= 0 && count >= 0 && count <= trace->num_tokens - first);
    while (count > 0 && status == STATUS_OK) {
        struct run run = find_run(trace, layer, first, count);
        status = count_run(trace, load_tokens, layer, &run, error);
        first += run.count;
        count -= run.count;
    }
    return status;
}

/* Values of 16 bits folded four a word, however they arrive. */
struct folder {
    uint64_t digest;
    uint64_t word;
    int32_t filled; /* 0 to 3 values in word */
};

static void fold(struct folder *folder, uint16_t value)
{
    folder->word = folder->word << 16 | value;
    if (++folder->filled == 4) {
        folder->digest = digest_u64(folder->digest, folder->word);
        folder->filled = 0;
    }
}

static uint64_t digest_description(const struct trace *trace)
{
    uint64_t digest = digest_text(DIGEST_START, trace->model);
    digest = digest_u64(digest, (uint64_t)trace->num_experts);
    digest = digest_u64(digest, (uint64_t)trace->top_k);
    digest = digest_u64(digest, (uint64_t)trace->num_layers);
    for (int32_t i = 0; i < trace->num_layers; i++) {
        digest = digest_u64(digest, (uint64_t)trace->model_layer[i]);
    }
    digest = digest_u64(digest, (uint64_t)trace->num_tokens);
    digest = digest_u64(digest, (uint64_t)trace->has_gate_weights);
    digest = digest_u64(digest, (uint64_t)trace->num_requests);
    for (int64_t i = 0; i < trace->num_requests; i++) {
        const struct trace_request *request = &trace->requests[i];
        uint64_t arrival_bits;
        memcpy(&arrival_bits, &request->arrival_s, sizeof arrival_bits);
        digest = digest_text(digest, request->tag);
        digest = digest_u64(digest, arrival_bits);
        digest = digest_u64(digest, (uint64_t)request->prompt_tokens);
        digest = digest_u64(digest, (uint64_t)request->row_offset);
        digest = digest_u64(digest, (uint64_t)request->num_rows);
    }
    digest = digest_u64(digest, (uint64_t)trace->num_steps);
    for (int64_t i = 0; trace->num_steps > 0 && i <= trace->num_steps; i++) {
        digest = digest_u64(digest, (uint64_t)trace->step_begin[i]);
    }
    return digest;
}

/* Rows that stand together. */
static enum status read_run(const struct trace *trace, int32_t *expert, int32_t layer,
                            const struct run *run, struct error *error)
{
    const uint8_t *id_u8 = run->shard->expert_u8;
    const uint16_t *id_u16 = run->shard->expert_u16;
    for (int64_t i = 0; i < run->count * trace->top_k; i++) {
        expert[i] = id_u8 != NULL ? id_u8[run->offset + i] : id_u16[run->offset + i];
    }
    int64_t num_gaps = 0;
    return mark_gaps(trace, expert, &num_gaps, layer, run, error);
}

static enum status fold_layer(struct folder *folder, const struct trace *trace, int32_t layer,
                              int32_t *expert, int64_t rows_at_once, struct error *error)
{
    for (int64_t row = 0; row < trace->num_tokens;) {
        int64_t left = trace->num_tokens - row;
        struct run run = find_run(trace, layer, row, left < rows_at_once ? left : rows_at_once);
        enum status status = read_run(trace, expert, layer, &run, error);
        if (status != STATUS_OK) {
            return status;
        }
        for (int64_t i = 0; i < run.count * trace->top_k; i++) {
            fold(folder, (uint16_t)expert[i]); /* EXPERT_NOT_ROUTED becomes 65535, no expert's id */
            if (trace->has_gate_weights) {
                fold(folder, run.shard->gate_weight[run.offset + i]);
            }
        }
        row += run.count;
    }
    return STATUS_OK;
}

enum status trace_digest(struct trace *trace, struct error *error)
{
    int64_t rows_at_once = trace->top_k < DIGEST_IDS ? DIGEST_IDS / trace->top_k : 1;
    int32_t *expert = malloc((size_t)(rows_at_once * trace->top_k) * sizeof *expert);
    if (expert == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory to read a trace");
    }
    enum status status = STATUS_OK;
    struct folder folder = {.digest = digest_description(trace)};
    for (int32_t layer = 0; layer < trace->num_layers && status == STATUS_OK; layer++) {
        status = fold_layer(&folder, trace, layer, expert, rows_at_once, error);
    }
    if (status == STATUS_OK) {
        trace->digest = digest_u64(folder.digest, folder.word); /* with what did not fill a word */
    }
    free(expert);
    return status;
}
