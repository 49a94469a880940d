/*
 * store_metrics.c -- the measured aggregates, one prepared insert a table.
 *
 * A cursor holds the insert of one table; its first column is always run_id. Trouble is remembered
 * and told once, by cursor_end, so that the loops below stay loops.
 */
#include <assert.h>

#include "store_internal.h"

struct cursor {
    sqlite3_stmt *statement;
    int code;
    int column; /* the next to be bound; 1 is run_id */
};

static struct cursor cursor_begin(struct store *store, const char *sql)
{
    struct cursor cursor = {NULL, SQLITE_OK, 2};
    cursor.code = sqlite3_prepare_v2(store->database, sql, -1, &cursor.statement, NULL);
    if (cursor.code == SQLITE_OK) {
        cursor.code = sqlite3_bind_text(cursor.statement, 1, store->run.run_id, -1, SQLITE_STATIC);
    }
    return cursor;
}

static void put_integer(struct cursor *cursor, int64_t value)
{
    if (cursor->code == SQLITE_OK) {
        cursor->code = sqlite3_bind_int64(cursor->statement, cursor->column++, value);
    }
}

static void put_real(struct cursor *cursor, double value)
{
    if (cursor->code == SQLITE_OK) {
        cursor->code = sqlite3_bind_double(cursor->statement, cursor->column++, value);
    }
}

static void put_text(struct cursor *cursor, const char *value)
{
    if (cursor->code == SQLITE_OK) {
        cursor->code =
            sqlite3_bind_text(cursor->statement, cursor->column++, value, -1, SQLITE_STATIC);
    }
}

static void put_row(struct cursor *cursor)
{
    if (cursor->code != SQLITE_OK) {
        return;
    }
    assert(cursor->column == sqlite3_bind_parameter_count(cursor->statement) + 1);
    int code = sqlite3_step(cursor->statement);
    cursor->code = code == SQLITE_DONE ? SQLITE_OK : code;
    cursor->column = 2;
    sqlite3_reset(cursor->statement);
}

static enum status cursor_end(struct cursor *cursor, struct store *store, struct error *error)
{
    enum status status =
        cursor->code == SQLITE_OK ? STATUS_OK : store_error(store, cursor->code, error);
    sqlite3_finalize(cursor->statement);
    return status;
}

static enum status write_steps(struct store *store, const struct run_metrics *metrics,
                               struct error *error)
{
    struct cursor cursor =
        cursor_begin(store, "INSERT INTO step VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (int32_t i = 0; i < metrics->num_windows; i++) {
        const struct step_window *window = &metrics->window[i];
        put_integer(&cursor, i);
        put_integer(&cursor, window->first_step);
        put_integer(&cursor, window->num_steps);
        put_integer(&cursor, window->tokens);
        put_integer(&cursor, window->assignments);
        put_integer(&cursor, window->dropped_assignments);
        put_integer(&cursor, window->step_ns_sum);
        put_integer(&cursor, window->step_ns_min);
        put_integer(&cursor, window->step_ns_max);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_phases(struct store *store, const struct run_metrics *metrics,
                                struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO step_phase VALUES(?, ?, ?, ?)");
    for (int32_t i = 0; i < metrics->num_windows; i++) {
        for (int32_t phase = 0; phase < STEP_PHASE_COUNT; phase++) {
            put_integer(&cursor, i);
            put_text(&cursor, step_phase_name((enum step_phase)phase));
            put_real(&cursor, metrics->window[i].phase_ns[phase]);
            put_row(&cursor);
        }
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_balance(struct store *store, const struct run_metrics *metrics,
                                 struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO balance VALUES(?, ?, ?, ?, ?, ?)");
    int32_t num_windows = metrics->num_layers == 0 ? 0 : metrics->num_windows;
    for (int32_t i = 0; i < num_windows; i++) {
        const struct balance_sums *balance = &metrics->window[i].balance;
        put_integer(&cursor, i);
        put_real(&cursor, balance->balancedness);
        put_real(&cursor, balance->balancedness_vllm);
        put_real(&cursor, balance->imbalance);
        put_real(&cursor, balance->variation);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_layers(struct store *store, const struct run_metrics *metrics,
                                struct error *error)
{
    struct cursor cursor =
        cursor_begin(store, "INSERT INTO layer VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (int32_t i = 0; i < metrics->num_layers; i++) {
        const struct layer_metrics *layer = &metrics->layer[i];
        put_integer(&cursor, layer->model_layer);
        put_integer(&cursor, layer->assignments);
        put_integer(&cursor, layer->dropped_assignments);
        put_real(&cursor, layer->rank_tokens_max_over_mean_sum);
        put_real(&cursor, layer->balancedness_sum);
        put_real(&cursor, layer->expert_ns_max_sum);
        put_real(&cursor, layer->expert_ns_mean_sum);
        put_real(&cursor, layer->layer_ns_sum);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_experts(struct store *store, const struct run_metrics *metrics,
                                 struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO expert_load VALUES(?, ?, ?, ?, ?)");
    for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
        for (int32_t expert = 0; expert < metrics->num_experts; expert++) {
            int64_t index = (int64_t)layer * metrics->num_experts + expert;
            put_integer(&cursor, metrics->layer[layer].model_layer);
            put_integer(&cursor, expert);
            put_integer(&cursor, metrics->expert_tokens[index]);
            put_integer(&cursor, metrics->expert_dropped[index]);
            put_row(&cursor);
        }
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_rank_load(struct store *store, const struct run_metrics *metrics,
                                   struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO rank_load VALUES(?, ?, ?, ?)");
    for (int32_t layer = 0; layer < metrics->num_layers; layer++) {
        for (int32_t rank = 0; rank < metrics->num_ranks; rank++) {
            put_integer(&cursor, metrics->layer[layer].model_layer);
            put_integer(&cursor, rank);
            put_integer(&cursor, metrics->rank_tokens[(int64_t)layer * metrics->num_ranks + rank]);
            put_row(&cursor);
        }
    }
    return cursor_end(&cursor, store, error);
}

/* A dense model has no experts, so no rank is loaded by them. */
static enum status write_rank_windows(struct store *store, const struct run_metrics *metrics,
                                      struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO rank_window VALUES(?, ?, ?, ?)");
    int32_t num_windows = metrics->num_layers == 0 ? 0 : metrics->num_windows;
    for (int32_t window = 0; window < num_windows; window++) {
        for (int32_t rank = 0; rank < metrics->num_ranks; rank++) {
            put_integer(&cursor, window);
            put_integer(&cursor, rank);
            put_integer(&cursor,
                        metrics->window_rank_tokens[(int64_t)window * metrics->num_ranks + rank]);
            put_row(&cursor);
        }
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_rank_busy(struct store *store, const struct run_metrics *metrics,
                                   struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO rank_busy VALUES(?, ?, ?)");
    for (int32_t rank = 0; rank < metrics->num_ranks; rank++) {
        put_integer(&cursor, rank);
        put_real(&cursor, metrics->rank_busy_ns[rank]);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_traffic(struct store *store, const struct run_metrics *metrics,
                                 struct error *error)
{
    struct cursor cursor = cursor_begin(store, "INSERT INTO traffic VALUES(?, ?, ?, ?, ?)");
    for (int32_t src = 0; src < metrics->num_cells; src++) {
        for (int32_t dst = 0; dst < metrics->num_cells; dst++) {
            put_integer(&cursor, src);
            put_integer(&cursor, dst);
            put_integer(&cursor, metrics->ranks_per_cell);
            put_integer(&cursor, metrics->traffic_bytes[(int64_t)src * metrics->num_cells + dst]);
            put_row(&cursor);
        }
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_links(struct store *store, const struct run_metrics *metrics,
                               struct error *error)
{
    static const char *const tier_names[TIER_COUNT] = {"scale_up", "scale_out"};
    struct cursor cursor = cursor_begin(store, "INSERT INTO link_load VALUES(?, ?, ?, ?, ?, ?, ?)");
    for (int32_t i = 0; i < metrics->num_links; i++) {
        const struct net_link *link = &metrics->link[i];
        put_integer(&cursor, i);
        put_text(&cursor, link->name);
        put_text(&cursor, tier_names[link->tier]);
        put_real(&cursor, link->bytes_per_s);
        put_integer(&cursor, link->bytes);
        put_real(&cursor, link->busy_ns);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_drop_curve(struct store *store, const struct run_metrics *metrics,
                                    struct error *error)
{
    static const char *const scope_names[] = {
        [CAPACITY_RANK] = "rank", [CAPACITY_GLOBAL] = "global"};
    struct cursor cursor = cursor_begin(store, "INSERT INTO drop_curve VALUES(?, ?, ?, ?, ?)");
    int64_t assignments = 0;
    for (int32_t window = 0; window < metrics->num_windows; window++) {
        assignments += metrics->window[window].assignments;
    }
    for (int32_t scope = 0; scope < 2 && assignments > 0; scope++) {
        for (int32_t factor = 0; factor < DROP_FACTORS; factor++) {
            put_text(&cursor, scope_names[scope]);
            put_real(&cursor, drop_factors[factor]);
            put_integer(&cursor, assignments);
            put_integer(&cursor, metrics->dropped_at[scope * DROP_FACTORS + factor]);
            put_row(&cursor);
        }
    }
    return cursor_end(&cursor, store, error);
}

/* Of a blind router nobody knows the gate mass. */
static enum status write_routes(struct store *store, const struct run_metrics *metrics,
                                struct error *error)
{
    struct cursor cursor =
        cursor_begin(store, "INSERT INTO layer_route VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (int32_t i = 0; i < metrics->num_layers; i++) {
        const struct route_metrics *route = &metrics->route[i];
        put_integer(&cursor, metrics->layer[i].model_layer);
        put_integer(&cursor, route->batches);
        put_integer(&cursor, route->tokens);
        put_integer(&cursor, route->tokens_without_expert);
        put_integer(&cursor, route->rerouted_assignments);
        if (metrics->gate_mass_is_known) {
            put_real(&cursor, route->gate_mass_sum);
        } else {
            cursor.column++; /* stays NULL */
        }
        put_real(&cursor, route_max_violation(metrics, i));
        put_real(&cursor, route->max_violation_sum);
        put_real(&cursor, route->places);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

static enum status write_rebalances(struct store *store, const struct run_metrics *metrics,
                                    struct error *error)
{
    struct cursor cursor =
        cursor_begin(store, "INSERT INTO rebalance VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (int32_t i = 0; i < metrics->num_rebalances; i++) {
        const struct rebalance_record *record = &metrics->rebalance[i];
        put_integer(&cursor, i);
        put_integer(&cursor, record->step);
        put_integer(&cursor, record->moves);
        put_integer(&cursor, record->bytes);
        put_integer(&cursor, record->duration_ns);
        put_integer(&cursor, record->layers_changed);
        put_integer(&cursor, record->landing_ns);
        put_integer(&cursor, record->settled_steps);
        put_integer(&cursor, record->settled_ns);
        put_row(&cursor);
    }
    return cursor_end(&cursor, store, error);
}

enum status store_write_metrics(struct store *store, const struct run_metrics *metrics,
                                struct error *error)
{
    static enum status (*const writer[])(struct store *, const struct run_metrics *,
                                         struct error *) = {
        write_steps,      write_phases,       write_balance,    write_layers,        write_experts,
        write_rank_load,  write_rank_windows, write_rank_busy,  write_traffic,       write_links,
        write_drop_curve, write_routes,       write_rebalances, store_write_offload,
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof writer / sizeof writer[0] && status == STATUS_OK; i++) {
        status = writer[i](store, metrics, error);
    }
    return status;
}
