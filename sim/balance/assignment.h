/* assignment.h -- which column each row takes, so that the sum of costs is least. */
#ifndef MOESIM_ASSIGNMENT_H
#define MOESIM_ASSIGNMENT_H

#include <stdint.h>

#include "arena.h"
#include "status.h"

/* Shortest augmenting paths (Crouse, IEEE Transactions on Aerospace and Electronic Systems 52,
 * 2016, algorithm 1); of equal columns a free one, else the first met, columns running downwards.
 *   column_of_row  [count]         out; a permutation
 *   cost           [count][count]  in; whole numbers
 * O(count^3). STATUS_NO_MEMORY. */
MUST_CHECK enum status assignment_solve(int32_t *column_of_row, const int32_t *cost, int32_t count,
                                        struct arena *scratch);

#endif
