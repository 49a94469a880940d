/*
 * npy_header.c -- reads the Python dictionary in the header of a .npy file.
 *
 * Only what numpy.save writes is accepted: a literal with the keys descr, fortran_order and shape
 * in any order. Nothing is read beyond the given length; the first problem ends it.
 */
#include "npy_header.h"

#include <stdbool.h>
#include <string.h>

#define DESCRIPTOR_BYTES 32 /* longest key or element type worth quoting in a message */

/* The header's text while it is read. */
struct scanner {
    const char *at;
    const char *end;
    const char *path;
    struct error *error;
};

static void skip_space(struct scanner *scanner)
{
    while (scanner->at < scanner->end && memchr(" \t\r\n", *scanner->at, 4) != NULL) {
        scanner->at++;
    }
}

/* Takes a character if it is next, after space. */
static bool take(struct scanner *scanner, char wanted)
{
    skip_space(scanner);
    if (scanner->at < scanner->end && *scanner->at == wanted) {
        scanner->at++;
        return true;
    }
    return false;
}

static bool take_word(struct scanner *scanner, const char *word)
{
    size_t length = strlen(word);
    skip_space(scanner);
    if ((size_t)(scanner->end - scanner->at) >= length && memcmp(scanner->at, word, length) == 0) {
        scanner->at += length;
        return true;
    }
    return false;
}

static enum status malformed(const struct scanner *scanner, const char *expected)
{
    return error_add(scanner->error, STATUS_INVALID,
                     "%s: no .npy file that NumPy would write: its header lacks %s", scanner->path,
                     expected);
}

/* A quoted string without escapes, which no header of ours needs. Longer ones are cut. */
static bool take_string(struct scanner *scanner, char text[DESCRIPTOR_BYTES])
{
    char quote = '\'';
    if (!take(scanner, '\'')) {
        quote = '"';
        if (!take(scanner, '"')) {
            return false;
        }
    }
    size_t room = (size_t)(scanner->end - scanner->at);
    const char *close = memchr(scanner->at, quote, room);
    if (close == NULL || memchr(scanner->at, '\\', (size_t)(close - scanner->at)) != NULL) {
        return false;
    }
    size_t length = (size_t)(close - scanner->at);
    size_t kept = length < DESCRIPTOR_BYTES - 1 ? length : DESCRIPTOR_BYTES - 1;
    for (size_t i = 0; i < kept; i++) { /* a message is one line, whatever the file holds */
        char character = scanner->at[i];
        text[i] = character >= ' ' && character <= '~' ? character : '?';
    }
    text[kept] = '\0';
    scanner->at = close + 1;
    return true;
}

/* "u1", "f2": first letter of the name and bytes. NPY_TYPE_COUNT when none of ours. */
static enum npy_type type_of_code(const char *code)
{
    int32_t type = 0;
    for (; type < NPY_TYPE_COUNT; type++) {
        const char letter = npy_type_name((enum npy_type)type)[0];
        const char digit = (char)('0' + npy_type_bytes((enum npy_type)type));
        if (code[0] == letter && code[1] == digit && code[2] == '\0') {
            break;
        }
    }
    return (enum npy_type)type;
}

static enum status scan_type(struct scanner *scanner, enum npy_type *type)
{
    char text[DESCRIPTOR_BYTES];
    skip_space(scanner);
    if (scanner->at < scanner->end && *scanner->at == '[') {
        return error_add(scanner->error, STATUS_INVALID,
                         "%s: holds a structured array; save each field as an array of its own",
                         scanner->path);
    }
    if (!take_string(scanner, text)) {
        return malformed(scanner, "an element type after 'descr'");
    }
    enum npy_type found = type_of_code(text + (text[0] != '\0'));
    if (found != NPY_TYPE_COUNT) {
        bool single_byte = npy_type_bytes(found) == 1;
        if (text[0] == '<' || (text[0] == '|' && single_byte)) {
            *type = found;
            return STATUS_OK;
        }
        if (text[0] == '>' && !single_byte) {
            return error_add(scanner->error, STATUS_INVALID,
                             "%s: is big-endian ('%s'); save it with .astype('<%s')", scanner->path,
                             text, text + 1);
        }
    }
    if (strcmp(text, "|O") == 0) {
        return error_add(scanner->error, STATUS_INVALID,
                         "%s: holds Python objects; save it with .astype() of a number type",
                         scanner->path);
    }
    return error_add(scanner->error, STATUS_INVALID,
                     "%s: element type '%s' is no plain number; save it with .astype() of one",
                     scanner->path, text);
}

static enum status scan_order(struct scanner *scanner)
{
    if (take_word(scanner, "False")) {
        return STATUS_OK;
    }
    if (take_word(scanner, "True")) {
        return error_add(scanner->error, STATUS_INVALID,
                         "%s: is in Fortran order; save it with np.ascontiguousarray()",
                         scanner->path);
    }
    return malformed(scanner, "True or False after 'fortran_order'");
}

static enum status scan_dim(struct scanner *scanner, int64_t *dim)
{
    skip_space(scanner);
    if (scanner->at < scanner->end && *scanner->at == '-') {
        return error_add(scanner->error, STATUS_INVALID, "%s: its shape has a negative dimension",
                         scanner->path);
    }
    const char *first = scanner->at;
    int64_t value = 0;
    while (scanner->at < scanner->end && *scanner->at >= '0' && *scanner->at <= '9') {
        int64_t digit = *scanner->at++ - '0';
        if (value > (INT64_MAX - digit) / 10) {
            return error_add(scanner->error, STATUS_INVALID,
                             "%s: its shape has a dimension beyond 64 bits", scanner->path);
        }
        value = value * 10 + digit;
    }
    if (scanner->at == first) {
        return malformed(scanner, "a tuple of numbers after 'shape'");
    }
    *dim = value;
    return STATUS_OK;
}

static enum status scan_shape(struct scanner *scanner, struct npy *npy)
{
    if (!take(scanner, '(')) {
        return malformed(scanner, "a tuple of numbers after 'shape'");
    }
    npy->num_dims = 0;
    bool closed = take(scanner, ')');
    while (!closed) {
        if (npy->num_dims == NPY_DIMS_MAX) {
            return error_add(scanner->error, STATUS_INVALID,
                             "%s: has more than %d dimensions; save it with .reshape()",
                             scanner->path, NPY_DIMS_MAX);
        }
        enum status status = scan_dim(scanner, &npy->dim[npy->num_dims++]);
        if (status != STATUS_OK) {
            return status;
        }
        bool comma = take(scanner, ',');
        closed = take(scanner, ')');
        if (!closed && !comma) {
            return malformed(scanner, "a tuple of numbers after 'shape'");
        }
    }
    return STATUS_OK;
}

/* The dictionary: each of the three keys once, in any order. */
static enum status scan_keys(struct scanner *scanner, struct npy *npy)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    bool seen[3] = {false, false, false};
    char key[DESCRIPTOR_BYTES];
    if (!take(scanner, '{')) {
        return malformed(scanner, "the opening '{'");
    }
    bool closed = take(scanner, '}');
    while (!closed) {
        if (!take_string(scanner, key) || !take(scanner, ':')) {
            return malformed(scanner, "a quoted key followed by ':'");
        }
        int32_t which = 0;
        while (which < 3 && strcmp(key, keys[which]) != 0) {
            which++;
        }
        if (which == 3 || seen[which]) {
            return error_add(scanner->error, STATUS_INVALID,
                             "%s: no .npy file that NumPy would write: key '%s' %s", scanner->path,
                             key, which == 3 ? "is not known" : "stands twice");
        }
        seen[which] = true;
        enum status status = which == 0   ? scan_type(scanner, &npy->type)
                             : which == 1 ? scan_order(scanner)
                                          : scan_shape(scanner, npy);
        if (status != STATUS_OK) {
            return status;
        }
        bool comma = take(scanner, ',');
        closed = take(scanner, '}');
        if (!closed && !comma) {
            return malformed(scanner, "',' or '}' after a value");
        }
    }
    skip_space(scanner);
    if (scanner->at != scanner->end) {
        return malformed(scanner, "its end after '}'");
    }
    for (int32_t i = 0; i < 3; i++) {
        if (!seen[i]) {
            return error_add(scanner->error, STATUS_INVALID,
                             "%s: no .npy file that NumPy would write: key '%s' is missing",
                             scanner->path, keys[i]);
        }
    }
    return STATUS_OK;
}

enum status npy_header_scan(struct npy *npy, const char *text, size_t length, const char *path,
                            struct error *error)
{
    struct scanner scanner = {text, text + length, path, error};
    return scan_keys(&scanner, npy);
}
