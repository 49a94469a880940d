/*
 * data.c -- finds the data directory, and presets in it by file name or by the aliases they list.
 */
#include "data.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "suggest.h"
#include "yaml_file.h"

#define PRESETS_MAX    1024 /* of one kind */
#define SUFFIX         ".yaml"
#define DIRECTORY_TEXT 4096

/* Written once, before anybody reads it: a program does not move while it runs. */
static char beside_program[DIRECTORY_TEXT];
static pthread_once_t looked_beside_program = PTHREAD_ONCE_INIT;

static bool holds_scenarios(const char *directory)
{
    char path[DIRECTORY_TEXT + sizeof "/scenarios"];
    struct stat entry;
    (void)snprintf(path, sizeof path, "%s/scenarios", directory);
    return stat(path, &entry) == 0 && S_ISDIR(entry.st_mode);
}

/* An installed program finds its data from where it stands, so that a whole prefix can be moved. */
static void look_beside_program(void)
{
    static const char data[] = MOESIM_DATA_FROM_PROGRAM;
    ssize_t length =
        readlink("/proc/self/exe", beside_program, sizeof beside_program - sizeof data);
    while (length > 0 && beside_program[length - 1] != '/') {
        length--;
    }
    length = length > 0 ? length : 0;
    memcpy(beside_program + length, data, sizeof data);
    if (length == 0 || !holds_scenarios(beside_program)) {
        beside_program[0] = '\0';
    }
}

const char *data_directory(void)
{
    const char *directory = getenv("MOESIM_DATA");
    if (directory != NULL && *directory != '\0') {
        return directory;
    }
    (void)pthread_once(&looked_beside_program, look_beside_program);
    if (beside_program[0] != '\0') {
        return beside_program;
    }
    return holds_scenarios(MOESIM_DATA_INSTALLED) && !holds_scenarios(MOESIM_DATA_DIRECTORY)
               ? MOESIM_DATA_INSTALLED
               : MOESIM_DATA_DIRECTORY;
}

void data_stem(char *stem, size_t stem_bytes, const char *path)
{
    static const char *const suffixes[] = {".yaml", ".yml", ".json"};
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t suffix = strlen(suffixes[i]);
        if (length > suffix && strcmp(name + length - suffix, suffixes[i]) == 0) {
            length -= suffix; /* no second one follows: "x.json.yaml" is called "x.json" */
            break;
        }
    }
    length = length < stem_bytes ? length : stem_bytes - 1;
    memcpy(stem, name, length);
    stem[length] = '\0';
}

static bool is_file(const char *path)
{
    struct stat entry;
    return stat(path, &entry) == 0 && !S_ISDIR(entry.st_mode);
}

static bool is_preset(const char *file_name)
{
    size_t length = strlen(file_name);
    size_t suffix = strlen(SUFFIX);
    return file_name[0] != '.' && length > suffix &&
           strcmp(file_name + length - suffix, SUFFIX) == 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int32_t data_list(const char *const **names, const char *kind, struct arena *arena)
{
    char path[DIRECTORY_TEXT];
    const char **list = arena_alloc(arena, PRESETS_MAX, sizeof *list);
    *names = NULL;
    if (list == NULL) {
        return DATA_NO_MEMORY;
    }
    int length = snprintf(path, sizeof path, "%s/scenarios/%s", data_directory(), kind);
    DIR *directory = length >= (int)sizeof path ? NULL : opendir(path);
    if (directory == NULL) {
        return errno == ENOMEM ? DATA_NO_MEMORY : DATA_NO_DIRECTORY;
    }
    int32_t count = 0;
    bool complete = true;
    for (const struct dirent *entry = readdir(directory);
         entry != NULL && count < PRESETS_MAX && complete; entry = readdir(directory)) {
        if (is_preset(entry->d_name)) {
            char *name = arena_strdup(arena, entry->d_name);
            complete = name != NULL;
            if (complete) {
                name[strlen(name) - strlen(SUFFIX)] = '\0';
                list[count++] = name;
            }
        }
    }
    (void)closedir(directory);
    if (!complete) {
        return DATA_NO_MEMORY;
    }
    qsort(list, (size_t)count, sizeof *list, compare_names);
    *names = list;
    return count;
}

/* scenarios/KIND/NAME.yaml: most names are a preset's own, and need no look at the others' aliases.
 */
static bool names_preset(char *path, size_t path_bytes, const char *kind, const char *name)
{
    int length =
        snprintf(path, path_bytes, "%s/scenarios/%s/%s%s", data_directory(), kind, name, SUFFIX);
    return strchr(name, '/') == NULL && length > 0 && (size_t)length < path_bytes && is_file(path);
}

/* What a search over all presets of a kind has seen. */
struct search {
    const char *kind;
    const char *key; /* that offered presets have, or have not; NULL: all are offered */
    bool has_key;
    const char *name;
    struct suggestion suggestion;
    const char **offered; /* [num_offered] */
    int32_t num_offered;
};

/* A preset whose file cannot be read has no aliases: naming it directly tells what is wrong. */
static enum status read_aliases(const struct yaml_node **alias, bool *is_offered,
                                const struct search *search, const char *path, struct arena *arena)
{
    struct yaml_node *root = NULL;
    *alias = NULL;
    *is_offered = search->key == NULL;
    enum status status = yaml_load(&root, path, arena, NULL);
    if (status == STATUS_OK) {
        const struct yaml_node *list = yaml_get(root, "aliases");
        *alias = list != NULL ? list->child : NULL;
        *is_offered =
            search->key == NULL || (yaml_get(root, search->key) != NULL) == search->has_key;
    }
    return status == STATUS_NO_MEMORY ? status : STATUS_OK;
}

/* Does the preset bear the name, in any letter case? Names of presets with the key are offered. */
static enum status match_preset(bool *matches, struct search *search, const char *path,
                                const char *preset, struct arena *arena)
{
    *matches = strcasecmp(preset, search->name) == 0;
    if (*matches) {
        return STATUS_OK;
    }
    const struct yaml_node *alias = NULL;
    bool is_offered = false;
    enum status status = read_aliases(&alias, &is_offered, search, path, arena);
    if (is_offered) {
        suggest_offer(&search->suggestion, preset);
        search->offered[search->num_offered++] = preset;
    }
    for (; alias != NULL && !*matches; alias = alias->next) {
        *matches = strcasecmp(alias->text, search->name) == 0;
        if (is_offered) {
            suggest_offer(&search->suggestion, alias->text);
        }
    }
    return status;
}

/* Where a name that is none of this kind belongs; NULL: nowhere. */
static const char *other_kind(const struct search *search)
{
    static const char *const others[][2] = {
        {"studies", "one of the studies (moesim run or moesim study)"},
        {"serving", "a scenario with requests (moesim serve)"},
        {"plans", "one of the plans (moesim plan)"},
        {"sweeps", "one of the sweeps (moesim sweep)"},
        {"claims", "one of the claims (moesim claims)"},
        {"models", "one of the models"},
        {"gpus", "one of the gpus"},
        {"clusters", "one of the clusters"},
        {"prices", "one of the prices"},
        {"engines", "one of the engines (serving.engine)"},
    };
    char path[DIRECTORY_TEXT];
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (names_preset(path, sizeof path, others[i][0], search->name)) {
            return others[i][1];
        }
    }
    return NULL;
}

static enum status complain(const struct search *search, struct error *error)
{
    char words[SUGGEST_BYTES];
    const char *other = other_kind(search);
    if (other != NULL) {
        return error_add(error, STATUS_INVALID,
                         "'%s' is neither a file nor one of the %s, but %s; moesim list %s shows "
                         "what fits here",
                         search->name, search->kind, other, search->kind);
    }
    suggest_words(words, sizeof words, &search->suggestion, search->offered, search->num_offered,
                  search->kind);
    return error_add(error, STATUS_INVALID, "'%s' is neither a file nor one of the %s%s",
                     search->name, search->kind, words);
}

enum status data_find(char *path, size_t path_bytes, const char *kind, const char *name,
                      struct error *error)
{
    return data_find_with(path, path_bytes, kind, NULL, false, name, error);
}

enum status data_find_with(char *path, size_t path_bytes, const char *kind, const char *key,
                           bool has_key, const char *name, struct error *error)
{
    char config[DIRECTORY_TEXT];
    int config_length = snprintf(config, sizeof config, "%s/config.json", name);
    bool is_downloaded = strcmp(kind, "models") == 0 && config_length > 0 &&
                         (size_t)config_length < sizeof config && is_file(config);
    if (is_downloaded || is_file(name)) {
        int length = snprintf(path, path_bytes, "%s", is_downloaded ? config : name);
        return length >= 0 && (size_t)length < path_bytes
                   ? STATUS_OK
                   : error_add(error, STATUS_INVALID, "%.64s...: the path is too long", name);
    }
    if (names_preset(path, path_bytes, kind, name)) {
        return STATUS_OK;
    }
    struct arena arena = {0};
    const char *const *names = NULL;
    struct search search = {
        .kind = kind, .key = key, .has_key = has_key, .name = name, .suggestion.word = name};
    enum status status = STATUS_OK;
    int32_t count = data_list(&names, kind, &arena);
    bool matches = false;
    if (count == DATA_NO_MEMORY) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
        goto done;
    }
    if (count == DATA_NO_DIRECTORY) {
        status = error_add(error, STATUS_IO,
                           "%s/scenarios/%s: no such directory; set MOESIM_DATA to the directory "
                           "that holds scenarios/",
                           data_directory(), kind);
        goto done;
    }
    search.offered = arena_alloc(&arena, PRESETS_MAX, sizeof *search.offered);
    if (search.offered == NULL) {
        status = error_add(error, STATUS_NO_MEMORY, "out of memory");
        goto done;
    }
    for (int32_t i = 0; i < count; i++) {
        int length = snprintf(path, path_bytes, "%s/scenarios/%s/%s%s", data_directory(), kind,
                              names[i], SUFFIX);
        if (length < 0 || (size_t)length >= path_bytes) {
            status = error_add(error, STATUS_INVALID, "%s: the path is too long", names[i]);
            goto done;
        }
        status = match_preset(&matches, &search, path, names[i], &arena);
        if (status != STATUS_OK) {
            status = error_add(error, status, "out of memory");
            goto done;
        }
        if (matches) {
            goto done;
        }
    }
    status = complain(&search, error);
done:
    arena_free(&arena);
    return status;
}
