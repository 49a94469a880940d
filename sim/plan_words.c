/* plan_words.c -- the winner, what binds it, the reference; and what all of it rests on. */
#include "plan_words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "plan_internal.h"

#define POINT_WORDS 256
#define WAITS_LONG  1.5  /* times a decode step */
#define ROOM_LEFT   0.75 /* of the load that is planned with */

struct money plan_money(const struct plan *plan)
{
    struct money money = {0};
    for (int32_t i = 0; i < plan->num_gpus; i++) {
        money_add(&money, &plan->gpu[i].price.currency);
    }
    return money;
}

static const struct plan_deployment *winner_of(const struct plan_answer *answer)
{
    return &answer->deployment[answer->winner];
}

static void say_winner(char *line, size_t bytes, const struct plan *plan,
                       const struct plan_answer *answer)
{
    if (answer->winner < 0 && answer->num_served > 0) {
        plan_say_missed(line, bytes, plan, answer);
        return;
    }
    if (answer->winner < 0) {
        plan_say_none(line, bytes, plan, answer);
        return;
    }
    const struct plan_deployment *winner = winner_of(answer);
    const struct plan_point *prefill = &answer->point[winner->point[COST_PREFILL]];
    char usd[FORMAT_BYTES], per_request[FORMAT_BYTES], ttft[FORMAT_BYTES], tpot[FORMAT_BYTES];
    struct money money = plan_money(plan);
    (void)snprintf(line, bytes,
                   "Cheapest that meets the targets: %d %s, %s, %s a day, %s a request; %sTTFT %s, "
                   "TPOT %s.",
                   (int)winner->num_gpus, plan->gpu[prefill->gpu].cluster.gpu.name,
                   winner->shared ? "one pool for prefill and decode" : "a pool each",
                   format_money(usd, winner->cost.usd_total, &money.shown),
                   format_money(per_request, winner->cost.usd_per_request, &money.shown),
                   answer->num_served > 0 ? "as means " : "", format_ns(ttft, winner->ttft_s * 1e9),
                   format_ns(tpot, winner->tpot_s * 1e9));
}

/* What became of the experts that a step wanted, where some are offloaded. */
static void say_offload(char *text, size_t bytes, const struct plan_point *point)
{
    text[0] = '\0';
    if (point->offload.home != OFFLOAD_NOTHING) {
        (void)snprintf(text, bytes, ", %.0f %% of the experts it wants are there%s%.0d%s",
                       100.0 * point->hit_rate,
                       point->phase_ns[STEP_FETCH] > 0.0 ? ", waits for others " : "",
                       (int)lround(100.0 * point->phase_ns[STEP_FETCH] / point->step_ns),
                       point->phase_ns[STEP_FETCH] > 0.0 ? " % of it" : "");
    }
}

static void say_pool(char *line, size_t bytes, const struct plan_answer *answer,
                     enum cost_pool pool)
{
    const struct plan_deployment *winner = winner_of(answer);
    const struct plan_point *point = &answer->point[winner->point[pool]];
    char words[POINT_WORDS], step[FORMAT_BYTES], offload[96];
    plan_point_words(words, sizeof words, point);
    say_offload(offload, sizeof offload, point);
    (void)snprintf(
        line, bytes,
        "  %-8s %d x %s; step %s%s, busiest rank %.2f x the mean, %.1f of %.1f GB, %s %.0f "
        "%% %s in the busiest hour.",
        pool == COST_PREFILL ? "prefill" : "decode", (int)winner->groups[pool], words,
        format_ns(step, point->step_ns), offload, point->imbalance,
        (double)point->memory.total_bytes / 1e9, (double)point->memory.limit_bytes / 1e9,
        !winner->shared        ? "at"
        : pool == COST_PREFILL ? "prompts take"
                               : "answers take",
        100.0 * winner->load[pool],
        !winner->shared        ? "of its rate"
        : pool == COST_PREFILL ? "of what its steps can read"
                               : "of its places");
}

static void say_cost(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer)
{
    const struct plan_deployment *winner = winner_of(answer);
    const struct cost_day *cost = &winner->cost;
    char input[FORMAT_BYTES], computed[FORMAT_BYTES], output[FORMAT_BYTES];
    struct money money = plan_money(plan);
    bool has_cached = cost->usd_per_million_computed_input > cost->usd_per_million_input;
    (void)snprintf(
        line, bytes,
        "A million input tokens cost %s%s%s%s, a million output tokens %s; %.0f kWh a "
        "day.",
        format_money(input, cost->usd_per_million_input, &money.shown), has_cached ? " (" : "",
        has_cached ? format_money(computed, cost->usd_per_million_computed_input, &money.shown)
                   : "",
        has_cached ? " of those computed)" : "",
        format_money(output, cost->usd_per_million_output, &money.shown), cost->energy_kwh);
}

/* The next larger batch of a point's layout, or NULL. */
static const struct plan_point *next_batch(const struct plan_answer *answer,
                                           const struct plan_point *point)
{
    const struct plan_point *next = NULL;
    for (int32_t i = 0; i < answer->num_points; i++) {
        const struct plan_point *other = &answer->point[i];
        bool same = plan_same_layout(other, point) && other->pool == point->pool &&
                    other->micro_batches == point->micro_batches &&
                    other->offload.misses == point->offload.misses;
        if (same && other->tokens_per_rank > point->tokens_per_rank &&
            (next == NULL || other->tokens_per_rank < next->tokens_per_rank)) {
            next = other;
        }
    }
    return next;
}

static void say_binding(char *line, size_t bytes, const struct plan *plan,
                        const struct plan_answer *answer)
{
    const struct plan_deployment *winner = winner_of(answer);
    const struct plan_point *decode = &answer->point[winner->point[COST_DECODE]];
    const struct plan_point *next = next_batch(answer, decode);
    int32_t groups = winner->groups[COST_DECODE];
    double load = winner->load[COST_DECODE];
    if (winner->shared && winner->tpot_s > WAITS_LONG * decode->step_ns * 1e-9) {
        (void)snprintf(line, bytes,
                       "Bound by turns: in %.0f %% of steps some replica of a group reads a prompt "
                       "and the others wait for it, so a token takes %.1f ms where decode alone "
                       "takes %.1f; a pool each, attention in tensor parallel or smaller prefill "
                       "batches help.",
                       100.0 * winner->read_share, winner->tpot_s * 1e3, decode->step_ns * 1e-6);
    } else if (load < ROOM_LEFT * plan->utilisation_max && groups <= 1) {
        (void)snprintf(line, bytes,
                       "Bound by the size of a group: one is enough and is busy for %.0f %% of the "
                       "busiest hour, so more traffic would cost little.",
                       100.0 * load);
    } else if (next == NULL) {
        (void)snprintf(
            line, bytes,
            "Bound by the search: decode has the largest batch that was tried (%d); give "
            "search.decode.sequences_per_rank more.",
            (int)decode->tokens_per_rank);
    } else if (next->fate == PLAN_NO_MEMORY) {
        (void)snprintf(line, bytes,
                       "Bound by memory: %d sequences a GPU need %.1f GB of %.1f; fewer redundant "
                       "experts, a larger EP, a smaller KV format or a GPU with more memory helps.",
                       (int)next->tokens_per_rank, (double)next->memory.total_bytes / 1e9,
                       (double)next->memory.limit_bytes / 1e9);
    } else if (next->fate == PLAN_TOO_SLOW ||
               (plan->tpot_s > 0.0 && next->step_ns * 1e-9 > plan->tpot_s)) {
        (void)snprintf(line, bytes,
                       "Bound by TPOT: %d sequences a GPU would take %.1f ms%s a token, %.1f are "
                       "allowed.",
                       (int)next->tokens_per_rank,
                       (next->fate == PLAN_SIMULATED ? next->step_ns : next->bound_ns) * 1e-6,
                       next->fate == PLAN_SIMULATED ? "" : " at least", plan->tpot_s * 1e3);
    } else {
        (void)snprintf(line, bytes,
                       "Bound by the work itself: a larger decode batch (%d) is allowed and no "
                       "cheaper.",
                       (int)next->tokens_per_rank);
    }
}

static void say_reference(char *line, size_t bytes, const struct plan *plan,
                          const struct plan_answer *answer)
{
    if (answer->reference < 0) {
        (void)snprintf(line, bytes, "%s: none of its layouts was simulated.", plan->reference.name);
        return;
    }
    const struct plan_deployment *reference = &answer->deployment[answer->reference];
    struct money money = plan_money(plan);
    char usd[FORMAT_BYTES];
    (void)snprintf(line, bytes,
                   "%s: prefill EP%d, decode EP%d, %d redundant experts costs %s a day, %.1f %% "
                   "above the cheapest that is as fast%s.",
                   plan->reference.name, (int)plan->reference.prefill_ep,
                   (int)plan->reference.decode_ep, (int)plan->reference.redundant_experts,
                   format_money(usd, reference->cost.usd_total, &money.shown),
                   100.0 * answer->reference_excess,
                   reference->on_front ? ": it is on the front" : "");
}

/* Sentences about a winner; index 5 only where whole groups hide an error. */
static bool say_of_winner(char *line, size_t bytes, const struct plan *plan,
                          const struct plan_answer *answer, int32_t index)
{
    const struct plan_deployment *winner = winner_of(answer);
    switch (index) {
    case 1:
        say_pool(line, bytes, answer, COST_PREFILL);
        return true;
    case 2:
        say_pool(line, bytes, answer, COST_DECODE);
        return true;
    case 3:
        say_cost(line, bytes, plan, answer);
        return true;
    case 4:
        plan_say_interval(line, bytes, plan, winner);
        return true;
    case 5:
        return plan_say_whole_groups(line, bytes, answer, winner);
    default:
        say_binding(line, bytes, plan, answer);
        return true;
    }
}

bool plan_sentence(char *line, size_t bytes, const struct plan *plan,
                   const struct plan_answer *answer, int32_t index)
{
    int32_t about_winner = answer->winner >= 0 ? 7 : 1;
    if (answer->num_served > 0 && index == 1) {
        plan_say_served(line, bytes, plan, answer);
        return true;
    }
    index -= answer->num_served > 0 && index > 1;
    if (index == 0) {
        say_winner(line, bytes, plan, answer);
        return true;
    }
    if (about_winner > 1 && index >= 5) {
        index += !say_of_winner(line, bytes, plan, answer, 5);
    }
    if (index < about_winner) {
        return say_of_winner(line, bytes, plan, answer, index);
    }
    if (index == about_winner && plan->reference.given) {
        say_reference(line, bytes, plan, answer);
        return true;
    }
    return false;
}

static void say_energy(char *line, size_t bytes, const struct plan *plan,
                       const struct plan_answer *answer)
{
    int32_t kind = answer->winner >= 0 ? answer->point[winner_of(answer)->point[0]].gpu : 0;
    const struct gpu_spec *gpu = &plan->gpu[kind].cluster.gpu;
    bool whole = gpu->allin_watts > 0.0;
    (void)snprintf(line, bytes, "electricity: %s, %.0f W a %s %s%s",
                   plan->terms.energy_apart ? "added to the price" : "within the price",
                   whole ? gpu->allin_watts : gpu->tdp_watts, gpu->name,
                   whole ? "with its share of host, network and cooling"
                         : "for the GPU alone (TDP)",
                   plan->num_gpus > 1 ? "; other kinds by their own presets" : "");
}

static void say_terms(char *line, size_t bytes, const struct plan *plan)
{
    const struct cost_terms *terms = &plan->terms;
    int length = snprintf(line, bytes,
                          "GPUs that the hour does not need cost %.0f %% of their price; spot: "
                          "%.0f %% of hours",
                          100.0 * terms->idle_paid, 100.0 * terms->spot_share);
    for (int32_t i = 0; i < plan->num_gpus && terms->spot_share > 0.0; i++) {
        const struct plan_gpu *gpu = &plan->gpu[i];
        size_t at = (size_t)length < bytes ? (size_t)length : bytes - 1;
        length += snprintf(line + at, bytes - at, "%s $%g an hour of %s", i == 0 ? " at" : ",",
                           gpu->spot_usd_per_gpu_hour, gpu->cluster.gpu.name);
    }
    if (terms->spot_share > 0.0 && (size_t)length < bytes) {
        (void)snprintf(line + length, bytes - (size_t)length, ", %.0f %% of their work lost",
                       100.0 * terms->spot_lost_share);
    }
}

static void say_error(char *line, size_t bytes, const struct plan_answer *answer,
                      enum cost_pool pool)
{
    const struct plan_error *error = &answer->error[pool];
    const char *name = pool == COST_PREFILL ? "prefill" : "decode";
    if (answer->num_deployments == 0) {
        (void)snprintf(line, bytes, "error: no deployment was simulated");
    } else if (error->is_known) {
        (void)snprintf(
            line, bytes,
            "error of %s, medians held out: %s; nothing is known of the other %.0f %%%s%s", name,
            error->words, 100.0 * (1.0 - error->share), error->whole != NULL ? "; " : "",
            error->whole != NULL ? error->whole : "");
    } else {
        (void)snprintf(line, bytes, "error of %s: %s", name, error->words);
    }
}

static bool cuts_experts(const struct plan *plan)
{
    bool cuts = false;
    for (int32_t i = 0; i < plan->expert_tp.count; i++) {
        cuts |= plan->expert_tp.value[i] > 1;
    }
    return cuts;
}

bool plan_assumption(char *line, size_t bytes, const struct plan *plan,
                     const struct plan_answer *answer, int32_t index)
{
    int32_t of_arrivals = 0;
    while (of_arrivals <= index && plan_say_arrivals(line, bytes, plan, of_arrivals)) {
        of_arrivals++;
    }
    if (index < of_arrivals) {
        return true;
    }
    index -= of_arrivals;
    switch (index) {
    case 0:
        (void)snprintf(line, bytes,
                       "routing: %s; experts placed by the loads of the whole trace, weights that "
                       "move later are not charged",
                       plan->trace_preset[0] != '\0' ? plan->trace_preset
                       : plan->trace_path[0] != '\0' ? plan->trace_path
                                                     : "none, a dense model");
        return true;
    case 1:
        (void)snprintf(
            line, bytes,
            "latencies are means of the busiest hour at up to %.0f %% of a pool's rate: "
            "%s; in shared pools a group waits for those of its replicas that read; %s%s",
            100.0 * plan->utilisation_max,
            plan->arrivals.file.count > 0
                ? "M/G/c for the queue by the spread of lengths, contexts as tokens see them (long "
                  "requests have more of them), prompts and answers independent"
                : "M/D/c for the queue, every request as long as the mean one",
            answer->num_served > 0
                ? "percentiles are of finalists in the serving simulator, a few of their "
                  "groups for all, "
                : "for percentiles say slo.ttft: 2s at p90",
            answer->num_served > 0          ? plan_served_words(plan)
            : plan->arrivals.file.count > 0 ? ", which serves the file's own requests: means do "
                                              "not know that unlike prompts fill ranks unlike"
                                            : "");
        return true;
    case 2:
        plan_say_host(line, bytes, plan);
        return true;
    case 3:
        (void)snprintf(line, bytes,
                       "decode runs full batches at the mean context of %d tokens; no multi-token "
                       "prediction; fp8 dispatch where the GPU computes in fp8%s, bf16 combine%s",
                       (int)plan_decode_context(&plan->traffic),
                       cuts_experts(plan) ? " and experts are whole" : "",
                       plan_offload_count(plan) > 0
                           ? "; offloaded experts are measured behind a warm-up of a quarter of up "
                             "to 256 steps"
                           : "");
        return true;
    case 4:
        say_terms(line, bytes, plan);
        return true;
    case 5:
        say_energy(line, bytes, plan, answer);
        return true;
    case 6:
    case 7:
        if (index == 7 && answer->num_deployments == 0) {
            return false; /* said once */
        }
        say_error(line, bytes, answer, index == 6 ? COST_PREFILL : COST_DECODE);
        return true;
    default:
        return false;
    }
}
