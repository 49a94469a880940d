/*
 * json_pull.c -- the JSON grammar of RFC 8259 as a walk over bytes, with a bounded stack.
 */
#include "import/json_pull.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (INT64_C(4) << 20) /* looked at before the pages behind are let go */

void json_begin(struct json_reader *reader, const struct import_file *file)
{
    *reader = (struct json_reader){.line = 1};
    reader->begin = file->data;
    reader->at = file->data;
    reader->kept = file->data;
    reader->end = file->data + file->num_bytes;
    if (file->num_bytes >= 3 && memcmp(file->data, "\xef\xbb\xbf", 3) == 0) {
        reader->at += 3;
    }
}

static enum json_kind broken(struct json_reader *reader, const char *problem)
{
    reader->problem = reader->problem == NULL ? problem : reader->problem;
    return JSON_BROKEN;
}

static void let_go(struct json_reader *reader)
{
    if (reader->at - reader->kept > WINDOW_BYTES) {
        import_forget(reader->kept, (size_t)(reader->at - reader->kept));
        reader->kept = reader->at;
    }
}

static void skip_space(struct json_reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\n' ||
                                        *reader->at == '\r' || *reader->at == '\t')) {
        reader->line += *reader->at == '\n' ? 1 : 0;
        reader->at++;
    }
}

/* From behind the opening quote to the closing one. False: there is none, or a line ends first. */
static bool scan_string(struct json_reader *reader, const char **text, int64_t *length)
{
    const unsigned char *first = reader->at;
    *text = (const char *)first;
    while (reader->at < reader->end) {
        int64_t left = reader->end - reader->at;
        size_t window = (size_t)(left < WINDOW_BYTES ? left : WINDOW_BYTES);
        const unsigned char *quote = memchr(reader->at, '"', window);
        size_t seen = quote != NULL ? (size_t)(quote - reader->at) : window;
        if (memchr(reader->at, '\n', seen) != NULL) {
            break;
        }
        if (quote == NULL) {
            reader->at += window;
            let_go(reader);
            continue;
        }
        const unsigned char *slash = quote;
        while (slash > first && slash[-1] == '\\') {
            slash--;
        }
        reader->at = quote + 1;
        if ((quote - slash) % 2 == 0) {
            *length = quote - first;
            return true;
        }
    }
    (void)broken(reader, reader->at < reader->end
                             ? "a string without an end on its line"
                             : "the file ends within a string; of JSON lines leave the last out");
    return false;
}

static bool is_digit(const struct json_reader *reader)
{
    return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

static bool scan_digits(struct json_reader *reader)
{
    const unsigned char *first = reader->at;
    while (is_digit(reader)) {
        reader->at++;
    }
    return reader->at > first;
}

static bool take(struct json_reader *reader, const char *choices)
{
    if (reader->at < reader->end && *reader->at != '\0' && strchr(choices, *reader->at) != NULL) {
        reader->at++;
        return true;
    }
    return false;
}

static enum json_kind scan_number(struct json_reader *reader, struct json_token *token)
{
    const unsigned char *first = reader->at;
    (void)take(reader, "-");
    bool is_sound = scan_digits(reader);
    if (is_sound && take(reader, ".")) {
        is_sound = scan_digits(reader);
    }
    if (is_sound && take(reader, "eE")) {
        (void)take(reader, "+-");
        is_sound = scan_digits(reader);
    }
    token->text = (const char *)first;
    token->length = reader->at - first;
    return is_sound ? JSON_NUMBER : broken(reader, "no value of JSON (NaN and Infinity are none)");
}

static enum json_kind scan_word(struct json_reader *reader, const char *word, enum json_kind kind)
{
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) {
        return broken(reader, "no value of JSON (NaN and Infinity are none)");
    }
    reader->at += length;
    return kind;
}

static enum json_kind open_level(struct json_reader *reader, bool is_object)
{
    if (reader->depth == JSON_DEPTH_MAX) {
        return broken(reader, "nested deeper than 64 levels");
    }
    reader->is_object[reader->depth++] = is_object;
    reader->has_value = false;
    reader->at++;
    return is_object ? JSON_OBJECT : JSON_ARRAY;
}

static enum json_kind scan_value(struct json_reader *reader, struct json_token *token)
{
    enum json_kind kind = JSON_BROKEN;
    if (reader->at == reader->end) {
        return broken(reader, "the file ends within a value");
    }
    switch (*reader->at) {
    case '{':
        return open_level(reader, true);
    case '[':
        return open_level(reader, false);
    case '"':
        reader->at++;
        kind = scan_string(reader, &token->text, &token->length) ? JSON_STRING : JSON_BROKEN;
        break;
    case 't':
        kind = scan_word(reader, "true", JSON_TRUE);
        break;
    case 'f':
        kind = scan_word(reader, "false", JSON_FALSE);
        break;
    case 'n':
        kind = scan_word(reader, "null", JSON_NULL);
        break;
    default:
        kind = scan_number(reader, token);
        break;
    }
    reader->has_value = true;
    return kind;
}

/* Inside an object: the key and its colon. */
static bool scan_key(struct json_reader *reader, struct json_token *token)
{
    skip_space(reader);
    if (!take(reader, "\"")) {
        (void)broken(reader, "expected a key in double quotes");
        return false;
    }
    if (!scan_string(reader, &token->key, &token->key_length)) {
        return false;
    }
    skip_space(reader);
    if (!take(reader, ":")) {
        (void)broken(reader, "expected ':' behind a key");
        return false;
    }
    skip_space(reader);
    return true;
}

enum json_kind json_next(struct json_reader *reader, struct json_token *token)
{
    *token = (struct json_token){.kind = JSON_BROKEN};
    if (reader->problem != NULL) {
        return JSON_BROKEN;
    }
    let_go(reader);
    skip_space(reader);
    if (reader->depth == 0) {
        token->kind = reader->at == reader->end ? JSON_END : scan_value(reader, token);
        return token->kind;
    }
    bool in_object = reader->is_object[reader->depth - 1];
    if (take(reader, in_object ? "}" : "]")) {
        reader->depth--;
        reader->has_value = true;
        token->kind = in_object ? JSON_OBJECT_END : JSON_ARRAY_END;
        return token->kind;
    }
    if (reader->has_value) {
        if (!take(reader, ",")) {
            return broken(reader, reader->at == reader->end
                                      ? "the file ends within an object or a list"
                                      : "expected ',' or the end of an object or a list");
        }
        skip_space(reader);
    }
    if (!in_object || scan_key(reader, token)) {
        token->kind = scan_value(reader, token);
    }
    return token->kind;
}

bool json_skip(struct json_reader *reader, const struct json_token *token)
{
    if (token->kind != JSON_OBJECT && token->kind != JSON_ARRAY) {
        return token->kind != JSON_BROKEN;
    }
    struct json_token inner;
    int32_t depth = reader->depth;
    while (reader->depth >= depth) {
        enum json_kind kind = json_next(reader, &inner);
        if (kind == JSON_BROKEN || kind == JSON_END) {
            return false;
        }
    }
    return true;
}

bool json_key_is(const struct json_token *token, const char *key)
{
    return token->key != NULL && (size_t)token->key_length == strlen(key) &&
           memcmp(token->key, key, (size_t)token->key_length) == 0;
}

bool json_text_is(const struct json_token *token, const char *text)
{
    return token->kind == JSON_STRING && (size_t)token->length == strlen(text) &&
           memcmp(token->text, text, (size_t)token->length) == 0;
}

bool json_whole(const struct json_token *token, int64_t *value)
{
    bool is_negative = token->length > 0 && token->text[0] == '-';
    int64_t sum = 0;
    if (token->kind != JSON_NUMBER || token->length > 19) {
        return false;
    }
    for (int64_t i = is_negative ? 1 : 0; i < token->length; i++) {
        int64_t digit = token->text[i] - '0';
        if (digit < 0 || digit > 9 || sum > (INT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = is_negative ? -sum : sum;
    return true;
}

bool json_double(const struct json_token *token, double *value)
{
    char text[64];
    if (token->kind != JSON_NUMBER || token->length >= (int64_t)sizeof text) {
        return false;
    }
    memcpy(text, token->text, (size_t)token->length);
    text[token->length] = '\0';
    *value = strtod(text, NULL);
    return isfinite(*value) != 0;
}

void json_copy(char *text, size_t room, const struct json_token *token)
{
    size_t used = 0;
    for (int64_t i = 0; i < token->length && used + 1 < room; i++) {
        char next = token->text[i];
        if (next == '\\' && i + 1 < token->length) {
            next = token->text[++i];
            i += next == 'u' ? 4 : 0;
            next = next == 'u' ? '?' : next;
        }
        text[used++] = next;
    }
    text[used] = '\0';
}
