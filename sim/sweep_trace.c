/* sweep_trace.c -- one opening of a trace for all points that want it at a time. */
#include <assert.h>
#include <stdlib.h>

#include "simulate.h"
#include "sweep_internal.h"

enum status sweep_traces_open(struct sweep_traces *traces, int32_t num_threads, struct error *error)
{
    *traces = (struct sweep_traces){.capacity = num_threads + 1};
    pthread_mutex_init(&traces->mutex, NULL);
    pthread_cond_init(&traces->opened, NULL);
    traces->entry = calloc((size_t)traces->capacity, sizeof *traces->entry);
    return traces->entry != NULL ? STATUS_OK : error_add(error, STATUS_NO_MEMORY, "out of memory");
}

void sweep_traces_close(struct sweep_traces *traces)
{
    for (int32_t i = 0; traces->entry != NULL && i < traces->capacity; i++) {
        trace_close(&traces->entry[i].trace);
    }
    free(traces->entry);
    if (traces->capacity > 0) {
        pthread_cond_destroy(&traces->opened);
        pthread_mutex_destroy(&traces->mutex);
    }
    *traces = (struct sweep_traces){0};
}

/* The entry of the scenario's trace, or the one that nobody has used for longest. */
static struct sweep_trace *find(struct sweep_traces *traces, const struct scenario *scenario,
                                bool *is_found)
{
    struct sweep_trace *idle = NULL;
    for (int32_t i = 0; i < traces->capacity; i++) {
        struct sweep_trace *entry = &traces->entry[i];
        *is_found = entry->last_use > 0 && entry->status == STATUS_OK &&
                    simulate_same_trace(scenario, &entry->key);
        if (*is_found) {
            return entry;
        }
        if (entry->num_users == 0 && (idle == NULL || entry->last_use < idle->last_use)) {
            idle = entry;
        }
    }
    assert(idle != NULL); /* there are more entries than threads */
    return idle;
}

enum status sweep_traces_take(struct sweep_traces *traces, const struct scenario *scenario,
                              const struct trace **trace, struct error *error)
{
    bool is_found = false;
    pthread_mutex_lock(&traces->mutex);
    struct sweep_trace *entry = find(traces, scenario, &is_found);
    entry->last_use = ++traces->num_uses;
    entry->num_users++;
    if (!is_found) {
        trace_close(&entry->trace);
        entry->key = *scenario;
        entry->is_open = false;
        entry->error = (struct error){0};
        pthread_mutex_unlock(&traces->mutex);
        enum status status = simulate_open_trace(&entry->trace, scenario, 1, &entry->error);
        pthread_mutex_lock(&traces->mutex);
        entry->status = status;
        entry->is_open = true;
        pthread_cond_broadcast(&traces->opened);
    }
    while (!entry->is_open) {
        pthread_cond_wait(&traces->opened, &traces->mutex);
    }
    enum status status = entry->status;
    *trace = &entry->trace;
    if (status != STATUS_OK) {
        if (error != NULL) {
            *error = entry->error;
        }
        entry->num_users--;
        *trace = NULL;
    }
    pthread_mutex_unlock(&traces->mutex);
    return status;
}

void sweep_traces_give(struct sweep_traces *traces, const struct trace *trace)
{
    if (trace == NULL) {
        return;
    }
    pthread_mutex_lock(&traces->mutex);
    for (int32_t i = 0; i < traces->capacity; i++) {
        traces->entry[i].num_users -= &traces->entry[i].trace == trace;
    }
    pthread_mutex_unlock(&traces->mutex);
}
