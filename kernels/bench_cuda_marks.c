/* bench_cuda_marks.c -- see bench_forward.h. */
#include "bench_forward.h"

static enum status capture(struct gpu *gpu, enum status (*launch)(void *, cudaStream_t),
                           void *context, cudaGraphExec_t *graph)
{
    cudaGraph_t captured = NULL;
    enum status status = STATUS_CUDA;
    if (cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeRelaxed) == cudaSuccess) {
        status = launch(context, gpu->stream);
        if (cudaStreamEndCapture(gpu->stream, &captured) != cudaSuccess && status == STATUS_OK) {
            status = STATUS_CUDA;
        }
    }
    if (status == STATUS_OK && cudaGraphInstantiate(graph, captured, 0) != cudaSuccess) {
        *graph = NULL;
        status = STATUS_CUDA;
    }
    if (captured != NULL) {
        cudaGraphDestroy(captured);
    }
    return status;
}

enum status bench_time_marks(struct gpu *gpu,
                             enum status (*launch)(void *context, cudaStream_t stream),
                             void *context, const cudaEvent_t *mark, int32_t num_spans,
                             int32_t num_samples, double *sample_ns)
{
    cudaGraphExec_t graph = NULL;
    enum status status = launch(context, gpu->stream); /* modules are loaded, attributes set */
    if (status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    status = status == STATUS_OK ? capture(gpu, launch, context, &graph) : status;
    for (int32_t sample = -1; sample < num_samples && status == STATUS_OK; sample++) {
        bool ok = gpu_flush(gpu) == STATUS_OK &&
                  cudaGraphLaunch(graph, gpu->stream) == cudaSuccess &&
                  cudaStreamSynchronize(gpu->stream) == cudaSuccess;
        for (int32_t span = 0; span < num_spans && ok && sample >= 0; span++) {
            float ms = 0.0f;
            ok = cudaEventElapsedTime(&ms, mark[span], mark[span + 1]) == cudaSuccess;
            sample_ns[(int64_t)span * num_samples + sample] = (double)ms * 1e6;
        }
        status = ok ? STATUS_OK : STATUS_CUDA;
    }
    if (graph != NULL) {
        cudaGraphExecDestroy(graph);
    }
    return status;
}
