#!/usr/bin/env python3
r"""Turns kernel tables of aiconfigurator into the rows that `moesim calibrate` and `validate` take.

Usage: aiconfigurator_rows.py CHECKOUT PATTERN [PATTERN ...] -o DIRECTORY [--rows N]
       aiconfigurator_rows.py CHECKOUT --list

NVIDIA's aiconfigurator (https://github.com/ai-dynamo/aiconfigurator, Apache-2.0) measures GEMMs,
attention and MoE layers of TensorRT-LLM, SGLang and vLLM, a table each by GPU, engine and version.
The constants in this directory were fitted to tables @ 095f58a; an engine's other versions differ,
some by half. With your own version's tables:

    git clone https://github.com/ai-dynamo/aiconfigurator && (cd aiconfigurator && git lfs pull)
    aiconfigurator_rows.py aiconfigurator 'h100_sxm/*/trtllm/1.3.0rc20' -o rows
    moesim validate --kernels rows/aiconfigurator_kernels.csv   # how far the presets are off on it
    moesim calibrate --kernels rows/aiconfigurator_kernels.csv --gpu h100-sxm --out fitted

PATTERN is matched with a table's path below systems/data, or the beginning of it; `*` also matches
`/`. --rows takes that many of each table at most, by a hash of what was measured, so that one
checkout always gives the same ones. aiconfigurator_kernels.csv has GEMMs, attention, MLA modules
and experts of one rank, aiconfigurator_kernels_moe.csv whole MoE layers, in which experts that are
cut (moe_tp_size) are experts of their part's width. Attention with a window and prompts in batches
are left out: the models are of full attention and one prompt.
Rows of a version that a preset's `fitted_on` or `source` names are no test of that preset.

Needs pyarrow (Apache-2.0), for this alone.
"""
import argparse
import csv
import fnmatch
import hashlib
import pathlib
import sys

KERNELS = ("kernel", "gpu", "library", "dtype", "kv_dtype", "phase", "model_shape", "m", "n", "k",
           "num_groups", "num_experts", "topk", "hidden", "inter", "ep", "local_experts", "tokens",
           "tokens_scope", "tokens_per_expert", "batch", "seq_or_kv_len", "q_heads",
           "distribution", "num_slots", "latency_us", "source")
MOE = ("gpu", "framework", "version", "kernel_source", "dtype", "model_shape", "num_experts",
       "topk", "hidden", "inter", "moe_tp", "moe_ep", "tokens", "distribution", "latency_us",
       "source")
ENGINES = {"trtllm": "TRT-LLM", "sglang": "SGLang", "vllm": "vLLM"}


class Odd(Exception):
    """What cannot be read, in words for the user."""


def microseconds(row):
    return f"{row['latency'] * 1000:.3f}"


def experts(row):
    """Columns of both layouts that tell a layer's experts."""
    return {"gpu": row["device"], "dtype": row["moe_dtype"], "num_experts": row["num_experts"],
            "topk": row["topk"], "hidden": row["hidden_size"], "inter": row["inter_size"],
            "model_shape": "h{hidden_size}-i{inter_size}-k{topk}-e{num_experts}".format(**row),
            "tokens": row["num_tokens"], "distribution": row["distribution"],
            "latency_us": microseconds(row)}


def gemm(row, library, _phase):
    return {"kernel": "dense GEMM", "gpu": row["device"], "library": library,
            "dtype": row["gemm_dtype"], "m": row["m"], "n": row["n"], "k": row["k"],
            "latency_us": microseconds(row)}


def attention(row, library, phase):
    is_prefill = phase == "prefill"
    if row.get("window_size", 0) or (is_prefill and row["batch_size"] != 1):
        return None
    heads = row["num_heads"]
    kv_heads = row["num_key_value_heads"] or heads  # 0 in prefill: as many as heads
    return {"kernel": "mha attention", "gpu": row["device"], "library": library,
            "dtype": row["attn_dtype"], "phase": phase, "batch": row["batch_size"],
            "kv_dtype": "fp8" if "fp8" in row["kv_cache_dtype"] else "bf16",
            "seq_or_kv_len": row["isl"] + (0 if is_prefill else row["step"]),
            "q_heads": f"{heads}-{kv_heads}-{row['head_dim']}", "latency_us": microseconds(row)}


def mla_module(row, library, phase):
    return {"kernel": f"MLA module ({row['kernel_source']})", "gpu": row["device"],
            "library": library, "dtype": row["mla_dtype"], "kv_dtype": row["kv_cache_dtype"],
            "phase": phase, "model_shape": row["model"].split("/")[-1],
            "batch": row["batch_size"], "seq_or_kv_len": row["isl"] + row["step"],
            "q_heads": row["num_heads"], "latency_us": microseconds(row)}


def experts_behind_deepep(row, library, phase):
    if row["moe_tp_size"] != 1:
        return None
    return {**experts(row), "kernel": "EP MoE layer compute on most-loaded rank (deepepmoe)",
            "library": f"{library} DeepEPMoE+DeepGEMM", "phase": phase, "ep": row["moe_ep_size"],
            "local_experts": row["num_experts"] // row["moe_ep_size"],
            "tokens_scope": "global over EP group"}


def experts_of_wide_ep(row, library, _phase):
    return {**experts(row), "kernel": f"WideEP MoE compute rank0 ({row['kernel_source']})",
            "library": library, "phase": "both", "ep": row["moe_ep_size"],
            "tokens_scope": "global over EP group", "num_slots": row["num_slots"]}


def moe(row, _library, _phase):
    """Experts that are cut count as experts of their part's width."""
    if row["inter_size"] % row["moe_tp_size"] != 0:
        return None
    row = {**row, "inter_size": row["inter_size"] // row["moe_tp_size"]}
    return {**experts(row), "framework": row["framework"], "version": row["version"],
            "kernel_source": row["kernel_source"], "moe_tp": 1, "moe_ep": row["moe_ep_size"]}


# By engine, or any, and file: which layout, how a row is read, and its phase.
TABLES = {
    ("", "gemm_perf"): ("kernels", gemm, ""),
    ("", "context_attention_perf"): ("kernels", attention, "prefill"),
    ("", "generation_attention_perf"): ("kernels", attention, "decode"),
    ("sglang", "wideep_context_mla_perf"): ("kernels", mla_module, "prefill"),
    ("sglang", "wideep_generation_mla_perf"): ("kernels", mla_module, "decode"),
    ("sglang", "wideep_context_moe_perf"): ("kernels", experts_behind_deepep, "prefill"),
    ("sglang", "wideep_generation_moe_perf"): ("kernels", experts_behind_deepep, "decode"),
    ("trtllm", "wideep_moe_perf"): ("kernels", experts_of_wide_ep, ""),
    ("", "moe_perf"): ("kernels_moe", moe, ""),
}


def kind_of(path):
    """How a table is read; None: not at all. path: GPU/operation/engine/version/file.parquet."""
    part = path.split("/")
    if len(part) != 5 or part[2] not in ENGINES:
        return None
    stem = part[4].removesuffix(".parquet")
    return TABLES.get((part[2], stem)) or TABLES.get(("", stem))


def convert(path, rows):
    """Rows of a table, a dictionary each, as the layout's, without those that are left out."""
    _layout, read, phase = kind_of(path)
    engine, version = path.split("/")[2:4]
    source = f"aiconfigurator systems/data/{path}"
    for number, row in enumerate(rows):
        try:
            made = read(row, f"{ENGINES[engine]} {version}", phase)
        except KeyError as missing:
            raise Odd(f"{path}: row {number + 1} has no column {missing}; this script was made for "
                      "the tables @ 095f58a") from None
        if made is not None:
            yield {**made, "source": source}


def thin(rows, count):
    """count of the rows: those whose shape has the least hash, in the order of the table."""
    if count is None or len(rows) <= count:
        return rows

    def rank(row):
        shape = "|".join(f"{key}={row[key]}" for key in sorted(row) if key != "latency_us")
        return hashlib.sha256(shape.encode()).hexdigest()

    kept = set(sorted(range(len(rows)), key=lambda i: (rank(rows[i]), i))[:count])
    return [row for i, row in enumerate(rows) if i in kept]


def find_tables(checkout):
    """Paths of the tables that can be read, below the directory they are in."""
    roots = sorted(pathlib.Path(checkout).glob("**/systems/data"))
    if not roots:
        raise Odd(f"{checkout}: there is no systems/data in it; CHECKOUT is a clone of "
                  "https://github.com/ai-dynamo/aiconfigurator")
    names = (str(path.relative_to(roots[0])) for path in sorted(roots[0].glob("**/*.parquet")))
    return roots[0], [name for name in names if kind_of(name) is not None]


def choose(tables, patterns):
    chosen = set()
    for pattern in patterns:
        found = {name for name in tables if fnmatch.fnmatchcase(name, pattern)
                 or fnmatch.fnmatchcase(name, pattern.rstrip("/") + "/*")}
        if not found:
            raise Odd(f"no table is called '{pattern}'; --list shows all")
        chosen |= found
    return sorted(chosen)


def read_table(path):
    with open(path, "rb") as file:
        if file.read(7) == b"version":
            raise Odd(f"{path}: the table itself is not there; run `git lfs pull` in the checkout")
    try:
        import pyarrow.parquet
    except ImportError:
        raise Odd("pyarrow is needed: python3 -m pip install pyarrow") from None
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise Odd(f"{path}: {error}") from None


def write(directory, layout, columns, rows):
    path = pathlib.Path(directory) / f"aiconfigurator_{layout}.csv"
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.rename(path)
    print(f"{path}: {len(rows)} rows")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0],
                                     epilog="example: aiconfigurator_rows.py aiconfigurator "
                                            "'h100_sxm/*/trtllm/1.3.0rc20' -o rows")
    parser.add_argument("checkout")
    parser.add_argument("pattern", nargs="*")
    parser.add_argument("-o", "--out", metavar="DIRECTORY")
    parser.add_argument("--rows", type=int, metavar="N", help="of each table, at most")
    parser.add_argument("--list", action="store_true", help="show the tables that can be read")
    given = parser.parse_args(arguments)
    root, tables = find_tables(given.checkout)
    if given.list:
        print("\n".join(tables))
        return
    if not given.pattern or given.out is None or (given.rows is not None and given.rows < 1):
        raise Odd("wanted: CHECKOUT, a pattern or more, -o DIRECTORY, and N of --rows from 1")
    made = {"kernels": [], "kernels_moe": []}
    chosen = choose(tables, given.pattern)
    for number, name in enumerate(chosen):
        rows = thin(list(convert(name, read_table(root / name))), given.rows)
        made[kind_of(name)[0]] += rows
        print(f"{number + 1}/{len(chosen)} {name}: {len(rows)} rows", file=sys.stderr)
    pathlib.Path(given.out).mkdir(parents=True, exist_ok=True)
    for layout, columns in (("kernels", KERNELS), ("kernels_moe", MOE)):
        if made[layout]:
            write(given.out, layout, columns, made[layout])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Odd, OSError) as error:
        sys.exit(f"aiconfigurator_rows.py: {error}")
