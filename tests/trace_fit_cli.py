#!/usr/bin/env python3
"""moesim trace fit, generate and stats --against as a user meets them, on a small trace.

Usage: trace_fit_cli.py MOESIM SOURCE_DIRECTORY

Exits with 77 where NumPy is missing.
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

MOESIM, SOURCE = (os.path.abspath(path) for path in sys.argv[1:3])
os.environ["MOESIM_DATA"] = SOURCE
checks = 0


def check(truth, what):
    global checks
    checks += 1
    if not truth:
        sys.exit(f"trace_fit_cli: {what}")


def run(*args):
    result = subprocess.run([MOESIM, "trace", *map(str, args)], capture_output=True, text=True,
                            timeout=300)
    return result.returncode, result.stdout, result.stderr


def works(*args):
    code, out, err = run(*args)
    check(code == 0, f"trace {' '.join(map(str, args))}: {code}: {err}")
    return out


def refused(words, *args):
    code, _, err = run(*args)
    check(code == 1 and words in err, f"trace {' '.join(map(str, args))}: {code}: {err}")


def make_trace(out, layers, tokens, experts, hot, requests):
    """Top-2 where expert 0 is in a share of `hot` of the tokens; requests of equal length."""
    rng = np.random.default_rng(1)
    ids = rng.permuted(np.tile(np.arange(1, experts), (tokens * layers, 1)), axis=1)[:, :2]
    ids[rng.random(tokens * layers) < hot, 0] = 0
    np.save("ids.npy", ids.reshape(tokens, layers, 2).astype(np.uint8))
    with open("ids.csv", "w", encoding="utf-8") as stream:
        stream.write("tag,row_offset\n")
        for request in range(requests):
            stream.write(f"tag {request % 2},{request * (tokens // requests)}\n")
    options = ("--requests", "ids.csv") if requests else ()
    works("import", "--from", "npy", "--axes", "token,layer,k", "--model", "tiny",
          "--num-experts", experts, "ids.npy", "--out", out, *options)


def scores():
    """The largest scores of a token are its experts, in their order; ids are those without them."""
    works("generate", "--preset", "mixtral-8x7b", "--tokens", 600, "--out", "scored", "--scores",
          "--gate-weights")
    works("generate", "--preset", "mixtral-8x7b", "--tokens", 600, "--out", "plain")
    works("check", "scored")
    ids = np.load("scored/experts-00000.npy")
    score = np.load("scored/scores-00000.npy").astype(float)
    weight = np.load("scored/gate_weights-00000.npy").astype(float)
    check((ids == np.load("plain/experts-00000.npy")).all(), "scores change the ids")
    check((np.argsort(-score, axis=2, kind="stable")[:, :, :2] == ids).all(), "scores and ids")
    check(np.abs(weight.sum(axis=2) - 1).max() < 2e-3, "gate weights add up to 1")
    check((weight[:, :, 0] >= weight[:, :, 1]).all(), "gate weights descend")
    refused("knows shares of experts only", "generate", "--preset", "deepseek-v3", "--tokens", 9,
            "--out", "none", "--scores")


def against():
    same = json.loads(works("stats", "skewed", "--against", "skewed", "--draws", 3, "--fail",
                            "--json"))
    check(same["num_outside"] == 0 and len(same["figures"]) == 31, "a trace is like itself")
    check(all(figure["value"] == figure["other"] for figure in same["figures"]), "equal figures")
    code, out, _ = run("stats", "skewed", "--against", "even", "--draws", 3, "--fail")
    check(code == 1 and "OUTSIDE" in out, "another trace is not, and --fail says so")
    check(run("stats", "skewed", "--against", "even", "--draws", 0)[0] == 0, "without --fail")
    refused("only like can be compared", "stats", "skewed", "--against", "plain")
    refused("go with --against", "stats", "skewed", "--fail")


def fit():
    report = json.loads(works("fit", "skewed", "-o", "mine.yaml", "--json", "--licence", "CC0-1.0"))
    by_name = {figure["name"]: figure for figure in report["figures"]}
    for name in ("max/mean", "cv", "gini", "overlap at lag 1", "overlap at lag 64",
                 "co-activation lift, 95 %", "dropped at 1, mixed"):
        check(by_name[name]["inside"], f"{name}: {by_name[name]}")
    check(np.load("mine.npy").dtype == np.int16, "the table is int16")
    works("generate", "--preset", "./mine.yaml", "--tokens", 3000, "--out", "from-mine")
    info = json.loads(works("info", "from-mine", "--json"))
    check(info["licence"] == "CC0-1.0" and info["num_layers"] == 3, "the preset's texts")
    refused("mine.yaml exists", "fit", "skewed", "-o", "mine.yaml")
    refused("ends in .yaml", "fit", "skewed", "-o", "mine.npy")
    refused("give --out", "fit", "skewed")
    refused("no requests.csv", "fit", "bare", "-o", "other.yaml")
    refused("No such file", "fit", "nonesuch", "-o", "other.yaml")
    check(not os.path.exists("other.yaml") and not os.path.exists("other.npy"), "nothing is left")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    make_trace("skewed", 3, 8000, 8, 0.6, 80)
    make_trace("even", 3, 8000, 8, 0.1, 80)
    make_trace("bare", 3, 8000, 8, 0.6, 0)
    scores()
    against()
    fit()
print(f"trace_fit_cli: {checks} checks passed")
