#!/usr/bin/env python3
"""Answers every study that is shipped, reduced, and computes the answers again.

Usage: studies_test.py MOESIM SOURCE [--few]

Points keep their layout and lose steps. The sentences of an answer have to hold the numbers that
this program computes from the runs by itself, the page has to show them, a second start has to
find every simulation done, and what fails has to be told. --few answers two alone: sanitizers are slow.
"""
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile

# What makes a study short; those of plans search less.
SHORT = {
    "ep_latency": ["trace.tokens=9216", "trace.tokens_per_rank=16", "trace.steps=4",
                   "placement.rebalance_interval_steps=2"],
    "redundancy_memory": ["trace.tokens=16384", "trace.tokens_per_rank=64", "context_tokens=64",
                          "trace.steps=4", "placement.rebalance_interval_steps=2"],
    "gb200_h200": ["trace.tokens=4608", "trace.tokens_per_rank=8", "trace.steps=4",
                   "placement.rebalance_interval_steps=2"],
    "drops_capacity": ["trace.steps=2"],
    "offload_slots": ["trace.steps=16"],
    "ep_or_tp": ["trace.tokens=16384", "trace.steps=2"],
    "failures": ["trace.tokens=43008", "trace.steps=4"],
    "strategies": ["trace.tokens=24576", "trace.tokens_per_rank=16", "context_tokens=16",
                   "trace.steps=24"],
    "capacity_deepseek_r1": ["gpus=[{cluster: h200-nvlink, price: 2}]",
                             "search.prefill={ep: [8], tokens_per_rank: [4096]}",
                             "search.decode={ep: [16], sequences_per_rank: [32, 64]}",
                             "search.redundant_experts=[0]"],
    "cost_across_gpus": ["gpus=[{cluster: h200-nvlink, price: 2}, {cluster: h100-cx7, price: 1.5}]",
                         "search.prefill={ep: [16], tokens_per_rank: [4096]}",
                         "search.decode={ep: [32], sequences_per_rank: [32]}",
                         "search.redundant_experts=[0]"],
}


def fail(text):
    sys.exit(f"studies_test: {text}")


def check(condition, text):
    if not condition:
        fail(text)


def start(moesim, *arguments):
    return subprocess.run([moesim, "study", *arguments], capture_output=True, text=True,
                          check=False)


def answer(moesim, name, directory):
    settings = [part for value in SHORT[name] for part in ("--set", value)]
    done = start(moesim, name, *settings, "-o", directory, "--json", "--threads", "2")
    check(done.returncode == 0, f"{name}: exit code {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


class Results:
    """The runs of a study, read without any of its queries."""

    def __init__(self, path):
        self.database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.database.row_factory = sqlite3.Row
        self.runs = self.rows("SELECT * FROM run ORDER BY rowid")

    def rows(self, sql, *values):
        return [dict(row) for row in self.database.execute(sql, values)]

    def settled_ns(self, run):
        """The mean step behind the last change of placement."""
        changes = self.rows("SELECT step FROM rebalance WHERE run_id = ?", run["run_id"])
        last = max((row["step"] for row in changes), default=-1)
        steps = [row for row in self.rows("SELECT * FROM step WHERE run_id = ?", run["run_id"])
                 if row["first_step"] > last]
        return sum(row["step_ns_sum"] for row in steps) / sum(row["num_steps"] for row in steps)

    def usd(self, run):
        """Dollars a million tokens of the settled step."""
        tokens = run["tokens_per_rank"] * run["ep"]
        return (run["usd_per_gpu_hour"] * run["ep"] * self.settled_ns(run) / 3600e9) / tokens * 1e6


def expect(sentence, *numbers):
    """Every number, as it is printed, stands in the sentence in this order."""
    at = 0
    for number in numbers:
        found = re.compile(r"(?<![\d.])" + re.escape(number) + r"(?![\d.]*\d)").search(sentence, at)
        check(found, f"'{number}' is not where it should be in: {sentence}")
        at = found.end()


def ep_latency(results, sentences):
    fast = min(results.runs, key=results.settled_ns)
    cheap = min(results.runs, key=results.usd)
    expect(sentences[0], f"{results.settled_ns(fast) / 1e6:.1f}", str(fast["tokens_per_rank"]),
           f"{results.usd(cheap):.3f}")
    check(f"EP{fast['ep']} " in sentences[0] and f"EP{cheap['ep']} " in sentences[0],
          f"the wrong group in: {sentences[0]}")


def redundancy_memory(results, sentences):
    decode = [run for run in results.runs if run["phase"] == "decode"]
    best = min(decode, key=lambda run: (results.usd(run), run["redundant_experts"]))
    expect(sentences[0], str(best["redundant_experts"]), f"{results.usd(best):.3f}")

    def memory(run, part):
        return results.rows("SELECT bytes FROM memory WHERE run_id = ? AND part = ?",
                            run["run_id"], part)[0]["bytes"]
    few = min(decode, key=lambda run: run["redundant_experts"])
    many = max(decode, key=lambda run: run["redundant_experts"])
    expect(sentences[2], f"{(memory(many, 'experts') - memory(few, 'experts')) / 1e9:.1f}")


def gb200_h200(results, sentences):
    new = [run for run in results.runs if run["gpu"] == "gb200-nvl72"]
    old = [run for run in results.runs if run["gpu"] == "h200-sxm"]
    check(new and old, "both systems have runs")
    usd = [min(map(results.usd, runs)) for runs in (new, old)]
    step = [min(map(results.settled_ns, runs)) for runs in (new, old)]
    expect(sentences[0], f"{usd[0]:.3f}", f"{usd[1]:.3f}", f"{step[0] / 1e6:.1f}",
           f"{step[1] / 1e6:.1f}")


def drops_capacity(results, sentences):
    dropped = {}
    for run in results.runs:
        if run["tokens_per_rank"] == 512 and run["capacity_factor"] == 1.25:
            share = run["dropped_assignments"] / run["assignments"]
            dropped[run["trace"].split("/")[-1]] = share
    expect(sentences[0], "1.25", f"{100 * dropped['unbalanced']:.1f}",
           f"{100 * dropped['aux_loss']:.1f}", f"{100 * dropped['loss_free']:.1f}")


def offload_slots(results, sentences):
    rate = {}
    for run in results.runs:
        offload = results.rows("SELECT * FROM offload WHERE run_id = ?", run["run_id"])[0]
        if run["label"].startswith("predicted offload"):
            rate[offload["slots"]] = run["tokens_per_s_per_gpu"]
    expect(sentences[0], str(min(rate)), str(max(rate)), "32", f"{rate[min(rate)]:.0f}",
           f"{rate[max(rate)]:.0f}")


def ep_or_tp(results, sentences):
    step = {(run["label"].split(" parallel")[0], run["ep"] * run["tokens_per_rank"]):
            results.settled_ns(run) / 1e6 for run in results.runs}
    batches = sorted(tokens for way, tokens in step if way == "TP")
    few, many = batches[0], batches[-1]
    faster = [tokens for tokens in batches if step["TP", tokens] <= 0.99 * step["EP", tokens]]
    expect(sentences[0], f"{step['EP', few]:.2f}", f"{step['TP', few]:.2f}", str(few),
           f"{step['EP', many]:.2f}", f"{step['TP', many]:.2f}", str(many), str(len(faster)),
           str(len(batches)), str(max(faster)))
    even = step["EP, even routing", many]
    expect(sentences[1], str(many), f"{100 * (step['EP', many] / even - 1):.1f}",
           f"{100 * abs(even / step['TP', many] - 1):.1f}")
    expect(sentences[2], "8192", f"{step['prompts, EP', 8192]:.1f}",
           f"{step['prompts, TP', 8192]:.1f}")


def failures(results, sentences):
    step = {run["label"].split(" phase")[0].split(" trace")[0]: results.settled_ns(run)
            for run in results.runs}
    for phase, sentence in (("decode", sentences[0]), ("prefill", sentences[1])):
        lost = [1 - step[f"{phase}: all well"] / step[f"{phase}: {what}"] for what in (
            "a NIC at half its rate", "a NIC lost, two GPUs share one", "a GPU lost, 28 go on",
            "a node lost, 24 GPUs go on")]
        expect(sentence, *(f"{100 * share:.0f}" for share in lost))


def strategies(results, sentences):
    last = results.rows("SELECT max(step) AS step FROM rebalance")[0]["step"]
    gains = {}
    for run in results.runs:
        steps = results.rows("SELECT * FROM step WHERE run_id = ? AND first_step > ?",
                             run["run_id"], last)
        mean = sum(row["step_ns_sum"] for row in steps) / sum(row["num_steps"] for row in steps)
        gains.setdefault(run["phase"], {})[run["strategy"]] = mean
    for phase, means in gains.items():
        best = min(sorted(means), key=means.get)
        said = re.search(rf"In {phase} the shortest steps come from (\w+)(?: \(as short: ([^)]*)\))?"
                         r": ([-\d.]+) %", sentences[0])
        check(said and means[said.group(1)] == means[best], f"{phase}: {best}: {sentences[0]}")
        level = {name for name in means if means[name] < 1.0005 * means[best]} - {said.group(1)}
        check(set(filter(None, (said.group(2) or "").split(", "))) == level,
              f"{phase}: {level}: {sentences[0]}")
        gain = 100 * (1 - means[best] / means["static"])
        check(abs(float(said.group(3)) - gain) < 0.051, f"{phase}: {gain}: {sentences[0]}")


def plans(name, results, sentences, document):
    check(not results.runs, "a plan's points are no runs")
    met = results.rows("SELECT * FROM plan_deployment WHERE meets_targets")
    best = min(met, key=lambda row: row["usd_per_day"])
    winner = [row for row in document["deployments"] if row["winner"]][0]
    check(abs(best["usd_per_day"] - winner["usd_per_day"]) < 0.01, "the winner")
    if name == "capacity_deepseek_r1":
        expect(sentences[0], str(best["num_gpus"]), f"{best['usd_per_day']:.0f}")
    else:
        expect(sentences[0], f"{best['usd_per_million_output']:.3f}")
        expect(sentences[1], f"{best['usd_per_day']:.0f}")
        kinds = {row["gpu"] for row in met}
        check(len(kinds) == 2 and all(kind in sentences[0] for kind in kinds), sentences[0])


RECOMPUTE = {"ep_latency": ep_latency, "redundancy_memory": redundancy_memory,
             "gb200_h200": gb200_h200, "ep_or_tp": ep_or_tp, "drops_capacity": drops_capacity,
             "failures": failures, "offload_slots": offload_slots, "strategies": strategies}


def check_study(moesim, name, question, scratch):
    directory = os.path.join(scratch, name)
    document = answer(moesim, name, directory)
    sentences = document["answer"]
    results = Results(os.path.join(directory, "study.db"))
    check(document["question"] == question, f"{name}: another question")
    if name in RECOMPUTE:
        check(document["failed"] == 0, f"{name}: {document['failed']} points failed")
        RECOMPUTE[name](results, sentences)
    else:
        plans(name, results, sentences, document)
    with open(os.path.join(directory, "index.html"), encoding="utf-8") as file:
        page = file.read()
    for sentence in sentences:
        check(not re.search(r"\s[.,;:]|\(\)", sentence), f"{name}: a gap in: {sentence}")
        shown = sentence.strip().replace("&", "&amp;").replace("'", "&#39;")
        shown = re.sub(r"(\d) %", "\\1\u00a0%", shown)  # no line ends between number and sign
        starts = (shown[0], shown[0].upper())  # a page begins lines of a list as sentences
        check(any(start + shown[1:] in page for start in starts),
              f"{name}: not on the page: {sentence}")
    check("<svg" in page and ("held out" in page or "error unknown" in page),
          f"{name}: no figure or no error on the page")
    check("unknown %" not in page, f"{name}: a share of nothing")
    if results.runs:
        waits = any(run["rebalance_ns"] > 0 for run in results.runs)
        check(("in the mean of all steps" in page) == waits, f"{name}: whose means are in its table")
        cut = any(run["expert_tp"] > 1 and run["phase"] == "decode" for run in results.runs)
        check(("published rows whose experts are cut" in page) == cut, f"{name}: errors of engines")
    if name in ("offload_slots", "ep_latency"):
        check_drawing(directory)
    if name == "drops_capacity":
        check(answer(moesim, name, directory)["simulated"] == 0, "a second start simulates again")


def check_drawing(directory):
    """No name of a line is cut off at the right edge, and every upright axis has several numbers."""
    for name in sorted(os.listdir(os.path.join(directory, "figures"))):
        if not name.endswith(".svg"):
            continue
        with open(os.path.join(directory, "figures", name), encoding="utf-8") as file:
            drawn = file.read()
        width = float(re.search(r'viewBox="0 0 (\d+)', drawn).group(1))
        written = re.findall(r'translate\(([\d.]+),[\d.]+\)"[^>]*font-size="([\d.]+)"\s+'
                             r'text-anchor="(start|end)">\s*<text>([^<]*)</text>', drawn)
        for left, size, anchor, text in written:
            check(anchor == "end" or float(left) + 0.5 * float(size) * len(text) < width,
                  f"{name}: '{text}' is cut off")
        numbers = [text for _, _, anchor, text in written if anchor == "end"]
        check(len(numbers) > 2, f"{name}: {numbers} at an axis")


def check_mistakes(moesim, scratch):
    for arguments, words in ((["none_such"], "none_such"),
                             (["deepseek_v3_decode_32xh800"], "is a scenario, one point"),
                             (["ep_latency", "--set", "trace.stepz=1"], "trace.stepz"),
                             (["ep_latency", "--nothing"], "unknown option"),
                             (["ep_latency", "failures"], "one study at a time")):
        done = start(moesim, *arguments, "-o", os.path.join(scratch, "mistake"))
        check(done.returncode == 1 and words in done.stderr, f"{arguments}: {done.stderr}")
    check(not os.path.exists(os.path.join(scratch, "mistake", "index.html")), "a page of nothing")


def main():
    moesim, source = sys.argv[1:3]
    tested = {"drops_capacity", "capacity_deepseek_r1"} if "--few" in sys.argv else set(SHORT)
    os.environ["MOESIM_DATA"] = source
    listed = json.loads(start(moesim, "--json").stdout)["studies"]
    check({study["name"] for study in listed} >= set(SHORT), f"a study is missing: {listed}")
    with tempfile.TemporaryDirectory() as scratch:
        check_mistakes(moesim, scratch)
        for study in listed:
            if study["name"] in tested:
                check_study(moesim, study["name"], study["question"], scratch)
            else:
                done = start(moesim, study["name"], "--check", "-o", os.path.join(scratch, "x"))
                check(done.returncode == 0, f"{study['name']}: {done.stderr}")
    print(f"{len(tested)} studies answered, their sentences computed again")


main()
