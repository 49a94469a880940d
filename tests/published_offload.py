#!/usr/bin/env python3
"""Offloaded experts beside published speeds and hit rates, with nothing fitted to them.

Usage: published_offload.py MOESIM SOURCE

Published are whole programs: Python, dequantisation, CPU kernels that reach a part of the memory's
bandwidth. moesim's roofline has none of that, so it comes out above them where CPUs compute, by up to
2.1 times; the two sockets of the Xeon gain KTransformers 1.4 times and the model 1.7, because it knows
nothing of their link. Limits below are what was found, so that a change is noticed.
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


def main():
    moesim, failed = sys.argv[1], []
    with tempfile.TemporaryDirectory() as directory:
        print(f"{'tokens a second':<40} {'ours':>6} {'publ.':>6} {'ratio':>6}")
        for what, scenario, settings, published, least, most, whose in SPEEDS:
            ours = simulate(moesim, directory, scenario, settings)["tokens_per_s_per_gpu"]
            print(f"{what:<40} {ours:6.1f} {published:6.1f} {ours / published:6.2f}  {whose}")
            if not least <= ours / published <= most:
                failed.append(what)
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
