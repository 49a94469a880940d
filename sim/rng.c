/* rng.c -- seeds GSL's mt19937 from a 64-bit hash of the stream's name. */
#include "rng.h"

#include "digest.h"

static unsigned long stream_seed(uint64_t seed, const char *name, uint64_t index)
{
    uint64_t hash = digest_u64(DIGEST_START, seed);
    hash = digest_text(hash, name);
    hash = digest_u64(hash, index);
    return (unsigned long)((hash ^ (hash >> 32)) & 0xffffffffu); /* all that mt19937 takes */
}

gsl_rng *rng_stream(uint64_t seed, const char *name, uint64_t index)
{
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    if (rng != NULL) {
        rng_restream(rng, seed, name, index);
    }
    return rng;
}

void rng_restream(gsl_rng *rng, uint64_t seed, const char *name, uint64_t index)
{
    gsl_rng_set(rng, stream_seed(seed, name, index));
}
