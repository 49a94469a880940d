#!/usr/bin/env python3
"""Compares moesim trace traffic with numpy on random traces, and reads its messages.

Usage: oracle_trace_traffic.py MOESIM

Every sum that --json prints is counted again from the arrays: tokens by expert, assignments and
distinct tokens by rank, and the matrix of sources and nodes. Exits with 77 without numpy.
"""
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

LAYERS = 2
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"oracle_trace_traffic: {what}")


def write_trace(path, ids, num_experts, tokens_per_shard):
    """ids [layers][tokens][top_k], -1 where not routed."""
    os.makedirs(path)
    narrow = num_experts < 256 or (num_experts == 256 and (ids >= 0).all())
    kind = np.uint8 if narrow else np.uint16
    for shard, first in enumerate(range(0, ids.shape[1], tokens_per_shard)):
        part = ids[:, first:first + tokens_per_shard]
        stored = np.where(part < 0, np.iinfo(kind).max, part).astype(kind)
        np.save(f"{path}/experts-{shard:05d}.npy", stored)
    with open(f"{path}/trace.yaml", "w", encoding="utf-8") as file:
        file.write(f"version: 1\nmodel: test\nnum_experts: {num_experts}\n"
                   f"top_k: {ids.shape[2]}\nlayers: [3, 4]\norigin: mock\n")


def random_ids(random, num_experts, top_k, num_tokens, gaps):
    popularity = random.gumbel(size=(LAYERS, 1, num_experts))
    scores = popularity + random.gumbel(size=(LAYERS, num_tokens, num_experts))
    ids = np.argsort(-scores, axis=2)[:, :, :top_k].astype(np.int64)
    ids[random.random(ids.shape) < gaps] = -1
    return ids


def compare(printed, ids, num_experts, ranks, nodes, tokens_per_rank):
    num_tokens = ids.shape[1]
    source = np.arange(num_tokens) // tokens_per_rank % ranks
    for layer in range(LAYERS):
        rows, slots = np.nonzero(ids[layer] >= 0)
        expert = ids[layer][rows, slots]
        rank = expert // (num_experts // ranks)
        node = rank // (ranks // nodes)
        meets_rank = np.zeros((num_tokens, ranks), bool)
        meets_node = np.zeros((num_tokens, nodes), bool)
        meets_rank[rows, rank] = True
        meets_node[rows, node] = True
        matrix = np.zeros((ranks, nodes), int)
        np.add.at(matrix, source, meets_node.astype(int))
        own = np.arange(ranks) // (ranks // nodes)
        off_node = matrix.sum() - matrix[np.arange(ranks), own].sum()
        got = printed["layers"][layer]
        check(got["layer"] == 3 + layer, "layer numbers")
        check(got["expert_tokens"] == np.bincount(expert, minlength=num_experts).tolist(),
              "expert_tokens")
        check(got["load_tokens"] == np.bincount(rank, minlength=ranks).tolist(), "load_tokens")
        check(got["rank_tokens"] == meets_rank.sum(axis=0).tolist(), "rank_tokens")
        check(got["node_tokens"] == matrix.tolist(), "node_tokens")
        check(abs(got["ranks_per_token"] - meets_rank.sum() / num_tokens) < 1e-12, "ranks")
        check(abs(got["off_node_per_token"] - off_node / num_tokens) < 1e-12, "off-node")


def run(program, *arguments):
    return subprocess.run([program, "trace", "traffic", *map(str, arguments)],
                          capture_output=True, text=True, check=False)


def main(program):
    random = np.random.default_rng(11)
    cases = [  # experts, top_k, tokens, tokens a shard, gaps, ranks, nodes, tokens a rank
        (256, 8, 5000, 5000, 0.0, 32, 4, 128),
        (256, 8, 3001, 1000, 0.0, 64, 8, 100),
        (256, 8, 700, 300, 0.1, 32, 32, 1),
        (128, 8, 2500, 999, 0.05, 16, 2, 7),
        (384, 8, 900, 900, 0.0, 48, 6, 64),
        (64, 6, 4000, 1500, 0.2, 8, 1, 512),
        (16, 1, 65, 65, 0.0, 16, 4, 3),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, (experts, top_k, tokens, shard, gaps, ranks, nodes, turn) in enumerate(cases):
            ids = random_ids(random, experts, top_k, tokens, gaps)
            path = f"{folder}/{number}"
            write_trace(path, ids, experts, shard)
            for threads in (1, 3):
                done = run(program, path, "--ep", ranks, "--nodes", nodes, "--tokens-per-rank", turn,
                           "--threads", threads, "--json")
                check(done.returncode == 0, done.stderr)
                compare(json.loads(done.stdout), ids, experts, ranks, nodes, turn)
            done = run(program, path, "--ep", ranks, "--nodes", nodes)
            check(done.returncode == 0 and "mean" in done.stdout, "the table")
        done = run(program, f"{folder}/0", "--ep", 7)
        check(done.returncode == 1 and "divisor of 256" in done.stderr, done.stderr)
        done = run(program, f"{folder}/0", "--ep", 8, "--nodes", 3)
        check(done.returncode == 1 and "divisor of 8" in done.stderr, done.stderr)
        done = run(program, f"{folder}/0")
        check(done.returncode == 1 and "--ep" in done.stderr, done.stderr)
        shard = np.load(f"{folder}/3/experts-00001.npy")
        shard[1, 5, 2] = 200
        np.save(f"{folder}/3/experts-00001.npy", shard)
        done = run(program, f"{folder}/3", "--ep", 16)
        check(done.returncode == 1 and "experts-00001.npy: layer 1, token 1004: expert 200" in
              done.stderr, done.stderr)
    print(f"oracle_trace_traffic: {checks} checks")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
