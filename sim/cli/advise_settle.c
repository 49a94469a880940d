/*
 * advise_settle.c -- how much is simulated, and the scenario that says so.
 *
 * The scenario begins with a fingerprint of the rest, so that one that somebody has edited is not
 * written over. Work is counted in assignments that are replayed, never in seconds: the same
 * question has the same answer on every machine.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "balance/balance.h"
#include "cli/advise.h"
#include "cli/compare_plan.h"
#include "digest.h"
#include "draft.h"
#include "engine.h"
#include "textfile.h"

#define TOKENS_DECODE   64 /* sequences a rank, lowered until the trace fills enough steps */
#define TOKENS_PREFILL  1024
#define CONTEXT_PREFILL 1024
#define CONTEXT_DECODE  4096 /* where the trace does not say */
#define STEPS_ENOUGH    32
#define STEPS_MIN       8
#define INTERVALS       8     /* changes of placement in a run, to see some of them paid back */
#define STEPS_MOST      1024  /* enough to see what lasts */
#define WORK_MAX        2.5e9 /* assignments: up to half a minute of one core at 10 ns each */
#define WORK_OF_RANK    200   /* a layer and step, beside its tokens: some 2 us */
#define FEW_STRATEGIES  "static,eplb,sglang,trtllm,omni,swift,drift_aware"
#define FINGERPRINT     "# moesim advise wrote this; fingerprint of what follows: "

static int64_t steps_of(const struct advise *advise, int32_t tokens_per_rank)
{
    const struct trace *trace = &advise->trace;
    return trace->num_steps > 0 ? trace->num_steps
                                : trace->num_tokens / ((int64_t)tokens_per_rank * advise->num_gpus);
}

/* Of a step that was recorded, those it had. */
static int32_t tokens_recorded(const struct advise *advise)
{
    int64_t slots = advise->trace.num_steps * advise->num_gpus;
    return (int32_t)((advise->trace.num_tokens + slots - 1) / slots);
}

static enum status choose_tokens(struct advise *advise, struct error *error)
{
    advise->is_asked_tokens = advise->tokens_per_rank > 0;
    if (advise->trace.num_steps > 0) {
        advise->is_asked_tokens = true;
        advise->tokens_per_rank = tokens_recorded(advise);
    } else if (!advise->is_asked_tokens) {
        int32_t tokens = advise->prefill ? TOKENS_PREFILL : TOKENS_DECODE;
        while (tokens > 1 && steps_of(advise, tokens) < STEPS_ENOUGH) {
            tokens /= 2;
        }
        advise->tokens_per_rank = tokens;
    }
    int64_t steps = steps_of(advise, advise->tokens_per_rank);
    int64_t tokens_most = advise->trace.num_tokens / ((int64_t)STEPS_MIN * advise->num_gpus);
    if (steps >= STEPS_MIN) {
        return STATUS_OK;
    }
    return advise->trace.num_steps > 0 || tokens_most < 1
               ? error_add(error, STATUS_INVALID,
                           "%s: too short: %lld tokens fill %lld steps on %d GPUs, and a placement "
                           "that learns from some and serves others wants %d; record more, or give "
                           "fewer --gpus",
                           advise->trace_path, (long long)advise->trace.num_tokens,
                           (long long)steps, (int)advise->num_gpus, STEPS_MIN)
               : error_add(error, STATUS_INVALID,
                           "%s: too short: %lld tokens fill %lld steps of %d a rank on %d GPUs, "
                           "and %d are needed; give --tokens-per-rank %lld or less, or record more",
                           advise->trace_path, (long long)advise->trace.num_tokens,
                           (long long)steps, (int)advise->tokens_per_rank, (int)advise->num_gpus,
                           STEPS_MIN, (long long)tokens_most);
}

/* "0,8,16", each a number of redundant experts that leaves equal slots. */
static enum status take_redundant(struct advise *advise, struct error *error)
{
    const char *text = advise->redundant_text;
    while (advise->num_redundant < ADVISE_REDUNDANT_MAX) {
        char *end = NULL;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (end == text || errno != 0 || value < 0 || value > 65536 ||
            (*end != ',' && *end != '\0')) {
            return error_add(error, STATUS_INVALID,
                             "--redundant %s: numbers of experts such as 0,8,16 are expected",
                             advise->redundant_text);
        }
        int32_t slots = memory_redundant_for(&advise->model, (int32_t)value, advise->num_gpus);
        if (slots != (int32_t)value) {
            return error_add(error, STATUS_INVALID,
                             "--redundant %ld: %d experts and %ld more are no equal slots on %d "
                             "GPUs; the next that are: %d",
                             value, (int)advise->model.num_experts, value, (int)advise->num_gpus,
                             (int)slots);
        }
        for (int32_t i = 0; i < advise->num_redundant; i++) {
            if (advise->redundant[i] >= (int32_t)value) {
                return error_add(error, STATUS_INVALID, "--redundant %s: give them ascending",
                                 advise->redundant_text);
            }
        }
        advise->redundant[advise->num_redundant++] = (int32_t)value;
        if (*end == '\0') {
            return STATUS_OK;
        }
        text = end + 1;
    }
    return error_add(error, STATUS_INVALID, "--redundant %s: at most %d numbers",
                     advise->redundant_text, ADVISE_REDUNDANT_MAX);
}

/* None, and one, two and four slots more on every GPU. */
static enum status choose_redundant(struct advise *advise, struct error *error)
{
    if (advise->redundant_text != NULL) {
        return take_redundant(advise, error);
    }
    static const int32_t more[] = {0, 1, 2, 4};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        advise->redundant[advise->num_redundant++] =
            advise->redundant_base + more[i] * advise->num_gpus;
    }
    return STATUS_OK;
}

/* What all ranks and redundancies of a step are worth, in assignments. */
static double work_of_step(const struct advise *advise)
{
    double layers = (double)advise->trace.num_layers * advise->num_redundant;
    double of_rank = (double)advise->tokens_per_rank * advise->trace.top_k + WORK_OF_RANK;
    return layers * of_rank * advise->num_gpus;
}

/* Few strategies, those that engines ship first, before fewer steps than are enough. */
static void choose_work(struct advise *advise)
{
    int32_t all = 0;
    int32_t few = 1;
    (void)balance_all(&all);
    for (const char *letter = FEW_STRATEGIES; *letter != '\0'; letter++) {
        few += *letter == ',';
    }
    int64_t there = steps_of(advise, advise->tokens_per_rank);
    bool is_free = !advise->all && advise->trace.num_steps == 0; /* recorded steps are all run */
    double of_step = work_of_step(advise);
    advise->num_steps_there = there;
    advise->num_steps = is_free && there > STEPS_MOST ? STEPS_MOST : there;
    advise->strategies = "all";
    if (!advise->all && of_step * (double)advise->num_steps * all > WORK_MAX) {
        advise->strategies = FEW_STRATEGIES;
        double most = fmax(WORK_MAX / (of_step * few), STEPS_ENOUGH);
        bool is_cut = is_free && (double)advise->num_steps > most;
        advise->num_steps = is_cut ? (int64_t)most : advise->num_steps;
    }
    advise->interval = (int32_t)(advise->num_steps / INTERVALS);
}

static void write_quoted(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', file);
        }
        fputc(*text, file);
    }
    fputc('"', file);
}

static void write_world(FILE *file, const struct advise *advise)
{
    const struct cluster *cluster = &advise->cluster;
    fprintf(file,
            "version: 1\nquestion: Which experts of %s run hot here, and what helps?\nmodel: ",
            advise->model.name);
    write_quoted(file, advise->model_written);
    fprintf(file, "\ncluster:\n  %s: ", cluster->preset[0] != '\0' ? "preset" : "gpu");
    write_quoted(file, advise->gpu_written);
    fprintf(file, "%s\n  nodes: %d\n  gpus_per_node: %d\n",
            cluster->preset[0] != '\0' ? " # GPU, wiring, measured exchanges: moesim list clusters"
                                       : " # no preset of moesim list clusters has its exchanges",
            (int)cluster->num_nodes, (int)cluster->gpus_per_node);
    fprintf(file, "parallel: {ep: %d, attention: dp} # experts over all GPUs, sequences apart\n",
            (int)advise->num_gpus);
}

static void write_traffic(FILE *file, const struct advise *advise)
{
    fprintf(file, "phase: %s\n", advise->prefill ? "prefill" : "decode");
    if (advise->context_tokens > 0) {
        fprintf(file, "context_tokens: %d # %s\n", (int)advise->context_tokens,
                advise->prefill ? "of every prompt" : "KV tokens of every sequence");
    } else {
        fputs("context_tokens: 0 # KV tokens of a sequence: as the trace's requests have them\n",
              file);
    }
    fputs("trace:\n  path: ", file);
    write_quoted(file, advise->trace_written);
    fprintf(file, "\n  tokens_per_rank: %d # %s\n  batching: interleaved # requests come and go\n",
            (int)advise->tokens_per_rank,
            advise->prefill ? "tokens of prompts a GPU and step" : "sequences a GPU");
    if (advise->num_steps < advise->num_steps_there) {
        fprintf(file, "  steps: %lld # of %lld that the trace fills; 0: all\n",
                (long long)advise->num_steps, (long long)advise->num_steps_there);
    }
    fputs("routing: {policy: trace, capacity_factor: 0} # as recorded; 0: nothing is dropped\n",
          file);
}

static void write_choices(FILE *file, const struct advise *advise)
{
    fprintf(file,
            "placement:\n  strategy: static # others: moesim list strategies\n"
            "  redundant_experts: %d # copies more a layer; experts and copies divide by ep\n"
            "  rebalance_interval_steps: %d # a new placement after so many, but of static\n",
            (int)advise->redundant[0], (int)advise->interval);
    fprintf(file,
            "dispatch: {replica: locality, collective: %s, dtype: %s, combine_dtype: bf16}\n"
            "network: alpha_beta\n",
            advise->collective->name,
            advise->cluster.gpu.flops_per_s[PRECISION_FP8] > 0.0 ? "fp8" : "bf16");
    fprintf(file, "compute: {model: %s, kernels: any} # %s\n",
            advise->is_fitted ? "fitted" : "roofline",
            advise->is_fitted ? "fitted to measured kernels of this GPU"
                              : "no kernel of this format was measured on this GPU");
    fputs("price: ", file);
    write_quoted(file, advise->price_written);
    fputs(" # or dollars a GPU-hour\nseed: 1\n", file);
}

char *advise_scenario_text(const struct advise *advise)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file == NULL) {
        return NULL;
    }
    write_world(file, advise);
    write_traffic(file, advise);
    write_choices(file, advise);
    bool failed = ferror(file) != 0;
    failed = fclose(file) != 0 || failed;
    if (failed) {
        free(text);
        return NULL;
    }
    return text;
}

static void scenario_path(char path[FILE_PATH_BYTES], const struct advise *advise)
{
    (void)snprintf(path, FILE_PATH_BYTES, "%.3900s/scenario.yaml", advise->out);
}

/* A scenario whose fingerprint is not that of its text, or that has none, is somebody's. */
static enum status check_unedited(const struct advise *advise, struct error *error)
{
    char path[FILE_PATH_BYTES];
    char digest[20];
    struct stat entry;
    struct arena arena = {0};
    const char *text = NULL;
    scenario_path(path, advise);
    if (advise->force || stat(path, &entry) != 0) {
        return STATUS_OK;
    }
    enum status status = text_read(&text, path, &arena, error);
    if (status == STATUS_OK) {
        bool is_ours = strncmp(text, FINGERPRINT, strlen(FINGERPRINT)) == 0;
        const char *said = text + (is_ours ? strlen(FINGERPRINT) : 0);
        const char *end = strchr(text, '\n');
        (void)snprintf(digest, sizeof digest, "%016llx",
                       (unsigned long long)digest_text(DIGEST_START, end != NULL ? end + 1 : ""));
        is_ours = is_ours && strncmp(said, digest, strlen(digest)) == 0;
        status = is_ours ? STATUS_OK
                         : error_add(error, STATUS_INVALID,
                                     "%s: has been edited: moesim compare %s --strategies all runs "
                                     "it; --force writes it anew, another -o keeps both",
                                     path, path);
    }
    arena_free(&arena);
    return status;
}

static enum status write_scenario(const struct advise *advise, const struct draft *draft,
                                  struct error *error)
{
    FILE *file = NULL;
    char *text = advise_scenario_text(advise);
    enum status status = text == NULL ? error_add(error, STATUS_NO_MEMORY, "out of memory")
                                      : draft_create(&file, draft, "scenario.yaml", error);
    if (status == STATUS_OK) {
        fprintf(file, FINGERPRINT "%016llx\n%s",
                (unsigned long long)digest_text(DIGEST_START, text), text);
        status = draft_finish(file, draft, "scenario.yaml", error);
    }
    free(text);
    return status;
}

/* Loads the draft, which lies elsewhere than the trace that it names, and weighs its fullest rank.
 */
static enum status weigh(struct advise *advise, struct scenario *scenario,
                         const struct draft *draft, struct error *error)
{
    char path[FILE_PATH_BYTES + sizeof "/scenario.yaml"];
    char trace[PATH_BYTES + sizeof "trace.path="];
    char whole[PATH_BYTES];
    advise_write_name(whole, advise->trace_path);
    (void)snprintf(path, sizeof path, "%s/scenario.yaml", draft->directory);
    (void)snprintf(trace, sizeof trace, "trace.path=%s", whole);
    const char *override[] = {trace};
    enum status status = scenario_load(scenario, path, override, 1, error);
    return status == STATUS_OK
               ? engine_kv_tokens_max(&advise->kv_tokens, scenario, &advise->trace, error)
               : status;
}

/* Replicas that a GPU has no room for are left out, and said. */
static void drop_large(struct advise *advise, struct scenario *scenario)
{
    for (int32_t i = 1; i < advise->num_redundant; i++) {
        scenario->redundant_experts = advise->redundant[i];
        struct memory_use use = scenario_memory(scenario, advise->kv_tokens);
        if (use.total_bytes > use.limit_bytes) {
            advise->redundant_too_many = advise->redundant[i];
            advise->num_redundant = i;
        }
    }
}

/* With fewer sequences a rank where nobody asked for so many and they do not fit. */
static enum status settle(struct advise *advise, const struct draft *draft, struct error *error)
{
    enum status status = STATUS_OK;
    bool is_over = false;
    do {
        struct scenario scenario = {0};
        choose_work(advise);
        status = write_scenario(advise, draft, error);
        status = status == STATUS_OK ? weigh(advise, &scenario, draft, error) : status;
        if (status == STATUS_OK) {
            struct memory_use use = scenario_memory(&scenario, advise->kv_tokens);
            bool can_lower = !advise->is_asked_tokens && advise->tokens_per_rank > 1;
            is_over = use.total_bytes > use.limit_bytes && can_lower;
            advise->tokens_per_rank /= is_over ? 2 : 1;
            status =
                is_over ? STATUS_OK : scenario_check_memory(&scenario, advise->kv_tokens, error);
        }
        if (status == STATUS_OK && !is_over) {
            drop_large(advise, &scenario);
        }
        scenario_free(&scenario);
    } while (status == STATUS_OK && is_over);
    return status;
}

enum status advise_settle(struct advise *advise, struct error *error)
{
    struct draft draft = {0};
    if (advise->context_tokens == 0 && (advise->prefill || advise->trace.num_requests == 0)) {
        advise->context_tokens = advise->prefill ? CONTEXT_PREFILL : CONTEXT_DECODE;
    }
    enum status status = choose_tokens(advise, error);
    if (status == STATUS_OK) {
        status = choose_redundant(advise, error);
    }
    if (status == STATUS_OK) {
        status = check_unedited(advise, error);
    }
    if (status == STATUS_OK) {
        status = draft_open(&draft, advise->out, error);
    }
    if (status == STATUS_OK) {
        status = settle(advise, &draft, error);
    }
    if (status == STATUS_OK) {
        status = draft_publish(&draft, "scenario.yaml", "scenario.yaml", error);
    }
    draft_close(&draft);
    return status;
}
