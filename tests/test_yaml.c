/* test_yaml.c -- YAML in, structs and messages out. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "suggest.h"
#include "yaml_file.h"

struct target {
    char name[8];
    int32_t ep;
    int64_t bytes;
    uint64_t seed;
    double factor;
    bool drop;
    int32_t phase;
    struct yaml_node *node;
};

static const char *const phases[] = {"decode", "prefill", NULL};

static const struct yaml_field inner_table[] = {
    {.key = "ep",
     .type = YAML_INT32,
     .offset = offsetof(struct target, ep),
     .min = 1,
     .max = 65536,
     .required = true},
    {.key = "bytes", .type = YAML_INT64, .offset = offsetof(struct target, bytes)},
    {.key = NULL},
};

static const struct yaml_field table[] = {
    {.key = "name", .type = YAML_TEXT, .offset = offsetof(struct target, name), .size = 8},
    {.key = "parallel", .type = YAML_TABLE, .table = inner_table},
    {.key = "seed", .type = YAML_UINT64, .offset = offsetof(struct target, seed)},
    {.key = "factor",
     .type = YAML_DOUBLE,
     .offset = offsetof(struct target, factor),
     .min = 0,
     .max = 1e301},
    {.key = "drop", .type = YAML_BOOL, .offset = offsetof(struct target, drop)},
    {.key = "phase",
     .type = YAML_CHOICE,
     .offset = offsetof(struct target, phase),
     .choices = phases},
    {.key = "list", .type = YAML_NODE, .offset = offsetof(struct target, node)},
    {.key = NULL},
};

static struct arena arena;
static struct error error;
static struct target target;

static void forget(void)
{
    arena_free(&arena);
}

TestSuite(yaml, .fini = forget);

static struct yaml_node *parsed(const char *text)
{
    struct yaml_node *root = NULL;
    enum status status = yaml_parse(&root, text, "x.yaml", &arena, &error);
    cr_assert_eq(status, STATUS_OK, "%s", error.text);
    return root;
}

static enum status filled(const char *text)
{
    return yaml_fill(&target, parsed(text), table, &error);
}

static void expect_refused(const char *text, const char *message)
{
    struct yaml_node *root = NULL;
    struct error problem = {0};
    cr_expect_eq(yaml_parse(&root, text, "x.yaml", &arena, &problem), STATUS_INVALID, "%s", text);
    cr_expect_null(root);
    cr_expect(strstr(problem.text, message) != NULL, "'%s' lacks '%s'", problem.text, message);
}

Test(yaml, fills_every_type_from_block_and_flow_style)
{
    enum status status = filled("name: moe\nparallel: {ep: 8, bytes: 2e12}\n"
                                "seed: 18446744073709551615\nfactor: 1.25\ndrop: true\n"
                                "phase: prefill\nlist: [1, 2]\n");

    cr_assert_eq(status, STATUS_OK, "%s", error.text);
    cr_expect_str_eq(target.name, "moe");
    cr_expect_eq(target.ep, 8);
    cr_expect_eq(target.bytes, INT64_C(2000000000000));
    cr_expect_eq(target.seed, UINT64_MAX);
    cr_expect_eq(target.factor, 1.25);
    cr_expect(target.drop);
    cr_expect_eq(target.phase, 1);
    cr_expect_eq(target.node->kind, YAML_SEQUENCE);
    cr_expect_str_eq(target.node->child->next->text, "2");
}

Test(yaml, absent_keys_keep_their_defaults)
{
    target.factor = 0.5;

    enum status status = filled("name: a\n");

    cr_expect_eq(status, STATUS_OK);
    cr_expect_eq(target.factor, 0.5);
}

Test(yaml, reports_all_problems_at_once_with_file_line_and_path)
{
    enum status status = filled("name: much too long\n"
                                "parallel:\n"
                                "  ep: eight\n"
                                "  byte: 3\n"
                                "factr: 1\n"
                                "drop: maybe\n"
                                "phase: decod\n"
                                "seed: -1\n"
                                "factor: -2\n");

    cr_expect_eq(status, STATUS_INVALID);
    cr_expect_eq(error.num_problems, 8);
    cr_expect_str_eq(error.text,
                     "x.yaml:1: name: is longer than 7 bytes\n"
                     "x.yaml:3: parallel.ep: expected a whole number, got 'eight'\n"
                     "x.yaml:4: parallel.byte: unknown key; did you mean 'bytes'?\n"
                     "x.yaml:5: factr: unknown key; did you mean 'factor'?\n"
                     "x.yaml:6: drop: expected true or false, got 'maybe'\n"
                     "x.yaml:7: phase: 'decod' is none of decode, prefill; did you mean "
                     "'decode'?\n"
                     "x.yaml:8: seed: must be between 0 and 1.84467440737096e+19\n"
                     "x.yaml:9: factor: must be at least 0\n");
}

Test(yaml, lists_the_keys_that_are_known_where_none_is_near)
{
    cr_expect_eq(filled("parallel: {ep: 8, valley: 1}\nvalley: 1\n"), STATUS_INVALID);

    cr_expect_str_eq(error.text, "x.yaml:1: parallel.valley: unknown key; known are ep, bytes\n"
                                 "x.yaml:2: valley: unknown key; known are name, parallel, seed, "
                                 "factor, drop, phase, list\n");
}

Test(yaml, says_once_what_is_said_twice_in_a_row)
{
    const char *const said[] = {"a problem", "a problem", "problem", "a problem"};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        cr_expect_eq(error_add(&error, STATUS_INVALID, "%s", said[i]), STATUS_INVALID);
    }

    cr_expect_str_eq(error.text, "a problem\nproblem\na problem\n");
    cr_expect_eq(error.num_problems, 3);
}

Test(yaml, names_a_missing_key_and_a_number_out_of_range)
{
    cr_expect_eq(filled("name: a\nparallel: {bytes: 1}\n"), STATUS_INVALID);
    cr_expect_eq(filled("\nparallel: {ep: 0}\n"), STATUS_INVALID);
    cr_expect_eq(filled("parallel: 3\n"), STATUS_INVALID);

    cr_expect_str_eq(error.text, "x.yaml:2: parallel.ep: is missing\n"
                                 "x.yaml:2: parallel.ep: must be between 1 and 65536\n"
                                 "x.yaml:1: parallel: expected a mapping of keys, got '3'\n");
}

Test(yaml, refuses_numbers_that_only_look_like_numbers)
{
    static const char *const texts[] = {"0x10", "inf",   "nan",   "1_000", "1e",  ".",
                                        "''",   "1e999", "\"8\"", "1 2",   "[1]", "--1"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "factor: %s\n", texts[i]);
        cr_expect_eq(filled(text), STATUS_INVALID, "%s", texts[i]);
        (void)snprintf(text, sizeof text, "parallel: {ep: %s}\n", texts[i]);
        cr_expect_eq(filled(text), STATUS_INVALID, "%s", texts[i]);
    }
    cr_expect_eq(filled("parallel: {ep: 1.5}\n"), STATUS_INVALID);
    cr_expect_eq(filled("parallel: {ep: 1, bytes: 9223372036854775808}\n"), STATUS_INVALID);
    cr_expect_eq(filled("seed: 18446744073709551616\n"), STATUS_INVALID);
}

Test(yaml, refuses_what_a_configuration_does_not_need)
{
    expect_refused("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: given twice, first on line 1");
    expect_refused("a: &x [1]\nb: *x\n", "x.yaml:2: aliases");
    expect_refused("a: 1\n---\nb: 2\n", "x.yaml:2: a second document");
    expect_refused("a: !!int 3\n", "x.yaml:1: tags");
    expect_refused("? [a, b]\n: 3\n", "x.yaml:1: a key must be a word");
    expect_refused("a: \xff\n", "UTF-8");
    expect_refused("a: \"x\\0y\"\n", "x.yaml:1: a NUL character");
    expect_refused("a: [1\nb: 2\n", "x.yaml:");
    expect_refused("", "x.yaml: is empty");
    expect_refused("# nothing but a comment\n", "x.yaml: is empty");
    expect_refused("a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
                   "x.yaml:1: nested deeper than 32 levels");
}

Test(yaml, refuses_files_that_are_no_text_or_too_long)
{
    char path[] = "/tmp/moesim-yaml-XXXXXX";
    int descriptor = mkstemp(path);
    FILE *file = fdopen(descriptor, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite("a: 1\nb: \0\n", 1, 10, file), 10);
    cr_assert_eq(fflush(file), 0);
    struct yaml_node *root = NULL;

    cr_expect_eq(yaml_load(&root, path, &arena, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, ":2: a NUL byte") != NULL, "%s", error.text);
    cr_assert_eq(fseek(file, 1 << 20, SEEK_SET), 0);
    cr_assert_eq(fputc('x', file), 'x');
    cr_assert_eq(fclose(file), 0);
    cr_expect_eq(yaml_load(&root, path, &arena, &error), STATUS_INVALID);
    cr_expect(strstr(error.text, "larger than 1 MiB") != NULL);
    cr_expect_eq(yaml_load(&root, "/tmp", &arena, &error), STATUS_IO);
    cr_expect_eq(yaml_load(&root, "/tmp/no/such.yaml", &arena, &error), STATUS_IO);
    cr_expect_eq(unlink(path), 0);
}

Test(yaml, merges_mappings_key_by_key_and_replaces_the_rest)
{
    struct yaml_node *base = parsed("a: {x: 1, y: [1, 2]}\nb: 2\n");
    struct yaml_node *overlay = parsed("a: {y: [3], z: 4}\nc: 5\nb: {d: 6}\n");

    struct yaml_node *merged = yaml_merge(base, overlay);

    cr_expect_str_eq(yaml_write(merged, &arena),
                     "a:\n  x: 1\n  y:\n    - 3\n  z: 4\nb:\n  d: 6\nc: 5\n");
}

Test(yaml, overrides_by_path_and_list_index_makes_missing_mappings_and_removes)
{
    struct yaml_node *root = parsed("a: {x: 1}\ngone: 1\nlist: [1, {k: 2}]\n");

    cr_expect_eq(yaml_override(root, "a.x=[7, 8]", &arena, &error), STATUS_OK);
    cr_expect_eq(yaml_override(root, "new.deep=true", &arena, &error), STATUS_OK);
    cr_expect_eq(yaml_override(root, "list.1.k=a=b", &arena, &error), STATUS_OK);
    cr_expect_eq(yaml_override(root, "gone=", &arena, &error), STATUS_OK);

    cr_expect_str_eq(yaml_write(root, &arena), "a:\n  x:\n    - 7\n    - 8\nlist:\n  - 1\n  -\n"
                                               "    k: \"a=b\"\nnew:\n  deep: true\n");
}

Test(yaml, refuses_overrides_that_name_nothing)
{
    struct yaml_node *root = parsed("a: {x: 1}\nlist: [1]\n");

    cr_expect_eq(yaml_override(root, "a.x", &arena, &error), STATUS_INVALID);
    cr_expect_eq(yaml_override(root, "=3", &arena, &error), STATUS_INVALID);
    cr_expect_eq(yaml_override(root, "a..x=3", &arena, &error), STATUS_INVALID);
    cr_expect_eq(yaml_override(root, "list.1=3", &arena, &error), STATUS_INVALID);
    cr_expect_eq(yaml_override(root, "list.x=3", &arena, &error), STATUS_INVALID);
    cr_expect_eq(yaml_override(root, "a.x=[3", &arena, &error), STATUS_INVALID);
    cr_expect_eq(error.num_problems, 6);
}

Test(yaml, names_an_override_in_messages)
{
    struct yaml_node *root = parsed("name: a\n");
    cr_assert_eq(yaml_override(root, "parallel.epp=3", &arena, &error), STATUS_OK);

    cr_expect_eq(yaml_fill(&target, root, table, &error), STATUS_INVALID);

    cr_expect_str_eq(error.text, "--set parallel.ep: is missing\n"
                                 "--set parallel.epp: unknown key; did you mean 'ep'?\n");
}

Test(yaml, writes_what_reads_back_as_the_same_tree)
{
    const char *text = "a: \"8\"\nb: 'it''s: #1'\nc: \"\\x1b\\ttab\"\nd: {}\ne: []\nf: null\n"
                       "g: \"\"\nh: [[1, [2]], {i: -1e-3}]\n\"k: l\": x y\nm: \"true\"\n"
                       "n: \xc3\xa9t\xc3\xa9\no: |\n  two\n  lines\np: '-'\n";

    char *once = yaml_write(parsed(text), &arena);
    char *twice = yaml_write(parsed(once), &arena);

    cr_expect_str_eq(twice, once);
    cr_expect(strstr(once, "a: \"8\"\n") != NULL);
    cr_expect(strstr(once, "m: \"true\"\n") != NULL);
    cr_expect(strstr(once, "\"k: l\": \"x y\"\n") != NULL);
}

Test(yaml, a_text_full_of_control_characters_does_not_reach_the_terminal)
{
    cr_expect_eq(filled("drop: \"\\e[31m\"\n"), STATUS_INVALID);

    cr_expect(strchr(error.text, 0x1b) == NULL);
}

Test(suggest, counts_edits_with_swaps_and_ignores_case)
{
    cr_expect_eq(suggest_distance("stategy", "strategy"), 1);
    cr_expect_eq(suggest_distance("dispacth", "dispatch"), 1);
    cr_expect_eq(suggest_distance("EPLB", "eplb"), 0);
    cr_expect_eq(suggest_distance("", "abc"), 3);
    cr_expect_eq(suggest_distance("kitten", "sitting"), 3); /* the textbook pair */
}

Test(suggest, keeps_the_nearest_and_drops_the_far)
{
    struct suggestion suggestion = {.word = "eplp"};

    suggest_offer(&suggestion, "static");
    cr_expect_null(suggestion.nearest);
    suggest_offer(&suggestion, "ep");
    suggest_offer(&suggestion, "eplb");
    suggest_offer(&suggestion, "epl");

    cr_expect_str_eq(suggestion.nearest, "eplb");
    cr_expect_eq(suggestion.distance, 1);
}
