/*
 * small_trace.c -- the trace that the trace tests write, break and read.
 */
#include "small_trace.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const int32_t small_model_layer[SMALL_LAYERS] = {3, 5};

const int32_t small_ids[SMALL_LAYERS][SMALL_TOKENS][SMALL_TOP_K] = {
    {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {7, 0}},
    {{1, 0}, {1, 2}, {1, EXPERT_NOT_ROUTED}, {1, 4}, {EXPERT_NOT_ROUTED, EXPERT_NOT_ROUTED}},
};

const float small_weights[SMALL_LAYERS][SMALL_TOKENS][SMALL_TOP_K] = {
    {{0.75f, 0.25f}, {0.5f, 0.5f}, {1.0f, 0.0f}, {2.5f, 0.125f}, {0.25f, 0.25f}},
    {{0.75f, 0.25f}, {0.5f, 0.5f}, {1.0f, 0.0f}, {2.5f, 0.125f}, {0.25f, 0.25f}},
};

struct error small_error;
static char directory[] = "/tmp/moesim_trace_XXXXXX";
char small_path[64];

void small_make_directory(void)
{
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(small_path, sizeof small_path, "%s/small", directory);
}

void small_remove_directory(void)
{
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

struct trace_description small_description(void)
{
    return (struct trace_description){
        .model = "tiny \"one\"",
        .num_experts = 8,
        .top_k = SMALL_TOP_K,
        .num_layers = SMALL_LAYERS,
        .model_layer = small_model_layer,
        .tokens_per_shard = 2,
        .has_gate_weights = true,
        .has_gaps = true,
        .origin = "mock",
        .source = "made up: here",
        .licence = "CC0",
    };
}

/* The requests of the small trace: rows 0 to 2 and 3 to 4. */
void small_requests(struct trace_request requests[2])
{
    requests[0] = (struct trace_request){
        .tag = "a, \"b\"", .arrival_s = 0.1, .prompt_tokens = 7, .row_offset = 0, .num_rows = 3};
    requests[1] =
        (struct trace_request){.tag = "", .arrival_s = 2.0, .row_offset = 3, .num_rows = 2};
}

/* Appends the small trace a shard at a time. */
void small_append(struct trace_writer *writer, bool with_weights)
{
    for (int64_t first = 0; first < SMALL_TOKENS; first += 2) {
        int64_t count = first + 2 <= SMALL_TOKENS ? 2 : 1;
        int32_t expert[SMALL_LAYERS * 2 * SMALL_TOP_K];
        float gate_weight[SMALL_LAYERS * 2 * SMALL_TOP_K];
        for (int64_t layer = 0; layer < SMALL_LAYERS; layer++) {
            for (int64_t i = 0; i < count * SMALL_TOP_K; i++) {
                int64_t token = first + i / SMALL_TOP_K;
                expert[layer * count * SMALL_TOP_K + i] = small_ids[layer][token][i % SMALL_TOP_K];
                gate_weight[layer * count * SMALL_TOP_K + i] =
                    small_weights[layer][token][i % SMALL_TOP_K];
            }
        }
        cr_assert_eq(trace_writer_append(writer, expert, with_weights ? gate_weight : NULL, count,
                                         &small_error),
                     STATUS_OK, "%s", small_error.text);
    }
}

void small_write(void)
{
    struct trace_description description = small_description();
    struct trace_request requests[2];
    struct trace_writer *writer;
    small_requests(requests);
    cr_assert_eq(trace_writer_open(&writer, small_path, &description, true, &small_error),
                 STATUS_OK, "%s", small_error.text);
    small_append(writer, true);
    cr_assert_eq(trace_writer_finish(writer, requests, 2, &small_error), STATUS_OK, "%s",
                 small_error.text);
}

void small_write_text(const char *name, const char *text)
{
    char file_path[128];
    (void)snprintf(file_path, sizeof file_path, "%s/%s", small_path, name);
    FILE *file = fopen(file_path, "wb");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

void small_write_array(const char *name, enum npy_type type, int32_t num_dims, const int64_t *dim,
                       const void *data)
{
    char file_path[128];
    struct npy_writer writer;
    size_t bytes = (size_t)npy_type_bytes(type);
    for (int32_t i = 0; i < num_dims; i++) {
        bytes *= (size_t)dim[i];
    }
    (void)snprintf(file_path, sizeof file_path, "%s/%s", small_path, name);
    cr_assert_eq(npy_writer_open(&writer, file_path, type, num_dims, dim, &small_error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, data, bytes, &small_error), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, &small_error), STATUS_OK);
}

bool small_exists(const char *name)
{
    char file_path[128];
    (void)snprintf(file_path, sizeof file_path, "%s/%s", directory, name);
    return access(file_path, F_OK) == 0;
}

/* Opening fails with exactly these parts, one a problem, in this order. */
void small_expect_refused(const char *first, const char *second)
{
    struct trace trace;
    small_error = (struct error){0};
    cr_expect_neq(trace_open(&trace, small_path, &small_error), STATUS_OK);
    cr_expect_eq(small_error.num_problems, second == NULL ? 1 : 2, "%s", small_error.text);
    const char *found = strstr(small_error.text, first);
    cr_expect_not_null(found, "'%s' not in: %s", first, small_error.text);
    cr_expect_eq(strncmp(small_error.text, small_path, strlen(small_path)), 0, "%s",
                 small_error.text);
    if (second != NULL && found != NULL) {
        cr_expect_not_null(strstr(found, second), "'%s' not in: %s", second, small_error.text);
    }
    trace_close(&trace);
}
