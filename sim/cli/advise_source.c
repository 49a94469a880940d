/* advise_source.c -- the model, and the trace: named, imported, or kept from an earlier call. */
#define _XOPEN_SOURCE 700 /* realpath */

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/advise.h"
#include "cli/trace_cli.h"
#include "data.h"
#include "digest.h"
#include "directory.h"
#include "format.h"

static bool is_like(const struct moe_model *model, const struct advise_shape *shape)
{
    bool has_layers =
        shape->num_layers == model_num_moe_layers(model) || shape->num_layers == model->num_layers;
    bool has_experts = shape->is_exact ? model->num_experts == shape->num_experts
                                       : model->num_experts >= shape->num_experts;
    return has_layers && model->top_k == shape->top_k && has_experts;
}

enum status advise_presets_like(char *text, size_t bytes, const struct advise_shape *shape,
                                struct error *error)
{
    const char *const *name = NULL;
    struct arena arena = {0};
    struct moe_model model;
    int32_t fewest = INT32_MAX;
    int32_t count = data_list(&name, "models", &arena);
    enum status status = STATUS_OK;
    text[0] = '\0';
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = model_load(&model, name[i], error);
        if (status != STATUS_OK || !is_like(&model, shape) || model.num_experts > fewest) {
            continue;
        }
        text[0] = model.num_experts < fewest ? '\0' : text[0];
        fewest = model.num_experts;
        format_append(text, bytes, "%s%s", text[0] != '\0' ? ", " : "", model.name);
    }
    arena_free(&arena);
    return count == DATA_NO_MEMORY ? error_add(error, STATUS_NO_MEMORY, "out of memory") : status;
}

static struct advise_shape shape_of_trace(const struct trace *trace)
{
    return (struct advise_shape){trace->num_layers, trace->top_k, trace->num_experts, true};
}

static struct advise_shape shape_of_look(const struct import_look *look)
{
    return (struct advise_shape){look->num_layers, look->top_k, look->id_max + 1, false};
}

static bool is_trace(const char *path)
{
    char file[PATH_BYTES + sizeof "/trace.yaml"];
    struct stat entry;
    (void)snprintf(file, sizeof file, "%.*s/trace.yaml", PATH_BYTES - 1, path);
    return stat(file, &entry) == 0;
}

/* What a shape suggests, as the end of a sentence. */
static enum status refuse_shape(const char *what, struct advise_shape shape, struct error *error)
{
    char like[SUGGEST_BYTES];
    enum status status = advise_presets_like(like, sizeof like, &shape, error);
    if (status != STATUS_OK) {
        return status;
    }
    bool is_one = strchr(like, ',') == NULL;
    return like[0] == '\0'
               ? error_add(
                     error, STATUS_INVALID,
                     "%s; no preset has that shape: give the model's config.json or YAML with "
                     "--model (moesim list models)",
                     what)
               : error_add(error, STATUS_INVALID, "%s, as %s %s: give --model %s", what, like,
                           is_one ? "does" : "do", is_one ? like : "and one of them");
}

/* A trace names its model; that may be a preset or a mere name. */
static enum status model_of_trace(struct advise *advise, struct error *error)
{
    struct error *quiet = calloc(1, sizeof *quiet);
    struct trace trace = {0};
    char what[2 * PATH_BYTES];
    enum status status = quiet == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                                       : trace_open(&trace, advise->source, error);
    if (status == STATUS_OK && model_load(&advise->model, trace.model, quiet) == STATUS_OK) {
        (void)snprintf(advise->model_written, sizeof advise->model_written, "%s", trace.model);
    } else if (status == STATUS_OK) {
        (void)snprintf(what, sizeof what,
                       "--model is missing, and %s says '%s', which is no preset; it holds top-%d "
                       "of %d experts in %d layers",
                       advise->source, trace.model, (int)trace.top_k, (int)trace.num_experts,
                       (int)trace.num_layers);
        status = refuse_shape(what, shape_of_trace(&trace), error);
    }
    trace_close(&trace);
    free(quiet);
    return status;
}

/* Loads and arrivals are no routing. Others are what import_run finds in them. */
static enum status look_at_dump(const struct advise *advise, struct import_look *look,
                                struct error *error)
{
    struct error *quiet = calloc(1, sizeof *quiet);
    if (quiet == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    enum status status = import_look(look, &advise->import, quiet);
    if (look->format == NULL) {
        *error = *quiet;
    } else if (look->is_loads) {
        const char *model = advise->import.model != NULL ? advise->import.model : "MODEL";
        status =
            error_add(error, STATUS_INVALID,
                      "%s: loads (%s), not who chose what; make a trace with these loads and "
                      "advise that: moesim trace import %s --model %s --out loads.yaml && "
                      "moesim trace generate --preset ./loads.yaml --tokens 200000 --out trace",
                      advise->source, look->format, advise->source, model);
    } else if (!look->is_routing) {
        status = error_add(error, STATUS_INVALID,
                           "%s: when requests arrive (%s), not who chose what; a recording of "
                           "routing is wanted (moesim trace import --help lists them)",
                           advise->source, look->format);
    } else {
        status = STATUS_OK; /* what is wrong with rows is import_run's to say */
    }
    free(quiet);
    return status;
}

static enum status model_of_dump(struct advise *advise, struct error *error)
{
    struct import_look look;
    char what[2 * PATH_BYTES];
    enum status status = look_at_dump(advise, &look, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (look.num_layers == 0) {
        return error_add(error, STATUS_INVALID,
                         "--model is missing, and %s does not say its shape without it: name a "
                         "preset of moesim list models, or the model's config.json",
                         advise->source);
    }
    (void)snprintf(what, sizeof what,
                   "--model is missing; %s holds top-%d in %d layers, and experts up to %d",
                   advise->source, (int)look.top_k, (int)look.num_layers, (int)look.id_max);
    return refuse_shape(what, shape_of_look(&look), error);
}

void advise_write_name(char written[PATH_BYTES], const char *name)
{
    char whole[PATH_MAX];
    struct stat entry;
    bool is_there = stat(name, &entry) == 0 && realpath(name, whole) != NULL;
    const char *found = is_there && strlen(whole) < PATH_BYTES ? whole : name;
    (void)snprintf(written, PATH_BYTES, "%.*s", PATH_BYTES - 1, found);
}

enum status advise_take_model(struct advise *advise, struct error *error)
{
    struct stat entry;
    if (stat(advise->source, &entry) != 0) {
        return error_add(error, STATUS_IO, "%s: there is no such file or trace", advise->source);
    }
    enum status status = STATUS_OK;
    if (advise->import.model != NULL) {
        status = model_load(&advise->model, advise->import.model, error);
        advise_write_name(advise->model_written, advise->import.model);
    } else {
        status =
            is_trace(advise->source) ? model_of_trace(advise, error) : model_of_dump(advise, error);
    }
    if (status == STATUS_OK && advise->model.num_experts == 0) {
        status = error_add(error, STATUS_INVALID, "%s is dense: it has no experts to balance",
                           advise->model.name);
    }
    return status;
}

static uint64_t digest_file(uint64_t digest, const char *path)
{
    char whole[PATH_MAX];
    struct stat entry = {0};
    (void)stat(path, &entry);
    digest = digest_text(digest, realpath(path, whole) != NULL ? whole : path);
    digest = digest_u64(digest, (uint64_t)entry.st_size);
    digest = digest_u64(digest, (uint64_t)entry.st_mtim.tv_sec);
    return digest_u64(digest, (uint64_t)entry.st_mtim.tv_nsec);
}

/* The trace's source: the file's name, and a fingerprint of the files and of what is asked of them.
 */
static void name_source(char source[SOURCE_BYTES], const struct advise *advise)
{
    const struct import_options *import = &advise->import;
    const char *slash = strrchr(advise->source, '/');
    uint64_t digest = digest_file(DIGEST_START, advise->source);
    digest = digest_text(digest, import->format != NULL ? import->format : "");
    digest = digest_text(digest, advise->model.name);
    digest = digest_u64(digest, import->strip_dummy);
    for (int32_t i = 0; i < TRACE_AXIS_COUNT; i++) {
        digest = digest_u64(digest, (uint64_t)import->axis[i]);
    }
    if (import->requests_path != NULL) {
        digest = digest_file(digest, import->requests_path);
    }
    (void)snprintf(source, SOURCE_BYTES, "%.200s, files %016llx",
                   slash != NULL && slash[1] != '\0' ? slash + 1 : advise->source,
                   (unsigned long long)digest);
}

/* A trace that stands where ours goes: an earlier call's, of the same files, or somebody's. */
static enum status try_reuse(struct advise *advise, const char *source, struct error *error)
{
    enum status status = trace_open(&advise->trace, advise->trace_path, error);
    if (status != STATUS_OK || strcmp(advise->trace.source, source) == 0) {
        advise->is_reused = status == STATUS_OK;
        return status;
    }
    return error_add(error, STATUS_INVALID,
                     "%s: is of other files, or they or what is asked of them have changed since "
                     "(it is of %s); --force replaces it, another -o keeps both",
                     advise->trace_path, advise->trace.source);
}

/* A refusal may come from the wrong model: the dump's shape says whose it could be. */
static enum status offer_models(const struct advise *advise, struct error *error)
{
    struct import_look look;
    char like[SUGGEST_BYTES];
    struct error *quiet = calloc(1, sizeof *quiet);
    if (quiet == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    bool has_look = import_look(&look, &advise->import, quiet) == STATUS_OK && look.is_routing;
    struct advise_shape shape = shape_of_look(&look);
    bool has_model = has_look && !is_like(&advise->model, &shape) &&
                     advise_presets_like(like, sizeof like, &shape, quiet) == STATUS_OK &&
                     like[0] != '\0';
    free(quiet);
    return has_model ? error_add(error, STATUS_INVALID, "%s: its shape is that of %s: give --model",
                                 advise->source, like)
                     : STATUS_INVALID;
}

static enum status import(struct advise *advise, const char *source, struct error *error)
{
    struct progress progress;
    struct import_summary summary;
    struct import_look look;
    enum status status = look_at_dump(advise, &look, error);
    if (status != STATUS_OK) {
        return status;
    }
    advise->import.source = source;
    advise->import.model = advise->import.model != NULL ? advise->import.model : advise->model.name;
    advise->import.replace = advise->force;
    advise->import.progress = trace_cli_progress;
    advise->import.context = &progress;
    progress_begin(&progress, "importing", "bytes");
    status = import_run(advise->trace_path, &advise->import, &summary, error);
    progress_end(&progress);
    return status == STATUS_INVALID ? offer_models(advise, error) : status;
}

/* Of a trace that was imported for another model, or written by hand. */
static enum status check_shape(const struct advise *advise, struct error *error)
{
    const struct trace *trace = &advise->trace;
    const struct moe_model *model = &advise->model;
    char what[4 * PATH_BYTES];
    if (trace->num_experts == model->num_experts && trace->top_k == model->top_k &&
        trace->num_layers <= model_num_moe_layers(model)) {
        return STATUS_OK;
    }
    (void)snprintf(what, sizeof what,
                   "%s is not of %s, which has top-%d of %d experts in %d layers: it holds top-%d "
                   "of %d in %d",
                   advise->trace_path, model->name, (int)model->top_k, (int)model->num_experts,
                   (int)model_num_moe_layers(model), (int)trace->top_k, (int)trace->num_experts,
                   (int)trace->num_layers);
    return refuse_shape(what, shape_of_trace(trace), error);
}

enum status advise_take_trace(struct advise *advise, struct error *error)
{
    char source[SOURCE_BYTES];
    struct stat entry;
    if (is_trace(advise->source)) {
        (void)snprintf(advise->trace_path, sizeof advise->trace_path, "%s", advise->source);
        advise_write_name(advise->trace_written, advise->source);
    } else {
        int length =
            snprintf(advise->trace_path, sizeof advise->trace_path, "%s/trace", advise->out);
        if (length >= (int)sizeof advise->trace_path) {
            return error_add(error, STATUS_INVALID, "%.40s...: too long a name", advise->out);
        }
        (void)snprintf(advise->trace_written, sizeof advise->trace_written, "trace");
        name_source(source, advise);
    }
    enum status status = STATUS_OK;
    if (!is_trace(advise->source)) {
        bool is_there = stat(advise->trace_path, &entry) == 0 && !advise->force;
        status = is_there ? try_reuse(advise, source, error) : import(advise, source, error);
    }
    if (status == STATUS_OK && !advise->is_reused) {
        status = trace_open(&advise->trace, advise->trace_path, error);
    }
    return status == STATUS_OK ? check_shape(advise, error) : status;
}
