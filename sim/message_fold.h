/*
 * message_fold.h -- one number of messages that are told together, for the digest of a run.
 *
 * Their words are the coefficients of a polynomial, which is evaluated modulo 2^64: a step has
 * millions, and mixing each by itself would take longer than all else that is done with them.
 */
#ifndef MOESIM_MESSAGE_FOLD_H
#define MOESIM_MESSAGE_FOLD_H

#include <stdint.h>

#include "message.h"

#define FOLD_BASE      UINT64_C(0xd6e8feb86659fd93) /* where it is evaluated */
#define FOLD_MESSAGES  256                          /* words that are added up at once */
#define FOLD_PATHS_MAX 2

/* Messages of one source and transfer. */
struct told {
    uint64_t common; /* to all of their words */
    const struct message *message;
    const int64_t *at_ns;
};

/* Adds words begin .. end - 1, at most FOLD_MESSAGES, each times the next of power. */
typedef uint64_t word_sum(const uint64_t *power, const struct told *told, int32_t begin,
                          int32_t end);

struct message_fold {
    uint64_t power[FOLD_MESSAGES + 1]; /* of the base, falling; the last is 1 */
    word_sum *sum;
};

/* The ways that this processor has, the fastest last: they differ in nothing else. Returns how
 * many. */
int32_t message_fold_paths(word_sum *path[FOLD_PATHS_MAX]);

/* Takes the fastest. */
void message_fold_init(struct message_fold *fold);

/*   message, at_ns  [count]  and when each arrives */
uint64_t message_fold(const struct message_fold *fold, uint64_t common,
                      const struct message *message, const int64_t *at_ns, int32_t count);

#endif
