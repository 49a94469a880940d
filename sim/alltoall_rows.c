/* alltoall_rows.c -- reads the table and tells what each row measured. */
#include "alltoall_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alltoall_internal.h"
#include "csv_table.h"

#define COUNT_MAX  1048576
#define NVLINK_LOW "2025-06" /* DeepEP's low-latency kernels use NVLink from then on */

static const char *const columns[] = {
    "group",         "library",    "version",         "mode",         "op",   "gpu",     "nodes",
    "gpus_per_node", "ep",         "tokens_per_rank", "hidden",       "topk", "experts", "dtype",
    "sms",           "latency_us", "inter_link",      "distribution", "date", "notes"};

enum column {
    GROUP,
    LIBRARY,
    VERSION,
    MODE,
    OP,
    GPU,
    NODES,
    GPUS_PER_NODE,
    EP,
    TOKENS,
    HIDDEN,
    TOPK,
    EXPERTS,
    DTYPE,
    SMS,
    LATENCY,
    INTER_LINK,
    DISTRIBUTION,
    DATE,
    NOTES,
    COLUMN_COUNT,
};

const char *alltoall_skip_reason(enum alltoall_skip skip)
{
    static const char *const reasons[ALLTOALL_SKIP_COUNT] = {
        "used",
        odd_cell_reason,
        "nodes, GPUs a node or EP are missing",
        "only a bandwidth is stated, no latency",
        "no collective stands for this library and mode",
        "the operation is not modelled",
        "the number format is not modelled",
        "no GPU preset has this GPU's name as an alias",
        "GPUs share a NIC, which no preset of a cluster has",
        "tokens or message size are missing, or ranks do not divide experts",
        "there is no cluster preset for this testbed",
        "the cluster preset has no constants for this collective"};
    return reasons[skip];
}

/* Whether every cell that is not empty is the number that is due there; odd: which one is not. */
static bool read_counts(struct alltoall_row *row, const struct csv_table *table, int64_t index,
                        struct error *odd)
{
    double latency_us = 0.0;
    const struct {
        int32_t *value;
        enum column column;
        int32_t max;
    } counts[] = {{&row->nodes, NODES, 4096},
                  {&row->gpus_per_node, GPUS_PER_NODE, 4096},
                  {&row->ep, EP, ALLTOALL_EP_MAX},
                  {&row->tokens, TOKENS, COUNT_MAX},
                  {&row->hidden_dim, HIDDEN, COUNT_MAX},
                  {&row->top_k, TOPK, 1024},
                  {&row->num_experts, EXPERTS, 65536},
                  {&row->num_sms, SMS, 4096}};
    enum status status = csv_number(&latency_us, table, index, LATENCY, 1e-6, 1e9, odd);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && status == STATUS_OK; i++) {
        status = csv_count(counts[i].value, table, index, (int32_t)counts[i].column, 1,
                           counts[i].max, odd);
    }
    row->latency_ns = latency_us * 1e3;
    return status == STATUS_OK;
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static bool begins(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* DeepEP before it used NVLink in its low-latency kernels: by its version, else by its date. */
static bool is_first_vintage(const struct alltoall_row *row, const char *date)
{
    bool is_quoted = has(row->library, "as quoted"); /* the first release's table */
    bool is_dated = strlen(date) >= strlen(NVLINK_LOW);
    return is_quoted || has(row->version, "pure RDMA") ||
           (is_dated && strncmp(date, NVLINK_LOW, strlen(NVLINK_LOW)) < 0);
}

static void find_collective(struct alltoall_row *row, const char *date)
{
    const char *name = "";
    bool is_dtype_key = false;
    if (begins(row->library, "DeepEP") && begins(row->mode, "low-latency")) {
        name = is_first_vintage(row, date) ? "deepep_low_latency_rdma" : "deepep_low_latency";
    } else if (begins(row->library, "DeepEP") && strcmp(row->mode, "normal") == 0 &&
               !begins(row->version, "V2")) {
        name = "deepep_normal";
    } else if (strcmp(row->library, "NCCL") == 0) {
        name = "flat";
    } else if (has(row->library, "NVLinkOneSided")) {
        name = "one_sided";
        is_dtype_key = true;
    } else if (has(row->library, "NVLinkTwoSided")) {
        name = "two_sided";
        is_dtype_key = true;
    }
    row->collective = collective_find(name);
    (void)snprintf(row->dtype, sizeof row->dtype, "%s", is_dtype_key ? "" : "any");
}

/* Bytes of one element of a format, with its scales; 0: not modelled. */
static double element_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        enum precision precision;
    } known[] = {{"bf16", PRECISION_BF16},
                 {"bfloat16", PRECISION_BF16},
                 {"half", PRECISION_BF16},
                 {"fp8", PRECISION_FP8},
                 {"nvfp4", PRECISION_NVFP4}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(dtype, known[i].name) == 0) {
            return precision_activation_bytes(known[i].precision);
        }
    }
    return strcmp(dtype, "mxfp8") == 0 ? 1.0 + 1.0 / 32.0 : 0.0; /* a byte of scale for 32 */
}

static enum alltoall_skip find_payload(struct alltoall_row *row, const char *dtype)
{
    bool is_pair = has(dtype, "fp8 dispatch/bf16 combine");
    bool is_keyed = row->dtype[0] == '\0';
    double bytes = is_pair ? precision_activation_bytes(PRECISION_FP8) : element_bytes(dtype);
    if (bytes == 0.0) {
        return ALLTOALL_SKIP_DTYPE;
    }
    if (is_keyed) {
        (void)snprintf(row->dtype, sizeof row->dtype, "%s",
                       strcmp(dtype, "bfloat16") == 0 ? "bf16" : dtype);
    }
    double hidden = (double)row->hidden_dim;
    bool is_own = !is_pair && !is_keyed; /* the row's format is that of its op */
    row->dispatch_bytes = hidden * bytes;
    row->combine_bytes = hidden * (is_own ? bytes : precision_activation_bytes(PRECISION_BF16));
    if (strcmp(row->op, "combine_low_precision") == 0) {
        row->combine_bytes = hidden * bytes;
    }
    return ALLTOALL_USED;
}

static enum alltoall_skip find_legs(struct alltoall_row *row)
{
    static const struct {
        const char *op;
        int32_t num_legs;
        enum exchange exchange[ALLTOALL_LEGS];
    } ops[] = {{"dispatch", 1, {EXCHANGE_DISPATCH}},
               {"combine", 1, {EXCHANGE_COMBINE}},
               {"dispatch+combine", 2, {EXCHANGE_DISPATCH, EXCHANGE_COMBINE}},
               {"alltoall", 1, {EXCHANGE_DISPATCH}},
               {"prepare", 1, {EXCHANGE_PREPARE}},
               {"combine_low_precision", 1, {EXCHANGE_COMBINE_LOW}}};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(row->op, ops[i].op) == 0) {
            row->num_legs = ops[i].num_legs;
            for (int32_t leg = 0; leg < row->num_legs; leg++) {
                row->leg[leg].exchange = ops[i].exchange[leg];
            }
            return ALLTOALL_USED;
        }
    }
    return ALLTOALL_SKIP_OP;
}

/* Tokens and experts, or a buffer. */
static enum alltoall_skip find_shape(struct alltoall_row *row, const char *notes)
{
    const char *message = strstr(notes, "message bytes=");
    if (row->tokens == 0 && message != NULL) {
        row->message_bytes = strtod(message + strlen("message bytes="), NULL);
        bool is_size = row->message_bytes >= 1.0 && row->message_bytes <= 1e13;
        return is_size ? ALLTOALL_USED : ALLTOALL_SKIP_SHAPE;
    }
    row->num_experts = row->num_experts == 0 ? 256 : row->num_experts; /* DeepSeek-V3's */
    bool is_whole = row->tokens > 0 && row->hidden_dim > 0 && row->top_k > 0 &&
                    row->num_experts % row->ep == 0 && row->top_k <= row->num_experts;
    return is_whole ? ALLTOALL_USED : ALLTOALL_SKIP_SHAPE;
}

/* "H100 (as somebody quotes it)" is an H100. */
static int32_t find_gpu(struct alltoall_rows *rows, const char **known, const char *name)
{
    char plain[128];
    struct error unknown = {0};
    const char *remark = strstr(name, " (");
    int length = remark != NULL ? (int)(remark - name) : (int)strlen(name);
    (void)snprintf(plain, sizeof plain, "%.*s", length, name);
    for (int32_t gpu = 0; gpu < rows->num_gpus; gpu++) {
        if (strcmp(known[gpu], name) == 0) {
            return rows->gpu[gpu].num_sms > 0 ? gpu : -1;
        }
    }
    if (rows->num_gpus == ALLTOALL_GPUS_MAX) {
        return -1;
    }
    int32_t gpu = rows->num_gpus++;
    known[gpu] = name;
    if (gpu_load(&rows->gpu[gpu], plain, &unknown) != STATUS_OK) {
        rows->gpu[gpu] = (struct gpu_spec){0};
        return -1;
    }
    return gpu;
}

/* One scale-up domain: said to be, held by a node, or within a rack that NVLink spans. */
static bool is_one_domain(const struct alltoall_rows *rows, const struct alltoall_row *row,
                          const char *link)
{
    bool is_rack = row->gpu >= 0 && has(rows->gpu[row->gpu].name, "nvl72") && link[0] == '\0';
    return begins(link, "none") || row->gpus_per_node > row->ep || (is_rack && row->ep <= 72);
}

static enum alltoall_skip find_skip(struct alltoall_row *row, const char *link, bool is_read)
{
    return !is_read                                                     ? ALLTOALL_SKIP_NUMBER
           : row->latency_ns == 0.0                                     ? ALLTOALL_SKIP_LATENCY
           : row->ep == 0 || row->nodes == 0 || row->gpus_per_node == 0 ? ALLTOALL_SKIP_RANKS
           : row->collective == NULL                                    ? ALLTOALL_SKIP_LIBRARY
           : row->gpu < 0                                               ? ALLTOALL_SKIP_GPU
           : has(link, "shared")                                        ? ALLTOALL_SKIP_NETWORK
                                                                        : find_legs(row);
}

static enum status read_row(struct alltoall_rows *rows, const char **known_gpus,
                            const struct csv_table *table, int64_t index)
{
    struct error odd = {0};
    struct alltoall_row *row = &rows->row[index];
    const char *link = csv_cell(table, index, INTER_LINK);
    row->line = table->line[index];
    row->group = csv_cell(table, index, GROUP);
    row->library = csv_cell(table, index, LIBRARY);
    row->version = csv_cell(table, index, VERSION);
    row->mode = csv_cell(table, index, MODE);
    row->op = csv_cell(table, index, OP);
    row->gpu_name = csv_cell(table, index, GPU);
    row->is_balanced = strcmp(csv_cell(table, index, DISTRIBUTION), "uniform-random") != 0;
    bool is_read = read_counts(row, table, index, &odd);
    row->gpu = find_gpu(rows, known_gpus, row->gpu_name);
    if (is_one_domain(rows, row, link)) {
        row->nodes = row->nodes > 0 ? 1 : 0;
        row->gpus_per_node = row->gpus_per_node > 0 ? row->ep : 0;
    }
    find_collective(row, csv_cell(table, index, DATE));
    row->skip = find_skip(row, link, is_read);
    row->skip =
        row->skip == ALLTOALL_USED ? find_shape(row, csv_cell(table, index, NOTES)) : row->skip;
    row->skip =
        row->skip == ALLTOALL_USED ? find_payload(row, csv_cell(table, index, DTYPE)) : row->skip;
    row->odd = is_read ? NULL : odd_rows_add(&rows->odd, &odd);
    return is_read || row->odd != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

/* A testbed is of the kind that its largest row needs: what spans nodes has NICs. */
static void name_clusters(struct alltoall_rows *rows)
{
    for (int64_t i = 0; i < rows->num_rows; i++) {
        struct alltoall_row *row = &rows->row[i];
        if (row->gpu < 0) {
            continue;
        }
        bool spans_nodes = false;
        for (int64_t k = 0; k < rows->num_rows && !spans_nodes; k++) {
            spans_nodes = rows->row[k].nodes > 1 && strcmp(rows->row[k].group, row->group) == 0;
        }
        const char *gpu = rows->gpu[row->gpu].name;
        int family = (int)strcspn(gpu, "-");
        const char *kind = has(gpu, "nvl72") ? "nvl72" : spans_nodes ? "cx7" : "nvlink";
        (void)snprintf(row->cluster, sizeof row->cluster, "%.*s-%s", family, gpu, kind);
    }
}

enum status alltoall_rows_read(struct alltoall_rows *rows, const char *path, struct error *error)
{
    struct csv_table table;
    const char *known_gpus[ALLTOALL_GPUS_MAX];
    *rows = (struct alltoall_rows){0};
    enum status status = csv_table_read(&table, path, columns, COLUMN_COUNT, &rows->arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    rows->row = arena_alloc(&rows->arena, (size_t)table.num_rows, sizeof *rows->row);
    rows->gpu = arena_alloc(&rows->arena, ALLTOALL_GPUS_MAX, sizeof *rows->gpu);
    if (rows->row == NULL || rows->gpu == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    rows->num_rows = table.num_rows;
    for (int64_t i = 0; i < table.num_rows && status == STATUS_OK; i++) {
        status = read_row(rows, known_gpus, &table, i);
    }
    name_clusters(rows);
    for (int64_t i = 0; i < rows->num_rows && status == STATUS_OK; i++) {
        struct alltoall_row *row = &rows->row[i];
        if (row->skip == ALLTOALL_USED) {
            status = alltoall_plan(row, &rows->gpu[row->gpu], &rows->arena);
        }
    }
    return status == STATUS_NO_MEMORY
               ? error_add(error, STATUS_NO_MEMORY, "%s: out of memory", path)
               : status;
}

void alltoall_rows_free(struct alltoall_rows *rows)
{
    arena_free(&rows->arena);
    odd_rows_free(&rows->odd);
    *rows = (struct alltoall_rows){0};
}
