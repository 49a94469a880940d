/*
 * step_time_point.c -- one point of the table: the engine's steps, less attention and head.
 */
#include <math.h>

#include "engine.h"
#include "place.h"
#include "serve/step_time_internal.h"

#define TOKENS_SAMPLED 16384 /* of a point, all ranks and steps together */
#define STEPS_MIN      1
#define STEPS_MAX      16
#define WARM_UP_STEPS  16
#define GEMMS_MAX      131072 /* a megabyte */

static const int32_t contexts[STEP_CONTEXTS] = {1, 4096, 32768};

enum status step_keep_gemms(struct step_time *step_time, int64_t tokens_max)
{
    if (step_time->scenario.gpu_model->gemms_ns == NULL) {
        return STATUS_OK;
    }
    int32_t most = tokens_max < GEMMS_MAX ? (int32_t)tokens_max : GEMMS_MAX;
    step_time->gemms_ns =
        arena_alloc(&step_time->arena, (size_t)most + 1, sizeof *step_time->gemms_ns);
    step_time->gemms_max = step_time->gemms_ns != NULL ? most : 0;
    return step_time->gemms_ns != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

/* Of a layer, all kinds alike. Threads that ask at once find the same. */
static double gemms_ns(const struct step_time *step_time, const struct gpu_work *work)
{
    if (work->tokens > step_time->gemms_max) {
        return 0.0;
    }
    const struct scenario *scenario = &step_time->scenario;
    _Atomic double *kept = &step_time->gemms_ns[work->tokens];
    double ns = atomic_load_explicit(kept, memory_order_relaxed);
    if (ns <= 0.0) {
        ns = scenario->gpu_model->gemms_ns(&scenario->cluster.gpu, work);
        atomic_store_explicit(kept, ns, memory_order_relaxed);
    }
    return ns;
}

static double attention_work_ns(const struct step_time *step_time, struct gpu_work *work)
{
    const struct scenario *scenario = &step_time->scenario;
    work->gemms_ns = gemms_ns(step_time, work);
    return scenario->gpu_model->duration_ns(&scenario->cluster.gpu, work);
}

static double attention_span_ns(const struct step_time *step_time,
                                const struct attention_span *kind, const struct step_load *load,
                                bool prefill)
{
    const struct scenario *scenario = &step_time->scenario;
    struct gpu_work work = {.phase = GPU_ATTENTION,
                            .model = &scenario->model,
                            .layer = kind->layer,
                            .prefill = prefill,
                            .shards = scenario->tp};
    if (prefill) {
        int64_t attended = load->prefill_tokens * kind->window;
        int64_t context = load->prefill_tokens + kind->window;
        work.tokens = load->prefill_tokens;
        work.attended_tokens =
            attended < load->prefill_attended ? attended : load->prefill_attended;
        work.context_tokens = context < load->prefill_context ? context : load->prefill_context;
    } else {
        int64_t context = load->sequences * kind->window;
        context = context < load->context_tokens ? context : load->context_tokens;
        work.tokens = load->decode_tokens;
        work.attended_tokens = context * (load->decode_tokens / load->sequences);
        work.context_tokens = context;
    }
    return attention_work_ns(step_time, &work);
}

static double projections_ns(const struct step_time *step_time, const struct attention_span *kind,
                             int32_t tokens)
{
    const struct scenario *scenario = &step_time->scenario;
    struct gpu_work work = {.phase = GPU_ATTENTION,
                            .model = &scenario->model,
                            .layer = kind->layer,
                            .shards = scenario->tp,
                            .tokens = tokens};
    return attention_work_ns(step_time, &work);
}

static double layers_ns(const struct step_time *step_time, const struct step_load *load)
{
    double sum_ns = 0.0;
    for (int32_t i = 0; i < step_time->num_kinds; i++) {
        const struct attention_span *kind = &step_time->kind[i];
        double layer_ns = 0.0;
        if (load->decode_tokens > 0) {
            layer_ns += attention_span_ns(step_time, kind, load, false);
        }
        if (load->prefill_tokens > 0) {
            layer_ns += attention_span_ns(step_time, kind, load, true);
        }
        if (load->decode_tokens > 0 && load->prefill_tokens > 0) { /* projections run once */
            double apart_ns = projections_ns(step_time, kind, load->decode_tokens) +
                              projections_ns(step_time, kind, load->prefill_tokens);
            double once_ns =
                projections_ns(step_time, kind, load->decode_tokens + load->prefill_tokens);
            layer_ns -= fmax(0.0, apart_ns - once_ns);
        }
        sum_ns += layer_ns * kind->num_layers;
    }
    return sum_ns;
}

/* The part of a sum that falls to one of count that share it evenly. */
static int64_t share(int64_t sum, int32_t part, int32_t count)
{
    return sum * (part + 1) / count - sum * part / count;
}

/* Of one micro-batch of count. */
static struct step_load micro_batch(const struct step_load *load, int32_t part, int32_t count)
{
    int64_t sequences = share(load->sequences, part, count);
    return (struct step_load){
        .sequences = (int32_t)sequences,
        .decode_tokens = load->sequences > 0
                             ? (int32_t)(sequences * (load->decode_tokens / load->sequences))
                             : 0,
        .context_tokens = share(load->context_tokens, part, count),
        .prefill_tokens = (int32_t)share(load->prefill_tokens, part, count),
        .prefill_attended = share(load->prefill_attended, part, count),
        .prefill_context = share(load->prefill_context, part, count),
    };
}

double step_attention_ns(const struct step_time *step_time, const struct step_load *load)
{
    const struct scenario *scenario = &step_time->scenario;
    int64_t tokens = (int64_t)load->decode_tokens + load->prefill_tokens;
    int32_t count = tokens < (int64_t)scenario->micro_batches * scenario->chunks * scenario->tp
                        ? 1
                        : scenario->micro_batches;
    double sum_ns = 0.0;
    for (int32_t part = 0; part < count; part++) {
        struct step_load one = micro_batch(load, part, count);
        sum_ns += layers_ns(step_time, &one);
    }
    return sum_ns * step_time->slowdown;
}

double step_head_ns(const struct step_time *step_time, const struct step_load *load)
{
    const struct scenario *scenario = &step_time->scenario;
    const struct gpu_work work = engine_head_work(scenario, load->head_tokens);
    return scenario->gpu_model->duration_ns(&scenario->cluster.gpu, &work) * step_time->slowdown +
           engine_logits_ns(scenario, load->head_tokens);
}

/* What the engine's ranks do in a step with this context, replica by replica; few: tokens of all
 * ranks, where they are fewer: the fullest replica's. */
static struct step_load engine_load(const struct scenario *scenario, int32_t context, int32_t few)
{
    int64_t tokens = (int64_t)scenario->tokens_per_rank * scenario->tp;
    if (few > 0) {
        int32_t replicas = scenario->ep / scenario->tp;
        tokens = (few + replicas - 1) / replicas;
    }
    struct step_load load = {0};
    if (scenario->phase == PHASE_PREFILL) {
        load.prefill_tokens = (int32_t)tokens;
        load.prefill_attended = tokens * ((context + 1) / 2);
        load.prefill_context = tokens;
        load.head_tokens = engine_head_tokens(scenario, (int32_t)tokens);
        return load;
    }
    load.sequences = (int32_t)tokens;
    load.decode_tokens = (int32_t)tokens;
    load.context_tokens = tokens * context;
    load.head_tokens = engine_head_tokens(scenario, (int32_t)tokens);
    return load;
}

/* The scenario of a run: steps of equal length, whatever fits into memory. */
static struct scenario run_scenario(const struct step_time *step_time, int32_t tokens_per_rank,
                                    int32_t context)
{
    struct scenario scenario = step_time->scenario;
    int64_t step_tokens = (int64_t)tokens_per_rank * scenario.ep;
    int64_t steps = TOKENS_SAMPLED / step_tokens;
    scenario.num_steps = steps < STEPS_MIN ? STEPS_MIN : steps > STEPS_MAX ? STEPS_MAX : steps;
    scenario.tokens_per_rank = tokens_per_rank;
    scenario.context_tokens = context;
    scenario.memory_fraction = 1e6; /* a table knows no sequences; whoever asks it does */
    if (tokens_per_rank < scenario.micro_batches * scenario.chunks) {
        scenario.micro_batches = 1;
        scenario.chunks = 1;
    }
    if (step_time->has_trace && step_tokens * scenario.num_steps > step_time->trace.num_tokens) {
        scenario.batching = BATCHING_INTERLEAVED; /* which may go through the trace again */
    }
    return scenario;
}

/* Mean step and the part of it that follows a rank's own tokens. */
static enum status run_engine(const struct scenario *scenario, const struct trace *trace,
                              double *step_ns, double *own_ns, struct error *error)
{
    static const enum step_phase own[] = {STEP_DENSE, STEP_GATE, STEP_DISPATCH, STEP_COMBINE,
                                          STEP_EXCHANGE};
    struct engine *engine = NULL;
    enum status status = engine_open(&engine, scenario, trace, error);
    if (status == STATUS_OK) {
        status = engine_run(engine, NULL, error);
    }
    *step_ns = 0.0;
    *own_ns = 0.0;
    if (status == STATUS_OK) {
        const struct run_metrics *metrics = engine_metrics(engine);
        for (int32_t window = 0; window < metrics->num_windows; window++) {
            *step_ns += (double)metrics->window[window].step_ns_sum;
            for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
                *own_ns += metrics->window[window].phase_ns[own[i]];
            }
        }
        *step_ns /= (double)metrics->num_steps;
        *own_ns /= (double)metrics->num_steps;
    }
    engine_close(engine);
    return status;
}

/* Tokens of all ranks, where they are fewer than ranks; else 0. */
static int32_t few_tokens(const struct step_point *point, int32_t num_ranks)
{
    return point->ranks_per_token > 1 ? num_ranks / point->ranks_per_token : 0;
}

/* A view of the trace as if steps of so many tokens had been recorded. step_begin [STEPS_MAX + 1].
 */
static struct trace record_steps(const struct trace *trace, int64_t *step_begin, int32_t tokens)
{
    struct trace view = *trace;
    int64_t steps = trace->num_tokens / tokens;
    view.num_steps = steps < STEPS_MAX ? steps : STEPS_MAX;
    view.step_begin = step_begin;
    for (int64_t step = 0; step <= view.num_steps; step++) {
        step_begin[step] = step * tokens;
    }
    return view;
}

enum status step_point_run(struct step_point *point, const struct step_time *step_time,
                           struct error *error)
{
    const int32_t few = few_tokens(point, step_time->scenario.ep);
    int64_t step_begin[STEPS_MAX + 1];
    double first_attention_ns = 0.0;
    struct trace trace = step_time->trace;
    if (few > 0) {
        trace = record_steps(&step_time->trace, step_begin, few);
    }
    for (int32_t i = 0; i < step_time->num_contexts; i++) {
        struct scenario scenario = run_scenario(step_time, point->tokens_per_rank, contexts[i]);
        struct step_load load = engine_load(&scenario, contexts[i], few);
        double attention_ns = step_attention_ns(step_time, &load);
        double head_ns = step_head_ns(step_time, &load);
        double step_ns = 0.0;
        double own_ns = 0.0;
        enum status status =
            run_engine(&scenario, step_time->has_trace ? &trace : NULL, &step_ns, &own_ns, error);
        if (status != STATUS_OK) {
            return status;
        }
        if (i == 0) {
            first_attention_ns = attention_ns;
            point->own_ns = fmax(1.0, own_ns - head_ns);
        }
        point->extra_ns[i] = attention_ns - first_attention_ns;
        point->rest_ns[i] = fmax(1.0, step_ns - attention_ns - head_ns);
    }
    return STATUS_OK;
}

struct loads {
    const struct moe_model *model;
    struct load_file file;
};

static enum status note_load(void *context, int64_t step, int32_t layer,
                             const int64_t *expert_tokens, int32_t num_experts, struct error *error)
{
    const struct loads *loads = context;
    const struct load_file *file = &loads->file;
    int32_t moe_layer = 0;
    (void)error; /* nothing can fail */
    for (int32_t before = 0; before < layer; before++) {
        moe_layer += model_layer_is_moe(loads->model, before);
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        int64_t at = (int64_t)moe_layer * num_experts + expert;
        file->load_tokens[at] += expert_tokens[expert];
        file->step_tokens[step * file->num_layers * num_experts + at] +=
            (int32_t)expert_tokens[expert];
    }
    return STATUS_OK;
}

static enum status count_loads(struct step_time *step_time, struct loads *loads,
                               struct error *error)
{
    struct load_file *file = &loads->file;
    size_t row = (size_t)file->num_layers * (size_t)file->num_experts;
    file->load_tokens = arena_alloc(&step_time->arena, row, sizeof *file->load_tokens);
    file->step_tokens =
        arena_alloc(&step_time->arena, row * WARM_UP_STEPS, sizeof *file->step_tokens);
    if (file->load_tokens == NULL || file->step_tokens == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct scenario scenario = run_scenario(step_time, step_time->scenario.tokens_per_rank, 1);
    scenario.num_steps = WARM_UP_STEPS;
    scenario.batching = BATCHING_INTERLEAVED;
    const struct engine_observer observer = {.context = loads, .layer_load = note_load};
    struct engine *engine = NULL;
    enum status status = engine_open(&engine, &scenario, &step_time->trace, error);
    if (status == STATUS_OK) {
        status = engine_run(engine, &observer, error);
    }
    engine_close(engine);
    return status;
}

enum status step_place(struct step_time *step_time, struct error *error)
{
    struct scenario *scenario = &step_time->scenario;
    const struct moe_model *model = &scenario->model;
    struct loads loads = {.model = model,
                          .file = {.num_steps = WARM_UP_STEPS,
                                   .num_layers = model_num_moe_layers(model),
                                   .num_experts = model->num_experts}};
    const struct place_options options = {.strategy = scenario->strategy,
                                          .num_slots =
                                              model->num_experts + scenario->redundant_experts,
                                          .num_ranks = scenario_expert_groups(scenario),
                                          .num_nodes = scenario_group_nodes(scenario),
                                          .num_groups = model->num_expert_groups,
                                          .expert_bytes = scenario_expert_bytes(scenario)};
    struct place_result result;
    enum status status = count_loads(step_time, &loads, error);
    if (status == STATUS_OK) {
        status = place(&result, &options, &loads.file, scenario->initial_expert_of_slot,
                       &step_time->arena, error);
    }
    if (status == STATUS_OK) {
        scenario->initial_expert_of_slot = result.expert_of_slot;
    }
    return status;
}
