/*
 * metro -- one replica of each wished expert, so that the most on any GPU are as few as can be.
 *
 * A GPU that decodes reads the weights of every expert that has a token, however few. So all tokens
 * of an expert in the batch go to one replica, and replicas are chosen to minimise the maximum over
 * ranks of activated experts. Source: METRO, arXiv 2512.09277, for the objective. Its router comes
 * near the optimum with little work on a GPU; ours computes the optimum, so it shows the most that
 * this objective can give.
 *
 * Experts and the ranks that hold them are a bipartite graph, a choice is a semi-matching, and an
 * optimal one is found an expert at a time: it goes to the least loaded rank that can be reached if
 * experts placed before may move over to other replicas of theirs (Harvey, Ladner, Lovasz and
 * Tamir, Semi-matchings for bipartite graphs and load balancing, 2006, first algorithm). Any
 * dispatch activates at least one replica of each wished expert, so none has a lower maximum.
 *
 * Among equal ranks the one with the fewest tokens is taken, and experts with many tokens choose
 * first; that evens tokens out a little, but the optimum is of experts, not of tokens. Left out:
 * the all-gather of wishes that every rank needs to know the batch, and the time to choose.
 */
#include "dispatch/dispatch.h"

#include <assert.h>
#include <gsl/gsl_heapsort.h>

#define NOT_CHOSEN  (-1)
#define NOT_REACHED (-1)

struct candidate {
    int32_t expert;
    int32_t tokens;
};

struct metro {
    const struct placement *placement;
    int32_t *tokens;          /* [num_experts] of kept wishes */
    int32_t *chosen;          /* [num_experts] slot, or NOT_CHOSEN */
    struct candidate *choice; /* [num_experts] wished experts of several replicas */
    int32_t num_choices;
    int32_t *activated;   /* [num_ranks] experts */
    int32_t *rank_tokens; /* [num_ranks] */
    int32_t *via_slot;    /* [num_ranks] whose expert would come here, or NOT_REACHED */
    int32_t *reached;     /* [num_ranks] in the order of the search */
};

static enum status allocate(struct metro *metro, const struct dispatch_input *input)
{
    size_t experts = (size_t)input->placement->num_experts;
    size_t ranks = (size_t)input->placement->num_ranks;
    *metro = (struct metro){
        .placement = input->placement,
        .tokens = arena_alloc(input->scratch, experts, sizeof(int32_t)),
        .chosen = arena_take(input->scratch, experts, sizeof(int32_t)),
        .choice = arena_take(input->scratch, experts, sizeof(struct candidate)),
        .activated = arena_alloc(input->scratch, ranks, sizeof(int32_t)),
        .rank_tokens = arena_alloc(input->scratch, ranks, sizeof(int32_t)),
        .via_slot = arena_take(input->scratch, ranks, sizeof(int32_t)),
        .reached = arena_take(input->scratch, ranks, sizeof(int32_t)),
    };
    bool complete = metro->tokens != NULL && metro->chosen != NULL && metro->choice != NULL &&
                    metro->activated != NULL && metro->rank_tokens != NULL &&
                    metro->via_slot != NULL && metro->reached != NULL;
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}

static bool is_kept(const struct route *route, int64_t wish)
{
    return route->expert[wish] != EXPERT_NOT_ROUTED && !route->dropped[wish];
}

static int heavier_first(const void *left, const void *right)
{
    const struct candidate *a = left;
    const struct candidate *b = right;
    if (a->tokens != b->tokens) {
        return a->tokens > b->tokens ? -1 : 1;
    }
    return (a->expert > b->expert) - (a->expert < b->expert);
}

/* Experts with one replica have no choice, so they are placed at once; the others are lined up. */
static void line_up(struct metro *metro)
{
    const struct placement *placement = metro->placement;
    for (int32_t expert = 0; expert < placement->num_experts; expert++) {
        metro->chosen[expert] = NOT_CHOSEN;
        if (metro->tokens[expert] == 0) {
            continue;
        }
        if (placement_num_replicas(placement, expert) > 1) {
            metro->choice[metro->num_choices++] = (struct candidate){expert, metro->tokens[expert]};
            continue;
        }
        int32_t slot = placement->slot_of[placement->slot_begin[expert]];
        metro->chosen[expert] = slot;
        metro->activated[placement->rank_of_slot[slot]]++;
        metro->rank_tokens[placement->rank_of_slot[slot]] += metro->tokens[expert];
    }
    /* In place, unlike qsort, which may allocate; no two candidates are equal. */
    gsl_heapsort(metro->choice, (size_t)metro->num_choices, sizeof *metro->choice, heavier_first);
}

/* Adds the ranks that hold the expert and were not reached yet; returns how many are now. */
static int32_t reach(struct metro *metro, int32_t expert, int32_t num_reached)
{
    const struct placement *placement = metro->placement;
    for (int32_t i = placement->slot_begin[expert]; i < placement->slot_begin[expert + 1]; i++) {
        int32_t slot = placement->slot_of[i];
        int32_t rank = placement->rank_of_slot[slot];
        if (metro->via_slot[rank] == NOT_REACHED) {
            metro->via_slot[rank] = slot;
            metro->reached[num_reached++] = rank;
        }
    }
    return num_reached;
}

/* Searches breadth first from the ranks of the expert; a rank leads on to wherever an expert that
 * it serves now could be served instead. Returns the least loaded rank. */
static int32_t search(struct metro *metro, int32_t expert)
{
    const struct placement *placement = metro->placement;
    for (int32_t rank = 0; rank < placement->num_ranks; rank++) {
        metro->via_slot[rank] = NOT_REACHED;
    }
    int32_t num_reached = reach(metro, expert, 0);
    int32_t best = metro->reached[0];
    for (int32_t i = 0; i < num_reached; i++) {
        int32_t rank = metro->reached[i];
        int32_t more = metro->activated[rank] - metro->activated[best];
        bool is_better =
            more < 0 || (more == 0 && metro->rank_tokens[rank] < metro->rank_tokens[best]);
        best = is_better ? rank : best;
        for (int32_t slot = placement->rank_begin[rank]; slot < placement->rank_begin[rank + 1];
             slot++) {
            int32_t resident = placement->expert_of_slot[slot];
            if (metro->chosen[resident] == slot) {
                num_reached = reach(metro, resident, num_reached);
            }
        }
    }
    return best;
}

/* Walks back from the rank that was found to the expert's own choice; each expert on the way moves
 * over, so only the rank at the end has one more. */
static void choose(struct metro *metro, int32_t expert, int32_t rank)
{
    const struct placement *placement = metro->placement;
    metro->activated[rank]++;
    for (int32_t moving = NOT_CHOSEN; moving != expert;) { /* at most once a rank */
        int32_t slot = metro->via_slot[rank];
        moving = placement->expert_of_slot[slot];
        int32_t left_slot = metro->chosen[moving];
        metro->chosen[moving] = slot;
        metro->rank_tokens[rank] += metro->tokens[moving];
        if (moving != expert) {
            rank = placement->rank_of_slot[left_slot];
            metro->rank_tokens[rank] -= metro->tokens[moving];
        }
    }
}

static enum status assign_fewest_activated(void *state, const struct dispatch_input *input,
                                           struct route *route)
{
    (void)state; /* each batch stands alone */
    assert(route->num_experts == input->placement->num_experts);
    assert(route->num_tokens == input->batch->num_tokens);
    struct metro metro;
    if (allocate(&metro, input) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    int64_t wishes = (int64_t)route->num_tokens * route->top_k;
    for (int64_t wish = 0; wish < wishes; wish++) {
        if (is_kept(route, wish)) {
            metro.tokens[route->expert[wish]]++;
        }
    }
    line_up(&metro);
    for (int32_t i = 0; i < metro.num_choices; i++) {
        int32_t expert = metro.choice[i].expert;
        choose(&metro, expert, search(&metro, expert));
    }
    for (int64_t wish = 0; wish < wishes; wish++) {
        route->slot[wish] = is_kept(route, wish) ? metro.chosen[route->expert[wish]] : SLOT_DROPPED;
    }
    return STATUS_OK;
}

const struct replica_dispatch dispatch_metro = {
    .name = "metro",
    .summary = "one replica of each wished expert, the fewest experts on the busiest GPU",
    .source = "arXiv 2512.09277 (METRO), its objective; an optimal semi-matching",
    .assign = assign_fewest_activated,
};
