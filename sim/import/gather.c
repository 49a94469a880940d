/*
 * gather.c -- keeps rows of a log, sorts them and passes whole tokens on.
 */
#include "import/gather.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"

#define LAYERS_MAX 4096
#define ROWS_MAX   (INT64_C(1) << 28)
#define GROUPS_MAX (1 << 24)
#define BLOCK_IDS  (INT64_C(1) << 18) /* passed on at a time */
#define PAD        UINT16_MAX

/* What rows are sorted by. */
struct row {
    int32_t group;      /* request in order of appearance */
    int32_t generation; /* how often its id had been used for this token and layer before */
    int32_t token;
    int32_t layer;
    int64_t index; /* of its ids */
};

struct gather {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;
    bool has_requests; /* a row names one */
    int32_t top_k;     /* 0: no row yet */
    struct row *rows;
    uint16_t *expert; /* [num_rows][top_k] */
    float *weight;    /* the same, or NULL */
    int64_t num_rows;
    int64_t num_missing; /* experts of rows shorter than the first */
    int64_t capacity;
    uint64_t *key;  /* [num_slots] of a group, 0: free */
    int32_t *group; /* [num_slots] */
    int64_t num_slots;
    int32_t num_groups;
    int64_t expert_max;
    bool is_present[LAYERS_MAX];
};

static enum status no_memory(const struct gather *gather)
{
    return error_add(gather->input->error, STATUS_NO_MEMORY, "%s: no memory for %lld rows",
                     gather->path, (long long)gather->num_rows);
}

enum status gather_open(struct gather **gather, const struct import_input *input,
                        struct import_sink *sink)
{
    *gather = calloc(1, sizeof **gather);
    if (*gather == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory to read logs");
    }
    (*gather)->input = input;
    (*gather)->sink = sink;
    bool is_limited = input->num_experts > 0 && input->options->physical_path == NULL;
    (*gather)->expert_max = is_limited ? input->num_experts - 1 : PAD - 1;
    (*gather)->path = input->options->paths[0];
    return STATUS_OK;
}

void gather_close(struct gather *gather)
{
    if (gather != NULL) {
        free(gather->rows);
        free(gather->expert);
        free(gather->weight);
        free(gather->key);
        free(gather->group);
        free(gather);
    }
}

/* Puts a key's group into the table, which has room. */
static void put(struct gather *gather, uint64_t key, int32_t group)
{
    int64_t slot = (int64_t)(key % (uint64_t)gather->num_slots);
    while (gather->key[slot] != 0) {
        slot = slot + 1 < gather->num_slots ? slot + 1 : 0;
    }
    gather->key[slot] = key;
    gather->group[slot] = group;
}

/* Doubles the table. */
static bool grow_table(struct gather *gather)
{
    uint64_t *key = gather->key;
    int32_t *group = gather->group;
    int64_t num_slots = gather->num_slots;
    int64_t larger = num_slots == 0 ? 1024 : 2 * num_slots;
    gather->key = calloc((size_t)larger, sizeof *gather->key);
    gather->group = malloc((size_t)larger * sizeof *gather->group);
    bool fits = gather->key != NULL && gather->group != NULL;
    gather->num_slots = fits ? larger : 0;
    for (int64_t slot = 0; fits && slot < num_slots; slot++) {
        if (key[slot] != 0) {
            put(gather, key[slot], group[slot]);
        }
    }
    free(key);
    free(group);
    return fits;
}

/* The group of an id, by a hash of 64 bits. -1: no memory. */
static int32_t find_group(struct gather *gather, const char *text, int64_t length)
{
    uint64_t key = DIGEST_START;
    for (int64_t i = 0; i < length; i++) {
        key = digest_u64(key, (uint64_t)(unsigned char)text[i]);
    }
    key += key == 0 ? 1 : 0; /* 0 marks a free slot */
    if (2 * (int64_t)gather->num_groups >= gather->num_slots && !grow_table(gather)) {
        return -1;
    }
    int64_t slot = (int64_t)(key % (uint64_t)gather->num_slots);
    while (gather->key[slot] != 0 && gather->key[slot] != key) {
        slot = slot + 1 < gather->num_slots ? slot + 1 : 0;
    }
    if (gather->key[slot] == 0) {
        gather->key[slot] = key;
        gather->group[slot] = gather->num_groups++;
    }
    return gather->group[slot];
}

static bool grow_rows(struct gather *gather, bool has_weights)
{
    int64_t capacity = gather->capacity == 0 ? 4096 : 2 * gather->capacity;
    size_t ids = (size_t)capacity * (size_t)gather->top_k;
    struct row *rows = realloc(gather->rows, (size_t)capacity * sizeof *rows);
    gather->rows = rows != NULL ? rows : gather->rows;
    uint16_t *expert = realloc(gather->expert, ids * sizeof *expert);
    gather->expert = expert != NULL ? expert : gather->expert;
    float *weight = has_weights ? realloc(gather->weight, ids * sizeof *weight) : NULL;
    gather->weight = weight != NULL ? weight : gather->weight;
    bool fits = rows != NULL && expert != NULL && (weight != NULL || !has_weights);
    gather->capacity = fits ? capacity : gather->capacity;
    return fits;
}

/* NULL: the row is sound. */
static const char *find_fault(const struct gather *gather, const struct gather_line *line)
{
    if (line->token < 0 || line->token >= INT32_MAX) {
        return "expected a token number from 0 on";
    }
    if (line->layer < 0 || line->layer >= LAYERS_MAX) {
        return "expected a layer number from 0 to 4095";
    }
    if (line->top_k < 1 || line->top_k > GATHER_TOP_K_MAX) {
        return "expected a list of 1 to 1024 experts";
    }
    for (int32_t k = 0; k < line->top_k; k++) {
        if (line->expert[k] < -1 || line->expert[k] > gather->expert_max) {
            return "expected expert ids below the number of experts, or -1 for a pad; look at "
                   "--model and --num-experts";
        }
    }
    if (gather->top_k > 0 && line->top_k > gather->top_k) {
        return "has more experts than the row before";
    }
    if (gather->num_rows > 0 && (line->weight != NULL) != (gather->weight != NULL)) {
        return "has weights where the row before had none, or the other way round";
    }
    return NULL;
}

enum status gather_add(struct gather *gather, const char *path, const struct gather_line *line)
{
    const char *fault = find_fault(gather, line);
    if (fault != NULL) {
        return import_complain(gather->sink, path, line->place, "%s", fault);
    }
    if (gather->num_rows == ROWS_MAX || gather->num_groups == GROUPS_MAX) {
        return import_refuse(gather->sink, path, line->place,
                             "more rows than %lld or requests than %d: import parts of it",
                             (long long)ROWS_MAX, GROUPS_MAX);
    }
    gather->top_k = gather->top_k > 0 ? gather->top_k : line->top_k;
    if (gather->num_rows == gather->capacity && !grow_rows(gather, line->weight != NULL)) {
        return no_memory(gather);
    }
    int32_t group = find_group(gather, line->request, line->request_length);
    if (group < 0) {
        return no_memory(gather);
    }
    gather->num_missing += gather->top_k - line->top_k;
    int64_t row = gather->num_rows++;
    gather->rows[row] = (struct row){
        .group = group,
        .token = (int32_t)line->token,
        .layer = (int32_t)line->layer,
        .index = row,
    };
    gather->is_present[line->layer] = true;
    gather->has_requests = gather->has_requests || (line->request != NULL && !line->is_batch);
    for (int32_t k = 0; k < gather->top_k; k++) {
        bool is_there = k < line->top_k && line->expert[k] >= 0;
        gather->expert[row * gather->top_k + k] = is_there ? (uint16_t)line->expert[k] : PAD;
        if (line->weight != NULL) {
            gather->weight[row * gather->top_k + k] = is_there ? (float)line->weight[k] : 0.0f;
        }
    }
    return STATUS_OK;
}

static int compare(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

/* By group, generation, token and layer; of equals by arrival. */
static int compare_rows(const void *a, const void *b)
{
    const struct row *left = a;
    const struct row *right = b;
    int order = compare(left->group, right->group);
    order = order != 0 ? order : compare(left->generation, right->generation);
    order = order != 0 ? order : compare(left->token, right->token);
    order = order != 0 ? order : compare(left->layer, right->layer);
    return order != 0 ? order : compare(left->index, right->index);
}

static bool same_token(const struct row *a, const struct row *b)
{
    return a->group == b->group && a->generation == b->generation && a->token == b->token;
}

/* Sorts; rows of the same token and layer become generations. */
static void sort_rows(struct gather *gather)
{
    struct row *rows = gather->rows;
    int32_t generation = 0;
    bool has_more = false;
    qsort(rows, (size_t)gather->num_rows, sizeof *rows, compare_rows);
    for (int64_t i = 1; i < gather->num_rows; i++) {
        bool again = rows[i].group == rows[i - 1].group && rows[i].token == rows[i - 1].token &&
                     rows[i].layer == rows[i - 1].layer;
        generation = again ? generation + 1 : 0;
        has_more = has_more || again;
        rows[i].generation = generation;
    }
    if (has_more) {
        qsort(rows, (size_t)gather->num_rows, sizeof *rows, compare_rows);
    }
}

/* A buffer of whole tokens. */
struct tokens {
    int32_t num_layers;
    int32_t layer_of[LAYERS_MAX]; /* index of a layer number */
    int32_t model_layer[LAYERS_MAX];
    int64_t capacity;
    int32_t *expert; /* [capacity][num_layers][top_k] */
    float *weight;   /* the same, or NULL */
};

static void set_row(const struct gather *gather, struct tokens *tokens, int64_t token,
                    const struct row *row)
{
    int64_t to = (token * tokens->num_layers + tokens->layer_of[row->layer]) * gather->top_k;
    int64_t from = row->index * gather->top_k;
    for (int32_t k = 0; k < gather->top_k; k++) {
        uint16_t id = gather->expert[from + k];
        tokens->expert[to + k] = id == PAD ? -1 : id;
        if (tokens->weight != NULL) {
            tokens->weight[to + k] = gather->weight[from + k];
        }
    }
}

/* Passes on tokens of one request from row first on; returns the row behind them. */
static int64_t pass_on(struct gather *gather, struct tokens *tokens, int64_t first,
                       enum status *status)
{
    const struct row *rows = gather->rows;
    int64_t ids = (int64_t)tokens->num_layers * gather->top_k;
    const int64_t stride[TRACE_AXIS_COUNT] = {ids, gather->top_k, 1};
    struct import_block block = {
        .num_layers = tokens->num_layers,
        .top_k = gather->top_k,
        .model_layer = tokens->model_layer,
        .path = gather->path,
        .place = gather->has_requests ? "a request" : "a batch",
        .first_token = rows[first].token,
    };
    int64_t row = first;
    memset(tokens->expert, 0xFF, (size_t)(tokens->capacity * ids) * sizeof *tokens->expert);
    while (row < gather->num_rows && rows[row].group == rows[first].group &&
           rows[row].generation == rows[first].generation) {
        bool is_new = row == first || !same_token(&rows[row], &rows[row - 1]);
        if (is_new && block.num_tokens == tokens->capacity) {
            break;
        }
        block.num_tokens += is_new ? 1 : 0;
        set_row(gather, tokens, block.num_tokens - 1, &rows[row]);
        row++;
    }
    block.expert = (struct import_array){.data = tokens->expert, .type = NPY_INT32};
    memcpy(block.expert.stride, stride, sizeof stride);
    if (tokens->weight != NULL) {
        block.gate_weight = (struct import_array){.data = tokens->weight, .type = NPY_FLOAT32};
        memcpy(block.gate_weight.stride, stride, sizeof stride);
    }
    *status = import_block(gather->sink, &block);
    return row;
}

static enum status pass_all(struct gather *gather, struct tokens *tokens)
{
    const struct row *rows = gather->rows;
    enum status status = STATUS_OK;
    int64_t row = 0;
    while (row < gather->num_rows && status == STATUS_OK && import_wants_more(gather->sink)) {
        bool begins = row == 0 || rows[row].group != rows[row - 1].group ||
                      rows[row].generation != rows[row - 1].generation;
        if (begins && gather->has_requests) {
            status = import_request(gather->sink, NULL, rows[row].token, 0.0);
        }
        if (status == STATUS_OK) {
            row = pass_on(gather, tokens, row, &status);
        }
    }
    return status;
}

enum status gather_finish(struct gather *gather)
{
    if (gather->num_rows == 0) {
        return STATUS_OK;
    }
    import_drop(gather->sink, "missing from rows with fewer experts than the first: pads",
                gather->num_missing);
    struct tokens *tokens = calloc(1, sizeof *tokens);
    enum status status = tokens != NULL ? STATUS_OK : no_memory(gather);
    for (int32_t layer = 0; tokens != NULL && layer < LAYERS_MAX; layer++) {
        if (gather->is_present[layer]) {
            tokens->layer_of[layer] = tokens->num_layers;
            tokens->model_layer[tokens->num_layers++] = layer;
        }
    }
    if (status == STATUS_OK) {
        int64_t token_ids = (int64_t)tokens->num_layers * gather->top_k;
        tokens->capacity = BLOCK_IDS / token_ids > 0 ? BLOCK_IDS / token_ids : 1;
        size_t ids = (size_t)(tokens->capacity * token_ids);
        tokens->expert = malloc(ids * sizeof *tokens->expert);
        tokens->weight = gather->weight != NULL ? calloc(ids, sizeof *tokens->weight) : NULL;
        bool fits = tokens->expert != NULL && (tokens->weight != NULL || gather->weight == NULL);
        status = fits ? STATUS_OK : no_memory(gather);
    }
    if (status == STATUS_OK) {
        sort_rows(gather);
        status = pass_all(gather, tokens);
    }
    if (tokens != NULL) {
        free(tokens->expert);
        free(tokens->weight);
        free(tokens);
    }
    return status;
}
