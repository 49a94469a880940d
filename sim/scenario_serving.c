/*
 * scenario_serving.c -- the `serving:` keys of a scenario, checked with all others.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_host.h"
#include "scenario_internal.h"

#define REQUESTS_MAX 1e8 /* drawn */

static const char *const routers[] = {"round_robin", "least_loaded", NULL}; /* serving_router */
static const char *const caches[] = {"none", "rate", "hashes", NULL};       /* prefix_cache */

static const struct serving_config serving_defaults = {
    .arrivals = {.speed = 1.0, .cv = 1.0},
    .batch = {.tokens = 2048, .sequences = 256},
    .router = SERVING_LEAST_LOADED,
    .block_tokens = 64,
    .prefill_batch = {.tokens = 8192, .sequences = 64},
};

#define AT(field) offsetof(struct serving_config, field)

static const struct yaml_field arrivals_fields[] = {
    {"path", YAML_TEXT, AT(arrivals.path), .size = SERVING_PATH_BYTES},
    {"speed", YAML_DOUBLE, AT(arrivals.speed), .min = 1e-6, .max = 1e6},
    {"requests", YAML_INT64, AT(arrivals.requests_max), .min = 1, .max = 1e9},
    {"rate_per_s", YAML_DOUBLE, AT(arrivals.rate_per_s), .min = 1e-6, .max = 1e6},
    {"cv", YAML_DOUBLE, AT(arrivals.cv), .min = 0.0, .max = 100.0},
    {"concurrency", YAML_INT32, AT(arrivals.concurrency), .min = 1, .max = 1 << 20},
    {"day_swing", YAML_DOUBLE, AT(arrivals.day_swing), .min = 0.0, .max = 1.0},
    {"duration_s", YAML_DOUBLE, AT(arrivals.duration_s), .min = 1e-3, .max = 1e8},
    {"prompt_tokens", YAML_DOUBLE, AT(arrivals.prompt_tokens), .min = 1.0, .max = 1e7},
    {"prompt_cv", YAML_DOUBLE, AT(arrivals.prompt_cv), .min = 0.0, .max = 100.0},
    {"prompt_spread", YAML_DOUBLE, AT(arrivals.prompt_spread), .min = 0.0, .max = 1.0},
    {"decode_tokens", YAML_DOUBLE, AT(arrivals.decode_tokens), .min = 1.0, .max = 1e7},
    {"decode_cv", YAML_DOUBLE, AT(arrivals.decode_cv), .min = 0.0, .max = 100.0},
    {"decode_spread", YAML_DOUBLE, AT(arrivals.decode_spread), .min = 0.0, .max = 1.0},
    {.key = NULL},
};

static const struct yaml_field batch_fields[] = {
    {"tokens", YAML_INT32, AT(batch.tokens), .min = 1, .max = 1 << 20},
    {"sequences", YAML_INT32, AT(batch.sequences), .min = 1, .max = 1 << 16},
    {.key = NULL},
};

static const struct yaml_field kv_fields[] = {
    {"block_tokens", YAML_INT32, AT(block_tokens), .min = 1, .max = 1 << 16},
    {"tokens", YAML_INT64, AT(kv_tokens), .min = 1, .max = 1e12},
    {.key = NULL},
};

static const struct yaml_field cache_fields[] = {
    {"kind", YAML_CHOICE, AT(prefix_cache), .choices = caches},
    {"hit_rate", YAML_DOUBLE, AT(hit_rate), .min = 0.0, .max = 1.0},
    {"tokens", YAML_INT64, AT(cache_tokens), .min = 1, .max = 1e15},
    {.key = NULL},
};

static const struct yaml_field prefill_fields[] = {
    {"scenario", YAML_TEXT, AT(prefill), .size = SERVING_PATH_BYTES, .required = true},
    {"tokens", YAML_INT32, AT(prefill_batch.tokens), .min = 1, .max = 1 << 20},
    {"sequences", YAML_INT32, AT(prefill_batch.sequences), .min = 1, .max = 1 << 16},
    {.key = NULL},
};

static const struct yaml_field draft_fields[] = {
    {"tokens", YAML_INT32, AT(draft_tokens), .min = 1, .max = 16},
    {"acceptance", YAML_DOUBLE, AT(acceptance), .required = true, .min = 0.0, .max = 1.0},
    {.key = NULL},
};

static const struct yaml_field target_fields[] = {
    {"ttft_s", YAML_DOUBLE, AT(ttft_target_s), .min = 1e-6, .max = 1e6},
    {"tpot_s", YAML_DOUBLE, AT(tpot_target_s), .min = 1e-6, .max = 1e6},
    {.key = NULL},
};

static const struct yaml_field host_fields[] = {
    {"request_ms", YAML_DOUBLE, AT(host_request_ms), .min = 0.0, .max = 1e6},
    {.key = NULL},
};

static const struct yaml_field serving_fields[] = {
    {"arrivals", YAML_TABLE, .required = true, .table = arrivals_fields},
    {"batch", YAML_TABLE, .table = batch_fields},
    {"router", YAML_CHOICE, AT(router), .choices = routers},
    {"kv", YAML_TABLE, .table = kv_fields},
    {"prefix_cache", YAML_TABLE, .table = cache_fields},
    {"prefill", YAML_TABLE, .table = prefill_fields},
    {"draft", YAML_TABLE, .table = draft_fields},
    {"engine", YAML_TEXT, AT(engine), .size = SERVING_PATH_BYTES},
    {"host", YAML_TABLE, .table = host_fields},
    {"targets", YAML_TABLE, .table = target_fields},
    {.key = NULL},
};

static const struct {
    const char *key;
    bool is_drawn; /* who is drawn needs it, and a file says it itself */
    bool is_timed; /* it says when requests come, and concurrency does so too */
} arrivals_rules[] = {
    {"rate_per_s", true, true},     {"duration_s", true, true}, {"prompt_tokens", true, false},
    {"decode_tokens", true, false}, {"cv", false, true},        {"day_swing", false, true},
    {"speed", false, true}};

static void check_key(struct scenario_loader *loader, const struct yaml_node *node, size_t rule,
                      bool is_file, bool is_closed)
{
    char key[64];
    const char *name = arrivals_rules[rule].key;
    bool is_given = yaml_get(node, name) != NULL;
    bool is_drawn = arrivals_rules[rule].is_drawn;
    bool is_rival = is_closed && arrivals_rules[rule].is_timed;
    (void)snprintf(key, sizeof key, "serving.arrivals.%s", name);
    if (is_given && is_drawn && is_file) {
        scenario_complain(loader, key,
                          "the file says when requests come and how long they are; give one or "
                          "the other");
    } else if (is_given && is_rival) {
        scenario_complain(loader, key,
                          "with concurrency the next request comes when one is answered; give one "
                          "or the other");
    } else if (!is_given && is_drawn && !is_file && !is_rival) {
        scenario_complain(loader, key, "is missing: name a path, or say who comes");
    }
}

/* How many are drawn. */
static void check_count(struct scenario_loader *loader, const struct yaml_node *node,
                        const struct serving_arrivals *arrivals, bool is_closed)
{
    double count =
        is_closed ? (double)arrivals->requests_max : arrivals->rate_per_s * arrivals->duration_s;
    if (is_closed && yaml_get(node, "requests") == NULL) {
        scenario_complain(loader, "serving.arrivals.requests",
                          "is missing: with concurrency it says how many come");
    } else if (count > REQUESTS_MAX) {
        scenario_complain(loader,
                          is_closed ? "serving.arrivals.requests" : "serving.arrivals.rate_per_s",
                          "%.3g requests are more than memory holds (100 million)", count);
    }
}

static void check_length(struct scenario_loader *loader, const char *what, double cv, double spread)
{
    char key[64];
    (void)snprintf(key, sizeof key, "serving.arrivals.%s_spread", what);
    if (cv > 0.0 && spread > 0.0) {
        scenario_complain(loader, key, "is of uniform lengths, %s_cv of log-normal ones; give one",
                          what);
    }
}

static void check_arrivals(struct scenario_loader *loader, const struct yaml_node *node,
                           struct serving_arrivals *arrivals)
{
    bool is_closed = yaml_get(node, "concurrency") != NULL;
    if (arrivals->path[0] != '\0') {
        char path[PATH_BYTES];
        if (scenario_find_path(loader, path, "serving.arrivals.path", arrivals->path)) {
            memcpy(arrivals->path, path, sizeof path);
        } else {
            scenario_complain(loader, "serving.arrivals.path", "there is no %s", arrivals->path);
        }
    }
    for (size_t i = 0; i < sizeof arrivals_rules / sizeof arrivals_rules[0]; i++) {
        check_key(loader, node, i, arrivals->path[0] != '\0', is_closed);
    }
    if (arrivals->path[0] == '\0') {
        check_count(loader, node, arrivals, is_closed);
    }
    check_length(loader, "prompt", arrivals->prompt_cv, arrivals->prompt_spread);
    check_length(loader, "decode", arrivals->decode_cv, arrivals->decode_spread);
}

static void check_cache(struct scenario_loader *loader, const struct yaml_node *cache,
                        const struct serving_config *serving)
{
    if (serving->prefix_cache != PREFIX_CACHE_RATE && yaml_get(cache, "hit_rate") != NULL) {
        scenario_complain(loader, "serving.prefix_cache.hit_rate", "goes with kind: rate");
    }
    if (serving->prefix_cache == PREFIX_CACHE_RATE && yaml_get(cache, "hit_rate") == NULL) {
        scenario_complain(loader, "serving.prefix_cache.hit_rate", "is missing");
    }
    if (serving->prefix_cache != PREFIX_CACHE_HASHES && yaml_get(cache, "tokens") != NULL) {
        scenario_complain(loader, "serving.prefix_cache.tokens", "goes with kind: hashes");
    }
    if (serving->prefix_cache == PREFIX_CACHE_HASHES && serving->arrivals.path[0] == '\0') {
        scenario_complain(loader, "serving.prefix_cache.kind",
                          "generated requests have no hashes; use kind: rate");
    }
}

static void check_prefill(struct scenario_loader *loader, struct serving_config *serving)
{
    char path[PATH_BYTES];
    if (serving->prefill[0] == '\0') {
        return;
    }
    if (loader->file.prefill_collective[0] != '\0') {
        scenario_complain(loader, "dispatch.prefill_collective",
                          "is of GPUs that read and answer; serving.prefill has prompts read "
                          "elsewhere, by the collective of that scenario");
    }
    if (!scenario_find_path(loader, path, "serving.prefill.scenario", serving->prefill)) {
        scenario_complain(loader, "serving.prefill.scenario", "there is no %s", serving->prefill);
    } else {
        memcpy(serving->prefill, path, sizeof path);
    }
}

static void check_batch(struct scenario_loader *loader, const struct serving_config *serving)
{
    if ((int64_t)serving->batch.sequences * (1 + serving->draft_tokens) > serving->batch.tokens) {
        scenario_complain(loader, "serving.batch.tokens",
                          "%d are less than %d sequences with %d tokens each need in a step",
                          (int)serving->batch.tokens, (int)serving->batch.sequences,
                          (int)serving->draft_tokens + 1);
    }
}

/* An engine's preset says what its host takes; what it does beside that holds unless it is said. */
static void check_host(struct scenario_loader *loader, const struct yaml_node *node,
                       struct serving_config *serving)
{
    struct engine_host host;
    struct error problems = {0};
    char path[PATH_BYTES];
    if (serving->engine[0] == '\0') {
        return;
    }
    scenario_resolve_preset(loader, path, "serving.engine", serving->engine);
    if (yaml_get(yaml_get(node, "host"), "request_ms") != NULL) {
        scenario_complain(loader, "serving.host.request_ms",
                          "serving.engine: %s says it too; give one or the other", serving->engine);
    } else if (engine_host_load(&host, path, "", &problems) != STATUS_OK) {
        scenario_pass_on(loader, "serving.engine", &problems);
    } else {
        serving->host_request_ms = host.request_ms;
        serving->host_error = host.error_median;
        if (loader->file.shared_tokens == SCENARIO_UNSET && loader->file.micro_batches == 1) {
            loader->scenario->shared_tokens = engine_shared_tokens(host.name);
        }
    }
}

void scenario_read_serving(struct scenario_loader *loader)
{
    const struct yaml_node *node = loader->file.serving;
    if (node == NULL) {
        return;
    }
    struct serving_config *serving = malloc(sizeof *serving);
    loader->scenario->serving = serving;
    if (serving == NULL) {
        loader->status = error_add(loader->error, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    *serving = serving_defaults;
    if (node->kind != YAML_MAPPING) {
        scenario_complain(loader, "serving", "expected keys and values, as arrivals: {path: ...}");
        return;
    }
    enum status status = yaml_fill(serving, node, serving_fields, loader->error);
    if (status != STATUS_OK) {
        loader->status = status;
    } else {
        check_batch(loader, serving); /* of numbers that were given without a problem */
    }
    if (yaml_get(node, "arrivals") != NULL) {
        check_arrivals(loader, yaml_get(node, "arrivals"), &serving->arrivals);
        check_cache(loader, yaml_get(node, "prefix_cache"), serving);
    }
    check_prefill(loader, serving);
    check_host(loader, node, serving);
}
