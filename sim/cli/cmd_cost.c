/* cmd_cost.c -- moesim cost: dollars a million tokens from measured or published rates. */
#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_price.h"
#include "cli/cli.h"
#include "cli/print.h"
#include "cluster.h"
#include "cost.h"
#include "format.h"
#include "price.h"
#include "quantity.h"

static const char help[] =
    "usage: moesim cost --gpu NAME --price PRICE --prefill RATE --decode RATE [options]\n\n"
    "Dollars a million input and output tokens, a request and a day, from rates that were\n"
    "measured or published; beside API prices of the model. moesim plan simulates the rates.\n\n"
    "      --gpu NAME          a GPU of moesim list gpus\n"
    "      --price PRICE       preset, what follows the GPU in its name (neocloud), dollars a\n"
    "                          GPU-hour, or a YAML file of one's own: gpu, source, date and\n"
    "                          usd_per_gpu_hour, or in another currency per_gpu_hour, currency\n"
    "                          (EUR) and usd_per_unit (dollars for one), which amounts are then\n"
    "                          shown in\n"
    "      --prefill RATE      input tokens a second, as 73.7k\n"
    "      --decode RATE       output tokens a second\n"
    "      --per GPUS          that both rates are of (1); 8: a node's\n"
    "      --group GPUS        GPUs are added by so many; default any fraction\n"
    "      --input TOKENS      of a request\n"
    "      --output TOKENS     of a request\n"
    "      --requests N        a day (1)\n"
    "      --cached SHARE      of input tokens that the prefix cache answers (0)\n"
    "      --rate-of-all       the prefill rate counts cached tokens too\n"
    "      --error SHARE       by which the rates may be off; gives an interval (0)\n"
    "      --utilisation SHARE of the rates that is planned with (1)\n"
    "      --peak RATIO        busiest hour over the mean, 1 to 2 (1)\n"
    "      --idle-paid SHARE   of the price for GPUs that an hour does not need (1)\n"
    "      --spot SHARE        of GPU-hours bought as preemptible, with --spot-price\n"
    "      --spot-price USD    dollars an hour of those, whatever --price is in\n"
    "      --spot-lost SHARE   of their work that preemption undoes (0)\n"
    "      --kwh USD           electricity in dollars, added to the price\n"
    "      --pue RATIO         facility over equipment, where the GPU's watts are its own (1)\n"
    "      --model NAME        whose API prices are set beside it\n"
    "  -j, --json              print the result as JSON\n\n"
    "example:\n"
    "  moesim cost --gpu h800-sxm --price lease --prefill 73.7k --decode 14.8k --per 8 \\\n"
    "      --input 608G --output 168G --cached 0.5625 --rate-of-all --model deepseek-v3\n";

struct cost_arguments {
    const char *gpu_name;
    const char *price_name;
    const char *model;
    double prefill;
    double decode;
    double per;
    double group;
    double peak;
    double error;
    double utilisation;
    bool json;
    struct cost_terms terms;
    struct cost_traffic traffic;
    bool rate_of_all;
    struct gpu_spec gpu;
    struct price price;
    struct api_price_list prices;
};

/* Options that take a number; val is the index + 256. */
static const struct number {
    const char *name;
    size_t offset;
    double min, max;
} numbers[] = {
    {"prefill", offsetof(struct cost_arguments, prefill), 1e-6, 1e15},
    {"decode", offsetof(struct cost_arguments, decode), 1e-6, 1e15},
    {"per", offsetof(struct cost_arguments, per), 1.0, 1e6},
    {"group", offsetof(struct cost_arguments, group), 1.0, 1e6},
    {"input", offsetof(struct cost_arguments, traffic.input_tokens), 0.0, 1e18},
    {"output", offsetof(struct cost_arguments, traffic.output_tokens), 0.0, 1e18},
    {"requests", offsetof(struct cost_arguments, traffic.requests_per_day), 1e-6, 1e15},
    {"cached", offsetof(struct cost_arguments, traffic.cached_share), 0.0, 0.999},
    {"error", offsetof(struct cost_arguments, error), 0.0, 10.0},
    {"utilisation", offsetof(struct cost_arguments, utilisation), 0.01, 1.0},
    {"peak", offsetof(struct cost_arguments, peak), 1.0, 2.0},
    {"idle-paid", offsetof(struct cost_arguments, terms.idle_paid), 0.0, 1.0},
    {"spot", offsetof(struct cost_arguments, terms.spot_share), 0.0, 1.0},
    {"spot-price", offsetof(struct cost_arguments, terms.spot_usd_per_gpu_hour), 1e-3, 1e6},
    {"spot-lost", offsetof(struct cost_arguments, terms.spot_lost_share), 0.0, 0.9},
    {"kwh", offsetof(struct cost_arguments, terms.usd_per_kwh), 1e-6, 10.0},
    {"pue", offsetof(struct cost_arguments, terms.pue), 1.0, 5.0},
};

#define NUM_NUMBERS ((int)(sizeof numbers / sizeof numbers[0]))
#define NUMBER      256
#define NUM_OTHERS  8

static int take_number(struct cost_arguments *arguments, const struct number *number,
                       const char *text)
{
    double value = 0.0;
    if (!quantity_count(&value, text) || value < number->min || value > number->max) {
        return cli_usage("cost", "--%s %s: not a number in %g ... %g", number->name, text,
                         number->min, number->max);
    }
    memcpy((char *)arguments + number->offset, &value, sizeof value);
    return -1;
}

/* Returns -1 to go on, else the exit code. */
static int take_option(struct cost_arguments *arguments, int option)
{
    if (option >= NUMBER) {
        return take_number(arguments, &numbers[option - NUMBER], optarg);
    }
    switch (option) {
    case 'g':
        arguments->gpu_name = optarg;
        return -1;
    case 'p':
        arguments->price_name = optarg;
        return -1;
    case 'm':
        arguments->model = optarg;
        return -1;
    case 'a':
        arguments->rate_of_all = true;
        return -1;
    case 'j':
        arguments->json = true;
        return -1;
    case 'h':
        fputs(help, stdout);
        return 0;
    default:
        return -1; /* refused already */
    }
}

static int check(const struct cost_arguments *arguments)
{
    const char *missing =
        arguments->gpu_name == NULL     ? "--gpu"
        : arguments->price_name == NULL ? "--price"
        : arguments->prefill <= 0.0     ? "--prefill"
        : arguments->decode <= 0.0      ? "--decode"
        : arguments->traffic.input_tokens + arguments->traffic.output_tokens <= 0.0
            ? "--input or --output"
            : NULL;
    if (missing != NULL) {
        return cli_usage("cost", "%s is missing", missing);
    }
    if (arguments->terms.spot_share > 0.0 && arguments->terms.spot_usd_per_gpu_hour <= 0.0) {
        return cli_usage("cost", "--spot needs --spot-price");
    }
    return -1;
}

static int parse(struct cost_arguments *arguments, int argc, char **argv)
{
    struct option long_options[NUM_NUMBERS + NUM_OTHERS] = {
        {"gpu", required_argument, NULL, 'g'},   {"price", required_argument, NULL, 'p'},
        {"model", required_argument, NULL, 'm'}, {"rate-of-all", no_argument, NULL, 'a'},
        {"json", no_argument, NULL, 'j'},        {"help", no_argument, NULL, 'h'}};
    for (int i = 0; i < NUM_NUMBERS; i++) {
        long_options[6 + i] = (struct option){numbers[i].name, required_argument, NULL, NUMBER + i};
    }
    int option = 0;
    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":jh", long_options, NULL)) != -1) {
        if (option == ':' || option == '?') {
            return cli_refuse_option(argv[0], option, long_options, argv);
        }
        int code = take_option(arguments, option);
        if (code >= 0) {
            return code;
        }
    }
    if (optind != argc) {
        return cli_usage(argv[0], "'%s' is not expected", argv[optind]);
    }
    return check(arguments);
}

static enum status load(struct cost_arguments *arguments, struct error *error)
{
    struct cost_terms *terms = &arguments->terms;
    enum status status = gpu_load(&arguments->gpu, arguments->gpu_name, error);
    if (status == STATUS_OK) {
        status = price_load_for(&arguments->price, arguments->price_name, &arguments->gpu, error);
    }
    if (status == STATUS_OK && strcmp(arguments->price.gpu, arguments->gpu.name) != 0) {
        status = error_add(error, STATUS_INVALID, "%s is the price of %s, not of %s",
                           arguments->price.name, arguments->price.gpu, arguments->gpu.name);
    }
    if (status == STATUS_OK && arguments->model != NULL) {
        struct moe_model model;
        status = model_load(&model, arguments->model, error);
        if (status == STATUS_OK) {
            status = api_price_load(&arguments->prices, model.name, error);
        }
    }
    bool has_allin = arguments->gpu.allin_watts > 0.0;
    terms->usd_per_gpu_hour = arguments->price.usd_per_gpu_hour;
    terms->watts_per_gpu = has_allin ? arguments->gpu.allin_watts : arguments->gpu.tdp_watts;
    terms->pue = has_allin ? 1.0 : terms->pue;
    terms->energy_apart = terms->usd_per_kwh > 0.0;
    cost_cosine_day(&arguments->traffic, arguments->peak);
    return status;
}

/* With rates that are so many times what was given. */
static struct cost_day day_at(const struct cost_arguments *arguments, double factor)
{
    struct cost_rates rates = {
        .tokens_per_s_per_gpu = {arguments->prefill / arguments->per * factor,
                                 arguments->decode / arguments->per * factor},
        .counts_cached = arguments->rate_of_all,
        .group_gpus = {(int32_t)arguments->group, (int32_t)arguments->group},
        .utilisation_max = {arguments->utilisation, arguments->utilisation}};
    return cost_day(&arguments->terms, &arguments->traffic, &rates);
}

struct cost_line {
    const char *words;
    const char *key;
    size_t offset;
};

static const struct cost_line lines[] = {
    {"a million input tokens", "usd_per_million_input",
     offsetof(struct cost_day, usd_per_million_input)},
    {"  of those computed", "usd_per_million_computed_input",
     offsetof(struct cost_day, usd_per_million_computed_input)},
    {"a million output tokens", "usd_per_million_output",
     offsetof(struct cost_day, usd_per_million_output)},
    {"a million of both", "usd_per_million_tokens",
     offsetof(struct cost_day, usd_per_million_tokens)},
    {"a request", "usd_per_request", offsetof(struct cost_day, usd_per_request)},
    {"a day", "usd_per_day", offsetof(struct cost_day, usd_total)},
};

#define NUM_LINES (sizeof lines / sizeof lines[0])

static double line_usd(const struct cost_day *day, const struct cost_line *line)
{
    double usd;
    memcpy(&usd, (const char *)day + line->offset, sizeof usd);
    return usd;
}

static void print_amount(double usd, const struct currency *currency)
{
    char text[FORMAT_BYTES];
    printf(" %14s", money_cell(text, usd, currency));
}

static void print_text(const struct cost_arguments *arguments)
{
    struct cost_day day = day_at(arguments, 1.0);
    struct cost_day low = day_at(arguments, 1.0 + arguments->error);
    struct cost_day high = day_at(arguments, 1.0 / (1.0 + arguments->error));
    bool interval = arguments->error > 0.0;
    const struct currency *currency = &arguments->price.currency;
    struct money money = {0};
    char hour[FORMAT_BYTES];
    money_add(&money, currency);
    printf("%s at %s a GPU-hour (%s, %s; %s)\n", arguments->gpu.name,
           format_money(hour, arguments->price.usd_per_gpu_hour, currency), arguments->price.name,
           arguments->price.date, arguments->price.source);
    print_money_note(&money);
    printf("\n%-28s %14s%s\n", "cost of", currency_code(currency),
           interval ? "           low           high" : "");
    for (size_t i = 0; i < NUM_LINES; i++) {
        printf("  %-26s", lines[i].words);
        print_amount(line_usd(&day, &lines[i]), currency);
        if (interval) {
            print_amount(line_usd(&low, &lines[i]), currency);
            print_amount(line_usd(&high, &lines[i]), currency);
        }
        printf("\n");
    }
    printf("\n  %.1f GPUs in the busiest hour (prefill %.1f, decode %.1f), %.1f on average\n",
           day.gpus_peak[COST_PREFILL] + day.gpus_peak[COST_DECODE], day.gpus_peak[COST_PREFILL],
           day.gpus_peak[COST_DECODE],
           (day.gpu_hours[COST_PREFILL] + day.gpu_hours[COST_DECODE]) / HOURS_A_DAY);
    printf("  %.0f kWh a day at %.0f W a GPU (%s), %s\n", day.energy_kwh,
           arguments->terms.watts_per_gpu * arguments->terms.pue,
           arguments->gpu.allin_watts > 0.0 ? "with host, network and cooling" : "TDP alone",
           arguments->terms.energy_apart ? "paid beside the price" : "within the price");
    for (int32_t i = 0; i < arguments->prices.count; i++) {
        const struct api_price *price = &arguments->prices.price[i];
        double income = api_price_income_usd(price, &arguments->traffic);
        printf("%s  %-14.14s %-28.28s %7.4g in %7.4g out  %-15.15s margin %5.1f %% of income, %.0f "
               "%% on cost\n",
               i == 0 ? "\nbeside API prices, dollars a million tokens\n" : "", price->provider,
               price->sold_as, price->usd_per_million_input, price->usd_per_million_output,
               price->date, 100.0 * (1.0 - day.usd_total / income),
               100.0 * (income / day.usd_total - 1.0));
    }
}

static cJSON *cost_json(const struct cost_arguments *arguments)
{
    struct cost_day day = day_at(arguments, 1.0);
    struct cost_day low = day_at(arguments, 1.0 + arguments->error);
    struct cost_day high = day_at(arguments, 1.0 / (1.0 + arguments->error));
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "gpu", arguments->gpu.name);
    cJSON_AddNumberToObject(root, "usd_per_gpu_hour", arguments->price.usd_per_gpu_hour);
    money_json(root, &arguments->price.currency);
    cJSON_AddStringToObject(root, "price", arguments->price.name);
    cJSON_AddStringToObject(root, "price_date", arguments->price.date);
    cJSON_AddStringToObject(root, "price_source", arguments->price.source);
    for (size_t i = 0; i < NUM_LINES; i++) {
        cJSON *line = cJSON_AddObjectToObject(root, lines[i].key);
        cJSON_AddNumberToObject(line, "value", line_usd(&day, &lines[i]));
        cJSON_AddNumberToObject(line, "low", line_usd(&low, &lines[i]));
        cJSON_AddNumberToObject(line, "high", line_usd(&high, &lines[i]));
    }
    cJSON_AddNumberToObject(root, "energy_kwh_per_day", day.energy_kwh);
    cJSON *list = cJSON_AddArrayToObject(root, "api_prices");
    for (int32_t i = 0; i < arguments->prices.count; i++) {
        const struct api_price *price = &arguments->prices.price[i];
        double income = api_price_income_usd(price, &arguments->traffic);
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "provider", price->provider);
        cJSON_AddStringToObject(json, "sold_as", price->sold_as);
        cJSON_AddStringToObject(json, "date", price->date);
        cJSON_AddStringToObject(json, "source", price->source);
        cJSON_AddNumberToObject(json, "income_usd_per_day", income);
        cJSON_AddNumberToObject(json, "margin_of_income", 1.0 - day.usd_total / income);
        cJSON_AddItemToArray(list, json);
    }
    return root;
}

int command_cost(int argc, char **argv)
{
    struct cost_arguments *arguments = calloc(1, sizeof *arguments);
    struct error *error = calloc(1, sizeof *error);
    int code = 2;
    if (arguments == NULL || error == NULL) {
        fputs("moesim: out of memory\n", stderr);
    } else {
        arguments->per = arguments->peak = arguments->utilisation = 1.0;
        arguments->traffic.requests_per_day = 1.0;
        arguments->terms =
            (struct cost_terms){.idle_paid = 1.0, .idle_watts_share = 1.0, .pue = 1.0};
        code = parse(arguments, argc, argv);
        if (code < 0) {
            enum status status = load(arguments, error);
            code = status != STATUS_OK ? cli_fail(status, error) : 0;
            if (code == 0 && arguments->json) {
                code = print_json(cost_json(arguments));
            } else if (code == 0) {
                print_text(arguments);
            }
        }
    }
    free(arguments);
    free(error);
    return code;
}
