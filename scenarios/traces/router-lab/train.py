#!/usr/bin/env python3
"""Trains the model of model.py once, with one way of balancing its experts.

    python3 train.py --data build/router-lab --balancing loss_free --steps 1200

Balancing is unbalanced (the gate alone), aux_loss (0.01 times model.py's balance_loss, mean over
the layers) or loss_free (after each step bias += 0.003 sign(mean - load); Wang et al. 2024,
arXiv 2408.15664, who step by 0.001 over a hundred times as many steps). All else is equal: seed,
weights at the start, order of the text.

Writes DATA/BALANCING.pt, the checkpoint, from which the same command goes on after a stop (--steps
may then be another: the learning rate is that of the new number from there on), and
DATA/BALANCING.csv, a row every ten steps. Every step has as many sequences of each domain. On a
GPU:

    python3 train.py --data build/router-lab --balancing loss_free --steps 4000 \\
        --device cuda --preset large --batch 64 --length 512 --learning-rate 1e-3
"""
import argparse
import csv
import ctypes
import math
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from model import SHAPES, LanguageModel

DOMAINS = ("prose", "code", "manual", "german")
BALANCING = ("unbalanced", "aux_loss", "loss_free")
AUX_LOSS_WEIGHT = 0.01
BIAS_STEP = 0.003
WARM_UP_STEPS = 60
LOG_EVERY_STEPS = 10
HELD_OUT_EVERY_STEPS = 50
SAVE_EVERY_STEPS = 100
COLUMNS = ("step", "tokens", "seconds", "learning_rate", "loss", "held_out_loss", "balance_loss",
           "max_over_mean", "max_over_mean_worst_layer")


def keep_memory():
    """Lets glibc keep freed blocks; else every large tensor of every step is mapped anew."""
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    libc = ctypes.CDLL(None)
    for parameter in (m_trim_threshold, m_mmap_threshold):
        libc.mallopt(parameter, 1 << 30)
    libc.mallopt(m_top_pad, 64 << 20)


class Text:
    """Token ids of one part of the corpus, domain by domain."""

    def __init__(self, data, part):
        self.ids = [np.load(data / f"{part}-{domain}.npy", mmap_mode="r") for domain in DOMAINS]

    def batch(self, generator, batch, length):
        """[batch][length + 1], as many sequences of each domain, each from anywhere in it."""
        assert batch % len(DOMAINS) == 0
        rows = []
        for ids in self.ids:
            for begin in generator.integers(0, len(ids) - length - 1, batch // len(DOMAINS)):
                rows.append(np.asarray(ids[begin:begin + length + 1], np.int64))
        return torch.from_numpy(np.stack(rows))


def learning_rate(step, steps, peak):
    """Linear warm-up, then half a cosine down to a tenth."""
    if step < WARM_UP_STEPS:
        return peak * (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return peak * (0.55 + 0.45 * math.cos(math.pi * min(1.0, done)))


def language_loss(model, batch, options):
    batch = batch.to(options.device, non_blocking=True)
    with torch.autocast(options.device, torch.bfloat16):
        logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def parameter_groups(model):
    """Weight decay for matrices alone."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


class Training:
    def __init__(self, options):
        self.options = options
        torch.manual_seed(options.seed)
        self.model = LanguageModel(SHAPES[options.preset]).to(options.device)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model), lr=options.learning_rate,
                                           betas=(0.9, 0.95), fused=True)
        self.generator = np.random.default_rng(options.seed)
        self.text, self.held = Text(options.data, "train"), Text(options.data, "held")
        self.step, self.seconds, self.rows = 0, 0.0, []
        self.checkpoint = options.data / f"{options.balancing}.pt"
        if self.checkpoint.exists():
            self.load()

    def settings(self):
        options = self.options
        return {"preset": options.preset, "balancing": options.balancing, "seed": options.seed,
                "steps": options.steps, "batch": options.batch, "length": options.length,
                "learning_rate": options.learning_rate}

    def save(self):
        partial = self.checkpoint.with_suffix(".pt.partial")
        torch.save({"settings": self.settings(), "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(), "step": self.step,
                    "generator": self.generator.bit_generator.state, "seconds": self.seconds,
                    "rows": self.rows}, partial)
        os.replace(partial, self.checkpoint)
        with open(self.checkpoint.with_suffix(".csv"), "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(self.rows)

    def load(self):
        state = torch.load(self.checkpoint, map_location=self.options.device, weights_only=True)
        if {**state["settings"], "steps": self.options.steps} != self.settings():
            raise SystemExit(f"{self.checkpoint} was made with {state['settings']}: remove it, or "
                             "use the same settings")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.bit_generator.state = state["generator"]
        self.step, self.seconds, self.rows = state["step"], state["seconds"], state["rows"]

    def held_out_loss(self):
        """The same sequences every time."""
        generator = np.random.default_rng(self.options.seed)
        with torch.no_grad():
            batch = self.held.batch(generator, 2 * self.options.batch, self.options.length)
            return language_loss(self.model, batch, self.options).item()

    def update(self):
        """One step; returns the language loss and the mean of the balance losses."""
        rate = learning_rate(self.step, self.options.steps, self.options.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.text.batch(self.generator, self.options.batch, self.options.length)
        loss = language_loss(self.model, batch, self.options)
        balance = torch.stack([moe.balance_loss() for moe in self.model.moes]).mean()
        weight = AUX_LOSS_WEIGHT if self.options.balancing == "aux_loss" else 0.0
        (loss + weight * balance).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.options.balancing == "loss_free":
            for moe in self.model.moes:
                load = moe.load.float()
                moe.bias += BIAS_STEP * torch.sign(load.mean() - load)
        self.step += 1
        return loss.item(), balance.item(), rate

    def log(self, loss, balance, rate):
        over_mean = [(moe.load.max() / moe.load.float().mean()).item() for moe in self.model.moes]
        held = self.held_out_loss() if self.step % HELD_OUT_EVERY_STEPS == 0 else None
        tokens = self.step * self.options.batch * self.options.length
        self.rows.append([self.step, tokens, round(self.seconds, 1), round(rate, 6),
                          round(loss, 4), "" if held is None else round(held, 4),
                          round(balance, 4), round(sum(over_mean) / len(over_mean), 3),
                          round(max(over_mean), 3)])
        print(" ".join(f"{name} {value}" for name, value in zip(COLUMNS, self.rows[-1])),
              flush=True)

    def run(self):
        while self.step < self.options.steps:
            began = time.monotonic()
            told = self.update()
            self.seconds += time.monotonic() - began
            if self.step % LOG_EVERY_STEPS == 0:
                self.log(*told)
            if self.step % SAVE_EVERY_STEPS == 0 or self.step == self.options.steps:
                self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="where corpus.py wrote")
    parser.add_argument("--balancing", choices=BALANCING, required=True)
    parser.add_argument("--preset", choices=SHAPES, default="small")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16, help="sequences a step")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.batch % len(DOMAINS):
        parser.error(f"--batch: a multiple of {len(DOMAINS)}, the number of domains")
    if not (options.data / f"train-{DOMAINS[0]}.npy").exists():
        parser.error(f"--data {options.data}: no corpus there; corpus.py --out makes it")
    keep_memory()
    if options.device == "cpu":
        torch.set_num_threads(1)  # sums in one order: the same weights on every run
    Training(options).run()


if __name__ == "__main__":
    main()
