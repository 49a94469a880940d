/*
 * maxmin.h -- exact max-min fair sharing of links, on any topology.
 *
 * At every moment each flow has one rate along its path, and no flow could go faster without taking
 * from one that is no faster: on each path there is a full link on which no flow is faster
 * (Bertsekas and Gallager 1992, section 6.5.2). Rates change when a flow starts or finishes, and
 * each finishes at its own time; nothing is approximated. Finishes that lie closer together than a
 * millionth of a nanosecond are one event.
 *
 * The solver keeps what an event does not change, so that its cost follows the links whose share
 * moves (maxmin_level.c), and flows of one path are one class (maxmin_class.c).
 */
#ifndef MOESIM_MAXMIN_H
#define MOESIM_MAXMIN_H

#include <stdint.h>

#include "status.h"

#define MAXMIN_PATH_LINKS_MAX 6 /* of a port, a node and a leaf, out and in */

struct maxmin;

struct maxmin_flow {
    int32_t id;                          /* the caller's; comes back from maxmin_pop */
    int32_t num_links;                   /* 1 to MAXMIN_PATH_LINKS_MAX */
    int32_t link[MAXMIN_PATH_LINKS_MAX]; /* distinct, in any order */
    double bytes;                        /* >= 0 */
};

/* A network of idle links, whose capacities are copied. Release with maxmin_close. */
MUST_CHECK enum status maxmin_open(struct maxmin **net, const double *capacity_bytes_per_ns,
                                   int32_t num_links);
void maxmin_close(struct maxmin *net); /* safe on NULL */

/* Changes a link's capacity (> 0) while no flow is under way. */
void maxmin_set_capacity(struct maxmin *net, int32_t link, double bytes_per_ns);

/* Starts count flows at now_ns, which must not lie behind maxmin_next_ns nor before the last event.
 * STATUS_NO_MEMORY leaves a network that can only be closed. */
MUST_CHECK enum status maxmin_start(struct maxmin *net, double now_ns,
                                    const struct maxmin_flow *flow, int32_t count);

/* When the next flow finishes if no other starts before; INFINITY when there is none. */
double maxmin_next_ns(const struct maxmin *net);

double maxmin_now_ns(const struct maxmin *net); /* of the last start or finish */

/* The id of the flow that finishes at maxmin_next_ns; of several, the one that started first. */
int32_t maxmin_pop(struct maxmin *net);

/* The rate that a link grants each flow it is the bottleneck of; INFINITY on a link with room. */
double maxmin_level_bytes_per_ns(const struct maxmin *net, int32_t link);

/* The time that the busiest link needs for its bytes: no schedule of flows that start together is
 * faster, and max-min sharing of an all-to-all is rarely much slower. One pass over the flows;
 * scratch[num_links] is overwritten. */
double maxmin_bound_ns(const double *capacity_bytes_per_ns, int32_t num_links,
                       const struct maxmin_flow *flow, int32_t count, double *scratch);

#endif
