/* plan_cli.c -- searches a plan, keeps what it found, writes its page and prints it. */
#include "cli/plan_cli.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/print_plan.h"
#include "data.h"
#include "plan_page.h"
#include "plan_serve.h"
#include "progress.h"
#include "rows.h"
#include "store_plan.h"

/* A plan under way. */
struct planning {
    const struct plan_arguments *arguments;
    struct plan plan;
    struct plan_answer answer;
    struct api_price_list prices;
    char plan_id[RUN_ID_BYTES];
    const char **lead; /* [num_leads] sentences; the arena's */
    struct arena arena;
};

static bool show_progress(void *context, int64_t done, int64_t total)
{
    progress_update(context, done, total);
    return true;
}

static enum status search(struct planning *planning, struct error *error)
{
    const struct plan_arguments *arguments = planning->arguments;
    struct store *store = NULL;
    struct plan_store *plan_store = NULL;
    struct progress progress;
    struct plan_options options = {.num_threads = arguments->num_threads > 0
                                                      ? arguments->num_threads
                                                      : (int32_t)omp_get_max_threads(),
                                   .progress = show_progress,
                                   .context = &progress};
    enum status status = store_open_guarded(&store, arguments->results, error);
    if (status == STATUS_OK) {
        status = plan_store_open(&plan_store, store, error);
    }
    if (status == STATUS_OK) {
        options.store = plan_store;
        progress_begin(&progress, "planning", "points");
        status = plan_search(&planning->answer, &planning->plan, &options, error);
        progress_end(&progress);
    }
    if (status == STATUS_OK) {
        status = plan_store_answer(plan_store, planning->plan_id, &planning->plan,
                                   &planning->answer, error);
    }
    plan_store_close(plan_store);
    store_close(store);
    return status;
}

/* What a study says of the plan, from its tables. */
static enum status ask(struct planning *planning, struct error *error)
{
    const struct plan_arguments *arguments = planning->arguments;
    struct store *store = NULL;
    struct rows rows = {0};
    planning->lead =
        arena_alloc(&planning->arena, (size_t)arguments->num_leads + 1, sizeof *planning->lead);
    enum status status = planning->lead == NULL
                             ? STATUS_NO_MEMORY
                             : store_open(&store, arguments->results, false, error);
    for (int32_t i = 0; i < arguments->num_leads && status == STATUS_OK; i++) {
        status = rows_query(&rows, store, arguments->lead[i], planning->plan_id, error);
        const char *text = rows.num_rows > 0 ? rows_value(&rows, 0, 0) : NULL;
        if (status == STATUS_OK && text == NULL) {
            status = error_add(error, STATUS_INVALID, "%s: answer %d: the query gives no text",
                               arguments->study, (int)i + 1);
        } else if (status == STATUS_OK) {
            planning->lead[i] = arena_strdup(&planning->arena, text);
            status = planning->lead[i] == NULL ? STATUS_NO_MEMORY : STATUS_OK;
        }
    }
    rows_free(&rows);
    store_close(store);
    return status;
}

static enum status compute(struct planning *planning, struct error *error)
{
    const struct plan_arguments *arguments = planning->arguments;
    struct plan *plan = &planning->plan;
    enum status status =
        plan_load(plan, arguments->plan, arguments->overrides, arguments->num_overrides, error);
    if (status == STATUS_OK) {
        status = api_price_load(&planning->prices, plan->model.name, error);
    }
    if (status == STATUS_OK && arguments->question != NULL) {
        (void)snprintf(plan->question, sizeof plan->question, "%s", arguments->question);
    }
    if (status == STATUS_OK) {
        status = search(planning, error);
    }
    if (status == STATUS_OK) {
        status = ask(planning, error);
    }
    if (status == STATUS_OK && arguments->report != NULL) {
        struct plan_page page = {.results = arguments->results,
                                 .out = arguments->report,
                                 .plan_id = planning->plan_id,
                                 .plan = plan,
                                 .answer = &planning->answer,
                                 .study = arguments->study,
                                 .lead = planning->lead,
                                 .num_leads = arguments->num_leads};
        status = plan_page_write(&page, error);
    }
    if (status == STATUS_OK && arguments->serve != NULL && planning->answer.winner >= 0) {
        const struct plan_answer *answer = &planning->answer;
        status = plan_serve_write(arguments->serve, plan, answer,
                                  &answer->deployment[answer->winner], 1.0, error);
    }
    return status;
}

static int show_json(const struct planning *planning)
{
    const struct plan_arguments *arguments = planning->arguments;
    cJSON *json = plan_json(&planning->plan, &planning->answer, &planning->prices);
    if (json != NULL && arguments->study != NULL) {
        cJSON_AddStringToObject(json, "study", arguments->study);
        cJSON_AddStringToObject(json, "question", planning->plan.question);
        cJSON *answer = cJSON_GetObjectItem(json, "answer");
        /* The last first, and each to the front: cJSON 1.7.15 of Debian 12 inserts nowhere else. */
        for (int32_t i = arguments->num_leads - 1; i >= 0; i--) {
            cJSON_InsertItemInArray(answer, 0, cJSON_CreateString(planning->lead[i]));
        }
    }
    return print_json(json);
}

/* Who names a GPU alone may not know that its exchanges are fitted under another name. */
static void print_fitted_clusters(const struct plan *plan)
{
    struct arena arena = {0};
    const char *const *names = NULL;
    int32_t count = data_list(&names, "clusters", &arena);
    for (int32_t i = 0; i < plan->num_gpus; i++) {
        const struct cluster *asked = &plan->gpu[i].cluster;
        int32_t found = 0;
        for (int32_t k = 0; asked->preset[0] == '\0' && k < count; k++) {
            struct cluster cluster;
            struct error ignored = {0};
            if (cluster_load(&cluster, names[k], &ignored) == STATUS_OK &&
                strcmp(cluster.gpu.name, asked->gpu.name) == 0) {
                if (found++ == 0) {
                    printf("exchanges of %s are not fitted: intervals say nothing of them. Those "
                           "of --gpu %s",
                           asked->gpu.name, names[k]);
                } else {
                    printf(" and %s", names[k]);
                }
            }
        }
        fputs(found > 0 ? " are\n" : "", stdout);
    }
    arena_free(&arena);
}

static void show_text(const struct planning *planning)
{
    const struct plan_arguments *arguments = planning->arguments;
    if (arguments->study != NULL) {
        printf("%s\n\n", planning->plan.question);
    }
    for (int32_t i = 0; i < arguments->num_leads; i++) {
        printf("%s\n%s", planning->lead[i], i + 1 == arguments->num_leads ? "\n" : "");
    }
    print_plan(&planning->plan, &planning->answer, &planning->prices);
    puts("");
    print_fitted_clusters(&planning->plan);
    printf("points and answer are in %s%s%s%s\n", arguments->results,
           arguments->report != NULL ? "; page: " : "",
           arguments->report != NULL ? arguments->report : "",
           arguments->report != NULL ? "/index.html" : "");
    if (arguments->serve != NULL && planning->answer.winner >= 0) {
        printf("to simulate the winner alone: moesim serve %s/serve.yaml\n", arguments->serve);
    }
}

int cli_plan(const struct plan_arguments *arguments, struct error *error)
{
    struct planning *planning = calloc(1, sizeof *planning);
    if (planning == NULL) {
        return cli_fail(STATUS_NO_MEMORY, error);
    }
    planning->arguments = arguments;
    planning->answer.winner = -1;
    enum status status = compute(planning, error);
    int code = 0;
    if (status != STATUS_OK) {
        code = cli_fail(status, error);
    } else if (arguments->json) {
        code = show_json(planning);
    } else {
        show_text(planning);
    }
    code = code == 0 && planning->answer.winner < 0 ? 1 : code; /* targets that nothing meets */
    plan_answer_free(&planning->answer);
    plan_free(&planning->plan);
    arena_free(&planning->arena);
    free(planning);
    return code;
}
