/*
 * base64_rows.h -- rows of expert ids as base64 in a response: tokens x layers x k integers.
 */
#ifndef MOESIM_BASE64_ROWS_H
#define MOESIM_BASE64_ROWS_H

#include "import/import.h"
#include "import/json_pull.h"

/* Where they stand and what is said about them. */
struct base64_rows {
    const char *path;
    int64_t line;
    const char *text; /* [length] base64, in the mapped file; NULL: there is none */
    int64_t length;
    bool is_list; /* no base64 but nested lists: for nested_rows_read */
    bool has_type;
    enum npy_type type;
    bool has_shape;
    int32_t num_dims;
    int64_t dim[NPY_DIMS_MAX];
    int64_t start_token; /* tokens of the sequence before the first row; -1: not said, so 0 */
};

/* The integer type of a dtype as text: "uint8", "torch.int32", "<u2". False: none of ours. */
bool base64_rows_type(enum npy_type *type, const struct json_token *token);

/* Decodes and passes on; each is a request. is_raw: bytes without a shape have the model's layers
 * and top_k; otherwise they are refused. */
MUST_CHECK enum status base64_rows_read(const struct base64_rows *rows,
                                        const struct import_input *input, struct import_sink *sink,
                                        bool is_raw);

#endif
