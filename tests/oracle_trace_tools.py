#!/usr/bin/env python3
"""moesim trace merge, slice, sample, anonymise and diff against NumPy.

Usage: oracle_trace_tools.py MOESIM

Writes traces with every optional file in shards, runs each tool and computes the same with NumPy:
every array must be equal to the last element. Exits with 77 where there is no NumPy.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: no NumPy")
    sys.exit(77)

MOESIM = sys.argv[1]
LAYERS = [3, 4, 6]
KINDS = ("experts", "gate_weights", "scores", "phase", "source_rank")
TOKEN_AXIS = {"experts": 1, "gate_weights": 1, "scores": 1, "phase": 0, "source_rank": 0}


class Trace:
    """All of a trace in memory: arrays by kind, requests as dicts, steps or None."""

    def __init__(self, arrays, requests, steps):
        self.arrays = arrays
        self.requests = requests
        self.steps = steps
        self.tokens = arrays["experts"].shape[1]

    def rows(self, index, layers=None):
        """The rows of an index list, of some recorded layers."""
        out = {}
        for kind, array in self.arrays.items():
            array = np.take(array, index, axis=TOKEN_AXIS[kind])
            out[kind] = array[layers] if layers is not None and array.ndim == 3 else array
        return out


def make(seed, num_experts, num_requests, tokens):
    rng = np.random.default_rng(seed)
    top_k = 3
    dtype = np.uint8 if num_experts < 256 else np.uint16
    order = np.argsort(rng.random((len(LAYERS), tokens, num_experts)), axis=2)
    experts = order[:, :, :top_k].astype(dtype)
    experts[rng.random((len(LAYERS), tokens)) < 0.05, 2] = np.iinfo(dtype).max  # gaps come last
    weights = -np.sort(-rng.random((len(LAYERS), tokens, top_k)), axis=2).astype(np.float16)
    weights[experts == np.iinfo(dtype).max] = 0
    arrays = {"experts": experts, "gate_weights": weights,
              "scores": rng.standard_normal((len(LAYERS), tokens, num_experts)).astype(np.float16),
              "phase": rng.integers(0, 2, tokens).astype(np.uint8),
              "source_rank": rng.integers(0, 300, tokens).astype(np.uint16)}
    cuts = np.sort(rng.choice(np.arange(1, tokens), num_requests - 1, replace=False))
    begin = [0, *cuts.tolist()]
    requests = [{"tag": f"tenant {i % 3}", "arrival_s": round(float(i) * 0.75 + seed, 3),
                 "prompt_tokens": 10 * i, "row_offset": begin[i],
                 "num_rows": (begin[1:] + [tokens])[i] - begin[i]} for i in range(num_requests)]
    steps = [0, *np.sort(rng.choice(np.arange(1, tokens), 9, replace=False)).tolist(), tokens]
    return Trace(arrays, requests, steps)


def write(trace, path, num_experts, shard, leave_out=()):
    os.makedirs(path)
    for number, first in enumerate(range(0, trace.tokens, shard)):
        part = trace.rows(range(first, min(first + shard, trace.tokens)))
        for kind, array in part.items():
            if kind not in leave_out:
                np.save(f"{path}/{kind}-{number:05}.npy", np.ascontiguousarray(array))
    if "requests" not in leave_out:
        with open(f"{path}/requests.csv", "w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["request", "tag", "arrival_s", "prompt_tokens", "decode_tokens",
                          "row_offset"])
            for i, entry in enumerate(trace.requests):
                out.writerow([i, entry["tag"], entry["arrival_s"], entry["prompt_tokens"],
                              entry["num_rows"], entry["row_offset"]])
    if "steps" not in leave_out:
        np.save(f"{path}/steps.npy", np.array(trace.steps, dtype=np.int64))
    with open(f"{path}/trace.yaml", "w", encoding="utf-8") as file:
        json.dump({"version": 1, "model": "made-up", "num_experts": num_experts, "top_k": 3,
                   "layers": LAYERS, "origin": "mock", "tokens_per_shard": shard,
                   "source": "a test", "licence": "CC0-1.0"}, file)


def read(path):
    arrays = {}
    for kind in KINDS:
        names = sorted(name for name in os.listdir(path) if name.startswith(f"{kind}-"))
        if names:
            arrays[kind] = np.concatenate([np.load(f"{path}/{name}") for name in names],
                                          axis=TOKEN_AXIS[kind])
    requests = []
    if os.path.exists(f"{path}/requests.csv"):
        with open(f"{path}/requests.csv", encoding="utf-8", newline="") as file:
            requests = [{"tag": row["tag"], "arrival_s": float(row["arrival_s"]),
                         "prompt_tokens": int(row["prompt_tokens"]),
                         "row_offset": int(row["row_offset"])} for row in csv.DictReader(file)]
    steps = np.load(f"{path}/steps.npy").tolist() if os.path.exists(f"{path}/steps.npy") else None
    trace = Trace(arrays, requests, steps)
    ends = [entry["row_offset"] for entry in requests[1:]] + [trace.tokens]
    for entry, end in zip(requests, ends):
        entry["num_rows"] = end - entry["row_offset"]
    return trace


def run(*arguments, code=0):
    result = subprocess.run([MOESIM, "trace", *arguments], capture_output=True, text=True,
                            check=False)
    assert result.returncode == code, f"{arguments}: {result.returncode}\n{result.stderr}"
    return result.stdout + result.stderr


def check(path, arrays, requests, steps):
    """The trace is sound and holds exactly this."""
    run("check", path)
    found = read(path)
    assert set(found.arrays) == set(arrays), (set(found.arrays), set(arrays))
    for kind, array in arrays.items():
        assert np.array_equal(found.arrays[kind], array), f"{path}: {kind}"
    assert found.requests == requests, f"{path}: requests\n{found.requests}\n{requests}"
    assert found.steps == steps, f"{path}: steps {found.steps} {steps}"


def select(trace, chosen, first, end):
    """Row numbers and requests of the chosen requests, within rows first to end - 1."""
    index, requests = [], []
    for entry in chosen:
        begin = max(entry["row_offset"], first)
        stop = min(entry["row_offset"] + entry["num_rows"], end)
        if begin < stop:
            requests.append(dict(entry, row_offset=len(index), num_rows=stop - begin,
                                 prompt_tokens=entry["prompt_tokens"] + begin
                                 - entry["row_offset"]))
            index += range(begin, stop)
    return index, requests


def kept_steps(trace, index):
    """Boundaries as the number of rows kept before each, without empty steps."""
    kept = [sum(row < boundary for row in index) for boundary in trace.steps]
    return sorted(set(kept))


def test_slice(folder, trace, path):
    cases = [
        (["--tag", "tenant 1"], lambda i, e: e["tag"] == "tenant 1", 0, trace.tokens, None),
        (["--tag", "tenant 1", "--tag", "tenant 0", "--requests", "2:9"],
         lambda i, e: e["tag"] != "tenant 2" and 2 <= i < 9, 0, trace.tokens, None),
        (["--arrival", "4:6.5"], lambda i, e: 4 <= e["arrival_s"] < 6.5, 0, trace.tokens, None),
        (["--tokens", "33:71"], lambda i, e: True, 33, 71, None),
        (["--tokens", ":50", "--requests", "1:"], lambda i, e: i >= 1, 0, 50, None),
        (["--layers", "3,6"], lambda i, e: True, 0, trace.tokens, [0, 2]),
    ]
    for number, (options, wanted, first, end, layers) in enumerate(cases):
        out = f"{folder}/slice{number}"
        run("slice", path, "--out", out, *options)
        chosen = [entry for i, entry in enumerate(trace.requests) if wanted(i, entry)]
        index, requests = select(trace, chosen, first, end)
        check(out, trace.rows(index, layers), requests, kept_steps(trace, index))
    assert "its tags are 'tenant 0'" in run("slice", path, "--out", f"{folder}/none", "--tag",
                                            "tennant", code=1)
    assert "layer 5 of the model is not recorded" in run(
        "slice", path, "--out", f"{folder}/none", "--layers", "3-6", code=1)
    assert not os.path.exists(f"{folder}/none")
    assert not os.path.exists(f"{folder}/none.partial")


def test_sample(folder, trace, path):
    run("sample", path, "--out", f"{folder}/sample", "--requests", "5", "--seed", "3")
    found = read(f"{folder}/sample")
    arrivals = [entry["arrival_s"] for entry in found.requests]
    assert len(arrivals) == 5 and arrivals == sorted(arrivals)
    chosen = [entry for entry in trace.requests if entry["arrival_s"] in arrivals]
    index, requests = select(trace, chosen, 0, trace.tokens)
    check(f"{folder}/sample", trace.rows(index), requests, kept_steps(trace, index))
    run("sample", path, "--out", f"{folder}/sample2", "--requests", "5", "--seed", "3")
    assert read(f"{folder}/sample2").requests == found.requests
    run("sample", path, "--out", f"{folder}/all", "--requests", str(len(trace.requests)))
    check(f"{folder}/all", trace.arrays, trace.requests, trace.steps)
    run("sample", path, "--out", f"{folder}/more", "--requests", str(len(trace.requests) + 1),
        code=1)


def test_merge(folder, first, second, paths):
    out = f"{folder}/merged"
    run("merge", *paths, "--out", out)
    arrays = {kind: np.concatenate([first.arrays[kind], second.arrays[kind]],
                                   axis=TOKEN_AXIS[kind]) for kind in KINDS}
    requests = first.requests + [dict(entry, row_offset=entry["row_offset"] + first.tokens)
                                 for entry in second.requests]
    steps = first.steps + [step + first.tokens for step in second.steps[1:]]
    check(out, arrays, requests, steps)

    # What only one has goes, and is told; rows without requests become one.
    poor = f"{folder}/poor"
    write(second, poor, 8, 1000, ("scores", "requests", "steps", "gate_weights"))
    told = run("merge", paths[0], poor, "--out", out, "--force")
    for word in ("scores is left out", "gate_weights are left out", "steps are left out",
                 "poor has no requests"):
        assert word in told, told
    whole = {"tag": "poor", "arrival_s": 0.0, "prompt_tokens": 0, "row_offset": first.tokens,
             "num_rows": second.tokens}
    kept = {kind: arrays[kind] for kind in ("experts", "phase", "source_rank")}
    check(out, kept, first.requests + [whole], None)


def test_anonymise(folder, trace, path):
    out = f"{folder}/anonymous"
    told = run("anonymise", path, "--out", out, "--round-arrivals", "5")
    assert "remains: the experts of every token" in told and "steps are left out" in told
    run("check", out)
    found = read(out)
    # Contexts are all different: they say which request is which.
    by_context = {entry["prompt_tokens"]: entry for entry in trace.requests}
    tags = {}
    first = trace.requests[0]["arrival_s"]
    for entry in found.requests:
        source = by_context.pop(entry["prompt_tokens"])
        rows = trace.rows(range(source["row_offset"], source["row_offset"] + source["num_rows"]))
        here = found.rows(range(entry["row_offset"], entry["row_offset"] + entry["num_rows"]))
        for kind in KINDS:
            assert np.array_equal(rows[kind], here[kind]), kind
        assert entry["arrival_s"] % 5 == 0
        assert abs(entry["arrival_s"] - (source["arrival_s"] - first)) <= 2.5
        assert tags.setdefault(source["tag"], entry["tag"]) == entry["tag"]
        assert entry["tag"].startswith("tag-")
    assert not by_context and len(set(tags.values())) == 3 and found.steps is None
    with open(f"{out}/trace.yaml", encoding="utf-8") as file:
        assert "a test" not in file.read()
    order = [entry["prompt_tokens"] for entry in found.requests]
    again = [entry["prompt_tokens"] for entry in read(out).requests]
    assert order == again
    run("anonymise", path, "--out", f"{folder}/none", "--drop-tags", "--drop-arrivals", "--seed", "9")
    bare = read(f"{folder}/none")
    assert {(entry["tag"], entry["arrival_s"]) for entry in bare.requests} == {("", 0.0)}
    assert [entry["prompt_tokens"] for entry in bare.requests] != sorted(order)


def test_diff(first, second, num_experts, paths):
    """Loads by NumPy, medians from what trace stats prints of each."""
    found = json.loads(run("diff", *paths, "--json", "--ep", "4"))
    for entry, a, b in zip(found["layers"], first.arrays["experts"], second.arrays["experts"],
                           strict=True):
        share = [np.bincount(ids[ids < num_experts], minlength=num_experts) for ids in (a, b)]
        share = [load / load.sum() for load in share]
        assert abs(entry["moved"] - np.abs(share[0] - share[1]).sum() / 2) < 1e-12
        assert abs(entry["correlation"] - np.corrcoef(*share)[0, 1]) < 1e-9
    assert [entry["layer"] for entry in found["layers"]] == LAYERS
    stats = [json.loads(run("stats", path, "--json", "--ep", "4"))["layers"] for path in paths]
    figures = {entry["name"]: entry for entry in found["figures"]}
    columns = {"gini": lambda layer: layer["gini"], "overlap@4": lambda layer: layer["overlap"][2],
               "batch_active@32": lambda layer: layer["batches"][1]["active_fraction"],
               "drop_mixed@1.25": lambda layer: layer["drop_mixed"][1]}
    for name, column in columns.items():
        sides = [[column(layer) for layer in layers] for layers in stats]
        for side, key in zip(sides, "ab"):
            known = [value for value in side if value is not None]
            wanted = float(np.median(known)) if known else None
            value = figures[name][key]
            assert value == wanted or abs(value - wanted) < 1e-12, (name, value, wanted)
        changes = [b - a for a, b in zip(*sides) if a is not None and b is not None]
        if changes:
            assert abs(figures[name]["most"] - max(changes, key=abs)) < 1e-12, name
    same = json.loads(run("diff", paths[0], paths[0], "--json"))
    assert all(entry["moved"] == 0 for entry in same["layers"])
    assert all(entry["a"] == entry["b"] for entry in same["figures"])


def main():
    for num_experts in (8, 256, 300):
        with tempfile.TemporaryDirectory() as folder:
            first = make(1, num_experts, 12, 100)
            second = make(2, num_experts, 7, 41)
            paths = [f"{folder}/first", f"{folder}/second"]
            write(first, paths[0], num_experts, 30)
            write(second, paths[1], num_experts, 41)
            test_slice(folder, first, paths[0])
            test_sample(folder, first, paths[0])
            test_anonymise(folder, first, paths[0])
            test_diff(first, second, num_experts, paths)
            if num_experts == 8:
                test_merge(folder, first, second, paths)
                other = make(3, 16, 3, 20)
                write(other, f"{folder}/other", 16, 20)
                assert "top-3 of 16 experts" in run("merge", paths[0], f"{folder}/other", "--out",
                                                    f"{folder}/x", code=1)
    print("merge, slice, sample, anonymise and diff equal NumPy")


main()
