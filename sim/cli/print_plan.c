/* print_plan.c -- the winner in words, what binds it, the front, what shifts it. */
#include "cli/print_plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "format.h"
#include "plan_launch.h"
#include "plan_words.h"

#define FRONT_ROWS 24
#define WORDS      512

static void print_asked(const struct plan *plan)
{
    char requests[FORMAT_BYTES], input[FORMAT_BYTES], output[FORMAT_BYTES], cached[FORMAT_BYTES];
    char price[FORMAT_BYTES];
    struct money money = plan_money(plan);
    const struct cost_traffic *traffic = &plan->traffic;
    printf("%s: %s requests a day of %s + %s tokens%s, %s of the input cached, busiest hour %.2f "
           "x the mean\n",
           plan->model.name, format_count(requests, traffic->requests_per_day),
           format_count(input, traffic->input_tokens), format_count(output, traffic->output_tokens),
           plan->arrivals.file.count > 0 ? " on average" : "",
           format_percent(cached, traffic->cached_share), cost_peak_over_mean(traffic));
    for (int32_t i = 0; i < plan->num_gpus; i++) {
        const struct plan_gpu *gpu = &plan->gpu[i];
        printf("%s at %s a GPU-hour (%s, %s; %s)\n", gpu->cluster.gpu.name,
               format_money(price, gpu->price.usd_per_gpu_hour, &gpu->price.currency),
               gpu->price.name, gpu->price.date, gpu->price.source);
    }
    print_money_note(&money);
}

static void print_first_objection(const struct plan_answer *answer)
{
    for (int32_t i = 0; i < answer->num_points; i++) {
        if (answer->point[i].fate == PLAN_IMPOSSIBLE) {
            printf("          %s\n", answer->point[i].why);
            return;
        }
    }
}

static void print_fates(const struct plan *plan, const struct plan_answer *answer)
{
    printf("\n%d points\n", (int)answer->num_points);
    for (int32_t fate = 0; fate < PLAN_FATES; fate++) {
        if (answer->fates[fate] > 0) {
            printf("  %6lld  %s\n", (long long)answer->fates[fate],
                   plan_fate_name((enum plan_fate)fate));
        }
        if (fate == PLAN_IMPOSSIBLE) {
            print_first_objection(answer);
        }
    }
    printf("  %6d  deployments of them, %d meet the targets%s", (int)answer->num_deployments,
           (int)plan_count(plan, answer, PLAN_MEETS),
           answer->num_served > 0 ? " request by request" : "");
    if (answer->num_served > 0) {
        printf(", %d others by their means", (int)plan_count(plan, answer, PLAN_NOT_JUDGED));
    }
    printf(", %d are on the front\n", (int)answer->num_front);
}

/* By what an amount may be less and more; 0 where errors move no group, "?" where most of a step
 * has no known error. */
static const char *off_cell(char *text, const struct plan_deployment *row, enum plan_amount amount,
                            const struct plan_range *range, double usd)
{
    text[0] = '\0';
    if (plan_amount_is_known(row, amount) && range->high == range->low) {
        (void)snprintf(text, FORMAT_BYTES, "0%%");
    } else if (plan_amount_is_known(row, amount)) {
        (void)snprintf(text, FORMAT_BYTES, "-%.0f+%.0f%%", 100.0 * (1.0 - range->low / usd),
                       100.0 * (range->high / usd - 1.0));
    }
    if (plan_amount_is_vague(row, amount)) {
        (void)strcat(text, "?");
    }
    return text;
}

/* A day and a million tokens, each with its error. */
static void print_amounts(const struct plan_deployment *row, const struct currency *currency)
{
    const struct cost_day *cost = &row->cost;
    const struct plan_interval *interval = &row->interval;
    const struct {
        enum plan_amount amount;
        int width;
        double usd;
        const struct plan_range *range;
    } cells[] = {
        {PLAN_OF_BOTH, 9, cost->usd_total, &interval->usd_per_day},
        {PLAN_OF_INPUT, 8, cost->usd_per_million_input, &interval->usd_per_million_input},
        {PLAN_OF_OUTPUT, 8, cost->usd_per_million_output, &interval->usd_per_million_output}};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        char usd[FORMAT_BYTES], off[FORMAT_BYTES];
        printf(" %*s %-8s", cells[i].width, money_cell(usd, cells[i].usd, currency),
               off_cell(off, row, cells[i].amount, cells[i].range, cells[i].usd));
    }
}

static const char marks[] = {[PLAN_MISSES] = '-', [PLAN_MEETS] = ' ', [PLAN_NOT_JUDGED] = '?'};

static void print_row(const struct plan *plan, const struct plan_answer *answer, int32_t index)
{
    const struct plan_deployment *row = &answer->deployment[index];
    const struct plan_point *prefill = &answer->point[row->point[COST_PREFILL]];
    const struct plan_point *decode = &answer->point[row->point[COST_DECODE]];
    char ttft[FORMAT_BYTES], tpot[FORMAT_BYTES], offload[COST_POOLS][96];
    char sharing[COST_POOLS][SHARING_BYTES];
    struct money money = plan_money(plan);
    plan_offload_short(offload[COST_PREFILL], sizeof offload[0], prefill);
    plan_offload_short(offload[COST_DECODE], sizeof offload[0], decode);
    printf("%c%c",
           index == answer->winner      ? '*'
           : index == answer->reference ? 'R'
                                        : ' ',
           marks[plan_verdict(plan, row)]);
    print_amounts(row, &money.shown);
    printf(" %8s %8s  %-16s %5d  %s x%d n%d r%d b%d%s | %s x%d n%d r%d b%d%s%s\n",
           format_ns(ttft, row->ttft_s * 1e9), format_ns(tpot, row->tpot_s * 1e9),
           plan->gpu[prefill->gpu].cluster.gpu.name, (int)row->num_gpus,
           scenario_sharing(sharing[COST_PREFILL], prefill->ep, prefill->expert_tp),
           (int)row->groups[COST_PREFILL], (int)prefill->tokens_per_rank,
           (int)prefill->redundant_experts, (int)prefill->micro_batches, offload[COST_PREFILL],
           scenario_sharing(sharing[COST_DECODE], decode->ep, decode->expert_tp),
           (int)row->groups[COST_DECODE], (int)decode->tokens_per_rank,
           (int)decode->redundant_experts, (int)decode->micro_batches, offload[COST_DECODE],
           row->shared ? " shared" : "");
}

static void print_headings(void)
{
    printf("   %9s %-8s %8s %-8s %8s %-8s %8s %8s  %-16s %5s\n", "a day", "error", "M input",
           "error", "M output", "error", "TTFT", "TPOT", "GPU", "GPUs");
}

int32_t plan_cheapest_of(const struct plan_answer *answer, int32_t gpu)
{
    if (answer->winner >= 0 &&
        answer->point[answer->deployment[answer->winner].point[COST_DECODE]].gpu == gpu) {
        return answer->winner;
    }
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *row = &answer->deployment[i];
        if (row->meets_targets && answer->point[row->point[COST_DECODE]].gpu == gpu) {
            return i;
        }
    }
    return -1;
}

/* Who asked for several kinds wants to see each, though the front may have one alone. */
static void print_cheapest_of_each(const struct plan *plan, const struct plan_answer *answer)
{
    if (plan->num_gpus < 2) {
        return;
    }
    printf("\ncheapest of each GPU that meets the targets\n");
    print_headings();
    for (int32_t gpu = 0; gpu < plan->num_gpus; gpu++) {
        int32_t cheapest = plan_cheapest_of(answer, gpu);
        if (cheapest >= 0) {
            print_row(plan, answer, cheapest);
        } else {
            char why[WORDS];
            plan_say_none_of(why, sizeof why, plan, answer, gpu);
            printf("   %9s %62s %-16s %s\n", "none", "", plan->gpu[gpu].cluster.gpu.name, why);
        }
    }
}

static void print_front(const struct plan *plan, const struct plan_answer *answer)
{
    int32_t shown = 0;
    printf(
        "\nfront of cost, mean TTFT and TPOT: * winner, R reference, - misses a target%s; error of "
        "the models:\n0 %% moves no group, ? is unknown of half a step and more; EP x groups, "
        "tokens a GPU, redundant\nexperts, micro-batches; prefill | decode\n",
        answer->num_served > 0 ? ", ? meets them by its means" : "");
    print_headings();
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        bool stands_out = i == answer->winner || i == answer->reference;
        if (stands_out || (answer->deployment[i].on_front && shown < FRONT_ROWS)) {
            print_row(plan, answer, i);
            shown++;
        }
    }
    if (shown < answer->num_front) {
        printf("   ... and %d more (--json has all)\n", (int)(answer->num_front - shown));
    }
}

static void print_percentile_names(const struct plan *plan, const char *name)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        if (plan_shows_percentile(plan, i)) {
            printf(" %4s p%d", name, (int)plan_percentiles[i]);
        }
    }
}

static void print_latency(const struct plan *plan, const struct plan_latency *latency)
{
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        char time[FORMAT_BYTES];
        if (plan_shows_percentile(plan, i)) {
            printf(" %8s", format_ns(time, latency->percentile_s[i] * 1e9));
        }
    }
}

/* Each as its means have it, and with the groups that percentiles take. */
static void print_finalists(const struct plan *plan, const struct plan_answer *answer)
{
    struct money money = plan_money(plan);
    printf("\nfinalists request by request: * winner, - misses a target; + groups over the means\n"
           "   %9s",
           "a day");
    print_percentile_names(plan, "TTFT");
    print_percentile_names(plan, "TPOT");
    printf("  %5s\n", "GPUs");
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *row = &answer->deployment[i];
        char usd[FORMAT_BYTES];
        if (!row->is_served) {
            continue;
        }
        printf("%c%c %9s", i == answer->winner ? '*' : ' ', row->meets_targets ? ' ' : '-',
               money_cell(usd, row->cost.usd_total, &money.shown));
        print_latency(plan, &row->ttft);
        print_latency(plan, &row->tpot);
        printf("  %5d", (int)row->num_gpus);
        for (int32_t pool = 0; pool < (row->shared ? 1 : COST_POOLS); pool++) {
            const struct plan_point *point = &answer->point[row->point[pool]];
            char sharing[SHARING_BYTES];
            printf("%s %s x%d", pool == COST_PREFILL ? " " : " |",
                   scenario_sharing(sharing, point->ep, point->expert_tp), (int)row->groups[pool]);
            if (row->added[pool] > 0) {
                printf(" (+%d)", (int)row->added[pool]);
            }
        }
        puts(row->shared ? " shared" : "");
    }
}

static void print_shifts(const struct plan_answer *answer)
{
    double usd = answer->deployment[answer->winner].cost.usd_total;
    printf("\nwhat 10 %% does to the cost of a day\n  %-26s %22s %22s\n", "", "10 % less",
           "10 % more");
    for (int32_t i = 0; i + 1 < answer->num_shifts; i += 2) {
        printf("  %-26s", answer->shift[i].what);
        for (int32_t way = 0; way < 2; way++) {
            const struct plan_shift *shift = &answer->shift[i + way];
            char change[FORMAT_BYTES] = "misses a target";
            if (shift->feasible) {
                (void)snprintf(change, sizeof change, "%+.1f %%%s",
                               100.0 * (shift->usd_per_day / usd - 1.0),
                               shift->winner_changes ? ", another" : "");
            }
            printf(" %22s", change);
        }
        printf("\n");
    }
    puts("  (tokens a request: of the winner's layout, others are not searched again; latencies: "
         "means)");
}

static void print_prices(const struct plan *plan, const struct plan_answer *answer,
                         const struct api_price_list *prices)
{
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    if (prices->count == 0) {
        return;
    }
    printf("\nbeside API prices ($ a million tokens: input, cached, output)\n");
    for (int32_t i = 0; i < prices->count; i++) {
        const struct api_price *price = &prices->price[i];
        double income = api_price_income_usd(price, &plan->traffic);
        char cached[FORMAT_BYTES] = "-";
        if (price->usd_per_million_cached_input >= 0.0) {
            (void)snprintf(cached, sizeof cached, "%.4g", price->usd_per_million_cached_input);
        }
        printf("  %-14.14s %-28.28s %7.4g %7s %7.4g  %-15.15s margin %5.1f %% of income",
               price->provider, price->sold_as, price->usd_per_million_input, cached,
               price->usd_per_million_output, price->date,
               plan_margin(winner->cost.usd_total, income));
        const struct plan_range *day = &winner->interval.usd_per_day;
        if (day->high > day->low) {
            printf(", %.1f to %.1f", plan_margin(day->high, income), plan_margin(day->low, income));
        }
        puts("");
    }
}

static void print_assumptions(const struct plan *plan, const struct plan_answer *answer)
{
    char line[WORDS];
    printf("\nassumptions\n");
    for (int32_t i = 0; plan_assumption(line, sizeof line, plan, answer, i); i++) {
        printf("  - %s\n", line);
    }
}

static void print_launch(const struct plan *plan, const struct plan_answer *answer)
{
    bool is_known = false;
    printf("\nto launch it\n");
    for (int32_t engine = 0; engine < LAUNCH_ENGINES; engine++) {
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            char command[LAUNCH_BYTES];
            if (!plan_launch(command, plan, answer, (enum launch_engine)engine,
                             (enum cost_pool)pool)) {
                continue;
            }
            is_known = true;
            printf("\n# %s, %s\n%s\n", launch_engine_name((enum launch_engine)engine),
                   answer->deployment[answer->winner].shared ? "prefill and decode"
                   : pool == COST_PREFILL                    ? "prefill"
                                                             : "decode",
                   command);
        }
    }
    if (!is_known) {
        printf("\n# no engine that is known here does this\n");
    }
}

void print_plan(const struct plan *plan, const struct plan_answer *answer,
                const struct api_price_list *prices)
{
    char line[WORDS];
    print_asked(plan);
    print_fates(plan, answer);
    printf("\n");
    for (int32_t i = 0; plan_sentence(line, sizeof line, plan, answer, i); i++) {
        printf("%s\n", line);
    }
    if (answer->num_deployments > 0) {
        if (answer->num_served > 0) {
            print_finalists(plan, answer);
        }
        print_front(plan, answer);
        print_cheapest_of_each(plan, answer);
    }
    if (answer->winner >= 0) {
        print_shifts(answer);
        print_prices(plan, answer, prices);
    }
    print_assumptions(plan, answer);
    if (answer->winner >= 0) {
        print_launch(plan, answer);
    }
}
