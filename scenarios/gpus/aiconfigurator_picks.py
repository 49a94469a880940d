#!/usr/bin/env python3
r"""Fits how much longer a library's GEMMs take than the form of sim/gpu/fitted_gemm.c says.

Usage: aiconfigurator_picks.py ROWS.csv PREDICTED.csv KERNELS DTYPE GPU [GPU ...] [--held-out SHARE]

The form takes the best tiles of a menu; which ones a library takes is its own affair, and goes by
rows, columns and depth alike on GPUs of a generation. sim/gpu/picks_*.c hold that: percent, by
classes of rows and nodes of columns and depth (sim/gpu/library_picks.h). To make one of them from
a table of aiconfigurator, with GEMM constants in the presets that have no `picks`:

    aiconfigurator_rows.py aiconfigurator 'b200_sxm/gemm/trtllm/1.3.0rc20' -o rows
    moesim validate --kernels rows/aiconfigurator_kernels.csv -o predicted.csv
    aiconfigurator_picks.py rows/aiconfigurator_kernels.csv predicted.csv trtllm bfloat16 b200-sxm

Each class is a robust least-squares fit (Cauchy's loss, scale 0.04 as in `moesim calibrate`) of
bilinear hats over log n and log k to log measured over predicted, with a small penalty on
differences of neighbouring nodes and on the values. Rows of one table count once each, so GPUs of
a generation weigh alike. A class without rows takes those of the next one. --held-out fits
without a random SHARE of all n x k and says how far the prediction is off on those, before and
after, and prints no table.

Needs numpy.
"""
import argparse
import csv

import numpy

ROWS = (8, 15, 16, 32, 48, 64, 80, 96, 112, 128, 129, 160, 161, 192, 193, 224, 256, 257, 512, 513,
        768, 769, 1024, 1025, 1280, 1281, 1536, 1537, 1792, 2048, 2304, 2560, 2816, 3072, 3328,
        3600, 4096, 5000, 10000)  # most rows of a class; one more class holds all above
COLUMNS = (32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 5120, 6144, 7168, 8192,
           10240, 12288, 16384, 65536)
DEPTHS = (32, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
SCALE = 0.04
SMOOTH = 0.02
RIDGE = 0.005
ROUNDS = 6


def read(arguments):
    """[rows, columns, depth] and log(measured / predicted) of each row wanted."""
    shapes, logs = [], []
    with open(arguments.rows, newline="") as rows, open(arguments.predicted, newline="") as told:
        for row, prediction in zip(csv.DictReader(rows), csv.DictReader(told)):
            if (prediction["gpu"] in arguments.gpu and prediction["dtype"] == arguments.dtype
                    and prediction["kernels"] == arguments.kernels and not prediction["skipped"]):
                shapes.append([float(row[name]) for name in "mnk"])
                logs.append(float(prediction["measured"]) / float(prediction["predicted"]))
    return numpy.array(shapes), numpy.log(logs)


def hats(values, nodes):
    """[values, nodes]: the weights of linear interpolation over the logarithm."""
    at = numpy.clip(numpy.log(values), numpy.log(nodes[0]), numpy.log(nodes[-1]))
    return numpy.stack([numpy.interp(at, numpy.log(nodes), unit)
                        for unit in numpy.eye(len(nodes))], axis=1)


def neighbours():
    """The penalty on differences, [nodes, nodes]."""
    size = len(COLUMNS) * len(DEPTHS)
    number = numpy.arange(size).reshape(len(COLUMNS), len(DEPTHS))
    penalty = numpy.zeros((size, size))
    for one, other in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1])):
        for i, j in zip(one.ravel(), other.ravel()):
            penalty[[i, j], [i, j]] += 1.0
            penalty[[i, j], [j, i]] -= 1.0
    return penalty


def design(shapes):
    columns = hats(shapes[:, 1], COLUMNS)
    depths = hats(shapes[:, 2], DEPTHS)
    return (columns[:, :, None] * depths[:, None, :]).reshape(len(shapes), -1)


def fit(shapes, logs):
    """[classes][columns x depths] in percent."""
    penalty = SMOOTH * neighbours() + RIDGE * numpy.eye(len(COLUMNS) * len(DEPTHS))
    table = numpy.full((len(ROWS) + 1, len(penalty)), numpy.nan)
    classes = numpy.searchsorted(ROWS, shapes[:, 0])
    for number in numpy.unique(classes):
        mine = classes == number
        weights_of = design(shapes[mine])
        found = numpy.zeros(len(penalty))
        for _ in range(ROUNDS):
            off = (logs[mine] - weights_of @ found) / SCALE
            weighted = weights_of * (len(penalty) / mine.sum() / (1.0 + off * off))[:, None]
            found = numpy.linalg.solve(weighted.T @ weights_of + penalty, weighted.T @ logs[mine])
        table[number] = numpy.clip(numpy.rint(100.0 * numpy.expm1(found)), -90, 127)
    for number in reversed(range(len(ROWS))):
        if numpy.isnan(table[number, 0]):
            table[number] = table[number + 1]
    return numpy.nan_to_num(table)


def summary(logs):
    error = abs(numpy.expm1(-logs))
    return "median %.1f %%, p90 %.1f %%" % tuple(100.0 * numpy.quantile(error, (0.5, 0.9)))


def hold_out(shapes, logs, share):
    names = numpy.unique(shapes[:, 1:], axis=0)
    left = names[numpy.random.default_rng(1).permutation(len(names))[:round(share * len(names))]]
    is_left = (shapes[:, None, 1:] == left[None]).all(axis=2).any(axis=1)
    table = fit(shapes[~is_left], logs[~is_left])
    classes = numpy.searchsorted(ROWS, shapes[is_left, 0])
    share = (design(shapes[is_left]) * table[classes]).sum(axis=1) / 100.0
    print(f"{is_left.sum()} rows of {len(left)} n x k held out: {summary(logs[is_left])}; "
          f"with picks {summary(logs[is_left] - numpy.log1p(share))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows")
    parser.add_argument("predicted")
    parser.add_argument("kernels")
    parser.add_argument("dtype")
    parser.add_argument("gpu", nargs="+")
    parser.add_argument("--held-out", type=float, default=0.0)
    arguments = parser.parse_args()
    shapes, logs = read(arguments)
    if not len(logs):
        parser.error("no row is of these kernels, in this dtype, on these GPUs")
    if arguments.held_out > 0.0:
        hold_out(shapes, logs, arguments.held_out)
        return
    for line in fit(shapes, logs).astype(int):
        print(", ".join(map(str, line)) + ",")


if __name__ == "__main__":
    main()
