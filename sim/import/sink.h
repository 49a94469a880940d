/*
 * sink.h -- where the rows of all formats go: between the parts of an import.
 *
 * A block of foreign rows is converted and checked into a chunk (block.c, row.c), where runs of
 * identical tokens are found and may be taken out again (chunk.c); a full chunk goes to the writer.
 * In the first pass nothing is written: a block is only looked at (shape.c).
 */
#ifndef MOESIM_SINK_H
#define MOESIM_SINK_H

#include "arena.h"
#include "import/import.h"
#include "trace.h"
#include "trace_writer.h"

#define IMPORT_CHUNK_IDS     (1 << 18) /* ids converted at a time: they stay in the cache */
#define IMPORT_PLACED_IDS    (1 << 21) /* ... where each layer's go straight to a file */
#define IMPORT_SURVEY_TOKENS 4096      /* looked at before the shape is decided */

enum import_pass {
    IMPORT_SURVEY, /* look at the first rows */
    IMPORT_WRITE,
};

/* What the first rows look like. */
struct import_survey {
    int64_t num_tokens;
    int32_t num_layers; /* of the file; 0: no block yet */
    int32_t top_k;      /* columns of the block */
    int32_t top_k_used; /* columns that hold more than pads */
    int64_t id_max;     /* of those that can be no pads; 0: none */
    bool has_gate_weights;
    bool has_scores;
    bool has_model_layers;
    int32_t model_layer[4096]; /* [num_layers] as the file says */
    int64_t constant[4096];    /* [num_layers] the id that all choices were; -2: they differ */
};

/* One array of rows of recorded layers: [num_layers][chunk_tokens][columns]. */
struct import_chunk {
    int64_t capacity;      /* tokens of room a layer */
    int64_t count;         /* tokens converted */
    unsigned char *expert; /* ids as a trace has them, of sink->id_bytes */
    float *gate_weight;    /* NULL: none */
    float *score;          /* NULL: none */
};

struct import_sink {
    const struct import_options *options;
    const struct import_format *format;
    struct import_summary *summary;
    struct error *error; /* of the pass */
    const char *path;    /* what is written */
    char source[SOURCE_BYTES];
    struct import_input input;
    struct moe_model model;
    enum import_pass pass;
    bool wants_restart; /* a gap was found that the ids chosen have no room for */
    bool has_gaps;
    int32_t num_problems;
    int64_t num_tokens_announced; /* 0: not known */
    int64_t num_tokens_exact;     /* that will be written, if no row is bad; 0: not known */
    struct import_survey survey;
    struct arena arena; /* holds the arrays below but for requests and loads */

    int32_t num_file_layers; /* of a block */
    int32_t *file_layer;     /* [summary->num_layers] which layer of the file is recorded */
    int32_t *model_layer;    /* [summary->num_layers] */
    int32_t id_bytes;        /* of an id in the trace: 1 or 2 */
    int32_t *row;            /* [top_k] the row at hand */
    int32_t *stamp;          /* [num_experts] last row that chose each expert */
    int32_t stamp_now;

    int32_t *physical; /* [physical_layers][physical_slots] expert of each slot; NULL: none */
    int32_t physical_layers;
    int32_t physical_slots;
    bool physical_is_users; /* from --physical-to-logical */

    struct import_chunk chunk;
    unsigned char *expert_before; /* [num_layers][top_k] of the token before the chunk */
    bool has_before;
    bool is_dropping;                        /* the run at hand is left out */
    int64_t num_tokens_run;                  /* identical tokens up to here */
    int64_t tail_request[IMPORT_RUN_TOKENS]; /* request of token n at n % IMPORT_RUN_TOKENS */
    int64_t num_tokens_kept;                 /* written or in the chunk */

    struct trace_request *requests;
    int64_t num_requests;
    int64_t requests_capacity;
    int64_t request_now;  /* index, -1: none */
    bool requests_listed; /* from --requests */

    struct import_loads *loads; /* of formats of loads */
    struct trace_writer *writer;
};

/* Decides from the survey, the model and the options which layers are recorded. */
MUST_CHECK enum status import_shape(struct import_sink *sink);

/* Model, experts, top_k and layers as far as they are known before a file is opened: fills
 * sink->input and the model's name in the summary. */
MUST_CHECK enum status import_shape_begin(struct import_sink *sink);

/* Begins a pass with nothing counted. */
void import_pass_begin(struct import_sink *sink, enum import_pass pass);

/* The first pass: reads until the shape can be told. What is wrong on the way is told only if it
 * cannot. */
MUST_CHECK enum status import_survey(struct import_sink *sink);

/* Looks at a block in the first pass. */
MUST_CHECK enum status import_survey_block(struct import_sink *sink,
                                           const struct import_block *block);

/* Do a file's layers and columns fit the model or the options? */
bool import_shape_fits(const struct import_input *input, int64_t num_layers, int64_t top_k);

/* Converts and checks tokens first .. first + count - 1 of a block behind those of the chunk, which
 * has the room. */
MUST_CHECK enum status import_rows(struct import_sink *sink, const struct import_block *block,
                                   int64_t first, int64_t count);

/* Can rows of a block be stored as they are: ids alone, of experts, as many a row as the trace has?
 */
bool import_is_plain(const struct import_sink *sink, const struct import_block *block);

/* Converts tokens first .. first + count - 1 to token at of the chunk on, all layers at once, if
 * they are of a shape that vectors check and nothing is special about any. False: nothing done. */
bool import_tile(struct import_sink *sink, const struct import_block *block, int64_t first,
                 int64_t count, int64_t at);

/* Converts rows of one layer as long as nothing is special about them (no pad, no id out of range,
 * none twice), by whole words where it can: first .. first + count - 1 to token at of the chunk on.
 * Returns how many it did; the next one is for import_rows. */
int64_t import_rows_plain(struct import_sink *sink, const struct import_block *block, int32_t layer,
                          int64_t first, int64_t count, int64_t at);

/* A new row: no expert has been chosen in it yet. */
void import_stamp_next(struct import_sink *sink);

/* Allocates the chunk and opens the writer. */
MUST_CHECK enum status import_chunk_open(struct import_sink *sink);

/* Counts runs of identical tokens among the newest count tokens and takes dummies out. */
MUST_CHECK enum status import_chunk_add(struct import_sink *sink, int64_t count);

/* Passes the chunk on to the writer; what may still become a run of dummies stays unless last. */
MUST_CHECK enum status import_chunk_flush(struct import_sink *sink, bool last);

/* Ends the list: offsets and lengths; requests without rows are taken out. */
void import_requests_finish(struct import_sink *sink);

/* Reads --requests, a list of any layout, by column names: row_offset is required; tag (else
 * category, else dataset), arrival_s, prompt_tokens, decode_tokens and first_position are used if
 * there. Row offsets ascend from 0 within num_tokens. Release with free. */
MUST_CHECK enum status import_request_list(struct trace_request **requests, int64_t *num_requests,
                                           const char *path, int64_t num_tokens,
                                           struct error *error);

/* Reads --physical-to-logical. */
MUST_CHECK enum status import_physical_read(struct import_sink *sink);

/* Reads arrivals and writes them to sink->path, or attaches them to a trace. */
MUST_CHECK enum status import_arrivals_run(struct import_sink *sink);

/* The format of the first file, or a refusal that lists them. */
MUST_CHECK enum status import_detect(const struct import_format **format,
                                     const struct import_options *options, struct error *error);

/* Element (token, layer, k) of an array of integers. */
static inline int64_t import_array_at(const struct import_array *array, int64_t token,
                                      int64_t layer, int64_t k)
{
    return token * array->stride[TRACE_AXIS_TOKEN] + layer * array->stride[TRACE_AXIS_LAYER] +
           k * array->stride[TRACE_AXIS_K];
}

/* An integer of any type as int64; all ones of an unsigned type are -1 where is_pad says that they
 * mean a pad; beyond int64: INT64_MAX. */
int64_t import_array_int(const struct import_array *array, int64_t index, bool ones_are_pads);

#endif
