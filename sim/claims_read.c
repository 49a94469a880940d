/*
 * claims_read.c -- a claim's file.
 *
 * A case is the file with the case's runs and values laid over it, so it is parsed anew for each:
 * merging changes the tree.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claims_internal.h"
#include "data.h"
#include "expression.h"

struct claim_file {
    int32_t version;
    char claim[TEXT_BYTES];
    char source[TEXT_BYTES];
    char note[2 * TEXT_BYTES];
    char number[TEXT_BYTES];
    char number_name[NAME_BYTES * 2];
    char unit[NAME_BYTES];
    char holds[TEXT_BYTES];
    char base[NAME_BYTES * 2];
    struct yaml_node *runs;
    struct yaml_node *values;
    struct yaml_node *cases;
};

#define TEXT_FIELD(name, is_required)                                                              \
    {                                                                                              \
        .key = #name, .type = YAML_TEXT, .offset = offsetof(struct claim_file, name),              \
        .size = sizeof((struct claim_file *)0)->name, .required = is_required                      \
    }

static const struct yaml_field claim_fields[] = {
    {.key = "version",
     .type = YAML_INT32,
     .offset = offsetof(struct claim_file, version),
     .required = true,
     .min = 1,
     .max = 1},
    TEXT_FIELD(claim, true),
    TEXT_FIELD(source, true),
    TEXT_FIELD(note, false),
    TEXT_FIELD(number, true),
    TEXT_FIELD(number_name, true),
    TEXT_FIELD(unit, true),
    TEXT_FIELD(holds, true),
    TEXT_FIELD(base, false),
    {.key = "runs", .type = YAML_NODE, .offset = offsetof(struct claim_file, runs)},
    {.key = "values",
     .type = YAML_NODE,
     .offset = offsetof(struct claim_file, values),
     .required = true},
    {.key = "cases", .type = YAML_NODE, .offset = offsetof(struct claim_file, cases)},
    {0},
};

const struct claim_unit claim_units[] = {
    {"", 1.0, -1, "", ""},           {"%", 0.01, 1, "", " %"},
    {"x", 1.0, 2, "", "x"},          {"GB", 1e9, 0, "", " GB"},
    {"GFLOP", 1e9, 1, "", " GFLOP"}, {"TFLOP/s", 1e12, 0, "", " TFLOP/s"},
    {"$", 1.0, -1, "$", ""},         {"M$", 1e6, 2, "$", " M"},
    {"ms", 1e6, 1, "", " ms"},       {"tok/s", 1.0, 0, "", " tokens/s"},
    {"GPUs", 1.0, 0, "", " GPUs"},   {"J", 1.0, 2, "", " J"},
    {NULL, 0.0, 0, NULL, NULL},
};

bool claim_look_up(const void *context, const char *name, int length, double *number)
{
    const struct claim_names *names = context;
    for (int32_t i = 0; i < names->count; i++) {
        const char *known = names->item->value[i].name;
        if (strncmp(known, name, (size_t)length) == 0 && known[length] == '\0') {
            *number = names->item->result[i];
            return true;
        }
    }
    return false;
}

static void check_expression(struct claim_reader *reader, const struct claim_case *item,
                             int32_t count, const char *text, const struct yaml_node *node,
                             const char *key)
{
    char problem[EXPRESSION_PROBLEM];
    const struct claim_names names = {item, count};
    if (!expression_check(text, claim_look_up, &names, problem)) {
        claim_complain(reader, node, key, problem);
    }
}

static void read_values(struct claim_reader *reader, struct claim_case *item,
                        const struct yaml_node *values)
{
    if (values->kind != YAML_MAPPING) {
        claim_complain(reader, values, "values", "expected names and values");
        return;
    }
    int32_t count = yaml_count(values);
    item->value = claim_take(reader, (size_t)count, sizeof *item->value);
    item->result = claim_take(reader, (size_t)count, sizeof *item->result);
    if (item->value == NULL || item->result == NULL) {
        return;
    }
    for (const struct yaml_node *node = values->child; node != NULL; node = node->next) {
        struct claim_value *value = &item->value[item->num_values];
        *value = (struct claim_value){
            .name = claim_keep(reader, node->key), .file = reader->claim->file, .line = node->line};
        bool is_name = isalpha((unsigned char)node->key[0]) != 0;
        for (const char *byte = node->key; *byte != '\0'; byte++) {
            is_name = is_name && (isalnum((unsigned char)*byte) || *byte == '_');
        }
        if (!is_name) {
            claim_complain(reader, node, node->key, "a name has letters, digits and _ alone");
        } else if (node->kind == YAML_SCALAR) {
            value->text = claim_keep(reader, node->text);
            check_expression(reader, item, item->num_values, value->text, node, node->key);
        } else {
            claim_read_value(reader, value, node);
        }
        item->num_values++;
    }
}

/* Case number index of cases, over the file; the first, 0, is the file as it is. */
static void read_case(struct claim_reader *reader, struct claim_case *item, struct claim_file *file,
                      int32_t index)
{
    struct yaml_node *over = file->cases != NULL ? file->cases->child : NULL;
    for (int32_t i = 1; i < index; i++) {
        over = over->next;
    }
    reader->set = NULL;
    if (index > 0) {
        const struct yaml_node *name = yaml_get(over, "name");
        if (name == NULL || name->kind != YAML_SCALAR || name->text[0] == '\0') {
            claim_complain(reader, over, "cases", "expected a list of cases, each with a name");
            return;
        }
        item->name = claim_keep(reader, name->text);
        for (const struct yaml_node *key = over->child; key != NULL; key = key->next) {
            static const char *const keys[] = {"name", "set", "runs", "values"};
            bool is_known = false;
            for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
                is_known = is_known || strcmp(key->key, keys[i]) == 0;
            }
            if (!is_known) {
                claim_complain(reader, key, key->key, "unknown key of a case");
            }
        }
        reader->set = yaml_get(over, "set");
        if (file->runs == NULL) {
            file->runs = yaml_get(over, "runs");
        } else {
            claim_lay_over(file->runs, yaml_get(over, "runs"));
        }
        claim_lay_over(file->values, yaml_get(over, "values"));
    } else {
        item->name = claim_keep(reader, file->base[0] != '\0' ? file->base : "as stated");
    }
    reader->runs = file->runs;
    read_values(reader, item, file->values);
}

static void check_unit(struct claim_reader *reader, const struct yaml_node *root, const char *unit)
{
    char known[256] = "";
    for (int i = 0; claim_units[i].name != NULL; i++) {
        if (strcmp(unit, claim_units[i].name) == 0) {
            return;
        }
        size_t used = strlen(known);
        (void)snprintf(known + used, sizeof known - used, "%s%s", i > 1 ? ", " : "",
                       claim_units[i].name);
    }
    char text[384];
    (void)snprintf(text, sizeof text, "unknown; known are none and %s", known);
    claim_complain(reader, yaml_get(root, "unit"), "unit", text);
}

static void keep_texts(struct claim_reader *reader, const struct claim_file *file)
{
    struct claim *claim = reader->claim;
    char name[NAME_BYTES];
    data_stem(name, sizeof name, claim->file);
    claim->name = claim_keep(reader, name);
    claim->claim = claim_keep(reader, file->claim);
    claim->source = claim_keep(reader, file->source);
    claim->note = claim_keep(reader, file->note);
    claim->number = claim_keep(reader, file->number);
    claim->number_name = claim_keep(reader, file->number_name);
    claim->unit = claim_keep(reader, file->unit);
    claim->holds = claim_keep(reader, file->holds);
    claim->num_cases =
        1 +
        (file->cases != NULL && file->cases->kind == YAML_SEQUENCE ? yaml_count(file->cases) : 0);
    claim->item = claim_take(reader, (size_t)claim->num_cases, sizeof *claim->item);
}

/* Parses the file again for a case of it. Returns false when reading cannot go on. */
static bool read_again(struct claim_reader *reader, int32_t index, struct claim_file *file)
{
    struct arena arena = {0};
    struct yaml_node *root = NULL;
    *file = (struct claim_file){0};
    enum status status = yaml_load(&root, reader->claim->file, &arena, reader->error);
    if (status == STATUS_OK) {
        status = yaml_fill(file, root, claim_fields, reader->error);
    }
    if (status != STATUS_OK) {
        reader->status = status;
        arena_free(&arena);
        return false;
    }
    if (index == 0) {
        keep_texts(reader, file);
        check_unit(reader, root, file->unit);
        if (file->cases != NULL && file->cases->kind != YAML_SEQUENCE) {
            claim_complain(reader, file->cases, "cases",
                           "expected a list of cases, each with a name");
        }
    }
    struct claim_case *item = reader->claim->item != NULL ? &reader->claim->item[index] : NULL;
    if (item != NULL) {
        read_case(reader, item, file, index);
    }
    if (item != NULL && reader->status == STATUS_OK) {
        check_expression(reader, item, item->num_values, file->number, yaml_get(root, "number"),
                         "number");
        check_expression(reader, item, item->num_values, file->holds, yaml_get(root, "holds"),
                         "holds");
    }
    arena_free(&arena);
    return reader->status == STATUS_OK;
}

enum status claim_read(struct claims *claims, struct claim *claim, const char *path,
                       struct error *error)
{
    struct claim_reader reader = {.claims = claims, .claim = claim, .error = error};
    struct claim_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    claim->file = claim_keep(&reader, path);
    bool goes_on = read_again(&reader, 0, file);
    for (int32_t index = 1; goes_on && index < claim->num_cases; index++) {
        goes_on = read_again(&reader, index, file);
    }
    free(file);
    return reader.status;
}
