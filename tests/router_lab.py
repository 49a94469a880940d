#!/usr/bin/env python3
"""Holds the shipped traces of our own router to their datasheet and to their scores.

Usage: router_lab.py MOESIM SOURCE

Every trace of scenarios/traces/router-lab is sound, the datasheet says what the program computes
from them, the models have learned, and in the recorded slice of scores the experts, their order
and their weights are those of the gate. Exits with 77 when numpy is missing.
"""
import csv
import os
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

BALANCING = ("unbalanced", "aux_loss", "loss_free")
TRACKED_BYTES_MAX = 1 << 20
HALF = 2.0 ** -11  # relative rounding of float16
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"router_lab: {what}")


def load(directory, name):
    path = os.path.join(lab, directory)
    files = sorted(file for file in os.listdir(path) if file.startswith(name + "-"))
    return np.concatenate([np.load(os.path.join(path, file)) for file in files], 1)


def table(name):
    with open(os.path.join(lab, name), newline="") as file:
        return list(csv.DictReader(file))


def gate_disagrees(experts, weights, scores, bias):
    """What in a slice is not what the gate of model.py makes of the scores, or None."""
    chosen = np.take_along_axis(scores, experts, -1)
    wish = scores + bias
    left = wish.copy()
    np.put_along_axis(left, experts, -np.inf, -1)
    margin = HALF * (1 + np.abs(bias).max())
    if (np.take_along_axis(wish, experts, -1).min(-1) < left.max(-1) - margin).any():
        return "an expert that was left out scores higher than one that was chosen"
    if (np.diff(chosen) > 2 * HALF).any():
        return "experts are not in the order of their scores"
    if (np.abs(weights - chosen / chosen.sum(-1, keepdims=True)) > 2 * HALF * weights).any():
        return "a gate weight is not the expert's score over the sum of the chosen"
    return None


def test_traces_are_sound_and_small():
    for balancing in BALANCING:
        for directory in (balancing, f"{balancing}_scores"):
            path = os.path.join(lab, directory)
            result = subprocess.run([program, "trace", "check", path], capture_output=True,
                                    text=True)
            check(result.returncode == 0, result.stderr)
            for name in os.listdir(path):
                check(os.path.getsize(os.path.join(path, name)) < TRACKED_BYTES_MAX,
                      f"{directory}/{name} is too large for a file under version control")


def test_experts_are_distinct_and_weights_sum_to_one():
    for balancing in BALANCING:
        experts, weights = load(balancing, "experts"), load(balancing, "gate_weights")
        check((np.diff(np.sort(experts, -1)) > 0).all(), f"{balancing}: an expert twice in a row")
        check((np.diff(weights.astype(float)) <= 0).all(), f"{balancing}: weights not best first")
        total = weights.astype(float).sum(-1)
        check((np.abs(total - 1) < 8 * HALF).all(), f"{balancing}: weights do not sum to 1")


def test_the_slice_follows_from_its_scores():
    biases = np.array([float(row["bias"]) for row in table("bias.csv")]).reshape(-1, 1, 64)
    check(np.abs(biases).max() > 0.01, "loss-free balancing has moved no bias")
    for balancing in BALANCING:
        directory = f"{balancing}_scores"
        experts = load(directory, "experts").astype(np.int64)
        weights, scores = (load(directory, name).astype(float) for name in
                           ("gate_weights", "scores"))
        bias = biases if balancing == "loss_free" else np.zeros(1)
        wrong = gate_disagrees(experts, weights, scores, bias)
        check(wrong is None, f"{directory}: {wrong}")
        spoiled = experts.copy()
        spoiled[0, 0, -1] = scores[0, 0].argmin()
        check(gate_disagrees(spoiled, weights, scores, bias) is not None,
              "a wrong expert is not noticed")
        check(balancing != "loss_free" or gate_disagrees(experts, weights, scores, 0 * bias),
              "without its bias the loss-free gate would choose the same")


def test_the_slice_is_part_of_the_trace():
    for balancing in BALANCING:
        whole, part = load(balancing, "experts"), load(f"{balancing}_scores", "experts")
        per_domain, rows = whole.shape[1] // 4, 64
        requests = part.shape[1] // 16 // 4
        row = np.concatenate([domain * per_domain + request * rows + np.arange(16)
                              for domain in range(4) for request in range(requests)])
        check((whole[:, row] == part).all(), f"{balancing}: the slice is of other rows")


def test_the_models_have_learned():
    perplexity = {(row["model"], row["ranks_max"]): float(row["all"])
                  for row in table("evaluation.csv")}
    for balancing in BALANCING:
        check(perplexity[balancing, "8"] < perplexity["bigram", ""] < perplexity["unigram", ""],
              f"{balancing} predicts no better than pairs of tokens do")


def test_the_datasheet_is_what_the_program_computes():
    result = subprocess.run([sys.executable, os.path.join(lab, "datasheet.py"), program],
                            capture_output=True, text=True)
    check(result.returncode == 0, result.stdout + result.stderr)


def main():
    global program, lab
    program = os.path.abspath(sys.argv[1])
    lab = os.path.join(sys.argv[2], "scenarios", "traces", "router-lab")
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
    print(f"router_lab: {checks} checks passed")


if __name__ == "__main__":
    main()
