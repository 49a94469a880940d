/* plan_json.c -- a plan's answer as JSON. */
#include "cli/print_plan.h"

#include <stdio.h>

#include "plan_launch.h"
#include "plan_words.h"

#define WORDS 512

static cJSON *point_json(const struct plan *plan, const struct plan_point *point)
{
    char words[WORDS];
    cJSON *json = cJSON_CreateObject();
    plan_point_words(words, sizeof words, point);
    cJSON_AddStringToObject(json, "words", words);
    cJSON_AddStringToObject(json, "gpu", plan->gpu[point->gpu].cluster.gpu.name);
    cJSON_AddNumberToObject(json, "ep", point->ep);
    cJSON_AddNumberToObject(json, "attention_tp", point->tp);
    cJSON_AddNumberToObject(json, "expert_tp", point->expert_tp > 1 ? point->expert_tp : 1);
    cJSON_AddNumberToObject(json, "redundant_experts", point->redundant_experts);
    cJSON_AddNumberToObject(json, "tokens_per_rank", point->tokens_per_rank);
    cJSON_AddNumberToObject(json, "micro_batches", point->micro_batches);
    cJSON_AddStringToObject(json, "strategy", point->strategy->name);
    cJSON_AddStringToObject(json, "expert_precision", precision_name(point->expert_precision));
    if (point->offload.home != OFFLOAD_NOTHING) {
        cJSON *offload = cJSON_AddObjectToObject(json, "offload");
        cJSON_AddStringToObject(offload, "where", offload_home_name(point->offload.home));
        cJSON_AddNumberToObject(offload, "slots", point->offload.num_slots);
        cJSON_AddStringToObject(offload, "policy", point->offload.policy->name);
        cJSON_AddStringToObject(offload, "misses", offload_misses_name(point->offload.misses));
        cJSON_AddNumberToObject(offload, "hit_rate", point->hit_rate);
        cJSON_AddNumberToObject(offload, "fetch_ns", point->phase_ns[STEP_FETCH]);
    }
    cJSON_AddNumberToObject(json, "step_ns", point->step_ns);
    cJSON_AddNumberToObject(json, "bound_ns", point->bound_ns);
    cJSON_AddNumberToObject(json, "rank_tokens_max_over_mean", point->imbalance);
    cJSON_AddNumberToObject(json, "memory_bytes", (double)point->memory.total_bytes);
    cJSON_AddNumberToObject(json, "memory_limit_bytes", (double)point->memory.limit_bytes);
    return json;
}

static void add_latency(cJSON *root, const char *name, const struct plan_latency *latency)
{
    cJSON *json = cJSON_AddObjectToObject(root, name);
    cJSON_AddNumberToObject(json, "mean_s", latency->mean_s);
    for (int32_t i = 0; i < PLAN_PERCENTILES; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "p%d_s", (int)plan_percentiles[i]);
        cJSON_AddNumberToObject(json, key, latency->percentile_s[i]);
    }
}

/* null where nobody has judged. */
static void add_verdict(cJSON *json, const struct plan *plan,
                        const struct plan_deployment *deployment)
{
    enum plan_verdict verdict = plan_verdict(plan, deployment);
    if (verdict == PLAN_NOT_JUDGED) {
        cJSON_AddNullToObject(json, "meets_targets");
        cJSON_AddNullToObject(json, "judged_by");
        return;
    }
    cJSON_AddBoolToObject(json, "meets_targets", verdict == PLAN_MEETS);
    cJSON_AddStringToObject(json, "judged_by", deployment->is_served ? "requests" : "means");
}

/* All as the file has them, whatever is planned. */
static void add_arrivals(cJSON *root, const struct plan_arrivals *arrivals)
{
    const struct cost_traffic *traffic = &arrivals->traffic;
    cJSON *json = cJSON_AddObjectToObject(root, "arrivals");
    cJSON_AddStringToObject(json, "path", arrivals->path);
    cJSON_AddNumberToObject(json, "requests", (double)arrivals->file.count);
    cJSON_AddNumberToObject(json, "left_out", (double)arrivals->file.num_failed);
    cJSON_AddNumberToObject(json, "span_s", arrivals->span_s);
    cJSON_AddNumberToObject(json, "stretch_s", arrivals->stretch_s);
    cJSON_AddNumberToObject(json, "requests_per_day", traffic->requests_per_day);
    cJSON_AddNumberToObject(json, "input_tokens", traffic->input_tokens);
    cJSON_AddNumberToObject(json, "input_cv", traffic->input_cv);
    cJSON_AddNumberToObject(json, "output_tokens", traffic->output_tokens);
    cJSON_AddNumberToObject(json, "output_cv", traffic->output_cv);
    cJSON_AddNumberToObject(json, "peak_over_mean", cost_peak_over_mean(traffic));
    cJSON_AddNumberToObject(json, "busiest_over_mean", arrivals->busiest_over_mean);
    if (arrivals->file.num_hashes > 0) {
        cJSON_AddNumberToObject(json, "cached_share_max", traffic->cached_share);
    }
}

/* What is planned for. */
static void add_traffic(cJSON *root, const struct cost_traffic *traffic)
{
    cJSON *json = cJSON_AddObjectToObject(root, "traffic");
    cJSON_AddNumberToObject(json, "requests_per_day", traffic->requests_per_day);
    cJSON_AddNumberToObject(json, "input_tokens", traffic->input_tokens);
    cJSON_AddNumberToObject(json, "output_tokens", traffic->output_tokens);
    cJSON_AddNumberToObject(json, "cached_share", traffic->cached_share);
    cJSON_AddNumberToObject(json, "peak_over_mean", cost_peak_over_mean(traffic));
    cJSON_AddItemToObject(json, "hour_weight",
                          cJSON_CreateDoubleArray(traffic->hour_weight, HOURS_A_DAY));
}

static void add_target(cJSON *json, const char *name, double target_s, int32_t percentile)
{
    char at[16] = "mean";
    if (target_s <= 0.0) {
        return;
    }
    if (percentile > 0) {
        (void)snprintf(at, sizeof at, "p%d", (int)percentile);
    }
    cJSON *target = cJSON_AddObjectToObject(json, name);
    cJSON_AddNumberToObject(target, "seconds", target_s);
    cJSON_AddStringToObject(target, "at", at);
}

/* What was asked; no key where nothing was. */
static void add_targets(cJSON *root, const struct plan *plan)
{
    cJSON *json = cJSON_AddObjectToObject(root, "targets");
    add_target(json, "ttft", plan->ttft_s, plan->ttft_percentile);
    add_target(json, "tpot", plan->tpot_s, plan->tpot_percentile);
    if (plan->usd_per_day_max > 0.0) {
        cJSON_AddNumberToObject(json, "usd_per_day", plan->usd_per_day_max);
    }
    if (plan->gpus_max > 0) {
        cJSON_AddNumberToObject(json, "gpus", plan->gpus_max);
    }
}

/* null where nothing is known of the errors behind it. */
static void add_range(cJSON *json, const char *name, const struct plan_range *range, bool is_known)
{
    char key[48];
    const double ends[] = {range->low, range->high};
    for (int32_t i = 0; i < 2; i++) {
        (void)snprintf(key, sizeof key, "%s_%s", name, i == 0 ? "low" : "high");
        if (is_known) {
            cJSON_AddNumberToObject(json, key, ends[i]);
        } else {
            cJSON_AddNullToObject(json, key);
        }
    }
}

static void add_costs(cJSON *json, const struct plan_deployment *deployment)
{
    const struct cost_day *cost = &deployment->cost;
    const struct plan_interval *interval = &deployment->interval;
    bool of_both = plan_amount_is_known(deployment, PLAN_OF_BOTH);
    bool of_input = plan_amount_is_known(deployment, PLAN_OF_INPUT);
    bool of_output = plan_amount_is_known(deployment, PLAN_OF_OUTPUT);
    cJSON_AddNumberToObject(json, "prefill_error_share", interval->known_share[COST_PREFILL]);
    cJSON_AddNumberToObject(json, "decode_error_share", interval->known_share[COST_DECODE]);
    cJSON_AddNumberToObject(json, "usd_per_day", cost->usd_total);
    add_range(json, "usd_per_day", &interval->usd_per_day, of_both);
    cJSON_AddNumberToObject(json, "usd_per_million_input", cost->usd_per_million_input);
    add_range(json, "usd_per_million_input", &interval->usd_per_million_input, of_input);
    cJSON_AddNumberToObject(json, "usd_per_million_output", cost->usd_per_million_output);
    add_range(json, "usd_per_million_output", &interval->usd_per_million_output, of_output);
    cJSON_AddNumberToObject(json, "usd_per_request", cost->usd_per_request);
    add_range(json, "usd_per_request", &interval->usd_per_request, of_both);
    add_range(json, "ttft_s", &interval->ttft_s, of_input);
    add_range(json, "tpot_s", &interval->tpot_s, of_output);
    add_range(json, "prefill_groups", &interval->groups[COST_PREFILL], of_input);
    add_range(json, "decode_groups", &interval->groups[COST_DECODE], of_output);
}

static cJSON *deployment_json(const struct plan *plan, const struct plan_answer *answer,
                              int32_t index)
{
    const struct plan_deployment *deployment = &answer->deployment[index];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddBoolToObject(json, "winner", index == answer->winner);
    cJSON_AddBoolToObject(json, "reference", index == answer->reference);
    cJSON_AddBoolToObject(json, "on_front", deployment->on_front);
    add_verdict(json, plan, deployment);
    cJSON_AddStringToObject(json, "pools", deployment->shared ? "shared" : "disaggregated");
    cJSON_AddNumberToObject(json, "num_gpus", deployment->num_gpus);
    cJSON_AddNumberToObject(json, "prefill_groups", deployment->groups[COST_PREFILL]);
    cJSON_AddNumberToObject(json, "decode_groups", deployment->groups[COST_DECODE]);
    cJSON_AddNumberToObject(json, "ttft_s", deployment->ttft_s);
    cJSON_AddNumberToObject(json, "tpot_s", deployment->tpot_s);
    if (deployment->is_served) {
        add_latency(json, "ttft", &deployment->ttft);
        add_latency(json, "tpot", &deployment->tpot);
        cJSON_AddNumberToObject(json, "refused_share", deployment->refused_share);
        cJSON_AddNumberToObject(json, "prefill_groups_added", deployment->added[COST_PREFILL]);
        cJSON_AddNumberToObject(json, "decode_groups_added", deployment->added[COST_DECODE]);
        cJSON_AddNumberToObject(json, "usd_per_day_of_means", deployment->usd_per_day_mean);
    }
    add_costs(json, deployment);
    cJSON_AddNumberToObject(json, "energy_kwh_per_day", deployment->cost.energy_kwh);
    cJSON_AddItemToObject(json, "prefill",
                          point_json(plan, &answer->point[deployment->point[COST_PREFILL]]));
    cJSON_AddItemToObject(json, "decode",
                          point_json(plan, &answer->point[deployment->point[COST_DECODE]]));
    return json;
}

static void add_shifts(cJSON *root, const struct plan_answer *answer)
{
    cJSON *shifts = cJSON_AddArrayToObject(root, "sensitivity");
    for (int32_t i = 0; i < answer->num_shifts; i++) {
        const struct plan_shift *shift = &answer->shift[i];
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "what", shift->what);
        cJSON_AddNumberToObject(json, "factor", shift->factor);
        cJSON_AddBoolToObject(json, "feasible", shift->feasible);
        if (shift->feasible) {
            cJSON_AddNumberToObject(json, "usd_per_day", shift->usd_per_day);
            cJSON_AddBoolToObject(json, "winner_changes", shift->winner_changes);
        }
        cJSON_AddItemToArray(shifts, json);
    }
}

static void add_prices(cJSON *root, const struct plan *plan, const struct plan_answer *answer,
                       const struct api_price_list *prices)
{
    const struct plan_deployment *winner = &answer->deployment[answer->winner];
    const struct plan_range *day = &winner->interval.usd_per_day;
    cJSON *list = cJSON_AddArrayToObject(root, "api_prices");
    for (int32_t i = 0; i < prices->count; i++) {
        const struct api_price *price = &prices->price[i];
        double income = api_price_income_usd(price, &plan->traffic);
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "provider", price->provider);
        cJSON_AddStringToObject(json, "sold_as", price->sold_as);
        cJSON_AddNumberToObject(json, "usd_per_million_input", price->usd_per_million_input);
        cJSON_AddNumberToObject(json, "usd_per_million_output", price->usd_per_million_output);
        cJSON_AddStringToObject(json, "date", price->date);
        cJSON_AddStringToObject(json, "source", price->source);
        cJSON_AddNumberToObject(json, "margin_of_income", 1.0 - winner->cost.usd_total / income);
        add_range(json, "margin_of_income",
                  &(struct plan_range){1.0 - day->high / income, 1.0 - day->low / income},
                  plan_amount_is_known(winner, PLAN_OF_BOTH));
        cJSON_AddItemToArray(list, json);
    }
}

static void add_launch(cJSON *root, const struct plan *plan, const struct plan_answer *answer)
{
    cJSON *list = cJSON_AddArrayToObject(root, "launch");
    for (int32_t engine = 0; engine < LAUNCH_ENGINES; engine++) {
        for (int32_t pool = 0; pool < COST_POOLS; pool++) {
            char command[LAUNCH_BYTES];
            if (plan_launch(command, plan, answer, (enum launch_engine)engine,
                            (enum cost_pool)pool)) {
                cJSON *json = cJSON_CreateObject();
                cJSON_AddStringToObject(json, "engine",
                                        launch_engine_name((enum launch_engine)engine));
                cJSON_AddStringToObject(json, "pool", pool == COST_PREFILL ? "prefill" : "decode");
                cJSON_AddStringToObject(json, "command", command);
                cJSON_AddItemToArray(list, json);
            }
        }
    }
}

static void
add_words(cJSON *root, const char *name, const struct plan *plan, const struct plan_answer *answer,
          bool (*say)(char *, size_t, const struct plan *, const struct plan_answer *, int32_t))
{
    char line[WORDS];
    cJSON *list = cJSON_AddArrayToObject(root, name);
    for (int32_t i = 0; say(line, sizeof line, plan, answer, i); i++) {
        cJSON_AddItemToArray(list, cJSON_CreateString(line));
    }
}

cJSON *plan_json(const struct plan *plan, const struct plan_answer *answer,
                 const struct api_price_list *prices)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "plan", plan->name);
    cJSON_AddStringToObject(root, "model", plan->model.name);
    struct money money = plan_money(plan);
    money_json(root, &money.shown);
    add_traffic(root, &plan->traffic);
    if (plan->arrivals.file.count > 0) {
        add_arrivals(root, &plan->arrivals);
    }
    add_targets(root, plan);
    cJSON *fates = cJSON_AddObjectToObject(root, "points");
    for (int32_t fate = 0; fate < PLAN_FATES; fate++) {
        cJSON_AddNumberToObject(fates, plan_fate_name((enum plan_fate)fate),
                                (double)answer->fates[fate]);
    }
    cJSON_AddNumberToObject(root, "num_deployments", answer->num_deployments);
    cJSON_AddNumberToObject(root, "num_feasible", plan_count(plan, answer, PLAN_MEETS));
    cJSON_AddNumberToObject(root, "num_not_judged", plan_count(plan, answer, PLAN_NOT_JUDGED));
    if (answer->reference >= 0) {
        cJSON_AddNumberToObject(root, "reference_excess", answer->reference_excess);
    }
    add_words(root, "answer", plan, answer, plan_sentence);
    add_words(root, "assumptions", plan, answer, plan_assumption);
    cJSON *list = cJSON_AddArrayToObject(root, "deployments");
    for (int32_t i = 0; i < answer->num_deployments; i++) {
        const struct plan_deployment *deployment = &answer->deployment[i];
        bool is_cheapest =
            i == plan_cheapest_of(answer, answer->point[deployment->point[COST_DECODE]].gpu);
        if (deployment->on_front || deployment->is_served || is_cheapest || i == answer->winner ||
            i == answer->reference) {
            cJSON_AddItemToArray(list, deployment_json(plan, answer, i));
        }
    }
    if (answer->winner >= 0) {
        add_shifts(root, answer);
        add_prices(root, plan, answer, prices);
        add_launch(root, plan, answer);
    }
    return root;
}
