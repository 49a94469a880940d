/* plan_world.c -- what every point of a search needs and none changes: the trace and its loads. */
#include <string.h>

#include "plan_internal.h"
#include "simulate.h"

#define LOAD_STEPS 16 /* parts of the trace, for strategies that look at single steps */
#define TRACE_TOKENS                                                                               \
    131072 /* of a generated trace, whatever the points, so that all stay valid                    \
            */

static enum status count_loads(struct plan_world *world, struct error *error)
{
    const struct trace *trace = &world->trace;
    struct load_file *load = &world->load;
    size_t row = (size_t)trace->num_layers * (size_t)trace->num_experts;
    load->num_steps = trace->num_tokens < LOAD_STEPS ? 1 : LOAD_STEPS;
    load->num_layers = trace->num_layers;
    load->num_experts = trace->num_experts;
    load->load_tokens = arena_alloc(&world->arena, row, sizeof *load->load_tokens);
    load->step_tokens =
        arena_alloc(&world->arena, row * (size_t)load->num_steps, sizeof *load->step_tokens);
    int64_t *counted = arena_alloc(&world->arena, (size_t)trace->num_experts, sizeof *counted);
    if (load->load_tokens == NULL || load->step_tokens == NULL || counted == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t step = 0; step < load->num_steps; step++) {
        int64_t first = trace->num_tokens * step / load->num_steps;
        int64_t end = trace->num_tokens * (step + 1) / load->num_steps;
        for (int32_t layer = 0; layer < trace->num_layers; layer++) {
            memset(counted, 0, (size_t)trace->num_experts * sizeof *counted);
            enum status status = trace_count(trace, counted, layer, first, end - first, error);
            if (status != STATUS_OK) {
                return status;
            }
            for (int32_t expert = 0; expert < trace->num_experts; expert++) {
                size_t at = (size_t)layer * (size_t)trace->num_experts + (size_t)expert;
                load->load_tokens[at] += counted[expert];
                load->step_tokens[(size_t)step * row + at] = (int32_t)counted[expert];
            }
        }
    }
    return STATUS_OK;
}

enum status plan_world_open(struct plan_world *world, const struct plan *plan, int32_t num_threads,
                            struct error *error)
{
    struct scenario scenario = {.model = plan->model,
                                .ep = 1,
                                .expert_tp = 1,
                                .router = route_find("trace"),
                                .seed = plan->seed,
                                .trace_tokens = TRACE_TOKENS};
    *world = (struct plan_world){.plan = plan};
    memcpy(scenario.trace_path, plan->trace_path, sizeof scenario.trace_path);
    memcpy(scenario.trace_preset, plan->trace_preset, sizeof scenario.trace_preset);
    world->has_trace = model_num_moe_layers(&plan->model) > 0;
    enum status status = simulate_open_trace(&world->trace, &scenario, num_threads, error);
    if (status == STATUS_OK && world->has_trace) {
        world->trace.num_steps = 0; /* batches are of our own size, not as recorded */
        status = count_loads(world, error);
    }
    return status;
}

void plan_world_close(struct plan_world *world)
{
    trace_close(&world->trace);
    arena_free(&world->arena);
}
