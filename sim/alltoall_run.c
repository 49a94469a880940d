/* alltoall_run.c -- runs a plan through a network model, every rank ready at once. */
#include <math.h>
#include <stdlib.h>

#include "alltoall_internal.h"

struct run {
    const struct alltoall_row *row;
    const struct transfer_plan *plan;
    const struct cluster *cluster;
    const struct net_model *net;
    void *state;
    int32_t *waits; /* [num_groups] messages that a group still waits for */
    struct net_message *outbox;
    double overhead[TIER_COUNT];
};

static enum status send_group(struct run *run, int32_t index, int64_t now_ns)
{
    const struct message_group *group = &run->plan->group[index];
    for (int32_t i = 0; i < group->count; i++) {
        const struct message *message = &run->plan->message[group->first + i];
        struct net_message *sent = &run->outbox[i];
        *sent = (struct net_message){.id = group->first + i,
                                     .src_rank = group->owner_rank,
                                     .dst_rank = message->dst_rank,
                                     .bytes = message->bytes,
                                     .by_nic = run->row->collective->by_nic};
        sent->overhead = run->overhead[net_message_tier(run->cluster, sent)];
    }
    return group->count == 0 ? STATUS_OK
                             : run->net->send(run->state, now_ns, run->outbox, group->count);
}

/* Sends what waits for nobody, then what arrivals set free. *last_ns out. */
static enum status run_plan(struct run *run, int64_t *last_ns)
{
    const struct transfer_plan *plan = run->plan;
    enum status status = STATUS_OK;
    *last_ns = 0;
    for (int32_t group = 0; group < plan->num_groups && status == STATUS_OK; group++) {
        run->waits[group] = plan->group[group].waits - 1; /* the owner is ready */
        if (run->waits[group] == 0) {
            status = send_group(run, group, 0);
        }
    }
    int64_t now_ns = run->net->next_done_ns(run->state);
    while (status == STATUS_OK && now_ns != NET_IDLE) {
        const struct message *message = &plan->message[run->net->pop_done(run->state)];
        *last_ns = now_ns;
        const int32_t feeds = message_feeds(message);
        if (feeds != NO_GROUP && --run->waits[feeds] == 0) {
            status = send_group(run, feeds, now_ns);
        }
        now_ns = run->net->next_done_ns(run->state);
    }
    return status;
}

enum status alltoall_run(double *ns, const struct alltoall_row *row, const struct alltoall_leg *leg,
                         const struct gpu_spec *gpu, const struct exchange_cost *cost,
                         const struct net_model *net)
{
    const struct transfer_plan *plan = &leg->plan;
    struct cluster *cluster = malloc(sizeof *cluster);
    struct run run = {.row = row, .plan = plan, .cluster = cluster, .net = net};
    int64_t last_ns = 0;
    run.waits = calloc((size_t)plan->num_groups + 1, sizeof *run.waits);
    run.outbox = calloc((size_t)plan->num_messages + 1, sizeof *run.outbox);
    enum status status = STATUS_NO_MEMORY;
    if (cluster != NULL && run.waits != NULL && run.outbox != NULL) {
        alltoall_cluster(cluster, row, gpu);
        status = net->open(&run.state, cluster, row->ep);
    }
    if (status == STATUS_OK) {
        for (int tier = 0; tier < TIER_COUNT && cost != NULL; tier++) {
            run.overhead[tier] = cost->overhead[tier];
        }
        status = run_plan(&run, &last_ns);
    }
    *ns = (double)last_ns + (cost != NULL ? cost->startup_ns : 0.0);
    net->close(run.state);
    free(cluster);
    free(run.waits);
    free(run.outbox);
    return status;
}

enum status alltoall_predict(double *ns, const struct alltoall_row *row, const struct gpu_spec *gpu,
                             const struct fitted_collective *fitted, const struct net_model *net)
{
    enum status status = STATUS_OK;
    *ns = 0.0;
    for (int32_t i = 0; i < row->num_legs && status == STATUS_OK; i++) {
        const struct alltoall_leg *leg = &row->leg[i];
        double leg_ns = 0.0;
        struct exchange_cost cost = exchange_cost(&fitted->exchange[leg->exchange], &leg->load, gpu,
                                                  row->num_sms, fitted->num_sms);
        status = alltoall_run(&leg_ns, row, leg, gpu, &cost, net);
        *ns += leg_ns;
    }
    return status;
}
