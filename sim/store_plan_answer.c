/* store_plan_answer.c -- a plan's answer: deployments, intervals, the winner's day, shifts. */
#include "store_plan_internal.h"

#include <string.h>

#include "digest.h"
#include "plan_words.h"

#define DEPLOYMENTS_MAX 400 /* of an answer; all of the front, winner and reference come first */

static int insert_deployment(struct store *store, const char *plan_id, const struct plan *plan,
                             const struct plan_answer *answer, int32_t index)
{
    const struct plan_deployment *deployment = &answer->deployment[index];
    const struct plan_point *prefill = &answer->point[deployment->point[COST_PREFILL]];
    const struct plan_point *decode = &answer->point[deployment->point[COST_DECODE]];
    char words[COST_POOLS][256];
    plan_point_words(words[COST_PREFILL], sizeof words[0], prefill);
    plan_point_words(words[COST_DECODE], sizeof words[0], decode);
    const struct cell cells[] = {cell_text(plan_id),
                                 cell_integer(index),
                                 cell_text(plan->gpu[prefill->gpu].cluster.gpu.name),
                                 cell_text(deployment->shared ? "shared" : "disaggregated"),
                                 cell_text(words[COST_PREFILL]),
                                 cell_text(words[COST_DECODE]),
                                 cell_text(index == answer->winner      ? "winner"
                                           : index == answer->reference ? plan->reference.name
                                           : deployment->on_front       ? "front"
                                                                        : "other"),
                                 cell_integer(deployment->num_gpus),
                                 cell_real(deployment->ttft_s * 1e3),
                                 cell_real(deployment->tpot_s * 1e3),
                                 cell_real(deployment->cost.usd_total),
                                 cell_real(deployment->interval.usd_per_day.low),
                                 cell_real(deployment->interval.usd_per_day.high),
                                 cell_real(deployment->cost.usd_per_million_input),
                                 cell_real(deployment->cost.usd_per_million_output),
                                 cell_integer(deployment->meets_targets),
                                 cell_integer(deployment->on_front)};
    return plan_store_insert(
        store,
        "INSERT INTO plan_deployment VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "?, ?)",
        cells, (int)(sizeof cells / sizeof cells[0]));
}

/* NULL where nothing is known of the errors behind an amount. */
static int insert_interval(struct store *store, const char *plan_id,
                           const struct plan_deployment *deployment, int32_t index)
{
    const struct plan_interval *interval = &deployment->interval;
    const struct {
        enum plan_amount amount;
        const struct plan_range *range;
    } amounts[] = {{PLAN_OF_BOTH, &interval->usd_per_day},
                   {PLAN_OF_INPUT, &interval->usd_per_million_input},
                   {PLAN_OF_OUTPUT, &interval->usd_per_million_output}};
    struct cell cells[8] = {cell_text(plan_id), cell_integer(index)};
    for (int32_t i = 0; i < 3; i++) {
        bool is_known = plan_amount_is_known(deployment, amounts[i].amount);
        cells[2 + 2 * i] = cell_real(amounts[i].range->low);
        cells[3 + 2 * i] = cell_real(amounts[i].range->high);
        cells[2 + 2 * i].kind = cells[3 + 2 * i].kind = is_known ? 'r' : 'n';
    }
    return plan_store_insert(store, "INSERT INTO plan_interval VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                             cells, 8);
}

/* The winner's day. */
static int insert_hours(struct store *store, const char *plan_id, const struct plan *plan,
                        const struct plan_answer *answer)
{
    struct cost_hour hour[HOURS_A_DAY];
    int code = SQLITE_OK;
    if (answer->winner < 0) {
        return code;
    }
    plan_hours(hour, &answer->deployment[answer->winner], plan, answer->point);
    for (int32_t i = 0; i < HOURS_A_DAY && code == SQLITE_OK; i++) {
        const struct cell cells[] = {
            cell_text(plan_id),
            cell_integer(i),
            cell_real(hour[i].gpus[COST_PREFILL]),
            cell_real(hour[i].busy_gpus[COST_PREFILL]),
            cell_real(hour[i].gpus[COST_DECODE]),
            cell_real(hour[i].busy_gpus[COST_DECODE]),
            cell_real(hour[i].idle_gpus[COST_PREFILL] + hour[i].idle_gpus[COST_DECODE]),
            cell_real(plan->terms.idle_paid),
            cell_real(hour[i].usd)};
        code = plan_store_insert(store, "INSERT INTO plan_hour VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                 cells, 9);
    }
    return code;
}

/* All that stands out, the cheapest on every kind of GPU too, and of the others the cheapest. */
static int insert_deployments(struct store *store, const char *plan_id, const struct plan *plan,
                              const struct plan_answer *answer)
{
    int code = SQLITE_OK;
    int32_t others = 0;
    bool has_cheapest[2][PLAN_GPUS_MAX] = {{false}}; /* that miss targets, and that meet them */
    for (int32_t i = 0; i < answer->num_deployments && code == SQLITE_OK; i++) {
        const struct plan_deployment *deployment = &answer->deployment[i];
        int32_t gpu = answer->point[deployment->point[COST_PREFILL]].gpu;
        bool *has = &has_cheapest[deployment->meets_targets][gpu];
        bool is_cheapest = !*has;
        bool stands_out =
            is_cheapest || deployment->on_front || i == answer->winner || i == answer->reference;
        *has = true;
        others += !stands_out;
        if (stands_out || others <= DEPLOYMENTS_MAX) {
            code = insert_deployment(store, plan_id, plan, answer, i);
            code = code == SQLITE_OK ? insert_interval(store, plan_id, deployment, i) : code;
        }
    }
    return code;
}

static int insert_rest(struct store *store, const char *plan_id, const struct plan_answer *answer)
{
    int code = SQLITE_OK;
    for (int32_t i = 0; i < answer->num_shifts && code == SQLITE_OK; i++) {
        const struct plan_shift *shift = &answer->shift[i];
        const struct cell cells[] = {cell_text(plan_id),
                                     cell_integer(i),
                                     cell_text(shift->what),
                                     cell_real(shift->factor),
                                     cell_real(shift->usd_per_day),
                                     cell_integer(shift->winner_changes)};
        struct cell row[6];
        memcpy(row, cells, sizeof row);
        row[4].kind = shift->feasible ? 'r' : 'n'; /* else NULL */
        code = plan_store_insert(store, "INSERT INTO plan_shift VALUES(?, ?, ?, ?, ?, ?)", row, 6);
    }
    for (int32_t fate = 0; fate < PLAN_FATES && code == SQLITE_OK; fate++) {
        const struct cell row[] = {cell_text(plan_id),
                                   cell_text(plan_fate_name((enum plan_fate)fate)),
                                   cell_integer(answer->fates[fate])};
        code = plan_store_insert(store, "INSERT INTO plan_fate VALUES(?, ?, ?)", row, 3);
    }
    return code;
}

static int remove_answer(struct store *store, const char *plan_id)
{
    static const char *const of_plan[] = {"plan",      "plan_deployment", "plan_interval",
                                          "plan_hour", "plan_shift",      "plan_fate"};
    int code = SQLITE_OK;
    for (int32_t i = 0; i < 6 && code == SQLITE_OK; i++) {
        char *sql = sqlite3_mprintf("DELETE FROM %s WHERE plan_id = %Q", of_plan[i], plan_id);
        code = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(store->database, sql, NULL, NULL, NULL);
        sqlite3_free(sql);
    }
    return code;
}

enum status plan_store_answer(struct plan_store *plan_store, char *plan_id, const struct plan *plan,
                              const struct plan_answer *answer, struct error *error)
{
    struct store *store = plan_store->store;
    plan_store_key(plan_id, digest_text(DIGEST_START, plan->text));
    struct cell cells[] = {
        cell_text(plan_id),          cell_text(plan->name),         cell_text(plan->question),
        cell_text(plan->model.name), cell_real(plan->ttft_s * 1e3), cell_real(plan->tpot_s * 1e3),
        cell_text(plan->text),       cell_text(store_commit())};
    cells[4].kind = plan->ttft_s > 0.0 ? 'r' : 'n';
    cells[5].kind = plan->tpot_s > 0.0 ? 'r' : 'n';
    enum status status = store_begin_write(store, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = remove_answer(store, plan_id);
    if (code == SQLITE_OK) {
        code =
            plan_store_insert(store, "INSERT INTO plan VALUES(?, ?, ?, ?, ?, ?, ?, ?)", cells, 8);
    }
    if (code == SQLITE_OK) {
        code = insert_deployments(store, plan_id, plan, answer);
    }
    if (code == SQLITE_OK) {
        code = insert_hours(store, plan_id, plan, answer);
    }
    if (code == SQLITE_OK) {
        code = insert_rest(store, plan_id, answer);
    }
    return plan_store_finish(store, code, error);
}
