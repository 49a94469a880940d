/*
 * import.h -- turns what inference engines record into traces, loads and placements of moesim.
 *
 * A format is one constant struct in one file and one line in registry.c. It only says what stands
 * in its files; what is common to all of them happens behind the calls below: which layers are
 * recorded, pads, physical ids, dense layers, dummy rows, order by gate weight, checks, shards.
 *
 * To write a format, give
 *
 *   detect   how sure the first bytes or the name of a file make it (import_probe);
 *   read     walks through input->paths from the first to the last and calls, in the order of the
 *            file:
 *
 *     import_request(sink, ...)       a request begins: the rows that follow are its own. A format
 *                                     without requests never calls it.
 *     import_block(sink, &block)      a few rows for all layers, as a strided view on bytes of the
 *                                     file: nothing is converted by the format
 *     import_load(sink, ...)          tokens of one layer's experts in one step, where a format has
 *                                     loads instead of rows (level IMPORT_LOADS)
 *     import_drop(sink, ...)          something was left out on purpose: counted by reason
 *     import_complain(sink, ...)      something is wrong: told, counted, reading goes on
 *     import_refuse(sink, ...)        the file cannot be read on; return what it returns
 *     import_progress(sink, ...)      now and then
 *
 *            and returns as soon as one of them does not return STATUS_OK, or import_wants_more
 *            becomes false. read is called twice or more: first for a look at the first rows, which
 *            decides about layers and experts, then to write. So it must keep nothing between
 *            calls, and read the same thing each time. Whatever it opened it closes, on every path.
 *
 * Memory must not grow with a file: map it, push blocks of a few MiB, and drop the pages behind
 * (import_file_forget). Lengths in a file are claims: compare them with the bytes that are there
 * before a byte is allocated or read.
 */
#ifndef MOESIM_IMPORT_H
#define MOESIM_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arrivals.h"
#include "model.h"
#include "npy.h"
#include "status.h"

#define IMPORT_PROBE_BYTES  65536
#define IMPORT_PROBLEMS_MAX 10 /* then reading stops: a wrong file is wrong everywhere */
#define IMPORT_DROPS_MAX    24
#define IMPORT_RUN_TOKENS   32 /* this many identical tokens in a row are no traffic */

enum trace_axis {
    TRACE_AXIS_TOKEN,
    TRACE_AXIS_LAYER,
    TRACE_AXIS_K, /* or expert, in an array of scores */
    TRACE_AXIS_COUNT,
};

/* What the user asked for. */
struct import_options {
    const char *const *paths; /* [num_paths] files, or folders for formats that take them */
    int32_t num_paths;
    const char *format;                     /* NULL: detected */
    enum trace_axis axis[TRACE_AXIS_COUNT]; /* of npy: from the slowest */
    const char *gate_weight_path;           /* of npy: float16, 32 or 64 of the same shape, or NULL;
                                               rows are then put into descending order of it */
    const char *requests_path;  /* CSV with a column row_offset, or NULL; for formats without
                                   requests  of their own */
    const char *attach_path;    /* of arrivals: a trace whose requests get their times; or NULL */
    const char *physical_path;  /* physical-to-logical map, or NULL; ids are then physical */
    const char *model;          /* as model_load takes it, or a mere name with num_experts; NULL for
                                   loads only */
    int32_t num_experts;        /* 0: the model's */
    int32_t top_k;              /* 0: the model's, or the file's */
    const int32_t *model_layer; /* [num_layers] model layer of each layer of the file; NULL: the
                                   model's MoE layers */
    int32_t num_layers;
    int64_t num_tokens_max;   /* further tokens are left out; 0: all */
    int64_t tokens_per_shard; /* 0: as many as fit in 64 MiB */
    bool strip_dummy;         /* leave out runs of IMPORT_RUN_TOKENS or more identical tokens */
    bool replace;
    const char *source;                                           /* NULL: the file's name */
    const char *licence;                                          /* NULL: unknown */
    void (*progress)(void *context, int64_t done, int64_t total); /* bytes; may be NULL */
    void *context;
};

/* Something that was left out, and why. */
struct import_drop {
    char reason[96]; /* such as "tokens in runs of 32 or more identical ones" */
    int64_t count;
};

struct import_summary {
    const char *format; /* its name: the one asked for or detected */
    char model[NAME_BYTES];
    int32_t num_files;
    int32_t num_experts;
    int32_t top_k;
    int32_t num_layers;
    int32_t num_dense_layers_dropped;
    int64_t num_tokens;         /* in the trace */
    int64_t num_tokens_in_file; /* in all files together */
    int64_t tokens_per_shard;
    int64_t num_shards;
    int64_t num_requests;
    int64_t num_pads;           /* ids that mark "not routed" */
    int64_t num_rows_reordered; /* by gate weight, or because pads stood before experts */
    int64_t num_tokens_alike;   /* in runs of 32 or more identical tokens: profiling, not traffic */
    int64_t num_steps;          /* of loads */
    int64_t num_assignments;    /* of loads: tokens x top_k, of all layers */
    int64_t num_arrivals;
    double arrivals_end_s; /* of the last */
    double prompt_tokens_mean;
    double decode_tokens_mean;
    double requests_per_day; /* at the file's mean rate; 0: all arrive at once */
    double peak_over_mean;   /* its busiest 60 minutes over the mean; 0: it is under two hours */
    bool has_gate_weights;
    bool has_scores;
    int32_t num_drops;
    struct import_drop drop[IMPORT_DROPS_MAX];
};

/* Reads "token,layer,k", in any order. False when it is not that. */
bool trace_axes_parse(enum trace_axis axis[TRACE_AXIS_COUNT], const char *text);

/* Writes the trace directory path (see trace_writer.h) or, from a format of loads, the file path: a
 * .csv of sums by layer and expert or a .npy of [steps][layers][experts]; from one of arrivals a
 * CSV (see arrivals.h). The model names experts, top_k and layers; a file with all layers of the
 * model loses the dense ones. With num_experts given and no model of that name, the model is a mere
 * name; layers are then model_layer, or all but the constant ones. STATUS_INVALID names file, place
 * and layer of all problems (at most IMPORT_PROBLEMS_MAX); after a failure nothing is left at path.
 */
MUST_CHECK enum status import_run(const char *path, const struct import_options *options,
                                  struct import_summary *summary, struct error *error);

/* What a file looks like to who does not know its model. */
struct import_look {
    const char *format;
    bool is_routing;    /* ids of every token; else the numbers below are zero */
    bool is_loads;      /* tokens of every expert */
    int32_t num_layers; /* with those that hold one id throughout */
    int32_t top_k;
    int32_t id_max; /* the largest among the first rows; 0 also where there are none */
};

/* Looks at the first rows; the model and numbers of the options are not asked. Errors as
 * import_run. */
MUST_CHECK enum status import_look(struct import_look *look, const struct import_options *options,
                                   struct error *error);

/* ---- for formats ---- */

enum import_level {
    IMPORT_ROWS,     /* expert ids of every token: becomes a trace */
    IMPORT_LOADS,    /* tokens of every expert: becomes a load file */
    IMPORT_ARRIVALS, /* when requests come: a list of them, read by arrivals_read */
};

/* The beginning of the first file. */
struct import_probe {
    const char *path;
    const char *name;          /* the last part of path */
    bool is_folder;            /* then bytes is empty */
    const unsigned char *text; /* [num_bytes], then a NUL */
    size_t num_bytes;          /* at most IMPORT_PROBE_BYTES */
};

struct import_sink; /* private: where it all goes */

/* What read is given. */
struct import_input {
    const struct import_options *options;
    const struct moe_model *model; /* NULL: not known */
    int32_t num_experts;           /* 0: not known */
    int32_t top_k;                 /* 0: not known */
    int32_t num_layers;            /* MoE layers that will be recorded; 0: not known */
    int32_t num_layers_all;        /* with the dense ones; 0: not known */
    struct error *error;           /* for functions that take one */
};

struct import_format {
    const char *name;
    const char *summary; /* one line for --help */
    const char *source;  /* whose files these are: repository and what writes them */
    enum import_level level;
    enum arrivals_format arrivals; /* of IMPORT_ARRIVALS, which has no read */
    /* 0: not this format; 1 .. 100: how sure. 100 is for a magic or a key nobody else has, 50 for a
     * likely name or shape, 10 for "could be". */
    int32_t (*detect)(const struct import_probe *probe);
    enum status (*read)(const struct import_input *input, struct import_sink *sink);
};

/* All formats. */
const struct import_format *const *import_formats(int32_t *count);
/* NULL: there is none of that name. */
const struct import_format *import_format_find(const char *name);

/* A view on an array with axes token, layer and k: element (t, l, k) is at t * stride[TOKEN] +
 * l * stride[LAYER] + k * stride[K], counted in elements. */
struct import_array {
    const void *data; /* aligned for its type; NULL: there is none */
    enum npy_type type;
    int64_t stride[TRACE_AXIS_COUNT];
};

/* Consecutive tokens of the file. */
struct import_block {
    int64_t num_tokens;
    int32_t num_layers;              /* of the file, the same in all blocks */
    int32_t top_k;                   /* columns; beyond the k in use all must be pads */
    struct import_array expert;      /* integers, best expert first; -1 or all ones: pad */
    struct import_array gate_weight; /* floats of the same shape; rows are put into its order */
    struct import_array score;       /* floats [token][layer][expert], of all num_experts, or none.
                                        Without expert the ids are those of the top_k scores */
    const int32_t *model_layer; /* [num_layers] as the file numbers them, in any order; or NULL */
    bool is_physical;           /* ids are slots: import_physical or --physical-to-logical maps */
    const char *path;           /* for messages */
    const char *place;          /* such as "line 17" or "record 3"; "" when the token says enough */
    int64_t first_token;        /* number of the first token, counted in that place */
};

/* A request begins with the next block. tag is copied (cut where too long, control characters
 * become blanks), may be NULL; prompt_tokens is the context before its first row. */
MUST_CHECK enum status import_request(struct import_sink *sink, const char *tag,
                                      int32_t prompt_tokens, double arrival_s);

/* Takes the rows. STATUS_OK while reading may go on. */
MUST_CHECK enum status import_block(struct import_sink *sink, const struct import_block *block);

/* The experts that slots hold: expert[num_layers][num_slots], by layer of the file or by MoE layer;
 * -1: an empty slot. Copied; to be called before the first block it is for. --physical-to-logical
 * wins over it. */
MUST_CHECK enum status import_physical(struct import_sink *sink, const int32_t *expert,
                                       int32_t num_layers, int32_t num_slots);

/* Adds tokens[num_experts] to a step (ascending from 0) and model layer of loads. Several files
 * (ranks) may add to the same step and layer. */
MUST_CHECK enum status import_load(struct import_sink *sink, int64_t step, int32_t model_layer,
                                   const int64_t *tokens, int32_t num_experts);

/* The same for one expert. */
MUST_CHECK enum status import_load_cell(struct import_sink *sink, int64_t step, int32_t model_layer,
                                        int32_t expert, int64_t tokens);

/* Announces how many tokens follow in all, if a format knows: --requests is checked against it. */
MUST_CHECK enum status import_total(struct import_sink *sink, int64_t num_tokens);

/* False: enough rows were seen; read returns STATUS_OK. */
bool import_wants_more(const struct import_sink *sink);

/* Counts what was left out; reason is copied and the same reason adds up. */
void import_drop(struct import_sink *sink, const char *reason, int64_t count);

/* Tells what is wrong: "path: place: text". Reading goes on until IMPORT_PROBLEMS_MAX: then
 * STATUS_INVALID. */
MUST_CHECK enum status import_complain(struct import_sink *sink, const char *path,
                                       const char *place, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same for what ends reading at once; returns STATUS_INVALID. */
enum status import_refuse(struct import_sink *sink, const char *path, const char *place,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Problems told so far in this pass: more than before a call means that it found one. */
int32_t import_num_problems(const struct import_sink *sink);

/* Bytes read of all files together; formats with one mapped file at a time may pass those of the
 * file at hand. */
void import_progress(struct import_sink *sink, int64_t done_bytes, int64_t total_bytes);

/* A file mapped read-only. */
struct import_file {
    const char *path;          /* borrowed */
    const unsigned char *data; /* [num_bytes] */
    int64_t num_bytes;
};

/* STATUS_IO: cannot be read; STATUS_INVALID: no regular file, or empty. Release with
 * import_file_close. */
MUST_CHECK enum status import_file_open(struct import_file *file, const char *path,
                                        struct error *error);
void import_file_close(struct import_file *file); /* safe on a zeroed struct, and twice */

/* Lets go of the pages of num_bytes mapped bytes, so that memory does not grow with the file; they
 * come back when they are read again. */
void import_forget(const void *data, size_t num_bytes);

#endif
