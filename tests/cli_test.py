#!/usr/bin/env python3
"""Uses the moesim program as a user does: contracts scripts rely on, and every kind of bad input.

Usage: cli_test.py MOESIM SOURCE_DIRECTORY [PATTERN]

Makes a small trace of its own with NumPy, so it needs no shared data. Exits with 77 without NumPy.
"""
import csv
import json
import os
import re
import resource
import shutil
import signal
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
PATTERN = sys.argv[3] if len(sys.argv) > 3 else ""
LAYERS, EXPERTS, TOP_K, TOKENS = 24, 32, 4, 4000
SCENARIO = """version: 1
question: Does it hold?
model: gpt-oss-20b
cluster: {gpu: h100-sxm, nodes: 1, gpus_per_node: 8}
parallel: {ep: 8, attention: dp}
phase: decode
context_tokens: 500
trace: {path: trace, tokens_per_rank: 16, batching: interleaved}
placement: {strategy: static}
dispatch: {replica: locality, collective: deepep_low_latency, dtype: fp8}
network: alpha_beta
compute: {model: roofline}
price: h100-neocloud
seed: 1
"""
failures = []
checks = 0


def check(truth, what):
    global checks
    checks += 1
    if not truth:
        failures.append(what)
        print("FAILED:", what)


def moesim(*args, **kwargs):
    return subprocess.run([MOESIM, *args], capture_output=True, text=True, timeout=120, **kwargs)


def expect_error(what, result, *needles, lines=None):
    """Exit code 1, nothing on stdout, each stderr line one problem that says where."""
    problems = result.stderr.strip().split("\n")
    check(result.returncode == 1, f"{what}: exit code {result.returncode}, stderr {result.stderr!r}")
    check(all(line.startswith("moesim: ") for line in problems), f"{what}: stderr {result.stderr!r}")
    check(lines is None or len(problems) == lines, f"{what}: {len(problems)} lines: {result.stderr}")
    for needle in needles:
        check(needle in result.stderr, f"{what}: no {needle!r} in {result.stderr!r}")
    check(len(result.stderr) < 4000, f"{what}: a flood of {len(result.stderr)} bytes")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def make_experts(seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.gumbel(size=(TOKENS, LAYERS, EXPERTS)) + np.linspace(1.0, 0.0, EXPERTS)
    return np.argsort(-scores, axis=2)[:, :, :TOP_K].astype(np.int64)


def import_trace(experts, out="trace", *more):
    np.save("experts.npy", experts)
    return moesim("trace", "import", "--from", "npy", "--axes", "token,layer,k", "--model",
                  "gpt-oss-20b", "experts.npy", "--out", out, *more)


def complete_runs(path):
    with sqlite3.connect(path) as database:
        return database.execute("select count(*) from run where complete = 1").fetchone()[0]


# ---------------------------------------------------------------------------------- contracts


def test_run_json_keeps_its_contract():
    result = moesim("run", "scenario.yaml", "--json", "-o", "contract.db")
    check(result.returncode == 0, result.stderr)
    run = json.loads(result.stdout)
    for key in ("run_id", "digest", "tokens", "assignments", "dropped_assignments", "step_ns_mean",
                "usd_per_million_tokens", "layers"):
        check(key in run, f"run --json has no {key}")
    steps = TOKENS // 128
    check(run["tokens"] == steps * 128, "tokens")
    check(run["assignments"] == steps * 128 * LAYERS * TOP_K, "assignments")
    check(run["dropped_assignments"] == 0, "dropless")
    check(len(run["layers"]) == LAYERS, "layers")
    check(all(len(layer["rank_tokens"]) == 8 for layer in run["layers"]), "rank_tokens")
    check(abs(sum(run["phase_ns_mean"].values()) / run["step_ns_mean"] - 1) < 1e-9, "phases")
    check(complete_runs("contract.db") == 1, "one complete run")


def test_a_price_in_another_currency_is_shown_in_it():
    write("euro.yaml", 'gpu: h100-sxm\nper_gpu_hour: 1.55\ncurrency: EUR\nusd_per_unit: 1.16\n'
          'date: "2026-11"\nsource: our contract\n')
    run = moesim("run", "scenario.yaml", "--set", "price=euro.yaml", "--json", "-o", "euro.db")
    check(run.returncode == 0, run.stderr)
    answer = json.loads(run.stdout)
    euros = 1.55 / 3600 / answer["tokens_per_s_per_gpu"] * 1e6
    check(abs(answer["usd_per_million_tokens"] / (euros * 1.16) - 1) < 1e-9, "dollars a million")
    check((answer["currency"], answer["usd_per_unit"]) == ("EUR", 1.16), "no currency")
    amount = re.search(r"EUR ([0-9.]+) per million tokens at EUR 1.55 a GPU-hour",
                       moesim("run", "scenario.yaml", "--set", "price=euro.yaml", "-o",
                              "euro.db").stdout)
    check(amount is not None and abs(float(amount[1]) / euros - 1) < 0.005, "no euros")
    usual = moesim("run", "scenario.yaml", "-o", "euro.db").stdout
    check(re.search(r"  cost +\$[0-9.]+ per million", usual) and "EUR" not in usual, "no dollars")

    shown = moesim("diff", "euro.db", "first", "first").stdout
    check("amounts are in EUR" in shown or "usd_per" not in shown, f"a diff in euros: {shown}")
    shown = moesim("diff", "euro.db", "first", "last").stdout
    check("amounts are in dollars: prices differ" in shown, f"a mixed diff: {shown}")
    prices = "price=euro.yaml,h100-neocloud"
    shown = moesim("compare", "scenario.yaml", "--vary", prices, "-o", "mixed.db").stdout
    check("$/M tok" in shown and "amounts are in dollars" in shown, f"a mixed study: {shown}")
    shown = moesim("compare", "scenario.yaml", "--set", "price=euro.yaml", "--vary",
                   "dispatch.dtype=fp8,bf16", "-o", "two.db").stdout
    check("EUR/M tok" in shown and "1 EUR = 1.16 USD" in shown, f"a study in euros: {shown}")
    if shutil.which("gnuplot") is not None:
        check(moesim("report", "two.db", "-o", "euros").returncode == 0, "a report in euros")
        with open("euros/index.html", encoding="utf-8") as file:
            page = file.read()
        check("1 EUR = 1.16 USD" in page and "at EUR 1.55 a GPU-hour" in page, "a page in euros")
        shown = re.sub(r"<[^>]*>", "", page)
        check(shown.count("EUR per million tokens") >= 6 and "USD per" not in shown
              and not re.search(r"\$[0-9]", shown), "a figure or its table in dollars")
        with open("euros/figures/cost.csv", encoding="utf-8") as file:
            parts = [line.split(",") for line in file.read().split("\n")[1:-1]]
        cost = sum(float(part[2]) for part in parts)
        check(f"EUR {cost / 1.16:.4f} per million tokens" in shown, "the sum of a CSV in dollars")
        for name in "mixed", "euro":  # a study, and runs that nobody compared
            check(moesim("report", f"{name}.db", "-o", name).returncode == 0, f"{name}: no report")
            with open(f"{name}/index.html", encoding="utf-8") as file:
                shown = re.sub(r"<[^>]*>", "", file.read())
            check("amounts are in dollars: prices differ" in shown and "EUR per" not in shown
                  and "USD per million tokens" in shown, f"{name}: no mixed page")
    expect_error("a price without its rate",
                 moesim("run", "scenario.yaml", "--set", "price=" + write("rateless.yaml",
                        'gpu: h100-sxm\nper_gpu_hour: 1.55\ncurrency: EUR\ndate: "2026-11"\n'
                        'source: our contract\n')), "rateless.yaml:3: currency: needs usd_per_unit")


def test_the_last_of_a_traces_path_and_preset_counts():
    drawn = ["--set", "trace.preset=gpt-oss-20b", "--set", "trace.tokens=1024"]
    result = moesim("run", "scenario.yaml", *drawn, "--json", "-o", "drawn.db")
    check(result.returncode == 0 and json.loads(result.stdout)["tokens"] == 1024, "a preset")
    result = moesim("run", "scenario.yaml", *drawn, "--set", "trace.path=trace", "--json", "-o",
                    "drawn.db")
    check(json.loads(result.stdout)["tokens"] == TOKENS // 128 * 128, f"a path: {result.stderr}")
    expect_error("tokens of no preset", moesim("run", "scenario.yaml", "--set", "trace.tokens=9"),
                 "trace.tokens: goes with a preset only")


def test_rank_tokens_equal_numpy():
    run = json.loads(moesim("run", "scenario.yaml", "--json", "--set",
                            "trace.batching=consecutive").stdout)
    kept = EXPERTS_RAW[:TOKENS // 128 * 128]
    for index, layer in enumerate(run["layers"]):
        ranks = np.bincount(kept[:, index].ravel() // (EXPERTS // 8), minlength=8)
        check(layer["rank_tokens"] == ranks.tolist(), f"rank_tokens of layer {index}")
        steps = kept[:, index].reshape(-1, 128 * TOP_K) // (EXPERTS // 8)
        ratio = np.mean([np.bincount(step, minlength=8).max() / (128 * TOP_K / 8)
                         for step in steps])
        check(abs(layer["rank_tokens_max_over_mean"] / ratio - 1) < 1e-12, "max over mean")


def test_drops_equal_numpy():
    kept = EXPERTS_RAW[:TOKENS // 128 * 128].reshape(-1, 128, LAYERS, TOP_K)
    load = np.stack([(kept == expert).sum(axis=(1, 3)) for expert in range(EXPERTS)])
    for factor, capacity in ((1, 16), (1.25, 20), (2, 32)):
        for policy in ("position", "gate_weight"):
            run = json.loads(moesim("run", "scenario.yaml", "--json", "--set",
                                    "trace.batching=consecutive", "--set",
                                    f"routing.capacity_factor={factor}", "--set",
                                    "routing.capacity_scope=global", "--set",
                                    f"routing.drop={policy}").stdout)
            dropped = int(np.maximum(load - capacity, 0).sum())
            check(run["dropped_assignments"] == dropped, f"drops at {factor} by {policy}")


def test_threads_do_not_change_results():
    outputs = []
    for threads in ("1", "2"):
        result = moesim("compare", "scenario.yaml", "--vary", "placement.strategy=static,eplb",
                        "--set", "placement.redundant_experts=8", "--set",
                        "placement.rebalance_interval_steps=5", "--threads", threads, "--json")
        check(result.returncode == 0, result.stderr)
        outputs.append(result.stdout)
    check(outputs[0] == outputs[1], "1 and 2 threads differ")
    runs = json.loads(outputs[0])["runs"]
    check(len(runs) == 2 and runs[0]["digest"] != runs[1]["digest"], "two different variants")
    check(runs[1]["num_rebalances"] > 0, "eplb rebalances")


def test_equal_runs_have_equal_content():
    for name in ("a.db", "b.db"):
        check(moesim("run", "scenario.yaml", "-o", name).returncode == 0, "run")
    dumps = []
    for name in ("a.db", "b.db"):
        with sqlite3.connect(name) as database:
            tables = [row[0] for row in database.execute(
                "select name from sqlite_master where type='table' and name != 'run_origin'")]
            dumps.append({table: sorted(map(repr, database.execute(f"select * from {table}")))
                          for table in tables})
    check(dumps[0] == dumps[1], "tables differ")
    check(moesim("run", "scenario.yaml", "-o", "a.db").returncode == 0, "again")
    check(complete_runs("a.db") == 1, "the same run twice is one run")


def test_seed_changes_a_shuffled_run_and_nothing_else_does():
    digests = [json.loads(moesim("run", "scenario.yaml", "--json", "--set",
                                 "trace.batching=shuffled", "--seed", seed).stdout)["digest"]
               for seed in ("1", "1", "2")]
    check(digests[0] == digests[1] != digests[2], f"digests {digests}")


def test_every_command_has_help_with_an_example():
    for command in ("run", "compare", "report", "check", "list", "demo", "trace"):
        result = moesim(command, "--help")
        check(result.returncode == 0 and "example" in result.stdout, f"{command} --help")
    for command in ("import", "info", "stats", "check", "generate"):
        result = moesim("trace", command, "--help")
        check(result.returncode == 0 and "example" in result.stdout, f"trace {command} --help")


def test_every_study_checks():
    """Scenarios by check, questions with an answer by study."""
    studies = os.path.join(SOURCE, "scenarios", "studies")
    for name in sorted(os.listdir(studies)):
        path = os.path.join(studies, name)
        with open(path, encoding="utf-8") as file:
            has_answer = re.search("^answer:", file.read(), re.M) is not None
        command = ["study", path, "--check"] if has_answer else ["check", path]
        if "gpt_oss_20b_decode" in name:
            command += ["--set", "trace.path=" + os.path.abspath("trace"), "--set", "context_tokens=500"]
        result = moesim(*command)
        check(result.returncode == 0, f"{name}: {result.stderr}")


def test_dense_model_runs():
    study = os.path.join(SOURCE, "scenarios", "studies", "llama_2_70b_decode_8xh100.yaml")
    result = moesim("run", study, "--json", "-o", "dense.db")
    check(result.returncode == 0, result.stderr)
    if result.returncode == 0:
        run = json.loads(result.stdout)
        check(run["assignments"] == 0 and run["step_ns_mean"] > 0, "a dense step takes time")
        check(moesim("report", "dense.db", "-o", "dense").returncode == 0, "report of a dense model")


# ------------------------------------------------------------------------------- bad scenarios


def run_text(text, *more):
    return moesim("run", write("bad.yaml", text), "-o", "bad.db", *more)


def test_several_mistakes_are_told_at_once():
    text = SCENARIO.replace("strategy: static", "stategy: static").replace(
        "ep: 8", "ep: eight").replace("network: alpha_beta", "network: beta")
    result = run_text(text)
    expect_error("three mistakes", result, "bad.yaml:5", "bad.yaml:9", "bad.yaml:11",
                 "did you mean 'strategy'", "alpha_beta")
    check(not os.path.exists("bad.db"), "a bad scenario leaves no results")


def test_bad_scenarios():
    cases = [
        ("unknown key", ("seed: 1", "sed: 1"), ["bad.yaml:14", "sed"]),
        ("missing key", ("model: gpt-oss-20b\n", ""), ["model"]),
        ("unknown model", ("gpt-oss-20b", "gpt-oss-20c"), ["gpt-oss-20c", "gpt-oss-20b"]),
        ("unknown gpu", ("h100-sxm", "h100-smx"), ["h100-sxm"]),
        ("text for a number", ("tokens_per_rank: 16", "tokens_per_rank: many"), ["bad.yaml:8"]),
        ("no tokens", ("tokens_per_rank: 16", "tokens_per_rank: 0"), ["bad.yaml:8"]),
        ("negative", ("tokens_per_rank: 16", "tokens_per_rank: -4"), ["bad.yaml:8"]),
        ("huge", ("tokens_per_rank: 16", "tokens_per_rank: 99999999999"), ["bad.yaml:8"]),
        ("EP that does not divide", ("ep: 8", "ep: 7"), ["7"]),
        ("unknown strategy", ("strategy: static", "strategy: magic"), ["magic", "eplb"]),
        ("NaN", ("seed: 1", "memory_fraction: .nan"), ["memory_fraction"]),
        ("no such trace", ("path: trace", "path: nowhere"), ["nowhere"]),
        ("not YAML", ("phase: decode", "phase: [decode"), ["bad.yaml"]),
        ("a price of another GPU", ("h100-neocloud", "b200-neocloud"), ["b200"]),
        ("a list for a mapping", ("placement: {strategy: static}", "placement: [static]"),
         ["bad.yaml:9"]),
        ("duplicate key", ("seed: 1", "seed: 1\nseed: 2"), ["seed"]),
        ("version of the future", ("version: 1", "version: 2"), ["version"]),
        ("too much context", ("context_tokens: 500", "context_tokens: 900000"),
         ["does not fit", "GB"]),
        ("trace of another model", ("gpt-oss-20b", "mixtral-8x7b"), ["32", "8"]),
    ]
    for what, (old, new), needles in cases:
        check(old in SCENARIO, f"{what}: the case is stale")
        expect_error(what, run_text(SCENARIO.replace(old, new, 1)), *needles)
        check(not os.path.exists("bad.db"), f"{what}: results were left")
    expect_error("no such file", moesim("run", "missing.yaml"), "missing.yaml", lines=1)
    expect_error("a directory", moesim("run", "trace"), "trace")
    expect_error("empty file", run_text(""), "bad.yaml")
    expect_error("binary", moesim("run", "experts.npy"), "experts.npy")
    expect_error("override of nothing", moesim("run", "scenario.yaml", "--set", "a.b=1"), "a")
    expect_error("override without value", moesim("run", "scenario.yaml", "--set", "seed"), "seed")
    expect_error("unknown option", moesim("run", "scenario.yaml", "--sed", "1"), "--sed", lines=1)
    expect_error("unknown command", moesim("rum"), "rum", lines=1)
    for command in ("run", "sweep", "claims", "plan", "demo"):  # 2^32 + 1 is not one thread
        expect_error(f"threads of {command}", moesim(command, "--threads", "4294967297"),
                     "expected 1 to 1024", lines=1)
    expect_error("vary without values", moesim("compare", "scenario.yaml", "--vary", "seed"),
                 "--vary", lines=1)
    expect_error("one key varies twice", moesim("compare", "scenario.yaml", "--vary", "seed=1,2",
                                                "--vary", "seed=3"), "seed varies twice", lines=1)
    expect_error("strategies vary twice", moesim("compare", "scenario.yaml", "--strategies", "static",
                                                 "--set", "placement.rebalance_interval_steps=2",
                                                 "--vary", "placement.strategy=static,eplb"),
                 "placement.strategy varies twice", lines=1)
    write("loop.yaml", "inherits: loop.yaml\n")
    expect_error("inherits itself", moesim("run", "loop.yaml"), "loop.yaml")


def test_a_model_too_big_says_by_how_much():
    text = SCENARIO.replace("gpt-oss-20b", "deepseek-v3").replace("path: trace", "path: trace")
    result = run_text(text.replace("nodes: 1", "nodes: 1"))
    expect_error("671 GB on 8 x 80 GB", result)


# ---------------------------------------------------------------------------------- bad traces


def npy(header, payload, magic=b"\x93NUMPY", version=b"\x01\x00", length=None):
    text = header.encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    size = len(text) if length is None else length
    return magic + version + size.to_bytes(2, "little") + text + payload


def test_bad_arrays():
    good = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 24, 4), }"
    payload = np.tile(np.arange(4, dtype=np.uint8), 48).tobytes()
    cases = {
        "truncated": npy(good, payload[:-1]),
        "nothing": b"",
        "header cut": npy(good, payload)[:40],
        "wrong magic": npy(good, payload, magic=b"\x93NUMPI"),
        "header longer than the file": npy(good, b"", length=60000),
        "shape lies": npy(good.replace("(2, 24, 4)", "(3, 24, 4)"), payload),
        "shape overflows": npy(good.replace("(2, 24, 4)", "(4611686018427387904, 24, 4)"), payload),
        "negative shape": npy(good.replace("(2, 24, 4)", "(-2, 24, 4)"), payload),
        "Fortran order": npy(good.replace("False", "True"), payload),
        "big-endian": npy(good.replace("|u1", ">i2"), payload * 2),
        "objects": npy(good.replace("|u1", "|O"), payload),
        "floats": npy(good.replace("|u1", "<f4"), payload * 4),
        "two axes": npy(good.replace("(2, 24, 4)", "(48, 4)"), payload),
        "wrong top-k": npy(good.replace("(2, 24, 4)", "(1, 24, 8)"), payload),
        "wrong layers": npy(good.replace("(2, 24, 4)", "(4, 12, 4)"), payload),
        "id out of range": npy(good, payload[:100] + b"\x20" + payload[101:]),
        "the same expert twice": npy(good, b"\x01" + payload[1:]),
        "no tokens": npy(good.replace("(2, 24, 4)", "(0, 24, 4)"), b""),
    }
    for what, content in cases.items():
        with open("bad.npy", "wb") as file:
            file.write(content)
        result = moesim("trace", "import", "--from", "npy", "--axes", "token,layer,k", "--model",
                        "gpt-oss-20b", "bad.npy", "--out", "bad_trace")
        expect_error(what, result, "bad.npy")
        check(not os.path.exists("bad_trace"), f"{what}: a trace was left")
        check(not os.path.exists("bad_trace.partial"), f"{what}: a partial trace was left")
    ids = EXPERTS_RAW[:10].copy()
    ids[3, 5, 2] = 4000000000
    expect_error("int64 id out of range", import_trace(ids, "bad_trace"), "experts.npy", "4000000000")


def test_bad_trace_directories():
    def broken(name, change):
        shutil.rmtree("broken", ignore_errors=True)
        shutil.copytree("trace", "broken")
        change()
        return moesim("trace", "check", "broken")

    def cut(name, size):
        os.truncate(os.path.join("broken", name), size)

    def swap_yaml(old, new):
        path = os.path.join("broken", "trace.yaml")
        text = open(path).read()
        check(re.search(old, text), f"trace.yaml has no {old}")
        write(path, re.sub(old, new, text))

    def poke_id():
        path = os.path.join("broken", "experts-00000.npy")
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x7f")

    def weights(value):
        shape = np.load(os.path.join("broken", "experts-00000.npy")).shape
        array = np.full(shape, 0.25, dtype=np.float16)
        array[1, 2, 3] = value
        np.save(os.path.join("broken", "gate_weights-00000.npy"), array)

    expect_error("truncated shard", broken("", lambda: cut("experts-00000.npy", 5000)),
                 "experts-00000.npy")
    expect_error("no yaml", broken("", lambda: os.remove("broken/trace.yaml")), "trace.yaml")
    expect_error("no shard", broken("", lambda: os.remove("broken/experts-00000.npy")), "experts")
    expect_error("unknown key", broken("", lambda: swap_yaml("origin", "orgin")), "trace.yaml")
    expect_error("more experts", broken("", lambda: swap_yaml("top_k: 4", "top_k: 5")), "experts")
    expect_error("id out of range", broken("", poke_id), "experts-00000.npy", "127")
    expect_error("NaN weight", broken("", lambda: weights(np.nan)), "gate_weights-00000.npy")
    expect_error("negative weight", broken("", lambda: weights(-1)), "gate_weights-00000.npy")
    expect_error("requests of another trace",
                 broken("", lambda: write("broken/requests.csv",
                                          "request,tag,arrival_s,prompt_tokens,decode_tokens,"
                                          "row_offset\n0,a,0,1,1,0\n1,a,0,1,1,999999\n")),
                 "requests.csv:3")
    broken("", poke_id)
    expect_error("run meets an id out of range",
                 moesim("run", "scenario.yaml", "--set", "trace.path=broken", "-o", "broken.db",
                        "--set", "trace.batching=consecutive", "--set", "trace.tokens_per_rank=1",
                        "--set", "trace.steps=500"),
                 "experts-00000.npy")
    check(not os.path.exists("broken.db"), "a failed run left results")


# ------------------------------------------------------------------------- disks, kills, results


def test_unwritable_places():
    expect_error("results below a file",
                 moesim("run", "scenario.yaml", "-o", "scenario.yaml/where.db"), "scenario.yaml")
    check(moesim("run", "scenario.yaml", "-o", "made/for/me.db").returncode == 0,
          "directories of results are made")
    expect_error("results over a directory", moesim("run", "scenario.yaml", "-o", "trace"), "trace")
    expect_error("trace into a file", import_trace(EXPERTS_RAW[:50], "scenario.yaml"),
                 "scenario.yaml")
    expect_error("trace that exists", import_trace(EXPERTS_RAW[:50], "trace"), "trace", "--force")
    expect_error("report over a file", moesim("report", "ok.db", "-o", "scenario.yaml"),
                 "scenario.yaml")
    expect_error("report of nothing", moesim("report", "nothing.db", "-o", "page"), "nothing.db")
    expect_error("report of a YAML", moesim("report", "scenario.yaml", "-o", "page"),
                 "scenario.yaml")
    check(not os.path.exists("page/index.html"), "a failed report leaves no page")


def limit_files(bytes_max):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))
    return limit


def test_a_full_disk_leaves_nothing_to_trust():
    """A limit on file size stands in for a full disk: writes fail in the middle."""
    result = moesim("run", "scenario.yaml", "-o", "full/results.db", "--report", "full/page",
                    preexec_fn=limit_files(20000))
    expect_error("full disk while storing", result, "full/results.db")
    check(not os.path.exists("full"), "a run that was not stored left files or directories")
    np.save("experts.npy", EXPERTS_RAW)
    result = moesim("trace", "import", "--from", "npy", "--axes", "token,layer,k", "--model",
                    "gpt-oss-20b", "experts.npy", "--out", "full_trace",
                    preexec_fn=limit_files(20000))
    expect_error("full disk while importing", result, "full_trace")
    check(not os.path.exists("full_trace"), "half an import was left")
    with open("/dev/full", "w") as full:
        result = subprocess.run([MOESIM, "run", "scenario.yaml", "--json"], stdout=full,
                                stderr=subprocess.PIPE, text=True, timeout=120)
    check(result.returncode == 1, "writing to a full standard output is an error")
    with open("/dev/full", "w") as full:
        for words in ["--help"], ["--version"], ["run", "--help"]:
            result = subprocess.run([MOESIM, *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                    timeout=120)
            check(result.returncode == 1 and "No space" in result.stderr, f"{words} to a full disk")


def test_json_and_timelines_are_text_whatever_a_file_is_called():
    name = b"n\xffame"
    shutil.copy("scenario.yaml", name + b".yaml")
    for words in ["check"], ["run", "-o", b"name.db", "--timeline", b"name.json"]:
        result = subprocess.run([MOESIM, words[0], name + b".yaml", *words[1:], "--json"],
                                capture_output=True, timeout=120)
        check(result.returncode == 0, f"{words}: {result.stderr}")
        answer = json.loads(result.stdout.decode())
        check(words[0] == "run" or answer["scenario"] == "n?ame", f"{words}: {answer}")
    with open("name.json", encoding="utf-8") as file:
        check("n?ame" in file.read(), "a timeline of no name")


def test_a_sweep_tells_what_its_cheapest_points_drop():
    study = write("drops.yaml", "version: 1\nscenario: scenario.yaml\nvary:\n  routing.capacity_factor: [0, 1]\n")
    result = moesim("sweep", study, "-o", "drops.db", "--json")
    check(result.returncode == 0, f"a sweep: {result.stderr}")
    points = {each["label"]: each for each in json.loads(result.stdout)["cheapest"]}
    check(points["routing.capacity_factor=0"]["dropped_share"] == 0, "a dropless point drops")
    check(0 < points["routing.capacity_factor=1"]["dropped_share"] < 1, "a limit drops nothing")
    text = moesim("sweep", study, "-o", "drops.db").stdout
    check("$/M tok  dropped  cheapest points" in text, f"a table without drops: {text}")
    check(text.count("\nmodel error unknown: roofline and alpha_beta are not fitted") == 1, text)
    write("mark.yaml", 'gpu: h100-sxm\nper_gpu_hour: 3\ncurrency: DEM\nusd_per_unit: 0.6\n'
          'date: "2026-11"\nsource: our contract\n')
    for price, heading in ("[mark.yaml]", "DEM/M tok"), ("[mark.yaml, 2]", "$/M tok"):
        study = write("paid.yaml", f"version: 1\nscenario: scenario.yaml\nvary:\n  price: {price}\n")
        text = moesim("sweep", study, "-o", "paid.db").stdout
        check(f"{heading}  cheapest points" in text, f"no {heading}: {text}")


def test_check_says_what_redundant_experts_take():
    memory = [json.loads(moesim("check", "scenario.yaml", "--json", "--set",
                                f"placement.redundant_experts={count}").stdout)["memory"]
              for count in (0, 8)]
    more = memory[1]["expert_bytes"] - memory[0]["expert_bytes"]
    check(memory[0]["redundant_bytes"] == 0 < more == memory[1]["redundant_bytes"], memory)
    text = moesim("check", "scenario.yaml", "--set", "placement.redundant_experts=8").stdout
    check("are for 8 redundant ones a layer" in text, text)
    check("redundant" not in moesim("check", "scenario.yaml").stdout, "a word on none")


def test_engines_are_listed_and_validated_without_a_word_of_fits():
    for engine in json.loads(moesim("list", "engines", "--json").stdout):
        check(0 < engine["error_median"] < engine["error_p90"] < 1, f"errors of {engine}")
    write("engines.csv", "backend,model_path,system,mode,isl,osl,gemm_quant_mode,moe_quant_mode,"
          "batch_size,tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,"
          "silicon_tpot_ms,silicon_data_source\n"
          "vllm,nobody/none,h100_sxm,agg,512,64,,,4,1,1,1,1,1,30,6,here\n")
    result = moesim("validate", "--engines", "engines.csv")
    check(result.returncode == 0 and "there is no preset of its model" in result.stdout, result)
    check("Part of the fit" not in result.stdout, result.stdout)


def test_experts_cut_over_gpus_are_compared_with_whole_ones():
    """Every GPU computes every choice, at a part of the width: nobody is busier than another."""
    cut = ("--set", "dispatch.collective=allgather_reducescatter", "--set", "parallel.attention=tp")
    result = moesim("compare", "scenario.yaml", "--vary", "parallel.expert_tp=1,8", *cut, "--json",
                    "-o", "cut.db")
    check(result.returncode == 0, result.stderr)
    whole, parts = json.loads(result.stdout)["runs"]
    check(parts["rank_tokens_max_over_mean"] == 1 < whole["rank_tokens_max_over_mean"], "imbalance")
    check(parts["digest"] != whole["digest"], "one digest for both")
    kept = sqlite3.connect("cut.db").execute("SELECT expert_tp FROM run ORDER BY expert_tp")
    check([row[0] for row in kept] == [1, 8], "expert_tp is stored")
    text = moesim("run", "scenario.yaml", "--set", "parallel.expert_tp=8", *cut, "-o", "cut.db",
                  "--report", "cut").stdout
    check(", TP8, " in text.split("\n")[0], text)
    page = open("cut/index.html", encoding="utf-8").read()
    check("experts TP8, attention TP8" in page, "a page that does not say so")
    checked = moesim("check", "scenario.yaml", "--set", "parallel.expert_tp=2", *cut).stdout
    check("ep 8, expert_tp 2, tp 8" in checked and "note" not in checked, checked)
    checked = moesim("check", "scenario.yaml", "--set", "parallel.expert_tp=4", "--set",
                     "precision.expert=fp8", *cut).stdout
    check("no multiple of 128" in checked, checked)


def test_memory_cuts_experts_or_deals_them():
    """Mixtral's 8 experts: one each, or an eighth of each; three do not divide their width."""
    fits = [json.loads(moesim("memory", "mixtral-8x7b", "--gpu", "h100-sxm", "--gpus", "8",
                              "--experts", way, "--json").stdout)["rows"][0] for way in ("ep", "tp")]
    check(fits[0]["routed_expert_bytes"] == fits[1]["routed_expert_bytes"], fits)
    text = moesim("memory", "mixtral-8x7b", "--gpu", "h100-sxm", "--gpus", "3", "--experts",
                  "tp").stdout
    check("does not divide" in text and "experts cut over all GPUs" in text, text)
    expect_error("neither", moesim("memory", "mixtral-8x7b", "--gpu", "h100-sxm", "--experts", "x"),
                 "neither ep nor tp", lines=1)


def test_trace_stats_names_the_hottest_layers():
    layers = json.loads(moesim("trace", "stats", "trace", "--json").stdout)["layers"]
    text = moesim("trace", "stats", "trace").stdout
    for title, key in (("layers with the hottest experts, max/mean: ", "max_over_mean"),
                       ("layers with the busiest ranks, ep8: ", "ep_max_over_mean")):
        hottest = sorted(layers, key=lambda layer: -layer[key])[:8]  # stable: of equals the first
        words = ", ".join(f"{layer['layer']} ({layer[key]:.2f})" for layer in hottest)
        check(title + words + "\n" in text, f"{title}{words} is not in {text}")


def test_a_kill_leaves_nothing_to_trust():
    write("long.yaml", SCENARIO.replace("batching: interleaved", "batching: interleaved, steps: 4000"))
    check(moesim("run", "scenario.yaml", "-o", "kill.db").returncode == 0, "first run")
    for delay_s in (0.05, 0.2, 0.5, 1.0):
        process = subprocess.Popen([MOESIM, "run", "long.yaml", "-o", "kill.db", "--detail"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        process.kill()
        process.wait()
        check(complete_runs("kill.db") == 1, f"killed after {delay_s} s: the first run stays")
        result = moesim("report", "kill.db", "-o", "kill_page")
        check(result.returncode == 0, f"report after a kill: {result.stderr}")
    check(moesim("run", "scenario.yaml", "-o", "kill.db", "--seed", "5").returncode == 0, "again")
    with sqlite3.connect("kill.db") as database:
        count = database.execute("select count(*) from run where complete != 1").fetchone()[0]
        check(count == 0, "what the kills left was removed")
        check(database.execute("pragma integrity_check").fetchone()[0] == "ok", "integrity")


def test_a_kill_takes_back_what_was_made_for_nothing():
    """As soon as there is a results file the command is killed: it has not stored a run by then."""
    write("longer.yaml", SCENARIO.replace("interleaved", "interleaved, steps: 40000"))
    write("longer_sweep.yaml", "version: 1\nscenario: longer.yaml\nvary: {seed: [1, 2]}\n")
    for command in (["run", "longer.yaml"], ["run", "longer.yaml", "--detail"],
                    ["sweep", "longer_sweep.yaml"]):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process = subprocess.Popen([MOESIM, *command, "-o", "nothing/came/in.db"],
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            while not os.path.exists("nothing/came/in.db") and process.poll() is None:
                pass
            process.send_signal(number)
            process.communicate()  # to the end of its output: who clears away holds it as well
            check(process.returncode == -number, f"{command}: ended by {process.returncode}")
            check(not os.path.exists("nothing/came/in.db"), f"{command}, {number}: results stay")
            check(command[0] == "sweep" or not os.path.exists("nothing"),
                  f"{command}, {number}: directories stay")
            shutil.rmtree("nothing", ignore_errors=True)


# -------------------------------------------------------------------------- timeline and diff


def test_timeline_shows_every_rank_without_gaps():
    plain = json.loads(moesim("run", "scenario.yaml", "--json", "-o", "timeline.db").stdout)
    result = moesim("run", "scenario.yaml", "--json", "-o", "timeline.db", "--timeline", "t.json",
                    "--timeline-steps", "7-9", "--set", "placement.strategy=eplb", "--set",
                    "placement.rebalance_interval_steps=8")
    check(result.returncode == 0, result.stderr)
    run = json.loads(result.stdout)
    with open("t.json") as file:
        trace = json.load(file)
    check(trace["otherData"]["run_id"] == run["run_id"], "timeline names its run")
    check(not os.path.exists("t.json.partial"), "partial timeline stays")
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    steps = {event["args"]["step"]: event for event in slices if event["name"].startswith("step ")}
    check(sorted(steps) == [7, 8, 9], "steps of the timeline")
    for step, whole in steps.items():
        for rank in range(8):
            mine = sorted((event["ts"], event["dur"]) for event in slices if event is not whole
                          and event["args"]["step"] == step and event["tid"] == rank
                          and event["pid"] == 0)
            end = whole["ts"]
            for begin, duration in mine:
                check(abs(begin - end) < 1e-6, f"gap or overlap on rank {rank} in step {step}")
                end = begin + duration
            check(abs(end - whole["ts"] - whole["dur"]) < 1e-6, f"rank {rank} fills step {step}")
    marks = [event for event in trace["traceEvents"] if event["ph"] == "i"]
    check(len(marks) == 1 and marks[0]["args"]["lands_in_step"] == 8, "one rebalance is marked")
    check(any(event["name"] == "rebalance" for event in slices), "waiting for weights is shown")
    timed = json.loads(moesim("run", "scenario.yaml", "--json", "-o", "timeline.db", "--timeline",
                              "t.json").stdout)
    check(timed["digest"] == plain["digest"], "a timeline changes nothing")


def test_timeline_refusals():
    run = ("run", "scenario.yaml", "-o", "refused.db")
    for steps in ("3-2", "-1", "a", "1-", "1-2x", ""):
        expect_error(f"--timeline-steps {steps!r}", moesim(*run, "--timeline", "r.json",
                     f"--timeline-steps={steps}"), "--timeline-steps", lines=1)
    expect_error("steps without a timeline", moesim(*run, "--timeline-steps", "0-1"),
                 "needs --timeline", lines=1)
    expect_error("timeline of a comparison", moesim("compare", "scenario.yaml", "--vary",
                 "trace.tokens_per_rank=16", "--timeline", "r.json"), "moesim run", lines=1)
    expect_error("steps behind the end", moesim(*run, "--timeline", "r.json", "--timeline-steps",
                 "5000"), "31 steps", lines=1)
    expect_error("a page that cannot be", moesim(*run, "--report", "/proc/none"), "/proc/none",
                 lines=1)
    expect_error("no such directory", moesim(*run, "--timeline", "nowhere/r.json"), "nowhere/r.json",
                 lines=1)
    result = moesim(*run, "--timeline", "r.json", preexec_fn=limit_files(140000))
    expect_error("timeline on a full disk", result, "r.json", "timeline was not written", lines=1)
    check(not os.path.exists("r.json") and not os.path.exists("r.json.partial"), "half a timeline")
    check(not os.path.exists("refused.db"), "a run whose timeline failed leaves no results")


def test_diff_tells_two_runs_apart():
    for path, seed in (("diff.db", "1"), ("diff.db", "2"), ("diff2.db", "1")):
        moesim("run", "scenario.yaml", "-o", path, "--seed", seed, "--set",
               "routing.capacity_factor=" + seed)
    result = moesim("diff", "diff.db", "first", "last", "--json")
    check(result.returncode == 0, result.stderr)
    diff = json.loads(result.stdout)
    check(not diff["equal"], "capacity factors 1 and 2 differ")
    keys = {key["key"]: (key["a"], key["b"]) for key in diff["keys"]}
    check(keys == {"seed": ("1", "2"), "routing.capacity_factor": ("1", "2")}, f"keys {keys}")
    with sqlite3.connect("diff.db") as database:
        rows = database.execute("select step_ns_mean, dropped_assignments * 1.0 / assignments, "
                                "bytes_sent from run order by rowid").fetchall()
    for column, name in enumerate(("step_ns_mean", "dropped_share", "bytes_sent")):
        metric = diff["metrics"][name]
        check(abs(metric["change"] - (rows[1][column] - rows[0][column])) < 1e-6, name)
    step = diff["metrics"]["step_ns_mean"]
    phases = [name for name in diff["metrics"] if name.endswith("_ns_mean") and
              name != "step_ns_mean"]
    check(abs(sum(diff["metrics"][name]["a"] for name in phases) / step["a"] - 1) < 1e-9,
          "phases sum to the step")
    same = json.loads(moesim("diff", "diff.db", "diff2.db", "first", "first", "--json").stdout)
    check(same["equal"] and same["keys"] == [], "the same run in two files is equal")
    text = moesim("diff", "diff.db", "diff2.db", "first", "first").stdout
    check("equal: the digests are the same" in text, text)
    text = moesim("diff", "diff.db", "first", "last").stdout
    check("routing.capacity_factor: 1 -> 2" in text and "layers that changed most" in text, text)
    check(re.search("^zero in both: .*fetch_ns_mean", text, re.MULTILINE), text)
    check("\nfetch_ns_mean" not in text, "what neither run has is no row")


def test_examples_name_what_there_is():
    kinds = {"run": ("studies",), "compare": ("studies",), "check": ("studies",),
             "serve": ("serving",), "study": ("studies",), "sweep": ("sweeps",)}
    for command, where in kinds.items():
        text = moesim(command, "--help").stdout
        names = re.findall(rf"^  (?:mpirun .* )?moesim {command} (\S+)", text, re.MULTILINE)
        check(names, f"{command} has an example")
        for name in names:
            check(any(moesim("list", kind, name).returncode == 0 for kind in where),
                  f"{command} --help: there is no {name}")


def test_list_shows_one():
    prices = json.loads(moesim("list", "prices", "--json").stdout)
    check(all(price["currency"] == "USD" and price["usd_per_unit"] == 1 for price in prices),
          "prices in other currencies")
    text = moesim("list", "prices", "h100-neocloud").stdout
    check("h100-neocloud.yaml" in text and "usd_per_gpu_hour: " in text, text)
    check("alias" in moesim("list", "gpus", "H100 SXM").stdout, "an alias names a preset")
    text = moesim("list", "strategies", "swift").stdout
    check(text.startswith("swift") and "eplb " not in text, text)
    entry = json.loads(moesim("list", "models", "gpt-oss-20b", "--json").stdout)
    check([item["name"] for item in entry] == ["gpt-oss-20b"], f"{entry}")
    expect_error("misspelt", moesim("list", "strategies", "swfit"), "did you mean swift", lines=1)
    expect_error("no such price", moesim("list", "prices", "nix"), "'nix'", lines=1)
    claims = json.loads(moesim("claims", "--list", "--json").stdout)["claims"]
    check(len(claims) > 20 and set(claims[0]) == {"name", "claim", "source"}, f"{claims[:1]}")


def test_studies_are_listed_with_the_command_that_takes_them():
    listed = json.loads(moesim("list", "studies", "--json").stdout)
    kinds = {study["command"] for study in listed}
    check(kinds == {"run", "study"}, f"{kinds}")
    for study in listed:
        has_answer = "\nanswer:" in moesim("list", "studies", study["name"]).stdout
        check((study["command"] == "study") == has_answer, f"{study}")
        check(f"(moesim {study['command']} {study['name']})" in moesim("list", "studies").stdout,
              f"{study['name']}: no command in the text")


def test_the_claim_in_the_help_holds():
    text = moesim("claims", "--help").stdout
    claim = re.search(r"^  version: 1\n(?:  .*\n)+", text, re.MULTILINE)
    check(claim, text)
    write("helped.yaml", claim.group(0))
    said = json.loads(moesim("claims", "helped.yaml", "-o", "helped", "--json").stdout)
    check("holds" in json.dumps(said), f"{said}")


def test_what_is_missing_is_told_with_what_makes_it():
    expect_error("no recording", moesim("check", "gpt_oss_20b_decode_8xh100"),
                 "moesim trace generate --preset gpt-oss-20b --tokens 100000 "
                 "--out traces/gpt-oss-20b makes one", lines=1)
    write("unknown_model.yaml", SCENARIO.replace("model: gpt-oss-20b", "model: mixtral-8x22b")
          .replace("path: trace,", "path: nowhere,"))
    expect_error("no preset", moesim("check", "unknown_model.yaml"), "moesim trace import makes one")
    write("lab.yaml", "source: us\ngpu: nowhere.yaml\ngpus_per_node: 8\n")
    expect_error("a cluster's file", moesim("plan", "--model", "deepseek-v3", "--gpu", "lab.yaml:2",
                 "--input", "1k", "--output", "1k", "--requests-per-day", "1M"),
                 "lab.yaml:2: gpu: 'nowhere.yaml' is neither a file nor one of the gpus", lines=1)
    columns = ("device,num_sms,command,version,phase,model,dtype,num_experts,top_k,hidden_dim,"
               "ffn_dim,shared_ffn_dim,activation,num_tokens,routing,rank,num_ranks,median_ns,min_ns,"
               "status,expert_tokens\n")
    bench = write("bench.csv", columns + "".join(
        f"Box,1,forward,cpu,{phase},m,fp32,4,2,64,32,0,swiglu,{n},balanced,0,1,{n},{n},ok,{n} {n} 0 0\n"
        for n in (4, 8, 16, 32) for phase in ("gate_up", "layer", "wall")))
    shown = moesim("validate", "--fit", bench, "--bench", bench).stdout
    check("\nwall: the layer by the wall clock" in shown, f"what is wall? {shown}")
    for command in ("validate", "calibrate"):
        expect_error("a CSV of moe-bench", moesim(command, "--kernels-moe", bench),
                     "bench.csv: is a CSV of moe-bench: give it with --bench", lines=1)
    unknown = moesim("run", "nosuch").stderr
    check("deepseek_v3_decode_32xh800" in unknown and "drops_capacity" not in unknown, unknown)
    check("drops_capacity" in moesim("study", "nosuch").stderr, "studies are known to study")
    expect_error("what is ignored", moesim("calibrate", "--bench", "x.csv", "--out", "fitted"),
                 "--bench takes no other option", lines=1)
    for holdout in ("shape:1", "shape:x", "shape:", "shape:257", "random:1"):
        expect_error("what cannot be held out",
                     moesim("calibrate", "--kernels-moe", "x.csv", "--holdout", holdout),
                     f"shape:K with K groups from 2 to 256, gpu, ep or random:F with F between 0 and 1, not '{holdout}'")


def test_names_of_other_kinds_are_pointed_at():
    for name, needle in (("deepseek_r1_1m_requests", "moesim plan"),
                         ("router_lab_capacity", "moesim sweep"), ("gpt-oss-20b", "the models"),
                         ("redundancy_memory", "moesim study redundancy_memory")):
        expect_error(name, moesim("run", name), needle, lines=1)
    expect_error("a cluster's price", moesim("plan", "--model", "deepseek-v3", "--gpu",
                 "h200-nvlink:b200-neocloud", "--input", "1k", "--output", "1k",
                 "--requests-per-day", "1M"), "price of another GPU", lines=1)
    expect_error("trace command", moesim("trace", "stat"), "did you mean 'stats'", lines=1)


def test_a_comparison_needs_what_varies_nowhere_else():
    """The scenario's own trace is not there; a strategy that changes in the last step is worth
    nobody knows what; variants that differ in their price alone are equally long."""
    away = write("away.yaml", SCENARIO.replace("path: trace,", "path: nowhere,"))
    steps = ["--set", "trace.steps=3", "--set", "placement.rebalance_interval_steps=2", "--json"]
    result = moesim("compare", away, "--vary", "trace.path=trace", "--strategies", "static,eplb",
                    *steps, "-o", "away.db")
    check(result.returncode == 0, f"a trace that is varied: {result.stderr}")
    ranking = {each["name"]: each for each in json.loads(result.stdout)["groups"][0]["ranking"]}
    check(ranking["eplb"]["changes"] == 1 and ranking["eplb"]["moves"] > 0, "no change at the end")
    for key in "change_ns", "settled_gain", "payback_steps":
        check(ranking["eplb"][key] is None, f"{key} of a change in the last step")
    check(ranking["static"]["change_ns"] == 0, "leaving experts costs nothing")
    if shutil.which("gnuplot") is not None:
        check(moesim("report", "away.db", "-o", "away").returncode == 0, "no page")
        with open("away/figures/strategies.csv", encoding="utf-8") as file:
            rows = {row["strategy"]: row for row in csv.DictReader(file)}
        check(rows["eplb"]["settled_gain_share"] == rows["eplb"]["change_ns"] == "", "on the page")
        check(float(rows["static"]["settled_gain_share"]) == 0, "static on the page")
    expect_error("a trace that is not there", moesim("compare", away, "--vary", "seed=1,2"),
                 "there is no 'nowhere'")
    verdict = json.loads(moesim("compare", "scenario.yaml", "--vary", "price=2,3", "--json",
                                "-o", "away.db").stdout)["groups"][0]["verdict"]
    check(verdict == "Steps are equally long.", f"a verdict on prices: {verdict}")


def test_rows_that_cannot_be_so_are_told_with_their_cell():
    header = ("kernel,gpu,library,dtype,kv_dtype,phase,m,n,k,num_groups,num_experts,topk,hidden,inter,"
              "ep,local_experts,tokens,tokens_scope,tokens_per_expert,batch,seq_or_kv_len,q_heads,"
              "model_shape,distribution,num_slots,latency_us\n")
    row = "dense GEMM,NVIDIA H100 80GB HBM3,TRT-LLM 1.3,bfloat16,,,%s,4096,7168" + 17 * "," + "26.5\n"
    write("odd.csv", header + row % 16 + row % "many" + row % 0)
    reason, words = "a cell is not the number that is due there", "odd.csv:3: m is 'many'"
    text = moesim("validate", "--kernels", "odd.csv").stdout
    check(f"skipped 2: {reason} (first: {words}" in text, f"odd rows: {text}")
    answer = json.loads(moesim("validate", "--kernels", "odd.csv", "--json").stdout)
    check(answer["skipped_reasons"] == {reason: 2}, f"reasons: {answer}")
    check(answer["skipped_first"][reason].startswith(words), f"the first: {answer}")
    write("odd.csv", header + row % 16 + row % 0)
    text = moesim("validate", "--kernels", "odd.csv").stdout
    check(f"skipped 1: {reason} (odd.csv:3: m is '0'" in text, f"one odd row: {text}")


def test_strategies_that_were_never_asked_are_told():
    late = ("--set", "placement.rebalance_interval_steps=1000", "-o", "late.db")
    text = moesim("compare", "scenario.yaml", "--vary", "placement.strategy=static,eplb", *late).stdout
    words = " ".join(text.split())
    check("no strategy was asked" in words and "does not pay" not in words, text)
    text = moesim("compare", "scenario.yaml", "--vary", "trace.tokens_per_rank=8,16", "--set",
                  "placement.strategy=eplb", *late).stdout
    check(" ".join(text.split()).count("eplb was never asked") == 2, text)
    text = moesim("run", "scenario.yaml", "--set", "placement.strategy=eplb", *late).stdout
    check("eplb was never asked" in text and "beside a run" not in text, text)
    text = moesim("run", "scenario.yaml", "--set", "placement.strategy=eplb", "-o", "soon.db",
                  "--set", "placement.rebalance_interval_steps=10").stdout
    check("compare scenario.yaml --strategies static,eplb" in text, text)
    check("in the 10 steps" in text, text)


def test_a_page_that_fails_does_not_lose_the_run():
    result = moesim("run", "scenario.yaml", "-o", "kept.db", "-r", "page", env={**os.environ, "PATH": "/nowhere"})
    expect_error("no gnuplot", result, "gnuplot-nox", "moesim report kept.db -o page", lines=2)
    check(complete_runs("kept.db") == 1, "the run is stored")
    check(not os.path.exists("page"), "half a page")
    write("a-file", "")
    expect_error("a file", moesim("report", "kept.db", "-o", "a-file"), "a-file: is not a directory",
                 lines=1)


def test_misspelt_options_are_guessed():
    for arguments in (("run", "scenario.yaml", "--repot", "x"), ("diff", "--jsno"), ("report", "--rnu"),
                      ("plan", "--modle", "x"), ("memory", "x", "--cpu=y"), ("list", "--jsn0"),
                      ("validate", "--kernals"), ("calibrate", "--holdoff"), ("study", "--chekc"),
                      ("trace", "stats", "x", "--epp", "3"), ("kernels", "x", "--prefil1")):
        expect_error(" ".join(arguments), moesim(*arguments), "did you mean --", lines=1)
    for arguments in (("run", "scenario.yaml", "--report"), ("demo", "-o"), ("calibrate", "--gpu")):
        expect_error(" ".join(arguments), moesim(*arguments), "needs a value", lines=1)
    expect_error("of two letters", moesim("compare", "scenario.yaml", "-zj"), "unknown option -z",
                 lines=1)


def test_diff_gates():
    for seed in ("1", "2"):
        moesim("run", "scenario.yaml", "-o", "gates.db", "--set", "routing.capacity_factor=" + seed)
    diff = ("diff", "gates.db", "first", "last")
    result = moesim(*diff, "--fail-if", "dropped_share>+3%", "--fail-if", "step_ns_mean>1e9")
    check(result.returncode == 0 and result.stderr == "", f"gates pass: {result.stderr}")
    result = moesim(*diff, "--fail-if", "dropped_share<-3%", "--fail-if", "bytes_sent>+0.1%",
                    "--fail-if", "num_steps>0")
    check(result.returncode == 1, "gates fail")
    check(result.stderr.count("gate failed") == 2 and "num_steps" not in result.stderr,
          f"failed gates are named: {result.stderr}")
    result = moesim(*diff, "--json", "--fail-if", "dropped_share<-3%")
    check(result.returncode == 1 and json.loads(result.stdout)["gates"][0]["failed"], "JSON gates")
    expect_error("metric misspelt", moesim(*diff, "--fail-if", "step_ns_maen>1%"),
                 "did you mean step_ns_mean?", lines=1)
    expect_error("metrics that no run has", moesim(*diff, "--fail-if", "ttft_ns_p50>1%", "--fail-if",
                                                   "tpot_ns_p50>1%"),
                 "A has no ttft_ns_p50", "A has no tpot_ns_p50", lines=2)
    expect_error("no limit", moesim(*diff, "--fail-if", "step_ns_mean"), "METRIC>LIMIT", lines=1)
    expect_error("no number", moesim(*diff, "--fail-if", "tokens>x%"), "percentage", lines=1)
    expect_error("no such run", moesim("diff", "gates.db", "first", "nix"), "'nix'", "it holds")
    expect_error("no such file", moesim("diff", "nix.db", "first", "last"), "nix.db", lines=1)
    expect_error("one run only", moesim("diff", "gates.db", "first"), "--help", lines=1)


def main():
    global EXPERTS_RAW
    EXPERTS_RAW = make_experts()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        result = import_trace(EXPERTS_RAW)
        check(result.returncode == 0, f"import: {result.stderr}")
        write("scenario.yaml", SCENARIO)
        result = moesim("run", "scenario.yaml", "-o", "ok.db")
        check(result.returncode == 0, f"run: {result.stderr}")
        for name, test in list(globals().items()):
            if name.startswith("test_") and PATTERN in name:
                test()
        os.chdir("/")
    print(f"{checks - len(failures)} of {checks} checks hold")
    return 1 if failures else 0


sys.exit(main())
