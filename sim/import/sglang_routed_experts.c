/*
 * sglang_routed_experts.c -- responses of SGLang with return_routed_experts.
 *
 * meta_info.routed_experts (native API) or sgl_ext.routed_experts of a choice (OpenAI API): base64
 * of little-endian int32, or of what routed_experts_dtype says, without a header: [tokens][layers,
 * dense ones too][top_k]. Tokens go from routed_experts_start_len to the last but one.
 */
#include <string.h>

#include "import/responses.h"

static int32_t detect(const struct import_probe *probe)
{
    bool is_npy = false;
    bool has_shape = false;
    int32_t sure = responses_detect(probe, &is_npy, &has_shape);
    bool is_sglang = sure > 0 && (strstr((const char *)probe->text, "\"meta_info\"") != NULL ||
                                  strstr((const char *)probe->text, "\"sgl_ext\"") != NULL);
    return sure > 0 && !is_npy && !has_shape ? sure + (is_sglang ? 30 : 0) : 0;
}

static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    return responses_read(input, sink, true);
}

const struct import_format import_sglang_routed_experts = {
    .name = "sglang_routed_experts",
    .summary = "responses of SGLang with return_routed_experts, JSON or JSON lines",
    .source = "sgl-project/sglang, python/sglang/srt/managers/tokenizer_manager.py",
    .level = IMPORT_ROWS,
    .detect = detect,
    .read = read_all,
};
