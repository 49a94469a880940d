/* compare.c -- one simulation a thread. */
#include "cli/compare.h"

#include <omp.h>

#include "progress.h"

struct watch {
    struct progress progress;
    int64_t steps_done;
    int64_t steps_total;
};

static bool step_done(void *context, int64_t step, int64_t num_steps)
{
    struct watch *watch = context;
    (void)step;
    (void)num_steps;
#pragma omp critical(moesim_progress)
    {
        watch->steps_done++;
        progress_update(&watch->progress, watch->steps_done, watch->steps_total);
    }
    return true;
}

enum status compare_simulate(struct variant *variants, int32_t count, int32_t num_threads,
                             struct error *error)
{
    struct watch watch = {0};
    for (int32_t index = 0; index < count; index++) {
        watch.steps_total += engine_metrics(variants[index].engine)->num_steps;
    }
    struct engine_observer observer = {.context = &watch, .step_done = step_done};
    progress_begin(&watch.progress, "simulating", "steps");
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
    for (int32_t index = 0; index < count; index++) {
        enum status status = variant_run(&variants[index], &observer);
        (void)status; /* kept in the variant */
    }
    progress_end(&watch.progress);
    for (int32_t index = 0; index < count; index++) {
        if (variants[index].status != STATUS_OK) {
            *error = variants[index].error;
            return variants[index].status;
        }
    }
    return STATUS_OK;
}
