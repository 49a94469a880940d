/*
 * trace_internal.h -- how a trace lies in memory: for trace*.c and the generator only.
 *
 * Expert ids take one byte where they can. One rule decides, here and in files: one byte up to 255
 * experts (255 then means "not routed"), and for exactly 256 experts when no row has gaps (255 is
 * then an expert); two bytes otherwise, 65535 meaning "not routed".
 */
#ifndef MOESIM_TRACE_INTERNAL_H
#define MOESIM_TRACE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "npy.h"
#include "trace.h"
#include "trace_writer.h"

#define TRACE_VERSION     1
#define TRACE_EXPERTS_MAX 65535 /* 65535 itself marks "not routed" */
#define TRACE_LAYERS_MAX  4096
#define TRACE_TOKENS_MAX  (INT64_C(1) << 50)
#define TRACE_SHARDS_MAX  16384 /* two mappings a shard stay below Linux's 65530 a process */
#define TRACE_PATH_BYTES  4096
#define TRACE_DIGITS      5 /* of a shard's number in file names */

/* One shard: mapped from files, or one piece of memory that the trace owns. */
struct trace_shard {
    int64_t num_tokens;
    const uint8_t *expert_u8;    /* [num_layers][num_tokens][top_k], or NULL */
    const uint16_t *expert_u16;  /* the same where ids take two bytes, or NULL */
    const uint16_t *gate_weight; /* float16, the same shape, or NULL */
    struct npy expert_file;
    struct npy gate_weight_file;
    void *expert_memory; /* malloc'ed, or NULL */
    void *gate_weight_memory;
};

/* 1 or 2: bytes of one expert id by the rule above. */
static inline int32_t trace_id_bytes(int32_t num_experts, bool has_gaps)
{
    return num_experts <= 255 || (num_experts == 256 && !has_gaps) ? 1 : 2;
}

/* Makes a trace of one shard over arrays from malloc. The trace owns them from the call on,
 * whatever the status. description->tokens_per_shard is not looked at; texts are copied; the name
 * is the model's until the caller writes another.
 *   expert       [num_layers][num_tokens][top_k] uint8_t or uint16_t, as trace_id_bytes says
 *   gate_weight  the same shape, float16; NULL exactly if description->has_gate_weights is false
 *   requests     [num_requests] by row_offset, first 0, without holes; NULL if there are none
 * STATUS_NO_MEMORY only: wrong shapes or requests are bugs of the caller. Release with trace_close,
 * also after a failure. */
MUST_CHECK enum status trace_from_memory(struct trace *trace,
                                         const struct trace_description *description, void *expert,
                                         uint16_t *gate_weight, struct trace_request *requests,
                                         int64_t num_requests, int64_t num_tokens,
                                         struct error *error);

/* Reads directory/trace.yaml: the texts, num_experts, top_k, model_layer and tokens_per_shard (0
 * when it is silent) of trace; num_tokens out: as stated, 0 when it is silent. */
MUST_CHECK enum status trace_yaml_read(struct trace *trace, int64_t *num_tokens,
                                       const char *directory, struct error *error);

/* Writes directory/trace.yaml, synced. */
MUST_CHECK enum status trace_yaml_write(const char *directory,
                                        const struct trace_description *description,
                                        int64_t num_tokens, struct error *error);

/* Is origin one that trace.yaml may have? */
bool trace_is_origin(const char *origin);

/* Maps every shard of trace->directory and checks it against the others and, when described is
 * true, against what trace.yaml said. Sets shards, num_shards, num_tokens (0 after a failure),
 * has_gate_weights and tokens_per_shard if it is 0. */
MUST_CHECK enum status trace_shards_open(struct trace *trace, bool described, struct error *error);

/* Reads directory/requests.csv into a malloc'ed list; no such file: none. num_tokens 0: not known,
 * because the shards could not be read; rows are then not checked against it. */
MUST_CHECK enum status trace_requests_read(struct trace_request **requests, int64_t *num_requests,
                                           const char *directory, int64_t num_tokens,
                                           struct error *error);

/* Writes directory/requests.csv, synced. STATUS_INVALID when the requests do not tile the rows or
 * one could not be read back. */
MUST_CHECK enum status trace_requests_write(const char *directory,
                                            const struct trace_request *requests,
                                            int64_t num_requests, int64_t num_tokens,
                                            struct error *error);

/* Compares an array with the wanted type and shape; a wanted dimension of -1 may be anything.
 * STATUS_INVALID names path and both shapes. */
MUST_CHECK enum status trace_shape_check(const struct npy *npy, const char *path,
                                         enum npy_type type, int32_t num_dims, const int64_t *dim,
                                         struct error *error);

/* Is name a file of a trace directory, such as experts-00000.npy? */
bool trace_is_file_name(const char *name);

/* Does the directory hold nothing but files of a trace? Then it may be replaced or removed. */
bool trace_is_pure_directory(const char *directory);

/* Removes a directory that holds only a trace; a missing one is fine, any other is STATUS_INVALID
 * and stays. */
MUST_CHECK enum status trace_remove(const char *directory, struct error *error);

/* Makes a directory's entries durable. */
MUST_CHECK enum status trace_sync_directory(const char *directory, struct error *error);

/* Sets path to given without slashes at its end, and beside it partial, where a trace is written,
 * and replaced. Clears what an earlier crash left of those two, makes partial, and holds it with
 * lock, a descriptor to be closed at the end (-1 where it cannot be opened). STATUS_INVALID: path
 * exists, unless replace, or holds something else than a trace; STATUS_IO: another process writes
 * to partial. */
MUST_CHECK enum status trace_prepare_paths(char path[TRACE_PATH_BYTES],
                                           char partial[TRACE_PATH_BYTES],
                                           char replaced[TRACE_PATH_BYTES], int *lock,
                                           const char *given, bool replace, struct error *error);

/* Moves a finished directory from partial to path; a trace that is there, if replace, waits at
 * replaced and goes last. */
MUST_CHECK enum status trace_move_into_place(const char *path, const char *partial,
                                             const char *replaced, bool replace,
                                             struct error *error);

/* The shard number of a name such as experts-00007.npy; -1 if it is not one of that stem. */
int32_t trace_shard_number(const char *name, const char *stem);

/* directory/stem-00007.npy into path. False when it does not fit. */
bool trace_shard_path(char path[TRACE_PATH_BYTES], const char *directory, const char *stem,
                      int32_t shard);

/* directory/name into path. False when it does not fit. */
bool trace_join(char path[TRACE_PATH_BYTES], const char *directory, const char *name);

#endif
