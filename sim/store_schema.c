/*
 * store_schema.c -- the tables of a results file.
 *
 * Every table is keyed by the text of the run's id, so files of several machines are merged by
 * copying rows. Columns carry units and the names of the code; sums stay sums, so windows and
 * shards add up. layer is the model's layer number, step and rank count from 0.
 */
#include "store_internal.h"

#include <stddef.h>

static const char run_sql[] =
    "CREATE TABLE run("
    "run_id TEXT PRIMARY KEY, complete INTEGER NOT NULL, label TEXT NOT NULL, "
    "scenario TEXT NOT NULL, question TEXT NOT NULL, scenario_text TEXT NOT NULL, "
    "model TEXT NOT NULL, num_experts INTEGER NOT NULL, top_k INTEGER NOT NULL, "
    "num_moe_layers INTEGER NOT NULL, gpu TEXT NOT NULL, num_gpus INTEGER NOT NULL, "
    "num_nodes INTEGER NOT NULL, ep INTEGER NOT NULL, expert_tp INTEGER NOT NULL, "
    "tp INTEGER NOT NULL, phase TEXT NOT NULL, tokens_per_rank INTEGER NOT NULL, context_tokens "
    "INTEGER NOT NULL, router TEXT NOT NULL, "
    "capacity_factor REAL NOT NULL, capacity_scope TEXT NOT NULL, drop_policy TEXT NOT NULL, "
    "strategy TEXT NOT NULL, redundant_experts INTEGER NOT NULL, "
    "rebalance_interval_steps INTEGER NOT NULL, replica TEXT NOT NULL, collective TEXT NOT NULL, "
    "dispatch_precision TEXT NOT NULL, combine_precision TEXT NOT NULL, network TEXT NOT NULL, "
    "gpu_model TEXT NOT NULL, kernels TEXT NOT NULL, fitted_on TEXT NOT NULL, error_median REAL, "
    "seed TEXT NOT NULL, trace TEXT NOT NULL, trace_origin TEXT NOT NULL, "
    "trace_source TEXT NOT NULL, trace_digest TEXT NOT NULL, commit_id TEXT NOT NULL, "
    "digest TEXT NOT NULL, tokens INTEGER NOT NULL, assignments INTEGER NOT NULL, "
    "dropped_assignments INTEGER NOT NULL, num_steps INTEGER NOT NULL, "
    "rows_left_out INTEGER NOT NULL, step_ns_mean REAL NOT NULL, "
    "tokens_per_s_per_gpu REAL NOT NULL, "
    "usd_per_gpu_hour REAL NOT NULL, price TEXT NOT NULL, price_source TEXT NOT NULL, "
    "price_date TEXT NOT NULL, usd_per_million_tokens REAL NOT NULL, "
    "rank_tokens_max_over_mean REAL NOT NULL, balancedness REAL NOT NULL, "
    "balancedness_vllm REAL NOT NULL, rank_imbalance REAL NOT NULL, "
    "rank_variation REAL NOT NULL, settled_balancedness REAL NOT NULL, interval_balancedness REAL "
    "NOT NULL, "
    "dispatch_bytes INTEGER NOT NULL, dispatch_cross_node_bytes INTEGER NOT NULL, "
    "rebalance_ns INTEGER NOT NULL, first_steps INTEGER NOT NULL, first_ns INTEGER NOT NULL, "
    "messages INTEGER NOT NULL, bytes_sent INTEGER NOT NULL, "
    "bytes_received INTEGER NOT NULL, events INTEGER NOT NULL)";

const struct store_table store_schema[] = {
    {"run", run_sql},
    {"run_origin", "CREATE TABLE run_origin("
                   "run_id TEXT PRIMARY KEY, finished_utc TEXT NOT NULL, hostname TEXT NOT NULL, "
                   "command TEXT NOT NULL, wall_s REAL NOT NULL) WITHOUT ROWID"},
    {"assumption", "CREATE TABLE assumption("
                   "run_id TEXT, assumption INTEGER, name TEXT NOT NULL, value, "
                   "unit TEXT NOT NULL, source TEXT NOT NULL, "
                   "PRIMARY KEY (run_id, assumption)) WITHOUT ROWID"},
    {"memory", "CREATE TABLE memory("
               "run_id TEXT, part TEXT, bytes INTEGER NOT NULL, "
               "PRIMARY KEY (run_id, part)) WITHOUT ROWID"},
    {"step", "CREATE TABLE step("
             "run_id TEXT, window INTEGER, first_step INTEGER NOT NULL, "
             "num_steps INTEGER NOT NULL, tokens INTEGER NOT NULL, assignments INTEGER NOT NULL, "
             "dropped_assignments INTEGER NOT NULL, step_ns_sum INTEGER NOT NULL, "
             "step_ns_min INTEGER NOT NULL, step_ns_max INTEGER NOT NULL, "
             "PRIMARY KEY (run_id, window)) WITHOUT ROWID"},
    {"step_phase", "CREATE TABLE step_phase("
                   "run_id TEXT, window INTEGER, phase TEXT, phase_ns_sum REAL NOT NULL, "
                   "PRIMARY KEY (run_id, window, phase)) WITHOUT ROWID"},
    {"balance", "CREATE TABLE balance("
                "run_id TEXT, window INTEGER, balancedness_sum REAL NOT NULL, "
                "balancedness_vllm_sum REAL NOT NULL, rank_imbalance_sum REAL NOT NULL, "
                "rank_variation_sum REAL NOT NULL, "
                "PRIMARY KEY (run_id, window)) WITHOUT ROWID"},
    {"layer", "CREATE TABLE layer("
              "run_id TEXT, layer INTEGER, assignments INTEGER NOT NULL, "
              "dropped_assignments INTEGER NOT NULL, rank_tokens_max_over_mean_sum REAL NOT NULL, "
              "balancedness_sum REAL NOT NULL, expert_ns_max_sum REAL NOT NULL, "
              "expert_ns_mean_sum REAL NOT NULL, layer_ns_sum REAL NOT NULL, "
              "PRIMARY KEY (run_id, layer)) WITHOUT ROWID"},
    {"expert_load", "CREATE TABLE expert_load("
                    "run_id TEXT, layer INTEGER, expert INTEGER, tokens INTEGER NOT NULL, "
                    "dropped_assignments INTEGER NOT NULL, "
                    "PRIMARY KEY (run_id, layer, expert)) WITHOUT ROWID"},
    {"expert_load_detail", "CREATE TABLE expert_load_detail("
                           "run_id TEXT, step INTEGER, layer INTEGER, expert INTEGER, "
                           "tokens INTEGER NOT NULL, "
                           "PRIMARY KEY (run_id, step, layer, expert)) WITHOUT ROWID"},
    {"rank_load", "CREATE TABLE rank_load("
                  "run_id TEXT, layer INTEGER, rank INTEGER, tokens INTEGER NOT NULL, "
                  "PRIMARY KEY (run_id, layer, rank)) WITHOUT ROWID"},
    {"rank_window", "CREATE TABLE rank_window("
                    "run_id TEXT, window INTEGER, rank INTEGER, tokens INTEGER NOT NULL, "
                    "PRIMARY KEY (run_id, window, rank)) WITHOUT ROWID"},
    {"rank_busy", "CREATE TABLE rank_busy("
                  "run_id TEXT, rank INTEGER, busy_ns REAL NOT NULL, "
                  "PRIMARY KEY (run_id, rank)) WITHOUT ROWID"},
    {"traffic", "CREATE TABLE traffic("
                "run_id TEXT, src_cell INTEGER, dst_cell INTEGER, ranks_per_cell INTEGER NOT NULL, "
                "bytes INTEGER NOT NULL, PRIMARY KEY (run_id, src_cell, dst_cell)) WITHOUT ROWID"},
    {"link_load", "CREATE TABLE link_load("
                  "run_id TEXT, link INTEGER, name TEXT NOT NULL, tier TEXT NOT NULL, "
                  "bytes_per_s REAL NOT NULL, bytes INTEGER NOT NULL, busy_ns REAL NOT NULL, "
                  "PRIMARY KEY (run_id, link)) WITHOUT ROWID"},
    {"drop_curve", "CREATE TABLE drop_curve("
                   "run_id TEXT, scope TEXT, capacity_factor REAL, assignments INTEGER NOT NULL, "
                   "dropped_assignments INTEGER NOT NULL, "
                   "PRIMARY KEY (run_id, scope, capacity_factor)) WITHOUT ROWID"},
    {"layer_route",
     "CREATE TABLE layer_route("
     "run_id TEXT, layer INTEGER, batches INTEGER NOT NULL, tokens INTEGER NOT NULL, "
     "tokens_without_expert INTEGER NOT NULL, rerouted_assignments INTEGER NOT NULL, "
     "gate_mass_sum REAL, max_violation_global REAL NOT NULL, "
     "max_violation_batch_sum REAL NOT NULL, places REAL NOT NULL, "
     "PRIMARY KEY (run_id, layer)) WITHOUT ROWID"},
    {"rebalance", "CREATE TABLE rebalance("
                  "run_id TEXT, rebalance INTEGER, step INTEGER NOT NULL, moves INTEGER NOT NULL, "
                  "bytes INTEGER NOT NULL, duration_ns INTEGER NOT NULL, "
                  "layers_changed INTEGER NOT NULL, landing_ns INTEGER NOT NULL, settled_steps "
                  "INTEGER NOT NULL, settled_ns INTEGER NOT NULL, "
                  "PRIMARY KEY (run_id, rebalance)) WITHOUT ROWID"},
    {"offload",
     "CREATE TABLE offload("
     "run_id TEXT PRIMARY KEY, home TEXT NOT NULL, policy TEXT NOT NULL, slots INTEGER NOT NULL, "
     "experts INTEGER NOT NULL, prefetch INTEGER NOT NULL, misses TEXT NOT NULL, "
     "expert_bytes INTEGER NOT NULL, link_bytes_per_s REAL NOT NULL, cpu_bytes_per_s REAL NOT "
     "NULL) WITHOUT ROWID"},
    {"offload_layer",
     "CREATE TABLE offload_layer("
     "run_id TEXT, layer INTEGER, touches INTEGER NOT NULL, hits INTEGER NOT NULL, "
     "ahead INTEGER NOT NULL, fetched INTEGER NOT NULL, on_cpu INTEGER NOT NULL, "
     "best_hits INTEGER NOT NULL, transfers INTEGER NOT NULL, "
     "PRIMARY KEY (run_id, layer)) WITHOUT ROWID"},
    {"offload_window",
     "CREATE TABLE offload_window("
     "run_id TEXT, window INTEGER, touches INTEGER NOT NULL, hits INTEGER NOT NULL, "
     "ahead INTEGER NOT NULL, fetched INTEGER NOT NULL, on_cpu INTEGER NOT NULL, "
     "best_hits INTEGER NOT NULL, transfers INTEGER NOT NULL, "
     "PRIMARY KEY (run_id, window)) WITHOUT ROWID"},
    {"study", "CREATE TABLE study("
              "study_id TEXT, position INTEGER, run_id TEXT NOT NULL, group_label TEXT NOT NULL, "
              "name TEXT NOT NULL, is_strategy INTEGER NOT NULL, place INTEGER NOT NULL, gain REAL "
              "NOT NULL, "
              "settled_gain REAL NOT NULL, changes INTEGER NOT NULL, moves INTEGER NOT NULL, "
              "moved_bytes INTEGER NOT NULL, change_ns REAL NOT NULL, payback_steps REAL, "
              "bound_placement REAL, bound_split REAL, verdict TEXT NOT NULL, "
              "PRIMARY KEY (study_id, position))"},
    {"serving", "CREATE TABLE serving("
                "run_id TEXT, pool TEXT, num_gpus INTEGER NOT NULL, num_groups INTEGER NOT NULL, "
                "num_replicas INTEGER NOT NULL, kv_tokens INTEGER NOT NULL, "
                "step_runs INTEGER NOT NULL, step_error_median REAL NOT NULL, "
                "step_error_max REAL NOT NULL, num_steps INTEGER NOT NULL, busy REAL NOT NULL, "
                "waiting_mean REAL NOT NULL, running_mean REAL NOT NULL, "
                "kv_fraction REAL NOT NULL, kv_fraction_max REAL NOT NULL, "
                "tokens_per_step REAL NOT NULL, PRIMARY KEY (run_id, pool)) WITHOUT ROWID"},
    {"serving_total", "CREATE TABLE serving_total("
                      "run_id TEXT, name TEXT, value, PRIMARY KEY (run_id, name)) WITHOUT ROWID"},
    {"serving_latency",
     "CREATE TABLE serving_latency("
     "run_id TEXT, measure TEXT, num_values INTEGER NOT NULL, target_s REAL, mean_s REAL NOT NULL, "
     "p50_s REAL NOT NULL, p90_s REAL NOT NULL, p95_s REAL NOT NULL, p99_s REAL NOT NULL, "
     "max_s REAL NOT NULL, PRIMARY KEY (run_id, measure)) WITHOUT ROWID"},
    {"serving_curve", "CREATE TABLE serving_curve("
                      "run_id TEXT, measure TEXT, fraction REAL, value_s REAL NOT NULL, "
                      "PRIMARY KEY (run_id, measure, fraction)) WITHOUT ROWID"},
    {"serving_window", "CREATE TABLE serving_window("
                       "run_id TEXT, pool TEXT, window INTEGER, begin_s REAL NOT NULL, "
                       "end_s REAL NOT NULL, waiting REAL NOT NULL, running REAL NOT NULL, "
                       "kv_fraction REAL NOT NULL, busy REAL NOT NULL, arrivals INTEGER NOT NULL, "
                       "read_tokens INTEGER NOT NULL, new_tokens INTEGER NOT NULL, "
                       "PRIMARY KEY (run_id, pool, window)) WITHOUT ROWID"},
    {"request", "CREATE TABLE request("
                "run_id TEXT, request INTEGER, arrival_s REAL NOT NULL, "
                "prompt_tokens INTEGER NOT NULL, decode_tokens INTEGER NOT NULL, "
                "cached_tokens INTEGER NOT NULL, replica INTEGER, preemptions INTEGER NOT NULL, "
                "first_token_s REAL, end_s REAL, PRIMARY KEY (run_id, request)) WITHOUT ROWID"},
    {NULL, NULL},
};
