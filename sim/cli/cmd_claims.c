/* cmd_claims.c -- moesim claims: popular statements, computed. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claims.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/print.h"

#define PATH_SIZE 4096

static const char help[] =
    "usage: moesim claims [NAME...] [options]\n\n"
    "Computes popular statements about the economics of mixtures of experts: for each its number,\n"
    "whether it holds, holds if, or does not hold, and in which cases. Without a NAME all of\n"
    "scenarios/claims/ are computed; NAME may be the path of a claim of your own. What a claim "
    "needs\n"
    "is simulated, and what was simulated before is not simulated again.\n\n"
    "  -o, --output DIR  page and results, default out/claims\n"
    "      --threads N   simulations at a time, default all cores\n"
    "      --list        list the claims and compute none\n"
    "  -j, --json        print the verdicts as JSON\n\n"
    "A claim of your own; values come from presets, models or runs (moesim list claims NAME):\n"
    "  version: 1\n"
    "  claim: An hour of an H200 costs less than two dollars.\n"
    "  source: me\n"
    "  values: {hour: {price: h200-neocloud}}\n"
    "  number: hour\n"
    "  number_name: an hour\n"
    "  unit: $\n"
    "  holds: hour < 2\n"
    "  base: a smaller cloud owns it\n"
    "  cases:\n"
    "    - {name: it is rented for three years, values: {hour: {price: h200-rental-3y}}}\n\n"
    "example:\n"
    "  moesim claims active_share_deepseek_v3 cost_tenth_of_dense -o out/claims\n";

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'}, {"threads", required_argument, NULL, 't'},
    {"list", no_argument, NULL, 'l'},         {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
};

struct command {
    const char *directory;
    int32_t num_threads;
    bool list;
    bool json;
};

/* Returns -1 to go on, else the exit code. */
static int parse(struct command *command, int argc, char **argv)
{
    static const struct cli_grammar grammar = {"claims", ":o:jh", long_options, help};
    int letter;
    int code = -1;
    *command = (struct command){.directory = "out/claims"};
    optind = 1;
    while (code < 0 && (letter = cli_next(&code, &grammar, argc, argv)) > 0) {
        switch (letter) {
        case 'o':
            command->directory = optarg;
            break;
        case 'l':
            command->list = true;
            break;
        case 'j':
            command->json = true;
            break;
        default:
            code = cli_take_threads(&command->num_threads, argv[0], optarg);
        }
    }
    return code;
}

static cJSON *claim_json(const struct claim *claim)
{
    char text[CLAIM_TEXT];
    cJSON *json = cJSON_CreateObject();
    claim_verdict_text(claim, text);
    cJSON_AddStringToObject(json, "name", claim->name);
    cJSON_AddStringToObject(json, "claim", claim->claim);
    cJSON_AddStringToObject(json, "source", claim->source);
    cJSON_AddStringToObject(json, "verdict", claim_verdict_name(claim->verdict));
    cJSON_AddStringToObject(json, "verdict_text", text);
    cJSON_AddStringToObject(json, "number_name", claim->number_name);
    cJSON_AddStringToObject(json, "unit", claim->unit);
    cJSON *cases = cJSON_AddArrayToObject(json, "cases");
    for (int32_t i = 0; i < claim->num_cases; i++) {
        const struct claim_case *item = &claim->item[i];
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", item->name);
        if (item->is_computed) {
            cJSON_AddNumberToObject(one, "number", item->number);
            cJSON_AddBoolToObject(one, "holds", item->holds);
        } else {
            cJSON_AddStringToObject(one, "problem", item->problem);
        }
        cJSON_AddItemToArray(cases, one);
    }
    return json;
}

static void print_claims(const struct claims *claims, const struct command *command)
{
    for (int32_t i = 0; i < claims->count; i++) {
        const struct claim *claim = &claims->claim[i];
        char text[CLAIM_TEXT];
        char number[CLAIM_NUMBER] = "-";
        claim_verdict_text(claim, text);
        if (claim->item[0].is_computed) {
            claim_number_text(claim, claim->item[0].number, number);
        }
        printf("%s\n  %s\n  %s %s: %s\n\n", claim->name, claim->claim, number, claim->number_name,
               text);
    }
    printf("page: %s/index.html\n", command->directory);
}

static int show(const struct claims *claims, const struct command *command)
{
    int code = 0;
    if (command->json) {
        cJSON *json = cJSON_CreateObject();
        cJSON *list = cJSON_AddArrayToObject(json, "claims");
        for (int32_t i = 0; i < claims->count; i++) {
            cJSON_AddItemToArray(list, claim_json(&claims->claim[i]));
        }
        code = print_json(json);
    } else {
        print_claims(claims, command);
    }
    for (int32_t i = 0; i < claims->count; i++) {
        code = claims->claim[i].verdict == CLAIM_UNKNOWN ? 1 : code;
    }
    return code;
}

static int list(const struct claims *claims, bool as_json)
{
    cJSON *json = as_json ? cJSON_CreateObject() : NULL;
    cJSON *items = cJSON_AddArrayToObject(json, "claims");
    for (int32_t i = 0; i < claims->count; i++) {
        const struct claim *claim = &claims->claim[i];
        if (as_json) {
            cJSON *item = cJSON_CreateObject();
            cJSON_AddStringToObject(item, "name", claim->name);
            cJSON_AddStringToObject(item, "claim", claim->claim);
            cJSON_AddStringToObject(item, "source", claim->source);
            cJSON_AddItemToArray(items, item);
        } else {
            printf("%s\n  %s\n", claim->name, claim->claim);
        }
    }
    return as_json ? print_json(json) : 0;
}

static int compute(struct claims *claims, const struct command *command, struct error *error)
{
    char results[PATH_SIZE];
    struct sweep_outcome *outcome = calloc(1, sizeof *outcome);
    if (outcome == NULL) {
        return cli_fail(STATUS_NO_MEMORY, error);
    }
    (void)snprintf(results, sizeof results, "%s/claims.db", command->directory);
    enum status status = STATUS_OK;
    if (claims->num_runs > 0) {
        status = claims_simulate(claims, results, command->num_threads, outcome, error);
    }
    if (status == STATUS_OK && outcome->num_failed > 0) {
        (void)cli_fail(STATUS_INVALID, &outcome->failures);
    }
    if (status == STATUS_OK) {
        status = claims_judge(claims, results, error);
    }
    if (status == STATUS_OK) {
        status = claims_write_page(claims, command->directory, error);
    }
    free(outcome);
    return status == STATUS_OK ? show(claims, command) : cli_fail(status, error);
}

int command_claims(int argc, char **argv)
{
    struct command command;
    struct claims claims = {0};
    int code = parse(&command, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct error *error = calloc(1, sizeof *error);
    if (error == NULL) {
        fputs("moesim: out of memory\n", stderr);
        return 2;
    }
    enum status status =
        claims_load(&claims, (const char *const *)(argv + optind), argc - optind, error);
    if (status != STATUS_OK) {
        code = cli_fail(status, error);
    } else if (command.list) {
        code = list(&claims, command.json);
    } else {
        code = compute(&claims, &command, error);
    }
    claims_free(&claims);
    free(error);
    return code;
}
