/* exchange.c -- measures plans and applies fitted constants. */
#include "collective/exchange.h"

#include <assert.h>
#include <math.h>

/* Tokens or copies of them that a rank hands to others and to itself, and what crosses nodes to be
 * handed on there. */
static double copied_tokens(const struct collective *collective, const struct traffic *traffic,
                            const struct cluster *cluster)
{
    int64_t sum = collective->copied == COPIED_CHOICES ? traffic->copies : traffic->tokens;
    if (collective->copied != COPIED_TOKENS_AND_RELAYED) {
        return (double)sum;
    }
    for (int32_t source = 0; source < traffic->num_ranks; source++) {
        for (int32_t i = traffic->node_begin[source]; i < traffic->node_begin[source + 1]; i++) {
            const struct node_flow *flow = &traffic->node_flow[i];
            sum += flow->dst_node == cluster_node(cluster, source) ? 0 : flow->tokens;
        }
    }
    return (double)sum;
}

void exchange_measure(struct exchange_load *load, const struct collective *collective,
                      const struct collective_input *input, const struct transfer_plan *plan,
                      double bytes_per_token, int32_t num_slots)
{
    double ranks = (double)plan->num_ranks;
    int64_t bytes[TIER_COUNT] = {0};
    for (int32_t rank = 0; rank < plan->num_ranks; rank++) {
        bytes[TIER_SCALE_UP] += plan->port_bytes[rank].of[TIER_SCALE_UP][SENT];
        bytes[TIER_SCALE_OUT] += plan->port_bytes[rank].of[TIER_SCALE_OUT][SENT];
    }
    *load = (struct exchange_load){
        .port_bytes = {(double)bytes[TIER_SCALE_UP] / ranks, (double)bytes[TIER_SCALE_OUT] / ranks},
        .num_copies = copied_tokens(collective, input->traffic, input->cluster) / ranks,
        .token_bytes = bytes_per_token,
        .tokens = (double)input->token_begin[plan->num_ranks] / ranks,
        .num_ranks = plan->num_ranks,
        .num_nodes = input->traffic->num_nodes,
        .num_slots = num_slots};
}

/* Of the constants alone, before any byte. */
static double startup_ns(const struct exchange_constants *constants,
                         const struct exchange_load *load)
{
    double nodes = (double)load->num_nodes;
    double slots = (double)load->num_slots;
    double first = load->num_nodes > 1 ? constants->far_startup_ns : constants->startup_ns;
    return first + constants->node_ns * (nodes - 1.0) +
           constants->doubling_ns * log2(fmax((double)load->num_ranks / nodes, 1.0)) +
           constants->expert_ns * slots + constants->far_expert_ns * slots * (nodes - 1.0) / nodes +
           constants->token_byte_ns * load->token_bytes;
}

/* Of all SMs, those that copy where each block serves as many slots as any other. */
static double share_of_blocks(const struct exchange_load *load, const struct gpu_spec *gpu)
{
    if (load->num_slots == 0 || gpu->num_sms == 0) {
        return 1.0;
    }
    int32_t of_block = (load->num_slots + gpu->num_sms - 1) / gpu->num_sms;
    int32_t blocks = (load->num_slots + of_block - 1) / of_block;
    return (double)blocks / (double)gpu->num_sms;
}

static double copied_ns(const struct exchange_constants *constants,
                        const struct exchange_load *load, const struct gpu_spec *gpu,
                        int32_t num_sms, int32_t sms_of_rate)
{
    double bytes = load->num_copies * (load->token_bytes + constants->copy_extra_bytes) +
                   load->tokens * load->token_bytes * constants->own_copies;
    double rate = constants->copy_bytes_per_s;
    if (sms_of_rate > 0 && num_sms > 0) {
        rate *= (double)num_sms / (double)sms_of_rate;
    }
    rate *= 1.0 - constants->slot_blocks * (1.0 - share_of_blocks(load, gpu));
    return bytes / rate * 1e9;
}

/* (a^p + b^p + c^p)^(1/p), without overflow of the powers. */
static double blended_ns(const double ns[3], double p)
{
    double most = fmax(ns[0], fmax(ns[1], ns[2]));
    double sum = 0.0;
    for (int32_t i = 0; i < 3 && most > 0.0; i++) {
        sum += pow(ns[i] / most, p);
    }
    return most > 0.0 ? most * pow(sum, 1.0 / p) : 0.0;
}

struct exchange_cost exchange_cost(const struct exchange_constants *constants,
                                   const struct exchange_load *load, const struct gpu_spec *gpu,
                                   int32_t num_sms, int32_t sms_of_rate)
{
    const double share[TIER_COUNT] = {constants->scale_up_share, constants->scale_out_share};
    double ns[TIER_COUNT + 1];
    double port_ns = 0.0;
    for (int tier = 0; tier < TIER_COUNT; tier++) {
        const struct port_spec *port = &gpu->port[tier];
        double nominal_ns = load->port_bytes[tier] / port->bytes_per_s * 1e9;
        ns[tier] = nominal_ns / share[tier];
        port_ns = fmax(port_ns, nominal_ns / port->fraction);
    }
    ns[TIER_COUNT] = copied_ns(constants, load, gpu, num_sms, sms_of_rate);
    double transfer_ns = blended_ns(ns, constants->blend);
    struct exchange_cost cost = {.startup_ns = startup_ns(constants, load) +
                                               constants->token_ns * load->tokens};
    if (transfer_ns > 0.0) {
        cost.startup_ns +=
            constants->fill_ns * transfer_ns / (transfer_ns + constants->fill_half_ns);
    }
    if (port_ns > 0.0) {
        /* On a grid, for pow is not the same to the last digit on every machine. */
        double overhead = rint((transfer_ns / port_ns - 1.0) * 0x1p30) * 0x1p-30;
        cost.overhead[TIER_SCALE_UP] = overhead;
        cost.overhead[TIER_SCALE_OUT] = overhead;
    }
    cost.startup_ns = rint(cost.startup_ns * 0x1p10) * 0x1p-10;
    return cost;
}

struct exchange_cost exchange_cost_on(const struct cluster *cluster,
                                      const struct collective *collective, enum exchange exchange,
                                      const struct exchange_load *load, int32_t num_sms)
{
    assert(exchange != EXCHANGE_PREPARE); /* it is part of a dispatch */
    if (cluster->fitted_used == 0) {
        return (struct exchange_cost){.startup_ns = exchange == EXCHANGE_DISPATCH
                                                        ? collective->dispatch_startup_ns
                                                        : collective->combine_startup_ns};
    }
    const struct fitted_collective *fitted = &cluster->fitted[cluster->fitted_used - 1];
    if (exchange == EXCHANGE_COMBINE_LOW && !fitted->has[exchange]) {
        exchange = EXCHANGE_COMBINE;
    }
    struct exchange_cost cost =
        exchange_cost(&fitted->exchange[exchange], load, &cluster->gpu, num_sms, fitted->num_sms);
    if (exchange == EXCHANGE_DISPATCH && fitted->has[EXCHANGE_PREPARE]) {
        struct exchange_load counts = {.tokens = load->tokens,
                                       .num_ranks = load->num_ranks,
                                       .num_nodes = load->num_nodes,
                                       .num_slots = load->num_slots};
        cost.startup_ns += exchange_cost(&fitted->exchange[EXCHANGE_PREPARE], &counts,
                                         &cluster->gpu, num_sms, fitted->num_sms)
                               .startup_ns;
    }
    return cost;
}

struct exchange_evidence exchange_evidence(const struct cluster *cluster)
{
    if (cluster->fitted_used == 0) {
        return (struct exchange_evidence){.fitted_on = "", .error_median = -1.0};
    }
    const struct fitted_collective *fitted = &cluster->fitted[cluster->fitted_used - 1];
    return (struct exchange_evidence){fitted->fit.fitted_on, fitted->fit.error_median};
}
