/*
 * rng.h -- random numbers from named streams.
 *
 * Every consumer opens a stream of its own by name and index, so adding a draw in one place shifts
 * no number anywhere else, and a stream is a function of (seed, name, index) alone.
 */
#ifndef MOESIM_RNG_H
#define MOESIM_RNG_H

#include <gsl/gsl_rng.h>
#include <stdint.h>

/* A Mersenne twister seeded from the hash of all three; NULL when memory is out. Release with
 * gsl_rng_free. */
gsl_rng *rng_stream(uint64_t seed, const char *name, uint64_t index);

/* Points an existing generator at another stream, without allocating. */
void rng_restream(gsl_rng *rng, uint64_t seed, const char *name, uint64_t index);

#endif
