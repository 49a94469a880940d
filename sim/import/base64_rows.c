/*
 * base64_rows.c -- finds the shape of base64 rows and decodes them a piece at a time.
 */
#include "import/base64_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/base64.h"

#define PIECE_BYTES  (INT64_C(256) << 10) /* decoded at a time: stays in the cache */
#define HEADER_BYTES 4096                 /* numpy's own are 128; more is no .npy of an engine */
#define LAYERS_MAX   4096
#define TOP_K_MAX    65535
#define PLACE_BYTES  32

/* What a decoding needs, between finding the shape and passing rows on. */
struct decoding {
    const struct base64_rows *rows;
    const struct import_input *input;
    struct import_sink *sink;
    char place[PLACE_BYTES];
    struct base64 base64;
    int64_t num_bytes; /* still to be decoded */
    enum npy_type type;
    int64_t num_tokens;
    int64_t num_layers;
    int64_t top_k;
};

bool base64_rows_type(enum npy_type *type, const struct json_token *token)
{
    static const char *const codes[] = {"<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8"};
    char text[32];
    if (token->kind != JSON_STRING) {
        return false;
    }
    json_copy(text, sizeof text, token);
    const char *name = strncmp(text, "torch.", 6) == 0 ? text + 6 : text;
    for (int32_t i = NPY_INT8; i <= NPY_UINT64; i++) {
        bool is_code =
            strcmp(name, codes[i]) == 0 || (npy_type_bytes((enum npy_type)i) == 1 &&
                                            name[0] == '|' && strcmp(name + 1, codes[i] + 1) == 0);
        if (is_code || strcmp(name, npy_type_name((enum npy_type)i)) == 0) {
            *type = (enum npy_type)i;
            return true;
        }
    }
    return false;
}

static enum status complain_bad(const struct decoding *decoding)
{
    const struct base64 *base64 = &decoding->base64;
    char shown = *base64->bad >= ' ' && *base64->bad <= '~' ? (char)*base64->bad : '?';
    return import_complain(decoding->sink, decoding->rows->path, decoding->place,
                           "routed_experts: '%c' at character %lld is no base64", shown,
                           (long long)(base64->bad - base64->begin));
}

/* Reads the header of a whole .npy file, of which the first bytes are decoded already. */
static enum status read_npy_header(struct decoding *decoding, const unsigned char *prefix,
                                   int64_t num_prefix)
{
    char where[512];
    unsigned char header[HEADER_BYTES];
    struct npy npy = {.data = NULL};
    size_t header_bytes = 0;
    struct error *error = calloc(1, sizeof *error); /* so that it is one problem among others */
    if (error == NULL) {
        return error_add(decoding->input->error, STATUS_NO_MEMORY, "no memory for messages");
    }
    (void)snprintf(where, sizeof where, "%s: %s: routed_experts", decoding->rows->path,
                   decoding->place);
    enum status status = npy_header_read(&npy, &header_bytes, prefix, (size_t)num_prefix,
                                         (size_t)decoding->num_bytes, where, error);
    bool is_array = npy.type <= NPY_UINT64 && npy.num_dims == TRACE_AXIS_COUNT;
    if (status != STATUS_OK) {
        const char *text = error->text + strlen(where) + 2; /* behind ": " */
        status = import_complain(decoding->sink, decoding->rows->path, decoding->place,
                                 "routed_experts: %.*s", (int)strcspn(text, "\n"), text);
    } else if (!is_array) {
        status = import_complain(decoding->sink, decoding->rows->path, decoding->place,
                                 "routed_experts: holds %s of %d axes: expected integers over "
                                 "tokens, layers and k",
                                 npy_type_name(npy.type), npy.num_dims);
    } else {
        decoding->type = npy.type;
        decoding->num_tokens = npy.dim[0];
        decoding->num_layers = npy.dim[1];
        decoding->top_k = npy.dim[2];
        decoding->num_bytes -= base64_read(&decoding->base64, header, (int64_t)header_bytes);
    }
    free(error);
    return status;
}

/* Bytes alone: the model says layers, dense ones too, and top_k. */
static enum status shape_of_model(struct decoding *decoding)
{
    const struct import_input *input = decoding->input;
    const struct base64_rows *rows = decoding->rows;
    int64_t layers = input->num_layers_all > 0 ? input->num_layers_all : (int64_t)input->num_layers;
    if (layers == 0 || input->top_k == 0) {
        return import_refuse(decoding->sink, rows->path, decoding->place,
                             "routed_experts: is bytes without a shape: name a --model that is "
                             "known, or give --top-k and --layers (dense ones too)");
    }
    int64_t token_bytes = input->top_k * npy_type_bytes(decoding->type);
    bool has_all = decoding->num_bytes % (token_bytes * layers) == 0;
    bool has_moe =
        input->num_layers > 0 && decoding->num_bytes % (token_bytes * input->num_layers) == 0;
    if (!has_all && !has_moe) {
        return import_complain(decoding->sink, rows->path, decoding->place,
                               "routed_experts: %lld bytes are no whole tokens of %lld layers x "
                               "top-%d x %s: look at --model%s",
                               (long long)decoding->num_bytes, (long long)layers, input->top_k,
                               npy_type_name(decoding->type),
                               rows->has_type ? "" : ", or it is uint8 or uint16 without a dtype");
    }
    decoding->num_layers = has_all ? layers : input->num_layers;
    decoding->top_k = input->top_k;
    decoding->num_tokens = decoding->num_bytes / token_bytes / decoding->num_layers;
    return STATUS_OK;
}

static enum status find_shape(struct decoding *decoding, bool is_raw)
{
    const struct base64_rows *rows = decoding->rows;
    unsigned char prefix[HEADER_BYTES];
    struct base64 ahead = decoding->base64;
    decoding->type = rows->has_type ? rows->type : NPY_INT32;
    int64_t num_prefix = base64_read(&ahead, prefix, sizeof prefix);
    if (num_prefix >= 6 && memcmp(prefix, "\x93NUMPY", 6) == 0) {
        return read_npy_header(decoding, prefix, num_prefix);
    }
    if (rows->has_shape) {
        decoding->num_tokens = rows->dim[0];
        decoding->num_layers = rows->dim[1];
        decoding->top_k = rows->dim[2];
        return STATUS_OK;
    }
    if (!is_raw) {
        return import_complain(decoding->sink, rows->path, decoding->place,
                               "routed_experts: neither a .npy file nor bytes with a shape: is it "
                               "--from sglang_routed_experts?");
    }
    return shape_of_model(decoding);
}

/* The shape is a claim: it must be exactly what the bytes are. */
static enum status check_shape(struct decoding *decoding)
{
    int64_t layers = decoding->num_layers;
    int64_t top_k = decoding->top_k;
    bool is_small = layers >= 1 && layers <= LAYERS_MAX && top_k >= 1 && top_k <= TOP_K_MAX;
    int64_t token_bytes = is_small ? layers * top_k * npy_type_bytes(decoding->type) : 1;
    if (!is_small || decoding->num_bytes % token_bytes != 0 ||
        decoding->num_bytes / token_bytes != decoding->num_tokens) {
        return import_complain(decoding->sink, decoding->rows->path, decoding->place,
                               "routed_experts: %lld x %lld x %lld %s are not the %lld bytes that "
                               "are there",
                               (long long)decoding->num_tokens, (long long)layers, (long long)top_k,
                               npy_type_name(decoding->type), (long long)decoding->num_bytes);
    }
    return STATUS_OK;
}

static enum status pass_on(struct decoding *decoding)
{
    const struct base64_rows *rows = decoding->rows;
    int64_t token_ids = decoding->num_layers * decoding->top_k;
    int64_t token_bytes = token_ids * npy_type_bytes(decoding->type);
    int64_t piece = PIECE_BYTES / token_bytes > 0 ? PIECE_BYTES / token_bytes : 1;
    piece = piece < decoding->num_tokens ? piece : decoding->num_tokens;
    unsigned char *bytes = malloc((size_t)(piece * token_bytes));
    if (bytes == NULL) {
        return error_add(decoding->input->error, STATUS_NO_MEMORY, "no memory for %lld tokens",
                         (long long)piece);
    }
    struct import_block block = {
        .num_layers = (int32_t)decoding->num_layers,
        .top_k = (int32_t)decoding->top_k,
        .expert = {.data = bytes,
                   .type = decoding->type,
                   .stride = {token_ids, decoding->top_k, 1}},
        .path = rows->path,
        .place = decoding->place,
    };
    const unsigned char *kept = decoding->base64.at;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && block.first_token < decoding->num_tokens &&
           import_wants_more(decoding->sink)) {
        int64_t left = decoding->num_tokens - block.first_token;
        block.num_tokens = left < piece ? left : piece;
        int64_t count = base64_read(&decoding->base64, bytes, block.num_tokens * token_bytes);
        if (count < block.num_tokens * token_bytes) { /* no fewer but for a bad character */
            status = complain_bad(decoding);
            break;
        }
        status = import_block(decoding->sink, &block);
        block.first_token += block.num_tokens;
        if (decoding->base64.at - kept > 16 * PIECE_BYTES) {
            import_forget(kept, (size_t)(decoding->base64.at - kept));
            kept = decoding->base64.at;
        }
    }
    free(bytes);
    return status;
}

enum status base64_rows_read(const struct base64_rows *rows, const struct import_input *input,
                             struct import_sink *sink, bool is_raw)
{
    struct decoding decoding = {.rows = rows, .input = input, .sink = sink};
    (void)snprintf(decoding.place, sizeof decoding.place, "line %lld", (long long)rows->line);
    if (rows->text == NULL) {
        return import_complain(sink, rows->path, decoding.place,
                               "routed_experts: an object without data");
    }
    base64_begin(&decoding.base64, rows->text, rows->length);
    decoding.num_bytes = base64_size(rows->text, rows->length);
    int32_t num_before = import_num_problems(sink);
    enum status status = find_shape(&decoding, is_raw);
    if (status == STATUS_OK && import_num_problems(sink) == num_before) {
        status = check_shape(&decoding);
    }
    if (status != STATUS_OK || import_num_problems(sink) > num_before) {
        return status;
    }
    if (decoding.num_tokens == 0) {
        import_drop(sink, "responses of no token", 1);
        return STATUS_OK;
    }
    status =
        import_request(sink, NULL, rows->start_token > 0 ? (int32_t)rows->start_token : 0, 0.0);
    return status == STATUS_OK ? pass_on(&decoding) : status;
}
