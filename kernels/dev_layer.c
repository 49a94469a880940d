/* dev_layer.c -- the layer's memory and the order of its kernels; see dev_layer.h. */
#include "dev_layer.h"

#include <stdlib.h>

#include "dev_memory.h"
#include "dev_record.h"
#include "dev_shared.h"
#include "lt_gemm.h"
#include "moe_kernels.h"

struct dev_layer {
    struct dev_weights weights;
    struct dev_layer_options options;
    struct permute_shape permute;
    struct dev_layer_route route;
    struct dev_shared shared;
    struct dev_memory memory;
    enum status (*replace)(void *context, enum dev_phase phase, cudaStream_t stream);
    void *replace_context;
    struct lt lt;
    struct lt_gemm router;
    void *permute_work;
    void *workspace; /* of the grouped GEMMs */
    int64_t workspace_bytes;
};

const char *dev_phase_name(enum dev_phase phase)
{
    static const char *const names[] = {"router",  "gate", "permute", "rows",
                                        "gate_up", "down", "combine"};
    return names[phase];
}

const struct dev_layer_route *dev_layer_route(const struct dev_layer *layer)
{
    return &layer->route;
}

int64_t dev_layer_bytes(const struct dev_layer *layer)
{
    return layer->memory.bytes;
}

static void take_route(struct dev_layer *layer)
{
    const struct moe_layer *shape = &layer->weights.layer;
    struct dev_layer_route *route = &layer->route;
    int64_t choices = (int64_t)layer->permute.num_tokens * layer->permute.top_k;
    int64_t experts = layer->permute.num_experts;
    int64_t rows = permute_rows_max(layer->permute);
    struct dev_memory *memory = &layer->memory;
    route->logits = dev_alloc(memory, layer->permute.num_tokens * experts * 4);
    route->expert = dev_alloc(memory, choices * 4);
    route->gate_weight = dev_alloc(memory, choices * 4);
    route->num_rows = dev_alloc(memory, experts * 4);
    route->row_begin = dev_alloc(memory, (experts + 1) * 4);
    route->row_of = dev_alloc(memory, choices * 4);
    route->token_of = dev_alloc(memory, rows * 4);
    route->x = dev_alloc_activations(memory, shape->dtype, rows, shape->expert.hidden_dim);
    route->h = dev_alloc_activations(memory, shape->dtype, rows, shape->expert.ffn_dim);
    route->y = dev_alloc_activations(memory, DTYPE_BF16, rows, shape->expert.hidden_dim);
    layer->permute_work = dev_alloc(memory, dev_permute_work(layer->permute));
    layer->workspace = dev_alloc(memory, layer->workspace_bytes);
}

static enum status create(struct dev_layer *layer)
{
    const struct moe_layer *from = &layer->weights.layer;
    take_route(layer);
    if (layer->memory.failed) {
        return STATUS_CUDA;
    }
    struct lt_shape router = {layer->permute.num_tokens, layer->permute.num_experts,
                              from->expert.hidden_dim, DTYPE_FP32, false};
    enum status status = lt_open(&layer->lt);
    status = status == STATUS_OK
                 ? lt_gemm_plan(&layer->router, &layer->lt, router, from->router_bias)
                 : status;
    status = status == STATUS_OK
                 ? dev_grouped_gemm_workspace_init(layer->workspace, layer->workspace_bytes, NULL)
                 : status;
    status = status == STATUS_OK
                 ? dev_shared_create(&layer->shared, from, layer->permute.num_tokens,
                                     layer->workspace_bytes)
                 : status;
    return status == STATUS_OK && cudaDeviceSynchronize() != cudaSuccess ? STATUS_CUDA : status;
}

enum status dev_layer_create(struct dev_layer **made, const struct dev_weights *weights,
                             int32_t num_tokens, const struct dev_layer_options *options,
                             struct error *error)
{
    const struct moe_layer *from = &weights->layer;
    int32_t row_align = options->row_align > 0 ? options->row_align : 1;
    struct permute_shape permute = {num_tokens, from->gate.top_k, from->expert.num_experts,
                                    row_align};
    *made = NULL;
    if (num_tokens < 1 || !permute_shape_valid(permute) || !gate_rule_valid(&from->gate) ||
        from->gate.num_experts != from->expert.num_experts || from->dtype == DTYPE_FP32) {
        return error_add(error, STATUS_INVALID, "a layer of this shape cannot be run on the GPU");
    }
    struct dev_layer *layer = calloc(1, sizeof *layer);
    if (layer == NULL) {
        return STATUS_NO_MEMORY;
    }
    layer->weights = *weights;
    layer->options = *options;
    layer->permute = permute;
    layer->workspace_bytes = dev_grouped_gemm_workspace_bytes();
    enum status status = create(layer);
    if (status != STATUS_OK) {
        error_add(error, status, "the layer's %.1f GiB of buffers or its plans cannot be made: %s",
                  (double)layer->memory.bytes / 0x1p30, cudaGetErrorString(cudaGetLastError()));
        dev_layer_free(layer);
        return status;
    }
    *made = layer;
    return STATUS_OK;
}

void dev_layer_free(struct dev_layer *layer)
{
    if (layer == NULL) {
        return;
    }
    dev_shared_free(&layer->shared);
    lt_gemm_free(&layer->router);
    lt_close(&layer->lt);
    dev_memory_free(&layer->memory);
    free(layer);
}

/* ---- running ---- */

/* What a run works on. */
struct run {
    struct matrix out;
    struct matrix x;
    const int32_t *expert;
    const float *gate_weight;
};

static enum status run_experts(struct dev_layer *layer, enum dev_phase phase, cudaStream_t stream)
{
    const struct moe_layer *from = &layer->weights.layer;
    const struct dev_layer_route *route = &layer->route;
    bool up = phase == DEV_PHASE_GATE_UP;
    struct grouped_gemm_run run = {.version = up ? layer->options.gate_up : layer->options.down,
                                   .num_sms = layer->options.num_sms,
                                   .rows = permute_rows_max(layer->permute),
                                   .expected_rows =
                                       (int64_t)layer->permute.num_tokens * layer->permute.top_k,
                                   .without = layer->options.without,
                                   .workspace = layer->workspace,
                                   .workspace_bytes = layer->workspace_bytes};
    return up ? dev_grouped_gate_up(from->expert, route->h, route->x, route->row_begin,
                                    route->num_rows, from->gate_up, from->gate_up_bias, &run,
                                    stream)
              : dev_grouped_down(from->expert, route->y, route->h, route->row_begin,
                                 route->num_rows, from->down, from->down_bias, &run, stream);
}

static enum status run_phase(struct dev_layer *layer, enum dev_phase phase, const struct run *run,
                             cudaStream_t stream)
{
    const struct moe_layer *from = &layer->weights.layer;
    const struct dev_layer_route *route = &layer->route;
    struct combine_shape shape = {layer->permute.num_tokens, layer->permute.top_k,
                                  from->expert.hidden_dim};
    switch (phase) {
    case DEV_PHASE_ROUTER:
        return lt_gemm_run(&layer->router, &layer->lt, route->logits, run->x.data,
                           layer->weights.router, stream);
    case DEV_PHASE_GATE:
        return dev_gate(from->gate, shape.num_tokens, route->expert, route->gate_weight,
                        route->logits, from->choice_bias, stream);
    case DEV_PHASE_PERMUTE:
        return dev_permute(layer->permute, route->num_rows, route->row_begin, route->row_of,
                           route->token_of, run->expert, layer->permute_work, stream);
    case DEV_PHASE_ROWS:
        return dev_permute_rows(shape, route->x, run->x, route->row_of,
                                from->weigh_input ? run->gate_weight : NULL, stream);
    case DEV_PHASE_GATE_UP:
    case DEV_PHASE_DOWN:
        return layer->replace != NULL ? layer->replace(layer->replace_context, phase, stream)
                                      : run_experts(layer, phase, stream);
    case DEV_PHASE_COMBINE:
        return dev_combine(shape, run->out, route->y, route->row_of,
                           from->weigh_input ? NULL : run->gate_weight, layer->shared.y, stream);
    case DEV_PHASE_COUNT:
        break;
    }
    return STATUS_INVALID;
}

/* A matrix has no const data; x is only read. */
static struct run run_of(const struct dev_layer *layer, void *out, const void *x,
                         const int32_t *expert, const float *gate_weight)
{
    return (struct run){.out = {.dtype = DTYPE_BF16, .data = out},
                        .x = {.dtype = DTYPE_BF16, .data = (void *)(uintptr_t)x},
                        .expert = expert != NULL ? expert : layer->route.expert,
                        .gate_weight =
                            gate_weight != NULL ? gate_weight : layer->route.gate_weight};
}

enum status dev_layer_run_router(struct dev_layer *layer, const void *x, cudaStream_t stream)
{
    struct run run = run_of(layer, NULL, x, NULL, NULL);
    return run_phase(layer, DEV_PHASE_ROUTER, &run, stream);
}

void dev_layer_replace_experts(struct dev_layer *layer,
                               enum status (*run)(void *context, enum dev_phase phase,
                                                  cudaStream_t stream),
                               void *context)
{
    layer->replace = run;
    layer->replace_context = context;
}

enum status dev_layer_run(struct dev_layer *layer, void *out, const void *x, const int32_t *expert,
                          const float *gate_weight, const cudaEvent_t *mark, cudaStream_t stream)
{
    struct run run = run_of(layer, out, x, expert, gate_weight);
    enum status status = mark != NULL ? dev_record(mark[0], stream) : STATUS_OK;
    if (status == STATUS_OK) {
        status = dev_shared_fork(&layer->shared, run.x, layer->options.num_sms,
                                 layer->options.without, stream);
    }
    for (int phase = 0; phase < DEV_PHASE_COUNT && status == STATUS_OK; phase++) {
        if (phase == DEV_PHASE_COMBINE) {
            status = dev_shared_join(&layer->shared, stream);
        }
        if (status == STATUS_OK) {
            status = run_phase(layer, (enum dev_phase)phase, &run, stream);
        }
        if (status == STATUS_OK && mark != NULL) {
            status = dev_record(mark[phase + 1], stream);
        }
    }
    return status;
}
