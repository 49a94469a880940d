/*
 * requests.c -- the list of requests, as formats name them one after the other.
 */
#include <stdlib.h>
#include <string.h>

#include "import/sink.h"

/* Tabs and line ends have no place in a tag; what does not fit is cut between characters. */
static void copy_tag(char to[NAME_BYTES], const char *tag)
{
    size_t length = strlen(tag);
    if (length >= NAME_BYTES) {
        length = NAME_BYTES - 1;
        while (length > 0 && ((unsigned char)tag[length] & 0xC0) == 0x80) {
            length--; /* the middle of a UTF-8 sequence */
        }
    }
    for (size_t i = 0; i < length; i++) {
        to[i] = (unsigned char)tag[i] < ' ' ? ' ' : tag[i];
    }
    to[length] = '\0';
}

static enum status append(struct import_sink *sink)
{
    if (sink->num_requests == sink->requests_capacity) {
        int64_t capacity = sink->requests_capacity == 0 ? 1024 : sink->requests_capacity * 2;
        void *larger = realloc(sink->requests, (size_t)capacity * sizeof *sink->requests);
        if (larger == NULL) {
            return error_add(sink->error, STATUS_NO_MEMORY, "no memory for %lld requests",
                             (long long)capacity);
        }
        sink->requests = larger;
        sink->requests_capacity = capacity;
    }
    sink->requests[sink->num_requests] = (struct trace_request){.arrival_s = 0.0};
    sink->request_now = sink->num_requests++;
    return STATUS_OK;
}

enum status import_request(struct import_sink *sink, const char *tag, int32_t prompt_tokens,
                           double arrival_s)
{
    if (sink->pass == IMPORT_SURVEY || sink->requests_listed) {
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (sink->num_requests == 0 && sink->num_tokens_kept > 0) {
        status = append(sink); /* the rows until here are somebody's too */
        if (status == STATUS_OK) {
            sink->requests[0].num_rows = sink->num_tokens_kept;
            for (int32_t i = 0; i < IMPORT_RUN_TOKENS; i++) {
                sink->tail_request[i] = 0;
            }
        }
    }
    if (status == STATUS_OK) {
        status = append(sink);
    }
    if (status == STATUS_OK) {
        struct trace_request *request = &sink->requests[sink->request_now];
        copy_tag(request->tag, tag != NULL ? tag : "");
        request->prompt_tokens = prompt_tokens;
        request->arrival_s = arrival_s;
    }
    return status;
}

void import_requests_finish(struct import_sink *sink)
{
    int64_t kept = 0;
    int64_t row = 0;
    for (int64_t i = 0; i < sink->num_requests; i++) {
        struct trace_request request = sink->requests[i];
        if (request.num_rows > 0) {
            request.row_offset = row;
            row += request.num_rows;
            sink->requests[kept++] = request;
        }
    }
    import_drop(sink, "requests of which no row is left", sink->num_requests - kept);
    sink->num_requests = kept;
}
