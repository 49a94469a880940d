#!/usr/bin/env python3
"""Do the cluster presets say what their fits are worth, and are they worth what was asked of them?

Usage: held_out_network.py MOESIM SOURCE_DIRECTORY SHARED_DATA

Fits all published exchanges anew, a degree of expert parallelism (or an eighth of the sizes) held
out at a time, compares with what the presets claim, and checks the errors that were asked for:
median 8 % and 90th percentile 20 %, over all rows and over DeepEP at EP 32 from lower degrees. Then
predicts every row with the presets, and the H800's, which are fitted to none of its rows. Exits with
77 where the measurements are missing.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

MEDIAN, P90 = 8.0, 20.0


def claims(directory):
    """{(cluster, collective, dtype): (median, p90)} of the presets in a directory."""
    found = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), encoding="utf-8") as stream:
            text = stream.read()
        pattern = (r"- collective: (\S+)\n\s+dtype: (\S+)\n.*?error_median: (\S+)\n"
                   r"\s+error_p90: (\S+)")
        for collective, dtype, median, p90 in re.findall(pattern, text, re.S):
            found[name, collective, dtype] = (float(median), float(p90))
    return found


def check_errors(output, problems):
    """The two summaries that calibrate prints."""
    for label in (r"all \d+ rows", r"DeepEP at EP 32, from lower degrees, \d+ rows"):
        match = re.search(label + r": ([\d.]+) / ([\d.]+) %", output)
        if match is None:
            problems.append(f"calibrate does not print '{label}'")
            continue
        print(match.group(0))
        if float(match.group(1)) > MEDIAN or float(match.group(2)) > P90:
            problems.append(f"{match.group(0)}: more than {MEDIAN} / {P90} %")


def main():
    program, source, shared = sys.argv[1:]
    table = os.path.join(shared, "published", "alltoall.csv")
    if not os.path.exists(table):
        print(f"skipped: {table} is not there")
        return 77
    problems = []
    with tempfile.TemporaryDirectory() as out:
        output = subprocess.run([program, "calibrate", "--alltoall", table, "--out", out],
                                check=True, capture_output=True, text=True).stdout
        found = claims(out)
    check_errors(output, problems)
    claimed = claims(os.path.join(source, "scenarios", "clusters"))
    for key, values in found.items():
        if key not in claimed or any(abs(a - b) > 0.003 + 0.03 * b
                                     for a, b in zip(claimed[key], values)):
            problems.append(f"{key}: preset {claimed.get(key)}, fitted {values}")
    report = json.loads(subprocess.run([program, "validate", "--alltoall", table, "--json"],
                                       check=True, capture_output=True).stdout)
    total = report["total"]
    if total["n"] < 0.98 * (total["n"] + total["skipped"]):
        problems.append(f"only {total['n']} rows are predicted, {total['skipped']} skipped")
    for group in report["groups"]:
        limit = 0.06 if group["collective"].endswith("rdma") else 0.20
        if group["cluster"] == "h800-cx7" and group["n"] > 0 and group["max"] > limit:
            problems.append(f"{group}: more than {limit}")
    for problem in problems:
        print(problem)
    print(f"{len(found)} entries, {total['n']} rows, median {total['median']:.3f}, "
          f"p90 {total['p90']:.3f}")
    return 1 if problems or not found else 0


sys.exit(main())
