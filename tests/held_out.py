#!/usr/bin/env python3
"""Do the fits in the GPU presets say what they are worth?

Usage: held_out.py MOESIM SOURCE_DIRECTORY SHARED_DATA

Fits the H100 anew, a model shape held out at a time, and compares with what its preset claims; and
predicts every published row. Exits with 77 where the measurements are missing.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

GPU = "h100-sxm"


def claims(path):
    """{(kernels, precision): (held-out median, p90)} of a preset or of calibrate's output."""
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    pattern = (r"- kernels: (\S+)\n\s+precision: (\S+)\n.*?error_median: (\S+)\n"
               r"\s+error_p90: (\S+)")
    return {(kernels, precision): (float(median), float(p90))
            for kernels, precision, median, p90 in re.findall(pattern, text, re.S)}


def main():
    program, source, shared = sys.argv[1:]
    table = os.path.join(shared, "published", "kernels_moe.csv")
    if not os.path.exists(table):
        print(f"skipped: {table} is not there")
        return 77
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([program, "calibrate", "--kernels-moe", table, "--gpu", GPU, "--out", out],
                       check=True, stdout=subprocess.DEVNULL)
        found = claims(os.path.join(out, f"{GPU}.yaml"))
    claimed = claims(os.path.join(source, "scenarios", "gpus", f"{GPU}.yaml"))
    problems = [f"{key}: preset {claimed.get(key)}, fitted {found.get(key)}"
                for key in sorted(set(found) | set(claimed))
                if key not in found or key not in claimed or
                any(abs(a - b) > 0.003 + 0.03 * b for a, b in zip(claimed[key], found[key]))]
    total = json.loads(subprocess.run([program, "validate", "--kernels-moe", table, "--json"],
                                      check=True, capture_output=True).stdout)["total"]
    if total["n"] < 0.98 * (total["n"] + total["skipped"]):
        problems.append(f"only {total['n']} rows are predicted, {total['skipped']} skipped")
    for problem in problems:
        print(problem)
    print(f"{len(found)} fits, {total['n']} rows, median {total['median']:.3f}, "
          f"p90 {total['p90']:.3f}")
    return 1 if problems or not found else 0


sys.exit(main())
