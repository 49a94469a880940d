#!/usr/bin/env python3
"""Holds generated traces to what was measured, and a simulation of them to one of the real trace.

Usage: generated_presets.py MOESIM SOURCE_DIRECTORY SHARED_DATA

gpt-oss-20b: every figure of `trace stats --against` within 10 % of the real trace or twice its
spread over requests; rank imbalance, drop rate and step time of the simulator within 5 % in steps
of 8 to 1,024 tokens. olmoe and mixtral-8x7b: every figure of each domain's load by expert at layers
0, 7 and 15 as near to the measured counts, and how often Mixtral's first choice repeats.
gpt-oss-120b and Qwen3: the skew of gpt-oss-20b at the same depth; minimax-m2: that of deepseek-v3.
Exits with 77 where NumPy or the data is missing.
"""
import csv
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed")
    sys.exit(77)

MOESIM, SOURCE, DATA = (os.path.abspath(path) for path in sys.argv[1:4])
TRACES = os.path.join(DATA, "traces")
STUDY = os.path.join(SOURCE, "scenarios", "studies", "gpt_oss_20b_decode_8xh100.yaml")
GPT_TOKENS = 168657
DOMAINS = ("arxiv", "book", "c4", "github", "wikipedia")
COUNTED_TOKENS = 208896  # of each domain
os.environ["MOESIM_DATA"] = SOURCE
failures = 0


def check(truth, what):
    global failures
    print("ok    " if truth else "FAILED", what)
    failures += not truth


def moesim(*args):
    result = subprocess.run([MOESIM, *map(str, args)], capture_output=True, text=True, timeout=600)
    if result.returncode != 0:
        sys.exit(f"moesim {' '.join(map(str, args))}: {result.stderr}")
    return result.stdout


def preset_layers(name):
    with open(os.path.join(SOURCE, "scenarios", "traces", f"{name}.yaml")) as file:
        found = re.findall(r"hottest_percent: ([0-9.]+), top32_percent: ([0-9.]+)", file.read())
    return [(float(hottest), float(head)) for hottest, head in found]


def measured_layers():
    """Of gpt-oss-20b: a layer's hottest expert if it had 128 experts, its hottest quarter."""
    for layer in json.loads(moesim("trace", "stats", "real", "--json"))["layers"]:
        tokens = sorted(layer["expert_tokens"], reverse=True)
        yield 100 * tokens[0] * 32 / sum(tokens) / 128, 100 * sum(tokens[:8]) / sum(tokens)


def assumed_skew():
    """Presets that are assumed to be as skewed as another model was measured to be, by depth."""
    gpt, deepseek = list(measured_layers()), preset_layers("deepseek-v3")
    for name, count, measured in (("gpt-oss-120b", 36, gpt), ("qwen3-235b-a22b", 94, gpt),
                                  ("qwen3-30b-a3b", 48, gpt), ("minimax-m2", 62, deepseek)):
        found = preset_layers(name)
        check(len(found) == count, f"{name} has {count} layers")
        last = len(measured) - 1
        worst = max(abs(a - b) for index, layer in enumerate(found)
                    for a, b in zip(layer, measured[round(index * last / (count - 1))]))
        check(worst < 0.006, f"{name}: {worst:.4f} percent from the measured shares at most")


def gpt_figures():
    source = os.path.join(TRACES, "gpt-oss-20b")
    moesim("trace", "import", "--from", "npy", "--axes", "token,layer,k", "--model", "gpt-oss-20b",
           "--requests", os.path.join(source, "requests.csv"), os.path.join(source, "experts.npy"),
           "--out", "real")
    moesim("trace", "generate", "--preset", "gpt-oss-20b", "--tokens", GPT_TOKENS, "--seed", 5,
           "--out", "made")
    result = json.loads(moesim("trace", "stats", "made", "--against", "real", "--draws", 10,
                               "--json"))
    check(len(result["figures"]) == 31, "31 figures")
    for figure in result["figures"]:
        check(figure["inside"], f"{figure['name']}: generated {figure['value']:.4f}, measured "
              f"{figure['other']:.4f}, spread {figure['spread']:.4f}, "
              f"{figure['layers_inside']} of {figure['num_layers']} layers")


def simulate(trace, batch, steps):
    result = json.loads(moesim(
        "run", STUDY, "--json", "-o", "results.db", "--set", "trace.path=" + os.path.abspath(trace),
        "--set", f"trace.tokens_per_rank={batch // 8}", "--set", "trace.batching=shuffled",
        "--set", f"trace.steps={steps}", "--set", "routing.capacity_factor=1.25",
        "--set", "routing.capacity_scope=global"))
    return (result["rank_tokens_max_over_mean"],
            result["dropped_assignments"] / result["assignments"], result["step_ns_mean"])


def gpt_simulation():
    for batch, steps in ((8, 1000), (32, 500), (128, 300), (512, 200), (1024, 160)):
        real, made = (simulate(trace, batch, steps) for trace in ("real", "made"))
        for name, a, b in zip(("rank imbalance", "dropped", "step time"), real, made):
            check(abs(b / a - 1) < 0.05, f"steps of {batch}: {name} {a:.4g}, generated {b:.4g}, "
                  f"{100 * (b / a - 1):+.1f} %")


def skew(load):
    ascending = np.sort(load / load.mean())
    rank = np.arange(1, len(load) + 1)
    gini = ((2 * rank - len(load) - 1) * ascending).sum() / len(load) / ascending.sum()
    ranks = load.reshape(8, -1).sum(axis=1)
    return np.array([ascending[-1], ascending.std(), gini, ranks.max() / ranks.mean()])


def read_trace(folder):
    """ids [layers][tokens][k] and {tag: [rows of each request]}"""
    parts = [np.load(path) for path in sorted(glob.glob(folder + "/experts-*.npy"))]
    ids = np.concatenate(parts, axis=1)
    with open(folder + "/requests.csv", encoding="utf-8") as stream:
        requests = list(csv.DictReader(stream))
    ends = [int(request["row_offset"]) for request in requests[1:]] + [ids.shape[1]]
    rows = {}
    for request, end in zip(requests, ends):
        rows.setdefault(request["tag"], []).append((int(request["row_offset"]), end))
    return ids, rows


def counts_of(model):
    loads = {}
    with open(os.path.join(TRACES, "olmoe_mixtral_expert_counts.csv"), encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["model"] == model and row["count_topk"]:
                cell = loads.setdefault((row["domain"], int(row["layer"])), {})
                cell[int(row["expert"])] = float(row["count_topk"])
    return {key: np.array([cell[expert] for expert in sorted(cell)]) for key, cell in loads.items()}


def domains(preset, model, num_experts, tokens):
    """Skew of each domain and layer beside the counts', of so many tokens of each domain: each
    figure within 10 %, or twice the spread that drawing the generated requests anew leaves; and the
    same experts are hot."""
    moesim("trace", "generate", "--preset", preset, "--tokens", len(DOMAINS) * tokens,
           "--seed", 3, "--out", preset)
    ids, rows = read_trace(preset)
    rng = np.random.default_rng(1)
    inside = total = 0
    for (domain, layer), measured in sorted(counts_of(model).items()):
        if domain not in DOMAINS:
            continue
        loads = np.array([np.bincount(ids[layer, first:end].ravel(), minlength=num_experts)
                          for first, end in rows[domain]])
        made = skew(loads.sum(axis=0))  # max/mean, CV, Gini, EP8
        draws = [skew(loads[rng.integers(0, len(loads), len(loads))].sum(axis=0))
                 for _ in range(100)]
        allowed = np.maximum(0.1 * skew(measured), 2 * np.std(draws, axis=0))
        good = np.abs(made - skew(measured)) <= allowed
        alike = np.corrcoef(loads.sum(axis=0), measured)[0, 1]
        inside, total = inside + good.sum(), total + good.size
        for name, a, b, most, fine in zip(("max/mean", "CV", "Gini", "EP8"), made, skew(measured),
                                          allowed, good):
            check(fine, f"{preset}, {domain}, layer {layer}: {name} {a:.4f}, measured {b:.4f}, "
                  f"{100 * (a / b - 1):+.1f} % of at most {100 * most / b:.1f} %")
        if measured.std() > 0.06 * measured.mean():
            check(alike > 0.8, f"{preset}, {domain}, layer {layer}: the same experts are hot")
        check(abs(made[3] / skew(measured)[3] - 1) < 0.1, f"{preset}, {domain}, layer {layer}: EP8")
        check(abs(made[0] / skew(measured)[0] - 1) < 0.2,
              f"{preset}, {domain}, layer {layer}: max/mean")
    print(f"       {preset}: {inside} of {total} figures within 10 % or twice their spread")
    return ids


def main():
    if not os.path.exists(os.path.join(TRACES, "olmoe_mixtral_expert_counts.csv")):
        print(f"skipped: {TRACES} is not there")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        gpt_figures()
        assumed_skew()
        gpt_simulation()
        # A third is enough for 64 uneven experts; Mixtral's eight are so even that all are needed.
        domains("olmoe", "olmoe", 64, COUNTED_TOKENS // 3)
        first = domains("mixtral-8x7b", "mistral", 8, COUNTED_TOKENS)[:, :, 0]
        for layer, least, most in ((0, 0.136, 0.149), (15, 0.236, 0.284), (31, 0.197, 0.263)):
            repeats = (first[layer, 1:] == first[layer, :-1]).mean()
            check(least < repeats < most, f"mixtral-8x7b, layer {layer}: first choice repeats "
                  f"{100 * repeats:.1f} %, measured {100 * least:.1f} to {100 * most:.1f} %")
    sys.exit(f"generated_presets: {failures} checks failed" if failures else 0)


main()
