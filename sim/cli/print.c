/* print.c -- a run for people, and for scripts. */
#include "cli/print.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/print_offload.h"
#include "collective/exchange.h"
#include "format.h"
#include "run_json.h"
#include "utf8.h"
#include "whole_engine.h"

#define BAR_CELLS        40
#define HOTTEST_SHOWN    5
#define REBALANCE_INDENT 17

static void print_phases(const struct variant *variant)
{
    puts("\nwhere a step's time goes, mean over ranks");
    for (int phase = 0; phase < STEP_PHASE_COUNT; phase++) {
        double share = phase_share(variant->metrics, (enum step_phase)phase);
        if (share <= 0.0) {
            continue;
        }
        char time[FORMAT_BYTES];
        char percent[FORMAT_BYTES];
        printf("  %-10s %9s %8s  ", step_phase_name((enum step_phase)phase),
               format_ns(time, share * variant->totals.step_ns_mean),
               format_percent(percent, share));
        for (int cell = 0; cell < (int)(share * BAR_CELLS + 0.5); cell++) {
            putchar('#');
        }
        putchar('\n');
    }
}

/* The experts with the highest load over their layer's mean, one a layer. */
static void print_hottest(const struct run_metrics *metrics)
{
    if (metrics->num_layers == 0) {
        return;
    }
    puts("\nhottest experts");
    double above = 1e300;
    int32_t above_layer = -1;
    for (int32_t shown = 0; shown < HOTTEST_SHOWN && shown < metrics->num_layers; shown++) {
        double best = -1.0;
        int32_t best_layer = 0;
        int32_t best_expert = 0;
        for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
            const int64_t *tokens = &metrics->expert_tokens[(int64_t)layer * metrics->num_experts];
            double mean = (double)metrics->layer[layer].assignments / (double)metrics->num_experts;
            int32_t hottest = 0;
            for (int32_t expert = 1; expert < metrics->num_experts; expert++) {
                hottest = tokens[expert] > tokens[hottest] ? expert : hottest;
            }
            double load = mean > 0.0 ? (double)tokens[hottest] / mean : 0.0;
            bool later = load < above || (load == above && layer > above_layer);
            if (later && load > best) {
                best = load;
                best_layer = layer;
                best_expert = hottest;
            }
        }
        printf("  layer %3d  expert %4d  %5.2f x the mean\n",
               (int)metrics->layer[best_layer].model_layer, (int)best_expert, best);
        above = best;
        above_layer = best_layer;
    }
}

void worth_text(char text[WORTH_BYTES], const struct run_metrics *metrics)
{
    struct rebalance_worth worth = rebalance_worth(metrics);
    char before[FORMAT_BYTES], settled[FORMAT_BYTES], cost[FORMAT_BYTES];
    if (worth.changes == 0) {
        snprintf(text, WORTH_BYTES, "no steps behind them tell what that was worth");
        return;
    }
    int used = snprintf(text, WORTH_BYTES,
                        "experts, all-to-all and waiting take %s in the %lld step%s before the "
                        "first, %s once settled; a change costs %s, ",
                        format_ns(before, worth.before_ns), (long long)metrics->first_steps,
                        metrics->first_steps == 1 ? "" : "s", format_ns(settled, worth.settled_ns),
                        format_ns(cost, worth.cost_ns));
    size_t left = WORTH_BYTES - (size_t)used;
    if (worth.payback_steps < 0.0) {
        snprintf(text + used, left, "never paid back");
    } else if (worth.payback_steps > worth.steps_between) {
        snprintf(text + used, left, "paid back after %.0f steps, but the next comes after %.0f",
                 ceil(worth.payback_steps), worth.steps_between + 1.0);
    } else {
        snprintf(text + used, left, "paid back after %.0f steps, if those before are typical",
                 ceil(worth.payback_steps));
    }
}

/* What a dispatch that lends sent, layer by layer and step by step. */
static void print_loans(const struct variant *variant)
{
    const struct run_metrics *metrics = variant->metrics;
    const struct scenario *scenario = &variant->scenario;
    if (metrics->experts_lent == 0) {
        return;
    }
    char size[FORMAT_BYTES];
    double layers = (double)metrics->num_layers * (double)metrics->num_steps;
    double bytes = (double)metrics->experts_lent * (double)model_expert_bytes(&scenario->model);
    printf("  lent           %.3g experts a layer and step by %s, %s\n",
           (double)metrics->experts_lent / layers, scenario->replica->name,
           format_bytes(size, bytes));
}

bool never_asked_text(char text[WORTH_BYTES], const struct scenario *scenario, int64_t num_steps)
{
    bool never = scenario->model.num_experts > 0 && scenario->strategy->needs != 0 &&
                 num_steps <= scenario->rebalance_interval_steps;
    snprintf(text, WORTH_BYTES,
             "%s was never asked, because the run has %lld steps and the interval is %d",
             scenario->strategy->name, (long long)num_steps,
             (int)scenario->rebalance_interval_steps);
    return never;
}

void print_rebalances(const struct variant *variant)
{
    const struct run_metrics *metrics = variant->metrics;
    char text[WORTH_BYTES];
    if (metrics->num_rebalances == 0) {
        if (never_asked_text(text, &variant->scenario, metrics->num_steps)) {
            printf("  rebalances     none: %s\n", text);
        }
        return;
    }
    int64_t moves = 0;
    int64_t bytes = 0;
    for (int32_t index = 0; index < metrics->num_rebalances; index++) {
        moves += metrics->rebalance[index].moves;
        bytes += metrics->rebalance[index].bytes;
    }
    char size[FORMAT_BYTES];
    printf("  rebalances     %d: %lld experts moved, %s\n", (int)metrics->num_rebalances,
           (long long)moves, format_bytes(size, (double)bytes));
    worth_text(text, metrics);
    printf("%*s", REBALANCE_INDENT, "");
    print_wrapped(text, REBALANCE_INDENT);
}

/* Bytes up to a space where a line may end: not between a number and its percent sign. */
static int unbroken(const char *text)
{
    size_t bytes = strcspn(text, " ");
    while (text[bytes] == ' ' && text[bytes + 1] == '%') {
        bytes += 1 + strcspn(text + bytes + 1, " ");
    }
    return (int)bytes;
}

void print_wrapped(const char *text, int indent)
{
    int column = indent;
    while (*text != '\0') {
        int word = unbroken(text);
        int columns = 0;
        for (int i = 0; i < word; i++) {
            columns += ((unsigned char)text[i] & 0xC0) != 0x80; /* a character once */
        }
        if (column > indent && column + 1 + columns > LINE_COLUMNS) {
            printf("\n%*s", indent, "");
            column = indent;
        }
        printf("%s%.*s", column > indent ? " " : "", word, text);
        column += columns + (column > indent);
        text += word;
        text += strspn(text, " ");
    }
    puts("");
}

void model_error_text(char text[EVIDENCE_BYTES], const struct scenario *scenario)
{
    const struct gpu_model *gpu_model = scenario->gpu_model;
    struct gpu_evidence evidence = gpu_model_evidence(gpu_model, &scenario->cluster.gpu);
    if (evidence.error_median < 0.0) {
        snprintf(text, EVIDENCE_BYTES, "unknown: %s and %s are not fitted to measurements",
                 gpu_model->name, scenario->net->name);
    } else {
        snprintf(
            text, EVIDENCE_BYTES, "%s%s%s: median %.1f %% on held-out %s; %s", gpu_model->name,
            evidence.kernels != NULL ? ", " : "", evidence.kernels != NULL ? evidence.kernels : "",
            100.0 * evidence.error_median, evidence.fitted_on,
            whole_engine_error(scenario->phase == PHASE_PREFILL, scenario->expert_tp > 1)->brief);
    }
}

void exchange_error_text(char text[EVIDENCE_BYTES], const struct scenario *scenario)
{
    struct exchange_evidence exchange = exchange_evidence(&scenario->cluster);
    if (exchange.error_median < 0.0) {
        snprintf(text, EVIDENCE_BYTES, "unknown: %s is not fitted to measurements%s",
                 scenario->collective->name,
                 scenario->cluster.preset[0] == '\0' ? "; some clusters are (moesim list clusters)"
                                                     : " of this cluster");
    } else {
        snprintf(text, EVIDENCE_BYTES, "%s on %s: median %.1f %% (%s)", scenario->collective->name,
                 scenario->cluster.preset, 100.0 * exchange.error_median, exchange.fitted_on);
    }
}

void print_model_error(const struct scenario *scenario)
{
    char text[EVIDENCE_BYTES];
    model_error_text(text, scenario);
    printf("  model error    %s\n", text);
}

void print_exchange_error(const struct scenario *scenario)
{
    char text[EVIDENCE_BYTES];
    if (scenario->ep > 1) {
        exchange_error_text(text, scenario);
        printf("  exchange error %s\n", text);
    }
}

static void print_evidence(const struct variant *variant)
{
    const struct scenario *scenario = &variant->scenario;
    char share[FORMAT_BYTES];
    print_model_error(scenario);
    if (scenario->gpu_model->table_share != NULL) {
        printf("  compute time   %s out of the table, the rest by the fit\n",
               format_percent(share, variant->totals.table_share));
    }
    print_exchange_error(scenario);
}

static void print_cost(const struct variant *variant)
{
    const struct scenario *scenario = &variant->scenario;
    const struct price *price = &scenario->price;
    char cost[FORMAT_BYTES], hour[FORMAT_BYTES], note[MONEY_NOTE_BYTES];
    struct money money = {0};
    money_add(&money, &price->currency);
    printf("  cost           %s per million tokens at %s a GPU-hour (%s, %s)\n",
           format_money(cost, variant->totals.usd_per_million_tokens, &price->currency),
           format_money(hour, price->usd_per_gpu_hour, &price->currency), price->name, price->date);
    if (money_note(note, &money)[0] != '\0') {
        printf("  money          %s\n", note);
    }
    print_evidence(variant);
}

/* Said where a router chose or a capacity was enforced: a plain replay gives up nothing. */
static void print_routing(const struct variant *variant)
{
    const struct scenario *scenario = &variant->scenario;
    struct route_settings settings = scenario_route_settings(scenario);
    bool is_replay = strcmp(scenario->router->name, "trace") == 0;
    if (variant->metrics->num_layers == 0 ||
        (is_replay && !drop_applies(scenario->drop, &settings))) {
        return;
    }
    struct route_totals totals = route_totals(variant->metrics);
    char mass[FORMAT_BYTES] = "unknown";
    char text[FORMAT_BYTES];
    if (variant->metrics->gate_mass_is_known) {
        format_percent(mass, totals.gate_mass);
    }
    printf("  router         %s: gate mass %s, hottest expert %.2f x the mean a batch, %.2f over "
           "the run\n",
           scenario->router->name, mass, 1.0 + totals.max_violation_batch,
           1.0 + totals.max_violation_global);
    if (drop_applies(scenario->drop, &settings)) {
        printf("  capacity       %s: %s of tokens without an expert, ", scenario->drop->name,
               format_percent(text, totals.tokens_without_expert));
        printf("%s of buffers filled\n", format_percent(text, totals.places_filled));
    }
}

void print_summary(const struct variant *variant)
{
    const struct scenario *scenario = &variant->scenario;
    const struct run_totals *totals = &variant->totals;
    char text[FORMAT_BYTES];
    char more[FORMAT_BYTES];
    char sharing[SHARING_BYTES];
    printf("%s on %d x %s, %s, %s%s%s\n%s\n\n", scenario->model.name, (int)scenario->ep,
           scenario->cluster.gpu.name, scenario_sharing(sharing, scenario->ep, scenario->expert_tp),
           scenario->phase == PHASE_DECODE ? "decode" : "prefill",
           variant->label[0] != '\0' ? ", " : "", variant->label, scenario->question);
    printf("  steps          %lld of %lld tokens\n", (long long)variant->metrics->num_steps,
           (long long)(totals->tokens / variant->metrics->num_steps));
    printf("  step           %s\n", format_ns(text, totals->step_ns_mean));
    printf("  throughput     %s tokens/s a GPU\n",
           format_count(text, totals->tokens_per_s_per_gpu));
    print_cost(variant);
    if (variant->metrics->num_layers > 0) {
        printf("  busiest rank   %.2f x the mean, over layers and steps (balancedness %.3f)\n",
               totals->rank_tokens_max_over_mean, totals->balancedness);
        printf("  dropped        %s of %s assignments\n",
               format_percent(text, totals->assignments > 0 ? (double)totals->dropped_assignments /
                                                                  (double)totals->assignments
                                                            : 0.0),
               format_count(more, (double)totals->assignments));
    }
    print_routing(variant);
    print_loans(variant);
    print_offload(variant);
    print_rebalances(variant);
    print_phases(variant);
    print_hottest(variant->metrics);
    printf("\nrun %s, digest %016llx\n", variant->run_id,
           (unsigned long long)variant->metrics->digest);
}

cJSON *variant_json(const struct variant *variant)
{
    return run_json(variant->run_id, variant->label, &variant->scenario, variant->metrics);
}

void print_odd_rows(const struct odd_rows *odd)
{
    if (odd->count > 0) {
        printf("\nleft out %lld %s for what %s cells hold (%s%s)\n", (long long)odd->count,
               odd->count == 1 ? "row" : "rows", odd->count == 1 ? "its" : "their",
               odd->count == 1 ? "" : "first: ", odd->first);
    }
}

int print_json(cJSON *json)
{
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (text == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    utf8_mend(text); /* names of files are in it */
    puts(text);
    cJSON_free(text);
    return 0;
}

void print_money_note(const struct money *money)
{
    char note[MONEY_NOTE_BYTES];
    if (money_note(note, money)[0] != '\0') {
        puts(note);
    }
}
