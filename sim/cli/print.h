/*
 * print.h -- a finished run on the terminal and as JSON.
 */
#ifndef MOESIM_PRINT_H
#define MOESIM_PRINT_H

#include <cjson/cJSON.h>

#include "cli/variant.h"
#include "odd_rows.h"

#define EVIDENCE_BYTES 512
#define WORTH_BYTES    512
#define LINE_COLUMNS   98 /* of a table or a paragraph */

/* Text from column indent on, where the line has come to, broken at spaces, and a new line. */
void print_wrapped(const char *text, int indent);

/* How far the GPU model was off measurements that it was not fitted to, and the network's; or that
 * nobody knows. */
void model_error_text(char text[EVIDENCE_BYTES], const struct scenario *scenario);
void exchange_error_text(char text[EVIDENCE_BYTES], const struct scenario *scenario);

/* The same as lines of a list; of exchanges where there are any. */
void print_model_error(const struct scenario *scenario);
void print_exchange_error(const struct scenario *scenario);

/* What the changes of placement were worth on average, by what the run itself tells: before the
 * first, and settled. Beside a run that changes nothing, as compare has it, is surer. */
void worth_text(char text[WORTH_BYTES], const struct run_metrics *metrics);

/* True, and text says why, if the strategy would look at loads but no interval was full. */
bool never_asked_text(char text[WORTH_BYTES], const struct scenario *scenario, int64_t num_steps);

/* Nothing if there were none. */
void print_rebalances(const struct variant *variant);

void print_summary(const struct variant *variant);

/* As run_json. Release with cJSON_Delete; NULL when memory is out. */
cJSON *variant_json(const struct variant *variant);

/* How many rows of a table a fit left out for what their cells hold, and the first; nothing if
 * none. */
void print_odd_rows(const struct odd_rows *odd);

/* Prints and deletes json. Returns the exit code. */
int print_json(cJSON *json);

/* The line that says what amounts are in, where that is not plain dollars. */
void print_money_note(const struct money *money);

#endif
