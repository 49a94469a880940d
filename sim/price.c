/* price.c -- price presets, in dollars or in a currency of one's own. */
#include "price.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preset.h"

#define USD_MIN 0.001 /* a GPU-hour */
#define USD_MAX 1e6

/* A preset's file, and what data_find reads of it on its own. */
struct price_file {
    struct price price; /* first: the table counts from its start */
    char currency[NAME_BYTES];
    double per_gpu_hour;
    double usd_per_unit;
    struct yaml_node *aliases;
};

static const struct yaml_field fields[] = {
    {"aliases", YAML_NODE, offsetof(struct price_file, aliases), .size = 0},
    {"source", YAML_TEXT, offsetof(struct price, source), .size = SOURCE_BYTES, .required = true},
    {"date", YAML_TEXT, offsetof(struct price, date), .size = NAME_BYTES, .required = true},
    {"gpu", YAML_TEXT, offsetof(struct price, gpu), .size = NAME_BYTES, .required = true},
    {"usd_per_gpu_hour", YAML_DOUBLE, offsetof(struct price, usd_per_gpu_hour), .min = USD_MIN,
     .max = USD_MAX},
    {"per_gpu_hour", YAML_DOUBLE, offsetof(struct price_file, per_gpu_hour), .min = 1e-6,
     .max = 1e12},
    {"currency", YAML_TEXT, offsetof(struct price_file, currency), .size = NAME_BYTES},
    {"usd_per_unit", YAML_DOUBLE, offsetof(struct price_file, usd_per_unit), .min = 1e-9,
     .max = 1e6},
    {.key = NULL},
};

/* Whether the file gives its price once, and all that makes dollars of it. */
static enum status check_currency(const struct price_file *file, const struct yaml_node *root,
                                  struct error *error)
{
    const struct yaml_node *usd = yaml_get(root, "usd_per_gpu_hour");
    const struct yaml_node *own = yaml_get(root, "per_gpu_hour");
    const struct yaml_node *code = yaml_get(root, "currency");
    const struct yaml_node *rate = yaml_get(root, "usd_per_unit");
    bool is_dollar = code == NULL || strcmp(file->currency, "USD") == 0;
    enum status status = STATUS_OK;
    if (usd == NULL && own == NULL) {
        status = yaml_complain(error, root, "usd_per_gpu_hour",
                               "missing; or give per_gpu_hour with currency and usd_per_unit");
    }
    if (usd != NULL && own != NULL) {
        status = yaml_complain(error, own, "per_gpu_hour",
                               "usd_per_gpu_hour stands there too; give one of the two");
    }
    if (usd == NULL && own != NULL && code == NULL) {
        status = yaml_complain(error, own, "per_gpu_hour", "needs a currency, as EUR");
    }
    if (usd != NULL && own == NULL && !is_dollar) {
        status = yaml_complain(error, code, "currency",
                               "usd_per_gpu_hour is in dollars; a price in another currency is "
                               "per_gpu_hour");
    }
    if (code != NULL && file->currency[0] != '\0' && !currency_is_code(file->currency)) {
        status = yaml_complain(error, code, "currency", "must be three capital letters, as EUR");
    } else if (own != NULL && !is_dollar && rate == NULL) {
        status = yaml_complain(error, code, "currency",
                               "needs usd_per_unit, the dollars that one of it is worth: other "
                               "prices are in dollars");
    }
    if (is_dollar && rate != NULL) {
        status = yaml_complain(error, rate, "usd_per_unit",
                               "is the rate of a currency other than the dollar");
    }
    return status;
}

/* Dollars of the file's currency, once both are known to be there. */
static enum status convert(struct price_file *file, const struct yaml_node *root,
                           struct error *error)
{
    struct price *price = &file->price;
    if (file->per_gpu_hour > 0.0) {
        currency_set(&price->currency, file->currency, file->usd_per_unit);
        price->usd_per_gpu_hour = file->per_gpu_hour * currency_usd_per_unit(&price->currency);
        if (price->usd_per_gpu_hour < USD_MIN || price->usd_per_gpu_hour > USD_MAX) {
            return yaml_complain(error, yaml_get(root, "per_gpu_hour"), "per_gpu_hour",
                                 "must be worth 0.001 to 1e+06 dollars");
        }
    }
    return STATUS_OK;
}

enum status price_load(struct price *price, const char *name_or_path, struct error *error)
{
    struct price_file file = {0};
    struct preset preset;
    enum status status = preset_open(&preset, "prices", name_or_path, error);
    memcpy(file.price.name, preset.name, sizeof file.price.name);
    if (status == STATUS_OK) {
        status = yaml_fill(&file, preset.root, fields, error);
        enum status checked = check_currency(&file, preset.root, error);
        status = status == STATUS_OK ? checked : status;
    }
    if (status == STATUS_OK) {
        status = convert(&file, preset.root, error);
    }
    *price = file.price;
    preset_close(&preset);
    return status;
}

enum status price_load_for(struct price *price, const char *name, const struct gpu_spec *gpu,
                           struct error *error)
{
    char path[FILE_PATH_BYTES];
    char of_gpu[2 * NAME_BYTES];
    char *end = NULL;
    double usd_per_gpu_hour = strtod(name, &end);
    if (*end == '\0' && end != name) {
        if (!(usd_per_gpu_hour >= USD_MIN && usd_per_gpu_hour <= USD_MAX)) {
            return error_add(error, STATUS_INVALID, "a GPU-hour must cost %g to %g dollars, not %s",
                             USD_MIN, USD_MAX, name);
        }
        *price = (struct price){.name = "own price",
                                .source = "the user",
                                .date = "as given",
                                .usd_per_gpu_hour = usd_per_gpu_hour};
        (void)snprintf(price->gpu, sizeof price->gpu, "%s", gpu != NULL ? gpu->name : "");
        return STATUS_OK;
    }
    if (gpu != NULL) {
        int family = (int)strcspn(gpu->name, "-");
        (void)snprintf(of_gpu, sizeof of_gpu, "%.*s-%.*s", family, gpu->name, NAME_BYTES - 1, name);
        bool has_family = strncmp(name, of_gpu, (size_t)family + 1) == 0; /* "h100-neocloud" */
        if (!has_family && data_find(path, sizeof path, "prices", of_gpu, NULL) == STATUS_OK) {
            name = path;
        }
    }
    return price_load(price, name, error);
}

enum status price_load_usual(struct price *price, const struct gpu_spec *gpu, struct error *error)
{
    static const char *const usual[] = {"neocloud", "lease", "rental-3y", "ondemand"};
    struct error *ignored = calloc(1, sizeof *ignored);
    enum status status = STATUS_INVALID;
    if (ignored == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < sizeof usual / sizeof usual[0] && status != STATUS_OK; i++) {
        status = price_load_for(price, usual[i], gpu, ignored);
    }
    free(ignored);
    return status == STATUS_OK
               ? STATUS_OK
               : error_add(error, STATUS_INVALID,
                           "no price of %s is known; give one (moesim list prices) or dollars a "
                           "GPU-hour",
                           gpu->name);
}
