#!/usr/bin/env python3
"""moesim kernels: its table and JSON agree, and mistakes end with 1 and one clear line."""
import json
import subprocess
import sys

MOESIM = sys.argv[1]


def run(*arguments):
    return subprocess.run([MOESIM, "kernels", *arguments], capture_output=True, text=True)


def main():
    prefill = json.loads(run("deepseek-v3", "--prefill", "--tokens", "4096", "-j").stdout)
    attention = [k for k in prefill["kernels"] if k["phase"] == "attention"]
    # counted by hand in tests/test_glue.c
    assert sum(k["read_bytes"] + k["written_bytes"] for k in attention) == 296192, attention
    assert sum(k["launches"] for k in attention) == 14, attention
    table = run("deepseek-v3", "--prefill", "--tokens", "4096").stdout
    for kernel in prefill["kernels"]:
        line = next(row for row in table.splitlines() if kernel["name"] in row)
        assert f"{kernel['duration_ns'] / 1000:.1f}" in line, (line, kernel)
    decode = json.loads(run("deepseek-v3", "-j").stdout)
    assert len(decode["kernels"]) < len(prefill["kernels"])
    for arguments, words in [((), "which model"), (("nonesuch",), "nonesuch"),
                             (("deepseek-v3", "--gpu", "tpu"), "tpu"),
                             (("deepseek-v3", "--tokens", "0"), "--tokens 0"),
                             (("deepseek-v3", "--tokens"), "needs a value"),
                             (("deepseek-v3", "mixtral-8x7b"), "one model")]:
        refused = run(*arguments)
        assert refused.returncode == 1 and words in refused.stderr, (arguments, refused)
    print("kernels_cli: table, JSON and refusals agree")


main()
