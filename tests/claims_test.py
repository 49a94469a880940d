#!/usr/bin/env python3
"""Computes every claim that is shipped and checks the page, the verdicts and some numbers by hand.

Usage: claims_test.py MOESIM SOURCE [--without-runs]

Verdicts are made again here from the cases, statements that moesim has to have an answer to are
looked for, and a second start has to find every simulation done. --without-runs leaves out claims
that simulate: those take long under sanitizers.
"""
import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

# What is widely said; each has to be on the page.
STATEMENTS = [
    "671B parameters and 37B", "13B of its 46.7B", "800 GB in fp8", "saves compute, not memory",
    r"\$0.0003 against \$0.003", r"\$0.55 instead of \$15", "90 %", "40 % cheaper",
    "from 15 % to under 2 %", "Semantic routing", "Hot experts", "overhead of routing",
    "Latency grows with the number of experts", "grows as expert parallelism grows",
    "74 GFLOP", "40 % of the compute of LLaMA2-7B", "GB200 NVL72", r"\$5.6M", r"\$50,000 cluster",
    "sparse routing overtake", "proportion to the active parameters", "as experts are added",
    "latency of a dense model of 30 to 40B", "only to the GPUs of its eight", "200 to 300 ms",
    "250 TFLOP/s", "50B with 10B active", "three shared experts and 18 times", "edge devices",
]

# By hand: 37.0e9 / 671.0e9 as the cards print them is 5.5 %; 15 / 0.55; 12.9 / 46.7; 37 / 69; 2.788 M
# hours at $2; the model paper's 74.4 T against 187.9 T operations for 4k tokens.
BY_HAND = {
    "active_share_deepseek_v3": (0.055, 0.02), "input_price_27x": (27.27, 0.001),
    "active_share_mixtral_8x7b": (0.276, 0.01), "shared_experts_and_18x": (0.536, 0.02),
    "training_5_6_million": (5.576e6, 0.001), "deepseek_moe_16b_compute": (0.396, 0.02),
}


def fail(text):
    sys.exit(f"claims_test: {text}")


def compute(moesim, names, directory):
    done = subprocess.run([moesim, "claims", *names, "-o", directory, "--json"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"exit code {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)["claims"]


def contents(path):
    """Of a results file, without the two counters that opening it for writing moves."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[24:28] = data[92:96] = bytes(4)
    return hashlib.sha256(data).hexdigest()


def verdict(claim):
    holds = [case["holds"] for case in claim["cases"]]
    return "holds" if all(holds) else "holds if" if any(holds) else "does not hold"


def main():
    moesim, source = os.path.abspath(sys.argv[1]), sys.argv[2]
    names = []
    if "--without-runs" in sys.argv:
        for path in sorted(glob.glob(f"{source}/scenarios/claims/*.yaml")):
            with open(path, encoding="utf-8") as file:
                if not re.search(r"^runs:", file.read(), re.M):
                    names.append(os.path.basename(path)[:-len(".yaml")])
    with tempfile.TemporaryDirectory() as directory:
        claims = compute(moesim, names, directory)
        with open(f"{directory}/index.html", encoding="utf-8") as file:
            page = file.read()
        for claim in claims:
            if claim["verdict"] != verdict(claim):
                fail(f"{claim['name']}: {claim['verdict']}, but its cases say {verdict(claim)}")
            if f"id=\"{claim['name']}\"" not in page:
                fail(f"{claim['name']} is not on the page")
            if claim["name"] in BY_HAND:
                wanted, tolerance = BY_HAND[claim["name"]]
                number = claim["cases"][0]["number"]
                if abs(number / wanted - 1) > tolerance:
                    fail(f"{claim['name']}: {number}, by hand {wanted}")
        if not names:
            for statement in STATEMENTS:
                if not any(re.search(statement, claim["claim"]) for claim in claims):
                    fail(f"no claim says '{statement}'")
            before = contents(f"{directory}/claims.db")
            again = compute(moesim, names, directory)
            if again != claims:
                fail("a second start gave something else")
            if contents(f"{directory}/claims.db") != before:
                fail("a second start wrote into the results")
        print(f"{len(claims)} claims: " + ", ".join(
            f"{sum(claim['verdict'] == kind for claim in claims)} {kind}"
            for kind in ("holds", "holds if", "does not hold")))


main()
