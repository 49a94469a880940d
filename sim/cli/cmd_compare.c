/* cmd_compare.c -- moesim compare: variants of one scenario, side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/options.h"
#include "cli/print.h"
#include "format.h"
#include "progress.h"
#include "report.h"
#include "run_json.h"

static const char help[] =
    "usage: moesim compare SCENARIO --vary KEY=A,B,C [--vary ...] [options]\n\n"
    "Simulates every combination of the varied keys and shows them side by side. The first is the\n"
    "one the others are compared with.\n\n"
    "      --vary KEY=A,B,C  values of one key; several --vary make all combinations\n"
    "  -o, --output FILE     results file (SQLite), default results.db\n"
    "  -r, --report DIR      also make the page with the comparison figures\n"
    "      --set KEY=VALUE   override one key in all variants; may be repeated\n"
    "      --seed N          the same as --set seed=N\n"
    "      --threads N       simulations at a time, default all cores\n"
    "  -j, --json            print the results as JSON\n\n"
    "example:\n"
    "  moesim compare scenarios/studies/router_lab_training_8xh100.yaml \\\n"
    "      --vary placement.strategy=static,eplb --report out/compare\n";

/* Splits "key=a,b,c" number vary into value index; writes "key=b". False: no such value. */
static bool nth_value(char *text, size_t text_bytes, const char *vary, int32_t index)
{
    const char *value = strchr(vary, '=') + 1;
    for (; index > 0; index--) {
        value = strchr(value, ',');
        if (value == NULL) {
            return false;
        }
        value++;
    }
    int length = (int)strcspn(value, ",");
    snprintf(text, text_bytes, "%.*s%.*s", (int)(strchr(vary, '=') + 1 - vary), vary, length,
             value);
    return true;
}

static int32_t count_values(const char *vary)
{
    int32_t count = 1;
    for (const char *text = vary; *text != '\0'; text++) {
        count += *text == ',';
    }
    return count;
}

static int check_vary(const struct cli_options *options, const char *command, int32_t *count)
{
    if (options->num_vary == 0) {
        return cli_usage(command, "say what to vary: --vary placement.strategy=static,eplb");
    }
    *count = 1;
    for (int32_t index = 0; index < options->num_vary; index++) {
        const char *equals = strchr(options->vary[index], '=');
        if (equals == NULL || equals == options->vary[index] || equals[1] == '\0') {
            return cli_usage(command, "--vary %s: expected KEY=A,B,C", options->vary[index]);
        }
        int32_t values = count_values(options->vary[index]);
        if (values > VARIANTS_MAX / *count) {
            return cli_usage(command, "more than %d variants", VARIANTS_MAX);
        }
        *count *= values;
    }
    return -1;
}

/* Loads variant number index of the product; the last --vary runs fastest. */
static enum status load_variant(struct variant *variant, const struct cli_options *options,
                                int32_t index, struct error *error)
{
    char text[VARY_MAX][LABEL_BYTES];
    const char *override[OVERRIDES_MAX + VARY_MAX];
    int32_t num_overrides = options->num_overrides;
    memcpy(override, options->override, sizeof options->override);
    for (int32_t vary = options->num_vary - 1; vary >= 0; vary--) {
        int32_t values = count_values(options->vary[vary]);
        bool found = nth_value(text[vary], sizeof text[vary], options->vary[vary], index % values);
        index = found ? index / values : 0;
    }
    size_t used = 0;
    for (int32_t vary = 0; vary < options->num_vary; vary++) {
        override[num_overrides++] = text[vary];
        int written = snprintf(variant->label + used, sizeof variant->label - used, "%s%s",
                               vary > 0 ? " " : "", text[vary]);
        used += written > 0 && (size_t)written < sizeof variant->label - used ? (size_t)written : 0;
    }
    return scenario_load(&variant->scenario, options->scenario, override, num_overrides, error);
}

/* A mistake in one variant is often one in all: tells those of the first that has any. */
static enum status load_all(struct variant *variants, int32_t count,
                            const struct cli_options *options, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t index = 0; index < count && status == STATUS_OK; index++) {
        status = load_variant(&variants[index], options, index, error);
    }
    return status;
}

static enum status open_all(struct variant *variants, int32_t count,
                            const struct cli_options *options, struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t index = 0; index < count && status == STATUS_OK; index++) {
        status = variant_open(&variants[index], variants, index, cli_threads(options), error);
    }
    return status;
}

/* The variant the page is about. */
static int32_t cheapest(const struct variant *variants, int32_t count)
{
    int32_t best = 0;
    for (int32_t index = 1; index < count; index++) {
        if (variants[index].totals.usd_per_million_tokens <
            variants[best].totals.usd_per_million_tokens) {
            best = index;
        }
    }
    return best;
}

static enum status store_all(struct variant *variants, int32_t count,
                             const struct cli_options *options, struct error *error)
{
    struct store *store = NULL;
    enum status status = store_open(&store, options->results, true, error);
    for (int32_t index = 0; index < count && status == STATUS_OK; index++) {
        status = variant_store(&variants[index], store, error);
    }
    store_close(store);
    if (status == STATUS_OK && options->report != NULL) {
        struct report_options report = {options->results, options->report,
                                        variants[cheapest(variants, count)].run_id};
        status = report_write(&report, error);
    }
    return status;
}

static void print_table(const struct variant *variants, int32_t count)
{
    int width = (int)strlen("variant");
    for (int32_t index = 0; index < count; index++) {
        int length = (int)strlen(variants[index].label);
        width = length > width ? length : width;
    }
    printf("%-*s %10s %8s %10s %9s %9s %9s %8s %9s\n", width, "variant", "step", "vs first",
           "tok/s/GPU", "$/M tok", "max/mean", "dropped", "moved", "comm.");
    for (int32_t index = 0; index < count; index++) {
        const struct variant *variant = &variants[index];
        const struct run_totals *totals = &variant->totals;
        int64_t moved = 0;
        for (int32_t move = 0; move < variant->metrics->num_rebalances; move++) {
            moved += variant->metrics->rebalance[move].bytes;
        }
        double dropped = totals->assignments > 0
                             ? (double)totals->dropped_assignments / (double)totals->assignments
                             : 0.0;
        double communication = phase_share(variant->metrics, STEP_DISPATCH) +
                               phase_share(variant->metrics, STEP_COMBINE) +
                               phase_share(variant->metrics, STEP_EXCHANGE);
        char text[6][FORMAT_BYTES];
        printf("%-*s %10s %+7.1f%% %10s %9s %9.3f %9s %8s %9s\n", width, variant->label,
               format_ns(text[0], totals->step_ns_mean),
               100.0 * (totals->step_ns_mean / variants[0].totals.step_ns_mean - 1.0),
               format_count(text[1], totals->tokens_per_s_per_gpu),
               format_usd(text[2], totals->usd_per_million_tokens),
               totals->rank_tokens_max_over_mean, format_percent(text[3], dropped),
               format_bytes(text[4], (double)moved), format_percent(text[5], communication));
    }
}

static int print_all(const struct variant *variants, int32_t count,
                     const struct cli_options *options)
{
    if (options->json) {
        cJSON *json = cJSON_CreateObject();
        cJSON *runs = cJSON_AddArrayToObject(json, "runs");
        for (int32_t index = 0; index < count; index++) {
            cJSON_AddItemToArray(runs, variant_json(&variants[index]));
        }
        return print_json(json);
    }
    printf("%s\n\n", variants[0].scenario.question);
    print_table(variants, count);
    for (int32_t index = 0; index < count; index++) {
        if (variants[index].metrics->num_rebalances > 0) {
            printf("\n%s\n", variants[index].label);
            print_rebalances(&variants[index]);
        }
    }
    printf("\nstored in %s", options->results);
    if (options->report != NULL) {
        printf("; page: %s/index.html\n", options->report);
    } else {
        printf("; for the page: moesim report %s -o out/\n", options->results);
    }
    return 0;
}

int compare_run(struct variant *variants, int32_t count, const struct cli_options *options,
                struct error *error)
{
    enum status status = open_all(variants, count, options, error);
    if (status == STATUS_OK) {
        status = compare_simulate(variants, count, cli_threads(options), error);
    }
    if (status == STATUS_OK) {
        status = store_all(variants, count, options, error);
    }
    return status == STATUS_OK ? print_all(variants, count, options) : cli_fail(status, error);
}

int command_compare(int argc, char **argv)
{
    struct cli_options options;
    int32_t count = 0;
    int code = cli_parse(&options, argc, argv, help);
    if (code < 0) {
        code = check_vary(&options, argv[0], &count);
    }
    if (code >= 0) {
        return code;
    }
    struct variant *variants = calloc((size_t)count, sizeof *variants);
    struct error *error = calloc(1, sizeof *error);
    if (variants == NULL || error == NULL) {
        free(variants);
        free(error);
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    enum status status = load_all(variants, count, &options, error);
    code = status == STATUS_OK ? compare_run(variants, count, &options, error)
                               : cli_fail(status, error);
    for (int32_t index = count - 1; index >= 0; index--) {
        variant_close(&variants[index]);
    }
    free(variants);
    free(error);
    return code;
}
