/*
 * embed.c -- a program outside of moesim that simulates with its library and prints the digest.
 *
 * Usage: embed SCENARIO RESULTS [KEY=VALUE ...]
 *
 * It has functions of its own that are called like some of the library's inside: they must not
 * meet.
 */
#include <inttypes.h>
#include <moesim/moesim.h>
#include <stdio.h>
#include <string.h>

int arena_alloc(void);
int engine_run(void);

int arena_alloc(void)
{
    return 1;
}

int engine_run(void)
{
    return 2;
}

static bool count_step(void *context, int64_t step, int64_t num_steps)
{
    *(int64_t *)context = step;
    return step <= num_steps;
}

/* Every kept assignment was computed by one rank. Returns false, and says so, where not. */
static bool ranks_add_up(struct moesim_simulation *simulation, const struct moesim_totals *totals)
{
    for (int32_t index = 0; index < totals->num_layers; index++) {
        struct moesim_layer layer;
        int64_t rank_tokens = 0;
        if (moesim_get_layer(simulation, index, &layer) != MOESIM_OK) {
            return false;
        }
        for (int32_t rank = 0; rank < totals->num_ranks; rank++) {
            rank_tokens += layer.rank_tokens[rank];
        }
        if (rank_tokens != layer.assignments - layer.dropped_assignments) {
            fprintf(stderr, "layer %d: ranks computed %" PRId64 "\n", (int)index, rank_tokens);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    int64_t steps = 0;
    struct moesim_totals totals;
    struct moesim_run_options options = {2, count_step, &steps};
    struct moesim_simulation *simulation = moesim_new();
    int code = 1;
    if (argc < 3 || moesim_api_version() != MOESIM_API_VERSION) {
        fputs("usage: embed SCENARIO RESULTS [KEY=VALUE ...]\n", stderr);
    } else if (moesim_load(simulation, argv[1], (const char *const *)(argv + 3), argc - 3) !=
                   MOESIM_OK ||
               moesim_run(simulation, &options) != MOESIM_OK ||
               moesim_get_totals(simulation, &totals) != MOESIM_OK ||
               moesim_store(simulation, argv[2], "embedded") != MOESIM_OK) {
        fputs(moesim_error(simulation), stderr);
    } else if (ranks_add_up(simulation, &totals) && steps == totals.num_steps &&
               strstr(moesim_json(simulation), "\"digest\"") != NULL &&
               arena_alloc() + engine_run() == 3) {
        printf("%016" PRIx64 "\n", totals.digest);
        code = 0;
    }
    moesim_free(simulation);
    return code;
}
