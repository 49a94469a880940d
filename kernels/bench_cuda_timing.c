/* bench_cuda_timing.c -- graphs, turns and events; see bench_gpu.h. */
#include "bench_gpu.h"

#include <stdlib.h>

#define SAMPLES_MIN 3
#define WARM_UPS    2

static enum status capture(struct gpu *gpu, struct gpu_contender *contender, int32_t input)
{
    cudaGraph_t graph = NULL;
    enum status status = STATUS_CUDA;
    /* Relaxed: libraries may allocate or load modules while they are captured. */
    if (cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeRelaxed) == cudaSuccess) {
        status =
            contender->work.launch(contender->work.context, contender->version, input, gpu->stream);
        if (cudaStreamEndCapture(gpu->stream, &graph) != cudaSuccess && status == STATUS_OK) {
            status = STATUS_CUDA;
        }
    }
    if (status == STATUS_OK &&
        cudaGraphInstantiate(&contender->graph[input], graph, 0) != cudaSuccess) {
        contender->graph[input] = NULL;
        status = STATUS_CUDA;
    }
    if (graph != NULL) {
        cudaGraphDestroy(graph);
    }
    if (status != STATUS_OK) {
        (void)cudaGetLastError();
    }
    return status;
}

/* One run before capture, so that modules are loaded and attributes set. */
static enum status prepare(struct gpu *gpu, struct gpu_contender *contender, int32_t num_inputs,
                           int32_t num_samples)
{
    contender->sample_ns = calloc((size_t)num_samples, sizeof *contender->sample_ns);
    if (contender->sample_ns == NULL) {
        return STATUS_NO_MEMORY;
    }
    contender->status =
        contender->work.launch(contender->work.context, contender->version, 0, gpu->stream);
    if (contender->status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess) {
        return STATUS_CUDA; /* a kernel went wrong: the context is gone */
    }
    for (int32_t input = 0; contender->status == STATUS_OK && input < num_inputs; input++) {
        enum status status = capture(gpu, contender, input);
        contender->direct = contender->direct || status == STATUS_CUDA;
        contender->status = status == STATUS_CUDA ? STATUS_OK : status;
    }
    return STATUS_OK;
}

static bool launch(struct gpu *gpu, struct gpu_contender *contender, int32_t input)
{
    return contender->direct ? contender->work.launch(contender->work.context, contender->version,
                                                      input, gpu->stream) == STATUS_OK
                             : cudaGraphLaunch(contender->graph[input], gpu->stream) == cudaSuccess;
}

/* The other program has its turn: it reads "turn", does its part and writes a line. At its end of
 * file there is nobody to wait for. */
static void take_turns(struct gpu *gpu)
{
    char line[16];
    if (gpu->turns) {
        puts("turn");
        fflush(stdout);
        gpu->turns = fgets(line, sizeof line, stdin) != NULL;
    }
}

static enum status time_once(struct gpu *gpu, struct gpu_contender *contender, int32_t input,
                             double *ns)
{
    float ms = 0.0f;
    bool ok =
        gpu_flush(gpu) == STATUS_OK && cudaEventRecord(gpu->begin, gpu->stream) == cudaSuccess &&
        launch(gpu, contender, input) && cudaEventRecord(gpu->end, gpu->stream) == cudaSuccess &&
        cudaEventSynchronize(gpu->end) == cudaSuccess &&
        cudaEventElapsedTime(&ms, gpu->begin, gpu->end) == cudaSuccess;
    *ns = (double)ms * 1e6;
    return ok ? STATUS_OK : STATUS_CUDA;
}

enum status gpu_time(struct gpu *gpu, struct gpu_contender *contender, int32_t num_contenders,
                     int32_t num_inputs, int32_t num_samples, double budget_s)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < num_contenders && status == STATUS_OK; i++) {
        status = prepare(gpu, &contender[i], num_inputs, num_samples);
    }
    double start_s = bench_now_s();
    for (int32_t round = -WARM_UPS; round < num_samples && status == STATUS_OK; round++) {
        if (round >= SAMPLES_MIN && bench_now_s() - start_s > budget_s) {
            break;
        }
        take_turns(gpu);
        for (int32_t i = 0; i < num_contenders && status == STATUS_OK; i++) {
            double ns;
            if (contender[i].status != STATUS_OK) {
                continue;
            }
            status = time_once(gpu, &contender[i], (round + WARM_UPS) % num_inputs, &ns);
            if (round >= 0) {
                contender[i].sample_ns[contender[i].num_samples++] = ns;
            }
        }
    }
    return status;
}

void gpu_contenders_free(struct gpu_contender *contender, int32_t num_contenders)
{
    for (int32_t i = 0; i < num_contenders; i++) {
        for (int32_t input = 0; input < GPU_INPUTS_MAX; input++) {
            if (contender[i].graph[input] != NULL) {
                cudaGraphExecDestroy(contender[i].graph[input]);
                contender[i].graph[input] = NULL;
            }
        }
        free(contender[i].sample_ns);
        contender[i].sample_ns = NULL;
    }
}
