/* test_progress.c -- what long work says where nobody draws a bar. */
#include "progress.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>

/* As if the work had begun, and last said something, so long ago. */
static struct progress begun(double begin_s_ago, double last_s_ago)
{
    struct progress progress;
    progress_begin(&progress, "fitting", "steps");
    progress.is_terminal = false;
    progress.last_s = progress.begin_s - last_s_ago;
    progress.begin_s -= begin_s_ago;
    return progress;
}

Test(progress, a_log_gets_a_line_a_minute, .init = cr_redirect_stderr)
{
    struct progress late = begun(1000.0, 61.0);
    struct progress soon = begun(1000.0, 1.0);
    struct progress fresh = begun(10.0, 61.0);

    progress_update(&late, 0, 94);
    progress_update(&late, 1, 94); /* too soon after the last */
    progress_update(&soon, 2, 94);
    progress_update(&fresh, 3, 94);
    progress_end(&late);

    fflush(stderr);
    cr_assert_stderr_eq_str("moesim: fitting 0/94 steps\n");
}

Test(progress, a_line_tells_rate_and_time_left, .init = cr_redirect_stderr)
{
    struct progress progress = begun(1e6, 61.0); /* so that the test's own time rounds away */

    progress_update(&progress, 500000, 1000000);

    fflush(stderr);
    cr_assert_stderr_eq_str("moesim: fitting 500000/1000000 steps  0.5/s  1000000 s left\n");
}
