/*
 * bench_options.c -- moe-bench's flags: one table, from which both the parser and the help are
 * made.
 */
#include "bench.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *const dtype_names[] = {"fp32", "bf16", "fp8"};
static const char *const score_names[] = {"softmax", "chosen_softmax", "sigmoid", "chosen_sigmoid"};
static const char *const group_names[] = {"max", "top2"};
static const char *const activation_names[] = {"swiglu", "swiglu_clamped", "gelu"};
static const char *const device_names[] = {"cuda", "cpu"};
static const char *const size_names[] = {"full", "small"};
static const char *const ep_names[] = {"loopback", "nccl"};

const char *bench_dtype_name(enum dtype dtype)
{
    return dtype_names[dtype];
}

const char *bench_score_name(enum gate_score score)
{
    return score_names[score];
}

const char *bench_activation_name(enum activation activation)
{
    return activation_names[activation];
}

enum option_kind {
    OPTION_HEADING, /* of the help */
    OPTION_FLAG,
    OPTION_INT,
    OPTION_REAL,
    OPTION_FLOAT,
    OPTION_SEED,
    OPTION_TEXT,
    OPTION_NAME,
    OPTION_CHOICE, /* an enum, or a bool of two words */
    OPTION_TOKENS,
    OPTION_ROUTINGS,
};

struct option {
    const char *name;
    const char *value; /* as the help shows it */
    const char *help;
    enum option_kind kind;
    size_t offset; /* in struct bench_options */
    double min;
    double max;
    const char *const *words; /* OPTION_CHOICE */
    int32_t num_words;
};

#define AT(field)   offsetof(struct bench_options, field)
#define WORDS(list) .words = list, .num_words = (int32_t)(sizeof(list) / sizeof(list)[0])
#define HEADING(text)                                                                              \
    {                                                                                              \
        .help = text, .kind = OPTION_HEADING                                                       \
    }

static const struct option options_table[] = {
    {"device", "cuda|cpu", "where (default cuda)", OPTION_CHOICE, AT(device), WORDS(device_names)},
    {"csv", "FILE", "append rows to FILE; - is stdout", OPTION_TEXT, AT(csv), 0, 0, NULL, 0},
    {"seed", "N", "of all random data (default 1)", OPTION_SEED, AT(seed), 0, 0, NULL, 0},
    {"dry-run", NULL, "list what would be done", OPTION_FLAG, AT(dry_run), 0, 0, NULL, 0},
    {"size", "full|small", "of the cases of check (default full)", OPTION_CHOICE, AT(small),
     WORDS(size_names)},
    {"kernels", "A,B", "check and time only these", OPTION_TEXT, AT(kernels), 0, 0, NULL, 0},
    {"versions", "A,B", "check and time only these: v1, mma, stream, ...", OPTION_TEXT,
     AT(versions), 0, 0, NULL, 0},
    {"without", "A,B", "not these, nor shall automatic choose them", OPTION_TEXT, AT(without), 0, 0,
     NULL, 0},
    {"peers", NULL, "time other libraries alternately with ours", OPTION_FLAG, AT(peers), 0, 0,
     NULL, 0},
    {"turns", NULL, "forward: print \"turn\" and wait for a line before each round", OPTION_FLAG,
     AT(turns), 0, 0, NULL, 0},
    {"budget", "SECONDS", "begin no case after so long (default 0: no limit)", OPTION_REAL,
     AT(budget_s), 0, 1e6, NULL, 0},
    {"samples", "N", "timed repetitions of a case (default 30)", OPTION_INT, AT(num_samples), 3,
     10000, NULL, 0},
    {"threads", "N", "of the CPU device (default 0: all)", OPTION_INT, AT(num_threads), 0, 4096,
     NULL, 0},
    HEADING("The group:"),
    {"ranks", "N", "EP ranks (default 1)", OPTION_INT, AT(num_ranks), 1, 1024, NULL, 0},
    {"ep", "loopback|nccl", "virtual ranks on one GPU (default), or a GPU each", OPTION_CHOICE,
     AT(ep), WORDS(ep_names)},
    {"comm-sms", "N", "multiprocessors left to communication (default 0)", OPTION_INT, AT(comm_sms),
     0, 512, NULL, 0},
    HEADING("The layer (default: Mixtral 8x7B):"),
    {"name", "NAME", "of the model, for the CSV", OPTION_NAME, AT(layer.name), 0, 0, NULL, 0},
    {"hidden-dim", "N", "of a token", OPTION_INT, AT(layer.expert.hidden_dim), 8, 65536, NULL, 0},
    {"ffn-dim", "N", "of one expert", OPTION_INT, AT(layer.expert.ffn_dim), 8, 262144, NULL, 0},
    {"num-experts", "N", "routed ones", OPTION_INT, AT(layer.gate.num_experts), 1, GATE_EXPERTS_MAX,
     NULL, 0},
    {"top-k", "N", "experts a token", OPTION_INT, AT(layer.gate.top_k), 1, GATE_TOP_K_MAX, NULL, 0},
    {"shared-ffn-dim", "N", "of all shared experts together (default 0)", OPTION_INT,
     AT(layer.shared_ffn_dim), 0, 262144, NULL, 0},
    {"score", "NAME", "softmax, chosen_softmax, sigmoid, chosen_sigmoid", OPTION_CHOICE,
     AT(layer.gate.score), WORDS(score_names)},
    {"renormalize", NULL, "chosen weights sum to 1", OPTION_FLAG, AT(layer.gate.renormalize), 0, 0,
     NULL, 0},
    {"num-groups", "N", "of experts (default 1)", OPTION_INT, AT(layer.gate.num_groups), 1, 1024,
     NULL, 0},
    {"topk-groups", "N", "groups a token may use (default 1)", OPTION_INT,
     AT(layer.gate.topk_groups), 1, 1024, NULL, 0},
    {"group-score", "max|top2", "(default max)", OPTION_CHOICE, AT(layer.gate.group_score),
     WORDS(group_names)},
    {"scale", "X", "routed scaling factor (default 1)", OPTION_FLOAT, AT(layer.gate.scale), 1e-6,
     1e6, NULL, 0},
    {"choice-bias", NULL, "scores are biased for choosing (DeepSeek-V3)", OPTION_FLAG,
     AT(layer.choice_bias), 0, 0, NULL, 0},
    {"biases", NULL, "router and experts have biases (GPT-OSS)", OPTION_FLAG, AT(layer.biases), 0,
     0, NULL, 0},
    {"weigh-input", NULL, "gate weights multiply inputs (Llama-4)", OPTION_FLAG,
     AT(layer.weigh_input), 0, 0, NULL, 0},
    {"activation", "NAME", "swiglu, swiglu_clamped, gelu", OPTION_CHOICE,
     AT(layer.expert.activation), WORDS(activation_names)},
    {"dtype", "NAME", "bf16, fp8; fp32 on the CPU (default bf16)", OPTION_CHOICE, AT(layer.dtype),
     WORDS(dtype_names)},
    HEADING("The tokens:"),
    {"tokens", "N,...", "of the whole group (default 1,8,64,512,4096,16384)", OPTION_TOKENS,
     AT(num_tokens), 0, 1048576, NULL, 0},
    {"routing", "NAME,...", "balanced (default), uniform, lognormal, one, FILE.npy[:layer]",
     OPTION_ROUTINGS, AT(routing), 0, 0, NULL, 0},
    {"sigma", "X", "of lognormal popularity (default 1)", OPTION_REAL, AT(sigma), 0, 10, NULL, 0},
};

#define NUM_OPTIONS (sizeof options_table / sizeof options_table[0])

void bench_options_help(FILE *file)
{
    fputs("options:\n", file);
    for (const struct option *option = options_table; option < options_table + NUM_OPTIONS;
         option++) {
        if (option->kind == OPTION_HEADING) {
            fprintf(file, "\n%s\n", option->help);
            continue;
        }
        char left[64];
        snprintf(left, sizeof left, "--%s %s", option->name,
                 option->value != NULL ? option->value : "");
        fprintf(file, "  %-24s  %s\n", left, option->help);
    }
    fputs("\nexit codes: 0; 1: a kernel differs, a call fails, an option is wrong; 77: the device "
          "is not there\n\n"
          "example: Mixtral 8x7B on the GPU, 1 and 4096 tokens, all experts alike and some hot:\n"
          "  moe-bench forward --tokens 1,4096 --routing balanced,lognormal --csv forward.csv\n",
          file);
}

static void defaults(struct bench_options *options)
{
    static const int32_t tokens[] = {1, 8, 64, 512, 4096, 16384};
    *options = (struct bench_options){
        .seed = 1,
        .num_samples = 30,
        .num_ranks = 1,
        .sigma = 1.0,
        .layer = {.name = "mixtral-8x7b",
                  .dtype = DTYPE_BF16,
                  .expert = {.num_experts = 8, .hidden_dim = 4096, .ffn_dim = 14336},
                  .gate = {.num_experts = 8,
                           .top_k = 2,
                           .renormalize = true,
                           .num_groups = 1,
                           .topk_groups = 1,
                           .scale = 1.0f}},
        .num_routings = 1,
        .routing = {"balanced"},
    };
    options->num_tokens_count = (int32_t)(sizeof tokens / sizeof tokens[0]);
    memcpy(options->num_tokens, tokens, sizeof tokens);
}

/* A number of the whole text up to end; false where there is none. */
static bool read_real(const char *text, const char *end, double *value)
{
    char *stop;
    errno = 0;
    *value = strtod(text, &stop);
    return stop == end && stop != text && errno == 0 && isfinite(*value);
}

static enum status bad_value(struct error *error, const struct option *option, const char *text)
{
    if (option->num_words > 0) {
        char words[128] = "";
        for (int32_t index = 0; index < option->num_words; index++) {
            size_t used = strlen(words);
            snprintf(words + used, sizeof words - used, "%s%s", index > 0 ? ", " : "",
                     option->words[index]);
        }
        return error_add(error, STATUS_INVALID, "--%s %s: one of %s is needed", option->name, text,
                         words);
    }
    return error_add(
        error, STATUS_INVALID, "--%s %s: a %s from %.10g to %.10g is needed", option->name, text,
        option->kind == OPTION_INT || option->kind == OPTION_TOKENS ? "whole number" : "number",
        option->min, option->max);
}

static enum status read_tokens(struct bench_options *options, const struct option *option,
                               const char *text, struct error *error)
{
    options->num_tokens_count = 0;
    const char *next = text;
    while (options->num_tokens_count < BENCH_LIST_MAX) {
        const char *end = next + strcspn(next, ",");
        double value;
        if (!read_real(next, end, &value) || value < option->min || value > option->max ||
            floor(value) < value) {
            return bad_value(error, option, text);
        }
        options->num_tokens[options->num_tokens_count++] = (int32_t)value;
        if (*end == '\0') {
            return STATUS_OK;
        }
        next = end + 1;
    }
    return error_add(error, STATUS_INVALID, "--tokens: at most %d numbers", BENCH_LIST_MAX);
}

/* Cuts the argument in place: argv's strings may be changed (C17, 5.1.2.2.1). */
static enum status read_routings(struct bench_options *options, char *text, struct error *error)
{
    options->num_routings = 0;
    for (char *name = text; name != NULL;) {
        if (options->num_routings == BENCH_LIST_MAX) {
            return error_add(error, STATUS_INVALID, "--routing: at most %d names", BENCH_LIST_MAX);
        }
        char *comma = strchr(name, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        options->routing[options->num_routings++] = name;
        name = comma;
    }
    return STATUS_OK;
}

static enum status read_choice(char *field, const struct option *option, const char *text,
                               struct error *error)
{
    for (int32_t index = 0; index < option->num_words; index++) {
        if (strcmp(text, option->words[index]) == 0) {
            if (option->words == size_names) {
                bool small = index == 1;
                memcpy(field, &small, sizeof small);
            } else {
                memcpy(field, &index, sizeof index); /* enums are int-sized here: see below */
            }
            return STATUS_OK;
        }
    }
    return bad_value(error, option, text);
}

_Static_assert(sizeof(enum dtype) == sizeof(int32_t) && sizeof(enum gate_score) == sizeof(int32_t),
               "read_choice writes enums as int32_t");

static enum status read_number(char *field, const struct option *option, const char *text,
                               struct error *error)
{
    double value;
    if (!read_real(text, text + strlen(text), &value) || value < option->min ||
        value > option->max || (option->kind == OPTION_INT && floor(value) < value)) {
        return bad_value(error, option, text);
    }
    int32_t whole = (int32_t)value;
    float single = (float)value;
    if (option->kind == OPTION_INT) {
        memcpy(field, &whole, sizeof whole);
    } else if (option->kind == OPTION_FLOAT) {
        memcpy(field, &single, sizeof single);
    } else {
        memcpy(field, &value, sizeof value);
    }
    return STATUS_OK;
}

static enum status read_seed(char *field, const char *text, struct error *error)
{
    char *end;
    errno = 0;
    uint64_t seed = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0) {
        return error_add(error, STATUS_INVALID, "--seed %s: a whole number is needed", text);
    }
    memcpy(field, &seed, sizeof seed);
    return STATUS_OK;
}

static enum status read_value(struct bench_options *options, const struct option *option,
                              char *text, struct error *error)
{
    char *field = (char *)options + option->offset;
    switch (option->kind) {
    case OPTION_HEADING:
    case OPTION_FLAG:
        break;
    case OPTION_INT:
    case OPTION_REAL:
    case OPTION_FLOAT:
        return read_number(field, option, text, error);
    case OPTION_SEED:
        return read_seed(field, text, error);
    case OPTION_TEXT:
        memcpy(field, &text, sizeof text);
        return STATUS_OK;
    case OPTION_NAME:
        if (strlen(text) >= BENCH_NAME_MAX || strpbrk(text, ",\"\n") != NULL) {
            return error_add(error, STATUS_INVALID,
                             "--name %s: at most %d characters, no comma or quote", text,
                             BENCH_NAME_MAX - 1);
        }
        strcpy(field, text);
        return STATUS_OK;
    case OPTION_CHOICE:
        return read_choice(field, option, text, error);
    case OPTION_TOKENS:
        return read_tokens(options, option, text, error);
    case OPTION_ROUTINGS:
        return read_routings(options, text, error);
    }
    return STATUS_OK;
}

/* What single options cannot tell. */
static void check_layer(struct bench_options *options, struct error *error)
{
    struct bench_layer *layer = &options->layer;
    layer->expert.num_experts = layer->gate.num_experts;
    if (!gate_rule_valid(&layer->gate)) {
        error_add(error, STATUS_INVALID,
                  "%d experts, top-%d, %d groups of which %d: no such gate. Groups divide the "
                  "experts, top2 takes groups of two or more, and the groups chosen hold top_k",
                  (int)layer->gate.num_experts, (int)layer->gate.top_k, (int)layer->gate.num_groups,
                  (int)layer->gate.topk_groups);
    }
    if (layer->choice_bias && layer->gate.score != GATE_SIGMOID) {
        error_add(error, STATUS_INVALID, "--choice-bias goes with --score sigmoid");
    }
    if (layer->dtype == DTYPE_FP32 && options->device == BENCH_DEVICE_CUDA) {
        error_add(error, STATUS_INVALID, "--dtype fp32: the CUDA kernels take bf16 and fp8");
    }
    if (options->num_ranks > layer->gate.num_experts) {
        error_add(error, STATUS_INVALID, "--ranks %d: more than experts", (int)options->num_ranks);
    }
}

static const struct option *find_option(const char *text)
{
    for (const struct option *option = options_table; option < options_table + NUM_OPTIONS;
         option++) {
        if (option->name != NULL && strncmp(text, "--", 2) == 0 &&
            strcmp(text + 2, option->name) == 0) {
            return option;
        }
    }
    return NULL;
}

enum status bench_options_parse(struct bench_options *options, int argc, char **argv,
                                struct error *error)
{
    defaults(options);
    for (int index = 2; index < argc; index++) {
        const struct option *option = find_option(argv[index]);
        if (option == NULL) {
            error_add(error, STATUS_INVALID, "%s: no such option", argv[index]);
        } else if (option->kind == OPTION_FLAG) {
            memcpy((char *)options + option->offset, &(bool){true}, sizeof(bool));
        } else if (index + 1 == argc) {
            error_add(error, STATUS_INVALID, "%s needs a value: %s", argv[index], option->value);
        } else if (read_value(options, option, argv[++index], error) != STATUS_OK) {
            continue; /* told already; the other options may be wrong too */
        }
    }
    check_layer(options, error);
    return error->num_problems == 0 ? STATUS_OK : STATUS_INVALID;
}
