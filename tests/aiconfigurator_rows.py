#!/usr/bin/env python3
"""Rows of aiconfigurator's tables: known answers, and moesim reads what is written.

Usage: aiconfigurator_rows.py MOESIM SOURCE_DIRECTORY

Tables are dictionaries here, as pyarrow returns them, so that the test needs no pyarrow. One row of
each kind, with the column names of aiconfigurator @ 095f58a; the numbers are made up.
"""
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

MOESIM = sys.argv[1]
SOURCE = pathlib.Path(sys.argv[2])
GPU = "NVIDIA H100 80GB HBM3"

spec = importlib.util.spec_from_file_location(
    "rows", SOURCE / "scenarios/gpus/aiconfigurator_rows.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

EXPERTS = {"device": GPU, "framework": "SGLang", "version": "1.0",
           "kernel_source": "sglang_fused_moe_triton", "moe_dtype": "fp8_block",
           "num_tokens": 64, "hidden_size": 7168, "inter_size": 2048,
           "topk": 8, "num_experts": 256, "moe_tp_size": 1, "moe_ep_size": 4,
           "distribution": "balanced", "latency": 0.5}
HEADS = {"device": GPU, "batch_size": 4, "isl": 100, "step": 28, "num_heads": 32, "head_dim": 128,
         "num_key_value_heads": 8, "window_size": 0, "attn_dtype": "bfloat16",
         "kv_cache_dtype": "fp8_e4m3", "latency": 0.02}
MODULE = {"device": GPU, "model": "deepseek-ai/DeepSeek-V3", "kernel_source": "fa3",
          "mla_dtype": "fp8_block", "kv_cache_dtype": "fp8", "num_heads": 128, "batch_size": 2,
          "isl": 512, "step": 0, "latency": 0.25}
TABLES = {
    "h100_sxm/gemm/trtllm/1.0/gemm_perf.parquet": (
        [{"device": GPU, "gemm_dtype": "fp8_block", "m": 64, "n": 7168, "k": 2048,
          "latency": 0.01}],
        {"kernel": "dense GEMM", "library": "TRT-LLM 1.0", "m": 64, "n": 7168, "k": 2048,
         "latency_us": "10.000"}),
    "h100_sxm/attention/vllm/1.0/generation_attention_perf.parquet": (
        [HEADS, {**HEADS, "window_size": 128}],
        {"library": "vLLM 1.0", "phase": "decode", "batch": 4, "seq_or_kv_len": 128,
         "q_heads": "32-8-128", "kv_dtype": "fp8", "latency_us": "20.000"}),
    "h100_sxm/attention/sglang/1.0/context_attention_perf.parquet": (
        [HEADS, {**HEADS, "batch_size": 1, "num_key_value_heads": 0, "kv_cache_dtype": "bfloat16"}],
        {"library": "SGLang 1.0", "phase": "prefill", "batch": 1, "seq_or_kv_len": 100,
         "q_heads": "32-32-128", "kv_dtype": "bf16"}),
    "h100_sxm/mla/sglang/1.0/wideep_generation_mla_perf.parquet": (
        [MODULE], {"kernel": "MLA module (fa3)", "model_shape": "DeepSeek-V3", "q_heads": 128,
                   "seq_or_kv_len": 512, "phase": "decode"}),
    "h100_sxm/moe/sglang/1.0/wideep_context_moe_perf.parquet": (
        [EXPERTS, {**EXPERTS, "moe_tp_size": 2}],
        {"library": "SGLang 1.0 DeepEPMoE+DeepGEMM", "ep": 4, "local_experts": 64, "tokens": 64,
         "phase": "prefill", "latency_us": "500.000"}),
    "h100_sxm/moe/trtllm/1.0/wideep_moe_perf.parquet": (
        [{**EXPERTS, "num_slots": 288}], {"num_slots": 288, "phase": "both", "inter": 2048}),
    "h100_sxm/moe/sglang/1.0/moe_perf.parquet": (
        [EXPERTS], {"moe_tp": 1, "moe_ep": 4, "framework": "SGLang",
                    "kernel_source": "sglang_fused_moe_triton",
                    "model_shape": "h7168-i2048-k8-e256", "latency_us": "500.000"}),
    "h100_sxm/moe/trtllm/1.0/moe_perf.parquet": (
        [{**EXPERTS, "moe_tp_size": 8}, {**EXPERTS, "moe_tp_size": 3}],
        {"moe_tp": 1, "inter": 256, "model_shape": "h7168-i256-k8-e256"}),
}


def rows_of(path):
    return list(script.convert(path, TABLES[path][0]))


def test_known_rows():
    for path, (_, expected) in TABLES.items():
        rows = rows_of(path)
        assert len(rows) == 1, (path, rows)
        wrong = {key: rows[0].get(key) for key in expected if rows[0].get(key) != expected[key]}
        assert not wrong, (path, wrong)
        assert rows[0]["source"].endswith(path)


def test_other_tables_are_not_read():
    for path in ("h100_sxm/comm/nccl/2.29.2/nccl_perf.parquet",
                 "h100_sxm/moe/trtllm/1.0/wideep_context_moe_perf.parquet",
                 "gemm_perf.parquet"):
        assert script.kind_of(path) is None, path


def test_moesim_predicts_every_row(directory):
    """Each row is of a kind that has constants for the H100, so none may be skipped."""
    kernels = [path for path in TABLES if script.kind_of(path)[0] == "kernels"]
    script.write(directory, "kernels", script.KERNELS, sum(map(rows_of, kernels), []))
    script.write(directory, "kernels_moe", script.MOE,
                 rows_of("h100_sxm/moe/sglang/1.0/moe_perf.parquet"))
    for layout, count in (("kernels", 6), ("kernels_moe", 1)):
        option = "--" + layout.replace("_", "-")
        run = subprocess.run([MOESIM, "validate", option,
                              f"{directory}/aiconfigurator_{layout}.csv", "--json"],
                             capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        total = json.loads(run.stdout)["total"]
        assert (total["n"], total["skipped"]) == (count, 0), run.stdout


def test_thin_is_stable():
    rows = [{"m": m, "latency_us": str(m * 1.5)} for m in range(1000)]
    kept = script.thin(rows, 100)
    assert len(kept) == 100 and kept == sorted(kept, key=lambda row: row["m"])
    again = [{**row, "latency_us": "7"} for row in rows]  # what was measured, not how long it took
    assert [row["m"] for row in script.thin(again, 100)] == [row["m"] for row in kept]
    assert script.thin(rows, None) is rows


def refusal(*arguments):
    try:
        script.main([str(argument) for argument in arguments])
    except script.Odd as odd:
        return str(odd)
    raise AssertionError(f"{arguments} was taken")


def test_refusals(directory):
    data = pathlib.Path(directory) / "checkout/systems/data/h100_sxm/gemm/trtllm/1.0"
    out = pathlib.Path(directory) / "none"
    assert "no systems/data" in refusal(directory, "x", "-o", out)
    data.mkdir(parents=True)
    (data / "gemm_perf.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "--list" in refusal(directory, "b200*", "-o", out)
    assert "git lfs pull" in refusal(directory, "h100_sxm", "-o", out)
    assert "-o DIRECTORY" in refusal(directory, "h100_sxm")
    assert not out.exists()
    try:
        list(script.convert("h100_sxm/gemm/trtllm/1.0/gemm_perf.parquet", [{"device": GPU}]))
    except script.Odd as odd:
        assert "row 1 has no column 'gemm_dtype'" in str(odd)
    else:
        raise AssertionError("a row without columns was taken")


with tempfile.TemporaryDirectory() as scratch:
    test_refusals(scratch)
    test_moesim_predicts_every_row(scratch)
test_known_rows()
test_other_tables_are_not_read()
test_thin_is_stable()
print("aiconfigurator_rows: every kind of table, and moesim predicts every row")
