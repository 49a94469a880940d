/* compare_plan.c -- combinations of settings, and what they are called. */
#include "cli/compare_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/balance.h"
#include "cli/cli.h"
#include "cli/compare.h"

#define STRATEGY_KEY   "placement.strategy="
#define STRATEGY_BYTES 2048

/* A key and its values; values [num_values] are pieces of one text, parted by commas. */
struct axis {
    const char *text; /* "key=a,b" */
    bool optional;
};

static int32_t count_values(const char *text)
{
    int32_t count = 1;
    for (; *text != '\0'; text++) {
        count += *text == ',';
    }
    return count;
}

/* Writes "key=b", value index of "key=a,b,c", and returns the length of "b". */
static size_t nth_value(char setting[LABEL_BYTES], const char *text, int32_t index)
{
    int key = (int)(strchr(text, '=') + 1 - text);
    const char *value = text + key;
    for (; index > 0; index--) {
        value = strchr(value, ',') + 1;
    }
    size_t length = strcspn(value, ",");
    snprintf(setting, LABEL_BYTES, "%.*s%.*s", key, text, (int)length, value);
    return length;
}

/* Returns -1 if every value is there and there once. */
static int check_values(const char *option, const char *text, const char *command)
{
    for (int32_t index = 0; index < count_values(text); index++) {
        char setting[LABEL_BYTES];
        if (nth_value(setting, text, index) == 0) {
            return cli_usage(command, "%s %s: value %d is empty", option, text, (int)index + 1);
        }
        for (int32_t other = 0; other < index; other++) {
            char earlier[LABEL_BYTES];
            nth_value(earlier, text, other);
            if (strcmp(setting, earlier) == 0) {
                return cli_usage(command, "%s %s: %s stands there twice", option, text, setting);
            }
        }
    }
    return -1;
}

/* Returns -1 if no axis before the last varies its key, too. */
static int check_keys(const struct axis *axis, int32_t num_axes, const char *command)
{
    const char *last = axis[num_axes - 1].text;
    size_t key_bytes = strcspn(last, "=") + 1;
    for (int32_t index = 0; index < num_axes - 1; index++) {
        if (strncmp(axis[index].text, last, key_bytes) == 0) {
            return cli_usage(command, "%.*s varies twice; put all its values into one list",
                             (int)key_bytes - 1, last);
        }
    }
    return -1;
}

static int check_axis(const char *option, const char *text, const char *command)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) {
        return cli_usage(command, "%s %s: expected KEY=A,B,C", option, text);
    }
    if (strlen(text) >= STRATEGY_BYTES) {
        return cli_usage(command, "%s %.40s...: too long", option, text);
    }
    return check_values(option, text, command);
}

/* "placement.strategy=static,eplb,..." of the registry, static first. */
static void all_strategies(char text[STRATEGY_BYTES])
{
    int32_t count = 0;
    const struct balance_strategy *const *all = balance_all(&count);
    size_t used = (size_t)snprintf(text, STRATEGY_BYTES, STRATEGY_KEY "static");
    for (int32_t index = 0; index < count; index++) {
        if (strcmp(all[index]->name, "static") != 0 && used < STRATEGY_BYTES) {
            used += (size_t)snprintf(text + used, STRATEGY_BYTES - used, ",%s", all[index]->name);
        }
    }
}

static void append(char text[LABEL_BYTES], const char *setting)
{
    size_t used = strlen(text);
    snprintf(text + used, LABEL_BYTES - used, "%s%s", used > 0 ? " " : "", setting);
}

/* Fills label, name and group from the settings. */
static void call(struct planned *planned)
{
    for (int32_t index = 0; index < planned->num_settings; index++) {
        const char *setting = planned->setting[index];
        append(planned->label, setting);
        if (strncmp(setting, STRATEGY_KEY, strlen(STRATEGY_KEY)) == 0) {
            snprintf(planned->name, LABEL_BYTES, "%s", setting + strlen(STRATEGY_KEY));
        } else {
            append(planned->group, setting);
        }
    }
    if (planned->name[0] == '\0') {
        memcpy(planned->name, planned->label, LABEL_BYTES);
        planned->group[0] = '\0';
    }
}

/* Adds the product of the axes, each variant with setting ("" for none) before it. */
static int add_product(struct compare_plan *plan, const struct axis *axis, int32_t num_axes,
                       const char *setting, const char *command)
{
    int32_t product = 1;
    for (int32_t index = 0; index < num_axes; index++) {
        int32_t values = count_values(axis[index].text);
        if (values > (VARIANTS_MAX - plan->count) / product) {
            return cli_usage(command, "more than %d variants", VARIANTS_MAX);
        }
        product *= values;
    }
    for (int32_t variant = 0; variant < product; variant++) {
        struct planned *planned = &plan->planned[plan->count++];
        int32_t first = setting[0] != '\0';
        *planned = (struct planned){.optional = first > 0, .num_settings = first + num_axes};
        snprintf(planned->setting[0], LABEL_BYTES, "%s", setting);
        int32_t rest = variant;
        for (int32_t index = num_axes - 1; index >= 0; index--) {
            int32_t values = count_values(axis[index].text);
            nth_value(planned->setting[first + index], axis[index].text, rest % values);
            planned->optional |= axis[index].optional && rest % values > 0;
            rest /= values;
        }
        call(planned);
    }
    return -1;
}

/* One key at a time off what the scenario has, within what its shape allows. */
static int add_sensitivity(struct compare_plan *plan, const struct axis *axis, int32_t num_axes,
                           const char *command, const struct scenario *base)
{
    const struct {
        const char *key;
        int32_t now;
        int32_t value[3]; /* < 1 where there is none; redundancy may be 0 */
    } keys[] = {
        {"placement.redundant_experts", base->redundant_experts, {0, base->ep, 2 * base->ep}},
        {"placement.rebalance_interval_steps",
         base->rebalance_interval_steps,
         {base->rebalance_interval_steps / 4, base->rebalance_interval_steps * 4, 0}},
        {"trace.tokens_per_rank",
         base->tokens_per_rank,
         {base->tokens_per_rank / 4, base->tokens_per_rank * 4, 0}},
        {"parallel.ep", base->ep, {base->ep / 2, base->ep / 4, 0}},
    };
    int code = -1;
    for (size_t key = 0; key < sizeof keys / sizeof keys[0]; key++) {
        for (int32_t index = 0; index < 3 && code < 0; index++) {
            int32_t value = keys[key].value[index];
            if (value == keys[key].now || value < (key == 0 ? 0 : 1)) {
                continue;
            }
            char setting[LABEL_BYTES];
            snprintf(setting, sizeof setting, "%s=%d", keys[key].key, (int)value);
            code = add_product(plan, axis, num_axes, setting, command);
        }
    }
    return code;
}

enum status compare_plan_base(struct scenario *base, const struct cli_options *options,
                              struct error *error)
{
    const char *override[OVERRIDES_MAX + VARY_MAX + 1];
    char first[VARY_MAX][LABEL_BYTES];
    int32_t count = options->num_overrides;
    memcpy(override, options->override, sizeof options->override);
    for (int32_t index = 0; index < options->num_vary; index++) {
        const char *equals = strchr(options->vary[index], '=');
        bool has_key = equals != NULL && equals > options->vary[index];
        if (has_key && nth_value(first[index], options->vary[index], 0) > 0) {
            override[count++] = first[index]; /* compare_plan_make refuses others */
        }
    }
    if (options->strategies != NULL) {
        override[count++] = STRATEGY_KEY "eplb";
    }
    return scenario_load(base, options->scenario, override, count, error);
}

int compare_plan_make(struct compare_plan *plan, const struct cli_options *options,
                      const char *command, const struct scenario *base)
{
    struct axis axis[VARY_MAX + 1];
    char strategies[STRATEGY_BYTES];
    int32_t num_axes = 0;
    int code = -1;
    for (; num_axes < options->num_vary && code < 0; num_axes++) {
        axis[num_axes] = (struct axis){.text = options->vary[num_axes]};
        code = check_axis("--vary", options->vary[num_axes], command);
        code = code < 0 ? check_keys(axis, num_axes + 1, command) : code;
    }
    if (options->strategies != NULL && code < 0) {
        bool all = strcmp(options->strategies, "all") == 0;
        if (all) {
            all_strategies(strategies);
        } else if ((size_t)snprintf(strategies, sizeof strategies, STRATEGY_KEY "%s",
                                    options->strategies) >= sizeof strategies) {
            return cli_usage(command, "--strategies %.40s...: too long", options->strategies);
        }
        axis[num_axes++] = (struct axis){.text = strategies, .optional = all};
        code = check_axis("--strategies", strategies, command);
        code = code < 0 ? check_keys(axis, num_axes, command) : code;
    }
    if (code >= 0) {
        return code;
    }
    if (num_axes == 0) {
        return cli_usage(command, "say what to vary: --strategies all, or --vary KEY=A,B");
    }
    plan->planned = malloc(VARIANTS_MAX * sizeof *plan->planned);
    if (plan->planned == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    code = add_product(plan, axis, num_axes, "", command);
    if (code < 0 && options->sensitivity) {
        code = add_sensitivity(plan, axis, num_axes, command, base);
    }
    return code;
}

void compare_plan_free(struct compare_plan *plan)
{
    free(plan->planned);
    *plan = (struct compare_plan){0};
}

enum status compare_plan_load(struct variant *variant, const struct planned *planned,
                              const struct cli_options *options, struct error *error)
{
    const char *override[OVERRIDES_MAX + SETTINGS_MAX];
    int32_t count = options->num_overrides;
    memcpy(override, options->override, sizeof options->override);
    for (int32_t index = 0; index < planned->num_settings; index++) {
        override[count++] = planned->setting[index];
    }
    memcpy(variant->label, planned->label, LABEL_BYTES);
    memcpy(variant->name, planned->name, LABEL_BYTES);
    memcpy(variant->group, planned->group, LABEL_BYTES);
    return scenario_load(&variant->scenario, options->scenario, override, count, error);
}
