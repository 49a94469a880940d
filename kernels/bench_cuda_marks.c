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

/* What a sample needs: a graph, or NULL where each is launched anew. */
struct marks {
    enum status (*launch)(void *context, cudaStream_t stream);
    void *context;
    const cudaEvent_t *mark;
    int32_t num_spans;
    cudaGraphExec_t graph;
};

/* One sample on a flushed L2, span after span `stride` apart. */
static bool sample_spans(struct gpu *gpu, const struct marks *marks, double *ns, int32_t stride)
{
    bool ok = gpu_flush(gpu) == STATUS_OK;
    if (marks->graph != NULL) {
        ok = ok && cudaGraphLaunch(marks->graph, gpu->stream) == cudaSuccess;
    } else {
        ok = ok && marks->launch(marks->context, gpu->stream) == STATUS_OK;
    }
    ok = ok && cudaStreamSynchronize(gpu->stream) == cudaSuccess;
    for (int32_t span = 0; span < marks->num_spans && ok; span++) {
        float ms = 0.0f;
        ok = cudaEventElapsedTime(&ms, marks->mark[span], marks->mark[span + 1]) == cudaSuccess;
        ns[(int64_t)span * stride] = (double)ms * 1e6;
    }
    return ok;
}

enum status bench_time_marks(struct gpu *gpu,
                             enum status (*launch)(void *context, cudaStream_t stream),
                             void *context, const cudaEvent_t *mark, int32_t num_spans,
                             int32_t num_samples, double *sample_ns)
{
    struct marks marks = {launch, context, mark, num_spans, NULL};
    enum status status = launch(context, gpu->stream); /* modules are loaded, attributes set */
    if (status == STATUS_OK && cudaStreamSynchronize(gpu->stream) != cudaSuccess) {
        status = STATUS_CUDA;
    }
    if (status != STATUS_OK) {
        return status;
    }
    /* The first sample is the warm-up; what a graph refuses is launched kernel by kernel. */
    bool ok = capture(gpu, launch, context, &marks.graph) == STATUS_OK &&
              sample_spans(gpu, &marks, sample_ns, num_samples);
    if (!ok) {
        (void)cudaGetLastError();
        fputs("moe-bench: phases are timed without a graph\n", stderr);
        if (marks.graph != NULL) {
            cudaGraphExecDestroy(marks.graph);
            marks.graph = NULL;
        }
        ok = sample_spans(gpu, &marks, sample_ns, num_samples);
    }
    for (int32_t sample = 0; sample < num_samples && ok; sample++) {
        ok = sample_spans(gpu, &marks, sample_ns + sample, num_samples);
    }
    if (marks.graph != NULL) {
        cudaGraphExecDestroy(marks.graph);
    }
    return ok ? STATUS_OK : STATUS_CUDA;
}
