/*
 * json_pull.h -- JSON read token by token from a mapped file, without a tree.
 *
 * One token is one value, with its key inside an object. Any number of values may follow one
 * another, as in JSON lines. Strings are spans of the file, escapes and all, so that one of 100 MB
 * costs nothing until it is decoded; pages left behind are let go.
 */
#ifndef MOESIM_JSON_PULL_H
#define MOESIM_JSON_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "import/import.h"

#define JSON_DEPTH_MAX 64

enum json_kind {
    JSON_END,    /* of the file */
    JSON_BROKEN, /* no JSON: json_reader.problem says why, and stays */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
};

struct json_token {
    enum json_kind kind;
    const char *key; /* [key_length] of a value in an object, escapes and all; else NULL */
    int64_t key_length;
    const char *text; /* [length] of a string, without quotes, escapes and all; of a number */
    int64_t length;
};

struct json_reader {
    const unsigned char *begin;
    const unsigned char *at;
    const unsigned char *end;
    const unsigned char *kept; /* pages before it are let go */
    int64_t line;              /* 1-based */
    int32_t depth;             /* open objects and arrays */
    bool is_object[JSON_DEPTH_MAX];
    bool has_value; /* the innermost has one already: a comma is next */
    const char *problem;
};

void json_begin(struct json_reader *reader, const struct import_file *file);

/* Reads the next token. */
enum json_kind json_next(struct json_reader *reader, struct json_token *token);

/* After the token that opened an object or array: reads on behind its end. False: broken. */
bool json_skip(struct json_reader *reader, const struct json_token *token);

bool json_key_is(const struct json_token *token, const char *key);
bool json_text_is(const struct json_token *token, const char *text);

/* A whole number that int64 holds. False: it is not one. */
bool json_whole(const struct json_token *token, int64_t *value);

/* Any number. False: it is not one, or not finite. */
bool json_double(const struct json_token *token, double *value);

/* Copies a string into text [room], cut where it is too long; escapes of one character are undone,
 * \u ones become '?'. */
void json_copy(char *text, size_t room, const struct json_token *token);

#endif
