/*
 * served_scenario.h -- what moesim serve makes of a scenario, for rows that are said to be of it.
 */
#ifndef MOESIM_SERVED_SCENARIO_H
#define MOESIM_SERVED_SCENARIO_H

struct served_means {
    double ttft_ms;
    double tpot_ms;
};

/* Serves a scenario of a dense model; a failure ends the test. */
struct served_means served_scenario(const char *path);

#endif
