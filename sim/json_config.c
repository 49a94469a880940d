/* json_config.c -- cJSON with lines and limits. */
#include "json_config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define KEY_TEXT_BYTES 96

/* cJSON keeps no lines: the first place where the quoted key stands is close enough. */
static int32_t line_of(const struct json_config *config, const char *key)
{
    char quoted[KEY_TEXT_BYTES];
    (void)snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *place = strstr(config->text, quoted);
    int32_t line = 1;
    for (const char *byte = config->text; place != NULL && byte < place; byte++) {
        line += *byte == '\n' ? 1 : 0;
    }
    return place != NULL ? line : 0;
}

void json_config_complain(struct json_config *config, const char *key, const char *what)
{
    int32_t line = line_of(config, key);
    config->has_problem = true;
    if (line > 0) {
        (void)error_add(config->error, STATUS_INVALID, "%s:%d: %s: %s", config->path, line, key,
                        what);
    } else {
        (void)error_add(config->error, STATUS_INVALID, "%s: %s: %s", config->path, key, what);
    }
}

const cJSON *json_config_find(const struct json_config *config, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config->root, key);
    return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

int32_t json_config_whole(struct json_config *config, const char *key, int32_t min, int32_t max)
{
    const cJSON *item = json_config_find(config, key);
    if (item == NULL) {
        json_config_complain(config, key, "is missing");
        return min;
    }
    double value = cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
    if (!(value >= (double)min && value <= (double)max) || floor(value) < value) {
        char text[96];
        (void)snprintf(text, sizeof text, "must be a whole number between %d and %d", min, max);
        json_config_complain(config, key, text);
        return min;
    }
    return (int32_t)value;
}

int32_t json_config_optional(struct json_config *config, const char *key, int32_t min, int32_t max,
                             int32_t fallback)
{
    return json_config_find(config, key) != NULL ? json_config_whole(config, key, min, max)
                                                 : fallback;
}

bool json_config_flag(struct json_config *config, const char *key, bool fallback)
{
    const cJSON *item = json_config_find(config, key);
    if (item != NULL && !cJSON_IsBool(item)) {
        json_config_complain(config, key, "must be true or false");
    }
    return item != NULL ? cJSON_IsTrue(item) != 0 : fallback;
}

const char *json_config_first(const struct json_config *config, const char *key, const char *other)
{
    return json_config_find(config, key) == NULL && json_config_find(config, other) != NULL ? other
                                                                                            : key;
}

/* Reads a whole file as a text; NULL, and a status with its reason, when that fails. */
static char *read_text(const char *path, enum status *status, struct error *error)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        *status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    char *text = calloc(FILE_BYTES_MAX + 2, 1); /* one more byte tells a longer file, then NUL */
    size_t length = text != NULL ? fread(text, 1, FILE_BYTES_MAX + 1, file) : 0;
    *status = STATUS_OK;
    if (text == NULL) {
        *status = error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    } else if (ferror(file) != 0) {
        *status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    } else if (length > FILE_BYTES_MAX) {
        *status = error_add(error, STATUS_INVALID, "%s: larger than 1 MiB", path);
    } else if (memchr(text, '\0', length) != NULL) {
        *status = error_add(error, STATUS_INVALID, "%s: holds a NUL byte", path);
    }
    (void)fclose(file);
    if (*status != STATUS_OK) {
        free(text);
        text = NULL;
    }
    return text;
}

enum status json_config_open(struct json_config *config, const char *path, struct error *error)
{
    enum status status = STATUS_OK;
    *config = (struct json_config){.path = path, .error = error};
    config->text = read_text(path, &status, error);
    if (config->text == NULL) {
        return status;
    }
    const char *end = NULL;
    config->root = cJSON_ParseWithOpts(config->text, &end, 1);
    if (config->root == NULL) {
        int32_t line = 1;
        for (const char *byte = config->text; end != NULL && byte < end; byte++) {
            line += *byte == '\n' ? 1 : 0;
        }
        return error_add(error, STATUS_INVALID, "%s:%d: is no valid JSON", path, line);
    }
    if (!cJSON_IsObject(config->root)) {
        return error_add(error, STATUS_INVALID, "%s: is no JSON object", path);
    }
    return STATUS_OK;
}

void json_config_close(struct json_config *config)
{
    cJSON_Delete(config->root);
    free(config->text);
    *config = (struct json_config){0};
}
