/* engine_host.c -- presets of engines' hosts, and what else engines do alike for all models. */
#include "engine_host.h"

#include <stddef.h>
#include <string.h>

#include "preset.h"

#define REQUEST_MS_MAX 1e6

/* A preset's file, and what is looked at apart. */
struct host_file {
    struct engine_host host; /* first: the table counts from its start */
    struct yaml_node *aliases;
    struct yaml_node *without;
};

static const struct yaml_field fields[] = {
    {"aliases", YAML_NODE, offsetof(struct host_file, aliases), .size = 0},
    {"source", YAML_TEXT, offsetof(struct engine_host, source), .size = SOURCE_BYTES,
     .required = true},
    {"request_ms", YAML_DOUBLE, offsetof(struct engine_host, request_ms), .required = true,
     .min = 0.0, .max = REQUEST_MS_MAX},
    {"error_median", YAML_DOUBLE, offsetof(struct engine_host, error_median), .required = true,
     .min = 0.0, .max = 100.0},
    {"error_p90", YAML_DOUBLE, offsetof(struct engine_host, error_p90), .required = true,
     .min = 0.0, .max = 100.0},
    {"without", YAML_NODE, offsetof(struct host_file, without), .size = 0},
    {.key = NULL},
};

/* Of a model that it was fitted to, what the others gave. */
static enum status leave_out(struct host_file *file, const char *model, struct error *error)
{
    if (file->without != NULL && file->without->kind != YAML_MAPPING) {
        return yaml_complain(error, file->without, "without",
                             "expected models and milliseconds, as gpt-oss-120b: 30");
    }
    const struct yaml_node *found =
        model[0] != '\0' && file->without != NULL ? yaml_get(file->without, model) : NULL;
    if (found == NULL) {
        return STATUS_OK;
    }
    const struct yaml_field one[] = {
        {model, YAML_DOUBLE, offsetof(struct engine_host, request_ms), .min = 0.0,
         .max = REQUEST_MS_MAX},
        {.key = NULL},
    };
    struct yaml_node alone = *found;
    struct yaml_node mapping = *file->without;
    alone.next = NULL;
    mapping.child = &alone;
    return yaml_fill(&file->host, &mapping, one, error);
}

enum status engine_host_load(struct engine_host *host, const char *name_or_path,
                             const char *without_model, struct error *error)
{
    struct host_file file = {0};
    struct preset preset;
    enum status status = preset_open(&preset, "engines", name_or_path, error);
    memcpy(file.host.name, preset.name, sizeof file.host.name);
    if (status == STATUS_OK) {
        status = yaml_fill(&file, preset.root, fields, error);
    }
    if (status == STATUS_OK) {
        status = leave_out(&file, without_model, error);
    }
    *host = file.host;
    preset_close(&preset);
    return status;
}

/* TensorRT-LLM does wherever it has captured a CUDA graph (maybe_execute_in_parallel in
 * _torch/modules/multi_stream_utils.py @ 05b58881; InferenceX's scripts of dsr1 @ 843c6254f capture
 * as many requests as are outstanding). SGLang does up to 1,024 tokens (DUAL_STREAM_TOKEN_THRESHOLD
 * in models/deepseek_v2.py) where it does not make the shared expert one more routed one, which
 * hides it as well. vLLM up to VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD. */
int32_t engine_shared_tokens(const char *engine)
{
    static const struct {
        const char *engine;
        int32_t tokens;
    } known[] = {{"trtllm", INT32_MAX}, {"sglang", 1024}, {"vllm", 256}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(engine, known[i].engine) == 0) {
            return known[i].tokens;
        }
    }
    return 0;
}
