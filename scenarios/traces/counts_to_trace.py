#!/usr/bin/env python3
r"""Draws a trace from counts of experts by token id: what olmoe and mixtral-8x7b were fitted to.

Usage: counts_to_trace.py olmoe|mixtral-8x7b COUNTS_DIRECTORY OUT

OLMoE and Mixtral were measured on documents of several domains, at layers 0, 7 and 15, as counts:
how often each expert was chosen, and how often for each token id (allenai/OLMoE @ 357454f). This
script draws token ids, and experts by the counts of the id, into OUT.npy and OUT.csv, which

    moesim trace import --from npy --axes token,layer,k --model MODEL --requests OUT.csv OUT.npy \
        --out OUT
    moesim trace fit OUT -o PRESET.yaml

make a preset of. What is measured: each domain's load by expert at the three layers, and how far a
token id decides. What is assumed, because counts cannot tell:

- documents of 256 tokens; within one, an id is as much more frequent as a gamma law of shape 0.3;
- layers between the measured ones choose like the nearest of those, but other experts (a
  permutation), and what ties layers to each other is the token id alone;
- OLMoE's c4, of which only loads by expert are known, uses the ids of all other domains, with
  chances by id tilted until the loads are c4's;
- Mixtral: a token takes the experts of the one before it so often that the first choice repeats as
  in table 5 of arXiv 2401.04088 (14.25, 26 and 23 % at layers 0, 15 and 31).
"""
import csv
import gzip
import sys
from collections import defaultdict

import numpy as np

MODELS = {
    "olmoe": {"counts": "olmoe", "experts": 64, "k": 8, "layers": 16,
              "domains": ("arxiv", "book", "c4", "github", "wikipedia"), "repeats": None},
    "mixtral-8x7b": {"counts": "mistral", "experts": 8, "k": 2, "layers": 32,
                     "domains": ("arxiv", "book", "c4", "github", "wikipedia"),
                     "repeats": ((0, 15, 31), (0.1425, 0.26, 0.23))},
}
MEASURED = (0, 7, 15)
DOCUMENTS, TOKENS = 60, 256  # of each domain; of each document
BURST_SHAPE = 0.3
PRIOR_TOKENS = 4.0  # of the domain's average behind each id's counts
CORRECTIONS = 12
SEED = 20261122


def read_counts(folder, model):
    """{(domain, layer): [experts]} and {(domain, layer): {id: [experts]}}"""
    loads = defaultdict(lambda: np.zeros(model["experts"]))
    ids = defaultdict(lambda: defaultdict(lambda: np.zeros(model["experts"])))
    with open(f"{folder}/olmoe_mixtral_expert_counts.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["model"] == model["counts"]:
                load = loads[row["domain"], int(row["layer"])]
                load[int(row["expert"])] = float(row["count_topk"])
    with gzip.open(f"{folder}/olmoe_mixtral_token_expert_counts.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            if row["model"] == model["counts"]:
                cell = ids[row["domain"], int(row["layer"])][int(row["token_id"])]
                cell[int(row["expert"])] += float(row["count"])
    return loads, ids


def pool(ids, domains, layer):
    """Counts by id of several domains together."""
    total = defaultdict(lambda: 0)
    for domain in domains:
        for token, counts in ids[domain, layer].items():
            total[token] = total[token] + counts
    return total


def chances(counts, load, k):
    """Chance [ids][experts] that an id's token chooses an expert, its mean drawn to the load's."""
    n = counts.sum(axis=1, keepdims=True) / k
    share = load / load.sum() * k
    chance = (counts + PRIOR_TOKENS * share) / (n + PRIOR_TOKENS)
    weight = n / n.sum()
    for _ in range(30):  # tilt until the loads come out
        chance = np.clip(chance * share / (weight * chance).sum(axis=0), 1e-6, 1 - 1e-4)
        chance = np.clip(chance * k / chance.sum(axis=1, keepdims=True), 1e-6, 1 - 1e-4)
    return chance


def draw_sets(rng, weight, tokens, k):
    """Top k of ln(weight) + Gumbel noise for each token's id: Plackett and Luce's law."""
    score = np.log(weight)[tokens] + rng.gumbel(size=(len(tokens), weight.shape[1]))
    best = np.argpartition(-score, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(score, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def draw_documents(rng, frequency):
    """Index of the id of each token: [DOCUMENTS][TOKENS]."""
    documents = []
    for _ in range(DOCUMENTS):
        weight = frequency * rng.gamma(BURST_SHAPE, size=len(frequency))
        documents.append(rng.choice(len(frequency), TOKENS, p=weight / weight.sum()))
    return np.array(documents)


def copy_before(rng, sets, target):
    """Lets tokens take the experts of the token before until first choices repeat so often."""
    first = sets[:, :, 0]
    base = (first[:, 1:] == first[:, :-1]).mean()
    share = max(0.0, (target - base) / (1 - base))
    for token in range(1, sets.shape[1]):
        copied = rng.random(len(sets)) < share
        sets[copied, token] = sets[copied, token - 1]


def draw_layer(place, weight, documents, k, target):
    """Experts of all documents' tokens; the same random numbers for the same place."""
    rng = np.random.default_rng((SEED, *place))
    sets = draw_sets(rng, weight, documents.ravel(), k).reshape(*documents.shape, k)
    if target is not None:
        copy_before(rng, sets, target)
    return sets


def calibrate(place, chance, documents, share, k, target):
    """Weights whose draw at this place gives the loads: one without repeats of an expert flattens
    them, and copies and so few documents leave them to chance."""
    weight = -np.log1p(-chance)
    for _ in range(CORRECTIONS):
        sets = draw_layer(place, weight, documents, k, target)
        got = np.bincount(sets.ravel(), minlength=weight.shape[1]) / documents.size
        weight = weight * (share * k + 1e-5) / (got + 1e-5)
    return weight


def repeats(model, layer):
    """How often a layer's first choice is the one before; None: as it comes."""
    return np.interp(layer, *model["repeats"]) if model["repeats"] else None


def main():
    model, folder, out = MODELS[sys.argv[1]], sys.argv[2], sys.argv[3]
    rng = np.random.default_rng(SEED)
    loads, ids = read_counts(folder, model)
    experts, k, layers = model["experts"], model["k"], model["layers"]
    order = [rng.permutation(experts) for _ in range(layers)]
    result = np.zeros((len(model["domains"]), DOCUMENTS, TOKENS, layers, k), np.uint8)
    for at, domain in enumerate(model["domains"]):
        known = [domain] if (domain, 0) in ids else [d for d in model["domains"] if (d, 0) in ids]
        tables = {layer: pool(ids, known, layer) for layer in MEASURED}
        names = sorted(set.intersection(*(set(table) for table in tables.values())))
        frequency = np.array([tables[0][name].sum() for name in names])
        documents = draw_documents(rng, frequency / frequency.sum())
        weights = {}
        for layer in MEASURED:
            counts = np.array([tables[layer][name] for name in names])
            load = loads[domain, layer]
            weights[layer] = calibrate((at, layer), chances(counts, load, k), documents,
                                       load / load.sum(), k, repeats(model, layer))
        for layer in range(layers):
            nearest = min(MEASURED, key=lambda measured: abs(measured - layer))
            sets = draw_layer((at, layer), weights[nearest], documents, k, repeats(model, layer))
            result[at, :, :, layer] = sets if layer in MEASURED else order[layer][sets]
        for layer in MEASURED:
            drawn = np.bincount(result[at, :, :, layer].ravel(), minlength=experts)
            load = loads[domain, layer]
            print(f"{domain}, layer {layer}: max/mean {drawn.max() / drawn.mean():.2f}, "
                  f"measured {load.max() / load.mean():.2f}")
    mixed = result.transpose(1, 0, 2, 3, 4).reshape(-1, layers, k)  # domains take turns
    np.save(out + ".npy", mixed)
    with open(out + ".csv", "w", encoding="utf-8") as stream:
        stream.write("request,tag,prompt_tokens,decode_tokens,row_offset\n")
        for request in range(DOCUMENTS * len(model["domains"])):
            domain = model["domains"][request % len(model["domains"])]
            stream.write(f"{request},{domain},0,{TOKENS},{request * TOKENS}\n")


main()
