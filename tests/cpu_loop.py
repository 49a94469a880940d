#!/usr/bin/env python3
"""The whole loop on this machine's CPU: moe-bench measures, moesim fits one half and predicts the
other (other shapes, GPT-OSS-20B's recorded routing, two MPI ranks).

Usage: cpu_loop.py MOESIM MOE_BENCH SOURCE_DIRECTORY

Prints the error. Times depend on the machine and on what else it does, so a test of them would fail
for nobody's fault; this one fails where the loop is broken: the programs fail, a phase is missing,
or the median error is so large (LIMIT) that the prediction has nothing to do with the measurement.
What must not depend on time is held exactly: outputs of one, two and three ranks are the same bits.
"""
import json
import os
import re
import shutil
import subprocess
import sys

SKIPPED = 77
LIMIT = 0.5
RANKS = ["mpirun", "--oversubscribe", *(["--allow-run-as-root"] if os.getuid() == 0 else []), "-np"]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, **options)
    if done.returncode not in (0, SKIPPED):
        print(done.stdout + done.stderr)
        sys.exit(f"failed ({done.returncode}): {' '.join(command)}")
    return done


def digest(*command):
    done = run(*command)
    if done.returncode == SKIPPED:
        print(done.stderr.strip())
        sys.exit(SKIPPED)
    return re.search(r"digest of routed outputs ([0-9a-f]{16})", done.stdout).group(1)


def main():
    moesim, bench, source = sys.argv[1:]
    check = (bench, "check", "--device", "cpu")
    alone = digest(*check, "--threads", "1")
    assert digest(*check, "--threads", "3") == alone, "three threads compute something else"
    if shutil.which("mpirun"):
        for ranks in ("2", "3"):
            assert digest(*RANKS, ranks, *check) == alone, f"{ranks} ranks compute something else"
        print(f"1, 2 and 3 ranks, 1 and 3 threads: routed outputs are the same bits ({alone})")
    else:
        print("skipped: no mpirun here: several ranks")

    routing = os.path.join(source, "tests", "golden", "gpt_oss_routing.npy")
    done = run(moesim, "validate", "--device", "cpu", "--json",
               "--routing", f"{routing}:0,{routing}:1")
    print(done.stderr, end="")
    result = json.loads(done.stdout)
    phases = set()
    for group in result["groups"]:
        phases.add((group["phase"], group["ep"]))
        print(f"{group['phase']:9} {'2 ranks' if group['ep'] else '1 rank ':8} n {group['n']:3} "
              f"median {100 * group['median']:6.1f} %  p90 {100 * group['p90']:6.1f} %")
    for name in ("layers", "total"):
        summary = result[name]
        print(f"cpu_loop: error of {name}: n {summary['n']}, "
              f"median {100 * summary['median']:.1f} %, p90 {100 * summary['p90']:.1f} %, max {100 * summary['max']:.1f} %")
    for phase in ("gate", "permute", "gate_up", "down", "combine", "layer"):
        assert (phase, False) in phases, f"{phase} was not predicted"
    if shutil.which("mpirun"):
        for phase in ("dispatch", "return", "layer"):
            assert (phase, True) in phases, f"{phase} of two ranks was not predicted"
    assert result["total"]["skipped"] == 0, result["skipped_reasons"]
    assert result["layers"]["median"] < LIMIT, "predictions have nothing to do with measurements"


if __name__ == "__main__":
    main()
