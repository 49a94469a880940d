#!/usr/bin/env python3
"""Compares moesim trace import and stats with numpy, on the real GPT-OSS-20B trace and by chance.

Usage: oracle_trace_counts.py MOESIM TRACES_DIRECTORY

Imports the raw array and copies of it with other axes and integer types, reads the figures that
`trace stats --json` prints and counts them again from the raw array: loads must be equal, ratios
equal to rounding. Random small arrays with pads, odd shard sizes and gate weights follow. Exits
with 77 when the program, numpy or the data is missing; the random arrays run without the data.
"""
import itertools
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

LAGS = (1, 2, 4, 16, 64, 256)
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"oracle_trace_counts: {what}")


def close(a, b):
    return (a is None and np.isnan(b)) or (a is not None and abs(a - b) <= 1e-9 * max(1, abs(b)))


def moesim(*arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    check(done.returncode == 0, f"moesim {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def ratio(part, whole):
    return part / whole if whole else float("nan")


def locality(ids, begins):
    """Top-1 repeat and overlaps of ids [tokens][layers][k] (pads -1 last) within requests."""
    k = ids.shape[2]
    by_choice = np.ascontiguousarray(ids.transpose(1, 2, 0))  # [layers][k][tokens]
    request = np.searchsorted(begins, np.arange(ids.shape[0]), side="right")
    top1, overlaps = [], [[] for _ in LAGS]
    for layer, (index, lag) in itertools.product(by_choice, enumerate(LAGS)):
        now, before = layer[:, lag:], layer[:, :max(0, layer.shape[1] - lag)]
        good = (request[lag:] == request[:before.shape[1]]) & (now[0] >= 0) & (before[0] >= 0)
        shared = sum(np.count_nonzero((now[i] == before[j]) & (now[i] >= 0) & good)
                     for i, j in itertools.product(range(k), range(k)))
        overlaps[index].append(ratio(shared, good.sum() * k))
        if lag == 1:
            top1.append(ratio(np.count_nonzero((now[0] == before[0]) & good), good.sum()))
    return top1, overlaps


def lift(ids, num_experts):
    """5 %, median and 95 % of n(i, j) n / (n(i) n(j)) over pairs; ids [tokens][k] of a layer."""
    chosen = np.zeros((ids.shape[0], num_experts))  # sums stay below 2^53: exact
    for column in ids.T:
        good = column >= 0
        chosen[np.nonzero(good)[0], column[good]] = 1
    together = chosen.T @ chosen
    count = np.diag(together)
    low, high = np.triu_indices(num_experts, 1)
    chance = count[low] * count[high]
    alive = chance > 0
    if not alive.any():
        return [float("nan")] * 3
    rows = (ids[:, 0] >= 0).sum()
    return np.quantile(together[low, high][alive] * rows / chance[alive], (0.05, 0.5, 0.95))


def information(here, there, num_experts):
    """I(X; Y) / sqrt(H(X) H(Y)) of two layers' best experts."""
    good = (here >= 0) & (there >= 0)
    joint = np.histogram2d(here[good], there[good], [np.arange(num_experts + 1)] * 2)[0]
    joint = joint / max(joint.sum(), 1)

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()
    x, y = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    return (x + y - entropy(joint.ravel())) / np.sqrt(x * y) if x * y > 0 else float("nan")


def drops(ids, num_experts):
    """Shares that five factors drop of consecutive steps of 1024; ids [tokens][k] of a layer."""
    steps = ids.shape[0] // 1024
    kept = ids[:steps * 1024].reshape(steps, 1024 * ids.shape[1])
    load = np.array([np.bincount(step[step >= 0], minlength=num_experts) for step in kept])
    for factor in (1, 1.25, 1.5, 2, 3):
        capacity = np.ceil(1024 * ids.shape[1] * factor / num_experts)
        yield ratio(np.maximum(load - capacity, 0).sum(), load.sum()) if steps else float("nan")


def compare(trace, ids, num_experts, begins, ep):
    """ids [tokens][layers][k] signed; begins: first rows of requests, or empty."""
    tokens, layers, k = ids.shape
    arguments = ("--ep", ep) if ep else ()
    stats = json.loads(moesim("trace", "stats", trace, "--json", *arguments))
    check(len(stats["layers"]) == layers, "number of layers")
    top1, overlaps = locality(ids, begins) if len(begins) else (None, None)
    for layer, got in enumerate(stats["layers"]):
        where = f"{trace}, layer {layer}"
        flat = ids[:, layer].ravel()
        load = np.bincount(flat[flat >= 0], minlength=num_experts)
        check(got["expert_tokens"] == load.tolist(), f"{where}: expert_tokens")
        check(got["dead_experts"] == (load == 0).sum(), f"{where}: dead_experts")
        check(got["active_experts"] == (load > 0).sum(), f"{where}: active_experts")
        ascending = np.sort(load).astype(float)
        rank = np.arange(1, num_experts + 1)
        total = load.sum()
        gini = ratio(((2 * rank - num_experts - 1) * ascending).sum(), num_experts * total)
        check(close(got["max_over_mean"], ratio(load.max() * num_experts, total)),
              f"{where}: max_over_mean")
        check(close(got["cv"], ratio(load.std(), load.mean())), f"{where}: cv")
        check(close(got["gini"], gini), f"{where}: gini")
        if ep:
            ranks = load.reshape(ep, -1).sum(axis=1)
            check(close(got["ep_max_over_mean"], ratio(ranks.max() * ep, total)), f"{where}: ep")
        for name, value in zip(("lift_p5", "lift_median", "lift_p95"),
                               lift(ids[:, layer], num_experts)):
            check(close(got[name], value), f"{where}: {name} {got[name]} {value}")
        rows = (ids[:, layer, 0] >= 0).sum()
        check(close(got["overlap_by_chance"], ratio((load.astype(float) ** 2).sum(), rows * rows * k)),
              f"{where}: overlap_by_chance")
        if layer + 1 < layers:
            expected = information(ids[:, layer, 0], ids[:, layer + 1, 0], num_experts)
            check(close(got["next_information"], expected), f"{where}: next_information")
        for value, expected in zip(got["drop_consecutive"], drops(ids[:, layer], num_experts)):
            check(close(value, expected), f"{where}: drop_consecutive {value} {expected}")
        if top1 is None:
            check(got["top1_repeat"] is None, f"{where}: top1_repeat without requests")
        else:
            check(close(got["top1_repeat"], top1[layer]), f"{where}: top1_repeat")
            for lag, overlap in enumerate(overlaps):
                check(close(got["overlap"][lag], overlap[layer]), f"{where}: lag {LAGS[lag]}")


def gpt_oss(data, scratch):
    raw = np.load(os.path.join(data, "experts.npy"))
    requests = os.path.join(data, "requests.csv")
    column = open(requests, encoding="utf-8").readline().strip().split(",").index("row_offset")
    begins = np.loadtxt(requests, delimiter=",", skiprows=1, usecols=column, dtype=np.int64)
    variants = [("token,layer,k", raw, None),
                ("layer,token,k", raw.transpose(1, 0, 2), "int64"),
                ("k,layer,token", raw.transpose(2, 1, 0), "int64"),
                ("token,k,layer", raw.transpose(0, 2, 1), "uint16")]
    digests = set()
    for index, (axes, array, dtype) in enumerate(variants):
        path = os.path.join(data, "experts.npy")
        if dtype:
            path = os.path.join(scratch, "copy.npy")
            np.save(path, np.ascontiguousarray(array.astype(dtype)))
        out = os.path.join(scratch, f"gpt-{index}")
        shards = ("--tokens-per-shard", "50000") if index % 2 else ()
        moesim("trace", "import", "--from", "npy", "--axes", axes, "--model", "gpt-oss-20b", path,
               "--out", out, "--requests", requests, *shards)
        digests.add(json.loads(moesim("trace", "check", out, "--json"))["digest"])
        if index == 0:
            compare(out, raw.astype(np.int8), 32, begins, 8)
    stats = json.loads(moesim("trace", "stats", out, "--json"))
    means = np.array([layer["drop_mixed"] for layer in stats["layers"]]).mean(axis=0)
    check(np.allclose(means, (0.301, 0.201, 0.128, 0.043, 0.004), atol=0.003),
          f"drops of mixed requests {means}")  # recounted by others over another shuffle
    check(len(digests) == 1, f"copies have different digests: {digests}")
    weights(data, raw, scratch)
    print(f"{raw.shape[0]} tokens x {raw.shape[1]} layers, {len(begins)} requests: equal")


def weights(data, raw, scratch):
    """The first tokens with their gate weights: the shards must hold the raw bytes."""
    path = os.path.join(data, "gate_weights_head.npy")
    head = np.load(path)
    out = os.path.join(scratch, "head")
    moesim("trace", "import", "--from", "npy", "--model", "gpt-oss-20b", "--gate-weights", path,
           "--tokens", head.shape[0], os.path.join(data, "experts.npy"), "--out", out)
    moesim("trace", "check", out)
    check((np.load(os.path.join(out, "experts-00000.npy")).transpose(1, 0, 2) ==
           raw[:head.shape[0]]).all(), "ids beside gate weights")
    check((np.load(os.path.join(out, "gate_weights-00000.npy")).transpose(1, 0, 2) == head).all(),
          "gate weights")


def random_arrays(scratch):
    rng = np.random.default_rng(20261122)
    for index in range(40):
        num_experts = int(rng.choice([4, 16, 64, 127, 255, 256, 257, 1000]))
        tokens, layers = int(rng.integers(1, 2100)), int(rng.integers(1, 5))
        k = int(rng.integers(1, min(num_experts, 8) + 1))
        taste = rng.lognormal(0, 1, (1, layers, num_experts))
        ids = np.argsort(-taste * rng.random((tokens, layers, num_experts)), axis=2)[:, :, :k]
        pads = index % 2 == 0
        if pads:
            ids[rng.random((tokens, layers)) < 0.2] = -1
            ids[rng.random((tokens, layers)) < 0.2, k - 1] = -1
        types = [name for name, limit in (("int8", 127), ("uint8", 255), ("int16", 32767),
                                          ("uint16", 65535), ("int32", 1 << 31), ("int64", 1 << 63),
                                          ("uint32", 1 << 32), ("uint64", 1 << 64))
                 if num_experts <= (limit if pads else limit + 1)]
        order = rng.permutation(3)
        axes = ",".join(np.array(["token", "layer", "k"])[order])
        path = os.path.join(scratch, "random.npy")
        np.save(path, np.ascontiguousarray(ids.astype(rng.choice(types)).transpose(order)))
        begins = np.array([])
        requests = ()
        if index % 3:
            cuts = np.unique(rng.integers(0, tokens, 3))
            begins = np.unique(np.concatenate([[0], cuts]))
            requests = ("--requests", os.path.join(scratch, "random.csv"))
            with open(requests[1], "w", encoding="utf-8") as stream:
                stream.write("row_offset\n" + "\n".join(map(str, begins)) + "\n")
        out = os.path.join(scratch, "random")
        moesim("trace", "import", "--axes", axes, "--model", "any", "--num-experts", num_experts,
               "--layers", f"0-{layers - 1}", path, "--out", out, "--force", *requests,
               "--tokens-per-shard", int(rng.integers(1, 400)))
        moesim("trace", "check", out)
        compare(out, ids, num_experts, begins, 4 if num_experts % 4 == 0 else 0)
    print("40 random arrays: equal")


program, traces = sys.argv[1], sys.argv[2]
if not os.path.exists(program):
    print(f"skipped: {program} is not built")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    random_arrays(folder)
    source = os.path.join(traces, "gpt-oss-20b")
    if not os.path.exists(os.path.join(source, "experts.npy")):
        print(f"skipped: {source}/experts.npy is not there")
        sys.exit(77)
    gpt_oss(source, folder)
print(f"oracle_trace_counts: {checks} checks passed")
