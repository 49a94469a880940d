/* flashlb.h -- what flashlb.c and flashlb_search.c share; its header tells the method. */
#ifndef MOESIM_FLASHLB_H
#define MOESIM_FLASHLB_H

#include "balance/deal.h"

#define FLASH_SAMPLES_MAX 64

struct flash {
    struct deal_work work; /* fresh: the layer; rank_used, replicas, item */
    const struct balance_input *input;
    int32_t slots_per_rank;
    int32_t num_samples;
    double *sample;     /* [num_samples][num_experts] */
    double *mean;       /* [num_experts] */
    double *variance;   /* [num_experts] */
    double *covariance; /* [num_experts][num_experts] */
    double *weight;     /* [num_experts] mu + z sigma */
    float *rank_mean;   /* [num_ranks] */
    float *rank_variance;
    int32_t *order;    /* [num_experts] heaviest weight first */
    int32_t *decided;  /* [num_experts] replicas of groups already searched */
    int32_t *given[2]; /* [num_slots] who gets each spare slot in turn: the group, those behind */
    int32_t *match;    /* [num_ranks][num_ranks] */
    int32_t *renamed;  /* [num_ranks] */
    int32_t *aligned;  /* [num_slots] */
};

/* Samples of a layer, their mean, variance and covariance, and the experts' order. */
void flash_measure(struct flash *flash, int32_t layer);

/* Leaves a layer in work.fresh and returns its score; HUGE_VAL: it could not be dealt. */
double flash_search(struct flash *flash);

/* Mean over samples of max / mean tokens a rank. */
double flash_score(const struct flash *flash, const int32_t *expert_of_slot,
                   const int32_t *replicas);

#endif
