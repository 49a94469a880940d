/*
 * json_config.h -- a JSON object read key by key, problems told with file and line.
 */
#ifndef MOESIM_JSON_CONFIG_H
#define MOESIM_JSON_CONFIG_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "status.h"

struct json_config {
    const char *path; /* borrowed */
    char *text;       /* the file, to find lines in */
    cJSON *root;
    struct error *error;
    bool has_problem; /* some key was not as wanted: the whole is invalid */
};

/* Reads a file of at most 1 MiB that holds one JSON object. STATUS_IO, STATUS_INVALID. Release with
 * json_config_close, also after a failure. */
MUST_CHECK enum status json_config_open(struct json_config *config, const char *path,
                                        struct error *error);
void json_config_close(struct json_config *config); /* safe on a zeroed struct, and twice */

/* The value of a key; NULL when it is absent or null. */
const cJSON *json_config_find(const struct json_config *config, const char *key);

/* other when it is there and key is not, else key: for keys that were renamed over time. */
const char *json_config_first(const struct json_config *config, const char *key, const char *other);

/* A whole number between min and max that must be there; min after a problem. */
int32_t json_config_whole(struct json_config *config, const char *key, int32_t min, int32_t max);

/* The same, or fallback when it is absent. */
int32_t json_config_optional(struct json_config *config, const char *key, int32_t min, int32_t max,
                             int32_t fallback);

/* true or false; fallback when it is absent. */
bool json_config_flag(struct json_config *config, const char *key, bool fallback);

/* Reports a problem of a key. */
void json_config_complain(struct json_config *config, const char *key, const char *what);

#endif
