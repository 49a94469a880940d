#!/usr/bin/env python3
"""Routers and drop policies on the router lab's scores, counted again with numpy.

Usage: oracle_gates.py MOESIM SOURCE_DIRECTORY

Runs scenarios/studies/router_lab_gates_32xh100.yaml under every router and every drop policy, and
compares what the results file holds (wishes and drops of every layer and expert, gate mass, tokens
without an expert, rerouted wishes, places) with an implementation of its own. Gates of one and two
experts run on copies of the slice that say so. Exits with 77 when numpy is missing.
"""
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from math import ceil, floor

try:
    import numpy as np
except ImportError:
    sys.exit(77)

MOESIM, SOURCE = sys.argv[1:3]
LAB = os.path.join(SOURCE, "scenarios/traces/router-lab/unbalanced_scores")
STUDY = os.path.join(SOURCE, "scenarios/studies/router_lab_gates_32xh100.yaml")
RANKS, PER_NODE, EXPERTS, TOKENS, LAYERS = 32, 8, 64, 384, 8
NODE = np.arange(EXPERTS) // (EXPERTS // RANKS) // PER_NODE  # of an expert
MASK = (1 << 64) - 1


def mix(x):
    x = (x + 0x9e3779b97f4a7c15) & MASK
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9 & MASK
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb & MASK
    return x ^ (x >> 31)


def load_logits():
    score = np.load(os.path.join(LAB, "scores-00000.npy")).astype(np.float64)
    with np.errstate(divide="ignore"):
        return (np.round(np.log(score / (1 - score)) * 2**18) * 2.0**-18).astype(np.float32)


def sigmoid(x):
    return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)


def softmax(x):
    below = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return below / below.sum(axis=-1, keepdims=True)


def top(score, k):
    return np.argsort(-score, axis=-1, kind="stable")[..., :k]


class Choice:
    """Lists of (expert, weight) a token, and what the likeliest k would have weighed."""

    def __init__(self, wishes, full):
        self.wishes, self.full = wishes, np.asarray(full, dtype=np.float64)


def chosen(affinity, experts, normalise=True):
    """affinity [T][E], experts [T][k]: weights, and the full weight in their units."""
    k = experts.shape[1]
    own = np.take_along_axis(affinity, experts, 1).astype(np.float64)
    divisor = own.sum(axis=1, keepdims=True) if normalise else np.ones((len(own), 1))
    best = -np.sort(-affinity.astype(np.float64), axis=1)[:, :k].sum(axis=1)
    weight = (own / divisor).astype(np.float32)
    wishes = [list(zip(e, w)) for e, w in zip(experts.tolist(), weight)]
    return Choice(wishes, best / divisor[:, 0])


def groups(score, of_group, num_groups, topk_groups):
    keep = top(of_group, topk_groups)
    mask = np.zeros((len(score), num_groups), bool)
    np.put_along_axis(mask, keep, True, 1)
    return np.where(np.repeat(mask, EXPERTS // num_groups, axis=1), score, -np.inf)


def softmax_topk(logits, k, state, layer, rows):
    return chosen(softmax(logits), top(logits, k), normalise=False)


def topk_softmax(logits, k, state, layer, rows):
    return chosen(softmax(logits), top(logits, k))


def deepseek_v3(logits, k, state, layer, rows):
    s = sigmoid(logits)
    pairs = -np.sort(-s.reshape(len(s), 8, -1), axis=2)[:, :, :2]
    return chosen(s, top(groups(s, pairs[:, :, 0] + pairs[:, :, 1], 8, 3), k))


def deepseek_v2(logits, k, state, layer, rows):
    best = logits.reshape(len(logits), 8, -1).max(axis=2)
    return chosen(softmax(logits), top(groups(logits, best, 8, 3), k), normalise=False)


def loss_free(logits, k, state, layer, rows):
    bias = state.setdefault(layer, np.zeros(EXPERTS, np.float32))
    s = sigmoid(logits)
    biased = s + bias
    pairs = -np.sort(-biased.reshape(len(s), 8, -1), axis=2)[:, :, :2]
    experts = top(groups(biased, pairs[:, :, 0] + pairs[:, :, 1], 8, 3), k)
    load = np.bincount(experts.ravel(), minlength=EXPERTS)
    bias += np.float32(0.05) * np.sign(load.mean() - load).astype(np.float32)
    return chosen(s, experts)


def sinkhorn(logits, k, state, layer, rows):
    kernel = np.exp(logits.astype(np.float64))
    d1, change = np.ones(EXPERTS), 1.0
    while change > 1e-4:
        d0 = 1 / len(kernel) / (kernel @ d1 + 1e-8)
        new = 1 / EXPERTS / (d0 @ kernel + 1e-8)
        change, d1 = np.abs(new - d1).mean(), new
    return chosen(softmax(logits), top(kernel * d1 * d0[:, None], k), normalise=False)


def quantile(logits, k, state, layer, rows):
    bias = state.setdefault(layer, np.zeros(EXPERTS, np.float32))
    biased = logits - bias
    alpha = -np.sort(-biased, axis=1)[:, k]
    above = -np.sort(-(logits - alpha[:, None]), axis=0)[len(logits) * k // EXPERTS]
    bias[:] = 0.5 * bias + 0.5 * above
    bias -= bias.astype(np.float64).mean()
    return chosen(softmax(logits), top(biased, k))


def expert_choice(logits, k, state, layer, rows, factor=1.0):
    s = sigmoid(logits)
    capacity = ceil(round(len(s) * k * factor / EXPERTS, 6))
    takes = np.zeros(s.shape, bool)
    np.put_along_axis(takes, np.argsort(-s, axis=0, kind="stable")[:capacity], True, 0)
    wishes = [[(e, s[t, e]) for e in np.flatnonzero(takes[t])] for t in range(len(s))]
    return Choice(wishes, -np.sort(-s.astype(np.float64), axis=1)[:, :k].sum(axis=1))


def hash_rows(logits, k, state, layer, rows):
    stream = mix(1 ^ mix(layer))
    wishes = []
    for row in rows:
        x, left, own = stream ^ int(row), list(range(EXPERTS)), []
        for _ in range(k):
            x = mix(x)
            own.append((left.pop((x >> 32) * len(left) >> 32), 1 / k))
        wishes.append(own)
    return Choice(wishes, np.ones(len(wishes)))


def fastermoe(logits, k, state, layer, rows):
    experts = top(logits, 2)
    per_rank = len(logits) // RANKS
    for rank in range(RANKS):
        own = slice(rank * per_rank, (rank + 1) * per_rank)
        far = np.flatnonzero(NODE[experts[own, 0]] != rank // PER_NODE)
        limit = int(per_rank * 0.3)
        if len(far) < limit:
            continue
        value = logits[own][far, experts[own, 0][far]]
        stay = {int(t): int(experts[own][t, 0])
                for t in far[np.argsort(-value, kind="stable")[:limit]]}
        on_node = top(np.where(NODE == rank // PER_NODE, logits[own], -np.inf), 2)
        for t in range(per_rank):
            experts[rank * per_rank + t] = on_node[t, 0], stay.get(t, on_node[t, 1])
    return chosen(softmax(logits), experts)


def node_aware(logits, k, state, layer, rows):
    s = sigmoid(logits)
    per_rank = len(logits) // RANKS
    experts = np.zeros((len(s), k), int)
    for t, own in enumerate(s):
        nodes, left = {t // per_rank // PER_NODE}, list(range(EXPERTS))
        for i in range(k):
            best = max(left, key=lambda e: (own[e], -e))
            near = [e for e in left if NODE[e] in nodes]
            pick = max(near, key=lambda e: (own[e], -e)) if near else best
            enough = np.float32(np.float32(1) - np.float32(0.1)) * own[best]
            experts[t, i] = pick if own[pick] >= enough else best
            left.remove(experts[t, i])
            nodes.add(NODE[experts[t, i]])
    return chosen(s, experts)


def serve(order, wishes, taker, capacity, taken=None):
    """Keeps wishes in order while their taker has room."""
    taken = {} if taken is None else taken
    kept = set()
    for t, j in order:
        who = taker(wishes[t][j][0])
        taken[who] = taken.get(who, 0) + 1
        if taken[who] <= capacity:
            kept.add((t, j))
    return kept


def by_position(wishes, ids):
    return [(t, j) for t in ids for j in range(len(wishes[t]))]


def by_choice(wishes, ids):
    return [(t, j) for j in range(max(len(w) for w in wishes)) for t in ids if j < len(wishes[t])]


def by_weight(wishes, ids):
    return sorted(by_position(wishes, ids), key=lambda tj: -wishes[tj[0]][tj[1]][1])


def capacity_of(policy, num_tokens, k, factor, need):
    exact = round(num_tokens * k * abs(factor) / EXPERTS, 6)
    if policy in ("switch", "gshard"):
        return max(floor(exact), 4)
    if policy == "deepspeed":
        return max(ceil(exact), 8) if factor > 0 else need
    if policy == "batch_prioritised":
        return -(-ceil(exact) // 4) * 4
    if policy == "tutel":
        limit = k * int(abs(factor) * -(-num_tokens // EXPERTS))
        return limit if factor > 0 else need if factor == 0 else min(limit, need)
    if policy == "device_limited":
        return ceil(round(num_tokens * k * factor / RANKS, 6))
    return ceil(exact)


def drop(policy, choice, ids, rows, k, factor, logits):
    """Returns the kept (token, choice) of a scope, its capacity and what was rerouted."""
    wishes = choice.wishes
    load = np.bincount([e for t in ids for e, _ in wishes[t]], minlength=EXPERTS)
    capacity = capacity_of(policy, len(ids), k, factor, int(load.max()))
    same = lambda e: e
    if policy == "device_limited":
        exempt = {t for t in ids if (mix(1 ^ mix(int(rows[t]) // 16)) >> 11) * 2.0**-53 < 0.1}
        order = [tj for tj in by_position(wishes, ids) if tj[0] in exempt]
        taken = {}
        serve(order, wishes, lambda e: e // 2, 1 << 30, taken)
        rest = [tj for tj in by_weight(wishes, ids) if tj[0] not in exempt]
        return set(order) | serve(rest, wishes, lambda e: e // 2, capacity, taken), capacity, 0
    if policy in ("gate_weight", "deepspeed") and not (policy == "deepspeed" and k == 2):
        return serve(by_weight(wishes, ids), wishes, same, capacity), capacity, 0
    if policy == "batch_prioritised":
        ids = sorted(ids, key=lambda t: -wishes[t][0][1])
    if policy in ("gshard", "tutel", "batch_prioritised", "deepspeed"):
        return serve(by_choice(wishes, ids), wishes, same, capacity), capacity, 0
    kept = serve(by_position(wishes, ids), wishes, same, capacity)
    if policy != "reroute":
        return kept, capacity, 0
    room = capacity - np.minimum(load, capacity)
    rerouted, s = 0, sigmoid(logits)
    for t, j in by_position(wishes, ids):
        if (t, j) in kept:
            continue
        own = {e for e, _ in wishes[t]}
        open_experts = [e for e in range(EXPERTS) if room[e] > 0 and e not in own]
        if not open_experts:
            continue
        new = max(open_experts, key=lambda e: (logits[t, e], -e))
        old, weight = wishes[t][j]
        wishes[t][j] = (new, np.float32(weight * np.float32(float(s[t, new]) / float(s[t, old]))))
        room[new] -= 1
        rerouted += 1
        kept.add((t, j))
    return kept, capacity, rerouted


ROUTERS = {"softmax_topk": softmax_topk, "topk_softmax": topk_softmax, "deepseek_v3": deepseek_v3,
           "deepseek_v2": deepseek_v2, "loss_free": loss_free, "sinkhorn": sinkhorn,
           "quantile": quantile, "expert_choice": expert_choice, "hash": hash_rows,
           "fastermoe": fastermoe, "node_aware": node_aware}


def expected_layers(router, policy, k, factor, scope, steps, logits):
    """A row a layer: wishes [E], drops [E], gate mass, tokens without, rerouted, places."""
    state, rows_a_step = {}, TOKENS // steps
    wished, dropped = np.zeros((LAYERS, EXPERTS), int), np.zeros((LAYERS, EXPERTS), int)
    total = np.zeros((LAYERS, 4))
    for step in range(steps):
        rows = np.arange(step * rows_a_step, (step + 1) * rows_a_step)
        for layer in range(LAYERS):
            own = logits[layer, rows]
            choice = ROUTERS[router](own, k, state, layer, rows)
            for wishes in choice.wishes:
                for e, _ in wishes:
                    wished[layer, e] += 1
            num_scopes = RANKS if scope == "rank" else 1
            kept = {(t, j) for t in range(len(rows)) for j in range(len(choice.wishes[t]))}
            for part in np.split(np.arange(len(rows)), num_scopes) if policy else []:
                part_kept, capacity, rerouted = drop(policy, choice, part.tolist(), rows, k,
                                                     factor, own)
                kept -= {(t, j) for t in part.tolist() for j in range(len(choice.wishes[t]))
                         if (t, j) not in part_kept}
                takers = RANKS if policy == "device_limited" else EXPERTS
                total[layer, 2:] += rerouted, capacity * takers
            for t, wishes in enumerate(choice.wishes):
                mass = 0.0
                for j, (e, w) in enumerate(wishes):
                    dropped[layer, e] += (t, j) not in kept
                    mass += float(w) * ((t, j) in kept)
                total[layer, 0] += mass / choice.full[t]
                total[layer, 1] += not any((t, j) in kept for j in range(len(wishes)))
    return wished, dropped, total


def measured_layers(directory, overrides):
    path = os.path.join(directory, "results.db")
    if os.path.exists(path):
        os.remove(path)
    command = [MOESIM, "run", STUDY, "-o", path]
    for override in ["trace.batching=consecutive"] + overrides:
        command += ["--set", override]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    database = sqlite3.connect(path)
    loads = np.array(database.execute(
        "SELECT tokens, dropped_assignments FROM expert_load ORDER BY layer, expert").fetchall())
    rows = database.execute("SELECT gate_mass_sum, tokens_without_expert, rerouted_assignments, "
                            "places FROM layer_route ORDER BY layer").fetchall()
    database.close()
    loads = loads.reshape(LAYERS, EXPERTS, 2)
    return loads[:, :, 0], loads[:, :, 1], rows


def copy_with_k(directory, k):
    """The slice, and its model, as if the gate chose k experts."""
    trace = os.path.join(directory, f"top{k}")
    shutil.copytree(LAB, trace)
    experts = np.load(os.path.join(LAB, "experts-00000.npy"))[:, :, :k]
    np.save(os.path.join(trace, "experts-00000.npy"), np.ascontiguousarray(experts))
    os.remove(os.path.join(trace, "gate_weights-00000.npy"))
    model = os.path.join(SOURCE, "scenarios/models/router-lab-olmoe-width.yaml")
    for old, new in ((os.path.join(LAB, "trace.yaml"), os.path.join(trace, "trace.yaml")),
                     (model, os.path.join(directory, f"top{k}.yaml"))):
        with open(old, encoding="utf-8") as file:
            text = file.read()
        with open(new, "w", encoding="utf-8") as file:
            file.write(text.replace("top_k: 8", f"top_k: {k}"))
    return [f"trace.path={trace}", f"model={directory}/top{k}.yaml"]


def compare(name, directory, overrides, expected):
    wished, dropped, rows = measured_layers(directory, overrides)
    problems = int((wished != expected[0]).sum()), int((dropped != expected[1]).sum())
    mass_apart, counts_apart = 0.0, 0
    for row, (mass, without, rerouted, places) in zip(rows, expected[2]):
        mass_apart = max(mass_apart, 0.0 if row[0] is None else abs(row[0] / mass - 1))
        counts_apart += (row[1] != without) + (row[2] != rerouted) + (row[3] != places)
    good = problems == (0, 0) and mass_apart < 1e-5 and counts_apart == 0
    print(f"{name:44} {int(wished.sum()):6} wishes {int(dropped.sum()):5} dropped, "
          f"gate mass apart {mass_apart:.1e}: {'equal' if good else 'NOT EQUAL'}"
          + ("" if good else f" {problems} {counts_apart}"))
    return good


def main():
    logits = load_logits()
    good = True
    with tempfile.TemporaryDirectory() as directory:
        narrow = {k: copy_with_k(directory, k) for k in (1, 2)}
        common = ["routing.num_groups=8", "routing.topk_groups=3", "routing.bias_update=0.05",
                  "routing.bias_decay=0.5", "routing.tolerance=0.1", "routing.off_node_share=0.3"]
        for router in ROUTERS:
            steps = 4 if router in ("loss_free", "quantile") else 1
            k = 2 if router == "fastermoe" else 8
            own = [f"routing.policy={router}", f"trace.steps={steps}",
                   f"trace.tokens_per_rank={TOKENS // steps // RANKS}"] + narrow.get(k, [])
            expected = expected_layers(router, None, k, 0, "global", steps, logits)
            good &= compare(router, directory, common + own, expected)
        for policy, k, factor, scope in (
                ("position", 8, 1.0, "global"), ("position", 8, 1.25, "rank"),
                ("gate_weight", 8, 1.0, "global"), ("gate_weight", 8, 2.0, "rank"),
                ("gshard", 8, 1.0, "global"), ("gshard", 2, 1.5, "global"),
                ("switch", 1, 1.25, "global"), ("deepspeed", 8, 0.5, "global"),
                ("deepspeed", 2, 1.0, "global"), ("deepspeed", 8, 0.0, "rank"),
                ("batch_prioritised", 8, 0.7, "global"), ("tutel", 8, 1.5, "global"),
                ("tutel", 8, 0.0, "rank"), ("tutel", 8, -1.0, "global"),
                ("device_limited", 8, 1.0, "global"), ("reroute", 8, 1.0, "global"),
                ("reroute", 8, 0.5, "rank")):
            own = ["routing.policy=topk_softmax", "trace.steps=1", f"routing.drop={policy}",
                   f"routing.capacity_factor={factor}", f"routing.capacity_scope={scope}"]
            own += narrow.get(k, [])
            expected = expected_layers("topk_softmax", policy, k, factor, scope, 1, logits)
            good &= compare(f"{policy}, k {k}, factor {factor}, {scope}", directory, own, expected)
    sys.exit(0 if good else 1)


main()
