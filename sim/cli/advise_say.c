/*
 * advise_say.c -- what was simulated, in sentences.
 *
 * The first group of the study has no more copies of experts than ranks need; its reference leaves
 * them in place. A layer's busiest rank is told twice: of the mean step, where chance makes any
 * rank the busiest, and of the whole run, where only what lasts is left, which is what a placement
 * can help.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/advise.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "format.h"
#include "run_json.h"

#define HOT         1.2 /* busiest rank over the mean, of the whole run */
#define LASTING     2.0 /* times as uneven in a step as over the run: half does not last */
#define LAYERS_TOLD 5
#define RANKS_TOLD  5
#define FACTOR_TOLD 2.0  /* the largest capacity factor of the list */
#define DROPS_FEW   0.01 /* of all assignments */
#define MEBI        1048576.0

static void add(struct advise *advise, const char *topic)
{
    advise->line[advise->num_lines++] = (struct advise_line){.topic = topic};
}

/* Appends to the newest line. */
static __attribute__((format(printf, 2, 3))) void say(struct advise *advise, const char *format,
                                                      ...)
{
    char text[ADVISE_LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    format_append(advise->line[advise->num_lines - 1].text, ADVISE_LINE_BYTES, "%s", text);
}

/* The hottest layer that is no hotter than the one told before; of equals, the lowest first. */
static bool next_layer(struct advise_layer *next, const struct run_metrics *metrics,
                       const struct advise_layer *before)
{
    bool found = false;
    for (int32_t i = 0; i < metrics->num_layers; i++) {
        struct advise_layer layer = advise_layer_of(metrics, i);
        bool is_behind = before == NULL || layer.run_over_mean < before->run_over_mean ||
                         (layer.run_over_mean == before->run_over_mean &&
                          layer.model_layer > before->model_layer);
        if (is_behind && (!found || layer.run_over_mean > next->run_over_mean)) {
            *next = layer;
            found = true;
        }
    }
    return found;
}

static void say_step(struct advise *advise, const struct study_run *plain)
{
    const struct run_totals *totals = plain->totals;
    const struct price *price = &plain->scenario->price;
    char step[FORMAT_BYTES], rate[FORMAT_BYTES], cost[FORMAT_BYTES], hour[FORMAT_BYTES];
    char waiting[FORMAT_BYTES];
    add(advise, "a step");
    say(advise,
        "With the experts left in place a step of %lld tokens takes %s, %s of it waiting for "
        "slower ranks: %s tokens/s a GPU, %s a million at %s a GPU-hour (%s).",
        (long long)(totals->tokens / plain->metrics->num_steps),
        format_ns(step, totals->step_ns_mean),
        format_percent(waiting, phase_share(plain->metrics, STEP_WAITING)),
        format_count(rate, totals->tokens_per_s_per_gpu),
        format_money(cost, totals->usd_per_million_tokens, &price->currency),
        format_money(hour, price->usd_per_gpu_hour, &price->currency), price->name);
}

static void say_layers(struct advise *advise, const struct study_run *plain)
{
    const struct run_metrics *metrics = plain->metrics;
    struct advise_layer hottest = {0};
    int32_t num_hot = 0;
    double sum = 0.0;
    add(advise, "hot layers");
    for (int32_t i = 0; i < metrics->num_layers; i++) {
        double over_mean = advise_layer_of(metrics, i).run_over_mean;
        num_hot += over_mean >= HOT;
        sum += over_mean;
    }
    (void)next_layer(&hottest, metrics, NULL);
    if (num_hot == 0) {
        say(advise,
            "No layer is hot: over the whole run no layer's busiest rank carries more than %.2f "
            "times the mean rank's tokens (layer %d).",
            hottest.run_over_mean, (int)hottest.model_layer);
    } else {
        say(advise,
            "%d of %d layers %s hot: over the whole run %s busiest rank carries %.1f times the "
            "mean rank's tokens or more. Hottest is layer %d, %.2f times; its expert %d alone has "
            "%.1f times the tokens of the mean expert.",
            (int)num_hot, (int)metrics->num_layers, num_hot == 1 ? "is" : "are",
            num_hot == 1 ? "its" : "their", HOT, (int)hottest.model_layer, hottest.run_over_mean,
            (int)hottest.expert, hottest.expert_over_mean);
    }
    struct advise_layer layer = hottest;
    for (int32_t told = 1; told < LAYERS_TOLD && told < num_hot; told++) {
        struct advise_layer before = layer;
        (void)next_layer(&layer, metrics, &before);
        say(advise, "%s layer %d (%.2f)%s", told == 1 ? " Then come" : ",", (int)layer.model_layer,
            layer.run_over_mean, told + 1 == LAYERS_TOLD || told + 1 == num_hot ? "." : "");
    }
    double of_step = plain->totals->rank_tokens_max_over_mean;
    double of_run = sum / metrics->num_layers;
    say(advise,
        " In the mean layer the busiest rank carries %.2f times the mean in a step and %.2f times "
        "over the run: %s.",
        of_step, of_run,
        of_step - 1.0 > LASTING * (of_run - 1.0)
            ? "most of it comes and goes, and no placement can follow that"
            : "most of it lasts, and a placement can follow that");
}

static void say_gain(struct advise *advise, const char *before, const struct study_run *run)
{
    say(advise, "%s%s %+.1f %%", before, run->name, 100.0 * run->gain);
    if (run->changes > 0 && run->is_settled) {
        say(advise, " (%+.1f %%)", 100.0 * run->settled_gain);
    }
}

static void say_balancing(struct advise *advise, const struct study *study)
{
    int32_t count = study->group[0].count;
    add(advise, "balancing");
    say(advise, "%s Ranked, net of what they move (once settled):", study->group[0].verdict);
    for (int32_t place = 1; place <= count && place <= RANKS_TOLD; place++) {
        say_gain(advise, place > 1 ? ", " : " ", advise_place(study, 0, place));
    }
    if (count > RANKS_TOLD) {
        say(advise, "; last of %d", (int)count);
        say_gain(advise, " ", advise_place(study, 0, count));
    }
    say(advise, ".");
}

static void say_replica_worth(struct advise *advise, double without, double with, int32_t redundant)
{
    if (with - without >= STUDY_GAIN_MIN) {
        say(advise,
            " Replication is worth another %.1f %% of a step beyond the best without, with %d.",
            100.0 * (with - without), (int)redundant);
    } else if (without >= STUDY_GAIN_MIN) {
        say(advise,
            " Replication is not worth its memory: none shortens a step by another %.1f %% beyond "
            "the %.1f %% of the best without.",
            100.0 * STUDY_GAIN_MIN, 100.0 * without);
    } else {
        say(advise, " Replication is not worth its memory: none shortens a step by %.1f %%.",
            100.0 * STUDY_GAIN_MIN);
    }
}

static void say_replication(struct advise *advise, const struct study *study)
{
    struct advise_replicas most = advise_replicas_of(study, 0);
    double without = most.gain;
    char kv_tokens[FORMAT_BYTES], number[32];
    if (study->num_groups > 1 || advise->redundant_too_many > 0) {
        add(advise, "replication");
    }
    for (int32_t group = 1; group < study->num_groups; group++) {
        struct advise_replicas of = advise_replicas_of(study, group);
        if (group == 1) {
            say(advise, "Beside experts left in place with %d redundant ones, steps are at best",
                (int)most.best->scenario->redundant_experts);
        }
        say(advise, "%s %.1f %% %s with %d (%s; %s MiB a GPU, the room of %s KV tokens)%s",
            group > 1 ? "," : "", 100.0 * fabs(of.gain), of.gain < 0.0 ? "longer" : "shorter",
            (int)of.best->scenario->redundant_experts, of.best->name,
            trace_cli_grouped(number, llround((double)of.bytes / MEBI)),
            format_count(kv_tokens, of.kv_tokens), group + 1 == study->num_groups ? "." : "");
        most = of.gain > most.gain ? of : most;
    }
    if (study->num_groups > 1) {
        say_replica_worth(advise, without, most.gain, most.best->scenario->redundant_experts);
    }
    if (advise->redundant_too_many > 0) {
        say(advise, "%s%d redundant experts do not fit beside the KV cache.",
            study->num_groups > 1 ? " " : "", (int)advise->redundant_too_many);
    }
}

/* What a change of placement costs, and when that is paid back. */
static void say_payback(struct advise *advise, const struct study_run *run)
{
    char cost[FORMAT_BYTES];
    double steps = ceil(run->payback_steps);
    (void)format_ns(cost, run->change_ns);
    if (!run->is_settled) {
        say(advise, "; no step lies behind a change that would tell what it is worth.");
    } else if (run->payback_steps < 0.0) {
        say(advise, "; one costs %s and is never paid back.", cost);
    } else if (steps > advise->interval) {
        say(advise,
            "; one costs %s and would be paid back after %.0f steps, but the next comes after %d.",
            cost, steps, (int)advise->interval);
    } else {
        say(advise, "; one costs %s and is paid back after %.0f of the %d steps between changes.",
            cost, steps, (int)advise->interval);
    }
}

static void say_migrations(struct advise *advise, const struct study *study)
{
    const struct study_run *best = NULL;
    int32_t num_moving = 0;
    int32_t num_paid = 0;
    char bytes[FORMAT_BYTES];
    add(advise, "migrations");
    for (int32_t place = study->group[0].count; place > 0; place--) {
        const struct study_run *run = advise_place(study, 0, place);
        if (run->changes > 0) {
            best = run;
            num_moving++;
            num_paid += run->payback_steps >= 0.0 && run->payback_steps <= advise->interval;
        }
    }
    if (best == NULL) {
        say(advise, "No strategy moved an expert.");
        return;
    }
    bool is_one = best->changes == 1;
    say(advise, "%s's %d change%s of placement move%s %.0f copies of experts%s (%s)", best->name,
        (int)best->changes, is_one ? "" : "s", is_one ? "s" : "",
        (double)best->moves / best->changes, is_one ? "" : " each",
        format_bytes(bytes, (double)best->moved_bytes / best->changes));
    say_payback(advise, best);
    say(advise,
        " Of %d strategies that move anything, %d %s paid back before the next change. The "
        "interval "
        "suits the length of the trace: in a longer one a change costs less a step, and serves "
        "older loads.",
        (int)num_moving, (int)num_paid, num_paid == 1 ? "is" : "are");
}

static void say_capacity(struct advise *advise, const struct study_run *plain)
{
    const struct run_metrics *metrics = plain->metrics;
    enum capacity_scope scope = plain->scenario->capacity_scope;
    const int64_t *dropped = &metrics->dropped_at[(int32_t)scope * DROP_FACTORS];
    double assignments = (double)plain->totals->assignments;
    char share[FORMAT_BYTES];
    int32_t enough = 0;
    add(advise, "capacity");
    for (int32_t i = 0; i < DROP_FACTORS && drop_factors[i] <= FACTOR_TOLD; i++) {
        say(advise,
            i == 0 ? "Of all assignments %s would be dropped at a capacity factor of %g"
                   : ", %s at %g",
            format_percent(share, (double)dropped[i] / assignments), drop_factors[i]);
    }
    while (enough < DROP_FACTORS - 1 && (double)dropped[enough] / assignments >= DROPS_FEW) {
        enough++;
    }
    say(advise, " (counted %s; this replay drops nothing).",
        scope == CAPACITY_RANK ? "for each source rank" : "over the step");
    if ((double)dropped[enough] / assignments < DROPS_FEW) {
        say(advise, " The least of nine factors that drops under %.0f %% is %g.", 100.0 * DROPS_FEW,
            drop_factors[enough]);
    }
}

static void say_nodes(struct advise *advise, const struct study_run *plain)
{
    char share[FORMAT_BYTES], bytes[FORMAT_BYTES];
    add(advise, "nodes");
    if (plain->scenario->cluster.num_nodes == 1) {
        say(advise, "All %d GPUs are on one node: no token leaves it.", (int)plain->scenario->ep);
    } else {
        say(advise, "%s of what dispatch sends leaves its node, %s a step.",
            format_percent(share, plain->totals->cross_node_share),
            format_bytes(bytes, (double)plain->metrics->dispatch_cross_node_bytes /
                                    (double)plain->metrics->num_steps));
    }
}

static void say_errors(struct advise *advise, const struct study_run *plain)
{
    char text[EVIDENCE_BYTES];
    add(advise, "model error");
    model_error_text(text, plain->scenario);
    say(advise, "Of compute: %s.", text);
    if (plain->scenario->ep > 1) {
        exchange_error_text(text, plain->scenario);
        say(advise, " Of exchanges: %s.", text);
    }
    say(advise, " Tokens are counted, not modelled.");
}

static void say_extent(struct advise *advise)
{
    if (advise->num_steps == advise->num_steps_there && strcmp(advise->strategies, "all") == 0) {
        return;
    }
    add(advise, "left out");
    say(advise, "Simulated were %lld of %lld steps", (long long)advise->num_steps,
        (long long)advise->num_steps_there);
    if (strcmp(advise->strategies, "all") != 0) {
        say(advise, ", and of the strategies %s alone", advise->strategies);
    }
    say(advise, ", to be done in about a minute; --all does the rest.");
}

/* The command that puts the winner to the test, the one that makes its placement, and one more. */
static void say_next(struct advise *advise, const struct study *study)
{
    const struct study_run *best = &study->run[study->group[0].winner];
    const struct study_run *moved = best;
    for (int32_t place = study->group[0].count; place > 0; place--) {
        const struct study_run *run = advise_place(study, 0, place);
        moved = run->scenario->strategy->needs != 0 ? run : moved;
    }
    const struct scenario *scenario = best->scenario;
    struct advise_next *next = advise->next;
    next[0].purpose = "how the answer moves with redundancy, interval, batch and GPUs, or when you "
                      "have edited the scenario";
    (void)snprintf(next[0].command, sizeof next[0].command,
                   "moesim compare %s/scenario.yaml --strategies static,%s --sensitivity -o "
                   "%s/sensitivity.db -r %s/sensitivity",
                   advise->out, moved->name, advise->out, advise->out);
    if (best->gain < STUDY_GAIN_MIN) { /* then no placement is better than the one that is there */
        next[1].purpose = "what every rank does when, for ui.perfetto.dev";
        (void)snprintf(next[1].command, sizeof next[1].command,
                       "moesim run %s/scenario.yaml -o %s/run.db --timeline %s/timeline.json",
                       advise->out, advise->out, advise->out);
    } else {
        next[1].purpose = "a placement by these loads, for an engine to load";
        (void)snprintf(next[1].command, sizeof next[1].command,
                       "moesim place --strategy %s --load %s --slots %d --gpus %d --nodes %d "
                       "--expert-bytes %lld --out %s/placement.csv",
                       moved->name, advise->trace_path,
                       (int)(scenario->model.num_experts + scenario->redundant_experts),
                       (int)scenario->ep, (int)scenario->cluster.num_nodes,
                       (long long)model_expert_bytes(&scenario->model), advise->out);
    }
    next[2].purpose = "the routing itself, layer by layer";
    (void)snprintf(next[2].command, sizeof next[2].command, "moesim trace stats %s",
                   advise->trace_path);
}

void advise_say(struct advise *advise, const struct study *study)
{
    const struct study_run *plain = advise_reference(study, 0);
    say_step(advise, plain);
    say_layers(advise, plain);
    say_balancing(advise, study);
    say_replication(advise, study);
    say_migrations(advise, study);
    say_capacity(advise, plain);
    say_nodes(advise, plain);
    say_errors(advise, plain);
    say_extent(advise);
    say_next(advise, study);
}
