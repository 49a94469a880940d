/*
 * timeline.c -- streams trace events to a file: nothing is kept but the bounds of the step under
 * way.
 */
#include "timeline.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "textfile.h"
#include "utf8.h"

#define STEP_NONE  (-1)
#define TIME_BYTES 32

struct timeline {
    struct timeline_options options;
    char partial[FILE_PATH_BYTES];
    FILE *file;        /* NULL: finished */
    int write_errno;   /* of the first failure; 0: none */
    int32_t steps_pid; /* of the track of steps, behind those of the nodes */
    int64_t step;      /* under way, or STEP_NONE */
    int64_t begin_ns;  /* of that step */
    int64_t end_ns;    /* of that step, as far as it is known */
};

static void emit(struct timeline *timeline, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void emit(struct timeline *timeline, const char *format, ...)
{
    if (timeline->write_errno != 0) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    errno = 0;
    if (vfprintf(timeline->file, format, arguments) < 0) {
        timeline->write_errno = errno != 0 ? errno : EIO;
    }
    va_end(arguments);
}

/* Microseconds in decimals: exact, where a double would round after 104 simulated days. */
static const char *microseconds(char text[TIME_BYTES], int64_t ns)
{
    snprintf(text, TIME_BYTES, "%" PRId64 ".%03d", ns / 1000, (int)(ns % 1000));
    return text;
}

/* Any text as a JSON string. */
static void emit_string(struct timeline *timeline, const char *text)
{
    cJSON *string = cJSON_CreateString(text);
    char *quoted = string != NULL ? cJSON_PrintUnformatted(string) : NULL;
    if (quoted == NULL && timeline->write_errno == 0) {
        timeline->write_errno = ENOMEM;
    }
    if (quoted != NULL) {
        utf8_mend(quoted);
    }
    emit(timeline, "%s", quoted != NULL ? quoted : "\"\"");
    cJSON_free(quoted);
    cJSON_Delete(string);
}

static int32_t node_of(const struct timeline *timeline, int32_t rank)
{
    return cluster_node(&timeline->options.scenario->cluster, rank);
}

/* Names of nodes and ranks, and their order on the screen. */
static void emit_names(struct timeline *timeline)
{
    int32_t num_ranks = timeline->options.scenario->ep;
    int32_t last_node = -1;
    timeline->steps_pid = node_of(timeline, num_ranks - 1) + 1;
    emit(timeline,
         "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
         "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"steps\"}},\n"
         "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":-1}}",
         (int)timeline->steps_pid, (int)timeline->steps_pid);
    for (int32_t rank = 0; rank < num_ranks; rank++) {
        int node = (int)node_of(timeline, rank);
        if (node != last_node) {
            emit(timeline,
                 ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\","
                 "\"args\":{\"name\":\"node %d\"}}"
                 ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\","
                 "\"args\":{\"sort_index\":%d}}",
                 node, node, node, node);
            last_node = node;
        }
        emit(timeline,
             ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\","
             "\"args\":{\"name\":\"rank %d\"}}"
             ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_sort_index\","
             "\"args\":{\"sort_index\":%d}}",
             node, (int)rank, (int)rank, node, (int)rank, (int)rank);
    }
}

enum status timeline_open(struct timeline **timeline, const struct timeline_options *options,
                          struct error *error)
{
    *timeline = NULL;
    struct timeline *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory while opening the timeline");
    }
    opened->options = *options;
    opened->step = STEP_NONE;
    int length = snprintf(opened->partial, sizeof opened->partial, "%s.partial", options->path);
    if (length < 0 || (size_t)length >= sizeof opened->partial) {
        free(opened);
        return error_add(error, STATUS_INVALID, "%.40s...: too long a name", options->path);
    }
    opened->file = fopen(opened->partial, "w");
    if (opened->file == NULL) {
        enum status status =
            error_add(error, STATUS_IO, "%s: %s", opened->partial, strerror(errno));
        free(opened);
        return status;
    }
    emit_names(opened);
    *timeline = opened;
    return STATUS_OK;
}

static bool is_wanted(const struct timeline *timeline, int64_t step)
{
    return step >= timeline->options.first_step && step <= timeline->options.last_step;
}

static void end_step(struct timeline *timeline)
{
    if (timeline->step == STEP_NONE) {
        return;
    }
    char begin[TIME_BYTES];
    char duration[TIME_BYTES];
    emit(timeline,
         ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":0,\"ts\":%s,\"dur\":%s,"
         "\"name\":\"step %" PRId64 "\",\"args\":{\"step\":%" PRId64 "}}",
         (int)timeline->steps_pid, microseconds(begin, timeline->begin_ns),
         microseconds(duration, timeline->end_ns - timeline->begin_ns), timeline->step,
         timeline->step);
    timeline->step = STEP_NONE;
}

void timeline_time_booked(struct timeline *timeline, const struct booked_time *booked)
{
    if (!is_wanted(timeline, booked->step)) {
        return;
    }
    if (booked->step != timeline->step) {
        end_step(timeline);
        timeline->step = booked->step;
        timeline->begin_ns = booked->begin_ns;
        timeline->end_ns = booked->end_ns;
    }
    timeline->begin_ns =
        booked->begin_ns < timeline->begin_ns ? booked->begin_ns : timeline->begin_ns;
    timeline->end_ns = booked->end_ns > timeline->end_ns ? booked->end_ns : timeline->end_ns;
    char begin[TIME_BYTES];
    char duration[TIME_BYTES];
    emit(timeline, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%s,\"dur\":%s,\"name\":\"%s\"",
         (int)node_of(timeline, booked->rank), (int)booked->rank,
         microseconds(begin, booked->begin_ns),
         microseconds(duration, booked->end_ns - booked->begin_ns), step_phase_name(booked->phase));
    if (booked->layer >= 0) {
        emit(timeline, ",\"args\":{\"layer\":%d,\"step\":%" PRId64 "}}", (int)booked->layer,
             booked->step);
    } else {
        emit(timeline, ",\"args\":{\"step\":%" PRId64 "}}", booked->step);
    }
}

void timeline_rebalanced(struct timeline *timeline, const struct rebalance_record *record,
                         int64_t now_ns)
{
    if (!is_wanted(timeline, record->step - 1) && !is_wanted(timeline, record->step)) {
        return; /* it stands between the two */
    }
    char now[TIME_BYTES];
    emit(timeline,
         ",\n{\"ph\":\"i\",\"s\":\"g\",\"pid\":%d,\"tid\":0,\"ts\":%s,\"name\":\"rebalance\","
         "\"args\":{\"lands_in_step\":%" PRId64 ",\"moves\":%" PRId64 ",\"bytes\":%" PRId64
         ",\"layers_changed\":%d}}",
         (int)timeline->steps_pid, microseconds(now, now_ns), record->step, record->moves,
         record->bytes, (int)record->layers_changed);
}

bool timeline_is_whole(const struct timeline *timeline)
{
    return timeline->write_errno == 0;
}

enum status timeline_finish(struct timeline *timeline, uint64_t digest, struct error *error)
{
    const char *path = timeline->options.path;
    end_step(timeline);
    emit(timeline,
         "\n],\"otherData\":{\"run_id\":\"%s\",\"digest\":\"%016" PRIx64 "\",\"scenario\":",
         timeline->options.run_id, digest);
    emit_string(timeline, timeline->options.scenario->name);
    emit(timeline, ",\"model\":");
    emit_string(timeline, timeline->options.scenario->model.name);
    emit(timeline, "}}\n");
    errno = 0;
    int closed = fclose(timeline->file);
    timeline->file = NULL;
    if (closed != 0 && timeline->write_errno == 0) {
        timeline->write_errno = errno != 0 ? errno : EIO;
    }
    if (timeline->write_errno == 0 && rename(timeline->partial, path) != 0) {
        timeline->write_errno = errno;
    }
    if (timeline->write_errno != 0) {
        unlink(timeline->partial);
        return error_add(error, STATUS_IO, "%s: %s; the timeline was not written", path,
                         strerror(timeline->write_errno));
    }
    return STATUS_OK;
}

void timeline_close(struct timeline *timeline)
{
    if (timeline == NULL) {
        return;
    }
    if (timeline->file != NULL) {
        fclose(timeline->file);
        unlink(timeline->partial);
    }
    free(timeline);
}
