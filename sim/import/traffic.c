/*
 * traffic.c -- public traces of traffic as formats of moesim trace import.
 *
 * They route nothing: what comes out is a list of requests, or their times in a trace.
 */
#include "import/sink.h"

enum status import_arrivals_run(struct import_sink *sink)
{
    const struct import_options *options = sink->options;
    struct import_summary *summary = sink->summary;
    struct arrivals arrivals = {.count = 0};
    if (options->num_paths > 1) {
        return error_add(sink->error, STATUS_INVALID,
                         "%s: arrivals are read from one file at a time", options->paths[1]);
    }
    enum status status =
        arrivals_read(&arrivals, options->paths[0], sink->format->arrivals, sink->error);
    summary->num_arrivals = arrivals.count;
    if (status == STATUS_OK) {
        summary->arrivals_end_s = arrivals.arrival[arrivals.count - 1].arrival_s;
        import_drop(sink, "requests without a token of prompt or answer (they failed)",
                    arrivals.num_failed);
    }
    if (status == STATUS_OK && options->attach_path != NULL) {
        status =
            arrivals_attach(&arrivals, options->attach_path, &summary->num_requests, sink->error);
    } else if (status == STATUS_OK) {
        status = arrivals_write(&arrivals, sink->path, options->replace, sink->error);
    }
    arrivals_free(&arrivals);
    return status;
}

static int32_t sure(const struct import_probe *probe, enum arrivals_format format, int32_t value)
{
    return arrivals_detect((const char *)probe->text) == format ? value : 0;
}

static int32_t detect_azure(const struct import_probe *probe)
{
    return sure(probe, ARRIVALS_AZURE, 95);
}

static int32_t detect_burstgpt(const struct import_probe *probe)
{
    return sure(probe, ARRIVALS_BURSTGPT, 95);
}

static int32_t detect_mooncake(const struct import_probe *probe)
{
    return sure(probe, ARRIVALS_MOONCAKE, 95);
}

static int32_t detect_own(const struct import_probe *probe)
{
    return sure(probe, ARRIVALS_OWN, 80);
}

const struct import_format import_azure_arrivals = {
    .name = "azure_arrivals",
    .summary = "Azure's LLM inference traces: become a list of arrivals",
    .source = "Azure/AzurePublicDataset, AzureLLMInferenceTrace_*.csv",
    .level = IMPORT_ARRIVALS,
    .arrivals = ARRIVALS_AZURE,
    .detect = detect_azure,
};

const struct import_format import_burstgpt_arrivals = {
    .name = "burstgpt_arrivals",
    .summary = "BurstGPT's CSV: becomes a list of arrivals",
    .source = "HPMLL/BurstGPT, BurstGPT_*.csv",
    .level = IMPORT_ARRIVALS,
    .arrivals = ARRIVALS_BURSTGPT,
    .detect = detect_burstgpt,
};

const struct import_format import_mooncake_arrivals = {
    .name = "mooncake_arrivals",
    .summary = "Mooncake's JSON lines: become a list of arrivals",
    .source = "kvcache-ai/Mooncake, FAST25-release/traces",
    .level = IMPORT_ARRIVALS,
    .arrivals = ARRIVALS_MOONCAKE,
    .detect = detect_mooncake,
};

const struct import_format import_arrivals = {
    .name = "arrivals",
    .summary = "a list of moesim: arrival_s, prompt_tokens, decode_tokens, tag",
    .source = "moesim trace import",
    .level = IMPORT_ARRIVALS,
    .arrivals = ARRIVALS_OWN,
    .detect = detect_own,
};
