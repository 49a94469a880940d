/*
 * test_cost.c -- dollars by hand, and DeepSeek's published day from its published rates.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api_price.h"
#include "cost.h"
#include "data.h"
#include "quantity.h"

static const struct cost_terms two_dollars = {
    .usd_per_gpu_hour = 2.0, .idle_paid = 1.0, .pue = 1.0, .idle_watts_share = 1.0};

/* DeepSeek's account of a day (deepseek-ai/open-infra-index, day 6, 2025-02): 608 G input tokens,
 * of which 342 G (56.3 %) were cached, and 168 G output tokens; 73.7k input tokens a second and
 * node, cached ones counted, and 14.8k output tokens; $2 a GPU-hour. */
static struct cost_traffic deepseek_day(void)
{
    struct cost_traffic traffic = {.requests_per_day = 1.0,
                                   .input_tokens = 608e9,
                                   .output_tokens = 168e9,
                                   .cached_share = 342.0 / 608.0};
    cost_flat_day(&traffic);
    return traffic;
}

static const struct cost_rates deepseek_rates = {
    .tokens_per_s_per_gpu = {73.7e3 / 8.0, 14.8e3 / 8.0},
    .counts_cached = true,
    .utilisation_max = {1.0, 1.0},
};

/* It says: 226.75 nodes on average, $87,072 a day. The rates are rounded to three digits. */
Test(cost, deepseeks_day_costs_what_it_says)
{
    struct cost_traffic traffic = deepseek_day();
    struct cost_day day = cost_day(&two_dollars, &traffic, &deepseek_rates);
    double nodes = (day.gpu_hours[COST_PREFILL] + day.gpu_hours[COST_DECODE]) / 24.0 / 8.0;

    cr_expect_float_eq(nodes / 226.75, 1.0, 0.002, "%.2f nodes", nodes);
    cr_expect_float_eq(day.usd_total / 87072.0, 1.0, 0.002, "$%.0f", day.usd_total);
    cr_expect_float_eq(226.75 * 8.0 * 24.0 * 2.0, 87072.0, 1e-6);
}

/* It says: billed at R1's prices $562,027 a day, a margin on cost of 545 %. */
Test(cost, deepseeks_day_earns_what_it_says)
{
    struct cost_traffic traffic = deepseek_day();
    struct api_price_list list;
    struct error error = {0};
    cr_assert_eq(api_price_load(&list, "deepseek-v3", &error), STATUS_OK, "%s", error.text);
    cr_assert_str_eq(list.price[0].sold_as, "deepseek-reasoner (R1)");
    double income = api_price_income_usd(&list.price[0], &traffic);
    struct cost_day day = cost_day(&two_dollars, &traffic, &deepseek_rates);

    cr_expect_float_eq(income / 562027.0, 1.0, 0.002, "$%.0f", income);
    cr_expect_float_eq(100.0 * (income / day.usd_total - 1.0), 545.0, 2.0);
}

Test(cost, groups_are_added_whole_and_idle_ones_are_paid)
{
    /* 100 tokens/s a GPU, groups of 8; 1728 tokens/s in the peak hour, 1152 in the mean one. */
    struct cost_traffic traffic = {.requests_per_day = 86400.0, .output_tokens = 1152.0};
    for (int hour = 0; hour < HOURS_A_DAY; hour++) {
        traffic.hour_weight[hour] = hour < 12 ? 0.5 : 1.5;
    }
    struct cost_rates rates = {
        .tokens_per_s_per_gpu = {0.0, 100.0}, .group_gpus = {8, 8}, .utilisation_max = {1.0, 1.0}};
    struct cost_day reserved = cost_day(&two_dollars, &traffic, &rates);
    struct cost_terms on_demand = two_dollars;
    on_demand.idle_paid = 0.0;
    struct cost_day released = cost_day(&on_demand, &traffic, &rates);

    /* 17.28 GPUs are 24; 5.76 are 8 */
    cr_expect_float_eq(reserved.gpus_peak[COST_DECODE], 24.0, 1e-9);
    cr_expect_float_eq(reserved.gpu_hours[COST_DECODE], 12.0 * 24.0 + 12.0 * 8.0, 1e-9);
    cr_expect_float_eq(reserved.usd_total, 24.0 * 24.0 * 2.0, 1e-9);
    cr_expect_float_eq(released.usd_total, 2.0 * (12.0 * 24.0 + 12.0 * 8.0), 1e-9);
    cr_expect_float_eq(released.usd_per_request, released.usd_total / 86400.0, 1e-12);
}

Test(cost, cached_tokens_cost_nothing_to_compute)
{
    struct cost_traffic traffic = {
        .requests_per_day = 1e6, .input_tokens = 1000.0, .cached_share = 0.5};
    struct cost_rates rates = {.tokens_per_s_per_gpu = {1000.0, 0.0},
                               .utilisation_max = {1.0, 1.0}};
    cost_flat_day(&traffic);
    struct cost_day half = cost_day(&two_dollars, &traffic, &rates);
    traffic.cached_share = 0.0;
    struct cost_day none = cost_day(&two_dollars, &traffic, &rates);

    cr_expect_float_eq(half.usd_total, none.usd_total / 2.0, 1e-9);
    cr_expect_float_eq(half.usd_per_million_computed_input, none.usd_per_million_input, 1e-9);
    /* 1000 tokens/s at $2 an hour: $0.5556 a million */
    cr_expect_float_eq(none.usd_per_million_input, 2.0 / 3.6, 1e-9);
}

/* 10 GPUs at 1500 W and a PUE of 1.2 for a day are 432 kWh. */
Test(cost, electricity_is_added_only_where_the_price_leaves_it_out)
{
    struct cost_traffic traffic = {.requests_per_day = 86400.0, .output_tokens = 1000.0};
    struct cost_rates rates = {.tokens_per_s_per_gpu = {0.0, 100.0}, .utilisation_max = {1.0, 1.0}};
    struct cost_terms terms = two_dollars;
    cost_flat_day(&traffic);
    terms.watts_per_gpu = 1500.0;
    terms.pue = 1.2;
    terms.usd_per_kwh = 0.10;
    struct cost_day within = cost_day(&terms, &traffic, &rates);
    terms.energy_apart = true;
    struct cost_day apart = cost_day(&terms, &traffic, &rates);

    cr_expect_float_eq(within.energy_kwh, 432.0, 1e-9);
    cr_expect_float_eq(within.usd_total, 480.0, 1e-9);
    cr_expect_float_eq(apart.usd_total, 480.0 + 43.2, 1e-9);
}

/* Half of the hours at $1, a tenth of whose work is lost: 0.5 * 2 + 0.5 / 0.9 * 1. */
Test(cost, spot_hours_that_are_lost_are_bought_again)
{
    struct cost_traffic traffic = {.requests_per_day = 86400.0, .output_tokens = 100.0};
    struct cost_rates rates = {.tokens_per_s_per_gpu = {0.0, 100.0}, .utilisation_max = {1.0, 1.0}};
    struct cost_terms terms = two_dollars;
    cost_flat_day(&traffic);
    terms.spot_share = 0.5;
    terms.spot_usd_per_gpu_hour = 1.0;
    terms.spot_lost_share = 0.1;
    struct cost_day day = cost_day(&terms, &traffic, &rates);

    cr_expect_float_eq(day.usd_total, 24.0 * (1.0 + 0.5 / 0.9), 1e-9);
}

Test(cost, shared_gpus_split_their_dollars_by_work)
{
    struct cost_traffic traffic = {
        .requests_per_day = 86400.0, .input_tokens = 3000.0, .output_tokens = 100.0};
    struct cost_rates rates = {.tokens_per_s_per_gpu = {1000.0, 100.0},
                               .group_gpus = {8, 0},
                               .utilisation_max = {1.0, 1.0},
                               .shared = true};
    cost_flat_day(&traffic);
    struct cost_day day = cost_day(&two_dollars, &traffic, &rates);

    cr_expect_float_eq(day.gpus_peak[COST_PREFILL], 8.0, 1e-9); /* 3 + 1 */
    cr_expect_float_eq(day.usd_total, 8.0 * 24.0 * 2.0, 1e-9);
    cr_expect_float_eq(day.usd[COST_PREFILL] / day.usd[COST_DECODE], 3.0, 1e-9);
}

/* Hours of a day whose pools are apart or shared sum to the day. */
Test(cost, hours_sum_to_the_day)
{
    struct cost_terms terms = {.usd_per_gpu_hour = 3.0,
                               .idle_paid = 0.4,
                               .energy_apart = true,
                               .watts_per_gpu = 1000.0,
                               .idle_watts_share = 0.3,
                               .pue = 1.2,
                               .usd_per_kwh = 0.1};
    struct cost_traffic traffic = {
        .requests_per_day = 5e6, .input_tokens = 2000.0, .output_tokens = 500.0};
    struct cost_rates rates = {.tokens_per_s_per_gpu = {8000.0, 900.0},
                               .group_gpus = {16, 16},
                               .utilisation_max = {0.8, 0.7}};
    cost_cosine_day(&traffic, 1.7);
    for (int32_t shared = 0; shared < 2; shared++) {
        struct cost_hour hour[HOURS_A_DAY];
        double usd = 0.0, busy = 0.0;
        rates.shared = shared == 1;
        struct cost_day day = cost_day(&terms, &traffic, &rates);
        cost_hours(hour, &terms, &traffic, &rates);
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            double in_use = 0.0, idle = 0.0;
            for (int32_t i = 0; i < HOURS_A_DAY; i++) {
                in_use += hour[i].gpus[pool];
                idle += hour[i].idle_gpus[pool];
                busy += hour[i].busy_gpus[pool];
                cr_expect_leq(hour[i].busy_gpus[pool], hour[i].gpus[pool]);
            }
            cr_expect_float_eq(in_use, day.gpu_hours[pool], 1e-6);
            cr_expect_float_eq(idle, day.idle_gpu_hours[pool], 1e-6);
        }
        for (int32_t i = 0; i < HOURS_A_DAY; i++) {
            usd += hour[i].usd;
        }
        cr_expect_float_eq(usd, day.usd_total, 1e-6);
        /* 10 G tokens at 8,000 and 2.5 G at 900 a GPU-second. */
        cr_expect_float_eq(busy, (1e10 / 8000.0 + 2.5e9 / 900.0) / 3600.0, 1e-6);
        cr_expect_gt(hour[15].gpus[0] + hour[15].gpus[1], hour[3].gpus[0] + hour[3].gpus[1]);
    }
}

Test(cost, a_cosine_day_has_the_peak_it_was_asked_for)
{
    struct cost_traffic traffic = {0};
    cost_cosine_day(&traffic, 278.0 / 226.75);
    cr_expect_float_eq(cost_peak_over_mean(&traffic), 278.0 / 226.75, 1e-9);
    cost_flat_day(&traffic);
    cr_expect_float_eq(cost_peak_over_mean(&traffic), 1.0, 1e-12);
}

Test(cost, numbers_with_units_are_read_as_people_write_them)
{
    double value = 0.0;
    cr_expect(quantity_count(&value, "1.5M") && value == 1.5e6);
    cr_expect(quantity_count(&value, "600B") && value == 600e9);
    cr_expect(quantity_count(&value, "4096") && value == 4096.0);
    cr_expect(quantity_seconds(&value, "50ms") && fabs(value - 0.05) < 1e-12);
    cr_expect_not(quantity_seconds(&value, "2"));
    cr_expect_not(quantity_count(&value, "1x"));
    cr_expect_not(quantity_count(&value, ""));
    cr_expect_not(quantity_count(&value, "nan"));
    cr_expect_not(quantity_seconds(&value, "50 ms"));
}

Test(cost, every_list_of_api_prices_belongs_to_a_model_and_loads)
{
    struct arena arena = {0};
    const char *const *names = NULL;
    int32_t count = data_list(&names, "api-prices", &arena);
    cr_assert_gt(count, 10);
    for (int32_t i = 0; i < count; i++) {
        struct error error = {0};
        struct moe_model model;
        struct api_price_list list;
        cr_expect_eq(model_load(&model, names[i], &error), STATUS_OK, "%s", error.text);
        cr_expect_str_eq(model.name, names[i]);
        cr_expect_eq(api_price_load(&list, names[i], &error), STATUS_OK, "%s", error.text);
        cr_expect_gt(list.count, 0, "%s", names[i]);
    }
    arena_free(&arena);
}

static void refuse(const char *text, const char *words)
{
    struct api_price_list list;
    struct error error = {0};
    FILE *file = fopen("test_cost.yaml", "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    cr_expect_eq(api_price_read(&list, "test_cost.yaml", &error), STATUS_INVALID, "%s", text);
    cr_expect_not_null(strstr(error.text, words), "%s", error.text);
    cr_expect_not_null(strstr(error.text, "test_cost.yaml:"), "%s", error.text);
    remove("test_cost.yaml");
}

Test(cost, a_list_of_api_prices_with_mistakes_is_refused_with_their_lines)
{
    refuse("prices: 3\n", "a list is expected");
    refuse("prices: [4]\n", "keys and values are expected");
    refuse("prices:\n  - {provider: a, sold_as: b, input: 1, output: 2, date: x}\n", "source");
    refuse("prices:\n  - {provider: a, sold_as: b, input: -1, output: 2, date: x, source: y}\n",
           ":2: input");
    refuse("price: []\n", "price");
}
