/* cmd_list.c -- moesim list: every preset and plug-in, with what it is and where it comes from. */
#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/list_rows.h"
#include "cli/print.h"
#include "data.h"
#include "textfile.h"

#define LIST_PATH  4096
#define NAME_WIDTH 20 /* at least */

static const char help[] =
    "usage: moesim list [KIND [NAME]] [--json]\n\n"
    "Lists the building blocks of scenarios: names, what they are, where they come from.\n\n"
    "  models gpus clusters prices traces               presets in the data directory\n"
    "  engines                                          what hosts of serving engines take\n"
    "  studies serving plans sweeps claims              files to run, each by its name\n"
    "  routers drops strategies replicas collectives\n"
    "  networks gpu-models caches                       plug-ins\n\n"
    "  -j, --json   as JSON, for models with computed and published numbers of parameters\n\n"
    "Without a KIND: the names of all kinds. With a NAME: the file itself, to read, or to copy\n"
    "and change; a path is taken wherever a name is. A price of one's own may be in another\n"
    "currency: in place of usd_per_gpu_hour it has per_gpu_hour, currency (EUR) and usd_per_unit\n"
    "(dollars for one).\n\n"
    "examples:\n"
    "  moesim list gpus\n"
    "  moesim list prices h200-neocloud > mine.yaml\n";

static void print_rows(const struct list_row *rows, int32_t count)
{
    int width = NAME_WIDTH;
    for (int32_t i = 0; i < count; i++) {
        int length = (int)strlen(rows[i].name);
        width = length > width ? length : width;
    }
    for (int32_t i = 0; i < count; i++) {
        printf("%-*s  ", width, rows[i].name);
        print_wrapped(rows[i].summary, width + 2);
        if (rows[i].command != NULL) {
            printf("%*s(moesim %s %s)\n", width + 2, "", rows[i].command, rows[i].name);
        }
        if (rows[i].source[0] != '\0') {
            char source[SUMMARY_BYTES + 2];
            (void)snprintf(source, sizeof source, "(%s)", rows[i].source);
            printf("%*s", width + 2, "");
            print_wrapped(source, width + 2);
        }
    }
}

static void print_names(const char *kind, const struct list_row *rows, int32_t count)
{
    printf("%-12s", kind);
    int column = 12;
    for (int32_t i = 0; i < count; i++) {
        int width = (int)strlen(rows[i].name) + 2;
        if (column + width > 100) {
            printf("\n%-12s", "");
            column = 12;
        }
        printf("%s%s%s", column > 12 ? " " : "", rows[i].name, i + 1 < count ? "," : "");
        column += width;
    }
    printf("\n");
}

static bool add_figures(cJSON *item, const struct list_row *row)
{
    bool is_complete = true;
    for (int32_t i = 0; i < row->num_numbers; i++) {
        is_complete = is_complete && cJSON_AddNumberToObject(item, row->number[i].key,
                                                             row->number[i].value) != NULL;
    }
    is_complete = is_complete && (row->currency[0] == '\0' ||
                                  cJSON_AddStringToObject(item, "currency", row->currency) != NULL);
    return is_complete && (row->active_params_exclude == NULL ||
                           cJSON_AddStringToObject(item, "active_params_exclude",
                                                   row->active_params_exclude) != NULL);
}

static bool add_json(cJSON *list, const char *kind, const struct list_row *rows, int32_t count)
{
    bool is_complete = true;
    for (int32_t i = 0; i < count; i++) {
        cJSON *item = cJSON_CreateObject();
        is_complete = is_complete && cJSON_AddItemToArray(list, item) &&
                      cJSON_AddStringToObject(item, "kind", kind) != NULL &&
                      cJSON_AddStringToObject(item, "name", rows[i].name) != NULL &&
                      cJSON_AddStringToObject(item, "summary", rows[i].summary) != NULL &&
                      cJSON_AddStringToObject(item, "source", rows[i].source) != NULL &&
                      (rows[i].command == NULL ||
                       cJSON_AddStringToObject(item, "command", rows[i].command) != NULL) &&
                      add_figures(item, &rows[i]);
    }
    return is_complete;
}

/* Prints one kind, or all of them when only is -1. */
static int list_kinds(int32_t only, bool as_json)
{
    struct arena arena = {0};
    cJSON *list = as_json ? cJSON_CreateArray() : NULL;
    bool is_complete = list != NULL || !as_json;
    for (int32_t kind = 0; is_complete && kind < list_num_kinds(); kind++) {
        struct list_row *rows = NULL;
        if (only >= 0 && kind != only) {
            continue;
        }
        int32_t count = list_rows(&rows, kind, &arena);
        if (count < 0) {
            is_complete = false;
        } else if (as_json) {
            is_complete = add_json(list, list_kind_name(kind), rows, count);
        } else if (only >= 0) {
            print_rows(rows, count);
        } else {
            print_names(list_kind_name(kind), rows, count);
        }
        arena_reset(&arena);
    }
    arena_free(&arena);
    if (!is_complete) {
        cJSON_Delete(list);
        return cli_fail(STATUS_NO_MEMORY, &(struct error){0});
    }
    return as_json ? print_json(list) : 0;
}

/* A preset's file, behind where it lies. */
static int show_preset(const char *kind, const char *name)
{
    struct arena arena = {0};
    struct error error = {0};
    char path[LIST_PATH];
    const char *text = NULL;
    enum status status = data_find(path, sizeof path, kind, name, &error);
    if (status == STATUS_OK) {
        status = text_read(&text, path, &arena, &error);
    }
    if (status == STATUS_OK) {
        printf("# %s\n%s", path, text);
    }
    arena_free(&arena);
    return status == STATUS_OK ? 0 : cli_fail(status, &error);
}

/* A plug-in has no file, and scripts want no YAML: the row. */
static int show_row(int32_t kind, const char *name, bool as_json)
{
    struct arena arena = {0};
    struct list_row *rows = NULL;
    struct suggestion suggestion = {.word = name};
    int32_t count = list_rows(&rows, kind, &arena);
    int32_t index = 0;
    while (index < count && strcmp(rows[index].name, name) != 0) {
        suggest_offer(&suggestion, rows[index++].name);
    }
    int code = 0;
    cJSON *list = as_json ? cJSON_CreateArray() : NULL;
    if (count < 0 || (as_json && list == NULL)) {
        code = cli_fail(STATUS_NO_MEMORY, &(struct error){0});
    } else if (index == count) {
        code = cli_usage("list", "none of the %s is called '%s'%s%s", list_kind_name(kind), name,
                         suggestion.nearest != NULL ? "; did you mean " : "",
                         suggestion.nearest != NULL ? suggestion.nearest : "");
    } else if (as_json && add_json(list, list_kind_name(kind), &rows[index], 1)) {
        code = print_json(list);
        list = NULL;
    } else if (as_json) {
        code = cli_fail(STATUS_NO_MEMORY, &(struct error){0});
    } else {
        print_rows(&rows[index], 1);
    }
    cJSON_Delete(list);
    arena_free(&arena);
    return code;
}

static int find_kind(int32_t *kind, const char *command, const char *name)
{
    struct suggestion suggestion = {.word = name};
    for (*kind = 0; *kind < list_num_kinds(); (*kind)++) {
        if (strcmp(list_kind_name(*kind), name) == 0) {
            return 0;
        }
        suggest_offer(&suggestion, list_kind_name(*kind));
    }
    if (suggestion.nearest != NULL) {
        return cli_usage(command, "there is no list of '%s'; did you mean '%s'?", name,
                         suggestion.nearest);
    }
    return cli_usage(command, "there is no list of '%s'", name);
}

int command_list(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    int32_t kind = -1;
    static const struct cli_grammar grammar = {"list", ":jh", options, help};
    int option = 0;
    int code = 0;
    optind = 1;
    while ((option = cli_next(&code, &grammar, argc, argv)) != -1) {
        if (option == 0) {
            return code;
        }
        as_json = true;
    }
    if (optind + 2 < argc) {
        return cli_usage(argv[0], "one kind and one name at a time, not also '%s'",
                         argv[optind + 2]);
    }
    if (optind < argc && find_kind(&kind, argv[0], argv[optind]) != 0) {
        return 1;
    }
    const char *name = optind + 1 < argc ? argv[optind + 1] : NULL;
    if (name == NULL) {
        return list_kinds(kind, as_json);
    }
    return list_is_preset(kind) && !as_json ? show_preset(list_kind_name(kind), name)
                                            : show_row(kind, name, as_json);
}
