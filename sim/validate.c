/* validate.c -- the tables of measurements, one line each. */
#include "validate.h"

#include <string.h>

static const struct validate_source sources[] = {
    {"kernels-moe", "whole MoE operations, in the columns of aiconfigurator's MoE tables",
     validate_moe, true},
    {"kernels", "GEMMs, attention and experts of one rank, a kernel a row", validate_kernels, true},
    {"measured-moe", "experts: each row by its neighbours, its own left out, and by the fit",
     validate_moe_measured, true},
    {"measured-kernels", "GEMMs and attention likewise", validate_kernels_measured, true},
    {"alltoall", "exchanges between GPUs, in the columns of alltoall.csv", validate_alltoall, true},
    {"balance", "what imbalance costs, in the columns of balance.csv", validate_balance, false},
    {"serving", "throughput of engines, in the columns of serving.csv", validate_serving, false},
    {"engines", "TTFT and TPOT of engines under load, in the columns of silicon_sample.csv",
     validate_engines, false},
};

const struct validate_source *validate_sources(int32_t *count)
{
    *count = (int32_t)(sizeof sources / sizeof sources[0]);
    return sources;
}

const char *validate_table_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool validate_is_fitted_on(const char *fitted_on, const char *table)
{
    static const char of[] = " rows of ";
    const char *name = strstr(fitted_on, of);
    size_t length = strlen(table);
    if (name == NULL || strstr(name, ", of the ") != NULL) { /* constants of another GPU */
        return false;
    }
    name += sizeof of - 1;
    return strncmp(name, table, length) == 0 && (name[length] == ',' || name[length] == '\0');
}
