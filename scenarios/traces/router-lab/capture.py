#!/usr/bin/env python3
"""Records the routing of trained models on held-out text, and says how well they have learned.

    python3 capture.py --data build/router-lab --out scenarios/traces/router-lab

reads what train.py left for each way of balancing and writes below --out

    BALANCING/          a trace: as many requests of each domain, prose first; a request is a window
                        of held-out text, whose first half is its prompt and whose second half is
                        recorded, a row a token, as a decoding engine would with this text
    BALANCING_scores/   some of these requests once more, with the scores of all experts
    BALANCING.csv       train.py's log
    bias.csv            what loss-free balancing adds to the scores when it chooses
    evaluation.csv      held-out perplexity of the models, of a unigram and a bigram model, and of
                        the gate when a token may reach few of eight ranks

The models run in float32, one thread. No window overlaps another.
"""
import argparse
import csv
import math
import pathlib
import shutil

import numpy as np
import torch
import torch.nn.functional as F

from model import SHAPES, LanguageModel, Shape
from train import BALANCING, DOMAINS, keep_memory

WINDOW_TOKENS = 128
REQUESTS_PER_DOMAIN = 48
EVALUATED_PER_DOMAIN = 64   # the recorded windows among them
SCORED_PER_DOMAIN = 6
SCORED_ROWS = 16
TOKENS_PER_SHARD = 4096
RANKS = 8
SEED = 7


def windows(data):
    """{domain: [EVALUATED_PER_DOMAIN][WINDOW_TOKENS + 1] ids}, inside a document each."""
    generator = np.random.default_rng(SEED)
    chosen = {}
    for domain in DOMAINS:
        ids = np.load(data / f"held-{domain}.npy").astype(np.int64)
        begin = np.load(data / f"held-{domain}-begin.npy")
        starts = [start for first, end in zip(begin, np.append(begin[1:], len(ids)))
                  for start in range(first, end - WINDOW_TOKENS - 1, WINDOW_TOKENS + 1)]
        picked = generator.choice(starts, EVALUATED_PER_DOMAIN, replace=False)
        chosen[domain] = torch.from_numpy(np.stack([ids[start:start + WINDOW_TOKENS + 1]
                                                    for start in picked]))
    return chosen


def load_model(data, balancing):
    state = torch.load(data / f"{balancing}.pt", map_location="cpu", weights_only=True)
    settings = state["settings"]
    if state["step"] != settings["steps"]:
        raise SystemExit(f"{balancing}: trained for {state['step']} of {settings['steps']} steps")
    model = LanguageModel(SHAPES[settings["preset"]])
    model.load_state_dict(state["model"])
    return model.eval(), settings


@torch.no_grad()
def evaluate(model, chosen):
    """(mean loss by domain, ranks that a token reaches by layer), experts in order on RANKS."""
    losses, reached = {}, []
    for domain in DOMAINS:
        total = 0.0
        for batch in chosen[domain].split(16):
            logits = model(batch[:, :-1])
            total += F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(),
                                     reduction="sum").item()
            for moe in model.moes:
                rank = moe.chosen // (model.shape.num_experts // RANKS)
                reached.append(F.one_hot(rank, RANKS).amax(1).sum(1).float().mean().item())
        losses[domain] = total / (len(chosen[domain]) * WINDOW_TOKENS)
    return losses, sum(reached) / len(reached)


def ngram_losses(data, chosen):
    """Unigram, and bigram interpolated with it after Witten and Bell (1991), counted on all of the
    training text with equal shares of the domains."""
    vocabulary = Shape.vocab_size
    unigram, bigram = np.zeros(vocabulary), np.zeros((vocabulary, vocabulary))
    for domain in DOMAINS:
        ids = np.load(data / f"train-{domain}.npy").astype(np.int64)
        share = 4e6 / len(ids)
        unigram += share * (np.bincount(ids, minlength=vocabulary) + 1e-2)
        pairs = np.bincount(ids[:-1] * vocabulary + ids[1:], minlength=vocabulary ** 2)
        bigram += share * pairs.reshape(vocabulary, vocabulary)
    unigram /= unigram.sum()
    distinct = (bigram > 0).sum(1)
    seen = bigram.sum(1)
    result = {"unigram": {}, "bigram": {}}
    for domain in DOMAINS:
        before = chosen[domain][:, :-1].numpy().ravel()
        after = chosen[domain][:, 1:].numpy().ravel()
        result["unigram"][domain] = -np.log(unigram[after]).mean()
        mixed = ((bigram[before, after] + distinct[before] * unigram[after])
                 / np.maximum(seen[before] + distinct[before], 1e-9))
        result["bigram"][domain] = -np.log(mixed).mean()
    return result


@torch.no_grad()
def record(model, requests):
    """requests [requests][WINDOW_TOKENS + 1] -> experts, gate weights [layers][tokens][top_k],
    best first, and scores [layers][tokens][experts], of each request's second half."""
    experts, weights, scores = [], [], []
    for batch in requests.split(16):
        model(batch[:, :-1])
        parts = [[], [], []]
        for moe in model.moes:
            order = moe.gate_weight.argsort(stable=True, dim=1, descending=True)
            for part, value in zip(parts, (moe.chosen.gather(1, order),
                                           moe.gate_weight.gather(1, order), moe.scores)):
                value = value.view(len(batch), WINDOW_TOKENS, -1)[:, WINDOW_TOKENS // 2:]
                part.append(value.flatten(0, 1).numpy())
        for whole, part in zip((experts, weights, scores), parts):
            whole.append(np.stack(part))
    return [np.concatenate(whole, 1) for whole in (experts, weights, scores)]


def write_trace(path, balancing, model, rows_of_request, arrays):
    """A trace directory; arrays {name: [layers][tokens][...]}, written beside and renamed."""
    partial = path.with_name(path.name + ".partial")
    for old in (partial, path):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    num_tokens = arrays["experts"].shape[1]
    (partial / "trace.yaml").write_text(
        f"# Routing of a small language model trained with balancing: {balancing}.\n"
        "# ../README.md is its datasheet.\n"
        "version: 1\n"
        f"model: router-lab-{round(model.count_parameters()[0] / 1e6)}m\n"
        f"num_experts: {model.shape.num_experts}\n"
        f"top_k: {model.shape.top_k}\n"
        f"layers: {list(range(model.shape.num_layers))}\n"
        "origin: measured\n"
        + ("scores: sigmoids\n" if "scores" in arrays else "") +
        f"tokens_per_shard: {TOKENS_PER_SHARD}\n"
        f"num_tokens: {num_tokens}\n"
        f'source: "scenarios/traces/router-lab: train.py --balancing {balancing}, capture.py"\n'
        'licence: "ids and weights of gates, no text; CC0-1.0"\n')
    for shard, first in enumerate(range(0, num_tokens, TOKENS_PER_SHARD)):
        for name, array in arrays.items():
            kind = np.uint8 if name == "experts" else np.float16
            np.save(partial / f"{name}-{shard:05d}.npy",
                    np.ascontiguousarray(array[:, first:first + TOKENS_PER_SHARD], kind))
    per_domain = num_tokens // rows_of_request // len(DOMAINS)
    with open(partial / "requests.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["request", "tag", "arrival_s", "prompt_tokens", "decode_tokens",
                       "row_offset"])
        for request in range(per_domain * len(DOMAINS)):
            rows.writerow([request, DOMAINS[request // per_domain], 0, WINDOW_TOKENS // 2,
                           rows_of_request, request * rows_of_request])
    partial.rename(path)


def write_traces(out, balancing, model, chosen):
    recorded = torch.cat([chosen[domain][:REQUESTS_PER_DOMAIN] for domain in DOMAINS])
    experts, weights, scores = record(model, recorded)
    rows_of_request = WINDOW_TOKENS // 2
    write_trace(out / balancing, balancing, model, rows_of_request,
                {"experts": experts, "gate_weights": weights})
    request = np.arange(len(recorded)).reshape(len(DOMAINS), -1)[:, :SCORED_PER_DOMAIN].ravel()
    row = (request[:, None] * rows_of_request + np.arange(SCORED_ROWS)).ravel()
    write_trace(out / f"{balancing}_scores", balancing, model, SCORED_ROWS,
                {"experts": experts[:, row], "gate_weights": weights[:, row],
                 "scores": scores[:, row]})


def write_csv(path, head, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def evaluation_row(name, ranks, losses, reached):
    mean = sum(losses.values()) / len(losses)
    return [name, ranks, reached, *(f"{math.exp(losses[domain]):.2f}" for domain in DOMAINS),
            f"{math.exp(mean):.2f}"]


def capture(options, balancing, chosen):
    """Writes what is recorded of one model; returns its rows of evaluation.csv."""
    model, settings = load_model(options.data, balancing)
    print(balancing, settings, "parameters (total, active):", model.count_parameters(), flush=True)
    write_traces(options.out, balancing, model, chosen)
    shutil.copy(options.data / f"{balancing}.csv", options.out)
    if balancing == "loss_free":
        write_csv(options.out / "bias.csv", ["layer", "expert", "bias"],
                  [(layer, expert, f"{value:.4f}") for layer, moe in enumerate(model.moes)
                   for expert, value in enumerate(moe.bias.tolist())])
    rows = []
    for most in (RANKS, 4, 3, 2, 1):
        for moe in model.moes:
            moe.ranks_max = (RANKS, most) if most < RANKS else None
        losses, reached = evaluate(model, chosen)
        rows.append(evaluation_row(balancing, str(most), losses, f"{reached:.3f}"))
    return rows


def evaluated_earlier(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.reader(file))[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--balancing", choices=BALANCING, action="append",
                        help="only this model; default all three")
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    chosen = windows(options.data)
    table = options.out / "evaluation.csv"
    rows = {}
    for row in evaluated_earlier(table):
        rows.setdefault(row[0], []).append(row)
    for balancing in options.balancing or BALANCING:
        rows[balancing] = capture(options, balancing, chosen)
    for name, losses in ngram_losses(options.data, chosen).items():
        rows[name] = [evaluation_row(name, "", losses, "")]
    names = [name for name in (*BALANCING, "unigram", "bigram") if name in rows]
    write_csv(table, ["model", "ranks_max", "ranks_reached", *DOMAINS, "all"],
              [row for name in names for row in rows[name]])
    print(table.read_text(), end="")


if __name__ == "__main__":
    main()
