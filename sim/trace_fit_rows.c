/* trace_fit_rows.c -- which requests a fit learns from, and their rows. */
#include "trace_fit_internal.h"

#define TOKENS_MAX      (INT64_C(1) << 18)
#define IDS_MAX         (INT64_C(1) << 26)
#define REQUESTS_MAX    2048
#define REQUESTS_MIN    32
#define TOKENS_MIN      4096
#define FACTOR_REQUESTS 8 /* requests that a factor wants */

static enum status no_memory(struct error *error)
{
    return error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
}

static enum status shape_check(const struct trace *trace, struct error *error)
{
    if (trace->num_experts > GENERATE_EXPERTS_MAX || trace->num_layers > GENERATE_LAYERS_MAX ||
        trace->top_k > GENERATE_TOP_K_MAX || trace->top_k >= trace->num_experts) {
        return error_add(
            error, STATUS_INVALID,
            "%s: a preset has at most %d experts, %d layers and top-%d, and top_k below "
            "the experts",
            trace->name, GENERATE_EXPERTS_MAX, GENERATE_LAYERS_MAX, GENERATE_TOP_K_MAX);
    }
    return STATUS_OK;
}

/* Counts requests of two rows or more and their rows, and decides how many are left out. */
static enum status plan(struct fit_rows *rows, const struct trace *trace, struct error *error)
{
    int64_t usable = 0;
    int64_t tokens = 0;
    for (int64_t i = 0; i < trace->num_requests; i++) {
        usable += trace->requests[i].num_rows >= 2;
        tokens += trace->requests[i].num_rows >= 2 ? trace->requests[i].num_rows : 0;
    }
    if (usable < REQUESTS_MIN || tokens < TOKENS_MIN) {
        return error_add(error, STATUS_INVALID,
                         "%s: %lld requests of two rows or more with %lld tokens: a fit needs %d "
                         "requests and %d tokens%s",
                         trace->name, (long long)usable, (long long)tokens, REQUESTS_MIN,
                         TOKENS_MIN,
                         trace->num_requests == 0 ? "; the trace has no requests.csv" : "");
    }
    int64_t ids = tokens * trace->num_layers * trace->top_k;
    int64_t every = 1;
    while (usable / every > REQUESTS_MAX || tokens / every > TOKENS_MAX || ids / every > IDS_MAX) {
        every++;
    }
    rows->every = (int32_t)every;
    return STATUS_OK;
}

static void requests_choose(struct fit_rows *rows, const struct trace *trace)
{
    int64_t usable = 0;
    for (int64_t i = 0; i < trace->num_requests; i++) {
        if (trace->requests[i].num_rows < 2) {
            continue;
        }
        if (usable++ % rows->every == 0) {
            rows->request[rows->num_requests] = i;
            rows->begin[rows->num_requests++] = rows->num_tokens;
            rows->num_tokens += trace->requests[i].num_rows;
        }
    }
    rows->begin[rows->num_requests] = rows->num_tokens;
}

/* Copies a request's rows of a layer to token at. */
static enum status rows_copy(struct fit_rows *rows, const struct trace *trace, int32_t layer,
                             const struct trace_request *request, int64_t at, struct error *error)
{
    int32_t expert[GENERATE_TOP_K_MAX];
    uint16_t *to = rows->expert + ((int64_t)layer * rows->num_tokens + at) * rows->top_k;
    for (int64_t i = 0; i < request->num_rows; i++) {
        int64_t row = request->row_offset + i;
        enum status status = trace_read(trace, expert, NULL, layer, &row, 1, error);
        if (status != STATUS_OK) {
            return status;
        }
        for (int32_t k = 0; k < rows->top_k; k++) {
            if (expert[k] == EXPERT_NOT_ROUTED) {
                return error_add(error, STATUS_INVALID,
                                 "%s: layer %d, token %lld: not routed; a fit needs an expert for "
                                 "each choice",
                                 trace->name, trace->model_layer[layer], (long long)row);
            }
            *to++ = (uint16_t)expert[k];
        }
    }
    return STATUS_OK;
}

enum status fit_rows_take(struct fit_rows *rows, const struct trace *trace, struct error *error)
{
    *rows = (struct fit_rows){
        .num_layers = trace->num_layers, .num_experts = trace->num_experts, .top_k = trace->top_k};
    enum status status = shape_check(trace, error);
    if (status == STATUS_OK) {
        status = plan(rows, trace, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t requests = (size_t)trace->num_requests;
    rows->begin = arena_alloc(&rows->arena, requests + 1, sizeof *rows->begin);
    rows->request = arena_alloc(&rows->arena, requests, sizeof *rows->request);
    if (rows->begin == NULL || rows->request == NULL) {
        return no_memory(error);
    }
    requests_choose(rows, trace);
    int32_t factors = rows->num_requests / FACTOR_REQUESTS;
    rows->num_factors = factors < FIT_FACTORS ? factors : FIT_FACTORS;
    size_t ids = (size_t)rows->num_layers * (size_t)rows->num_tokens * (size_t)rows->top_k;
    rows->expert = arena_alloc(&rows->arena, ids, sizeof *rows->expert);
    rows->factor = arena_alloc(&rows->arena, (size_t)rows->num_requests * (size_t)rows->num_factors,
                               sizeof *rows->factor);
    if (rows->expert == NULL || rows->factor == NULL) {
        return no_memory(error);
    }
    for (int32_t layer = 0; status == STATUS_OK && layer < rows->num_layers; layer++) {
        for (int32_t i = 0; status == STATUS_OK && i < rows->num_requests; i++) {
            status = rows_copy(rows, trace, layer, &trace->requests[rows->request[i]],
                               rows->begin[i], error);
        }
    }
    return status;
}
