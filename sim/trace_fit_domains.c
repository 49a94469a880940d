/*
 * trace_fit_domains.c -- groups of requests that are alike, and what each is like.
 *
 * Where tags are mixed, a domain is a tag. Else, where neighbours in the trace are alike (a
 * benchmark's tasks come one after the other), a domain is a stretch of it: runs of one tag are
 * joined, neighbour with neighbour, those first whose joining adds least to the squared distances
 * from the mean (Ward 1963, J. Am. Stat. Assoc. 58). Otherwise a domain is a tag. A domain's mean
 * is drawn towards 0 and its sigma towards everybody's by as much as its few requests leave them
 * uncertain.
 */
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trace_fit_internal.h"

#define ALIKE_SIGMAS   4.0 /* beyond chance, from which on neighbours are alike */
#define ALIKE_FACTORS  4   /* the leading ones, that are looked at for it */
#define SIGMA_REQUESTS 8.0 /* requests that everybody's sigma counts for */

/* A group of requests: of a stretch, those from first to last. */
struct group {
    int32_t first;
    int32_t last;
    int32_t count;
    double sum[FIT_FACTORS];
};

struct grouping {
    const struct fit_rows *rows;
    const struct trace *trace;
    int32_t *group_of;   /* [num_requests] */
    struct group *group; /* [num_requests] room */
    int32_t num_groups;
    double *scratch; /* [num_requests] */
};

static const struct trace_request *request_at(const struct grouping *grouping, int32_t index)
{
    return &grouping->trace->requests[grouping->rows->request[index]];
}

/* Are requests more like the ones beside them than requests at random, in one of the leading
 * factors? Factors have variance 1, so by chance a sum of n products has variance n. */
static bool neighbours_are_alike(const struct fit_rows *rows)
{
    bool alike = false;
    const double limit = ALIKE_SIGMAS * sqrt((double)(rows->num_requests - 1));
    for (int32_t f = 0; f < rows->num_factors && f < ALIKE_FACTORS; f++) {
        double sum = 0;
        for (int64_t i = 0; i + 1 < rows->num_requests; i++) {
            const float *here = rows->factor + i * rows->num_factors + f;
            sum += (double)here[0] * (double)here[rows->num_factors];
        }
        alike = alike || sum > limit;
    }
    return alike;
}

static void group_add(struct grouping *grouping, int32_t group, int32_t request)
{
    struct group *to = &grouping->group[group];
    const float *factor = grouping->rows->factor + (int64_t)request * grouping->rows->num_factors;
    if (to->count == 0) {
        to->first = request;
    }
    to->last = request;
    to->count++;
    for (int32_t f = 0; f < grouping->rows->num_factors; f++) {
        to->sum[f] += (double)factor[f];
    }
    grouping->group_of[request] = group;
}

/* Are there several tags, few enough for a domain each, and in no order that keeps them together?
 * By chance requests of one tag follow each other as often as the tags' shares have it. */
static bool tags_are_mixed(const struct grouping *grouping)
{
    const int32_t count = grouping->rows->num_requests;
    int32_t first[COUPLED_DOMAINS_MAX]; /* a request of each tag */
    int64_t times[COUPLED_DOMAINS_MAX] = {0};
    int32_t num_tags = 0;
    int64_t runs = 0;
    for (int32_t i = 0; i < count; i++) {
        const char *own = request_at(grouping, i)->tag;
        int32_t tag = 0;
        while (tag < num_tags && strcmp(request_at(grouping, first[tag])->tag, own) != 0) {
            tag++;
        }
        if (tag == COUPLED_DOMAINS_MAX) {
            return false;
        }
        first[tag] = i;
        times[tag]++;
        num_tags = tag < num_tags ? num_tags : num_tags + 1;
        runs += i == 0 || strcmp(request_at(grouping, i - 1)->tag, own) != 0;
    }
    double expected = count;
    for (int32_t tag = 0; tag < num_tags; tag++) {
        expected -= (double)(times[tag] * times[tag]) / count;
    }
    return num_tags > 1 && 2 * (double)runs >= expected;
}

static void group_by_tag(struct grouping *grouping)
{
    for (int32_t i = 0; i < grouping->rows->num_requests; i++) {
        int32_t group = 0;
        while (group < grouping->num_groups &&
               strcmp(request_at(grouping, grouping->group[group].first)->tag,
                      request_at(grouping, i)->tag) != 0) {
            group++;
        }
        if (group == grouping->num_groups && group < COUPLED_DOMAINS_MAX) {
            grouping->num_groups++;
        }
        /* What comes after the last tag there is room for joins that. */
        group = group < COUPLED_DOMAINS_MAX ? group : COUPLED_DOMAINS_MAX - 1;
        group_add(grouping, group, i);
    }
}

static double join_cost(const struct group *a, const struct group *b, int32_t num_factors)
{
    double distance = 0;
    for (int32_t f = 0; f < num_factors; f++) {
        double apart = a->sum[f] / a->count - b->sum[f] / b->count;
        distance += apart * apart;
    }
    return distance * a->count * b->count / (a->count + b->count);
}

static void group_by_stretch(struct grouping *grouping)
{
    struct group *group = grouping->group;
    for (int32_t i = 0; i < grouping->rows->num_requests; i++) {
        bool same =
            i > 0 && strcmp(request_at(grouping, i - 1)->tag, request_at(grouping, i)->tag) == 0;
        grouping->num_groups += same ? 0 : 1;
        group_add(grouping, grouping->num_groups - 1, i);
    }
    while (grouping->num_groups > FIT_DOMAINS) {
        int32_t cheapest = 0;
        double cost = HUGE_VAL;
        for (int32_t i = 0; i + 1 < grouping->num_groups; i++) {
            double own = join_cost(&group[i], &group[i + 1], grouping->rows->num_factors);
            cheapest = own < cost ? i : cheapest;
            cost = own < cost ? own : cost;
        }
        group[cheapest].last = group[cheapest + 1].last;
        group[cheapest].count += group[cheapest + 1].count;
        for (int32_t f = 0; f < grouping->rows->num_factors; f++) {
            group[cheapest].sum[f] += group[cheapest + 1].sum[f];
        }
        grouping->num_groups--;
        memmove(&group[cheapest + 1], &group[cheapest + 2],
                (size_t)(grouping->num_groups - cheapest - 1) * sizeof *group);
    }
    for (int32_t i = 0; i < grouping->num_groups; i++) {
        for (int32_t request = group[i].first; request <= group[i].last; request++) {
            grouping->group_of[request] = i;
        }
    }
}

static void tag_write(struct coupled_domain *domain, const struct grouping *grouping,
                      const struct group *group)
{
    const char *first = request_at(grouping, group->first)->tag;
    const char *last = request_at(grouping, group->last)->tag;
    if (strcmp(first, last) == 0) {
        (void)snprintf(domain->tag, sizeof domain->tag, "%s", first);
    } else {
        int half = NAME_BYTES / 2 - 4;
        (void)snprintf(domain->tag, sizeof domain->tag, "%.*s to %.*s", half, first, half, last);
    }
}

/* Quantiles of rows (or prompt tokens) over the requests of a group. */
static void lengths_take(double quantiles[COUPLED_QUANTILES], const struct grouping *grouping,
                         int32_t group, bool prompt)
{
    size_t count = 0;
    for (int32_t i = 0; i < grouping->rows->num_requests; i++) {
        if (grouping->group_of[i] == group) {
            const struct trace_request *request = request_at(grouping, i);
            grouping->scratch[count++] =
                prompt ? (double)request->prompt_tokens : (double)request->num_rows;
        }
    }
    gsl_sort(grouping->scratch, 1, count);
    for (int32_t i = 0; i < COUPLED_QUANTILES; i++) {
        quantiles[i] = gsl_stats_quantile_from_sorted_data(grouping->scratch, 1, count,
                                                           (double)i / (COUPLED_QUANTILES - 1));
    }
}

/* Squared distances from the group's mean, summed over its requests. */
static double spread(const struct grouping *grouping, int32_t group, int32_t factor)
{
    double sum = 0;
    const struct group *own = &grouping->group[group];
    for (int32_t i = 0; i < grouping->rows->num_requests; i++) {
        if (grouping->group_of[i] == group) {
            int64_t at = (int64_t)i * grouping->rows->num_factors + factor;
            double apart = (double)grouping->rows->factor[at] - own->sum[factor] / own->count;
            sum += apart * apart;
        }
    }
    return sum;
}

/* Mean and sigma of every domain along one factor, each shrunk. */
static void factor_take(struct coupled_law *law, const struct grouping *grouping, int32_t factor)
{
    double within = 0;
    double between = 0;
    for (int32_t i = 0; i < grouping->num_groups; i++) {
        within += spread(grouping, i, factor);
    }
    within /= fmax(1, grouping->rows->num_requests - grouping->num_groups);
    for (int32_t i = 0; i < grouping->num_groups; i++) {
        const struct group *group = &grouping->group[i];
        double mean = group->sum[factor] / group->count;
        between += fmax(0, mean * mean - within / group->count) / grouping->num_groups;
    }
    for (int32_t i = 0; i < grouping->num_groups; i++) {
        const struct group *group = &grouping->group[i];
        double own = spread(grouping, i, factor);
        double certain = between + within / group->count;
        law->domain[i].mean[factor] =
            certain > 0 ? group->sum[factor] / group->count * between / certain : 0;
        law->domain[i].sigma[factor] =
            sqrt((own + SIGMA_REQUESTS * within) / (group->count - 1 + SIGMA_REQUESTS));
    }
}

enum status fit_domains(struct coupled_law *law, struct fit_rows *rows, const struct trace *trace,
                        struct error *error)
{
    struct arena arena = {0};
    struct grouping grouping = {.rows = rows, .trace = trace};
    size_t requests = (size_t)rows->num_requests;
    rows->domain = arena_alloc(&rows->arena, requests, sizeof *rows->domain);
    grouping.group_of = rows->domain;
    grouping.group = arena_alloc(&arena, requests, sizeof *grouping.group);
    grouping.scratch = arena_alloc(&arena, requests, sizeof *grouping.scratch);
    if (grouping.group_of == NULL || grouping.group == NULL || grouping.scratch == NULL) {
        arena_free(&arena);
        return error_add(error, STATUS_NO_MEMORY, "no memory to fit a trace");
    }
    bool stretches = !tags_are_mixed(&grouping) && neighbours_are_alike(rows);
    if (stretches) {
        group_by_stretch(&grouping);
    } else {
        group_by_tag(&grouping);
    }
    law->num_domains = grouping.num_groups;
    for (int32_t i = 0; i < grouping.num_groups; i++) {
        struct coupled_domain *domain = &law->domain[i];
        const struct group *group = &grouping.group[i];
        tag_write(domain, &grouping, group);
        /* Tags that are mixed take turns, one request each on average. */
        domain->requests = stretches
                               ? (double)group->count * rows->every
                               : (double)group->count * grouping.num_groups / rows->num_requests;
        lengths_take(domain->rows, &grouping, i, false);
        lengths_take(domain->prompt_tokens, &grouping, i, true);
    }
    for (int32_t f = 0; f < rows->num_factors; f++) {
        factor_take(law, &grouping, f);
    }
    arena_free(&arena);
    return STATUS_OK;
}
