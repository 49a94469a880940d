/*
 * test_published_eplb.c -- what EPLB gains, as SGLang published it for DeepSeek-V3 on H100s: 1.49
 * times the tokens a second in prefill (EP32), 2.54 in decode (EP72, 256 sequences over 2,000
 * positions); LMSYS, large-scale EP, 2025-05-05. Skew as measured of other requests, replicas 0
 * and 32 in prefill; decode needs 288 slots to divide. Prompts here are 4,096 tokens a step and
 * rank instead of 16,384, for time.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "validate.h"

#define HEADER                                                                                     \
    "date,engine,model,precision,gpu,n_gpus,phase,ep,redundant_experts,tp,isl,kv_len,"             \
    "batch_per_gpu,overlap,mtp,eplb,tok_s_per_gpu\n2025-05-05,SGLang,DeepSeek-V3,fp8,H100-SXM,"

static double gain(const char *without, const char *with)
{
    char path[] = "/tmp/moesim-eplb-XXXXXX";
    struct error_report report = {0};
    struct error error = {0};
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    FILE *file = fdopen(descriptor, "w");
    (void)fprintf(file, HEADER "%s\n2025-05-05,SGLang,DeepSeek-V3,fp8,H100-SXM,%s\n", without,
                  with);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(validate_serving(&report, path, &error), STATUS_OK, "%s", error.text);
    (void)unlink(path);
    cr_assert_eq(report.num_rows, 2);
    cr_assert(report.row[0].predicted > 0.0 && report.row[1].predicted > 0.0);
    double gained = report.row[1].predicted / report.row[0].predicted;
    error_report_free(&report);
    return gained;
}

Test(published_eplb, decode_on_72_ranks)
{
    double gained = gain("72,decode,72,32,1,,2000,256,TBO on,,none,1",
                         "72,decode,72,32,1,,2000,256,TBO on,,in-distribution EPLB,1");

    cr_log_info("EPLB gains %.2f times in decode (published 2.54)\n", gained);
    cr_expect_float_eq(gained, 2.54, 0.15 * 2.54);
}

Test(published_eplb, prefill_on_32_ranks)
{
    double gained = gain("32,prefill,32,0,1,4096,,4096,TBO on,,none,1",
                         "32,prefill,32,32,1,4096,,4096,TBO on,,in-distribution EPLB,1");

    cr_log_info("EPLB gains %.2f times in prefill (published 1.49)\n", gained);
    cr_expect_float_eq(gained, 1.49, 0.15 * 1.49);
}
