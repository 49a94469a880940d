/*
 * arrivals_read.c -- reads traces of traffic, whoever published them.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arrivals_internal.h"
#include "import/csv_lines.h"

#define PROBLEMS_MAX 10
#define TAGS_MAX     65536
#define NS_PER_S     INT64_C(1000000000)

/* Where a format has what. */
struct layout {
    const char *const time[3];
    const char *const prompt[3];
    const char *const decode[3];
    const char *const tag[3];
    bool is_date; /* time is one */
    bool is_kept; /* times are taken as they are, not from the first on */
};

static const struct layout layouts[] = {
    [ARRIVALS_AZURE] = {{"TIMESTAMP", NULL},
                        {"ContextTokens", NULL},
                        {"GeneratedTokens", NULL},
                        {NULL},
                        true,
                        false},
    [ARRIVALS_BURSTGPT] = {{"Timestamp", NULL},
                           {"Request tokens", NULL},
                           {"Response tokens", NULL},
                           {"Model", NULL},
                           false,
                           false},
    [ARRIVALS_OWN] = {{"arrival_s", NULL},
                      {"prompt_tokens", NULL},
                      {"decode_tokens", NULL},
                      {"tag", NULL},
                      false,
                      true},
};

bool arrivals_complain(struct arrivals_reader *reader, int64_t line, const char *what)
{
    reader->num_problems++;
    (void)error_add(reader->error, STATUS_INVALID, "%s:%lld: %s", reader->path, (long long)line,
                    what);
    if (reader->num_problems == PROBLEMS_MAX) {
        (void)error_add(reader->error, STATUS_INVALID, "%s: stopped reading after %d problems",
                        reader->path, PROBLEMS_MAX);
    }
    return reader->num_problems < PROBLEMS_MAX;
}

/* The index of a tag, which is added if it is new. -1: no memory, or too many. */
static int32_t find_tag(struct arrivals_reader *reader, const char *text)
{
    struct arrivals *arrivals = reader->arrivals;
    for (int32_t i = arrivals->num_tags - 1; i >= 0; i--) {
        if (strcmp(arrivals->tag[i], text) == 0) {
            return i;
        }
    }
    if (arrivals->num_tags == reader->tags_capacity) {
        int32_t capacity = reader->tags_capacity == 0 ? 16 : 2 * reader->tags_capacity;
        void *larger = realloc(arrivals->tag, (size_t)capacity * sizeof *arrivals->tag);
        if (larger == NULL || capacity > TAGS_MAX) {
            arrivals->tag = larger != NULL ? larger : arrivals->tag;
            return -1;
        }
        arrivals->tag = larger;
        reader->tags_capacity = capacity;
    }
    (void)snprintf(arrivals->tag[arrivals->num_tags], NAME_BYTES, "%s", text);
    return arrivals->num_tags++;
}

bool arrivals_add(struct arrivals_reader *reader, const struct arrival *arrival)
{
    struct arrivals *arrivals = reader->arrivals;
    if (arrival->tag < 0) {
        (void)error_add(reader->error, STATUS_NO_MEMORY, "%s: no memory for more than %d tags",
                        reader->path, arrivals->num_tags);
        return false;
    }
    if (arrivals->count == reader->capacity) {
        int64_t capacity = reader->capacity == 0 ? 4096 : 2 * reader->capacity;
        void *larger = realloc(arrivals->arrival, (size_t)capacity * sizeof *arrivals->arrival);
        if (larger == NULL) {
            (void)error_add(reader->error, STATUS_NO_MEMORY, "%s: no memory for %lld arrivals",
                            reader->path, (long long)capacity);
            return false;
        }
        arrivals->arrival = larger;
        reader->capacity = capacity;
    }
    arrivals->arrival[arrivals->count++] = *arrival;
    return true;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar (H. Hinnant, days_from_civil). */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2 ? 1 : 0;
    int64_t era = year / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

/* "2023-11-16 18:15:46.6805900", with "T" for the blank and a zone of "Z" or "+00:00" too. */
static bool parse_date(const char *text, int64_t *whole_s, int64_t *rest_ns)
{
    int at[6] = {0};
    int used = 0;
    char between = '\0';
    if (sscanf(text, "%4d-%2d-%2d%c%2d:%2d:%2d%n", &at[0], &at[1], &at[2], &between, &at[3], &at[4],
               &at[5], &used) != 7 ||
        (between != ' ' && between != 'T') || at[0] < 1970 || at[1] < 1 || at[1] > 12 ||
        at[2] < 1 || at[2] > 31 || at[3] < 0 || at[3] > 23 || at[4] < 0 || at[4] > 59 ||
        at[5] < 0 || at[5] > 60) {
        return false;
    }
    const char *rest = text + used;
    int64_t unit = NS_PER_S;
    *rest_ns = 0;
    if (*rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            unit /= 10;
            *rest_ns += (*rest - '0') * unit;
        }
    }
    *whole_s = (days_of(at[0], at[1], at[2]) * 24 + at[3]) * 3600 + at[4] * 60 + at[5];
    return *rest == '\0' || strcmp(rest, "Z") == 0 || strcmp(rest, "+00:00") == 0;
}

/* False: it is no time of the layout. */
static bool read_time(struct arrivals_reader *reader, const struct csv_lines *lines, int32_t field,
                      bool is_date, double *arrival_s)
{
    char text[64];
    int64_t whole_s = 0;
    int64_t rest_ns = 0;
    if (!is_date) {
        return csv_double(lines, field, arrival_s) && *arrival_s >= 0.0 && *arrival_s < 1e12;
    }
    if (!parse_date(csv_copy(text, sizeof text, lines, field), &whole_s, &rest_ns)) {
        return false;
    }
    if (!reader->has_begin) {
        reader->begin_s = whole_s;
        reader->has_begin = true;
    }
    *arrival_s = (double)(whole_s - reader->begin_s) + (double)rest_ns / (double)NS_PER_S;
    return true;
}

/* One line of a CSV. False: reading stops. */
static bool read_line(struct arrivals_reader *reader, const struct csv_lines *lines,
                      const struct layout *layout, const int32_t at[4])
{
    struct arrival arrival = {.arrival_s = 0.0};
    char tag[NAME_BYTES];
    int64_t prompt_tokens = 0;
    int64_t decode_tokens = 0;
    if (!read_time(reader, lines, at[0], layout->is_date, &arrival.arrival_s)) {
        return arrivals_complain(reader, lines->line,
                                 layout->is_date ? "expected a time such as 2023-11-16 18:15:46.68"
                                                 : "expected seconds, at least 0");
    }
    if (!csv_whole(lines, at[1], ARRIVALS_TOKENS_MAX, &prompt_tokens) ||
        !csv_whole(lines, at[2], ARRIVALS_TOKENS_MAX, &decode_tokens)) {
        return arrivals_complain(
            reader, lines->line,
            "expected whole numbers of prompt and answer tokens, at most 16777216");
    }
    if (prompt_tokens == 0 || decode_tokens == 0) {
        reader->arrivals->num_failed++;
        return true;
    }
    arrival.prompt_tokens = (int32_t)prompt_tokens;
    arrival.decode_tokens = (int32_t)decode_tokens;
    arrival.tag = find_tag(reader, csv_copy(tag, sizeof tag, lines, at[3]));
    return arrivals_add(reader, &arrival);
}

static enum status read_csv(struct arrivals_reader *reader, const struct import_file *file,
                            const struct layout *layout)
{
    struct csv_lines lines;
    csv_begin(&lines, file);
    (void)csv_next(&lines);
    const int32_t at[4] = {csv_column(&lines, layout->time), csv_column(&lines, layout->prompt),
                           csv_column(&lines, layout->decode), csv_column(&lines, layout->tag)};
    if (at[0] < 0 || at[1] < 0 || at[2] < 0) {
        return error_add(reader->error, STATUS_INVALID,
                         "%s:%lld: the first line needs the columns %s, %s and %s", reader->path,
                         (long long)lines.line, layout->time[0], layout->prompt[0],
                         layout->decode[0]);
    }
    while (csv_next(&lines)) {
        if (!read_line(reader, &lines, layout, at)) {
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

/* By time; the sort below keeps equals in order by their place. */
static int compare(const void *a, const void *b)
{
    const struct arrival *const *left = a;
    const struct arrival *const *right = b;
    if ((*left)->arrival_s != (*right)->arrival_s) {
        return (*left)->arrival_s < (*right)->arrival_s ? -1 : 1;
    }
    return *left < *right ? -1 : 1;
}

/* Sorts where lines are out of order, and lets the first arrive at 0. */
static enum status put_in_order(struct arrivals_reader *reader, bool is_kept)
{
    struct arrivals *arrivals = reader->arrivals;
    bool is_sorted = true;
    for (int64_t i = 1; i < arrivals->count; i++) {
        is_sorted =
            is_sorted && arrivals->arrival[i - 1].arrival_s <= arrivals->arrival[i].arrival_s;
    }
    if (!is_sorted) {
        size_t count = (size_t)arrivals->count;
        struct arrival *sorted = malloc(count * sizeof *sorted);
        const struct arrival **order = malloc(count * sizeof *order);
        if (sorted != NULL && order != NULL) {
            for (size_t i = 0; i < count; i++) {
                order[i] = &arrivals->arrival[i];
            }
            qsort(order, count, sizeof *order, compare);
            for (size_t i = 0; i < count; i++) {
                sorted[i] = *order[i];
            }
            memcpy(arrivals->arrival, sorted, count * sizeof *sorted);
        }
        bool fits = sorted != NULL && order != NULL;
        free(sorted);
        free(order);
        if (!fits) {
            return error_add(reader->error, STATUS_NO_MEMORY, "%s: no memory to sort",
                             reader->path);
        }
    }
    double begin_s = is_kept ? 0.0 : arrivals->arrival[0].arrival_s;
    for (int64_t i = 0; i < arrivals->count && begin_s != 0.0; i++) {
        double since_s = arrivals->arrival[i].arrival_s - begin_s;
        arrivals->arrival[i].arrival_s = round(since_s * 1e9) / 1e9;
    }
    double span_s = arrivals->arrival[arrivals->count - 1].arrival_s;
    if (span_s > ARRIVALS_SPAN_MAX_S) {
        return error_add(reader->error, STATUS_INVALID,
                         "%s: the last request arrives %.0f days after the first; 3,650 are the "
                         "most: is a date wrong?",
                         reader->path, span_s / 86400.0);
    }
    return STATUS_OK;
}

enum arrivals_format arrivals_detect(const char *text)
{
    const char *start = strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
    size_t length = strcspn(start, "\r\n");
    char line[512];
    (void)snprintf(line, sizeof line, "%.*s", (int)(length < 511 ? length : 511), start);
    if (strstr(line, "TIMESTAMP") != NULL && strstr(line, "ContextTokens") != NULL) {
        return ARRIVALS_AZURE;
    }
    if (strstr(line, "Timestamp") != NULL && strstr(line, "Request tokens") != NULL) {
        return ARRIVALS_BURSTGPT;
    }
    if (line[0] == '{' && strstr(line, "\"input_length\"") != NULL &&
        strstr(line, "\"output_length\"") != NULL) {
        return ARRIVALS_MOONCAKE;
    }
    bool is_own = strstr(line, "arrival_s") != NULL && strstr(line, "prompt_tokens") != NULL &&
                  strstr(line, "decode_tokens") != NULL;
    return is_own ? ARRIVALS_OWN : ARRIVALS_UNKNOWN;
}

/* Detects by the first line of the mapped file. */
static enum arrivals_format detect_file(const struct import_file *file)
{
    char text[512];
    size_t length = file->num_bytes < 511 ? (size_t)file->num_bytes : 511;
    memcpy(text, file->data, length);
    text[length] = '\0';
    return arrivals_detect(text);
}

enum status arrivals_read(struct arrivals *arrivals, const char *path, enum arrivals_format format,
                          struct error *error)
{
    struct arrivals_reader reader = {.arrivals = arrivals, .path = path, .error = error};
    struct import_file file;
    *arrivals = (struct arrivals){.count = 0};
    enum status status = import_file_open(&file, path, error);
    if (status == STATUS_OK) {
        format = format == ARRIVALS_UNKNOWN ? detect_file(&file) : format;
        if (find_tag(&reader, "") != 0) {
            status = error_add(error, STATUS_NO_MEMORY, "%s: no memory", path);
        } else if (format == ARRIVALS_UNKNOWN) {
            status = error_add(error, STATUS_INVALID,
                               "%s: neither Azure's, BurstGPT's or Mooncake's requests nor a CSV "
                               "with arrival_s, prompt_tokens and decode_tokens",
                               path);
        } else {
            status = format == ARRIVALS_MOONCAKE ? arrivals_read_mooncake(&reader, &file)
                                                 : read_csv(&reader, &file, &layouts[format]);
        }
    }
    import_file_close(&file);
    if (status == STATUS_OK && reader.num_problems > 0) {
        status = STATUS_INVALID;
    }
    if (status == STATUS_OK && arrivals->count == 0) {
        status = error_add(error, STATUS_INVALID, "%s: holds no request", path);
    }
    return status == STATUS_OK ? put_in_order(&reader, format == ARRIVALS_OWN) : status;
}
