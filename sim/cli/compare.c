/* compare.c -- variants from their plan to the store: loaded, simulated one a thread, judged. */
#include "cli/compare.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "bound.h"
#include "directory.h"
#include "progress.h"

#define BOUND_STEPS 64 /* steps a run whose bounds are computed, evenly spread */

struct watch {
    struct progress progress;
    int64_t steps_done;
    int64_t steps_total;
};

/* What the observer of one variant knows. */
struct observed {
    struct watch *watch;
    struct variant *variant;
    struct arena scratch;
    int64_t bound_first; /* the first step that a strategy has had a hand in */
    int64_t bound_stride;
};

static bool step_done(void *context, int64_t step, int64_t num_steps)
{
    struct watch *watch = ((struct observed *)context)->watch;
    (void)step;
    (void)num_steps;
#pragma omp critical(moesim_progress)
    {
        watch->steps_done++;
        progress_update(&watch->progress, watch->steps_done, watch->steps_total);
    }
    return true;
}

/* Balancedness that a bound on the busiest rank leaves. */
static double bound_balancedness(const struct placement *placement, const int64_t *expert_tokens,
                                 double busiest_tokens)
{
    int64_t tokens = 0;
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        tokens += expert_tokens[expert];
    }
    double mean = (double)tokens / (double)placement->num_ranks;
    return (mean + 1e-5) / (busiest_tokens + 1e-5);
}

static enum status layer_placed(void *context, int64_t step, const int64_t *expert_tokens,
                                const struct placement *placement, struct error *error)
{
    struct observed *observed = context;
    struct variant *variant = observed->variant;
    if (step < observed->bound_first || step % observed->bound_stride != 0) {
        return STATUS_OK;
    }
    double any_placement = 0.0;
    double any_split = 0.0;
    arena_reset(&observed->scratch);
    enum status status =
        bound_any_placement(&any_placement, expert_tokens, placement->num_experts,
                            placement->num_slots, placement->num_ranks, &observed->scratch, error);
    if (status == STATUS_OK) {
        status = bound_any_split(&any_split, expert_tokens, placement, &observed->scratch, error);
    }
    if (status == STATUS_OK) {
        variant->bound_placement_sum += bound_balancedness(placement, expert_tokens, any_placement);
        variant->bound_split_sum += bound_balancedness(placement, expert_tokens, any_split);
        variant->num_bounds++;
    }
    return status;
}

static void simulate(struct variant *variant, struct watch *watch)
{
    int64_t num_steps = engine_metrics(variant->engine)->num_steps;
    int64_t first = variant->scenario.rebalance_interval_steps;
    struct observed observed = {.watch = watch,
                                .variant = variant,
                                .bound_first = first < num_steps ? first : 0,
                                .bound_stride = (num_steps + BOUND_STEPS - 1) / BOUND_STEPS};
    struct engine_observer observer = {.context = &observed,
                                       .step_done = step_done,
                                       .layer_placed = variant->wants_bounds ? layer_placed : NULL};
    enum status status = variant_run(variant, &observer);
    variant->left_out = status != STATUS_OK && variant->optional;
    arena_free(&observed.scratch);
}

enum status compare_simulate(struct variant *variants, int32_t count, int32_t num_threads,
                             struct error *error)
{
    struct watch watch = {0};
    for (int32_t index = 0; index < count; index++) {
        if (!variants[index].left_out) {
            watch.steps_total += engine_metrics(variants[index].engine)->num_steps;
        }
    }
    progress_begin(&watch.progress, "simulating", "steps");
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
    for (int32_t index = 0; index < count; index++) {
        if (!variants[index].left_out) {
            simulate(&variants[index], &watch);
        }
    }
    progress_end(&watch.progress);
    for (int32_t index = 0; index < count; index++) {
        if (variants[index].status != STATUS_OK && !variants[index].left_out) {
            *error = variants[index].error;
            return variants[index].status;
        }
    }
    return STATUS_OK;
}

/* A mistake in one variant is often one in all: tells those of the first that has any. */
static enum status load_all(struct variant *variants, const struct compare_plan *plan,
                            const struct cli_options *options, struct error *error)
{
    for (int32_t index = 0; index < plan->count; index++) {
        struct variant *variant = &variants[index];
        variant->optional = plan->planned[index].optional;
        variant->status =
            compare_plan_load(variant, &plan->planned[index], options, &variant->error);
        variant->left_out = variant->status != STATUS_OK && variant->optional;
        if (variant->status != STATUS_OK && !variant->optional) {
            *error = variant->error;
            return variant->status;
        }
    }
    return STATUS_OK;
}

static enum status open_all(struct variant *variants, int32_t count,
                            const struct cli_options *options, struct error *error)
{
    for (int32_t index = 0; index < count; index++) {
        struct variant *variant = &variants[index];
        if (variant->left_out) {
            continue;
        }
        variant->status =
            variant_open(variant, variants, index, cli_threads(options), &variant->error);
        variant->left_out = variant->status != STATUS_OK && variant->optional;
        if (variant->status != STATUS_OK && !variant->optional) {
            *error = variant->error;
            return variant->status;
        }
    }
    return STATUS_OK;
}

static double mean_bound(double sum, int64_t count)
{
    return count > 0 ? sum / (double)count : -1.0;
}

/* Judges what was not left out; study->run is the caller's to free. */
static enum status judge_all(struct study *study, const struct variant *variants, int32_t count)
{
    struct study_run *run = calloc((size_t)count, sizeof *run);
    if (run == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t num_runs = 0;
    for (int32_t index = 0; index < count; index++) {
        const struct variant *variant = &variants[index];
        if (variant->left_out) {
            continue;
        }
        run[num_runs++] = (struct study_run){
            .run_id = variant->run_id,
            .name = variant->name[0] != '\0' ? variant->name : variant->label,
            .group = variant->group,
            .is_strategy = variant->wants_bounds,
            .scenario = &variant->scenario,
            .metrics = variant->metrics,
            .totals = &variant->totals,
            .bound_placement = mean_bound(variant->bound_placement_sum, variant->num_bounds),
            .bound_split = mean_bound(variant->bound_split_sum, variant->num_bounds)};
    }
    enum status status = study_judge(study, run, num_runs);
    if (status != STATUS_OK) {
        free(run);
    }
    return status;
}

enum status compare_load(struct variant **variants, const struct compare_plan *plan,
                         const struct cli_options *options, struct error *error)
{
    *variants = calloc((size_t)plan->count, sizeof **variants);
    if (*variants == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = load_all(*variants, plan, options, error);
    for (int32_t index = 0; index < plan->count; index++) {
        struct variant *variant = &(*variants)[index];
        variant->wants_bounds =
            variant->name[0] != '\0' && strcmp(variant->name, variant->label) != 0;
    }
    return status;
}

void compare_close(struct variant *variants, int32_t count)
{
    for (int32_t index = variants != NULL ? count - 1 : -1; index >= 0; index--) {
        variant_close(&variants[index]);
    }
    free(variants);
}

enum status compare_judge(struct study *study, struct variant *variants, int32_t count,
                          const struct cli_options *options, struct error *error)
{
    enum status status = open_all(variants, count, options, error);
    if (status == STATUS_OK && options->report != NULL) {
        status = directory_check(options->report, error); /* not only when all is done */
    }
    if (status == STATUS_OK) {
        status = compare_simulate(variants, count, cli_threads(options), error);
    }
    return status == STATUS_OK ? judge_all(study, variants, count) : status;
}

const char *compare_winner(const struct study *study)
{
    return study->run[study->group[0].winner].run_id;
}

enum status compare_store(const struct study *study, struct variant *variants, int32_t count,
                          const char *results, struct error *error)
{
    struct store *store = NULL;
    enum status status = store_open_guarded(&store, results, error);
    for (int32_t index = 0; index < count && status == STATUS_OK; index++) {
        if (!variants[index].left_out) {
            status = variant_store(&variants[index], store, error);
        }
    }
    if (status == STATUS_OK) {
        status = store_study(store, study, error);
    }
    store_close(store);
    return status;
}
