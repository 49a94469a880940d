#!/usr/bin/env python3
"""moesim kernels: its table and JSON agree, and mistakes end with 1 and one clear line."""
import json
import subprocess
import sys

MOESIM = sys.argv[1]


def run(*arguments):
    return subprocess.run([MOESIM, "kernels", *arguments], capture_output=True, text=True)


def check_every_model():
    """No kernel of a phase that the model does not have, and none that moves nothing."""
    listed = subprocess.run([MOESIM, "list", "models", "--json"], capture_output=True, text=True)
    names = [row["name"] for row in json.loads(listed.stdout)]
    assert len(names) > 20, names
    phases = {}
    for name in names:
        for options in ((), ("--prefill",), ("--set", "sglang"), ("--prefill", "--set", "sglang")):
            kernels = json.loads(run(name, "-j", *options).stdout)["kernels"]
            for kernel in kernels:
                assert kernel["read_bytes"] + kernel["written_bytes"] > 0, (name, kernel)
                assert 0 < kernel["share"] <= 1, (name, kernel)
            phases[name] = {kernel["phase"] for kernel in kernels}
    assert phases["llama-2-70b"] == {"attention", "dense", "head"}, phases["llama-2-70b"]
    assert phases["mixtral-8x7b"] == {"attention", "gate", "experts", "head"}
    assert phases["deepseek-v3"] == {"attention", "dense", "gate", "shared", "experts", "head"}
    fused = json.loads(run("deepseek-v3", "--prefill", "-j").stdout)["kernels"]
    apart = json.loads(run("deepseek-v3", "--prefill", "-j", "--set", "sglang").stdout)["kernels"]
    assert "SwiGLU and quantise" in {kernel["name"] for kernel in fused}
    assert "SwiGLU of experts" in {kernel["name"] for kernel in apart}
    assert sum(k["duration_ns"] for k in apart) > sum(k["duration_ns"] for k in fused)


def check_constants():
    """Table and JSON say the same of every part; dense models have no experts."""
    for gpu in "h800-sxm", "h100-sxm", "rtx-4090":
        listed = json.loads(run("deepseek-v3", "--gpu", gpu, "-j").stdout)["constants"]
        table = run("deepseek-v3", "--gpu", gpu).stdout.splitlines()
        assert len(listed) == 4 and listed[2]["precision"] == "bf16", listed
        for part in listed:
            line = next(row for row in table if row.startswith(part["name"]))
            assert part["kernels"] in line and part["precision"] in line, (line, part)
            if part["num_rows"] > 0:
                assert 0 < part["error_median"] <= part["error_p90"], part
                assert f"{100 * part['error_median']:.1f} %" in line, (line, part)
                assert part["fitted_on"].split()[0] == str(part["num_rows"]), part
            else:
                assert part["kernels"] == "roofline" and "unknown" in line, (line, part)
        assert (sum(part["num_rows"] for part in listed) > 0) == (gpu != "rtx-4090"), listed
    dense = json.loads(run("llama-2-70b", "-j").stdout)["constants"]
    assert [part["name"] for part in dense] == ["attention", "dense GEMMs", "router and head"], dense


def main():
    check_constants()
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
    check_every_model()
    for arguments, words in [((), "which model"), (("nonesuch",), "nonesuch"),
                             (("deepseek-v3", "--gpu", "tpu"), "tpu"),
                             (("deepseek-v3", "--tokens", "0"), "--tokens 0"),
                             (("deepseek-v3", "--set", "vllm"), "neither deepseek nor sglang"),
                             (("deepseek-v3", "--tokens"), "needs a value"),
                             (("deepseek-v3", "mixtral-8x7b"), "one model")]:
        refused = run(*arguments)
        assert refused.returncode == 1 and words in refused.stderr, (arguments, refused)
    print("kernels_cli: table, JSON and refusals agree")


main()
