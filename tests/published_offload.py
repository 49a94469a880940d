#!/usr/bin/env python3
"""Offloaded experts beside published speeds and hit rates, with nothing fitted to them.

Usage: published_offload.py MOESIM SOURCE

Published are whole programs. KTransformers' times with eight and with six experts a token tell the CPUs'
part from the rest: an expert costs 8.7 ms on one socket and 4.4 ms on two, which is 170 GB/s a socket
(55 % of nominal) and scales with sockets; the rest is 45 ms a token on both, 0.74 ms a layer. Ours is
a fifth to a quarter fast at the first, because its 70 % of nominal are a stream's and not a kernel's,
and four times fast at the second: a roofline knows no hand-over between GPU and CPUs, no Python and no
attention of many small kernels (a fused one took 7 ms off in V0.2.1, on a faster card). Limits of
SPEEDS and PARTS are what was found, so that a change is noticed.

What others measured of CPUs makes an interval that must hold the published speed: quantised dense models
reach 41 % (Xeon 6980P) to 71 % (Threadripper 7965WX) of the memory rate that was measured there
(ik_llama.cpp, pull request 534), and 40 layers hand over in 3.7 ms (SharpInference, issue 400).
"""
import json
import os
import subprocess
import sys
import tempfile

RYZEN = {"cluster.gpu": "ryzen-ai-max-395", "price": "ryzen-ai-max-395-owned"}
FIDDLER = {"precision.dense": "bf16", "precision.expert": "bf16", "offload.slots": 1,
           "offload.policy": "pinned", "offload.link_bytes_per_s": 12.5e9, "offload.misses": "faster",
           "offload.cpu_bytes_per_s": 90e9, "offload.cpu_flops_per_s": 1e12}
TWO_SOCKETS = {"offload.cpu_bytes_per_s": 430e9, "offload.cpu_flops_per_s": 8e12,
               "offload.home_bytes": 764000000000}

# What, scenario, settings, published tokens/s, least and most of ours over it, whose.
SPEEDS = [
    ("DeepSeek-R1, RTX 4090D + one socket", "studies/deepseek_r1_offload_rtx4090", {}, 8.73, 1.0, 2.0,
     "KTransformers V0.2, doc/en/DeepseekR1_V3_tutorial.md"),
    ("DeepSeek-R1, RTX 4090D + two sockets", "studies/deepseek_r1_offload_rtx4090", TWO_SOCKETS,
     12.21, 1.0, 2.2, "the same; weights lie in both memories"),
    ("Mixtral 8x7B in bf16, 24 GB + Xeon", "studies/mixtral_8x7b_offload_rtx3090", FIDDLER, 3.0, 1.0, 1.7,
     "Fiddler, arXiv 2402.07033: over 3; one slot, DDR4 of 128 GB/s at 0.7, PCIe 3.0"),
    ("GPT-OSS-20B, Ryzen AI Max+ 395", "claims/runs/edge_gpt_oss_20b_laptop",
     {**RYZEN, "context_tokens": 7624, "precision.dense": "int8"}, 70.0, 0.7, 1.1,
     "llama.cpp b8123, Q8_0: fromthematrix.dev; nothing is offloaded"),
]

# Of KTransformers' rows, with 8 and 6 experts: tokens/s, least and most of ours over the CPUs' part of a
# step and over the rest of it.
PARTS = {"DeepSeek-R1, RTX 4090D + one socket": (8.73, 10.303, (0.7, 1.0), (0.2, 1.0)),
         "DeepSeek-R1, RTX 4090D + two sockets": (12.208, 13.69, (0.7, 1.0), (0.2, 1.0))}
YIELDS = (0.408, 0.708)
HAND_OVER_NS = 3.7e6 / 40
CPU_BYTES_PER_S = 215e9  # of the study where settings say none

# Mixtral-offloading's LRU cache (arXiv 2312.17238, as summed up by app.daily.dev): 40 to 60 % with
# its settings for 12 and 16 GB, 4 or 3 of 8 experts a layer. The trace is drawn from counts of
# another text.
HIT_RATES = [(3, 0.40, 0.60), (4, 0.40, 0.60)]


def simulate(moesim, directory, scenario, settings):
    name = os.path.join(sys.argv[2], "scenarios", scenario + ".yaml")
    command = [moesim, "run", name, "-o", os.path.join(directory, "results.db"), "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"published_offload: {' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def check_parts(what, run, failed):
    """The CPUs' part, from what two experts fewer save, and the rest."""
    eight, six, of_cpus, of_rest = PARTS[what]
    cpus_ms = 8 * (1e3 / eight - 1e3 / six) / 2
    rest_ms = 1e3 / eight - cpus_ms
    ours_ms = run["phase_ns_mean"]["expert"] * 1e-6
    ours_rest_ms = run["step_ns_mean"] * 1e-6 - ours_ms
    print(f"{'':<40} CPUs {ours_ms:.1f} of {cpus_ms:.1f} ms, the rest {ours_rest_ms:.1f} of {rest_ms:.1f} ms")
    if not of_cpus[0] <= ours_ms / cpus_ms <= of_cpus[1]:
        failed.append(f"{what}: CPUs")
    if not of_rest[0] <= ours_rest_ms / rest_ms <= of_rest[1]:
        failed.append(f"{what}: the rest")


def check_interval(moesim, directory, scenario, settings, what, published, failed):
    """With what others measured of CPUs."""
    speeds = []
    for share in YIELDS:
        rate = share * settings.get("offload.cpu_bytes_per_s", CPU_BYTES_PER_S)
        run = simulate(moesim, directory, scenario, {**settings, "offload.cpu_bytes_per_s": rate,
                                                     "offload.cpu_latency_ns": HAND_OVER_NS})
        speeds.append(run["tokens_per_s_per_gpu"])
    print(f"{'':<40} {speeds[0]:.1f} to {speeds[1]:.1f} by what others measured of CPUs")
    if not speeds[0] <= published <= speeds[1]:
        failed.append(f"{what}: not within {speeds}")


def main():
    moesim, failed = sys.argv[1], []
    with tempfile.TemporaryDirectory() as directory:
        print(f"{'tokens a second':<40} {'ours':>6} {'publ.':>6} {'ratio':>6}")
        for what, scenario, settings, published, least, most, whose in SPEEDS:
            run = simulate(moesim, directory, scenario, settings)
            ours = run["tokens_per_s_per_gpu"]
            print(f"{what:<40} {ours:6.1f} {published:6.1f} {ours / published:6.2f}  {whose}")
            if not least <= ours / published <= most:
                failed.append(what)
            if what in PARTS:
                check_parts(what, run, failed)
            if settings is not SPEEDS[-1][2]:
                check_interval(moesim, directory, scenario, settings, what, published, failed)
        for slots, low, high in HIT_RATES:
            run = simulate(moesim, directory, "studies/mixtral_8x7b_offload_rtx3090",
                           {"offload.slots": slots})
            rate = run["offload"]["hit_rate"]
            print(f"hit rate of lru, {slots} of 8 experts: {100 * rate:.0f} %, published "
                  f"{100 * low:.0f} to {100 * high:.0f} %")
            if not low <= rate <= high:
                failed.append(f"hit rate with {slots} slots")
    if failed:
        sys.exit(f"published_offload: outside of what was found: {', '.join(failed)}")


if __name__ == "__main__":
    main()
