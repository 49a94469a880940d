/*
 * arrivals_mooncake.c -- reads Mooncake's traces: an object a line, with hashes of the prompt's
 * blocks. A block's hash stands for it and all that is before it, so equal hashes are equal
 * prefixes.
 */
#include <stdlib.h>

#include "arrivals_internal.h"
#include "import/json_pull.h"

/* Reads the list that has just begun. False: no memory, and said so. */
static bool read_hashes(struct arrivals_reader *reader, struct json_reader *json, bool *is_hashed)
{
    struct arrivals *arrivals = reader->arrivals;
    struct json_token token;
    while (json_next(json, &token) != JSON_ARRAY_END) {
        int64_t hash = 0;
        if (token.kind == JSON_BROKEN || token.kind == JSON_END) {
            return true; /* told by the caller */
        }
        *is_hashed = json_whole(&token, &hash) && *is_hashed;
        (void)json_skip(json, &token);
        if (arrivals->num_hashes == reader->hashes_capacity) {
            int64_t capacity = reader->hashes_capacity == 0 ? 4096 : 2 * reader->hashes_capacity;
            void *larger = realloc(arrivals->hash, (size_t)capacity * sizeof *arrivals->hash);
            if (larger == NULL) {
                (void)error_add(reader->error, STATUS_NO_MEMORY, "%s: no memory for %lld hashes",
                                reader->path, (long long)capacity);
                return false;
            }
            arrivals->hash = larger;
            reader->hashes_capacity = capacity;
        }
        arrivals->hash[arrivals->num_hashes++] = hash;
    }
    return true;
}

/* Reads the object that has just begun. False: reading stops. */
static bool read_object(struct arrivals_reader *reader, struct json_reader *json)
{
    struct json_token token;
    int64_t line = json->line;
    double timestamp_ms = -1.0;
    int64_t prompt_tokens = -1;
    int64_t decode_tokens = -1;
    struct arrivals *arrivals = reader->arrivals;
    int64_t hash_begin = arrivals->num_hashes;
    bool is_hashed = true;
    while (json_next(json, &token) != JSON_OBJECT_END) {
        if (token.kind == JSON_BROKEN || token.kind == JSON_END) {
            return true; /* told by the caller */
        }
        if (json_key_is(&token, "timestamp")) {
            (void)json_double(&token, &timestamp_ms);
        } else if (json_key_is(&token, "input_length")) {
            (void)json_whole(&token, &prompt_tokens);
        } else if (json_key_is(&token, "output_length")) {
            (void)json_whole(&token, &decode_tokens);
        } else if (json_key_is(&token, "hash_ids") && token.kind == JSON_ARRAY) {
            if (!read_hashes(reader, json, &is_hashed)) {
                return false;
            }
            continue;
        }
        (void)json_skip(json, &token);
    }
    if (timestamp_ms < 0.0 || timestamp_ms > 1e15 || prompt_tokens < 0 ||
        prompt_tokens > ARRIVALS_TOKENS_MAX || decode_tokens < 0 ||
        decode_tokens > ARRIVALS_TOKENS_MAX) {
        return arrivals_complain(reader, line,
                                 "expected timestamp, input_length and output_length, at least 0, "
                                 "lengths at most 16777216");
    }
    if (!is_hashed) {
        return arrivals_complain(reader, line, "expected whole numbers as hash_ids");
    }
    if (prompt_tokens == 0 || decode_tokens == 0) {
        arrivals->num_failed++;
        arrivals->num_hashes = hash_begin;
        return true;
    }
    const struct arrival arrival = {
        .arrival_s = timestamp_ms / 1e3,
        .prompt_tokens = (int32_t)prompt_tokens,
        .decode_tokens = (int32_t)decode_tokens,
        .hash_begin = hash_begin,
        .num_hashes = (int32_t)(arrivals->num_hashes - hash_begin),
    };
    return arrivals_add(reader, &arrival);
}

enum status arrivals_read_mooncake(struct arrivals_reader *reader, const struct import_file *file)
{
    struct json_reader json;
    struct json_token token;
    bool goes_on = true;
    json_begin(&json, file);
    while (goes_on && json_next(&json, &token) == JSON_OBJECT) {
        goes_on = read_object(reader, &json);
    }
    if (goes_on && token.kind != JSON_END) {
        (void)arrivals_complain(reader, json.line,
                                json.problem != NULL ? json.problem : "expected an object a line");
    }
    return goes_on ? STATUS_OK : STATUS_INVALID;
}
