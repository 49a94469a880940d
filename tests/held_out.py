#!/usr/bin/env python3
"""Do the fits in the GPU presets say what they are worth?

Usage: held_out.py MOESIM SOURCE_DIRECTORY SHARED_DATA

Fits experts of the H100 and GB300 and GEMMs and attention of the H20 anew, a shape held out at a
time, and compares with what the presets claim; and predicts every published row. Exits with 77
where the measurements are missing.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

# What is fitted anew: option, table and GPU.
FITS = (("--kernels-moe", "kernels_moe.csv", "h100-sxm"), ("--kernels", "kernels.csv", "h20"),
        ("--kernels", "kernels.csv", "gb300-nvl72"))
COVERAGE_MIN = 0.98


def claims(path, table):
    """{(kernels, precision, what): (held-out median, p90)} of a preset or of calibrate's output."""
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    pattern = (r"- kernels: (\S+)\n\s+precision: (\S+)\n\s+(.*?)\n.*?fitted_on: \"(.*?)\""
               r".*?error_median: (\S+)\n\s+error_p90: (\S+)")
    return {(kernels, precision, what if ": " in what and "_ns" not in what else ""):
            (float(median), float(p90))
            for kernels, precision, what, rows, median, p90 in re.findall(pattern, text, re.S)
            if f" {table}," in rows}


def compare(program, source, option, path, gpu):
    """Problems of one GPU's claims, and how many there are."""
    table = os.path.basename(path)
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([program, "calibrate", option, path, "--gpu", gpu, "--out", out],
                       check=True, stdout=subprocess.DEVNULL)
        found = claims(os.path.join(out, f"{gpu}.yaml"), table)
    claimed = claims(os.path.join(source, "scenarios", "gpus", f"{gpu}.yaml"), table)
    problems = [f"{gpu} {key}: preset {claimed.get(key)}, fitted {found.get(key)}"
                for key in sorted(set(found) | set(claimed))
                if key not in found or key not in claimed or
                any(abs(a - b) > 0.003 + 0.03 * b for a, b in zip(claimed[key], found[key]))]
    return problems if found else [f"{gpu}: nothing was fitted"], len(found)


def main():
    program, source, shared = sys.argv[1:]
    problems = []
    for option, name, gpu in FITS:
        path = os.path.join(shared, "published", name)
        if not os.path.exists(path):
            print(f"skipped: {path} is not there")
            return 77
        found, count = compare(program, source, option, path, gpu)
        problems += found
        total = json.loads(subprocess.run([program, "validate", option, path, "--json"],
                                          check=True, capture_output=True).stdout)["total"]
        if total["n"] < COVERAGE_MIN * (total["n"] + total["skipped"]):
            problems.append(f"{name}: only {total['n']} rows are predicted, {total['skipped']} "
                            "skipped")
        print(f"{gpu}: {count} fits; {name}: {total['n']} rows, median {total['median']:.3f}, "
              f"p90 {total['p90']:.3f}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


sys.exit(main())
