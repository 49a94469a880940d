/* plan_read_arrivals.c -- `traffic.path` of a plan: a file of requests says who comes. */
#include <stdio.h>
#include <stdlib.h>

#include "plan_read.h"

/* Lines are of files; what the command line says has none. */
static bool is_written(const struct yaml_node *node)
{
    return node != NULL && node->line > 0;
}

void plan_drop_traffic(struct plan_file *file)
{
    struct yaml_node *traffic = yaml_get(file->root, "traffic");
    const struct yaml_node *path = yaml_get(traffic, "path");
    if (path == NULL || is_written(path)) {
        return;
    }
    for (struct yaml_node *child = traffic->child; child != NULL; child = child->next) {
        if (is_written(child)) {
            yaml_remove(traffic, child);
        }
    }
}

/* The plan's own file says each thing once; the command line may differ from its file. */
static void refuse_both(struct plan_file *file, const struct yaml_node *traffic)
{
    static const char *const keys[] = {"input_tokens", "output_tokens"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct yaml_node *node = yaml_get(traffic, keys[i]);
        char key[NAME_BYTES], words[128];
        (void)snprintf(key, sizeof key, "traffic.%s", keys[i]);
        (void)snprintf(words, sizeof words,
                       "traffic.path names requests that have it; give %s or path", keys[i]);
        if (is_written(node)) {
            plan_complain_at(file, node, key, words);
        }
    }
}

void plan_take_arrivals(struct plan_file *file)
{
    struct plan_arrivals *arrivals = &file->plan.arrivals;
    struct cost_traffic *traffic = &file->plan.traffic;
    const struct yaml_node *node = yaml_get(file->root, "traffic");
    double cached_share = traffic->cached_share;
    if (arrivals->path[0] == '\0') {
        return;
    }
    refuse_both(file, node);
    if (!plan_find_path(file, arrivals->path)) {
        char words[PATH_BYTES + 64];
        (void)snprintf(words, sizeof words, "there is no such file of requests: %s",
                       arrivals->path);
        plan_complain(file, "traffic.path", words);
        return;
    }
    enum status status = plan_arrivals_read(arrivals, file->error);
    if (status != STATUS_OK) {
        file->status = status;
        return;
    }
    *traffic = arrivals->traffic;
    if (yaml_get(node, "cached_share") != NULL) {
        traffic->cached_share = cached_share;
    }
    if (traffic->requests_per_day < 1.0 || traffic->requests_per_day > PLAN_REQUESTS_MAX) {
        plan_complain(file, "traffic.path", "makes less than a request a day, or more than 1e15");
    }
}
