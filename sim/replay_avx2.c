/* replay_avx2.c -- the path of replay_rows.h for AVX2. */
#include "replay_internal.h"

#ifdef __x86_64__

/* GCC's generic tuning is 5 % slower here. */
#define ROWS_TARGET __attribute__((target("avx2,bmi2,tune=znver3")))

#include "replay_rows.h"
#include "replay_rows_tables.h"

const struct replay_kernel replay_kernel_avx2 = {
    .open = rows_open,
    .close = rows_close,
    .count = rows_count,
    .fold = rows_fold,
};

#endif
