/*
 * sglang.h -- what the two readers of SGLang's expert-distribution recorder share.
 *
 * expert_distribution_recorder_TIME[_RANK].pt, python/sglang/srt/eplb/expert_distribution.py. Modes
 * per_token and per_pass write a file a rank: {"records": [...], "last_physical_to_logical_map":
 * [layers][slots]}; mode stat writes one: {"logical_count": [steps][layers][experts]}.
 */
#ifndef MOESIM_SGLANG_H
#define MOESIM_SGLANG_H

#include "import/import.h"
#include "pickle.h"

#define SGLANG_SLOTS_MAX 65536

/* Fingerprints of the passes of the files before. Where attention is tensor-parallel, every rank
 * records every token: those of the second file and later are copies, not traffic. */
struct sglang_seen {
    uint64_t *digest; /* [count], the first num_sorted ascending: of files before */
    int64_t count;
    int64_t num_sorted;
};

void sglang_seen_begin_file(struct sglang_seen *seen);
void sglang_seen_free(struct sglang_seen *seen);

/* Notes a pass; was it in a file before? */
MUST_CHECK enum status sglang_seen_add(struct sglang_seen *seen, bool *is_copy,
                                       int64_t forward_pass, const struct tensor *tensor,
                                       struct error *error);

/* One file of records while it is read. */
struct sglang_file {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;
    struct pickle pickle;
    const struct pickle_value *records; /* a list */
    int32_t *expert;                    /* [num_layers][num_slots] the map; -1: an empty slot */
    int32_t num_layers;
    int32_t num_slots;
};

/* Opens a file; records is NULL where it has none. Release with sglang_close, also after a failure.
 */
MUST_CHECK enum status sglang_open(struct sglang_file *file, const char *path,
                                   const struct import_input *input, struct import_sink *sink);
void sglang_close(struct sglang_file *file);

/* Loads an array of integers of a record, of num_dims dimensions. free memory. place such as
 * "record 3". STATUS_INVALID, told, when it is not that. */
MUST_CHECK enum status sglang_load(struct tensor *tensor, void **memory, struct sglang_file *file,
                                   const struct pickle_value *record, const char *key,
                                   int32_t num_dims, const char *place);

/* forward_pass_id of a record; its number in the list if it has none. */
int64_t sglang_forward_pass(const struct sglang_file *file, int64_t record);

/* Does the pickle at the beginning of a .pt file hold a text? */
bool sglang_probe_has(const struct import_probe *probe, const char *text);

#endif
