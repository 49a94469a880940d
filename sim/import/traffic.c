/*
 * traffic.c -- public traces of traffic as formats of moesim trace import.
 *
 * They route nothing: what comes out is a list of requests, or their times in a trace.
 */
#include "import/sink.h"

#define SECONDS_AN_HOUR 3600.0
#define SECONDS_A_DAY   86400.0

/* The most arrivals in any 60 minutes. */
static int64_t busiest_hour(const struct arrivals *arrivals)
{
    int64_t most = 0;
    int64_t first = 0;
    for (int64_t last = 0; last < arrivals->count; last++) {
        double begin_s = arrivals->arrival[last].arrival_s - SECONDS_AN_HOUR;
        while (arrivals->arrival[first].arrival_s <= begin_s) {
            first++;
        }
        most = last - first + 1 > most ? last - first + 1 : most;
    }
    return most;
}

/* What a plan asks of its traffic. */
static void summarise(struct import_summary *summary, const struct arrivals *arrivals)
{
    int64_t prompt_tokens = 0;
    int64_t decode_tokens = 0;
    double count = (double)arrivals->count;
    double span_s =
        arrivals->arrival[arrivals->count - 1].arrival_s - arrivals->arrival[0].arrival_s;
    for (int64_t i = 0; i < arrivals->count; i++) {
        prompt_tokens += arrivals->arrival[i].prompt_tokens;
        decode_tokens += arrivals->arrival[i].decode_tokens;
    }
    summary->prompt_tokens_mean = (double)prompt_tokens / count;
    summary->decode_tokens_mean = (double)decode_tokens / count;
    if (span_s > 0.0) {
        summary->requests_per_day = count / span_s * SECONDS_A_DAY;
    }
    if (span_s >= 2.0 * SECONDS_AN_HOUR) {
        summary->peak_over_mean =
            (double)busiest_hour(arrivals) / (count / span_s * SECONDS_AN_HOUR);
    }
}

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
        summarise(summary, &arrivals);
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
