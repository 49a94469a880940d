/* cmd_trace_against.c -- moesim trace stats TRACE --against OTHER. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/trace_cli.h"
#include "trace_against.h"

static void cell(char text[16], double value, const char *format)
{
    if (isnan(value)) {
        (void)snprintf(text, 16, "-");
    } else {
        (void)snprintf(text, 16, format, value);
    }
}

static int32_t num_outside(const struct trace_figure *figure)
{
    int32_t outside = 0;
    for (int32_t i = 0; i < TRACE_FIGURES; i++) {
        outside += !isnan(figure[i].value) && !isnan(figure[i].other) && !figure[i].inside;
    }
    return outside;
}

static void print_figures(const struct trace_figure *figure, const struct trace *trace,
                          const struct trace *other)
{
    printf("%s beside %s, means over layers\n\n%-30s %9s %9s %8s %8s  %-8s %s\n", trace->name,
           other->name, "", "this", "other", "apart", "spread", "", "layers");
    for (int32_t i = 0; i < TRACE_FIGURES; i++) {
        char value[16];
        char of_other[16];
        char apart[16];
        char spread[16];
        const struct trace_figure *own = &figure[i];
        bool known = !isnan(own->value) && !isnan(own->other);
        cell(value, own->value, "%.4f");
        cell(of_other, own->other, "%.4f");
        cell(apart, 100 * (own->value / own->other - 1), "%+.1f %%");
        cell(spread, 100 * own->spread / own->other, "%.1f %%");
        printf("%-30s %9s %9s %8s %8s  %-8s %d/%d\n", own->name, value, of_other, apart, spread,
               !known        ? "unknown"
               : own->inside ? "inside"
                             : "OUTSIDE",
               own->layers_inside, own->num_layers);
    }
    printf("\n%d outside: further apart than 10 %% of the other and than twice its spread, which "
           "is the\nstandard deviation over draws of its requests. layers: how many are inside by "
           "themselves.\n",
           num_outside(figure));
}

static cJSON *figures_json(const struct trace_figure *figure, const struct trace *trace,
                           const struct trace *other)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "trace", trace->name);
    cJSON_AddStringToObject(object, "other", other->name);
    cJSON_AddNumberToObject(object, "num_outside", num_outside(figure));
    cJSON *figures = cJSON_AddArrayToObject(object, "figures");
    for (int32_t i = 0; i < TRACE_FIGURES; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", figure[i].name);
        cJSON_AddNumberToObject(one, "value", figure[i].value);
        cJSON_AddNumberToObject(one, "other", figure[i].other);
        cJSON_AddNumberToObject(one, "spread", figure[i].spread);
        cJSON_AddBoolToObject(one, "inside", figure[i].inside);
        cJSON_AddNumberToObject(one, "num_layers", figure[i].num_layers);
        cJSON_AddNumberToObject(one, "layers_inside", figure[i].layers_inside);
        cJSON_AddItemToArray(figures, one);
    }
    return object;
}

int trace_cli_figures(const struct trace_figure *figure, const struct trace *trace,
                      const struct trace *other, const struct trace_simulated *simulated, bool json)
{
    if (json) {
        cJSON *object = figures_json(figure, trace, other);
        if (simulated != NULL) {
            cJSON_AddItemToObject(object, "simulated", trace_cli_simulated_json(simulated));
        }
        return print_json(object);
    }
    print_figures(figure, trace, other);
    if (simulated != NULL) {
        trace_cli_print_simulated(simulated);
    }
    return 0;
}

int trace_cli_against(const char *directory, const char *other_directory,
                      const struct trace_stats_options *stats, int32_t num_draws, bool json,
                      bool fail)
{
    struct progress progress;
    struct error error = {0};
    struct trace trace = {0};
    struct trace other = {0};
    struct trace_figure figure[TRACE_FIGURES];
    struct trace_against_options options = {.stats = *stats, .num_draws = num_draws};
    options.stats.progress = trace_cli_progress;
    options.stats.context = &progress;
    enum status status = trace_open(&trace, directory, &error);
    if (status == STATUS_OK) {
        status = trace_open(&other, other_directory, &error);
    }
    if (status == STATUS_OK) {
        progress_begin(&progress, "measuring", "traces");
        status = trace_against(figure, &trace, &other, &options, &error);
        progress_end(&progress);
    }
    int code = status != STATUS_OK ? cli_fail(status, &error)
                                   : trace_cli_figures(figure, &trace, &other, NULL, json);
    if (code == 0 && fail && num_outside(figure) > 0) {
        code = 1;
    }
    trace_close(&other);
    trace_close(&trace);
    return code;
}
