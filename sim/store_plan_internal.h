/* store_plan_internal.h -- what the store_plan*.c files share and nobody else includes. */
#ifndef MOESIM_STORE_PLAN_INTERNAL_H
#define MOESIM_STORE_PLAN_INTERNAL_H

#include "store_internal.h"
#include "store_plan.h"

struct plan_store {
    struct store *store;
};

/* Other sources may simulate otherwise: the program belongs to the key. */
void plan_store_key(char key[RUN_ID_BYTES], uint64_t digest);

#endif
