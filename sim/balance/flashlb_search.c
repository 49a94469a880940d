/* flashlb_search.c -- flashlb's statistics, its dealing by risk, and its search for spare slots. */
#include <math.h>
#include <string.h>

#include "balance/flashlb.h"

#define Z_SCORE 0.6744897501960817 /* the normal distribution's upper quartile */
#define DEPTH   4                  /* groups of experts */
#define WIDTH   8                  /* slots to either side that a group's search goes */

static void read_samples(struct flash *flash, int32_t layer)
{
    const struct balance_input *input = flash->input;
    int32_t window = input->num_steps / flash->num_samples;
    int32_t first = input->num_steps - window * flash->num_samples;
    for (int32_t sample = 0; sample < flash->num_samples; sample++) {
        double *to = flash->sample + (int64_t)sample * input->num_experts;
        for (int32_t expert = 0; expert < input->num_experts; expert++) {
            to[expert] = window;
        }
        for (int32_t i = 0; i < window; i++) {
            int64_t step = first + sample * window + i;
            const int32_t *from = input->step_tokens +
                                  (step * input->num_layers + layer) * (int64_t)input->num_experts;
            for (int32_t expert = 0; expert < input->num_experts; expert++) {
                to[expert] += from[expert];
            }
        }
    }
}

static void add_covariances(struct flash *flash, const double *sample, double *off)
{
    int32_t num_experts = flash->input->num_experts;
    double share = 1.0 / (flash->num_samples - 1);
    for (int32_t expert = 0; expert < num_experts; expert++) {
        off[expert] = sample[expert] - flash->mean[expert];
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        double *row = flash->covariance + (int64_t)expert * num_experts;
        double scaled = off[expert] * share;
        for (int32_t other = 0; other < num_experts; other++) {
            row[other] += scaled * off[other];
        }
    }
}

void flash_measure(struct flash *flash, int32_t layer)
{
    read_samples(flash, layer);
    int32_t num_experts = flash->input->num_experts;
    memset(flash->mean, 0, (size_t)num_experts * sizeof *flash->mean);
    memset(flash->covariance, 0,
           (size_t)num_experts * (size_t)num_experts * sizeof *flash->covariance);
    for (int32_t sample = 0; sample < flash->num_samples; sample++) {
        for (int32_t expert = 0; expert < num_experts; expert++) {
            flash->mean[expert] += flash->sample[(int64_t)sample * num_experts + expert];
        }
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        flash->mean[expert] /= flash->num_samples;
    }
    for (int32_t sample = 0; flash->num_samples > 1 && sample < flash->num_samples; sample++) {
        add_covariances(flash, flash->sample + (int64_t)sample * num_experts, flash->weight);
    }
    for (int32_t expert = 0; expert < num_experts; expert++) {
        flash->variance[expert] = flash->covariance[(int64_t)expert * num_experts + expert];
        flash->weight[expert] = flash->mean[expert] + Z_SCORE * sqrt(flash->variance[expert]);
        flash->work.item[expert] = (struct deal_item){flash->weight[expert], expert, expert};
    }
    deal_sort(flash->work.item, num_experts);
    for (int32_t at = 0; at < num_experts; at++) {
        flash->order[at] = flash->work.item[at].expert;
    }
}

/* Who of order[begin .. end - 1] gets each of num_spare slots in turn. replicas is scratch. */
static void give_spares(const struct flash *flash, int32_t *given, int32_t begin, int32_t end,
                        int32_t num_spare, int32_t *replicas)
{
    for (int32_t at = begin; at < end; at++) {
        replicas[flash->order[at]] = 1;
    }
    for (int32_t spare = 0; spare < num_spare && begin < end; spare++) {
        int32_t hottest = flash->order[begin];
        for (int32_t at = begin + 1; at < end; at++) {
            int32_t expert = flash->order[at];
            if (flash->weight[expert] / replicas[expert] >
                flash->weight[hottest] / replicas[hottest]) {
                hottest = expert;
            }
        }
        replicas[hottest]++;
        given[spare] = hottest;
    }
}

/* Deals all replicas into fresh. False: one found no rank. */
static bool deal_risks(struct flash *flash)
{
    const int32_t num_experts = flash->input->num_experts;
    const int32_t num_ranks = flash->input->num_ranks;
    const int32_t *replicas = flash->work.replicas;
    struct deal_item *item = flash->work.item;
    for (int32_t expert = 0; expert < num_experts; expert++) {
        item[expert] = (struct deal_item){flash->mean[expert] / replicas[expert], expert, expert};
    }
    deal_sort(item, num_experts);
    deal_clear(&flash->work, num_ranks);
    memset(flash->rank_mean, 0, (size_t)num_ranks * sizeof *flash->rank_mean);
    memset(flash->rank_variance, 0, (size_t)num_ranks * sizeof *flash->rank_variance);
    for (int32_t i = 0; i < num_experts; i++) {
        int32_t expert = item[i].expert;
        double share = 1.0 / replicas[expert];
        const double *row = flash->covariance + (int64_t)expert * num_experts;
        for (int32_t copy = 0; copy < replicas[expert]; copy++) {
            int32_t best = -1;
            double best_risk = 1e30, best_mean = 0.0, best_variance = 0.0;
            for (int32_t rank = 0; rank < num_ranks; rank++) {
                const int32_t *slot = &flash->work.fresh[rank * flash->slots_per_rank];
                int32_t used = flash->work.rank_used[rank];
                if (used == flash->slots_per_rank || deal_holds(slot, used, expert)) {
                    continue;
                }
                double mean = (double)flash->rank_mean[rank] + item[i].tokens;
                double variance =
                    (double)flash->rank_variance[rank] + flash->variance[expert] * share * share;
                for (int32_t j = 0; j < used; j++) {
                    variance += 2.0 * row[slot[j]] * share / replicas[slot[j]];
                }
                double risk = mean + Z_SCORE * sqrt(variance);
                if (risk < best_risk) { /* never for the root of a negative sum */
                    best = rank;
                    best_risk = risk;
                    best_mean = mean;
                    best_variance = variance;
                }
            }
            if (best < 0) {
                return false;
            }
            flash->rank_mean[best] = (float)best_mean;
            flash->rank_variance[best] = (float)best_variance;
            flash->work.fresh[best * flash->slots_per_rank + flash->work.rank_used[best]++] =
                expert;
        }
    }
    return true;
}

double flash_score(const struct flash *flash, const int32_t *expert_of_slot,
                   const int32_t *replicas)
{
    double sum = 0.0;
    for (int32_t sample = 0; sample < flash->num_samples; sample++) {
        const double *tokens = flash->sample + (int64_t)sample * flash->input->num_experts;
        double busiest = 0.0, total = 0.0;
        for (int32_t rank = 0; rank < flash->input->num_ranks; rank++) {
            double load = 0.0;
            for (int32_t i = 0; i < flash->slots_per_rank; i++) {
                int32_t expert = expert_of_slot[rank * flash->slots_per_rank + i];
                load += tokens[expert] / replicas[expert];
            }
            total += load;
            busiest = load > busiest ? load : busiest;
        }
        sum += (busiest * flash->input->num_ranks + 1e-2) / (total + 1e-2);
    }
    return sum / flash->num_samples;
}

/* The group's first num_own, and the others' first num_rest spare slots, on top of what is decided;
 * groups searched before keep theirs. */
static void set_replicas(struct flash *flash, int32_t begin, int32_t num_own, int32_t num_rest)
{
    int32_t *replicas = flash->work.replicas;
    memcpy(replicas, flash->decided, (size_t)flash->input->num_experts * sizeof *replicas);
    for (int32_t at = begin; at < flash->input->num_experts; at++) {
        replicas[flash->order[at]] = 1;
    }
    for (int32_t i = 0; i < num_own; i++) {
        replicas[flash->given[0][i]]++;
    }
    for (int32_t i = 0; i < num_rest; i++) {
        replicas[flash->given[1][i]]++;
    }
}

static double try_split(struct flash *flash, int32_t begin, int32_t num_own, int32_t num_rest)
{
    set_replicas(flash, begin, num_own, num_rest);
    return deal_risks(flash) ? flash_score(flash, flash->work.fresh, flash->work.replicas)
                             : HUGE_VAL;
}

/* How many of num_spare slots the group order[begin .. end - 1] gets. */
static int32_t search_group(struct flash *flash, int32_t begin, int32_t end, int32_t num_spare)
{
    int32_t num_experts = flash->input->num_experts;
    int32_t start = 0;
    give_spares(flash, flash->given[0], begin, num_experts, num_spare, flash->work.replicas);
    for (int32_t at = begin; at < end; at++) {
        start += flash->work.replicas[flash->order[at]] - 1;
    }
    give_spares(flash, flash->given[0], begin, end, num_spare, flash->work.replicas);
    give_spares(flash, flash->given[1], end, num_experts, num_spare, flash->work.replicas);
    if (end >= num_experts) {
        return num_spare; /* nobody else could have them */
    }
    int32_t best = start;
    double best_score = try_split(flash, begin, start, num_spare - start);
    for (int32_t away = 1; away <= WIDTH; away++) {
        for (int32_t side = -1; side <= 1; side += 2) {
            int32_t own = start + side * away;
            double split = own >= 0 && own <= num_spare
                               ? try_split(flash, begin, own, num_spare - own)
                               : HUGE_VAL;
            if (split < best_score) {
                best = own;
                best_score = split;
            }
        }
    }
    return best;
}

double flash_search(struct flash *flash)
{
    int32_t num_experts = flash->input->num_experts;
    int32_t num_spare = flash->input->num_slots - num_experts;
    int32_t size = (num_experts + DEPTH - 1) / DEPTH;
    memset(flash->decided, 0, (size_t)num_experts * sizeof *flash->decided);
    for (int32_t group = 0; group < DEPTH - 1; group++) {
        int32_t begin = group * size < num_experts ? group * size : num_experts;
        int32_t end = begin + size < num_experts ? begin + size : num_experts;
        int32_t own = search_group(flash, begin, end, num_spare);
        num_spare -= own;
        bool last = num_spare == 0 || group == DEPTH - 2 || end == num_experts;
        set_replicas(flash, begin, own, last ? num_spare : 0);
        memcpy(flash->decided, flash->work.replicas, (size_t)num_experts * sizeof *flash->decided);
        if (last) {
            break;
        }
    }
    return deal_risks(flash) ? flash_score(flash, flash->work.fresh, flash->work.replicas)
                             : HUGE_VAL;
}
