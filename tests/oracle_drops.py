#!/usr/bin/env python3
"""Counts dropped assignments of the raw GPT-OSS-20B trace, independently of moesim.

Usage: oracle_drops.py EXPERTS_NPY TOKENS_PER_STEP CAPACITY_FACTOR...

EXPERTS_NPY is [tokens][layers][top_k]. Steps are consecutive rows, the trailing partial step left
out; all tokens of a step compete for ceil(T k CF / E) places an expert, E = 32. Prints a line
"CAPACITY_FACTOR ASSIGNMENTS DROPPED" a factor. Exits with 77 when numpy or the file is missing.
"""
import os
import sys
from fractions import Fraction
from math import ceil

try:
    import numpy as np
except ImportError:
    sys.exit(77)

NUM_EXPERTS = 32


def main():
    path, tokens_per_step = sys.argv[1], int(sys.argv[2])
    if not os.path.exists(path):
        sys.exit(77)
    trace = np.load(path)
    steps = trace.shape[0] // tokens_per_step
    trace = trace[:steps * tokens_per_step].reshape(steps, tokens_per_step, *trace.shape[1:])
    load = np.stack([(trace == expert).sum(axis=(1, 3)) for expert in range(NUM_EXPERTS)])
    for factor in sys.argv[3:]:
        exact = Fraction(tokens_per_step * trace.shape[3]) * Fraction(factor) / NUM_EXPERTS
        dropped = int(np.maximum(load - ceil(exact), 0).sum())
        print(factor, trace.size, dropped)


main()
