/* registry.c -- the GPU models, one line each. */
#include "gpu/gpu.h"

#include <string.h>

#define GPU_MODELS(X) X(roofline)

#define DECLARE(name) extern const struct gpu_model gpu_##name;
GPU_MODELS(DECLARE)

#define LIST(name) &gpu_##name,
static const struct gpu_model *const all[] = {GPU_MODELS(LIST)};

const struct gpu_model *const *gpu_all(int32_t *count)
{
    *count = (int32_t)(sizeof all / sizeof all[0]);
    return all;
}

const struct gpu_model *gpu_find(const char *name)
{
    for (size_t index = 0; index < sizeof all / sizeof all[0]; index++) {
        if (strcmp(all[index]->name, name) == 0) {
            return all[index];
        }
    }
    return NULL;
}
