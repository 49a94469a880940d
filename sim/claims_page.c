/*
 * claims_page.c -- claims on one page: verdicts first, then each with its number, its cases and
 * what it was computed from.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claims_internal.h"
#include "data.h"
#include "draft.h"
#include "html.h"
#include "textfile.h"

static const char own_style[] =
    ".verdict { display: inline-block; padding: 0.05rem 0.55rem; border-radius: 0.8rem;\n"
    "  border: 1px solid currentColor; font-size: 0.84rem; font-weight: 650; white-space: nowrap; "
    "}\n"
    ".holds { color: #00694e; } .if { color: #8a5a00; } .not { color: #a83200; }\n"
    ".unknown { color: var(--soft); }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  .holds { color: #5fd3ae; } .if { color: #f0b95a; } .not { color: #ff9a70; } }\n"
    "article { margin: 0 0 1.6rem; padding: 1.3rem 1.4rem 1.2rem; background: var(--card);\n"
    "  border: 1px solid var(--line); border-radius: 0.6rem; overflow-wrap: anywhere; }\n"
    "article h3 { margin: 0 0 0.5rem; } article p { margin: 0.5rem 0 0; max-width: 52rem; }\n"
    ".number { font-size: 1.5rem; font-weight: 620; font-variant-numeric: tabular-nums; }\n"
    "table.wrap { width: 100%; } .wrap td:last-child { min-width: 4rem; }\n"
    ".wrap td:first-child { width: 60%; } .n { white-space: nowrap !important; }\n"
    "@media (max-width: 640px) { article { margin: 0 -0.3rem 1.2rem; padding: 1rem 0.8rem; }\n"
    "  .wrap .verdict { font-size: 0.78rem; padding: 0 0.4rem; }\n"
    "  .wrap td { padding-right: 0.5rem; min-width: 0; } .wrap th { overflow-wrap: normal; }\n"
    "  .wrap td:last-child { min-width: 0; padding-right: 0; overflow-wrap: normal; }\n"
    "  .wrap .n { white-space: normal !important; } }\n";

static const char *const verdict_class[] = {
    [CLAIM_HOLDS] = "holds",
    [CLAIM_HOLDS_IF] = "if",
    [CLAIM_DOES_NOT_HOLD] = "not",
    [CLAIM_UNKNOWN] = "unknown",
};

static void write_verdict(FILE *page, enum claim_verdict verdict)
{
    fprintf(page, "<span class=\"verdict %s\">%s</span>", verdict_class[verdict],
            verdict == CLAIM_HOLDS_IF ? "holds if \xe2\x80\xa6" : claim_verdict_name(verdict));
}

static void write_header(const struct claims *claims, FILE *page)
{
    int32_t count[CLAIM_UNKNOWN + 1] = {0};
    for (int32_t i = 0; i < claims->count; i++) {
        count[claims->claim[i].verdict]++;
    }
    fputs("<body>\n<a class=\"skip\" href=\"#main\">Skip to the verdicts</a>\n"
          "<header><div class=\"page\">\n<p class=\"brand\">moesim claims</p>\n"
          "<h1>What is said about mixture-of-experts economics, and what comes out</h1>\n",
          page);
    fprintf(
        page,
        "<p class=\"answer\">Of %d statement%s, %d hold%s, %d hold%s under conditions, %d do%s not",
        (int)claims->count, claims->count == 1 ? "" : "s", (int)count[CLAIM_HOLDS],
        count[CLAIM_HOLDS] == 1 ? "s" : "", (int)count[CLAIM_HOLDS_IF],
        count[CLAIM_HOLDS_IF] == 1 ? "s" : "", (int)count[CLAIM_DOES_NOT_HOLD],
        count[CLAIM_DOES_NOT_HOLD] == 1 ? "es" : "");
    if (count[CLAIM_UNKNOWN] > 0) {
        fprintf(page, ", and %d could not be computed", (int)count[CLAIM_UNKNOWN]);
    }
    fputs(
        ".</p>\n<p class=\"setting\">A verdict follows from the numbers: a statement holds if its "
        "test does in every case, does not if it does in none, and holds if a case is one of "
        "those in which it does. Times and costs come from models with errors: see ",
        page);
    fputs("<code>moesim validate</code>.</p>\n</div></header>\n<main id=\"main\">"
          "<div class=\"page\">\n",
          page);
}

static void write_summary(const struct claims *claims, FILE *page)
{
    fputs("<section aria-labelledby=\"verdicts\">\n<h2 id=\"verdicts\">Verdicts</h2>\n"
          "<table class=\"wrap\">\n<thead><tr><th scope=\"col\">Statement</th>"
          "<th scope=\"col\" class=\"n\">Number</th><th scope=\"col\">Verdict</th></tr></thead>\n"
          "<tbody>\n",
          page);
    for (int32_t i = 0; i < claims->count; i++) {
        const struct claim *claim = &claims->claim[i];
        char number[CLAIM_NUMBER] = "\xe2\x80\x93";
        if (claim->item[0].is_computed) {
            claim_number_text(claim, claim->item[0].number, number);
        }
        html_named(page, "<tr><td><a href=\"#", claim->name, "\">");
        html_named(page, "", claim->claim, "</a></td><td class=\"n\">");
        html_text(page, number);
        fputs("</td><td>", page);
        write_verdict(page, claim->verdict);
        fputs("</td></tr>\n", page);
    }
    fputs("</tbody>\n</table>\n</section>\n", page);
}

static void write_cases(const struct claim *claim, FILE *page)
{
    fputs("<table class=\"wrap\">\n<thead><tr><th scope=\"col\">Case</th>"
          "<th scope=\"col\" class=\"n\">Number</th><th scope=\"col\">Holds?</th></tr></thead>\n"
          "<tbody>\n",
          page);
    for (int32_t i = 0; i < claim->num_cases; i++) {
        const struct claim_case *item = &claim->item[i];
        html_named(page, "<tr><td>", item->name, "</td><td class=\"n\">");
        if (item->is_computed) {
            char number[CLAIM_NUMBER];
            claim_number_text(claim, item->number, number);
            html_text(page, number);
            fputs(item->holds ? "</td><td>yes</td></tr>\n" : "</td><td>no</td></tr>\n", page);
        } else {
            html_named(page, "\xe2\x80\x93</td><td>", item->problem, "</td></tr>\n");
        }
    }
    fputs("</tbody>\n</table>\n", page);
}

/* Where a value comes from, in words. */
static void write_origin(const struct claims *claims, const struct claim_value *value, FILE *page)
{
    switch (value->kind) {
    case CLAIM_EXPRESSION:
        html_named(page, "<code>", value->text, "</code>");
        break;
    case CLAIM_GIVEN:
        html_named(page, "given: ", value->source, "");
        break;
    case CLAIM_MODEL:
        html_named(page, "model ", value->text, "");
        html_named(page, ": ", value->figure, "");
        break;
    case CLAIM_GPU:
        html_named(page, "GPU ", value->text, "");
        html_named(page, ": ", value->figure, "");
        break;
    case CLAIM_PRICE:
        html_named(page, "price ", value->text, ", dollars a GPU-hour");
        break;
    case CLAIM_API_PRICE:
        html_named(page, "API prices of ", value->text, "");
        html_named(page, ": ", value->figure, "");
        break;
    case CLAIM_GPUS_FOR:
        html_named(page, "fewest ", value->on, " whose memory holds ");
        html_text(page, value->text);
        break;
    case CLAIM_RUN:
        html_named(page, "run \xe2\x80\x9c", value->text, "\xe2\x80\x9d");
        fprintf(page,
                " <code>%016llx</code>: ", (unsigned long long)claims->run[value->run].run_id);
        html_text(page, value->figure);
        html_named(page, " (", claims->run[value->run].evidence, ")");
        break;
    }
}

static void write_values(const struct claims *claims, const struct claim *claim, FILE *page)
{
    const struct claim_case *item = &claim->item[0];
    html_named(page, "<details><summary>Computed from (", item->name, ")</summary>\n");
    fputs("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Values\">\n<table>\n"
          "<tbody>\n",
          page);
    for (int32_t i = 0; i < item->num_values; i++) {
        html_named(page, "<tr><td><code>", item->value[i].name, "</code></td>");
        fprintf(page, "<td class=\"n\">%.6g</td><td>", item->result[i]);
        write_origin(claims, &item->value[i], page);
        fputs("</td></tr>\n", page);
    }
    html_named(page, "<tr><td>number</td><td></td><td><code>", claim->number,
               "</code></td></tr>\n");
    html_named(page, "<tr><td>holds</td><td></td><td><code>", claim->holds, "</code></td></tr>\n");
    fputs("</tbody>\n</table>\n</div>\n</details>\n", page);
}

/* One command a run of the first case, so that each can be looked at by itself. */
static void write_commands(const struct claims *claims, const struct claim *claim, FILE *page)
{
    const struct claim_case *item = &claim->item[0];
    int32_t told[64];
    int32_t num_told = 0;
    html_named(page, "<details><summary>Run it again</summary>\n<pre>moesim claims ", claim->name,
               " -o out/claims\n");
    for (int32_t i = 0; i < item->num_values; i++) {
        const struct claim_value *value = &item->value[i];
        bool is_told = value->kind != CLAIM_RUN || num_told == 64;
        for (int32_t j = 0; j < num_told; j++) {
            is_told = is_told || told[j] == value->run;
        }
        if (is_told) {
            continue;
        }
        const struct claim_run *run = &claims->run[value->run];
        told[num_told++] = value->run;
        html_named(page, "moesim run ", run->path, "");
        for (int32_t j = 0; j < run->num_settings; j++) {
            html_named(page, " \\\n    --set \"", run->setting[j], "\"");
        }
        fputs("\n", page);
    }
    fputs("</pre>\n</details>\n", page);
}

static void write_claim(const struct claims *claims, const struct claim *claim, FILE *page)
{
    char text[CLAIM_TEXT];
    html_named(page, "<article id=\"", claim->name, "\">\n<h3>");
    html_named(page, "", claim->claim, "</h3>\n<p>");
    write_verdict(page, claim->verdict);
    if (claim->item[0].is_computed) {
        char number[CLAIM_NUMBER];
        claim_number_text(claim, claim->item[0].number, number);
        html_named(page, " <span class=\"number\">", number, "</span>");
        html_named(page, " ", claim->number_name, "");
    }
    fputs("</p>\n", page);
    claim_verdict_text(claim, text);
    if (claim->verdict == CLAIM_HOLDS_IF || claim->verdict == CLAIM_UNKNOWN) {
        html_named(page, "<p>It ", claim->verdict == CLAIM_HOLDS_IF ? text : "is ", "");
        html_named(page, "", claim->verdict == CLAIM_HOLDS_IF ? "" : text, ".</p>\n");
    }
    if (claim->note[0] != '\0') {
        html_named(page, "<p>", claim->note, "</p>\n");
    }
    write_cases(claim, page);
    write_values(claims, claim, page);
    write_commands(claims, claim, page);
    html_named(page, "<p class=\"origin\">Said by: ", claim->source, "</p>\n</article>\n");
}

static void write_page(const struct claims *claims, const char *css, FILE *page)
{
    html_head(page, "", "Claims about mixture-of-experts economics \xe2\x80\x93 moesim", css,
              own_style);
    write_header(claims, page);
    write_summary(claims, page);
    fputs("<section aria-labelledby=\"each\">\n<h2 id=\"each\">Each statement</h2>\n", page);
    for (int32_t i = 0; i < claims->count; i++) {
        write_claim(claims, &claims->claim[i], page);
    }
    fputs("</section>\n</div></main>\n<footer><div class=\"page\">Commit <code>", page);
    html_text(page, store_commit());
    fputs("</code></div></footer>\n</body>\n</html>\n", page);
}

enum status claims_write_page(const struct claims *claims, const char *directory,
                              struct error *error)
{
    char path[FILE_PATH_BYTES];
    struct arena arena = {0};
    struct draft draft = {0};
    FILE *page = NULL;
    const char *css = NULL;
    (void)snprintf(path, sizeof path, "%s/reports/page.css", data_directory());
    enum status status = text_read(&css, path, &arena, error);
    if (status == STATUS_OK) {
        status = draft_open(&draft, directory, error);
    }
    if (status == STATUS_OK) {
        status = draft_create(&page, &draft, "index.html", error);
    }
    if (status == STATUS_OK) {
        write_page(claims, css, page);
        status = draft_finish(page, &draft, "index.html", error);
    }
    if (status == STATUS_OK) {
        status = draft_publish(&draft, "index.html", "index.html", error);
    }
    draft_close(&draft);
    arena_free(&arena);
    return status;
}
