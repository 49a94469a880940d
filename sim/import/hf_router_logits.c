/*
 * hf_router_logits.c -- what Transformers returns with output_router_logits, saved by NumPy.
 *
 * One array of floats a MoE layer, [tokens][experts] or [batch][tokens][experts]: the arrays of a
 * .npz archive, or a .npy file each, or one .npy file with the layers as its first axis. They
 * become the trace's scores; the ids are those of the top_k highest, of equals the lowest. With a
 * batch axis every sequence becomes a request. Members of a .npz are streamed side by side, so
 * memory does not grow with the archive, packed or not. Which tokens are padding the arrays do not
 * tell.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/import.h"
#include "trace_internal.h"
#include "zip_file.h"

#define BLOCK_BYTES  (INT64_C(8) << 20)
#define HEADER_BYTES 4096 /* NumPy pads headers to 64 bytes; those of plain numbers are short */

struct layer_array {
    struct npy npy;            /* shape and type; mapped if of a .npy file of its own */
    const unsigned char *next; /* bytes to take, of a mapped array; NULL: from the member */
    struct zip_member member;
    int64_t number; /* at the end of the member's name; -1: none */
};

/* The layers of one batch of tokens. */
struct logits {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;
    struct zip_file zip;
    struct layer_array *layer; /* [num_layers] */
    int32_t num_layers;
    int64_t num_sequences;
    int64_t num_tokens;  /* of a sequence */
    int64_t token_bytes; /* of all layers */
    bool has_batch;
};

static int32_t detect(const struct import_probe *probe)
{
    bool is_npy = probe->num_bytes > 10 && memcmp(probe->text, "\x93NUMPY", 6) == 0;
    bool is_float = is_npy && strstr((const char *)probe->text + 10, "'<f") != NULL;
    size_t length = strlen(probe->name);
    bool is_npz = probe->num_bytes > 4 && memcmp(probe->text, "PK\3\4", 4) == 0 && length > 4 &&
                  strcmp(probe->name + length - 4, ".npz") == 0;
    return is_npz || is_float ? 60 : 0;
}

static void close_layers(struct logits *logits)
{
    for (int32_t i = 0; i < logits->num_layers; i++) {
        npy_close(&logits->layer[i].npy);
        zip_member_close(&logits->layer[i].member);
    }
    free(logits->layer);
    zip_file_close(&logits->zip);
    logits->layer = NULL;
    logits->num_layers = 0;
}

static enum status new_layers(struct logits *logits, int64_t count)
{
    if (count < 1 || count > TRACE_LAYERS_MAX) {
        return import_refuse(logits->sink, logits->path, "", "holds %lld arrays, one a MoE layer",
                             (long long)count);
    }
    logits->layer = calloc((size_t)count, sizeof *logits->layer);
    return logits->layer != NULL ? STATUS_OK
                                 : error_add(logits->input->error, STATUS_NO_MEMORY,
                                             "no memory for %lld layers", (long long)count);
}

/* The number at the end of "arr_12.npy"; -1: there is none, or it is no .npy. */
static int64_t number_of(const char *name)
{
    size_t length = strlen(name);
    if (length < 4 || strcmp(name + length - 4, ".npy") != 0) {
        return -1;
    }
    size_t end = length - 4;
    size_t begin = end;
    while (begin > 0 && end - begin < 9 && name[begin - 1] >= '0' && name[begin - 1] <= '9') {
        begin--;
    }
    return begin < end ? strtol(name + begin, NULL, 10) : -1;
}

static int by_number(const void *a, const void *b)
{
    const struct layer_array *left = a;
    const struct layer_array *right = b;
    if (left->number != right->number) {
        return left->number < right->number ? -1 : 1;
    }
    return (left->member.index > right->member.index) - (left->member.index < right->member.index);
}

static enum status open_member(struct logits *logits, struct layer_array *layer, int64_t index)
{
    unsigned char header[HEADER_BYTES];
    size_t header_bytes = 0;
    struct error *error = logits->input->error;
    enum status status = zip_member_open(&layer->member, &logits->zip, index, error);
    if (status != STATUS_OK) {
        return status;
    }
    layer->number = number_of(layer->member.name);
    int64_t num_bytes = layer->member.num_bytes;
    int64_t prefix = num_bytes < HEADER_BYTES ? num_bytes : HEADER_BYTES;
    status = zip_member_read(&layer->member, header, prefix, error);
    char name[512];
    (void)snprintf(name, sizeof name, "%s: %.128s", logits->path, layer->member.name);
    if (status == STATUS_OK) {
        status = npy_header_read(&layer->npy, &header_bytes, header, (size_t)prefix,
                                 (size_t)num_bytes, name, error);
    }
    zip_member_close(&layer->member); /* and again, to stand behind the header */
    if (status == STATUS_OK) {
        status = zip_member_open(&layer->member, &logits->zip, index, error);
    }
    return status == STATUS_OK
               ? zip_member_read(&layer->member, header, (int64_t)header_bytes, error)
               : status;
}

/* The arrays of an archive, by their number, else in its order. */
static enum status open_npz(struct logits *logits, const char *path)
{
    logits->path = path;
    enum status status = zip_file_open(&logits->zip, path, logits->input->error);
    if (status == STATUS_OK) {
        status = new_layers(logits, logits->zip.num_members);
    }
    bool numbered = true;
    for (int64_t i = 0; status == STATUS_OK && i < logits->zip.num_members; i++) {
        logits->num_layers++;
        status = open_member(logits, &logits->layer[i], i);
        numbered = numbered && logits->layer[i].number >= 0;
    }
    if (status == STATUS_OK && numbered) {
        qsort(logits->layer, (size_t)logits->num_layers, sizeof *logits->layer, by_number);
    }
    return status;
}

/* One file with all layers: the first axis is taken off. */
static enum status split_layers(struct logits *logits)
{
    struct npy whole = logits->layer[0].npy;
    int64_t count = whole.dim[0];
    free(logits->layer);
    logits->num_layers = 0;
    enum status status = new_layers(logits, count);
    if (status != STATUS_OK) {
        npy_close(&whole);
        return status;
    }
    int64_t layer_bytes = whole.num_elements / count * npy_type_bytes(whole.type);
    for (int64_t i = 0; i < count; i++) {
        struct layer_array *layer = &logits->layer[i];
        layer->npy = whole;
        layer->npy.num_dims--;
        memmove(layer->npy.dim, whole.dim + 1, (size_t)layer->npy.num_dims * sizeof *whole.dim);
        layer->npy.mapping = i == 0 ? whole.mapping : NULL; /* to be closed once */
        layer->next = (const unsigned char *)whole.data + i * layer_bytes;
    }
    logits->num_layers = (int32_t)count;
    return STATUS_OK;
}

static enum status open_npys(struct logits *logits)
{
    const struct import_options *options = logits->input->options;
    enum status status = new_layers(logits, options->num_paths);
    for (int32_t i = 0; status == STATUS_OK && i < options->num_paths; i++) {
        struct layer_array *layer = &logits->layer[logits->num_layers++];
        logits->path = options->paths[i];
        status = npy_open(&layer->npy, options->paths[i], logits->input->error);
        layer->next = layer->npy.data;
    }
    if (status != STATUS_OK || options->num_paths > 1) {
        return status;
    }
    const struct npy *only = &logits->layer[0].npy;
    bool fits = only->dim[0] > 0 && (only->dim[0] == logits->input->num_layers ||
                                     only->dim[0] == logits->input->num_layers_all);
    return only->num_dims == 4 || (only->num_dims == 3 && fits) ? split_layers(logits) : status;
}

/* All layers alike, of floats, over the model's experts. */
static enum status check_layers(struct logits *logits)
{
    const struct npy *first = &logits->layer[0].npy;
    int32_t num_experts = logits->input->num_experts;
    for (int32_t i = 0; i < logits->num_layers; i++) {
        const struct npy *npy = &logits->layer[i].npy;
        bool is_float =
            npy->type == NPY_FLOAT16 || npy->type == NPY_FLOAT32 || npy->type == NPY_FLOAT64;
        char place[64];
        (void)snprintf(place, sizeof place, "layer %d", i);
        if (!is_float || npy->num_dims < 2 || npy->num_dims > 3 ||
            npy->dim[npy->num_dims - 1] != num_experts) {
            int64_t last = npy->num_dims > 0 ? npy->dim[npy->num_dims - 1] : 0;
            return import_refuse(
                logits->sink, logits->path, place,
                "holds %s with %d axes, the last of %lld; floats over tokens, or batch and tokens, "
                "and %d experts are expected%s",
                npy_type_name(npy->type), npy->num_dims, (long long)last, num_experts,
                is_float ? ": router logits; if these are the ids of the chosen experts, save "
                           "them as integers, as with ids.astype(numpy.int32)"
                         : "");
        }
        bool same = npy->num_dims == first->num_dims && npy->type == first->type;
        for (int32_t axis = 0; same && axis < npy->num_dims; axis++) {
            same = npy->dim[axis] == first->dim[axis];
        }
        if (!same) {
            return import_refuse(logits->sink, logits->path, place,
                                 "has another type or shape than layer 0");
        }
    }
    logits->has_batch = first->num_dims == 3;
    logits->num_sequences = logits->has_batch ? first->dim[0] : 1;
    logits->num_tokens = first->dim[first->num_dims - 2];
    return STATUS_OK;
}

/* Gathers the next tokens of every layer into buffer [num_layers][block->num_tokens][experts]. */
static enum status gather(struct logits *logits, struct import_block *block, unsigned char *buffer)
{
    enum status status = STATUS_OK;
    int64_t num_experts = logits->input->num_experts;
    int64_t bytes = block->num_tokens * num_experts * npy_type_bytes(block->score.type);
    for (int32_t i = 0; i < logits->num_layers && status == STATUS_OK; i++) {
        struct layer_array *layer = &logits->layer[i];
        if (layer->next == NULL) {
            status =
                zip_member_read(&layer->member, buffer + i * bytes, bytes, logits->input->error);
            continue;
        }
        memcpy(buffer + i * bytes, layer->next, (size_t)bytes);
        import_forget(layer->next, (size_t)bytes);
        layer->next += bytes;
    }
    block->score.data = buffer;
    block->score.stride[TRACE_AXIS_TOKEN] = num_experts;
    block->score.stride[TRACE_AXIS_LAYER] = block->num_tokens * num_experts;
    block->score.stride[TRACE_AXIS_K] = 1;
    return status;
}

static enum status pass_on(struct logits *logits, int64_t sequence, int64_t most,
                           unsigned char *buffer)
{
    char place[64] = "";
    struct import_block block = {
        .num_layers = logits->num_layers,
        .top_k = logits->input->top_k,
        .score = {.type = logits->layer[0].npy.type},
        .path = logits->path,
        .place = place,
    };
    enum status status = STATUS_OK;
    if (logits->has_batch) {
        (void)snprintf(place, sizeof place, "sequence %lld", (long long)sequence);
        status = import_request(logits->sink, NULL, 0, 0.0);
    }
    while (status == STATUS_OK && block.first_token < logits->num_tokens &&
           import_wants_more(logits->sink)) {
        int64_t left = logits->num_tokens - block.first_token;
        block.num_tokens = left < most ? left : most;
        status = gather(logits, &block, buffer);
        if (status == STATUS_OK) {
            status = import_block(logits->sink, &block);
        }
        block.first_token += block.num_tokens;
        int64_t done = sequence * logits->num_tokens + block.first_token;
        import_progress(logits->sink, done * logits->token_bytes,
                        logits->num_sequences * logits->num_tokens * logits->token_bytes);
    }
    return status;
}

static enum status read_batch(struct logits *logits)
{
    enum status status = check_layers(logits);
    if (status != STATUS_OK) {
        return status;
    }
    if (logits->input->top_k == 0) {
        return import_refuse(logits->sink, logits->path, "",
                             "scores do not say how many experts a token takes: give --top-k");
    }
    logits->token_bytes = (int64_t)logits->num_layers * logits->input->num_experts *
                          npy_type_bytes(logits->layer[0].npy.type);
    int64_t most = BLOCK_BYTES / logits->token_bytes > 1 ? BLOCK_BYTES / logits->token_bytes : 1;
    unsigned char *buffer = malloc((size_t)(most * logits->token_bytes));
    if (buffer == NULL) {
        return error_add(logits->input->error, STATUS_NO_MEMORY, "no memory for %lld tokens",
                         (long long)most);
    }
    for (int64_t i = 0;
         status == STATUS_OK && i < logits->num_sequences && import_wants_more(logits->sink); i++) {
        status = pass_on(logits, i, most, buffer);
    }
    free(buffer);
    return status;
}

static bool is_archive(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".npz") == 0;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    const struct import_options *options = input->options;
    struct logits logits = {.input = input, .sink = sink, .path = options->paths[0]};
    enum status status = STATUS_OK;
    if (!is_archive(options->paths[0])) {
        status = open_npys(&logits);
        status = status == STATUS_OK ? read_batch(&logits) : status;
        close_layers(&logits);
        return status;
    }
    for (int32_t i = 0; i < options->num_paths && status == STATUS_OK; i++) {
        status = open_npz(&logits, options->paths[i]);
        status = status == STATUS_OK ? read_batch(&logits) : status;
        close_layers(&logits);
    }
    return status;
}

const struct import_format import_hf_router_logits = {
    .name = "hf_router_logits",
    .summary = "router logits of Transformers, an array a MoE layer (.npz or .npy)",
    .source = "huggingface/transformers, output_router_logits",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
