/*
 * yaml_fill.c -- a YAML mapping into a struct, by a table of fields.
 *
 * Every problem names its file, line and the dotted path of its key. Numbers are parsed by a
 * grammar of our own before strtod sees them: no hexadecimal, no "inf", no underscores.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suggest.h"
#include "yaml_file.h"
#include "yaml_tree.h"

#define PATH_TEXT_BYTES 512
#define KEYS_TEXT_BYTES 512 /* names of the keys of one table; more of them are not listed */
#define TABLE_DEPTH_MAX 8
#define EXACT_DOUBLE    9007199254740992.0 /* 2^53: whole numbers up to here are exact */

/* A mapping on its way into the struct. */
struct frame {
    const struct yaml_node *mapping;
    const struct yaml_field *table;
    const struct yaml_node *next; /* child to be read */
    size_t path_length;
};

enum status yaml_complain(struct error *error, const struct yaml_node *node, const char *key,
                          const char *what)
{
    return node->line > 0 ? error_add(error, STATUS_INVALID, "%s:%d: %s: %s", node->file,
                                      (int)node->line, key, what)
                          : error_add(error, STATUS_INVALID, "%s %s: %s", node->file, key, what);
}

struct filler {
    void *target;
    struct error *error;
    bool has_problem;
    int32_t depth;
    struct frame frame[TABLE_DEPTH_MAX];
    char path[PATH_TEXT_BYTES]; /* of the key at hand */
};

static void complain(struct filler *filler, const struct yaml_node *node, const char *what)
{
    filler->has_problem = true;
    (void)yaml_complain(filler->error, node, filler->path, what);
}

/* "2,10", which is 2.10 in half of the world. */
static bool has_decimal_comma(const char *text)
{
    size_t whole = strspn(text, "0123456789");
    return whole > 0 && text[whole] == ',' && text[whole + 1] != '\0' &&
           text[whole + 1 + strspn(text + whole + 1, "0123456789")] == '\0';
}

/* "expected WHAT, got 'TEXT'". */
static void complain_type(struct filler *filler, const struct yaml_node *node, const char *expected)
{
    char shown[YAML_EXCERPT_BYTES];
    char text[YAML_EXCERPT_BYTES + 64];
    switch (node->kind) {
    case YAML_SEQUENCE:
        (void)snprintf(text, sizeof text, "expected %s, got a list", expected);
        break;
    case YAML_MAPPING:
        (void)snprintf(text, sizeof text, "expected %s, got a mapping", expected);
        break;
    case YAML_SCALAR:
        yaml_excerpt(shown, node->text);
        if (*node->text == '\0') {
            (void)snprintf(text, sizeof text, "expected %s, got nothing", expected);
        } else {
            (void)snprintf(text, sizeof text, "expected %s, got '%s'%s%s", expected, shown,
                           node->quoted ? " in quotes" : "",
                           has_decimal_comma(node->text) ? "; write a point for the comma" : "");
        }
        break;
    }
    complain(filler, node, text);
}

static void complain_range(struct filler *filler, const struct yaml_node *node, double min,
                           double max)
{
    char text[128];
    if (max > 1e300) {
        (void)snprintf(text, sizeof text, "must be at least %.15g", min);
    } else if (min >= max) {
        (void)snprintf(text, sizeof text, "must be %.15g", min);
    } else {
        (void)snprintf(text, sizeof text, "must be between %.15g and %.15g", min, max);
    }
    complain(filler, node, text);
}

static const char *skip_digits(const char *text)
{
    while (*text >= '0' && *text <= '9') {
        text++;
    }
    return text;
}

bool yaml_is_number(const char *text)
{
    const char *whole = text + (*text == '-' || *text == '+' ? 1 : 0);
    const char *end = skip_digits(whole);
    bool has_digits = end > whole;
    if (*end == '.') {
        const char *fraction = end + 1;
        end = skip_digits(fraction);
        has_digits = has_digits || end > fraction;
    }
    if (!has_digits) {
        return false;
    }
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1 + (end[1] == '-' || end[1] == '+' ? 1 : 0);
        end = skip_digits(exponent);
        if (end == exponent) {
            return false;
        }
    }
    return *end == '\0';
}

static bool is_whole(const char *text)
{
    const char *digits = text + (*text == '-' || *text == '+' ? 1 : 0);
    return *digits != '\0' && *skip_digits(digits) == '\0';
}

/* Whole numbers may also be written 2e12, as long as a double holds them exactly. On success one of
 * value and huge is set: huge holds what only a uint64_t can. */
static bool parse_whole(const char *text, int64_t *value, uint64_t *huge)
{
    *huge = 0;
    if (is_whole(text)) {
        errno = 0;
        *value = strtoll(text, NULL, 10);
        if (errno != ERANGE) {
            return true;
        }
        errno = 0;
        *huge = strtoull(text, NULL, 10);
        return *text != '-' && errno != ERANGE;
    }
    double number = yaml_is_number(text) ? strtod(text, NULL) : 0.5;
    if (fabs(number) > EXACT_DOUBLE || floor(number) < number) {
        return false;
    }
    *value = (int64_t)number;
    return true;
}

static void *field_at(const struct filler *filler, const struct yaml_field *field)
{
    return (char *)filler->target + field->offset;
}

static void fill_whole(struct filler *filler, const struct yaml_node *node,
                       const struct yaml_field *field)
{
    int64_t value = 0;
    uint64_t huge = 0;
    bool is_scalar = node->kind == YAML_SCALAR && !node->quoted;
    if (!is_scalar || (!parse_whole(node->text, &value, &huge) && !is_whole(node->text))) {
        complain_type(filler, node, "a whole number");
        return;
    }
    bool has_range = field->min < 0.0 || field->min > 0.0 || field->max < 0.0 || field->max > 0.0;
    double min = has_range ? field->min : -HUGE_VAL;
    double max = has_range ? field->max : HUGE_VAL;
    double type_min = field->type == YAML_INT32    ? (double)INT32_MIN
                      : field->type == YAML_UINT64 ? 0.0
                                                   : (double)INT64_MIN;
    double type_max = field->type == YAML_INT32    ? (double)INT32_MAX
                      : field->type == YAML_UINT64 ? (double)UINT64_MAX
                                                   : (double)INT64_MAX;
    min = fmax(min, type_min);
    max = fmin(max, type_max);
    bool is_readable = parse_whole(node->text, &value, &huge);
    double number = huge > 0 ? (double)huge : (double)value;
    bool is_too_wide = huge > 0 && field->type != YAML_UINT64;
    if (!is_readable || is_too_wide || number < min || number > max) {
        complain_range(filler, node, min, has_range && field->max > 1e300 ? HUGE_VAL : max);
        return;
    }
    if (field->type == YAML_INT32) {
        int32_t narrow = (int32_t)value;
        memcpy(field_at(filler, field), &narrow, sizeof narrow);
    } else if (field->type == YAML_UINT64) {
        uint64_t wide = huge > 0 ? huge : (uint64_t)value;
        memcpy(field_at(filler, field), &wide, sizeof wide);
    } else {
        memcpy(field_at(filler, field), &value, sizeof value);
    }
}

static void fill_double(struct filler *filler, const struct yaml_node *node,
                        const struct yaml_field *field)
{
    if (node->kind != YAML_SCALAR || node->quoted || !yaml_is_number(node->text)) {
        complain_type(filler, node, "a number");
        return;
    }
    double number = strtod(node->text, NULL);
    bool has_range = field->min < 0.0 || field->min > 0.0 || field->max < 0.0 || field->max > 0.0;
    if (!isfinite(number)) {
        complain_type(filler, node, "a number that a double can hold");
    } else if (has_range && (number < field->min || number > field->max)) {
        complain_range(filler, node, field->min, field->max);
    } else {
        memcpy(field_at(filler, field), &number, sizeof number);
    }
}

static void fill_bool(struct filler *filler, const struct yaml_node *node,
                      const struct yaml_field *field)
{
    bool is_true = strcmp(node->text, "true") == 0;
    bool is_false = strcmp(node->text, "false") == 0;
    if (node->kind != YAML_SCALAR || node->quoted || (!is_true && !is_false)) {
        complain_type(filler, node, "true or false");
        return;
    }
    memcpy(field_at(filler, field), &is_true, sizeof is_true);
}

static void fill_text(struct filler *filler, const struct yaml_node *node,
                      const struct yaml_field *field)
{
    assert(field->size > 0);
    bool is_missing = *node->text == '\0' && (field->required || !node->quoted);
    if (node->kind != YAML_SCALAR || is_missing) {
        complain_type(filler, node, "a text");
    } else if (strlen(node->text) >= field->size) {
        char text[64];
        (void)snprintf(text, sizeof text, "is longer than %zu bytes", field->size - 1);
        complain(filler, node, text);
    } else {
        memcpy(field_at(filler, field), node->text, strlen(node->text) + 1);
    }
}

static void fill_choice(struct filler *filler, const struct yaml_node *node,
                        const struct yaml_field *field)
{
    if (node->kind != YAML_SCALAR || *node->text == '\0') {
        complain_type(filler, node, "a word");
        return;
    }
    char text[512];
    char shown[YAML_EXCERPT_BYTES];
    yaml_excerpt(shown, node->text);
    struct suggestion suggestion = {.word = node->text};
    int used = snprintf(text, sizeof text, "'%s' is none of", shown);
    for (int32_t value = 0; field->choices[value] != NULL; value++) {
        if (strcmp(field->choices[value], node->text) == 0) {
            memcpy(field_at(filler, field), &value, sizeof value);
            return;
        }
        suggest_offer(&suggestion, field->choices[value]);
        if (used > 0 && (size_t)used < sizeof text) {
            used += snprintf(text + used, sizeof text - (size_t)used, "%s %s",
                             value == 0 ? "" : ",", field->choices[value]);
        }
    }
    if (suggestion.nearest != NULL && used > 0 && (size_t)used < sizeof text) {
        (void)snprintf(text + used, sizeof text - (size_t)used, "; did you mean '%s'?",
                       suggestion.nearest);
    }
    complain(filler, node, text);
}

/* Puts a key behind the path of the mapping it stands in. */
static void set_path(struct filler *filler, size_t mapping_length, const char *key)
{
    char shown[YAML_EXCERPT_BYTES];
    yaml_excerpt(shown, key);
    size_t room = sizeof filler->path - mapping_length;
    (void)snprintf(filler->path + mapping_length, room, "%s%s", mapping_length > 0 ? "." : "",
                   shown);
}

static void push_table(struct filler *filler, const struct yaml_node *mapping,
                       const struct yaml_field *table)
{
    if (mapping->kind != YAML_MAPPING) {
        complain_type(filler, mapping, "a mapping of keys");
        return;
    }
    assert(filler->depth < TABLE_DEPTH_MAX); /* tables are ours, not the user's */
    size_t path_length = strlen(filler->path);
    filler->frame[filler->depth++] = (struct frame){mapping, table, mapping->child, path_length};
    for (const struct yaml_field *field = table; field->key != NULL; field++) {
        if (field->required && yaml_get(mapping, field->key) == NULL) {
            set_path(filler, path_length, field->key);
            complain(filler, mapping, "is missing");
        }
    }
}

static void fill_field(struct filler *filler, const struct yaml_node *node,
                       const struct yaml_field *field)
{
    switch (field->type) {
    case YAML_TEXT:
        fill_text(filler, node, field);
        break;
    case YAML_INT32:
    case YAML_INT64:
    case YAML_UINT64:
        fill_whole(filler, node, field);
        break;
    case YAML_DOUBLE:
        fill_double(filler, node, field);
        break;
    case YAML_BOOL:
        fill_bool(filler, node, field);
        break;
    case YAML_CHOICE:
        fill_choice(filler, node, field);
        break;
    case YAML_NODE:
        memcpy(field_at(filler, field), &node, sizeof node);
        break;
    case YAML_TABLE:
        push_table(filler, node, field->table);
        break;
    }
}

/* A key that no field has: the nearest, or else all that may stand there. */
static void complain_unknown(struct filler *filler, const struct yaml_field *table,
                             const struct yaml_node *node)
{
    struct suggestion suggestion = {.word = node->key};
    char text[KEYS_TEXT_BYTES];
    size_t used = (size_t)snprintf(text, sizeof text, "unknown key; known are ");
    for (const struct yaml_field *field = table; field->key != NULL; field++) {
        suggest_offer(&suggestion, field->key);
        if (used < sizeof text) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                                     field == table ? "" : ", ", field->key);
        }
    }
    if (suggestion.nearest != NULL) {
        (void)snprintf(text, sizeof text, "unknown key; did you mean '%s'?", suggestion.nearest);
    } else if (used >= sizeof text) {
        (void)snprintf(text, sizeof text, "unknown key");
    }
    complain(filler, node, text);
}

static void fill_child(struct filler *filler, const struct frame *frame,
                       const struct yaml_node *child)
{
    set_path(filler, frame->path_length, child->key);
    for (const struct yaml_field *field = frame->table; field->key != NULL; field++) {
        if (strcmp(field->key, child->key) == 0) {
            fill_field(filler, child, field);
            return;
        }
    }
    complain_unknown(filler, frame->table, child);
}

enum status yaml_fill(void *target, const struct yaml_node *mapping, const struct yaml_field *table,
                      struct error *error)
{
    struct filler filler = {.target = target, .error = error};
    if (mapping->key != NULL) {
        set_path(&filler, 0, mapping->key);
    }
    if (mapping->kind != YAML_MAPPING && mapping->key == NULL) {
        return error_add(error, STATUS_INVALID, "%s:%d: expected keys and values", mapping->file,
                         mapping->line);
    }
    push_table(&filler, mapping, table);
    while (filler.depth > 0) {
        struct frame *frame = &filler.frame[filler.depth - 1];
        const struct yaml_node *child = frame->next;
        if (child == NULL) {
            filler.depth--;
            continue;
        }
        frame->next = child->next;
        fill_child(&filler, frame, child);
    }
    return filler.has_problem ? STATUS_INVALID : STATUS_OK;
}
