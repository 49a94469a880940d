/* print_import.h -- what moesim trace import prints when it is done. */
#ifndef MOESIM_PRINT_IMPORT_H
#define MOESIM_PRINT_IMPORT_H

#include <cjson/cJSON.h>

#include "import/import.h"

/* To stdout; out is --out, NULL where the arrivals went to a trace. */
void print_import(const struct import_options *options, const struct import_summary *summary,
                  const char *out);

/* All of the summary; the caller's to delete. */
cJSON *import_json(const struct import_summary *summary, const char *out);

#endif
