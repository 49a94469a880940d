#!/usr/bin/env python3
"""Uses `moesim serve` as a user does: equal runs, what is stored, every kind of bad input.

Usage: serve_cli.py MOESIM SOURCE_DIRECTORY
"""
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

MOESIM, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
CHAT = os.path.join(SOURCE, "scenarios/serving/gpt_oss_20b_chat_8xh100.yaml")
SMALL = ["--set", "trace.tokens=4096", "--set", "trace.steps=2",
         "--set", "serving.arrivals.duration_s=10", "--set", "serving.batch={tokens: 64, sequences: 32}"]
failures = []


def check(truth, what):
    if not truth:
        failures.append(what)
        print("FAILED:", what)


def moesim(*args):
    return subprocess.run([MOESIM, *args], capture_output=True, text=True, timeout=300)


def expect_error(what, result, *needles):
    check(result.returncode == 1, f"{what}: exit {result.returncode}")
    check(all(line.startswith("moesim: ") for line in result.stderr.splitlines()),
          f"{what}: {result.stderr}")
    check(result.stdout == "", f"{what}: printed {result.stdout}")
    for needle in needles:
        check(needle in result.stderr, f"{what}: '{needle}' is not in {result.stderr}")


def equal_runs():
    digests = []
    for threads in "1", "3":
        result = moesim("serve", CHAT, *SMALL, "-o", f"run{threads}.db", "--threads", threads,
                        "--json", "--detail")
        check(result.returncode == 0, f"serve: {result.stderr}")
        answer = json.loads(result.stdout)
        digests.append(answer["digest"])
        pool = answer["pools"]["main"]
        check(pool["gpu_model_error_median"] > 0 and pool["whole_engine_error_median"] == 0.08,
              f"what steps are off: {pool}")
        check(answer["host_error_median"] is None, "an error of no host")
    check(digests[0] == digests[1], "threads change the digest")
    text = moesim("serve", CHAT, *SMALL, "-o", "run1.db", "--set", "serving.engine=trtllm").stdout
    for words in ("model error    fitted, ", "; 8 % of whole engines", "exchange error deepep_low",
                  "host           33 ms of each first token"):
        check(words in text, f"'{words}' is not in {text}")
    other = moesim("serve", CHAT, *SMALL, "-o", "run1.db", "--seed", "2", "--json")
    check(json.loads(other.stdout)["digest"] != digests[0], "the seed changes nothing")


def rows(path, query):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


def stored():
    run_id = rows("run3.db", "SELECT run_id FROM run WHERE complete = 1")[0][0]
    where = f"WHERE run_id = '{run_id}'"
    total = dict(rows("run3.db", f"SELECT name, value FROM serving_total {where}"))
    requests = rows("run3.db", f"SELECT count(*), sum(decode_tokens) FROM request {where}")[0]
    check(requests == (total["num_requests"], total["new_tokens"]),
          f"requests {requests} are not {total}")
    arrivals = rows("run3.db", f"SELECT sum(arrivals) FROM serving_window {where}")[0][0]
    check(arrivals == total["num_requests"], "windows lose arrivals")
    for table in "serving", "serving_total", "serving_latency", "serving_curve", "serving_window", \
            "request":
        one = rows("run1.db", f"SELECT * FROM {table} {where}")
        check(one == rows("run3.db", f"SELECT * FROM {table} {where}") and len(one) > 0,
              f"{table} differs between threads")
    # Of 201 quantiles, the middle one is the median.
    middle = rows("run3.db", f"SELECT value_s FROM serving_curve {where} AND measure = 'ttft' "
                             "AND fraction = 0.5")
    check(middle == rows("run3.db", f"SELECT p50_s FROM serving_latency {where} "
                                    "AND measure = 'ttft'"), "the curve misses the median")


def differences():
    """The batch of steps is the same, what arrives is not."""
    slow = moesim("serve", CHAT, *SMALL, "--set", "serving.arrivals.rate_per_s=5", "-o", "two.db",
                  "--json")
    fast = moesim("serve", CHAT, *SMALL, "-o", "two.db", "--json")
    both = [json.loads(each.stdout) for each in (slow, fast)]
    limit = ("--fail-if", "ttft_ns_p99>-99%")
    diff = moesim("diff", "two.db", "first", "last", "--json", *limit)
    check(diff.returncode == 1 and "gate failed" in diff.stderr, f"a gate: {diff.stderr}")
    answer = json.loads(diff.stdout)
    check(not answer["equal"], "other requests are equal")
    check([answer[side]["digest"] for side in "ab"] == [each["digest"] for each in both],
          "a served run has two digests")
    metric = answer["metrics"]
    check(metric["step_ns_mean"]["change"] == 0, "the batch of steps differs")
    for side, each in zip("ab", both):
        waits = each["latency"]["ttft"]
        check(abs(metric["ttft_ns_p99"][side] - waits["p99_s"] * 1e9) < 1, f"p99 of {side}")
        check(abs(metric["goodput_per_s"][side] / each["goodput_per_s"] - 1) < 1e-9,
              f"goodput of {side}")
        usd = each["usd"] / each["new_tokens"] * 1e6
        check(abs(metric["usd_per_million_new"][side] / usd - 1) < 1e-9, f"cost of {side}")
        check(answer[side]["run_id"] == each["run_id"], f"run id of {side}")
    if shutil.which("gnuplot") is not None:
        check(moesim("report", "two.db", "-o", "page").returncode == 0, "a page of the second run")
        with open("page/index.html", encoding="utf-8") as file:
            page = file.read()
        check(f"<code>{both[1]['digest']}</code>" in page, "a page with another digest")
        check("is cheapest" not in page, "served runs compared by the batch of steps that they share")
        check("host is in it, with which whole engines took 35" in page, "TTFT without its error")
        moesim("serve", CHAT, *SMALL, "--set", "serving.engine=vllm", "-o", "two.db", "-r", "hosted")
        with open("hosted/index.html", encoding="utf-8") as file:
            page = file.read()
        check("45 ms of it the engine&#39;s host; whole engines&#39; were 17.1" in page,
              "TTFT without what the host of vLLM was off")


def closed_loop():
    """A file's requests come in their order, whenever they came when it was written."""
    digests = []
    for name, gap_s in (("slow", 100.0), ("fast", 0.25)):
        with open(f"{name}.csv", "w", encoding="utf-8") as file:
            file.write("request,tag,arrival_s,prompt_tokens,decode_tokens,row_offset\n")
            for i in range(40):
                file.write(f"{i},,{gap_s * i},{10 + 37 * i % 50},{5 + i % 7},\n")
        run = moesim("serve", CHAT, *SMALL, "--set", f"serving.arrivals.path={name}.csv", "--set",
                     "serving.arrivals.concurrency=6", "-o", "loop.db", "--json", "--detail")
        check(run.returncode == 0, f"a closed loop: {run.stderr}")
        digests.append(json.loads(run.stdout)["digest"])
    check(digests[0] == digests[1], "a closed loop has to do with a file's times")
    check(json.loads(run.stdout)["concurrency"] == 6, "no concurrency")
    run_id = json.loads(run.stdout)["run_id"]
    requests = rows("loop.db", "SELECT arrival_s, prompt_tokens, end_s FROM request "
                               f"WHERE run_id = '{run_id}' ORDER BY request")
    check([row[1] for row in requests] == [10 + 37 * i % 50 for i in range(40)], "out of order")
    ends = sorted(row[2] for row in requests)
    check([row[0] for row in requests] == [0.0] * 6 + ends[:34], "not six at a time")
    if shutil.which("gnuplot") is not None:
        check(moesim("report", "loop.db", "-o", "loop").returncode == 0, "a page of a closed loop")
        with open("loop/index.html", encoding="utf-8") as file:
            page = file.read()
        check("6 requests are outstanding until the last have come" in page, "no closed loop")
        check("Of 40 requests, 6 outstanding at a time, on 8 GPUs" in page, "no such verdict")


def placed_run():
    """The run behind the page has its experts where a strategy put them to serve."""
    balancedness = {}
    for strategy in "static", "eplb":
        result = moesim("serve", CHAT, *SMALL, "--set", f"placement.strategy={strategy}", "--set",
                        "placement.redundant_experts=8", "--set",
                        "placement.rebalance_interval_steps=1000", "-o", "placed.db", "--json")
        check(result.returncode == 0, f"serve with {strategy}: {result.stderr}")
        run_id = json.loads(result.stdout)["run_id"]
        balancedness[strategy] = rows("placed.db", "SELECT avg(balancedness_sum) FROM balance "
                                                   f"WHERE run_id = '{run_id}'")[0][0]
    check(balancedness["eplb"] > 1.1 * balancedness["static"], f"no better: {balancedness}")


def pages_of_little():
    """Nobody has to set targets, and answers of one token have no further ones."""
    if shutil.which("gnuplot") is None:
        return
    lines = [line for line in open(CHAT) if "targets:" not in line]
    with open("little.yaml", "w") as file:
        file.writelines(lines)
    for name, settings in (("free", []), ("one", ["--set", "serving.arrivals.decode_tokens=1",
                                                  "--set", "serving.arrivals.decode_cv=0"])):
        run = moesim("serve", "little.yaml", *SMALL, *settings, "-o", f"{name}.db")
        check(run.returncode == 0, f"{name}: {run.stderr}")
        page = moesim("report", f"{name}.db", "-o", name)
        check(page.returncode == 0, f"a page without {name}'s columns: {page.stderr}")


def currencies():
    """Amounts are in the price's currency; stored and printed as JSON they are dollars."""
    with open("euro.yaml", "w") as file:
        file.write('gpu: h100-sxm\nper_gpu_hour: 2\ncurrency: EUR\nusd_per_unit: 1.25\n'
                   'date: "2026-11"\nsource: our contract\n')
    asked = ["serve", CHAT, *SMALL, "--set", "price=euro.yaml", "-o", "euro.db"]
    answer = json.loads(moesim(*asked, "--json").stdout)
    check((answer["currency"], answer["usd_per_unit"]) == ("EUR", 1.25), "no currency")
    euros = answer["num_gpus"] * 2 * answer["duration_s"] / 3600
    check(abs(answer["usd"] / (1.25 * euros) - 1) < 1e-9, f"{answer['usd']} dollars")
    text = moesim(*asked).stdout
    each = re.search(r"EUR ([0-9.]+) a million answer tokens, EUR [0-9.]+ a million of all", text)
    check(each is not None and
          abs(float(each[1]) * answer["new_tokens"] / 1e6 / euros - 1) < 0.01, f"no euros: {text}")
    check("1 EUR = 1.25 USD" in text, f"no rate: {text}")


def bad_input():
    with open("bad.csv", "w", encoding="utf-8") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,x,44\nnever,1,1\n")
    with open("hashes.jsonl", "w", encoding="utf-8") as file:
        file.write('{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": ["a"]}\n')
    arrivals = "serving.arrivals={path: %s}"
    expect_error("no file", moesim("serve", "none.yaml"), "none.yaml")
    expect_error("no name", moesim("serve"), "name a scenario file")
    expect_error("no keys", moesim("serve", os.path.join(
        SOURCE, "scenarios/studies/deepseek_v3_decode_32xh800.yaml")), "no `serving:` keys")
    expect_error("bad lines", moesim("serve", CHAT, "--set", arrivals % os.path.abspath("bad.csv")),
                 "bad.csv:2: expected whole numbers", "bad.csv:3: expected a time")
    expect_error("bad hashes", moesim("serve", CHAT, "--set",
                                      arrivals % os.path.abspath("hashes.jsonl")),
                 "hashes.jsonl:1: expected whole numbers as hash_ids")
    expect_error("no requests", moesim("serve", CHAT, "--set",
                                       "serving.arrivals.duration_s=0.001"), "no request comes")
    expect_error("prefill", moesim("serve", CHAT, *SMALL, "--set", "phase=prefill"),
                 "it must be decode")
    expect_error("other model", moesim("serve", CHAT, *SMALL, "--set", "serving.prefill.scenario="
                                       "scenarios/studies/deepseek_v3_prefill_32xh800.yaml"),
                 "reads prompts for deepseek-v3")
    expect_error("no room", moesim("serve", CHAT, *SMALL, "--set", "context_tokens=1", "--set",
                                   "memory_fraction=0.03"), "fit")
    expect_error("no block", moesim("serve", CHAT, *SMALL, "--set", "serving.kv={tokens: 10}"),
                 "not one block of 64")
    expect_error("timeline", moesim("serve", CHAT, "--timeline", "t.json"), "belongs to moesim run")
    check(not os.path.exists("results.db"), "bad input left a results file")


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    equal_runs()
    stored()
    differences()
    closed_loop()
    placed_run()
    pages_of_little()
    currencies()
    bad_input()
print("serve_cli:", "failed" if failures else "all is well")
sys.exit(1 if failures else 0)
