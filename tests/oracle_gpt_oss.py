#!/usr/bin/env python3
"""Runs moesim on the real GPT-OSS-20B trace and recounts the raw file with NumPy.

Usage: oracle_gpt_oss.py MOESIM SOURCE_DIRECTORY SHARED_DATA

Exits with 77 where NumPy or the trace is missing.
"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed")
    sys.exit(77)

MOESIM, SOURCE, DATA = (os.path.abspath(path) for path in sys.argv[1:4])
RAW = os.path.join(DATA, "traces", "gpt-oss-20b", "experts.npy")
REQUESTS = os.path.join(DATA, "traces", "gpt-oss-20b", "requests.csv")
STUDY = os.path.join(SOURCE, "scenarios", "studies", "gpt_oss_20b_decode_8xh100.yaml")
EXPERTS, RANKS = 32, 8
failures = 0


def check(truth, what):
    global failures
    print("ok    " if truth else "FAILED", what)
    failures += not truth


def moesim(*args):
    result = subprocess.run([MOESIM, *args], capture_output=True, text=True, timeout=300)
    if result.returncode != 0:
        sys.exit(f"moesim {' '.join(args)}: {result.stderr}")
    return result.stdout


def run(*settings):
    sets = [word for setting in settings for word in ("--set", setting)]
    return json.loads(moesim("run", STUDY, "--json", "-o", "results.db", "--set",
                             "trace.path=" + os.path.abspath("trace"), *sets))


def check_rank_loads(raw):
    result = run("placement.strategy=static", "placement.redundant_experts=0",
                 "placement.rebalance_interval_steps=0", "trace.batching=consecutive",
                 "trace.tokens_per_rank=64")
    steps = len(raw) // (64 * RANKS)
    kept = raw[:steps * 64 * RANKS] // (EXPERTS // RANKS)
    for index, layer in enumerate(result["layers"]):
        counts = np.bincount(kept[:, index].ravel(), minlength=RANKS).tolist()
        if layer["rank_tokens"] != counts:
            check(False, f"rank loads of layer {layer['layer']}: {layer['rank_tokens']} {counts}")
    check(len(result["layers"]) == raw.shape[1], f"rank loads of {steps} steps, 24 layers, exactly")


def check_drops(raw, batching, tolerance):
    steps = len(raw) // 1024
    kept = raw[:steps * 1024].reshape(steps, 1024, *raw.shape[1:])
    load = np.stack([(kept == expert).sum(axis=(1, 3)) for expert in range(EXPERTS)])
    published = {1: 30.1, 1.25: 20.1, 1.5: 12.8, 2: 4.3, 3: 0.4}
    for factor, percent in published.items():
        result = run("trace.tokens_per_rank=128", f"trace.batching={batching}",
                     f"routing.capacity_factor={factor}", "routing.capacity_scope=global")
        share = 100 * result["dropped_assignments"] / result["assignments"]
        if tolerance == 0:
            capacity = -(-1024 * 4 * int(factor * 4) // (EXPERTS * 4))
            expected = int(np.maximum(load - capacity, 0).sum())
            check(result["dropped_assignments"] == expected,
                  f"{batching}, factor {factor}: {share:.2f} % dropped, exactly the recount")
        else:
            check(abs(share - percent) < tolerance,
                  f"{batching}, factor {factor}: {share:.2f} % dropped, measured {percent} %")


def main():
    if not os.path.exists(RAW):
        print(f"skipped: {RAW} is not here")
        sys.exit(77)
    raw = np.load(RAW)
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        moesim("trace", "import", "--from", "npy", "--axes", "token,layer,k", "--model",
               "gpt-oss-20b", RAW, "--requests", REQUESTS, "--out", "trace")
        stats = json.loads(moesim("trace", "stats", "trace", "--json"))
        equal = all(layer["expert_tokens"] ==
                    np.bincount(raw[:, index].ravel(), minlength=EXPERTS).tolist()
                    for index, layer in enumerate(stats["layers"]))
        check(equal and len(stats["layers"]) == raw.shape[1],
              "expert counts of 24 layers, exactly")
        check_rank_loads(raw)
        check_drops(raw, "consecutive", 0)
        check_drops(raw, "shuffled", 0.15)
        os.chdir("/")
    sys.exit(1 if failures else 0)


main()
