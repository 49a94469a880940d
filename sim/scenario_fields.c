/* scenario_fields.c -- every key of a scenario: its type, range and default. */
#include <stddef.h>

#include "scenario_internal.h"

#define COUNT_MAX 1048576 /* ranks, nodes, tokens a rank: more is a typing error */

static const char *const attentions[] = {"dp", "tp", NULL};
static const char *const phases[] = {"decode", "prefill", NULL};
static const char *const batchings[] = {"interleaved", "consecutive", "shuffled", NULL};
static const char *const scores[] = {"softmax", "sigmoid", NULL}; /* enum route_score */
static const char *const scopes[] = {"rank", "global", NULL};

const struct scenario_file scenario_defaults = {
    .precision_dense = SCENARIO_UNSET,
    .precision_expert = SCENARIO_UNSET,
    .precision_kv = SCENARIO_UNSET,
    .phase = SCENARIO_UNSET,
    .batching = SCENARIO_UNSET,
    .router = "trace",
    .drop = "position",
    .routing = {.tolerance = 0.05,
                .bias_update = 0.001,
                .bias_decay = 0.0,
                .off_node_share = 0.14,
                .min_capacity = SCENARIO_UNSET,
                .exempt_share = 0.1},
    .strategy = "static",
    .expert_tp = 1,
    .replica = "locality",
    .dispatch_dtype = PRECISION_BF16,
    .combine_dtype = PRECISION_BF16,
    .micro_batches = 1,
    .chunks = 1,
    .shared_tokens = SCENARIO_UNSET,
    .network = "alpha_beta",
    .gpu_model = "roofline",
    .kernels = "any",
    .spine_oversubscription = 1.0,
    .memory_fraction = 0.9,
    .seed = 1,
};

static const char *const fabrics[] = {"flat", "leaves", "rails", NULL}; /* enum fabric */

static const struct yaml_field cluster_fields[] = {
    {"preset", YAML_TEXT, offsetof(struct scenario_file, cluster), .size = PATH_BYTES},
    {"gpu", YAML_TEXT, offsetof(struct scenario_file, gpu), .size = PATH_BYTES},
    {"nodes", YAML_INT32, offsetof(struct scenario_file, nodes), .required = true, .min = 1,
     .max = COUNT_MAX},
    {"gpus_per_node", YAML_INT32, offsetof(struct scenario_file, gpus_per_node), .min = 1,
     .max = 4096},
    {"node_uplink_bytes_per_s", YAML_DOUBLE,
     offsetof(struct scenario_file, node_uplink_bytes_per_s), .max = 1e18},
    {"fabric", YAML_CHOICE, offsetof(struct scenario_file, fabric), .choices = fabrics},
    {"nodes_per_leaf", YAML_INT32, offsetof(struct scenario_file, nodes_per_leaf), .min = 1,
     .max = COUNT_MAX},
    {"spine_oversubscription", YAML_DOUBLE, offsetof(struct scenario_file, spine_oversubscription),
     .min = 1.0, .max = 1000.0},
    {.key = NULL},
};

static const struct yaml_field parallel_fields[] = {
    {"ep", YAML_INT32, offsetof(struct scenario_file, ep), .min = 1, .max = 65536},
    {"attention", YAML_CHOICE, offsetof(struct scenario_file, attention), .choices = attentions},
    {"tp", YAML_INT32, offsetof(struct scenario_file, tp), .min = 1, .max = 4096},
    {"expert_tp", YAML_INT32, offsetof(struct scenario_file, expert_tp), .min = 1, .max = 4096},
    {.key = NULL},
};

static const struct yaml_field precision_fields[] = {
    {"dense", YAML_CHOICE, offsetof(struct scenario_file, precision_dense),
     .choices = precision_choices},
    {"expert", YAML_CHOICE, offsetof(struct scenario_file, precision_expert),
     .choices = precision_choices},
    {"kv", YAML_CHOICE, offsetof(struct scenario_file, precision_kv), .choices = precision_choices},
    {.key = NULL},
};

static const struct yaml_field trace_fields[] = {
    {"path", YAML_TEXT, offsetof(struct scenario_file, trace_path), .size = PATH_BYTES},
    {"preset", YAML_TEXT, offsetof(struct scenario_file, trace_preset), .size = NAME_BYTES},
    {"tokens", YAML_INT64, offsetof(struct scenario_file, trace_tokens), .min = 1, .max = 1e12},
    {"tokens_per_rank", YAML_INT32, offsetof(struct scenario_file, tokens_per_rank),
     .required = true, .min = 1, .max = COUNT_MAX},
    {"batching", YAML_CHOICE, offsetof(struct scenario_file, batching), .choices = batchings},
    {"steps", YAML_INT64, offsetof(struct scenario_file, steps), .min = 0, .max = 1e12},
    {.key = NULL},
};

static const struct yaml_field routing_fields[] = {
    {"policy", YAML_TEXT, offsetof(struct scenario_file, router), .size = NAME_BYTES},
    {"capacity_factor", YAML_DOUBLE, offsetof(struct scenario_file, capacity_factor), .min = -1e6,
     .max = 1e6},
    {"capacity_scope", YAML_CHOICE, offsetof(struct scenario_file, capacity_scope),
     .choices = scopes},
    {"drop", YAML_TEXT, offsetof(struct scenario_file, drop), .size = NAME_BYTES},
    {"score", YAML_CHOICE, offsetof(struct scenario_file, routing.score), .choices = scores},
    {"num_groups", YAML_INT32, offsetof(struct scenario_file, routing.num_groups), .max = 1024},
    {"topk_groups", YAML_INT32, offsetof(struct scenario_file, routing.topk_groups), .max = 1024},
    {"tolerance", YAML_DOUBLE, offsetof(struct scenario_file, routing.tolerance), .max = 1.0},
    {"bias_update", YAML_DOUBLE, offsetof(struct scenario_file, routing.bias_update), .max = 1.0},
    {"bias_decay", YAML_DOUBLE, offsetof(struct scenario_file, routing.bias_decay), .max = 1.0},
    {"off_node_share", YAML_DOUBLE, offsetof(struct scenario_file, routing.off_node_share),
     .max = 1.0},
    {"min_capacity", YAML_INT32, offsetof(struct scenario_file, routing.min_capacity),
     .max = COUNT_MAX},
    {"capacity_multiple", YAML_INT32, offsetof(struct scenario_file, routing.capacity_multiple),
     .max = COUNT_MAX},
    {"exempt_share", YAML_DOUBLE, offsetof(struct scenario_file, routing.exempt_share), .max = 1.0},
    {.key = NULL},
};

static const struct yaml_field placement_fields[] = {
    {"strategy", YAML_TEXT, offsetof(struct scenario_file, strategy), .size = NAME_BYTES},
    {"initial", YAML_TEXT, offsetof(struct scenario_file, initial), .size = PATH_BYTES},
    {"initial_digest", YAML_TEXT, offsetof(struct scenario_file, initial_digest),
     .size = NAME_BYTES},
    {"redundant_experts", YAML_INT32, offsetof(struct scenario_file, redundant_experts),
     .max = COUNT_MAX},
    {"rebalance_interval_steps", YAML_INT32,
     offsetof(struct scenario_file, rebalance_interval_steps), .max = INT32_MAX},
    {"window_steps", YAML_INT32, offsetof(struct scenario_file, window_steps), .max = INT32_MAX},
    {.key = NULL},
};

static const struct yaml_field dispatch_fields[] = {
    {"replica", YAML_TEXT, offsetof(struct scenario_file, replica), .size = NAME_BYTES},
    {"collective", YAML_TEXT, offsetof(struct scenario_file, collective), .size = NAME_BYTES},
    {"prefill_collective", YAML_TEXT, offsetof(struct scenario_file, prefill_collective),
     .size = NAME_BYTES},
    {"num_sms", YAML_INT32, offsetof(struct scenario_file, num_sms), .max = 4096},
    {"dtype", YAML_CHOICE, offsetof(struct scenario_file, dispatch_dtype),
     .choices = precision_choices},
    {"combine_dtype", YAML_CHOICE, offsetof(struct scenario_file, combine_dtype),
     .choices = precision_choices},
    {.key = NULL},
};

static const struct yaml_field overlap_fields[] = {
    {"micro_batches", YAML_INT32, offsetof(struct scenario_file, micro_batches), .min = 1,
     .max = 4},
    {"chunks", YAML_INT32, offsetof(struct scenario_file, chunks), .min = 1, .max = 8},
    {"shared_tokens", YAML_INT32, offsetof(struct scenario_file, shared_tokens), .max = COUNT_MAX},
    {.key = NULL},
};

static const struct yaml_field measured_fields[] = {
    {"kernels", YAML_TEXT, offsetof(struct scenario_file, measured_kernels), .size = PATH_BYTES},
    {"kernels_moe", YAML_TEXT, offsetof(struct scenario_file, measured_moe), .size = PATH_BYTES},
    {"bench", YAML_TEXT, offsetof(struct scenario_file, measured_bench), .size = PATH_BYTES},
    {"digest", YAML_TEXT, offsetof(struct scenario_file, measured_digest), .size = NAME_BYTES},
    {.key = NULL},
};

static const struct yaml_field compute_fields[] = {
    {"model", YAML_TEXT, offsetof(struct scenario_file, gpu_model), .size = NAME_BYTES},
    {"kernels", YAML_TEXT, offsetof(struct scenario_file, kernels), .size = NAME_BYTES},
    {"measured", YAML_TABLE, .table = measured_fields},
    {.key = NULL},
};

const struct yaml_field scenario_fields[] = {
    {"version", YAML_INT32, offsetof(struct scenario_file, version), .required = true, .min = 1,
     .max = 1},
    {"question", YAML_TEXT, offsetof(struct scenario_file, question), .size = TEXT_BYTES},
    {"model", YAML_TEXT, offsetof(struct scenario_file, model), .size = PATH_BYTES,
     .required = true},
    {"cluster", YAML_TABLE, .required = true, .table = cluster_fields},
    {"parallel", YAML_TABLE, .table = parallel_fields},
    {"phase", YAML_CHOICE, offsetof(struct scenario_file, phase), .required = true,
     .choices = phases},
    {"context_tokens", YAML_INT32, offsetof(struct scenario_file, context_tokens), .max = 1 << 30},
    {"precision", YAML_TABLE, .table = precision_fields},
    {"trace", YAML_TABLE, .required = true, .table = trace_fields},
    {"routing", YAML_TABLE, .table = routing_fields},
    {"placement", YAML_TABLE, .table = placement_fields},
    {"dispatch", YAML_TABLE, .table = dispatch_fields},
    {"overlap", YAML_TABLE, .table = overlap_fields},
    {"network", YAML_TEXT, offsetof(struct scenario_file, network), .size = NAME_BYTES},
    {"compute", YAML_TABLE, .table = compute_fields},
    {"memory_fraction", YAML_DOUBLE, offsetof(struct scenario_file, memory_fraction), .min = 0.01,
     .max = 1.0},
    {"faults", YAML_NODE, offsetof(struct scenario_file, faults), .size = 0},
    {"offload", YAML_NODE, offsetof(struct scenario_file, offload), .size = 0},
    {"serving", YAML_NODE, offsetof(struct scenario_file, serving), .size = 0},
    {"price", YAML_TEXT, offsetof(struct scenario_file, price), .size = PATH_BYTES,
     .required = true},
    {"seed", YAML_UINT64, offsetof(struct scenario_file, seed), .size = 0},
    {.key = NULL},
};
