/*
 * engine_head.c -- the output head, cut by the vocabulary over the ranks that share attention.
 *
 * Each of them has a part of the vocabulary for the tokens of all, as embeddings are kept
 * (memory.c); an all-gather in bf16 brings the logits together before one is drawn: vLLM
 * (ParallelLMHead, LogitsProcessor._gather_logits), SGLang (LogitsProcessor), TensorRT-LLM (LMHead
 * with gather_output). Where attention is data-parallel every rank has all of the vocabulary for
 * its own tokens.
 *
 *     gather = launch + latency + (tp - 1) tokens vocabulary / tp 2 bytes / port
 *
 * Left out: these bytes in what ports passed, as nothing else is under way then.
 */
#include "engine.h"

#define LOGIT_BYTES 2.0

int32_t engine_head_tokens(const struct scenario *scenario, int32_t tokens)
{
    if (scenario->phase == PHASE_DECODE) {
        return tokens;
    }
    return (tokens + scenario->context_tokens - 1) / scenario->context_tokens;
}

struct gpu_work engine_head_work(const struct scenario *scenario, int32_t head_tokens)
{
    return (struct gpu_work){.phase = GPU_HEAD,
                             .model = &scenario->model,
                             .layer = scenario->model.num_layers,
                             .prefill = scenario->phase == PHASE_PREFILL,
                             .shards = scenario->tp,
                             .tokens = head_tokens};
}

double engine_logits_ns(const struct scenario *scenario, int32_t head_tokens)
{
    if (scenario->tp == 1 || head_tokens == 0) {
        return 0.0;
    }
    const struct cluster *cluster = &scenario->cluster;
    const struct port_spec *port = &cluster->gpu.port[cluster_tier(cluster, 0, scenario->tp - 1)];
    const double part = (double)scenario->model.vocab_size / (double)scenario->tp;
    const double bytes = (double)(scenario->tp - 1) * (double)head_tokens * part * LOGIT_BYTES;
    return cluster->gpu.kernel_ns + port->latency_ns +
           bytes / (port->bytes_per_s * port->fraction) * 1e9;
}
