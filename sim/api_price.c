/* api_price.c -- reads lists of API prices. */
#include "api_price.h"

#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "data.h"
#include "textfile.h"
#include "yaml_file.h"

#define USD_MAX 1e5
#define MILLION 1e6

struct list_file {
    struct yaml_node *prices;
};

static const struct yaml_field list_fields[] = {
    {"prices", YAML_NODE, offsetof(struct list_file, prices), .required = true},
    {.key = NULL},
};

static const struct yaml_field price_fields[] = {
    {"provider", YAML_TEXT, offsetof(struct api_price, provider), .size = NAME_BYTES,
     .required = true},
    {"sold_as", YAML_TEXT, offsetof(struct api_price, sold_as), .size = NAME_BYTES,
     .required = true},
    {"input", YAML_DOUBLE, offsetof(struct api_price, usd_per_million_input), .required = true,
     .max = USD_MAX},
    {"cached_input", YAML_DOUBLE, offsetof(struct api_price, usd_per_million_cached_input),
     .max = USD_MAX},
    {"output", YAML_DOUBLE, offsetof(struct api_price, usd_per_million_output), .required = true,
     .max = USD_MAX},
    {"date", YAML_TEXT, offsetof(struct api_price, date), .size = NAME_BYTES, .required = true},
    {"source", YAML_TEXT, offsetof(struct api_price, source), .size = SOURCE_BYTES,
     .required = true},
    {.key = NULL},
};

static enum status fill_list(struct api_price_list *list, const struct yaml_node *prices,
                             struct error *error)
{
    enum status status = STATUS_OK;
    if (prices->kind != YAML_SEQUENCE || prices->child == NULL) {
        return error_add(error, STATUS_INVALID, "%s:%d: prices: a list is expected", prices->file,
                         (int)prices->line);
    }
    for (const struct yaml_node *item = prices->child; item != NULL; item = item->next) {
        if (list->count == API_PRICES_MAX) {
            return error_add(error, STATUS_INVALID, "%s:%d: prices: at most %d", item->file,
                             (int)item->line, API_PRICES_MAX);
        }
        struct api_price *price = &list->price[list->count];
        *price = (struct api_price){.usd_per_million_cached_input = -1.0};
        if (item->kind != YAML_MAPPING) {
            status = error_add(error, STATUS_INVALID, "%s:%d: prices: keys and values are expected",
                               item->file, (int)item->line);
        } else if (yaml_fill(price, item, price_fields, error) != STATUS_OK) {
            status = STATUS_INVALID;
        } else {
            list->count++;
        }
    }
    return status;
}

enum status api_price_read(struct api_price_list *list, const char *path, struct error *error)
{
    struct arena arena = {0};
    struct list_file file = {0};
    struct yaml_node *root = NULL;
    list->count = 0;
    enum status status = yaml_load(&root, path, &arena, error);
    if (status == STATUS_OK) {
        status = yaml_fill(&file, root, list_fields, error);
    }
    if (status == STATUS_OK) {
        status = fill_list(list, file.prices, error);
    }
    arena_free(&arena);
    return status;
}

enum status api_price_load(struct api_price_list *list, const char *model, struct error *error)
{
    char path[FILE_PATH_BYTES];
    struct stat entry;
    list->count = 0;
    int length =
        snprintf(path, sizeof path, "%s/scenarios/api-prices/%s.yaml", data_directory(), model);
    if (length < 0 || (size_t)length >= sizeof path || stat(path, &entry) != 0) {
        return STATUS_OK;
    }
    return api_price_read(list, path, error);
}

double api_price_income_usd(const struct api_price *price, const struct cost_traffic *traffic)
{
    double cached_usd = price->usd_per_million_cached_input >= 0.0
                            ? price->usd_per_million_cached_input
                            : price->usd_per_million_input;
    double input_usd = (1.0 - traffic->cached_share) * price->usd_per_million_input +
                       traffic->cached_share * cached_usd;
    return traffic->requests_per_day *
           (traffic->input_tokens * input_usd +
            traffic->output_tokens * price->usd_per_million_output) /
           MILLION;
}
