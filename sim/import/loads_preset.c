/*
 * loads_preset.c -- a generator preset that gives every expert the share of tokens it had.
 *
 * Loads say nothing of requests, locality or other layers, so the preset has a popularity by layer
 * and expert and no more: rows of generate_coupled.h's table other than the base are zero. Its
 * choice, the top k of log-odds plus Gumbel noise, is a race: expert e arrives after an exponential
 * time of rate w[e], and the first k are chosen. e is among them with the chance
 *
 *     integral over t of w[e] exp(-w[e] t) P(fewer than k of the others have arrived by t)
 *
 * and the rates are scaled until that is top_k times the expert's share, for each expert.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "generate_coupled.h"
#include "import/loads.h"

#define ROUNDS     8
#define STEPS_UNIT 12   /* of the integral, in the time that k arrivals take */
#define UNITS      10   /* of that time: then all k have arrived */
#define RARE       1e-9 /* of a token: an expert that was never chosen */
#define ALWAYS     (1.0 - 1e-4)
#define ASSUMED    256  /* rows of a request */
#define CONTEXT    1000 /* tokens before its first */

/* One layer's race. */
struct race {
    int32_t num_experts;
    int32_t top_k;
    double *target;  /* [num_experts] chance to be chosen */
    double *rate;    /* [num_experts] */
    double *chance;  /* [num_experts] with these rates */
    double *arrived; /* [num_experts] chance to have arrived by t */
    double *all;     /* [top_k] chance that so many of all have arrived by t */
    double *others;  /* [top_k] the same without one expert */
};

/* Chances of 0 .. top_k - 1 arrivals, of all experts but one (-1: of all). */
static void count_arrivals(const struct race *race, double *count, int32_t without)
{
    memset(count, 0, (size_t)race->top_k * sizeof *count);
    count[0] = 1.0;
    for (int32_t e = 0; e < race->num_experts; e++) {
        double p = e == without ? 0.0 : race->arrived[e];
        for (int32_t k = race->top_k - 1; k > 0; k--) {
            count[k] += p * (count[k - 1] - count[k]);
        }
        count[0] *= 1.0 - p;
    }
}

/* Chance that fewer than top_k of the others have arrived. Taking one expert out of the counts of
 * all is exact while it has more likely not arrived; else they are counted anew. */
static double place_left(const struct race *race, int32_t expert)
{
    double p = race->arrived[expert];
    double sum = 0.0;
    if (p > 0.5) {
        count_arrivals(race, race->others, expert);
    } else {
        double before = 0.0;
        for (int32_t k = 0; k < race->top_k; k++) {
            before = (race->all[k] - p * before) / (1.0 - p);
            race->others[k] = before;
        }
    }
    for (int32_t k = 0; k < race->top_k; k++) {
        sum += race->others[k];
    }
    return sum < 0.0 ? 0.0 : sum > 1.0 ? 1.0 : sum;
}

/* The time by which top_k experts have arrived on average. */
static double unit_of_time(const struct race *race)
{
    double low = 0.0;
    double high = 1.0;
    for (int32_t i = 0; i < 200; i++) {
        double middle = 0.5 * (low + high);
        double count = 0.0;
        for (int32_t e = 0; e < race->num_experts; e++) {
            count -= expm1(-race->rate[e] * middle);
        }
        if (count < race->top_k - 1e-3) {
            low = middle;
            high = high - middle < 1e-12 * high ? 2.0 * high : high;
        } else {
            high = middle;
        }
    }
    return high;
}

/* Chances with the rates as they are, by the midpoint rule over what each step's arrivals add. */
static void run_race(struct race *race)
{
    const double step = unit_of_time(race) / STEPS_UNIT;
    memset(race->chance, 0, (size_t)race->num_experts * sizeof *race->chance);
    for (int32_t i = 0; i < UNITS * STEPS_UNIT; i++) {
        double begin = step * i;
        for (int32_t e = 0; e < race->num_experts; e++) {
            race->arrived[e] = -expm1(-race->rate[e] * (begin + 0.5 * step));
        }
        count_arrivals(race, race->all, -1);
        for (int32_t e = 0; e < race->num_experts; e++) {
            double arrives = -exp(-race->rate[e] * begin) * expm1(-race->rate[e] * step);
            race->chance[e] += arrives * place_left(race, e);
        }
    }
}

/* Rates that give the targets. */
static void solve_race(struct race *race)
{
    for (int32_t e = 0; e < race->num_experts; e++) {
        race->rate[e] = -log1p(-race->target[e]);
    }
    for (int32_t round = 0; round < ROUNDS; round++) {
        run_race(race);
        for (int32_t e = 0; e < race->num_experts; e++) {
            double chance = race->chance[e] < ALWAYS ? race->chance[e] : ALWAYS;
            race->rate[e] *= log1p(-race->target[e]) / log1p(-chance);
        }
    }
}

/* Targets of a layer from its loads. STATUS_INVALID: an expert has more than every token. */
static enum status set_targets(struct race *race, const struct import_sink *sink,
                               const int64_t *tokens, int32_t layer)
{
    double sum = 0.0;
    for (int32_t e = 0; e < race->num_experts; e++) {
        sum += (double)tokens[e];
    }
    if (sum <= 0.0) {
        return error_add(sink->error, STATUS_INVALID, "%s: layer %d has no token",
                         sink->options->paths[0], layer);
    }
    for (int32_t e = 0; e < race->num_experts; e++) {
        double chance = race->top_k * (double)tokens[e] / sum;
        if (chance > 1.0 + 1e-9) {
            return error_add(sink->error, STATUS_INVALID,
                             "%s: layer %d: expert %d has %.1f %% of the assignments, but with "
                             "top-%d none can have more than %.1f %%: look at --model and --top-k",
                             sink->options->paths[0], layer, e, 100.0 * (double)tokens[e] / sum,
                             race->top_k, 100.0 / race->top_k);
        }
        race->target[e] = chance < RARE ? RARE : chance > ALWAYS ? ALWAYS : chance;
    }
    return STATUS_OK;
}

static bool race_open(struct race *race, int32_t num_experts, int32_t top_k)
{
    size_t experts = (size_t)num_experts;
    *race = (struct race){.num_experts = num_experts, .top_k = top_k};
    race->target = malloc((4 * experts + 2 * (size_t)top_k) * sizeof *race->target);
    if (race->target != NULL) {
        race->rate = race->target + experts;
        race->chance = race->rate + experts;
        race->arrived = race->chance + experts;
        race->all = race->arrived + experts;
        race->others = race->all + top_k;
    }
    return race->target != NULL;
}

/* Fills the base rows of every layer's table. */
static enum status fill_tables(const struct import_sink *sink, const struct import_loads *loads,
                               const struct generate_preset *preset)
{
    const struct coupled_law *law = preset->coupled;
    int64_t layer_cells = (int64_t)coupled_first_row(law, COUPLED_ROW_KINDS) * law->num_experts;
    struct race race;
    enum status status = STATUS_OK;
    if (!race_open(&race, law->num_experts, law->top_k)) {
        return error_add(sink->error, STATUS_NO_MEMORY, "no memory for a preset");
    }
    for (int32_t row = 0; row < law->num_layers && status == STATUS_OK; row++) {
        int16_t *table = law->table + row * layer_cells;
        status = set_targets(&race, sink, loads->sum + (int64_t)row * law->num_experts,
                             preset->layer[row].model_layer);
        if (status == STATUS_OK) {
            solve_race(&race);
        }
        for (int32_t e = 0; e < law->num_experts && status == STATUS_OK; e++) {
            double odds = log(race.rate[e] * law->num_experts / law->top_k);
            for (int32_t k = 0; k < law->top_k; k++) {
                table[k * law->num_experts + e] = (int16_t)lround(odds * COUPLED_UNIT);
            }
        }
    }
    free(race.target);
    return status;
}

/* What loads do not tell is plain: one kind of request, without preferences of its own. */
static void set_preset(struct generate_preset *preset, struct coupled_law *law,
                       const struct import_sink *sink, const struct import_loads *loads)
{
    const struct import_options *options = sink->options;
    const char *slash = strrchr(options->paths[0], '/');
    const char *name = slash != NULL ? slash + 1 : options->paths[0];
    (void)snprintf(preset->model, sizeof preset->model, "%s", sink->summary->model);
    (void)snprintf(preset->source, sizeof preset->source, "%s%s",
                   options->source != NULL ? "" : "loads of ",
                   options->source != NULL ? options->source : name);
    (void)snprintf(preset->licence, sizeof preset->licence, "%s",
                   options->licence != NULL ? options->licence : "unknown");
    preset->num_experts = loads->num_experts;
    preset->top_k = sink->input.top_k;
    preset->num_layers = loads->num_rows;
    preset->arrivals_per_s = 10.0;
    preset->coupled = law;
    int32_t row = 0;
    for (int32_t layer = 0; layer < IMPORT_LOADS_LAYERS && row < loads->num_rows; layer++) {
        bool by_model = sink->input.model != NULL && loads->num_rows == sink->input.num_layers;
        bool is_there =
            by_model ? model_layer_is_moe(sink->input.model, layer) : loads->row[layer] >= 0;
        if (is_there) {
            preset->layer[row++].model_layer = layer;
        }
    }
    law->num_layers = loads->num_rows;
    law->num_experts = loads->num_experts;
    law->top_k = sink->input.top_k;
    law->num_factors = 1;
    law->num_domains = 1;
    law->gate_scale = 1.0;
    law->domain[0].requests = 1.0;
    for (int32_t i = 0; i < COUPLED_DRIFTS; i++) {
        law->drift_tokens[i] = ASSUMED;
    }
    for (int32_t i = 0; i < COUPLED_QUANTILES; i++) {
        law->domain[0].rows[i] = ASSUMED;
        law->domain[0].prompt_tokens[i] = CONTEXT;
    }
}

/* The table goes beside the preset, under its name: not over somebody's loads. */
static enum status check_table_path(const struct import_sink *sink)
{
    char table[4096];
    int stem = (int)(strlen(sink->path) - strlen(".yaml"));
    (void)snprintf(table, sizeof table, "%.*s.npy", stem, sink->path);
    return access(table, F_OK) == 0 && access(sink->path, F_OK) != 0
               ? error_add(sink->error, STATUS_INVALID,
                           "%s: exists, and the preset's table would have its name: name another "
                           "--out",
                           table)
               : STATUS_OK;
}

enum status import_loads_preset(const struct import_sink *sink, const struct import_loads *loads)
{
    enum status status = check_table_path(sink);
    if (status != STATUS_OK) {
        return status;
    }
    if (sink->summary->model[0] == '\0' || sink->input.top_k == 0) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: a preset needs --model, or --model, --num-experts and --top-k",
                         sink->path);
    }
    if (loads->num_experts > GENERATE_EXPERTS_MAX || loads->num_rows > GENERATE_LAYERS_MAX ||
        sink->input.top_k > GENERATE_TOP_K_MAX || sink->input.top_k > loads->num_experts ||
        loads->num_experts < 2) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: a preset has 2 to %d experts, at most %d layers and top-%d",
                         sink->path, GENERATE_EXPERTS_MAX, GENERATE_LAYERS_MAX, GENERATE_TOP_K_MAX);
    }
    struct generate_preset *preset = calloc(1, sizeof *preset);
    struct coupled_law *law = calloc(1, sizeof *law);
    if (preset == NULL || law == NULL) {
        free(preset);
        free(law);
        return error_add(sink->error, STATUS_NO_MEMORY, "no memory for a preset");
    }
    set_preset(preset, law, sink, loads);
    size_t rows = (size_t)law->num_layers * (size_t)coupled_first_row(law, COUPLED_ROW_KINDS);
    law->table = calloc(rows * (size_t)law->num_experts, sizeof *law->table);
    if (law->table == NULL) {
        status = error_add(sink->error, STATUS_NO_MEMORY, "no memory for a preset");
    }
    if (status == STATUS_OK) {
        status = fill_tables(sink, loads, preset);
    }
    if (status == STATUS_OK) {
        status = coupled_write(preset, sink->path,
                               "Popularity by layer and expert as it was measured. Loads tell no "
                               "more: tokens are\nindependent, requests of 256 rows after 1,000 "
                               "tokens of context are assumed.",
                               sink->error);
    }
    generate_preset_free(preset);
    free(preset);
    return status;
}
