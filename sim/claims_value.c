/* claims_value.c -- the values of a claim, and the runs they come from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "claims_internal.h"
#include "data.h"

/* A value that is a mapping. */
struct value_file {
    char given[NAME_BYTES];
    char model[PATH_BYTES];
    char gpu[PATH_BYTES];
    char price[PATH_BYTES];
    char api_price[PATH_BYTES];
    char gpus_for[PATH_BYTES];
    char run[NAME_BYTES];
    char figure[NAME_BYTES];
    char on[PATH_BYTES];
    char source[TEXT_BYTES];
    int32_t precision;
    int32_t experts;
    int32_t top_k;
    int32_t context_tokens;
    double memory_fraction;
};

#define VALUE_TEXT(name)                                                                           \
    {                                                                                              \
        .key = #name, .type = YAML_TEXT, .offset = offsetof(struct value_file, name),              \
        .size = sizeof((struct value_file *)0)->name                                               \
    }

static const struct yaml_field value_fields[] = {
    VALUE_TEXT(given),
    VALUE_TEXT(model),
    VALUE_TEXT(gpu),
    VALUE_TEXT(price),
    VALUE_TEXT(api_price),
    VALUE_TEXT(gpus_for),
    VALUE_TEXT(run),
    VALUE_TEXT(figure),
    VALUE_TEXT(on),
    VALUE_TEXT(source),
    {.key = "precision",
     .type = YAML_CHOICE,
     .offset = offsetof(struct value_file, precision),
     .choices = precision_choices},
    {.key = "experts",
     .type = YAML_INT32,
     .offset = offsetof(struct value_file, experts),
     .min = 1,
     .max = 65536},
    {.key = "top_k",
     .type = YAML_INT32,
     .offset = offsetof(struct value_file, top_k),
     .min = 1,
     .max = 65536},
    {.key = "context_tokens",
     .type = YAML_INT32,
     .offset = offsetof(struct value_file, context_tokens),
     .min = 1,
     .max = 100000000},
    {.key = "memory_fraction",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct value_file, memory_fraction),
     .min = 0.01,
     .max = 1},
    {0},
};

static const struct {
    const char *key;
    enum claim_kind kind;
    size_t offset;
    bool has_figure;
} kinds[] = {
    {"given", CLAIM_GIVEN, offsetof(struct value_file, given), false},
    {"model", CLAIM_MODEL, offsetof(struct value_file, model), true},
    {"gpu", CLAIM_GPU, offsetof(struct value_file, gpu), true},
    {"price", CLAIM_PRICE, offsetof(struct value_file, price), false},
    {"api_price", CLAIM_API_PRICE, offsetof(struct value_file, api_price), true},
    {"gpus_for", CLAIM_GPUS_FOR, offsetof(struct value_file, gpus_for), false},
    {"run", CLAIM_RUN, offsetof(struct value_file, run), true},
};
#define NUM_KINDS ((int)(sizeof kinds / sizeof kinds[0]))

void claim_complain(struct claim_reader *reader, const struct yaml_node *node, const char *key,
                    const char *text)
{
    reader->status = yaml_complain(reader->error, node, key, text);
}

void *claim_take(struct claim_reader *reader, size_t count, size_t size)
{
    void *memory = arena_alloc(&reader->claims->arena, count, size);
    if (memory == NULL) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
    }
    return memory;
}

const char *claim_keep(struct claim_reader *reader, const char *text)
{
    const char *copy = arena_strdup(&reader->claims->arena, text);
    if (copy == NULL) {
        reader->status = error_add(reader->error, STATUS_NO_MEMORY, "out of memory");
    }
    return copy != NULL ? copy : "";
}

/* Beside the claim's file, in the data directory, or where the command runs. */
static const char *find_scenario(struct claim_reader *reader, const struct yaml_node *written)
{
    char path[2 * PATH_BYTES];
    const char *slash = strrchr(written->file, '/');
    int directory = slash != NULL && written->text[0] != '/' ? (int)(slash - written->file) + 1 : 0;
    (void)snprintf(path, sizeof path, "%.*s%s", directory, written->file, written->text);
    if (access(path, R_OK) != 0) {
        (void)snprintf(path, sizeof path, "%s/%s", data_directory(), written->text);
    }
    if (access(path, R_OK) != 0) {
        (void)snprintf(path, sizeof path, "%s", written->text);
    }
    if (access(path, R_OK) != 0 || strlen(path) >= PATH_BYTES) {
        claim_complain(reader, written, "scenario",
                       "there is no such file beside the claim, in the data directory or here");
    }
    return claim_keep(reader, path);
}

/* "key=value key=value" of the settings of both mappings; the second wins by coming later. */
static void add_settings(struct claim_reader *reader, struct claim_run *run,
                         const struct yaml_node *set, char *label, size_t label_bytes)
{
    if (set == NULL) {
        return;
    }
    if (set->kind != YAML_MAPPING) {
        claim_complain(reader, set, "set", "expected keys and values");
        return;
    }
    for (const struct yaml_node *one = set->child; one != NULL; one = one->next) {
        if (one->kind != YAML_SCALAR || strpbrk(one->text, "'\r\n") != NULL) {
            claim_complain(reader, one, one->key,
                           "expected one value; set its parts by their keys");
            continue;
        }
        if (run->num_settings == CLAIM_SETTINGS_MAX) {
            claim_complain(reader, one, one->key, "more settings than a run may have");
            return;
        }
        char text[2 * TEXT_BYTES];
        const char *quote = one->quoted ? "'" : "";
        (void)snprintf(text, sizeof text, "%s=%s%.1024s%s", one->key, quote, one->text, quote);
        run->setting[run->num_settings++] = claim_keep(reader, text);
        size_t used = strlen(label);
        (void)snprintf(label + used, label_bytes - used, " %.1024s", text);
    }
}

static bool is_same_run(const struct claim_run *a, const struct claim_run *b)
{
    bool is_same = strcmp(a->path, b->path) == 0 && a->num_settings == b->num_settings;
    for (int32_t i = 0; is_same && i < a->num_settings; i++) {
        is_same = strcmp(a->setting[i], b->setting[i]) == 0;
    }
    return is_same;
}

/* The index of a run among the claims', added where it is new. */
static int32_t add_run(struct claim_reader *reader, const struct claim_run *run)
{
    struct claims *claims = reader->claims;
    for (int32_t i = 0; i < claims->num_runs; i++) {
        if (is_same_run(&claims->run[i], run)) {
            return i;
        }
    }
    if (claims->num_runs == claims->run_capacity) {
        int32_t capacity = 2 * claims->run_capacity + 64;
        struct claim_run *grown = claim_take(reader, (size_t)capacity, sizeof *grown);
        if (grown == NULL) {
            return 0;
        }
        if (claims->num_runs > 0) {
            memcpy(grown, claims->run, (size_t)claims->num_runs * sizeof *grown);
        }
        claims->run = grown;
        claims->run_capacity = capacity;
    }
    claims->run[claims->num_runs] = *run;
    return claims->num_runs++;
}

static int32_t read_run(struct claim_reader *reader, const struct yaml_node *value,
                        const char *name)
{
    const struct yaml_node *node = yaml_get(reader->runs, name);
    const struct yaml_node *scenario = yaml_get(node, "scenario");
    if (node == NULL || scenario == NULL || scenario->kind != YAML_SCALAR) {
        claim_complain(reader, node != NULL ? node : value, name,
                       node != NULL ? "a run needs scenario: FILE"
                                    : "there is no such run under runs");
        return 0;
    }
    for (const struct yaml_node *key = node->child; key != NULL; key = key->next) {
        if (strcmp(key->key, "scenario") != 0 && strcmp(key->key, "set") != 0) {
            claim_complain(reader, key, key->key, "unknown key of a run: it has scenario and set");
        }
    }
    char label[SWEEP_LABEL];
    char where[PATH_BYTES + 32];
    struct claim_run run = {.path = find_scenario(reader, scenario)};
    run.setting = claim_take(reader, CLAIM_SETTINGS_MAX, sizeof *run.setting);
    if (run.setting == NULL) {
        return 0;
    }
    data_stem(label, NAME_BYTES, run.path);
    add_settings(reader, &run, yaml_get(node, "set"), label, sizeof label);
    add_settings(reader, &run, reader->set, label, sizeof label);
    (void)snprintf(where, sizeof where, "%.1000s:%d", node->file, (int)node->line);
    run.label = claim_keep(reader, label);
    run.where = claim_keep(reader, where);
    return add_run(reader, &run);
}

/* Which one of its forms a value has; NUM_KINDS and a problem unless it is exactly one. */
static int kind_of(struct claim_reader *reader, const struct yaml_node *node)
{
    int found = NUM_KINDS;
    int count = 0;
    for (int i = 0; i < NUM_KINDS; i++) {
        if (yaml_get(node, kinds[i].key) != NULL) {
            found = i;
            count++;
        }
    }
    if (count != 1) {
        claim_complain(
            reader, node, node->key,
            "expected an expression, or one of given, model, gpu, price, api_price, gpus_for, "
            "run");
        return NUM_KINDS;
    }
    return found;
}

void claim_read_value(struct claim_reader *reader, struct claim_value *value,
                      const struct yaml_node *node)
{
    struct value_file file = {.precision = -1, .memory_fraction = 0.9};
    int found = kind_of(reader, node);
    if (found == NUM_KINDS) {
        return;
    }
    if (yaml_fill(&file, node, value_fields, reader->error) != STATUS_OK) {
        reader->status = STATUS_INVALID;
        return;
    }
    value->kind = kinds[found].kind;
    value->text = claim_keep(reader, (const char *)&file + kinds[found].offset);
    value->figure = claim_keep(reader, file.figure);
    value->on = claim_keep(reader, file.on);
    value->source = claim_keep(reader, file.source);
    value->precision = file.precision;
    value->experts = file.experts;
    value->top_k = file.top_k;
    value->context_tokens = file.context_tokens;
    value->memory_fraction = file.memory_fraction;
    if (value->kind == CLAIM_GIVEN) {
        char *end = NULL;
        value->given = strtod(file.given, &end);
        if (*end != '\0' || end == file.given || !(value->given > -1e300 && value->given < 1e300)) {
            claim_complain(reader, node, node->key, "given: expected a number");
        }
        if (file.source[0] == '\0') {
            claim_complain(reader, node, node->key, "a given number needs its source");
        }
    } else if (kinds[found].has_figure && file.figure[0] == '\0') {
        claim_complain(reader, node, node->key, "say which figure of it");
    } else if (kinds[found].has_figure && !claim_figure_is_known(value, reader->error)) {
        reader->status = STATUS_INVALID;
    } else if (value->kind == CLAIM_GPUS_FOR && file.on[0] == '\0') {
        claim_complain(reader, node, node->key, "say on which GPU");
    } else if (value->kind == CLAIM_RUN) {
        value->run = read_run(reader, node, value->text);
    }
}

void claim_lay_over(struct yaml_node *base, struct yaml_node *overlay)
{
    struct yaml_node **front = base != NULL ? &base->child : NULL;
    struct yaml_node *node = base != NULL && overlay != NULL ? overlay->child : NULL;
    while (node != NULL) {
        struct yaml_node *next = node->next;
        struct yaml_node *old = yaml_get(base, node->key);
        for (int i = 0; old != NULL && i < NUM_KINDS; i++) {
            if (yaml_get(node, kinds[i].key) != NULL && yaml_get(old, kinds[i].key) == NULL) {
                old->kind = YAML_SCALAR; /* merging replaces it */
            }
        }
        if (old == NULL) { /* new names come first, so that the others may use them */
            yaml_remove(overlay, node);
            node->next = *front;
            *front = node;
            front = &node->next;
        }
        node = next;
    }
    (void)yaml_merge(base, overlay);
}
