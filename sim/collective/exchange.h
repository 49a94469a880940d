/*
 * exchange.h -- what an all-to-all costs beside the bytes that its plan puts on the ports.
 *
 * For a plan whose mean rank sends B_up and B_out bytes through its ports, and of T tokens of b
 * bytes has its SMs make N copies:
 *
 *     B_sm     = N (b + copy_extra_bytes) + T b own_copies
 *     u        = ((B_up / L_up)^p + (B_out / L_out)^p + (B_sm / C)^p)^(1/p)
 *     start-up = t(nodes, slots) + doubling_ns log2(ranks of a node) + token_byte_ns b
 *                + fill u / (u + fill_half) + token_ns T
 *     overhead = u over the longer of the two port times at the GPU preset's rates, - 1
 *
 * L is a port's nominal rate times the share that is reached, C what the SMs copy; where blocks
 * serve slots (slot_blocks), of S SMs only ceil(slots / ceil(slots / S)) do. The start-up passes
 * before the first byte leaves; the overhead stretches every message of the plan alike, so the
 * network model still decides who waits for whom. Constants are those of struct
 * exchange_constants, fitted to measured exchanges (calibrate_network.h). Left out: that a rank
 * with more than the mean copies longer than the stretch says, and contention of two exchanges for
 * SMs.
 */
#ifndef MOESIM_EXCHANGE_H
#define MOESIM_EXCHANGE_H

#include "collective/collective.h"

/* What of a plan the cost depends on: means over ranks. */
struct exchange_load {
    double port_bytes[TIER_COUNT]; /* sent */
    double num_copies;             /* made by SMs, what stays on the rank included */
    double token_bytes;
    double tokens;
    int32_t num_ranks;
    int32_t num_nodes; /* that the ranks span */
    int32_t num_slots; /* of the layer; 0: none (an exchange of plain buffers) */
};

struct exchange_cost {
    double startup_ns;
    double overhead[TIER_COUNT]; /* net_message.overhead */
};

/* Measures a finished plan. is_far(src, dst) is by tier, or always scale-out where the collective
 * goes by NIC alone. */
void exchange_measure(struct exchange_load *load, const struct collective *collective,
                      const struct collective_input *input, const struct transfer_plan *plan,
                      double bytes_per_token, int32_t num_slots);

/* num_sms: how many copy; sms_of_rate: how many copy_bytes_per_s is of, 0: not known. */
struct exchange_cost exchange_cost(const struct exchange_constants *constants,
                                   const struct exchange_load *load, const struct gpu_spec *gpu,
                                   int32_t num_sms, int32_t sms_of_rate);

/* The cost of a dispatch or combine on a cluster: by its constants in use, else the collective's
 * own start-up and no overhead. */
struct exchange_cost exchange_cost_on(const struct cluster *cluster,
                                      const struct collective *collective, enum exchange exchange,
                                      const struct exchange_load *load, int32_t num_sms);

/* What the constants in use are worth; error_median < 0: no constants, so nothing is known. */
struct exchange_evidence {
    const char *fitted_on; /* "": not fitted */
    double error_median;   /* absolute, relative, on rows that the fit had not seen; a fraction */
};

struct exchange_evidence exchange_evidence(const struct cluster *cluster);

#endif
