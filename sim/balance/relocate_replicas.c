/*
 * relocate_replicas.c -- spare slots for the experts whose replicas are heaviest.
 *
 * When an expert gets more than was forecast, each rank that holds it gets a share: the lighter the
 * heaviest replicas, the less a wrong forecast costs. The heaviest replica and the cheapest spare
 * slot are found by tournaments; a change is replayed in log2(experts) games.
 */
#include "balance/relocate.h"

struct tournament {
    int32_t *winner; /* [2 num_players] of each game; games 2i and 2i + 1 lead to i, all end at 1 */
    const double *score;
    int32_t num_players;
    bool most_wins; /* or the least; of equals, the lowest player */
};

static void play(const struct tournament *tournament, int32_t game)
{
    int32_t a = tournament->winner[2 * game];
    int32_t b = tournament->winner[2 * game + 1];
    double score_a = tournament->score[a];
    double score_b = tournament->score[b];
    bool a_wins = tournament->most_wins ? score_a > score_b : score_a < score_b;
    tournament->winner[game] = a_wins || (score_a == score_b && a < b) ? a : b;
}

static void play_all(const struct tournament *tournament)
{
    for (int32_t player = 0; player < tournament->num_players; player++) {
        tournament->winner[tournament->num_players + player] = player;
    }
    tournament->winner[1] = 0; /* of a single player */
    for (int32_t game = tournament->num_players - 1; game > 0; game--) {
        play(tournament, game);
    }
}

static void replay(const struct tournament *tournament, int32_t player)
{
    for (int32_t game = (tournament->num_players + player) / 2; game > 0; game /= 2) {
        int32_t before = tournament->winner[game];
        play(tournament, game);
        if (before != player && tournament->winner[game] == before) {
            return; /* who lost, and loses again, changes nothing above */
        }
    }
}

/* The slot of expert old on the lightest rank that lacks expert; -1: none. */
static int32_t lightest_slot(const struct relocate *relocate, int32_t old, int32_t expert)
{
    int32_t best = -1;
    for (int32_t slot = relocate->first_of[old]; slot >= 0; slot = relocate->next_of[slot]) {
        int32_t rank = relocate->rank_of_slot[slot];
        if (!relocate_holds(relocate, rank, expert) &&
            (best < 0 || relocate->load[rank] < relocate->load[relocate->rank_of_slot[best]])) {
            best = slot;
        }
    }
    return best;
}

/* Where all that have a slot to spare hold expert: the lightest replica that can step aside into
 * the spare slot, on the lightest rank that lacks expert; -1: none. */
static int32_t slot_beside(const struct relocate *relocate, int32_t spare, int32_t expert)
{
    int32_t best = -1;
    int32_t rank = -1;
    for (int32_t i = 0; i < relocate->input->num_ranks; i++) {
        bool lighter = rank < 0 || relocate->load[i] < relocate->load[rank];
        rank = lighter && !relocate_holds(relocate, i, expert) ? i : rank;
    }
    if (rank < 0) {
        return -1;
    }
    int32_t first = rank * relocate->slots_per_rank;
    for (int32_t slot = first; slot < first + relocate->slots_per_rank; slot++) {
        if (!relocate_holds(relocate, relocate->rank_of_slot[spare], relocate->fresh[slot]) &&
            (best < 0 || relocate->slot_tokens[slot] < relocate->slot_tokens[best])) {
            best = slot;
        }
    }
    return best;
}

/* Gives expert hottest a slot of coldest, if that pays. */
static bool give(struct relocate *relocate, int32_t hottest, int32_t coldest, int32_t *aside)
{
    double after = relocate->more[hottest] > relocate->fewer[coldest] ? relocate->more[hottest]
                                                                      : relocate->fewer[coldest];
    double gain = relocate->steps * (relocate->own[hottest] - after) - RELOCATE_GAIN_MIN;
    if (gain <= relocate->far_price) {
        return false;
    }
    int32_t slot = lightest_slot(relocate, coldest, hottest);
    if (slot < 0 && gain > 2.0 * relocate->far_price) {
        int32_t spare = relocate->first_of[coldest];
        slot = slot_beside(relocate, spare, hottest);
        if (slot >= 0) {
            *aside = relocate->fresh[slot];
            relocate_make(relocate, spare, *aside, -1);
        }
    }
    if (slot >= 0) {
        relocate_make(relocate, slot, hottest, -1);
    }
    return slot >= 0;
}

void relocate_replicas(struct relocate *relocate)
{
    int32_t num_experts = relocate->input->num_experts;
    struct tournament hottest = {relocate->winner, relocate->own, num_experts, true};
    struct tournament coldest = {relocate->winner + 2 * num_experts, relocate->fewer, num_experts,
                                 false};
    play_all(&hottest);
    play_all(&coldest); /* of those with replicas to spare */
    for (int32_t round = 0; round < relocate->input->num_slots; round++) {
        int32_t changed[3] = {hottest.winner[1], coldest.winner[1], coldest.winner[1]};
        if (!give(relocate, changed[0], changed[1], &changed[2])) {
            break;
        }
        for (int32_t i = 0; i < 3; i++) {
            replay(&hottest, changed[i]);
            replay(&coldest, changed[i]);
        }
    }
    relocate_sort(relocate);
}
