/*
 * bench_routing.c -- see bench_routing.h. Weighted choices without replacement are the top k of
 * log(popularity) + Gumbel noise (Yellott 1977; Kool, van Hoof, Welling 2019, arXiv 1903.06059).
 */
#include "bench_routing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "npy.h"
#include "permute.h"

enum stream { STREAM_ORDER = 100, STREAM_POPULARITY, STREAM_NOISE, STREAM_PLACE, STREAM_WEIGHT };

const char *bench_routing_label(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? name : slash + 1;
}

/* Fisher-Yates. */
static void shuffle(int32_t *order, int32_t count, uint64_t seed)
{
    uint64_t state = bench_random_seed(seed, STREAM_ORDER);
    for (int32_t index = 0; index < count; index++) {
        order[index] = index;
    }
    for (int32_t left = count; left > 1; left--) {
        int32_t other = (int32_t)(bench_random(&state) % (uint64_t)left);
        int32_t kept = order[left - 1];
        order[left - 1] = order[other];
        order[other] = kept;
    }
}

static void in_turn(const struct bench_routing_request *request, int32_t *expert, bool one)
{
    int32_t order[GATE_EXPERTS_MAX];
    shuffle(order, request->num_experts, request->seed);
    for (int64_t token = 0; token < request->num_tokens; token++) {
        for (int32_t k = 0; k < request->top_k; k++) {
            int64_t turn = one ? k : token * request->top_k + k;
            expert[token * request->top_k + k] = order[turn % request->num_experts];
        }
    }
}

/* The top_k highest keys, best first. */
static void choose(const double *key, int32_t num_experts, int32_t top_k, int32_t *expert)
{
    bool taken[GATE_EXPERTS_MAX] = {false};
    for (int32_t k = 0; k < top_k; k++) {
        int32_t best = -1;
        for (int32_t candidate = 0; candidate < num_experts; candidate++) {
            if (!taken[candidate] && (best < 0 || key[candidate] > key[best])) {
                best = candidate;
            }
        }
        taken[best] = true;
        expert[k] = best;
    }
}

static void draw(const struct bench_routing_request *request, int32_t *expert, double sigma)
{
    double popularity[GATE_EXPERTS_MAX]; /* its logarithm */
    double key[GATE_EXPERTS_MAX];
    uint64_t state = bench_random_seed(request->seed, STREAM_POPULARITY);
    for (int32_t index = 0; index < request->num_experts; index++) {
        popularity[index] = sigma * bench_random_normal(&state);
    }
    state = bench_random_seed(request->seed, STREAM_NOISE);
    for (int64_t token = 0; token < request->num_tokens; token++) {
        for (int32_t index = 0; index < request->num_experts; index++) {
            double uniform = ((double)(bench_random(&state) >> 11) + 0.5) * 0x1p-53;
            key[index] = popularity[index] - log(-log(uniform));
        }
        choose(key, request->num_experts, request->top_k, &expert[token * request->top_k]);
    }
}

/* Parts "path:layer"; a name without a colon, or with something else after it, is all path. */
static int64_t split_layer(const char *name, char *path, size_t bytes)
{
    const char *colon = strrchr(name, ':');
    char *end = NULL;
    long layer = colon == NULL ? 0 : strtol(colon + 1, &end, 10);
    bool has_layer = colon != NULL && end != colon + 1 && *end == '\0' && layer >= 0;
    snprintf(path, bytes, "%.*s", has_layer ? (int)(colon - name) : (int)strlen(name), name);
    return has_layer ? layer : 0;
}

static enum status check_file(const struct bench_routing_request *request, const struct npy *npy,
                              int64_t layer, struct error *error)
{
    int64_t layers = npy->num_dims == 3 ? npy->dim[0] : 1;
    if ((npy->type != NPY_UINT8 && npy->type != NPY_UINT16) || npy->num_dims < 2 ||
        npy->num_dims > 3) {
        return error_add(error, STATUS_INVALID,
                         "%s: uint8 or uint16 [layers][tokens][top_k] is needed", request->name);
    }
    if (npy->dim[npy->num_dims - 1] != request->top_k || npy->dim[npy->num_dims - 2] < 1) {
        return error_add(error, STATUS_INVALID, "%s: %lld choices a token; --top-k says %d",
                         request->name, (long long)npy->dim[npy->num_dims - 1],
                         (int)request->top_k);
    }
    if (layer >= layers) {
        return error_add(error, STATUS_INVALID, "%s: it has %lld layers", request->name,
                         (long long)layers);
    }
    return STATUS_OK;
}

static enum status replay(const struct bench_routing_request *request, int32_t *expert,
                          struct error *error)
{
    char path[4096];
    int64_t layer = split_layer(request->name, path, sizeof path);
    struct npy npy;
    enum status status = npy_open(&npy, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_file(request, &npy, layer, error);
    if (status == STATUS_OK) {
        int64_t not_routed = npy.type == NPY_UINT8 ? UINT8_MAX : UINT16_MAX;
        int64_t tokens = npy.dim[npy.num_dims - 2];
        uint64_t state = bench_random_seed(request->seed, STREAM_PLACE);
        int64_t first = (int64_t)(bench_random(&state) % (uint64_t)tokens);
        for (int64_t index = 0; index < (int64_t)request->num_tokens * request->top_k; index++) {
            int64_t token = (first + index / request->top_k) % tokens;
            int64_t value =
                npy_int(&npy, (layer * tokens + token) * request->top_k + index % request->top_k);
            if (value >= request->num_experts && value != not_routed) {
                status = error_add(error, STATUS_INVALID, "%s: expert %lld of %d at token %lld",
                                   request->name, (long long)value, (int)request->num_experts,
                                   (long long)token);
                break;
            }
            expert[index] = value == not_routed ? EXPERT_NONE : (int32_t)value;
        }
    }
    npy_close(&npy);
    return status;
}

enum status bench_routing(struct bench_routing_request request, int32_t *expert,
                          struct error *error)
{
    if (strcmp(request.name, "balanced") == 0 || strcmp(request.name, "one") == 0) {
        in_turn(&request, expert, request.name[0] == 'o');
    } else if (strcmp(request.name, "uniform") == 0) {
        draw(&request, expert, 0.0);
    } else if (strcmp(request.name, "lognormal") == 0) {
        draw(&request, expert, request.sigma);
    } else if (strstr(request.name, ".npy") != NULL) {
        return replay(&request, expert, error);
    } else {
        return error_add(error, STATUS_INVALID,
                         "--routing %s: balanced, uniform, lognormal, one or a .npy file is needed",
                         request.name);
    }
    return STATUS_OK;
}

void bench_gate_weights(int32_t num_tokens, int32_t top_k, uint64_t seed, float *gate_weight)
{
    uint64_t state = bench_random_seed(seed, STREAM_WEIGHT);
    for (int64_t token = 0; token < num_tokens; token++) {
        float *weight = &gate_weight[token * top_k];
        float sum = 0.0f;
        for (int32_t k = 0; k < top_k; k++) {
            weight[k] = bench_random_float(&state) + 1.0625f; /* in [1/16, 2 1/16) */
            sum += weight[k];
        }
        for (int32_t k = 0; k < top_k; k++) {
            weight[k] /= sum;
        }
    }
}
