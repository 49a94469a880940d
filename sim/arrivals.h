/*
 * arrivals.h -- when requests come and how long they are: public traces of traffic, and our own.
 *
 *   azure_arrivals     CSV TIMESTAMP, ContextTokens, GeneratedTokens (Azure LLM inference traces
 *                      2023 and 2024; date and time of day)
 *   burstgpt_arrivals  CSV Timestamp (seconds), Model, Request tokens, Response tokens, Log Type
 *                      (HPMLL/BurstGPT); a response without tokens failed and is left out
 *   mooncake_arrivals  JSON lines timestamp (milliseconds), input_length, output_length, hash_ids
 *                      of the prompt's blocks of 512 tokens (kvcache-ai/Mooncake)
 *   arrivals           CSV of moesim: request, tag, arrival_s, prompt_tokens, decode_tokens,
 *                      row_offset, as requests.csv of a trace; tag and row_offset may be empty
 */
#ifndef MOESIM_ARRIVALS_H
#define MOESIM_ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "status.h"

#define ARRIVALS_SPAN_MAX_S 3.1536e8 /* ten years: nanoseconds of more would not fit */

struct arrival {
    double arrival_s;      /* the first at 0, but for moesim's own file, where it is as written */
    int32_t prompt_tokens; /* at least 1 */
    int32_t decode_tokens; /* at least 1 */
    int32_t tag;           /* index of arrivals.tag */
    int32_t num_hashes;    /* 0: none were recorded */
    int64_t hash_begin;    /* of arrivals.hash */
};

/* Owns its arrays. */
struct arrivals {
    int64_t count;
    struct arrival *arrival; /* [count] by time; of equals, as in the file */
    int32_t num_tags;
    char (*tag)[NAME_BYTES]; /* [num_tags] all differ; tag[0] is "" */
    int64_t *hash;           /* [num_hashes] of the blocks of prompts: equal ones, equal prefixes */
    int64_t num_hashes;
    int64_t num_failed; /* requests left out, that have no token of prompt or answer */
};

enum arrivals_format {
    ARRIVALS_AZURE,
    ARRIVALS_BURSTGPT,
    ARRIVALS_MOONCAKE,
    ARRIVALS_OWN,
    ARRIVALS_UNKNOWN,
};

/* The format of a file by its first bytes, NUL-ended. */
enum arrivals_format arrivals_detect(const char *text);

/* Reads a file. format ARRIVALS_UNKNOWN: it is detected. STATUS_IO, STATUS_NO_MEMORY, or
 * STATUS_INVALID with up to ten problems, each with its line. Release with arrivals_free, also
 * after a failure. */
MUST_CHECK enum status arrivals_read(struct arrivals *arrivals, const char *path,
                                     enum arrivals_format format, struct error *error);

void arrivals_free(struct arrivals *arrivals); /* safe on a zeroed struct, and twice */

/* Of a prompt or an answer: more than any model's context; serving draws acceptance for each. */
#define ARRIVALS_TOKENS_MAX  16777216

#define ARRIVALS_HASH_TOKENS 512 /* a block of a prompt in Mooncake's traces */

/* Of all prompts' tokens the share that a cache of hashed blocks answers which begins empty,
 * forgets nothing and serves every request: no cache that begins empty finds more. *share out, 0
 * without hashes. STATUS_NO_MEMORY. */
MUST_CHECK enum status arrivals_cached_share(double *share, const struct arrivals *arrivals);

/* Requests that nobody recorded. Gaps are gamma-distributed in the time in which they would come
 * evenly; a day's curve stretches and shrinks that time. */
struct arrivals_law {
    double rate_per_s; /* mean over a day */
    double cv;         /* of the gaps: 1 Poisson, above 1 bursts, 0 a metronome */
    double day_swing;  /* rate = mean (1 + swing cos(2 pi (t / day - 1/2))): most at midday */
    double duration_s;
    int64_t num_requests; /* not 0: so many, all at 0, and nothing above is read */
    double prompt_tokens; /* mean, at least 1 */
    double prompt_cv;     /* log-normal; 0: all alike */
    double prompt_spread; /* not 0: uniform, of the mean to either side; cv is not read */
    double decode_tokens;
    double decode_cv;
    double decode_spread;
    uint64_t seed; /* of the streams "arrival gaps", "arrival prompts" and "arrival answers" */
};

/* Draws requests until duration_s or num_requests; times in whole microseconds. STATUS_INVALID when
 * none comes, STATUS_NO_MEMORY. Release with arrivals_free, also after a failure. */
MUST_CHECK enum status arrivals_generate(struct arrivals *arrivals, const struct arrivals_law *law,
                                         struct error *error);

/* Writes moesim's own format, synced; beside path first, so that nothing half-written stays.
 * STATUS_INVALID if path exists, unless replace. */
MUST_CHECK enum status arrivals_write(const struct arrivals *arrivals, const char *path,
                                      bool replace, struct error *error);

/* Gives a trace's requests the times of the first arrivals, in order, and rewrites its
 * requests.csv; contexts stay as they were measured. STATUS_INVALID if the trace has no requests or
 * more of them than there are arrivals. *num_requests out: how many got one. */
MUST_CHECK enum status arrivals_attach(const struct arrivals *arrivals, const char *directory,
                                       int64_t *num_requests, struct error *error);

#endif
