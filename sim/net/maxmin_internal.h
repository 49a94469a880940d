/*
 * maxmin_internal.h -- what the maxmin*.c files share and nobody else includes.
 */
#ifndef MOESIM_MAXMIN_INTERNAL_H
#define MOESIM_MAXMIN_INTERNAL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/maxmin.h"

#define NONE      (-1)
#define UNLIMITED ((double)INFINITY) /* the macro is a float */
/* Two levels nearer than this are equal: a sum over a link's flows is not more precise. */
#define LEVEL_TOLERANCE 1e-12
#define SAME_TIME_NS    1e-6

/* A flow under way; a node of its class's pairing heap. What starting and finishing need lies side
 * by side: the flows of a large all-to-all fit into no near cache. */
struct flow {
    int32_t child;
    int32_t sibling;
    double finish_bytes;      /* on the clock of its class */
    int64_t seq;              /* of starting: makes every order total */
    struct maxmin_flow given; /* bytes: left when it joins a class; num_links 0: not under way */
};

/* The flows that share one path, less the dropped links; they have one rate. */
struct path_class {
    int32_t num_links;
    int32_t link[MAXMIN_PATH_LINKS_MAX];
    int32_t entry[MAXMIN_PATH_LINKS_MAX]; /* where it stands in the list of that link */
    int32_t count;                        /* of its flows; 0: not in use */
    int32_t root;                         /* flow that finishes first */
    int32_t next;                         /* in its hash chain or the free list */
    double offset_bytes;                  /* class clock less the clock of its bottleneck */
};

/* A class in the list of one of its links, with what levelling needs of it side by side. */
struct link_entry {
    int32_t class_id;
    int32_t count; /* as in the class */
    int32_t num_others;
    int32_t other[MAXMIN_PATH_LINKS_MAX - 1]; /* its other links */
};

/* The clock of a link counts the bytes that each flow it is the bottleneck of has been sent: it
 * runs at the link's level, and flows finish on it in an order that no change of rate disturbs. */
struct link {
    double capacity; /* bytes per ns */
    double clock_bytes;
    double clock_ns;          /* when clock_bytes was right */
    double first_bytes;       /* on the clock: first finish of a member; see first_is_stale */
    struct link_entry *entry; /* members, of which this link is the bottleneck, come first */
    int32_t num_members;
    int32_t num_entries;
    int32_t entries_capacity;
    int32_t num_flows;
    int32_t num_member_flows;
    int32_t num_quick; /* updates since its fixed load was last summed anew */
    int32_t dominator; /* link that has made this one superfluous; NONE: it counts */
    bool first_is_stale;
    bool is_dirty;
};

/* What a link's flows with another bottleneck take, and what they must exceed to make it dirty:
 * nothing if it is full, its capacity if it has room, and never if it is dirty. */
struct link_load {
    double fixed; /* bytes per ns, as is limit */
    double limit;
};

/* In a heap by key, then link. */
struct keyed_link {
    double key;
    int32_t link;
};

struct done_flow {
    int64_t seq;
    int32_t id;
};

struct maxmin {
    int32_t num_links;
    struct link *link;
    struct link_load *load; /* [num_links] */
    double *level;          /* [num_links] bytes per ns, UNLIMITED: has room */
    int32_t *order; /* [num_links] full links by level: of a path, the first is the bottleneck */
    int32_t num_ordered;
    int32_t *place; /* [num_links] in the order of levels; INT32_MAX: has room, and no members */
    struct keyed_link *event; /* [num_links] heap by the time of the link's first finish */
    int32_t *event_place;     /* [num_links] in it */
    struct keyed_link *dirty; /* [num_links] heap by level as it was */
    int32_t num_dirty;
    double now_ns;

    struct flow *flow;
    int32_t flows_capacity;
    int32_t num_flows;
    int32_t free_flow; /* chained by sibling */
    int64_t next_seq;

    struct path_class *class;
    int32_t *bottleneck;      /* [classes_capacity] link whose level is the class's rate */
    double *finish_bytes;     /* [classes_capacity] first finish, on the clock of the bottleneck */
    int32_t *bucket;          /* [classes_capacity] heads of hash chains */
    int32_t classes_capacity; /* a power of two */
    int32_t free_class;

    double *cap;    /* [of the longest list] rates that a link's classes have elsewhere */
    int32_t *moved; /* [the same] classes that change their bottleneck */
    int32_t caps_capacity;

    struct done_flow *done; /* [flows_capacity] finished at now_ns, not yet popped, by seq */
    int32_t done_first;
    int32_t done_count;
    bool keeps_links; /* a dropped link was needed again: drop none before the network is idle */
};

/* maxmin_class.c */

MUST_CHECK enum status classes_reserve(struct maxmin *net, int32_t count);
void classes_reset(struct maxmin *net); /* no class, no flow on a link, no dropped link */
/* Adds a flow with left_bytes to the class of its path, for which there must be room. */
MUST_CHECK enum status class_add_flow(struct maxmin *net, int32_t flow);
/* Bytes that each flow of the class has been sent, from an arbitrary start. */
double class_clock_bytes(const struct maxmin *net, int32_t class_id);
/* Takes the first flow to finish out of a class, and the class out of its links with the last. */
int32_t class_pop_flow(struct maxmin *net, int32_t class_id);
void class_set_bottleneck(struct maxmin *net, int32_t class_id, int32_t link);
/* Drops the link when it has room and all its flows pass another that has no more capacity. */
void link_try_drop(struct maxmin *net, int32_t link);

/* maxmin_entry.c */

/* Makes room for one more class on the link. */
MUST_CHECK enum status entries_reserve(struct maxmin *net, struct link *link);
void entry_remove(struct maxmin *net, int32_t link, int32_t place);
/* Puts the class's entry among, or behind, the members of its bottleneck. */
void members_join(struct maxmin *net, int32_t class_id);
void members_leave(struct maxmin *net, int32_t class_id);

/* maxmin_level.c */

double link_clock_bytes(const struct maxmin *net, int32_t link);
/* The first full link of a path in the order of levels; NONE: all have room. */
int32_t lowest_link(const struct maxmin *net, const int32_t *link, int32_t num_links);
void order_append(struct maxmin *net, int32_t link);    /* gives a link with room some high level */
void link_note_limit(struct maxmin *net, int32_t link); /* its place or is_dirty has changed */
void link_mark_dirty(struct maxmin *net, int32_t link);
void levels_update(struct maxmin *net); /* until no link is dirty */

/* The link's flows with another bottleneck have come to take more (or less). */
static inline void link_add_fixed(struct maxmin *net, int32_t link, double more)
{
    struct link_load *load = &net->load[link];
    load->fixed += more;
    if (load->fixed > load->limit) {
        link_mark_dirty(net, link);
    }
}

/* maxmin_heap.c */

int32_t flow_heap_meld(struct maxmin *net, int32_t a, int32_t b); /* roots, or NONE */
int32_t flow_heap_pop(struct maxmin *net, int32_t root);          /* the root without it */
void event_heap_set(struct maxmin *net, int32_t link, double next_ns);
void dirty_heap_push(struct maxmin *net, struct keyed_link link);
int32_t dirty_heap_pop(struct maxmin *net);

/* When the first of the flows finishes that the link is the bottleneck of. */
static inline double link_next_ns(const struct maxmin *net, int32_t link)
{
    return net->event[net->event_place[link]].key;
}

#endif
