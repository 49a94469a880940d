/* small_serving.c -- see small_serving.h. */
#include "small_serving.h"

#include <criterion/criterion.h>
#include <math.h>

struct error small_serving_error;

void small_expect(enum status status)
{
    cr_assert_eq(status, STATUS_OK, "%s", small_serving_error.text);
}

double small_linear_ns(const void *context, const struct step_load *load, int32_t num_replicas)
{
    double most_ns = 0.0;
    (void)context;
    for (int32_t i = 0; i < num_replicas; i++) {
        double own_ns = 2e6 + 1e4 * (load[i].decode_tokens + load[i].prefill_tokens) +
                        2.0 * (double)load[i].context_tokens +
                        1.0 * (double)load[i].prefill_attended;
        most_ns = fmax(most_ns, own_ns);
    }
    return most_ns;
}

const struct serving_config small_serving_config = {.block_tokens = 16,
                                                    .router = SERVING_LEAST_LOADED};

struct serve_options
small_serving(double (*step_ns)(const void *, const struct step_load *, int32_t), int32_t sequences)
{
    struct serve_options options = {.config = &small_serving_config, .seed = 1};
    options.pool[SERVE_MAIN] =
        (struct serve_pool){.model = {.step_ns = step_ns},
                            .num_groups = 1,
                            .replicas_per_group = 1,
                            .batch = {.tokens = INT32_MAX / 2, .sequences = sequences},
                            .kv_blocks = INT32_MAX / 2};
    return options;
}

void small_check_conservation(const struct serve_result *result, const struct arrivals *arrivals)
{
    const struct serve_totals *totals = &result->totals;
    int64_t served = 0;
    int64_t answers = 0;
    int64_t prompts = 0;
    double stay_s = 0.0;
    for (int64_t i = 0; i < arrivals->count; i++) {
        const struct serve_request *request = &result->request[i];
        if (request->end_ns < 0) {
            cr_assert_lt(request->first_token_ns, 0);
            continue;
        }
        served++;
        answers += request->decode_tokens;
        prompts += request->prompt_tokens;
        stay_s += (double)(request->end_ns - request->arrival_ns) * 1e-9;
        cr_assert_geq(request->first_token_ns, request->arrival_ns);
        cr_assert_geq(request->end_ns, request->first_token_ns);
        cr_assert_lt(request->cached_tokens, request->prompt_tokens);
    }
    cr_assert_eq(served + totals->num_refused, totals->num_requests);
    cr_assert_eq(totals->new_tokens, answers);
    cr_assert_eq(totals->prompt_tokens, prompts);
    cr_assert_eq(totals->read_tokens + totals->cached_tokens, prompts + totals->again_tokens);
    int64_t seen_new = 0;
    int64_t seen_read = 0;
    int64_t seen_arrivals = 0;
    double in_system = 0.0;
    for (int32_t pool = 0; pool < SERVE_POOLS; pool++) {
        in_system += totals->waiting_mean[pool] + totals->running_mean[pool];
        cr_assert_leq(totals->busy[pool], 1.0 + 1e-9);
        cr_assert_leq(totals->kv_fraction_max[pool], 1.0);
        for (int32_t i = 0; i < result->num_windows; i++) {
            seen_new += result->window[pool][i].new_tokens;
            seen_read += result->window[pool][i].read_tokens;
            seen_arrivals += result->window[pool][i].arrivals;
        }
    }
    cr_assert_eq(seen_new, answers);
    cr_assert_eq(seen_read, totals->read_tokens);
    cr_assert_eq(seen_arrivals, totals->num_requests);
    if (served > 0) { /* Little: exact, for the run begins and ends empty */
        cr_assert_float_eq(in_system * totals->duration_s, stay_s, 1e-6 * stay_s + 1e-9);
    }
}
