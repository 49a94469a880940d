/*
 * trtllm_statistics.c -- TensorRT-LLM's expert statistics: tokens by iteration, layer and expert.
 *
 * EXPERT_STATISTIC_PATH holds meta_info.json (num_experts, num_experts_per_token) and a file
 * rankR.safetensors a rank, with tensors "ITERATION_LAYER" of [num_experts] counts; ranks add up.
 * Give the folder, or the files one by one. Iterations become steps from 0, layers keep their
 * numbers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "import/import.h"
#include "json_config.h"
#include "safetensors.h"
#include "textfile.h"

#define RANKS_MAX   65536
#define EXPERTS_MAX 65535
#define NUMBER_MAX  INT32_MAX

struct statistics {
    const struct import_input *input;
    struct import_sink *sink;
    const char *path;    /* of the file at hand */
    int64_t first;       /* lowest iteration of all files */
    int64_t *tokens;     /* [num_experts] */
    int32_t num_experts; /* of meta_info.json, else the first tensor's; 0: not known yet */
};

/* "50_12" as iteration and layer. */
static bool parse_key(const char *key, int64_t *iteration, int64_t *layer)
{
    char *end;
    bool is_number = key[0] >= '0' && key[0] <= '9';
    *iteration = is_number ? strtol(key, &end, 10) : -1;
    if (*iteration < 0 || *iteration > NUMBER_MAX || *end != '_' || end[1] < '0' || end[1] > '9') {
        return false;
    }
    *layer = strtol(end + 1, &end, 10);
    return *layer >= 0 && *layer < NUMBER_MAX && *end == '\0';
}

static int32_t detect(const struct import_probe *probe)
{
    char path[FILE_PATH_BYTES];
    struct stat info;
    if (probe->is_folder) {
        int length = snprintf(path, sizeof path, "%s/rank0.safetensors", probe->path);
        return length < (int)sizeof path && stat(path, &info) == 0 ? 90 : 0;
    }
    const char *name = (const char *)probe->text + 8; /* behind the header's length */
    int64_t iteration;
    int64_t layer;
    char key[32];
    const char *quote = probe->num_bytes > 16 && memcmp(name, "{\"", 2) == 0 ? name + 2 : NULL;
    if (quote == NULL) {
        return 0;
    }
    (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(quote, "\""), quote);
    return parse_key(key, &iteration, &layer) ? 90 : 0;
}

static enum status read_entry(struct statistics *statistics, const struct safetensors_entry *entry,
                              bool is_survey)
{
    const struct tensor *tensor = &entry->tensor;
    int64_t iteration = 0;
    int64_t layer = 0;
    char shape[TENSOR_TEXT_BYTES];
    if (!parse_key(entry->name, &iteration, &layer)) {
        return import_refuse(statistics->sink, statistics->path, "",
                             "tensor %.60s: names are ITERATION_LAYER", entry->name);
    }
    if (is_survey) {
        statistics->first = iteration < statistics->first ? iteration : statistics->first;
        return STATUS_OK;
    }
    if (statistics->num_experts == 0 && tensor->num_elements <= EXPERTS_MAX) {
        statistics->num_experts = (int32_t)tensor->num_elements;
    }
    if (!tensor_type_is_integer(tensor->type) || tensor->num_dims != 1 ||
        tensor->num_elements != statistics->num_experts || tensor->num_elements < 1) {
        return import_complain(statistics->sink, statistics->path, entry->name,
                               "is %s %s; %d whole numbers are expected",
                               tensor_type_name(tensor->type), tensor_shape_text(shape, tensor),
                               statistics->num_experts);
    }
    for (int32_t expert = 0; expert < statistics->num_experts; expert++) {
        int64_t tokens = tensor_int(tensor, expert);
        if (tokens < 0 || tokens > (INT64_C(1) << 53)) {
            return import_complain(statistics->sink, statistics->path, entry->name,
                                   "expert %d has %lld tokens", expert, (long long)tokens);
        }
        statistics->tokens[expert] = tokens;
    }
    return import_load(statistics->sink, iteration - statistics->first, (int32_t)layer,
                       statistics->tokens, statistics->num_experts);
}

static enum status read_file(struct statistics *statistics, const char *path, bool is_survey)
{
    struct safetensors file;
    statistics->path = path;
    enum status status = safetensors_open(&file, path, statistics->input->error);
    for (int64_t i = 0; status == STATUS_OK && i < file.num_entries; i++) {
        status = read_entry(statistics, &file.entry[i], is_survey);
        if (!is_survey) {
            import_progress(statistics->sink, (i + 1) * file.file.num_bytes / file.num_entries,
                            file.file.num_bytes);
        }
    }
    safetensors_close(&file);
    return status;
}

/* Reads num_experts, if the folder has a meta_info.json. */
static enum status read_meta(struct statistics *statistics, const char *folder)
{
    char path[FILE_PATH_BYTES];
    struct stat info;
    struct json_config config;
    int length = snprintf(path, sizeof path, "%s/meta_info.json", folder);
    if (length >= (int)sizeof path || stat(path, &info) != 0) {
        return STATUS_OK;
    }
    enum status status = json_config_open(&config, path, statistics->input->error);
    if (status == STATUS_OK) {
        statistics->num_experts = json_config_whole(&config, "num_experts", 1, EXPERTS_MAX);
        status = config.has_problem ? STATUS_INVALID : STATUS_OK;
    }
    json_config_close(&config);
    return status;
}

/* rank0.safetensors, rank1.safetensors, ... of a folder, up to the first that is missing. */
static enum status read_folder(struct statistics *statistics, const char *folder, bool is_survey)
{
    char path[FILE_PATH_BYTES];
    struct stat info;
    enum status status = read_meta(statistics, folder);
    for (int32_t rank = 0; status == STATUS_OK && rank < RANKS_MAX; rank++) {
        int length = snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, rank);
        if (length >= (int)sizeof path || (rank > 0 && stat(path, &info) != 0)) {
            break;
        }
        status = read_file(statistics, path, is_survey);
    }
    return status;
}

static enum status read_paths(struct statistics *statistics, bool is_survey)
{
    const struct import_options *options = statistics->input->options;
    enum status status = STATUS_OK;
    for (int32_t i = 0; status == STATUS_OK && i < options->num_paths; i++) {
        struct stat info;
        bool is_folder = stat(options->paths[i], &info) == 0 && S_ISDIR(info.st_mode);
        status = is_folder ? read_folder(statistics, options->paths[i], is_survey)
                           : read_file(statistics, options->paths[i], is_survey);
    }
    return status;
}

/* Once for the first iteration of all ranks, once for the counts. */
static enum status read_all(const struct import_input *input, struct import_sink *sink)
{
    struct statistics statistics = {.input = input, .sink = sink, .first = INT64_MAX};
    statistics.tokens = calloc(EXPERTS_MAX, sizeof *statistics.tokens);
    if (statistics.tokens == NULL) {
        return error_add(input->error, STATUS_NO_MEMORY, "no memory for loads");
    }
    enum status status = read_paths(&statistics, true);
    if (status == STATUS_OK && import_num_problems(sink) == 0) {
        status = read_paths(&statistics, false);
    }
    free(statistics.tokens);
    return status;
}

const struct import_format import_trtllm_statistics = {
    .name = "trtllm_statistics",
    .summary = "TensorRT-LLM's expert statistics, the folder (.safetensors): becomes loads",
    .source = "NVIDIA/TensorRT-LLM, _torch/expert_statistic.py",
    .level = IMPORT_LOADS,
    .detect = detect,
    .read = read_all,
};
