/*
 * csv.c -- logs as CSV: a line is one token in one layer.
 *
 * Columns by name, in any order: layer; token (or token_idx, position); request (or req_id,
 * request_id) if there is one; experts (or topk_ids: ids with spaces, semicolons or bars between
 * them) or expert_0, expert_1, ...; weights or weight_0, weight_1, ... likewise, if there are any.
 * Lines come in any order; an empty field of an expert is a pad.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/csv_lines.h"
#include "import/gather.h"

static const char *const layer_names[] = {"layer", "layer_id", "layer_idx", NULL};
static const char *const token_names[] = {"token", "token_idx", "token_index", "position", NULL};
static const char *const request_names[] = {"request", "req_id", "request_id", NULL};
static const char *const expert_names[] = {"experts", "topk_ids", "expert_ids", NULL};
static const char *const weight_names[] = {"weights", "topk_weights", "gate_weights", NULL};

/* Where experts or weights stand: in one column with a list, or in num_columns of them. */
struct columns {
    int32_t list; /* -1: none */
    int32_t num_columns;
    int32_t at[GATHER_TOP_K_MAX];
};

struct header {
    int32_t layer;
    int32_t token;
    int32_t request;
    struct columns experts;
    struct columns weights;
};

static void find_columns(const struct csv_lines *lines, const char *const *list_names,
                         const char *stem, const char *short_stem, struct columns *columns)
{
    columns->list = csv_column(lines, list_names);
    columns->num_columns = 0;
    while (columns->list < 0 && columns->num_columns < GATHER_TOP_K_MAX) {
        char name[2][32];
        (void)snprintf(name[0], sizeof name[0], "%s_%d", stem, columns->num_columns);
        (void)snprintf(name[1], sizeof name[1], "%s%d", short_stem, columns->num_columns);
        const char *const both[] = {name[0], name[1], NULL};
        int32_t at = csv_column(lines, both);
        if (at < 0) {
            return;
        }
        columns->at[columns->num_columns++] = at;
    }
}

/* Reads numbers of a list or of columns. -1: something is no number. An empty column is missing;
 * a line that ends before the last of them holds fewer. */
static int32_t read_numbers(const struct csv_lines *lines, const struct columns *columns,
                            double missing, double *number)
{
    int32_t count = 0;
    for (; count < columns->num_columns; count++) {
        int32_t at = columns->at[count];
        if (at >= lines->num_fields) {
            break;
        }
        number[count] = missing;
        if (lines->length[at] > 0 && !csv_double(lines, at, &number[count])) {
            return -1;
        }
    }
    if (columns->list < 0 || columns->list >= lines->num_fields) {
        return columns->list < 0 ? count : -1;
    }
    const char *at = lines->field[columns->list];
    const char *end = at + lines->length[columns->list];
    while (at < end) {
        char text[64];
        char *rest = NULL;
        size_t length = 0;
        while (at + length < end && strchr(" ;|[]", at[length]) == NULL) {
            length++;
        }
        if (length > 0) {
            if (length >= sizeof text || count == GATHER_TOP_K_MAX) {
                return -1;
            }
            memcpy(text, at, length);
            text[length] = '\0';
            number[count++] = strtod(text, &rest);
            if (*rest != '\0') {
                return -1;
            }
        }
        at += length + 1;
    }
    return count;
}

static enum status read_line(struct gather *gather, struct import_sink *sink,
                             const struct csv_lines *lines, const struct header *header)
{
    char place[32];
    double number[GATHER_TOP_K_MAX];
    double weight[GATHER_TOP_K_MAX];
    int64_t expert[GATHER_TOP_K_MAX];
    struct gather_line line = {.place = place, .expert = expert, .token = -1, .layer = -1};
    bool has_weights = header->weights.list >= 0 || header->weights.num_columns > 0;
    (void)snprintf(place, sizeof place, "line %lld", (long long)lines->line);
    line.top_k = read_numbers(lines, &header->experts, -1.0, number);
    for (int32_t k = 0; k < line.top_k; k++) {
        bool is_id =
            number[k] >= -1.0 && number[k] < 65536.0 && (double)(int64_t)number[k] == number[k];
        expert[k] = is_id ? (int64_t)number[k] : 65536;
    }
    if (has_weights) {
        line.weight = weight;
        if (read_numbers(lines, &header->weights, 0.0, weight) != line.top_k) {
            return import_complain(sink, lines->path, place, "expected as many weights as experts");
        }
    }
    (void)csv_whole(lines, header->token, INT32_MAX, &line.token);
    (void)csv_whole(lines, header->layer, INT32_MAX, &line.layer);
    if (header->request >= 0 && header->request < lines->num_fields) {
        line.request = lines->field[header->request];
        line.request_length = lines->length[header->request];
    }
    return gather_add(gather, lines->path, &line);
}

static enum status read_header(struct import_sink *sink, struct csv_lines *lines,
                               struct header *header)
{
    (void)csv_next(lines);
    header->layer = csv_column(lines, layer_names);
    header->token = csv_column(lines, token_names);
    header->request = csv_column(lines, request_names);
    find_columns(lines, expert_names, "expert", "e", &header->experts);
    find_columns(lines, weight_names, "weight", "w", &header->weights);
    bool has_experts = header->experts.list >= 0 || header->experts.num_columns > 0;
    return header->layer >= 0 && header->token >= 0 && has_experts
               ? STATUS_OK
               : import_refuse(sink, lines->path, "",
                               "the first line needs the columns layer, token and experts, or "
                               "expert_0, expert_1, ...");
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct gather *gather = NULL;
    struct header header;
    enum status status = gather_open(&gather, input, sink);
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct import_file file;
        struct csv_lines lines;
        status = import_file_open(&file, input->options->paths[i], input->error);
        if (status == STATUS_OK) {
            csv_begin(&lines, &file);
            status = read_header(sink, &lines, &header);
        }
        while (status == STATUS_OK && csv_next(&lines)) {
            status = read_line(gather, sink, &lines, &header);
            import_progress(sink, lines.at - file.data, file.num_bytes);
        }
        import_file_close(&file);
    }
    if (status == STATUS_OK) {
        status = gather_finish(gather);
    }
    gather_close(gather);
    return status;
}

static int32_t detect(const struct import_probe *probe)
{
    const char *text = (const char *)probe->text;
    size_t length = strcspn(text, "\r\n");
    char line[1024];
    (void)snprintf(line, sizeof line, "%.*s", (int)(length < 1023 ? length : 1023), text);
    bool has_layer = strstr(line, "layer") != NULL && strchr(line, ',') != NULL;
    bool has_token = strstr(line, "token") != NULL || strstr(line, "position") != NULL;
    bool has_experts = strstr(line, "experts") != NULL || strstr(line, "topk_ids") != NULL ||
                       strstr(line, "expert_0") != NULL || strstr(line, "e0") != NULL;
    return text[0] != '{' && text[0] != '[' && has_layer && has_token && has_experts ? 50 : 0;
}

const struct import_format import_csv = {
    .name = "csv",
    .summary = "logs: layer, token, experts (1;7;9) or expert_0, ...; request, weights",
    .source = "CSV of any logger",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
