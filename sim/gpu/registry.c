/* registry.c -- the GPU models, one line each. */
#include "gpu/gpu.h"

#include <string.h>

#define GPU_MODELS(X) X(roofline) X(fitted) X(measured)

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

struct gpu_evidence gpu_model_evidence(const struct gpu_model *model, const struct gpu_spec *gpu)
{
    struct gpu_evidence evidence = {.fitted_on = model->fitted_on,
                                    .error_median = model->error_median};
    if (model->evidence != NULL && !model->evidence(&evidence, gpu)) {
        evidence = (struct gpu_evidence){.fitted_on = "", .error_median = -1.0};
    }
    return evidence;
}

bool gpu_model_applies(const struct gpu_model *model, const struct gpu_spec *gpu)
{
    struct gpu_evidence evidence;
    return model->evidence == NULL || model->evidence(&evidence, gpu);
}
