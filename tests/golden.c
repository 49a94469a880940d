/* golden.c -- mapped vectors, and how far two are apart. */
#include "golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static void golden_path(char *path, size_t bytes, const char *directory, const char *name)
{
    snprintf(path, bytes, "%s/tests/golden/%s/%s.npy", SOURCE_DIRECTORY, directory, name);
}

struct npy golden(const char *directory, const char *name)
{
    struct error error = {0};
    struct npy npy;
    char path[4096];
    golden_path(path, sizeof path, directory, name);
    cr_assert_eq(npy_open(&npy, path, &error), STATUS_OK, "%s", error.text);
    return npy;
}

struct npy golden_optional(const char *directory, const char *name)
{
    char path[4096];
    golden_path(path, sizeof path, directory, name);
    return access(path, R_OK) == 0 ? golden(directory, name) : (struct npy){0};
}

double relative_max(const float *a, const float *b, int64_t count)
{
    double difference = 0.0;
    double largest = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double here = fabs((double)a[i] - (double)b[i]);
        difference = isnan(difference) || here <= difference ? difference : here;
        largest = fmax(largest, fabs((double)b[i]));
    }
    return difference / largest;
}

double relative_frobenius(const float *a, const float *b, int64_t count)
{
    double difference = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}
