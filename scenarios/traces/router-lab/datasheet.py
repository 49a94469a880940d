#!/usr/bin/env python3
"""Computes the tables of README.md from the traces beside it.

    python3 datasheet.py MOESIM --write     # puts the tables into README.md
    python3 datasheet.py MOESIM             # exits with 1 where README.md says something else

MOESIM is the program; it measures skew, locality and drops (`moesim trace stats`) and runs the
studies (`moesim compare`). A table stands between <!-- table: NAME --> and <!-- end -->. Needs
numpy.
"""
import argparse
import csv
import difflib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
STUDIES = HERE.parents[1] / "studies"
BALANCING = ("unbalanced", "aux_loss", "loss_free")
DOMAINS = ("prose", "code", "manual", "german")
RANKS = 8
SHUFFLES = 100
# Measured elsewhere, for comparison: GPT-OSS-20B from recorded decoding of 563 requests
# (AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting @ 72b368f: 24 layers, 32 experts, top-4), OLMoE
# from expert counts of layers 0, 7 and 15 (allenai/OLMoE @ 357454f: 64 experts, top-8).
SKEW_ELSEWHERE = [
    ["GPT-OSS-20B, all requests", "1.95 / 2.52 / 3.78", "0.44 / 0.70 / 1.03",
     "0.25 / 0.40 / 0.51", "1.15 / 1.37 / 1.78"],
    ["GPT-OSS-20B, one domain", "2.29 / 4.59 / 7.18", "0.64 / 1.13 / 1.78", "0.35 / 0.56 / 0.72",
     "1.37 / 1.69 / 2.57"],
    ["OLMoE, web text", "2.5 to 3.0", "0.32 to 0.51", "0.14 to 0.29", "1.09 to 1.20"],
    ["OLMoE, source code", "4.5 to 6.2", "0.66 to 1.35", "0.29 to 0.59", "1.27 to 2.14"],
]
DYNAMICS_ELSEWHERE = [
    "GPT-OSS-20B (top-4)", "0.441 / 0.385 / 0.367 / 0.350", "0.125 if uniform", "0.08 to 0.38",
    "0.28 to 0.46", "3.98 / 3.03 / 2.68 / 2.58", "56 / 83 / 95 / - %"]
DROPS_ELSEWHERE = [
    ["GPT-OSS-20B, mixed", "30.1 %", "20.1 %", "12.8 %", "4.3 %", "0.4 %"],
    ["GPT-OSS-20B, consecutive", "40.5 %", "31.5 %", "24.1 %", "13.8 %", "4.8 %"]]


def load(directory, name):
    return np.concatenate([np.load(path) for path in sorted(directory.glob(f"{name}-*.npy"))], 1)


def requests(directory):
    """(tags, rows of a request)"""
    with open(directory / "requests.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["tag"] for row in rows], int(rows[1]["row_offset"])


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def spread(values, digits=2):
    """min / median / max"""
    return " / ".join(f"{value:.{digits}f}" for value in
                      (min(values), float(np.median(values)), max(values)))


class Moesim:
    def __init__(self, program, work):
        self.program, self.work, self.kept = program, pathlib.Path(work), {}

    def json(self, *arguments):
        result = subprocess.run([self.program, *map(str, arguments), "--json"], cwd=self.work,
                                capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"moesim {' '.join(map(str, arguments))}: {result.stderr}")
        return json.loads(result.stdout)

    def stats(self, directory):
        if directory not in self.kept:
            self.kept[directory] = self.json("trace", "stats", directory)
        return self.kept[directory]

    def domain_stats(self, balancing, domain):
        """Of the domain's rows alone, as a trace of their own."""
        path = self.work / f"{balancing}-{domain}"
        if not path.exists():
            path.mkdir()
            tags, rows = requests(HERE / balancing)
            mask = np.repeat(np.array(tags) == domain, rows)
            np.save(path / "experts-00000.npy", load(HERE / balancing, "experts")[:, mask])
            lines = (HERE / balancing / "trace.yaml").read_text().split("\n")
            (path / "trace.yaml").write_text("\n".join(
                line for line in lines if not line.startswith(("tokens_per_shard", "num_tokens"))))
        return self.stats(path)

    def compare(self, study, *varied):
        arguments = [part for vary in varied for part in ("--vary", vary)]
        return self.json("compare", STUDIES / f"{study}.yaml", *arguments, "-o", "results.db")


def skew_row(name, layers):
    return [name] + [spread([layer[key] for layer in layers])
                     for key in ("max_over_mean", "cv", "gini", "ep_max_over_mean")]


def table_learned(_):
    with open(HERE / "evaluation.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ranks_max"] in ("", str(RANKS))]
    return markdown(["perplexity of held-out tokens", *DOMAINS, "all"],
                    [[row["model"], *(row[domain] for domain in DOMAINS), row["all"]]
                     for row in rows])


def table_skew(moesim):
    rows = []
    for balancing in BALANCING:
        rows.append(skew_row(f"{balancing}, all domains", moesim.stats(HERE / balancing)["layers"]))
        single = [layer for domain in DOMAINS
                  for layer in moesim.domain_stats(balancing, domain)["layers"]]
        rows.append(skew_row(f"{balancing}, one domain", single))
    return markdown(["trace", "max/mean", "CV", "Gini", "EP8 contiguous max/mean"],
                    rows + SKEW_ELSEWHERE)


def table_dynamics(moesim):
    rows = []
    for balancing in BALANCING:
        stats = moesim.stats(HERE / balancing)
        layers = stats["layers"]
        lags = dict(zip(stats["overlap_lags"], zip(*(layer["overlap"] for layer in layers))))
        batches = [[np.mean([layer["batches"][place][key] for layer in layers])
                    for key in ("max_over_mean", "active_fraction")] for place in range(4)]
        rows.append([balancing,
                     " / ".join(f"{np.mean(lags[lag]):.3f}" for lag in (1, 2, 4, 16)),
                     f"{np.mean([layer['overlap_by_chance'] for layer in layers]):.3f}",
                     spread([layer["top1_repeat"] for layer in layers]),
                     spread([layer["next_information"] for layer in layers[:-1]]),
                     " / ".join(f"{mean:.2f}" for mean, _ in batches),
                     " / ".join(f"{100 * active:.0f}" for _, active in batches) + " %"])
    return markdown(["trace", "top-8 overlap at lag 1 / 2 / 4 / 16", "any two rows",
                     "top-1 repeat", "information on the next layer",
                     "max/mean of B = 8 / 32 / 128 / 512", "experts active"],
                    rows + [DYNAMICS_ELSEWHERE])


def table_drops(moesim):
    rows = []
    for balancing in BALANCING:
        stats = moesim.stats(HERE / balancing)
        for key, name in (("drop_mixed", "mixed"), ("drop_consecutive", "consecutive")):
            mean = np.mean([layer[key] for layer in stats["layers"]], 0)
            rows.append([f"{balancing}, {name}", *(f"{100 * share:.1f} %" for share in mean)])
    factors = [f"{factor:g}" for factor in stats["drop_capacity_factors"]]
    return markdown(["trace, rows of a step of 1,024 tokens", *factors], rows + DROPS_ELSEWHERE)


def domain_load(experts, tags, rows):
    """[layers][domains][experts] assignments"""
    owner = np.repeat([DOMAINS.index(tag) for tag in tags], rows)
    return np.array([[np.bincount(layer[owner == domain].ravel(), minlength=64)
                      for domain in range(len(DOMAINS))] for layer in experts], float)


def information(load):
    """I(domain; expert) / H(domain), [layers]; load [layers][domains][experts]."""
    joint = load / load.sum((1, 2), keepdims=True)
    domain, expert = joint.sum(2, keepdims=True), joint.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / (domain * expert)), 0.0)
        return terms.sum((1, 2)) / -(domain * np.log(domain)).sum((1, 2))


def table_domains(_):
    rows = []
    for balancing in BALANCING:
        experts = load(HERE / balancing, "experts")
        tags, rows_of_request = requests(HERE / balancing)
        load_of = domain_load(experts, tags, rows_of_request)
        generator = np.random.default_rng(1)
        by_request = np.array([[np.bincount(layer[first:first + rows_of_request].ravel(),
                                            minlength=64)
                                for first in range(0, layer.shape[0], rows_of_request)]
                               for layer in experts], float)
        chance = []
        for _ in range(SHUFFLES):
            shuffled = np.array(tags)[generator.permutation(len(tags))]
            chance.append(information(np.stack([by_request[:, shuffled == domain].sum(1)
                                                for domain in DOMAINS], 1)).mean())
        share = load_of / load_of.sum(2, keepdims=True)
        moved = np.abs(share - share.mean(1, keepdims=True)).sum(2) / 2
        owned = (share.max(1) > share.sum(1) / 2).mean(1)
        rows.append([balancing, spread(information(load_of), 3), f"{np.mean(chance):.3f}",
                     *(f"{100 * moved[:, domain].mean():.0f} %" for domain in range(len(DOMAINS))),
                     f"{100 * owned.mean():.0f} %"])
    return markdown(["trace", "I(domain; expert) / H(domain)", "tags shuffled",
                     *(f"{domain} elsewhere" for domain in DOMAINS), "experts of one domain"],
                    rows)


def rank_of(experts):
    return experts // (64 // RANKS)


def nearest(wish, top_k, most):
    """Experts chosen where a token may reach `most` ranks, as model.py's favourites."""
    by_rank = wish.reshape(*wish.shape[:2], RANKS, -1)
    best = np.sort(by_rank, -1)[..., -2:].sum(-1)
    barred = np.argsort(np.argsort(-best, -1, kind="stable"), -1) >= most
    wish = np.where(np.repeat(barred, by_rank.shape[-1], -1), -np.inf, wish)
    return np.argsort(-wish, -1, kind="stable")[..., :top_k]


def biases():
    with open(HERE / "bias.csv", newline="") as file:
        values = [float(row["bias"]) for row in csv.DictReader(file)]
    return np.array(values).reshape(-1, 1, 64)


def table_locality(_):
    rows = []
    with open(HERE / "evaluation.csv", newline="") as file:
        evaluated = [row for row in csv.DictReader(file) if row["ranks_max"]]
    for balancing in BALANCING:
        scores = load(HERE / f"{balancing}_scores", "scores").astype(float)
        wish = scores + (biases() if balancing == "loss_free" else 0.0)
        free = np.take_along_axis(scores, nearest(wish, 8, RANKS), -1).sum()
        of_model = [row for row in evaluated if row["model"] == balancing]
        reached = float(of_model[0]["ranks_reached"])
        for row in of_model:
            kept = np.take_along_axis(scores, nearest(wish, 8, int(row["ranks_max"])), -1).sum()
            rows.append([balancing, row["ranks_max"], row["ranks_reached"],
                         f"{100 * (1 - float(row['ranks_reached']) / reached):.0f} %",
                         f"{100 * kept / free:.1f} %", row["all"]])
    return markdown(["model", "ranks allowed", "ranks reached", "dispatch saved",
                     "scores kept", "perplexity"], rows)


def table_training(moesim):
    paths = ",".join(f"../traces/router-lab/{balancing}" for balancing in BALANCING)
    runs = iter(moesim.compare("router_lab_training_8xh100", f"trace.path={paths}",
                               "placement.strategy=static,eplb")["runs"])
    rows = []
    for balancing in BALANCING:
        for strategy in ("static", "eplb"):
            run = next(runs)
            phase = run["phase_ns_mean"]
            rows.append([f"{balancing}, {strategy}", f"{run['rank_tokens_max_over_mean']:.2f}",
                         f"{(phase['expert'] + phase['waiting']) / 1e3:.0f} us",
                         f"{run['step_ns_mean'] / 1e6:.3f} ms",
                         f"{run['rebalance_ns'] / 1e6:.1f} ms"])
    return markdown(["routing, placement", "busiest rank / mean", "experts and waiting", "step",
                     "rebalances, all steps"], rows)


def table_shift(moesim):
    """Means over the steps behind the first domain, from runs with and without the others."""
    rows = []
    for balancing in BALANCING:
        for batching, name in (("interleaved", "a domain at a time"),
                               ("shuffled", "all domains at once")):
            runs = moesim.compare("router_lab_traffic_shift_8xh100",
                                  f"trace.path=../traces/router-lab/{balancing}",
                                  f"trace.batching={batching}", "trace.steps=64,256",
                                  "placement.strategy=static,eplb",
                                  "placement.rebalance_interval_steps=64,16")["runs"]
            mean = np.array([run["rank_tokens_max_over_mean"] for run in runs]).reshape(2, 4)
            later = (256 * mean[1] - 64 * mean[0]) / 192
            rows.append([balancing, name, *(f"{later[place]:.2f}" for place in (0, 2, 3))])
    return markdown(["trace", "traffic", "static", "EPLB every 64 steps", "EPLB every 16 steps"],
                    rows)


TABLES = {"learned": table_learned, "skew": table_skew, "dynamics": table_dynamics,
          "drops": table_drops, "domains": table_domains, "locality": table_locality,
          "training": table_training, "shift": table_shift}


def filled(text, moesim):
    for name, table in TABLES.items():
        begin = f"<!-- table: {name} -->\n"
        head, found, rest = text.partition(begin)
        if not found:
            sys.exit(f"README.md: no {begin.strip()}")
        text = head + begin + table(moesim) + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moesim", type=pathlib.Path)
    parser.add_argument("--write", action="store_true", help="write the tables into README.md")
    options = parser.parse_args()
    readme = HERE / "README.md"
    old = readme.read_text()
    with tempfile.TemporaryDirectory() as work:
        new = filled(old, Moesim(options.moesim.resolve(), work))
    if options.write:
        readme.write_text(new)
    elif new != old:
        print("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True),
                                           "README.md", "computed")))
        sys.exit("README.md is not what the traces say: datasheet.py MOESIM --write")


if __name__ == "__main__":
    main()
