#!/usr/bin/env python3
"""What the host of an engine takes, from published times to the first token: scenarios/engines/.

Usage: fit.py SAMPLE.csv WORK_DIRECTORY [--moesim PROGRAM] [--out DIRECTORY]

SAMPLE.csv is aiconfigurator's systems/silicon_sample.csv. Its rows of InferenceMAX are predicted by
moesim validate --engines with hosts that take TRIED milliseconds a request, and an engine's constant
is the one with the least error of TTFT: median of absolute relative errors by model and GPU, mean of
those. So a model with many rows counts no more than one with few. Of each model in turn the rest is
fitted too (`without:`); errors are those of rows that were predicted by these.

NVIDIA's own runs are left out: in those of Llama-3.1-8B one request more is waiting than a batch
takes, whatever the batch (TTFT grows with answers' lengths by a batch-th of them), so they measure
the queue of their harness.

Predictions stay in WORK_DIRECTORY, and what lies there is not made again. Presets go to DIRECTORY,
else beside this file.
"""
import argparse
import csv
import os
import statistics
import subprocess
import sys

SCENARIOS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRIED = [0, 20, 40, 60]
GRID = range(0, 61)
PRESETS = {"MiniMaxAI/MiniMax-M2.5": "minimax-m2", "openai/gpt-oss-120b": "gpt-oss-120b",
           "meta-llama/Llama-3.1-70B": "llama-3.1-70b"}
SOURCE = ("fitted by scenarios/engines/fit.py to {rows} times to the first token that InferenceMAX "
          "measured ({models}), in aiconfigurator's systems/silicon_sample.csv @ 095f58a")


def select_rows(sample, path):
    with open(sample, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if "gap-analysis" not in row["silicon_data_source"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def predict(moesim, rows, request_ms, work):
    """Measured and predicted TTFT and TPOT by line, with hosts of all engines alike."""
    out = os.path.join(work, f"rows-{request_ms}.csv")
    data = os.path.join(work, f"data-{request_ms}")
    if not os.path.exists(out):
        os.makedirs(f"{data}/scenarios/engines", exist_ok=True)
        for name in os.listdir(SCENARIOS):
            link = f"{data}/scenarios/{name}"
            if name != "engines" and not os.path.islink(link):
                os.symlink(os.path.join(SCENARIOS, name), link)
        for engine in ("vllm", "trtllm", "sglang"):
            with open(f"{data}/scenarios/engines/{engine}.yaml", "w", encoding="utf-8") as file:
                file.write(f"source: tried\nrequest_ms: {request_ms}\n"
                           "error_median: 0\nerror_p90: 0\n")
        subprocess.run([moesim, "validate", "--engines", rows, "-o", out + ".part"], check=True,
                       stdout=subprocess.DEVNULL, env={**os.environ, "MOESIM_DATA": data})
        os.rename(out + ".part", out)
    found = {}
    with open(out, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["predicted"]:
                found[int(row["line"]), row["measure"]] = row
    return found


def error(tried, key, request_ms):
    """Absolute relative error of a row, predictions taken to lie on lines between those tried."""
    high = next(i for i in range(1, len(TRIED)) if request_ms <= TRIED[i])
    share = (request_ms - TRIED[high - 1]) / (TRIED[high] - TRIED[high - 1])
    below, above = (float(tried[i][key]["predicted"]) for i in (high - 1, high))
    return abs((below + share * (above - below)) / float(tried[0][key]["measured"]) - 1.0)


def fit(tried, keys):
    groups = {}
    for key in keys:
        row = tried[0][key]
        groups.setdefault((row["model"], row["gpu"]), []).append(key)

    def cost(request_ms):
        return statistics.mean(statistics.median(error(tried, key, request_ms) for key in group)
                               for group in groups.values())
    return min(GRID, key=cost)


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def both(values):
    return f"{100 * statistics.median(values):.1f} / {100 * quantile(values, 0.9):.1f} %"


def write_preset(engine, tried, directory):
    keys = [key for key, row in tried[0].items()
            if key[1] == "TTFT" and row["engine"] == engine and row["model"] in PRESETS]
    models = sorted({tried[0][key]["model"] for key in keys})
    without, after, tpot, tpot_after = {}, [], [], []
    for model in models:
        own = [key for key in keys if tried[0][key]["model"] == model]
        request_ms = fit(tried, [key for key in keys if key not in set(own)])
        steps = [(line, "TPOT") for line, _ in own]
        without[PRESETS[model]] = request_ms
        after += [error(tried, key, request_ms) for key in own]
        tpot += [error(tried, key, 0) for key in steps]
        tpot_after += [error(tried, key, request_ms) for key in steps]
        print(f"{engine:8} {model:26} {len(own):4} rows, the others give {request_ms} ms: TTFT "
              f"{both([error(tried, key, 0) for key in own])} -> "
              f"{both([error(tried, key, request_ms) for key in own])}")
    print(f"{engine:8} {'all, each held out':26} {len(keys):4} rows: TTFT "
          f"{both([error(tried, key, 0) for key in keys])} -> {both(after)}, TPOT {both(tpot)} -> "
          f"{both(tpot_after)}")
    path = os.path.join(directory, f"{engine}.yaml")
    source = SOURCE.format(rows=len(keys), models=", ".join(
        f"{name} {sum(tried[0][key]['model'] == model for key in keys)}"
        for model, name in ((model, model.split("/")[1]) for model in models)))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"# What the host of {engine} takes; made by fit.py, which says how.\n"
                   f"source: \"{source}\"\nrequest_ms: {fit(tried, keys)}\n"
                   f"error_median: {statistics.median(after):.3f}\n"
                   f"error_p90: {quantile(after, 0.9):.3f}\nwithout:\n")
        for model, request_ms in without.items():
            file.write(f"  {model}: {request_ms}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("sample")
    parser.add_argument("work")
    parser.add_argument("--moesim", default="moesim")
    parser.add_argument("--out", default=os.path.join(SCENARIOS, "engines"))
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    rows = os.path.join(options.work, "rows.csv")
    select_rows(options.sample, rows)
    tried = [predict(options.moesim, rows, request_ms, options.work) for request_ms in TRIED]
    for engine in ("vllm", "trtllm"):
        write_preset(engine, tried, options.out)


if __name__ == "__main__":
    sys.exit(main())
