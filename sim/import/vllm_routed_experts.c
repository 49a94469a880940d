/*
 * vllm_routed_experts.c -- responses of vLLM, Dynamo and LightLLM with routed experts.
 *
 * vLLM, started with --enable-return-routed-experts: choices[i].routed_experts is base64 of a whole
 * .npy file. Dynamo: an object of data, shape, dtype and start; LightLLM: of data and shape; logs
 * of training loops: nested lists. All are [tokens][layers][k].
 */
#include "import/responses.h"

static int32_t detect(const struct import_probe *probe)
{
    bool is_npy = false;
    bool has_shape = false;
    int32_t sure = responses_detect(probe, &is_npy, &has_shape);
    return is_npy ? sure + 35 : has_shape ? sure + 25 : 0;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    return responses_read(input, sink, false);
}

const struct import_format import_vllm_routed_experts = {
    .name = "vllm_routed_experts",
    .summary = "JSON of vLLM (--enable-return-routed-experts), Dynamo or LightLLM",
    .source = "vllm-project/vllm, ai-dynamo/dynamo, ModelTC/lightllm",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
