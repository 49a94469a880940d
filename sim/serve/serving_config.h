/*
 * serving_config.h -- the `serving:` keys of a scenario: who comes, and how batches are made.
 *
 * ARCHITECTURE.md, "Serving", lists the keys. A replica is the tp ranks that compute attention
 * together: it has a queue, a KV cache and batches of its own.
 */
#ifndef MOESIM_SERVING_CONFIG_H
#define MOESIM_SERVING_CONFIG_H

#include <stdint.h>

#define SERVING_PATH_BYTES 1024

enum serving_router {
    SERVING_ROUND_ROBIN,  /* replicas in turn */
    SERVING_LEAST_LOADED, /* fewest requests, waiting and running; of equals the first */
};

enum prefix_cache {
    PREFIX_CACHE_NONE,
    PREFIX_CACHE_RATE,   /* the same share of every prompt is there */
    PREFIX_CACHE_HASHES, /* one cache of hashed blocks for all replicas, least recently used out */
};

struct serving_arrivals {
    char path[SERVING_PATH_BYTES]; /* resolved; "" : generated */
    double speed;                  /* of a file: 2 lets its requests come in half the time */
    int64_t requests_max;          /* 0: all; generated with a concurrency: so many */
    double rate_per_s;             /* generated: mean over a day */
    double cv;                     /* of the gaps: 1 Poisson, above 1 bursts, 0 a metronome */
    double day_swing;     /* rate = mean (1 + swing cos(2 pi (t / day - 1/2))): most at midday */
    double duration_s;    /* generated: until when requests come */
    int32_t concurrency;  /* requests outstanding: the next comes when one is answered; 0: above */
    double prompt_tokens; /* generated: mean */
    double prompt_cv;     /* log-normal; 0: all alike */
    double prompt_spread; /* uniform from (1 - spread) to (1 + spread) means; 0: by cv */
    double decode_tokens;
    double decode_cv;
    double decode_spread;
};

/* Limits of a replica's batch. */
struct serving_batch {
    int32_t tokens;    /* of a step: new tokens of sequences, then chunks of prompts */
    int32_t sequences; /* running at a time */
};

struct serving_config {
    struct serving_arrivals arrivals;
    struct serving_batch batch;
    enum serving_router router;
    int32_t block_tokens; /* KV cache is given out in blocks of so many tokens */
    int64_t kv_tokens;    /* of a replica's cache; 0: what its memory leaves */
    enum prefix_cache prefix_cache;
    double hit_rate;                  /* PREFIX_CACHE_RATE */
    int64_t cache_tokens;             /* PREFIX_CACHE_HASHES; 0: nothing is ever thrown out */
    char prefill[SERVING_PATH_BYTES]; /* scenario of GPUs that only read prompts; "" : none do */
    struct serving_batch prefill_batch;
    int32_t draft_tokens; /* drafted beside every token; 0: none */
    double acceptance;    /* that one drafted token is right, given that those before it are */
    char engine[SERVING_PATH_BYTES]; /* preset whose host it has; "" : none */
    double host_request_ms;          /* of a request, as said or of that engine */
    double host_error;    /* of the engine's TTFT, held out, median; 0: as said, or none */
    double ttft_target_s; /* 0: none */
    double tpot_target_s; /* 0: none */
};

#endif
