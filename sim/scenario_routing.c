/* scenario_routing.c -- the routing section: what routers and drop policies are told, and refuse.
 */
#include <string.h>

#include "gate.h"
#include "scenario_internal.h"

const char *scenario_needs_scores(const struct scenario *scenario)
{
    if (scenario->router->needs_scores) {
        return scenario->router->name;
    }
    struct route_settings settings = scenario_route_settings(scenario);
    bool drops = scenario->drop != NULL && drop_applies(scenario->drop, &settings);
    return drops && scenario->drop->needs_scores ? scenario->drop->name : NULL;
}

struct route_settings scenario_route_settings(const struct scenario *scenario)
{
    struct route_settings settings = scenario->routing;
    settings.capacity_factor = scenario->capacity_factor;
    settings.capacity_scope = scenario->capacity_scope;
    settings.num_ranks = scenario_expert_groups(scenario);
    settings.seed = scenario->seed;
    return settings;
}

static void check_router(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    const struct router *router = scenario->router;
    const struct moe_model *model = &scenario->model;
    if (router == NULL || model->num_experts == 0) {
        return;
    }
    if (router->top_k > 0 && router->top_k != model->top_k) {
        scenario_complain(loader, "routing.policy",
                          "%s is a gate of %d experts a token, %s routes to %d", router->name,
                          (int)router->top_k, model->name, (int)model->top_k);
    }
    if (router->needs_groups && scenario->routing.num_groups == 0 && model->num_expert_groups < 2) {
        scenario_complain(loader, "routing.policy",
                          "%s chooses among groups of experts, and %s has none: set "
                          "routing.num_groups and routing.topk_groups",
                          router->name, model->name);
    }
}

static void check_groups(struct scenario_loader *loader)
{
    const struct route_settings *routing = &loader->scenario->routing;
    const struct moe_model *model = &loader->scenario->model;
    if ((routing->num_groups == 0) != (routing->topk_groups == 0)) {
        scenario_complain(loader,
                          routing->num_groups == 0 ? "routing.topk_groups" : "routing.num_groups",
                          "goes with %s", routing->num_groups == 0 ? "num_groups" : "topk_groups");
        return;
    }
    if (routing->num_groups == 0 || !loader->has_model || model->num_experts == 0) {
        return;
    }
    if (model->num_experts % routing->num_groups != 0) {
        scenario_complain(loader, "routing.num_groups", "%d does not divide the %d experts of %s",
                          (int)routing->num_groups, (int)model->num_experts, model->name);
    } else if (routing->topk_groups > routing->num_groups) {
        scenario_complain(loader, "routing.topk_groups", "%d of %d groups",
                          (int)routing->topk_groups, (int)routing->num_groups);
    } else if (model->num_experts / routing->num_groups * routing->topk_groups < model->top_k) {
        scenario_complain(loader, "routing.topk_groups",
                          "%d groups hold %d experts, a token of %s goes to %d",
                          (int)routing->topk_groups,
                          (int)(model->num_experts / routing->num_groups * routing->topk_groups),
                          model->name, (int)model->top_k);
    }
}

static void check_drop(struct scenario_loader *loader)
{
    const struct scenario *scenario = loader->scenario;
    const struct drop_policy *drop = scenario->drop;
    const struct moe_model *model = &scenario->model;
    if (drop == NULL) {
        return;
    }
    if (scenario->capacity_factor < 0.0 && !drop->may_be_negative) {
        scenario_complain(loader, "routing.capacity_factor",
                          "%g is below 0, which only drop: tutel has a meaning for",
                          scenario->capacity_factor);
    }
    bool is_asked = scenario->capacity_factor != 0.0 || drop->is_adaptive;
    if (is_asked && drop->top_k > 0 && loader->has_model && model->num_experts > 0 &&
        drop->top_k != model->top_k) {
        scenario_complain(loader, "routing.drop",
                          "%s is for gates of %d expert a token, %s routes to %d", drop->name,
                          (int)drop->top_k, model->name, (int)model->top_k);
    }
}

void scenario_check_routing(struct scenario_loader *loader)
{
    if (loader->has_model) {
        check_router(loader);
    }
    check_groups(loader);
    check_drop(loader);
}
