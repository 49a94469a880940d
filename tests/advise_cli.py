#!/usr/bin/env python3
"""moesim advise as a new user meets it: dumps of known loads, mistakes, a second call, a kill.

Usage: advise_cli.py MOESIM SOURCE_DIRECTORY

Exits with 77 without NumPy. GPT-OSS-20B has 24 layers of 32 experts, top-4; on 8 GPUs rank r begins
with experts 4 r to 4 r + 3.
"""
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed")
    sys.exit(77)

MOESIM, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
LAYERS, EXPERTS, TOP_K, TOKENS = 24, 32, 4, 4096
HOT_LAYER = 7
EXPERT_BYTES = 3 * 2880 * 2880 * 17 // 32  # gate, up and down; mxfp4: 4 bits and a scale of 32
KV_BYTES = LAYERS * 2 * 8 * 64 * 2  # keys and values of 8 heads, bf16
ON_8 = ["--model", "gpt-oss-20b", "--gpu", "h100-sxm", "--gpus", "8"]
HOT = ["hot.npy", *ON_8, "--redundant", "0,8", "-o", "hot"]
failures = 0


def check(good, words):
    global failures
    if not good:
        failures += 1
        print("FAILED:", words)


def advise(*arguments, code=0):
    run = subprocess.run([MOESIM, "advise", *arguments], capture_output=True, text=True,
                         check=False, timeout=600)
    check(run.returncode == code,
          f"advise {' '.join(arguments)}: exit {run.returncode}: {run.stderr[:600]}")
    return run


def refused(what, *needles, arguments):
    run = advise(*arguments, code=1)
    check(run.stdout == "", f"{what}: says {run.stdout[:200]}")
    for line in run.stderr.strip().split("\n"):
        check(line.startswith("moesim: "), f"{what}: {line}")
    for needle in needles:
        check(needle in run.stderr, f"{what}: no {needle!r} in {run.stderr}")


def regular_rows():
    """Token t takes r, r + 8, r + 16 and r + 24 of r = t % 8: 8 tokens take all 32 once."""
    rows = np.arange(TOKENS)[:, None] % 8 + 8 * np.arange(TOP_K)[None, :]
    return np.repeat(rows[:, None, :], LAYERS, axis=1).astype(np.uint8)


def even_rows():
    """8 tokens take all 32 once, shuffled, so that no fixed placement sends less than another."""
    rng = np.random.default_rng(1)
    shape = (TOKENS // 8, LAYERS, 32)
    hands = rng.permuted(np.broadcast_to(np.arange(32), shape), axis=2)
    rows = hands.reshape(TOKENS // 8, LAYERS, 8, TOP_K).swapaxes(1, 2)
    return rows.reshape(TOKENS, LAYERS, TOP_K).astype(np.uint8)


def save_dumps():
    np.save("even.npy", even_rows())
    hot = regular_rows()
    hot[:, HOT_LAYER, :] = np.arange(TOP_K)  # rank 0 has all that this layer has
    np.save("hot.npy", hot)
    padded = regular_rows()
    padded[5, :, 2:] = 255  # not routed: no expert of that number
    np.save("padded.npy", padded)


def line_of(answer, topic):
    return next(line["text"] for line in answer["advice"] if line["topic"] == topic)


def test_a_hot_layer_is_named():
    """A layer's tokens on one of 8 ranks and 4 of 32 experts: 8 times the mean of both."""
    answer = json.loads(advise(*HOT, "--json").stdout)
    words = line_of(answer, "hot layers")
    check(words.startswith("1 of 24 layers is hot:"), words)
    check(f"Hottest is layer {HOT_LAYER}, 8.00 times" in words, words)
    check("has 8.0 times the tokens of the mean expert" in words, words)
    for layer in answer["layers"]:
        want = 8.0 if layer["layer"] == HOT_LAYER else 1.0
        check(abs(layer["busiest_rank_of_run_over_mean"] - want) < 0.12, f"layer {layer}")
    ranking = answer["study"]["groups"][0]["ranking"]
    winner = ranking[0]
    words = line_of(answer, "balancing")
    check(winner["gain"] > 0.01 and f"makes a step {100 * winner['gain']:.1f} % shorter" in words,
          f"experts that share a rank for no reason: {words}")
    check(all(a["gain"] >= b["gain"] - 1e-4 for a, b in zip(ranking, ranking[1:])), "not ranked")
    mover = next(run for run in ranking if run["changes"] > 0)
    words = line_of(answer, "migrations")
    check(words.startswith(mover["name"]), words)
    check(f"paid back after {int(np.ceil(mover['payback_steps']))} of the 4 steps between" in words,
          words)
    check("All 8 GPUs are on one node" in line_of(answer, "nodes"), "nodes")
    check("median" in line_of(answer, "model error"), "model error")


def test_replicas_take_their_memory():
    """One slot more a GPU and layer; a capacity of 6 leaves each hot expert 12 of 16 tokens."""
    answer = json.loads(advise(*HOT, "--json").stdout)
    check(answer["trace_reused"], "the trace was imported anew")
    more = answer["replication"][1]
    check(more["redundant_experts"] == 8, more)
    check(more["bytes_per_gpu"] == LAYERS * EXPERT_BYTES, more)
    check(abs(more["kv_tokens_per_gpu"] - LAYERS * EXPERT_BYTES / KV_BYTES) < 1e-6, more)
    mebibytes = f"{LAYERS * EXPERT_BYTES / 2**20:.0f}"
    check(f"; {mebibytes} MiB a GPU, the room of" in line_of(answer, "replication"),
          line_of(answer, "replication"))
    check(answer["tokens_per_rank"] == 16, "32 steps of 8 x 16 tokens are 4096")
    dropped = next(row["dropped_share"] for row in answer["capacity"]
                   if row["capacity_factor"] == 6.0)
    check(abs(dropped - 4 * 4 / (16 * TOP_K) / LAYERS) < 1e-12, f"capacity 6 drops {dropped}")


def test_even_routing_needs_nothing():
    answer = json.loads(advise("even.npy", *ON_8, "--redundant", "0,8", "-o", "even",
                               "--json").stdout)
    words = line_of(answer, "hot layers")
    check(words.startswith("No layer is hot"), words)
    check("balancing does not pay" in line_of(answer, "balancing"), line_of(answer, "balancing"))
    check(all("moesim place" not in command for command in answer["next"]), answer["next"])


def test_the_files_that_are_left():
    """The page has the sentences on top; the scenario runs; results hold every run once."""
    answer = json.loads(advise(*HOT, "--json").stdout)
    with open("hot/index.html", encoding="utf-8") as page:
        html = page.read()
    check(f"Hottest is layer {HOT_LAYER}" in html.replace("\u00a0", " "),
          "the page lacks the advice")
    check(sorted(os.listdir("hot")) == ["figures", "index.html", "results.db", "scenario.yaml",
                                        "trace"], os.listdir("hot"))
    run = subprocess.run([MOESIM, "run", "hot/scenario.yaml", "--json", "-o", "run.db"],
                         capture_output=True, text=True, check=False)
    check(run.returncode == 0, run.stderr)
    check(abs(json.loads(run.stdout)["step_ns_mean"] - answer["step_ns_mean"]) < 1e-6, "other run")
    with sqlite3.connect("hot/results.db") as database:
        count = database.execute("SELECT count(*) FROM run WHERE complete = 1").fetchone()[0]
        check(count == sum(len(group["ranking"]) for group in answer["study"]["groups"]), count)
    words = advise(*HOT).stdout
    check("hot/trace (as imported before)" in words, words[:300])
    check(words.count("\n    moesim ") == 3, "three commands to go on with")
    for command in re.findall(r"\n    moesim (place .*|trace stats .*)", words):
        run = subprocess.run([MOESIM, *command.split()], capture_output=True, text=True,
                             check=False)
        check(run.returncode == 0, f"{command}: {run.stderr}")
    os.remove("hot/placement.csv")


def test_what_changed_is_not_written_over():
    os.utime("hot.npy", (1, 1))
    refused("a dump that changed", "hot/trace", "--force", arguments=HOT)
    advise(*HOT, "--force")
    with open("hot/scenario.yaml", "a", encoding="utf-8") as scenario:
        scenario.write("# mine\n")
    refused("an edited scenario", "hot/scenario.yaml: has been edited", "--force",
            arguments=HOT)
    with open("hot/scenario.yaml", encoding="utf-8") as scenario:
        check(scenario.read().endswith("# mine\n"), "the edit is gone")


def test_mistakes():
    refused("no model", "--model is missing", "top-4 in 24 layers", "give --model gpt-oss-20b",
            arguments=["even.npy", "--gpu", "h100-sxm", "-o", "none"])
    refused("no model, and pads", "experts up to 31", "give --model gpt-oss-20b",
            arguments=["padded.npy", "--gpu", "h100-sxm", "-o", "none"])
    refused("another model", "its shape is that of gpt-oss-20b",
            arguments=["even.npy", "--model", "mixtral-8x7b", "--gpu", "h100-sxm", "-o", "none"])
    refused("a trace of another model", "top-8 of 64 experts in 16 layers",
            "give --model gpt-oss-20b", arguments=["hot/trace", "--model", "olmoe-1b-7b", "--gpu",
                                                   "h100-sxm", "-o", "none"])
    refused("GPUs too small", "does not fit on 8 h100-sxm", "give --gpus 12",
            arguments=["even.npy", "--model", "deepseek-v3", "--gpu", "h100-sxm", "--gpus", "8",
                       "-o", "none"])
    refused("too few tokens", "4096 tokens fill 4 steps of 128 a rank", "--tokens-per-rank 64 or",
            arguments=["hot/trace", *ON_8, "--tokens-per-rank", "128", "-o", "none"])
    refused("odd redundancy", "--redundant 3", "the next that are: 8",
            arguments=["hot/trace", *ON_8, "--redundant", "0,3", "-o", "none"])
    refused("no such file", "nowhere.npy: there is no such file",
            arguments=["nowhere.npy", *ON_8, "-o", "none"])
    refused("no GPU", "--gpu is missing", arguments=["even.npy", "--model", "gpt-oss-20b"])
    refused("no such GPU", "did you mean 'h100-sxm'",
            arguments=["hot/trace", "--gpu", "h100-sxn", "-o", "none"])
    refused("no price", "no price of rtx-4090 is known",
            arguments=["hot/trace", "--gpu", "rtx-4090", "--gpus", "2", "-o", "none"])
    refused("uneven nodes", "7 GPUs do not make 2 equal nodes",
            arguments=["hot/trace", "--gpu", "h100-sxm", "--gpus", "7", "--nodes", "2", "-o",
                       "none"])
    check(not os.path.exists("none"), "a refusal left a directory")


def test_loads_become_a_trace_first():
    """What a refusal of loads says to do leads to an answer; arrivals are no routing at all."""
    with open("arrivals.csv", "w", encoding="utf-8") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                   "2023-11-16 18:17:03.9799600,374,44\n")
    refused("arrivals", "when requests arrive", arguments=["arrivals.csv", *ON_8, "-o", "none"])
    loads = [[900 if expert == 9 else 100 for expert in range(EXPERTS)] for _ in range(LAYERS)]
    with open("history.json", "w", encoding="utf-8") as file:
        json.dump({"load_history": [{"logical_expert_load": loads}]}, file)
    words = advise("history.json", *ON_8, "-o", "none", code=1).stderr
    commands = re.search(r"moesim (trace import .*) && moesim (trace generate .*)", words)
    for command in commands.groups():
        run = subprocess.run([MOESIM, *command.replace("200000", "9000").split()],
                             capture_output=True, text=True, check=False)
        check(run.returncode == 0, f"{command}: {run.stderr}")
    answer = json.loads(advise("trace", *ON_8, "--redundant", "0", "--tokens-per-rank", "1", "-o",
                               "loads", "--json").stdout)
    check(answer["layers"][0]["busiest_expert"] == 9, answer["layers"][0])
    check(abs(answer["layers"][0]["busiest_expert_over_mean"] - 9 * 32 / 40) < 0.5,
          answer["layers"][0])
    check(line_of(answer, "left out").startswith("Simulated were 1024 of 1125 steps, to be done"),
          line_of(answer, "left out"))
    with open("loads/scenario.yaml", encoding="utf-8") as scenario:
        check("\n  steps: 1024 # of 1125" in scenario.read(), "the scenario has other steps")


def test_recorded_steps_are_kept():
    """16 recorded steps of 256 tokens are 32 a rank, whatever would be the default."""
    shutil.copytree("hot/trace", "recorded")
    np.save("recorded/steps.npy", np.arange(0, TOKENS + 1, 256, dtype=np.int64))
    answer = json.loads(advise("recorded", *ON_8, "--redundant", "0", "-o", "steps",
                               "--json").stdout)
    check((answer["num_steps"], answer["tokens_per_rank"]) == (16, 32), answer["num_steps"])


def test_two_nodes_and_prefill():
    """EP16 on two nodes: what leaves its node is told, and 32 experts leave two a GPU."""
    answer = json.loads(advise("hot/trace", "--gpu", "h100-cx7", "--gpus", "16", "--phase",
                               "prefill", "--redundant", "0", "-o", "far", "--json").stdout)
    check(answer["cluster"] == "h100-cx7" and answer["ep"] == 16, answer["cluster"])
    check(0.2 < answer["cross_node_share"] < 0.8, answer["cross_node_share"])
    check(line_of(answer, "nodes").startswith(f"{100 * answer['cross_node_share']:.1f} % of what "
                                              "dispatch sends leaves its node"),
          line_of(answer, "nodes"))


def test_a_kill_leaves_nothing_half_made():
    process = subprocess.Popen([MOESIM, "advise", "hot/trace", *ON_8, "-o", "killed", "--threads",
                                "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and not os.path.exists("killed/scenario.yaml"):
        time.sleep(0.001)
    process.kill()
    process.communicate()  # whoever clears away holds the pipe until that is done
    left = set(os.listdir("killed"))
    check("report.partial" not in left, left)
    check(left == {"scenario.yaml"}, f"killed while it simulates, it leaves {left}")
    advise("hot/trace", *ON_8, "--redundant", "0", "-o", "killed")
    check(os.path.exists("killed/index.html"), "no page after a kill")


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        os.environ["MOESIM_DATA"] = SOURCE
        save_dumps()
        for test in (test_a_hot_layer_is_named, test_replicas_take_their_memory,
                     test_even_routing_needs_nothing, test_the_files_that_are_left,
                     test_what_changed_is_not_written_over, test_mistakes,
                     test_loads_become_a_trace_first, test_recorded_steps_are_kept,
                     test_two_nodes_and_prefill,
                     test_a_kill_leaves_nothing_half_made):
            test()
        os.chdir("/")
    print(f"{failures} failures" if failures else "ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
