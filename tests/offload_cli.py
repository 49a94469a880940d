#!/usr/bin/env python3
"""Offloaded experts from the command line to results, page and timeline.

Usage: offload_cli.py MOESIM

What `run --json` says has to follow from the results file, whose layers and windows have to sum to
the same; the page has to show it; the phases of the timeline have to name the fetch; what cannot be
is refused with exit code 1, and no results are written.
"""
import json
import os
import sqlite3
import subprocess
import sys
import tempfile

SCENARIO = """version: 1
question: Does a card keep up?
model: mixtral-8x7b
cluster: {gpu: rtx-3090, nodes: 1, gpus_per_node: 1}
phase: decode
context_tokens: 512
precision: {dense: mxfp4, expert: mxfp4}
trace: {preset: mixtral-8x7b, tokens: 256, tokens_per_rank: 1, steps: 32}
offload: {where: host, slots: 4, prefetch: 1}
price: rtx-3090-marketplace
"""
EXPERT_BYTES = 3 * 4096 * 14336 * 4.25 / 8


def fail(text):
    sys.exit(f"offload_cli: {text}")


def check(condition, text):
    if not condition:
        fail(text)


def start(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def succeed(command):
    done = start(command)
    check(done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def row(results, sql):
    with sqlite3.connect(results) as database:
        return database.execute(sql).fetchone()


def check_run(moesim, scenario, directory):
    results = os.path.join(directory, "results.db")
    trace = os.path.join(directory, "timeline.json")
    run = json.loads(succeed([moesim, "run", scenario, "-o", results, "--json",
                              "--timeline", trace]))
    said = run["offload"]
    check(said["policy"] == "lru" and said["slots"] == 4 and said["experts"] == 8, "settings")
    sums = "sum(touches), sum(hits), sum(ahead), sum(fetched), sum(on_cpu), sum(best_hits), sum(transfers)"
    layers = row(results, f"SELECT {sums} FROM offload_layer")
    check(layers == row(results, f"SELECT {sums} FROM offload_window"), "layers and windows differ")
    touches, hits, ahead, fetched, on_cpu, best, transfers = layers
    check(touches == 32 * 32 * 2 == hits + ahead + fetched + on_cpu, f"touches {layers}")
    check(on_cpu == 0 < ahead and hits <= best, f"counts {layers}")
    check(abs(said["hit_rate"] - hits / touches) < 1e-9, "hit rate")
    check(abs(said["hit_rate_max"] - best / touches) < 1e-9, "bound")
    check(abs(said["bytes_per_step"] / (transfers * EXPERT_BYTES / 32) - 1) < 1e-6, "bytes")
    fetch = row(results, "SELECT sum(phase_ns_sum) FROM step_phase WHERE phase = 'fetch'")[0]
    check(abs(fetch / 32 / run["phase_ns_mean"]["fetch"] - 1) < 1e-9, "phase")
    with open(trace, encoding="utf-8") as file:
        check('"fetch"' in file.read(), "no fetch in the timeline")
    check(row(results, "SELECT count(*) FROM assumption WHERE name = 'host memory and drives'")
          == (1,), "who pays for the host's memory?")
    check(row(results, "SELECT bytes FROM memory WHERE part = 'experts'")[0] ==
          (4 * 32 + 3) * int(EXPERT_BYTES), "memory of slots and buffers")
    return results


def check_page(moesim, scenario, directory):
    results = os.path.join(directory, "compare.db")
    table = succeed([moesim, "compare", scenario, "--vary", "offload.policy=lru,predicted",
                     "--vary", "offload.slots=2,6", "-o", results])
    check("at most" in table and table.count("offload.policy=predicted offload.slots=6") >= 2, table)
    page = os.path.join(directory, "out")
    succeed([moesim, "report", results, "-o", page])
    with open(os.path.join(page, "index.html"), encoding="utf-8") as file:
        text = file.read()
    for title in ("Where offloaded experts were", "How many slots, and which policy"):
        check(title in text, f"the page lacks '{title}'")
    check(os.path.exists(os.path.join(page, "figures", "offload_policies.png")), "no figure")
    check("Experts on the GPU" in text and "waiting for experts takes" in text,
          "the page does not begin with what offloading costs")
    check("Busiest rank" not in text and "Imbalance by layer</h3>" not in text,
          "one rank is called the busiest")


def check_refusals(moesim, scenario, directory):
    results = os.path.join(directory, "none.db")
    for settings, words in ((["offload.slots=0"], "a GPU needs a slot"),
                            (["offload.slots=9"], "more than the 8 experts"),
                            (["offload.policy=lru2"], "did you mean 'lru'?"),
                            (["offload.where=nvme"], "home_bytes_per_s: is missing"),
                            (["offload.slots=8", "precision.expert=bf16"], "does not fit")):
        command = [moesim, "run", scenario, "-o", results]
        for setting in settings:
            command += ["--set", setting]
        done = start(command)
        check(done.returncode == 1 and words in done.stderr, f"{settings}: {done.stderr}")
        check(not os.path.exists(results), f"{settings}: results were written")


def check_memory(moesim):
    """24 GB hold 3 of 8 experts in bf16 layers' place only in four bits: 2.995 GB a slot."""
    command = [moesim, "memory", "mixtral-8x7b", "--gpu", "rtx-3090", "--gpus", "1",
               "--expert", "mxfp4", "--dense", "mxfp4", "--json"]
    whole = json.loads(succeed(command))
    check(whole["gpus_min"] == 2 and not whole["rows"][0]["fits"], "fits without offload")
    part = json.loads(succeed(command + ["--offload", "4"]))
    check(part["gpus_min"] == 1 and part["rows"][0]["fits"], "does not fit with offload")
    check(part["rows"][0]["routed_expert_bytes"] == (4 * 32 + 2) * int(EXPERT_BYTES), "slots")
    check(abs(part["offloaded_bytes"] / (8 * 32 * EXPERT_BYTES) - 1) < 1e-9, "home")
    done = start([moesim, "memory", "llama-2-7b", "--gpu", "rtx-3090", "--offload", "2"])
    check(done.returncode == 1 and "has no experts" in done.stderr, done.stderr)


def main():
    moesim = sys.argv[1]
    policies = succeed([moesim, "list", "caches"])
    check(all(name in policies for name in ("lru", "lfu", "lrfu", "pinned", "predicted")), policies)
    check_memory(moesim)
    with tempfile.TemporaryDirectory() as directory:
        scenario = os.path.join(directory, "card.yaml")
        with open(scenario, "w", encoding="utf-8") as file:
            file.write(SCENARIO)
        succeed([moesim, "check", scenario])
        check_run(moesim, scenario, directory)
        check_page(moesim, scenario, directory)
        check_refusals(moesim, scenario, directory)
    print("offload_cli: ok")


if __name__ == "__main__":
    main()
