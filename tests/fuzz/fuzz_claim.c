/*
 * fuzz_claim.c -- any text as a claim: refused with reasons, or one whose verdict can be told.
 *
 * Runs are not simulated: claims that need some are read alone.
 */
#include <string.h>

#include "claims.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    struct claims claims;
    const char *path = input_write("fuzz.yaml", data, bytes);
    error.num_problems = 0;
    error.text_bytes = 0;
    enum status status = claims_load(&claims, &path, 1, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0)) {
        __builtin_trap();
    }
    if (status == STATUS_OK && claims.num_runs == 0) {
        char text[CLAIM_TEXT];
        char number[CLAIM_NUMBER];
        if (claims_judge(&claims, NULL, &error) != STATUS_OK) {
            __builtin_trap();
        }
        claim_verdict_text(&claims.claim[0], text);
        claim_number_text(&claims.claim[0], claims.claim[0].item[0].number, number);
        if (strlen(text) >= CLAIM_TEXT || strlen(number) >= CLAIM_NUMBER) {
            __builtin_trap();
        }
    }
    claims_free(&claims);
    return 0;
}
