/*
 * load_histogram.c -- CSV with the columns layer_id, expert_id and count, in any order.
 *
 * SGLang's first expert recorder wrote it; layer, expert and tokens are taken for the same. Lines
 * of the same layer and expert add up, as do several files.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/csv_lines.h"

enum column { COLUMN_LAYER, COLUMN_EXPERT, COLUMN_COUNT, NUM_COLUMNS };

static const char *const names[NUM_COLUMNS][3] = {
    {"layer_id", "layer", NULL},
    {"expert_id", "expert", NULL},
    {"count", "tokens", NULL},
};

static enum status read_line(struct import_sink *sink, const struct csv_lines *lines,
                             const int32_t at[NUM_COLUMNS])
{
    int64_t value[NUM_COLUMNS];
    char place[32];
    (void)snprintf(place, sizeof place, "line %lld", (long long)lines->line);
    for (int32_t column = 0; column < NUM_COLUMNS; column++) {
        int64_t max = column == COLUMN_COUNT ? INT64_MAX : UINT16_MAX;
        if (!csv_whole(lines, at[column], max, &value[column])) {
            char text[40];
            return import_complain(sink, lines->path, place,
                                   "%s '%s': expected a whole number, at least 0", names[column][0],
                                   csv_copy(text, sizeof text, lines, at[column]));
        }
    }
    return import_load_cell(sink, 0, (int32_t)value[COLUMN_LAYER], (int32_t)value[COLUMN_EXPERT],
                            value[COLUMN_COUNT]);
}

static enum status read_file(struct import_sink *sink, const char *path,
                             const struct import_file *file)
{
    struct csv_lines lines;
    int32_t at[NUM_COLUMNS];
    enum status status = STATUS_OK;
    csv_begin(&lines, file);
    (void)csv_next(&lines);
    for (int32_t column = 0; column < NUM_COLUMNS; column++) {
        at[column] = csv_column(&lines, names[column]);
        if (at[column] < 0) {
            return import_refuse(sink, path, "", "the first line has no column %s",
                                 names[column][0]);
        }
    }
    while (status == STATUS_OK && csv_next(&lines)) {
        status = read_line(sink, &lines, at);
        import_progress(sink, lines.at - file->data, file->num_bytes);
    }
    return status;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < input->options->num_paths && status == STATUS_OK; i++) {
        struct import_file file;
        status = import_file_open(&file, input->options->paths[i], input->error);
        if (status == STATUS_OK) {
            status = read_file(sink, input->options->paths[i], &file);
        }
        import_file_close(&file);
    }
    return status;
}

static int32_t detect(const struct import_probe *probe)
{
    const char *text = (const char *)probe->text;
    size_t length = strcspn(text, "\n");
    char line[256];
    (void)snprintf(line, sizeof line, "%.*s", (int)(length < 255 ? length : 255), text);
    bool is_exact = strstr(line, "layer_id") != NULL && strstr(line, "expert_id") != NULL;
    return is_exact && strstr(line, "count") != NULL ? 90 : 0;
}

const struct import_format import_load_histogram = {
    .name = "load_histogram",
    .summary = "CSV of layer_id, expert_id, count: becomes loads",
    .source = "sgl-project/sglang, python/sglang/srt/managers/expert_distribution.py",
    .level = IMPORT_LOADS,
    .detect = detect,
    .read = read_all,
};
