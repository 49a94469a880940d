/* replay_neon.c -- the path of replay_rows.h for NEON, which every 64-bit Arm processor has. */
#include "replay_internal.h"

#ifdef __aarch64__

#define ROWS_TARGET

#include "replay_rows.h"
#include "replay_rows_tables.h"

const struct replay_kernel replay_kernel_neon = {
    .open = rows_open,
    .close = rows_close,
    .count = rows_count,
    .fold = rows_fold,
};

#endif
