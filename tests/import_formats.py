#!/usr/bin/env python3
"""Writes every text format that moesim imports, imports it and compares the trace to the last id.

Usage: import_formats.py MOESIM [ARRIVALS_DIRECTORY]

The writer below shares nothing with the program: it is json, base64 and numpy. Random routing goes
out in each format, with what real files have: dense layers, pads, dummy rows, several files; what
comes back is read with numpy.load. Then come files that are wrong or hostile: each must be refused
with its words, quickly, and leave nothing behind. Exits with 77 where numpy is missing.
"""
import base64
import datetime
import io
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

program = os.path.abspath(sys.argv[1])
rng = np.random.default_rng(6)
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"import_formats: {what}")


def moesim(*arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300)


def routing(tokens, layers, top_k, experts):
    """Random ids [tokens][layers][top_k], no expert twice in a row."""
    return np.argsort(rng.random((tokens, layers, experts)), axis=2)[:, :, :top_k]


def read_trace(path):
    """The trace's ids [tokens][layers][top_k], pads as -1."""
    names = sorted(name for name in os.listdir(path) if name.startswith("experts-"))
    ids = np.concatenate([np.load(os.path.join(path, name)) for name in names], axis=1)
    pad = 255 if ids.dtype == np.uint8 else 65535
    wide = ids.astype(np.int64).transpose(1, 0, 2)
    text = open(os.path.join(path, "trace.yaml")).read()
    if ids.dtype == np.uint8 and "num_experts: 256" in text:
        return wide
    return np.where(wide == pad, -1, wide)


def requests_of(path):
    lines = open(os.path.join(path, "requests.csv")).read().splitlines()
    header = lines[0].split(",")
    return [dict(zip(header, line.split(","))) for line in lines[1:]]


def import_files(files, *more, out="trace"):
    """Imports, checks that `trace check` agrees, and returns the summary."""
    done = moesim("trace", "import", "--json", "--force", *more, *files, "--out", out)
    check(done.returncode == 0, f"import {more} {files}: {done.stderr}")
    if os.path.isdir(out):
        sound = moesim("trace", "check", out)
        check(sound.returncode == 0, f"trace check after {more}: {sound.stderr}")
    return json.loads(done.stdout)


def expect(files, ids, *more, drops=None, **fields):
    summary = import_files(files, *more)
    got = read_trace("trace")
    check(got.shape == ids.shape, f"{more}: shape {got.shape}, not {ids.shape}")
    check((got == ids).all(), f"{more}: ids differ at {np.argwhere(got != ids)[:3]}")
    for key, value in fields.items():
        check(summary[key] == value, f"{more}: {key} is {summary[key]}, not {value}")
    if drops is not None:
        found = {drop["reason"]: drop["count"] for drop in summary["dropped"]}
        check(found == drops, f"{more}: dropped {found}, not {drops}")
    return summary


def refuse(files, words, *more):
    """The import must fail with these words and leave nothing behind."""
    before = sorted(os.listdir("."))
    done = moesim("trace", "import", *more, *files, "--out", "refused")
    check(done.returncode == 1, f"{words!r}: exit {done.returncode}, {done.stdout}{done.stderr}")
    check(words in done.stderr, f"{words!r} is not in: {done.stderr}")
    check(sorted(os.listdir(".")) == before, f"{words!r}: left something behind")
    return done.stderr


def write(name, text):
    with open(name, "w") as file:
        file.write(text)
    return name


def write_lines(name, records):
    return write(name, "".join(json.dumps(record) + "\n" for record in records))


def b64(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def b64_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(file.getvalue()).decode()


# ---- responses -------------------------------------------------------------------------------

DEEPSEEK = ("--model", "deepseek-v3")  # 61 layers, 3 of them dense, top-8 of 256
QWEN = ("--model", "toy", "--num-experts", 16, "--top-k", 4, "--layers", "0-4")


def with_dense(ids):
    """DeepSeek's 61 layers: three dense ones of zeros in front."""
    return np.concatenate([np.zeros((ids.shape[0], 3, ids.shape[2]), ids.dtype), ids], axis=1)


def sglang_responses():
    parts = [routing(tokens, 58, 8, 256) for tokens in (7, 1, 40)]
    ids = np.concatenate(parts)
    native = [{"text": "say \"routed_experts\": {x}\\", "meta_info": {
        "id": "same id", "prompt_tokens": 4, "routed_experts": b64(with_dense(p).astype("<i4"))}}
        for p in parts]
    for record in native[1:]:
        record["meta_info"]["routed_experts_start_len"] = 3
    facts = {"num_dense_layers_dropped": 3, "num_requests": 3, "num_tokens": 48}
    summary = expect([write_lines("a.jsonl", native)], ids, *DEEPSEEK, **facts)
    check(summary["format"] == "sglang_routed_experts", "sglang was not detected")
    starts = [int(request["prompt_tokens"]) for request in requests_of("trace")]
    offsets = [int(request["row_offset"]) for request in requests_of("trace")]
    check(starts == [0, 3, 3] and offsets == [0, 7, 8], f"requests {starts} {offsets}")
    expect([write("a.json", json.dumps(native, indent=1))], ids, *DEEPSEEK, **facts)
    files = [write(f"a{i}.json", json.dumps(record)) for i, record in enumerate(native)]
    expect(files, ids, *DEEPSEEK, num_files=3, **facts)
    for dtype in ("uint8", "uint16", "int32"):
        choices = [{"index": i, "sgl_ext": {"routed_experts": b64(with_dense(p).astype(dtype)),
                                            "routed_experts_dtype": dtype}}
                   for i, p in enumerate(parts)]
        record = {"id": "x", "choices": choices, "usage": {"prompt_tokens": 4}}
        expect([write("b.json", json.dumps(record))], ids, *DEEPSEEK, **facts)
    escaped = write("c.jsonl", json.dumps(native[2]).replace("/", "\\/"))
    expect([escaped], parts[2], *DEEPSEEK, num_requests=1)
    wrapped = [{"request": {"n": [1, [2]]}, "response": record} for record in native]
    wrapped.insert(1, {"response": {"meta_info": {"routed_experts": None}}})
    expect([write_lines("d.jsonl", wrapped)], ids, *DEEPSEEK,
           drops={"responses without routed_experts": 1}, **facts)
    toy = routing(9, 5, 4, 16)
    toy[2, 1, 2:] = -1
    expect([write("e.json", json.dumps({"meta_info": {"routed_experts": b64(toy.astype("<i4"))}}))],
           toy, *QWEN, num_pads=2)


def vllm_responses():
    parts = [routing(tokens, 5, 4, 16) for tokens in (6, 30)]
    ids = np.concatenate(parts)
    for dtype in ("int32", "uint16", "uint8"):
        record = {"choices": [{"routed_experts": b64_npy(p.astype(dtype)),
                               "routed_experts_prompt_start": 2} for p in parts]}
        summary = expect([write("v.json", json.dumps(record))], ids, *QWEN, num_requests=2)
        check(summary["format"] == "vllm_routed_experts", "vllm was not detected")
        dynamo = {"choices": [{"nvext": {"engine_data": {"routed_experts": {
            "data": b64(p.astype(dtype)), "shape": p.shape, "dtype": dtype, "start": 1}}}}
            for p in parts]}
        summary = expect([write("w.json", json.dumps(dynamo))], ids, *QWEN, num_requests=2)
        check(summary["format"] == "vllm_routed_experts", "dynamo was not detected")
        check(requests_of("trace")[0]["prompt_tokens"] == "1", "dynamo's start was lost")
    lightllm = [{"routed_experts": {"shape": p.shape, "data": b64(p.astype("<i4"))}} for p in parts]
    expect([write_lines("x.jsonl", lightllm)], ids, *QWEN, num_requests=2)
    lists = [{"start": 7, "routed_experts": p.tolist()} for p in parts] + [{"routed_experts": []}]
    summary = expect([write_lines("y.jsonl", lists)], ids, *QWEN, num_requests=2,
                     drops={"responses of no token": 1})
    check(summary["format"] == "vllm_routed_experts", "nested lists were not detected")
    inner = {"routed_experts_prompt_start": 2, "choices": [{"routed_experts": parts[0].tolist()}]}
    expect([write("z.json", json.dumps(inner, indent=1))], parts[0], *QWEN, num_requests=1)
    check(requests_of("trace")[0]["prompt_tokens"] == "2", "the start of lists was lost")


# ---- traces of training and logs ------------------------------------------------------------------

def megatron_lines(ids, rank, layers, cuts, mtp=False):
    records = []
    for step, (begin, end) in enumerate(zip(cuts, cuts[1:])):
        for i, layer in enumerate(layers):
            record = {"step": step, "stage": "pre_dispatch", "block": "decoder", "layer": layer,
                      "rank": rank, "num_tokens": end - begin, "topk": ids.shape[2],
                      "top_indices": ids[begin:end, i].tolist()}
            records.append(record)
        if mtp:
            records.append({**record, "block": "mtp", "mtp_idx": 0, "layer": 0,
                            "top_indices": ids[begin:end, 0].tolist()})
    return records


def megatron():
    a, b = routing(50, 5, 4, 16), routing(33, 5, 4, 16)
    ids = np.concatenate([a, b])
    bare = ("--model", "toy", "--num-experts", 16)
    files = [write_lines("router_trace_rank0.jsonl",
                         megatron_lines(a, 0, range(1, 6), [0, 20, 21, 50], mtp=True)),
             write_lines("router_trace_rank1.jsonl", megatron_lines(b, 1, range(1, 6), [0, 33]))]
    summary = expect(files, ids, *bare, num_requests=0, top_k=4,
                     drops={"lines of multi-token prediction blocks": 3})
    check(summary["format"] == "megatron_router_trace", "megatron was not detected")
    check("1, 2, 3, 4, 5" in open("trace/trace.yaml").read(), "layer numbers were lost")
    # Layers in the order of a pipeline schedule; the same step number again is another step.
    order = [3, 4, 0, 1, 2]
    records = megatron_lines(a[:, order], 0, order, [0, 20]) + \
        megatron_lines(a[20:][:, order], 0, order, [0, 30])
    expect([write_lines("r.jsonl", records)], a, *bare)
    # Numbers from 1 in a model that counts from 0, and dense layers among the numbers.
    deep = routing(12, 58, 8, 256)
    for numbers in (range(3, 61), range(4, 62), range(58)):
        expect([write_lines("r.jsonl", megatron_lines(deep, 0, numbers, [0, 12]))], deep, *DEEPSEEK)
    full = megatron_lines(with_dense(deep), 0, range(61), [0, 12])
    expect([write_lines("r.jsonl", full)], deep, *DEEPSEEK, num_dense_layers_dropped=3)
    some = megatron_lines(deep[:, 7:9], 0, (10, 11), [0, 12])
    expect([write_lines("r.jsonl", some)], deep[:, 7:9], *DEEPSEEK)

    good = megatron_lines(a, 0, range(5), [0, 50])
    refuse([write_lines("r.jsonl", good[:3] + [{**good[3], "top_indices": [[1, 2], [3]]}])],
           "line 4: top_indices: expected a list of tokens", *bare)
    refuse([write_lines("r.jsonl", good[:3] + [{**good[3], "top_indices": a[:9, 0].tolist()}])],
           "line 4: has not as many tokens", *bare)
    refuse([write_lines("r.jsonl", good[:3] + [{"step": 0, "layer": 3}])],
           "line 4: expected an object with step, layer and top_indices", *bare)
    refuse([write_lines("r.jsonl", good + megatron_lines(a[:, :4], 0, range(4), [0, 50]))],
           "line 6, step 0: has 4 layers and top-4, but the rows before had 5", *bare)
    refuse([write_lines("r.jsonl", good + megatron_lines(a, 0, range(1, 6), [0, 50]))],
           "line 6, step 0: has layer 1 where the rows before had layer 0", *bare)
    refuse([write("r.jsonl", json.dumps(good[0])[:-3])], "line 1: ", "--from",
           "megatron_router_trace", *bare)
    deep = write_lines("r.jsonl", [{**good[0], "top_indices": [[[1]]]}])
    refuse([deep], "top_indices: expected", *bare)


def log_rows(parts, weights=None):
    """(request, token, layer, ids, weights) in the order of layers within decoding steps."""
    rows = []
    for token in range(max(len(part) for part in parts)):
        for layer in range(parts[0].shape[1]):
            for request, part in enumerate(parts):
                if token < len(part):
                    weight = weights[request][token, layer].tolist() if weights else None
                    rows.append((request, token, layer, part[token, layer].tolist(), weight))
    return rows


def logs():
    bare = ("--model", "toy", "--num-experts", 16)
    parts = [routing(tokens, 3, 4, 16) for tokens in (9, 30, 1)]
    ids = np.concatenate(parts)
    weights = [np.sort(rng.random(part.shape), axis=2)[:, :, ::-1] for part in parts]
    rows = log_rows(parts, weights)
    names = ("alpha", 7, "")  # ids are strings or numbers

    def lines(rows, with_weights=True):
        for request, token, layer, experts, weight in rows:
            record = {"type": "route", "req_id": names[request], "token_idx": token,
                      "layer": layer, "topk_ids": experts}
            if with_weights:
                record["topk_weights"] = weight
            yield record

    meta = {"type": "meta", "model": "toy", "num_experts": 16, "top_k": 4}
    records = [meta, *lines(rows), {"type": "end"}]
    summary = expect([write_lines("log.jsonl", records)], ids, *bare, num_requests=3,
                     has_gate_weights=True, drops={"lines of other types": 1})
    check(summary["format"] == "jsonl", "jsonl was not detected")
    got = np.concatenate([np.load("trace/gate_weights-00000.npy")]).transpose(1, 0, 2)
    check((got == np.concatenate(weights).astype(np.float16)).all(), "gate weights differ")
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    order = []
    for row in shuffled:
        order += [row[0]] if row[0] not in order else []
    expect([write_lines("log.jsonl", lines(shuffled, False))],
           np.concatenate([parts[request] for request in order]), *bare, num_requests=3)

    # A request id that is used again, and tokens that start late.
    again = list(lines(rows, False)) + [{**record, "req_id": 7} for record in lines(rows, False)
                                        if record["req_id"] == "alpha"]
    late = parts[1][:9]
    summary = import_files([write_lines("log.jsonl", again)], *bare)
    check(summary["num_requests"] == 4, f"a used id: {summary['num_requests']} requests")
    check((read_trace("trace")[39:48] == parts[0]).all() and late.shape == (9, 3, 4), "a used id")
    later = [{**record, "token_idx": record["token_idx"] + 100} for record in lines(rows, False)]
    import_files([write_lines("log.jsonl", later)], *bare)
    check(requests_of("trace")[0]["prompt_tokens"] == "100", "context before the first row")

    # Rows that are missing are pads.
    expected = ids.copy()
    expected[3, 1] = -1
    expect([write_lines("log.jsonl", [record for record in lines(rows, False) if not (
        record["req_id"] == "alpha" and record["token_idx"] == 3 and record["layer"] == 1)])],
        expected, *bare, num_pads=4)

    # Batches: layer, batch_id, origin_rows, topk_experts.
    batch = routing(20, 3, 4, 16)
    order = rng.permutation(12)
    records = [{"layer": layer, "batch_id": 0, "origin_rows": order.tolist(),
                "topk_experts": batch[order, layer].tolist()} for layer in range(3)]
    records += [{"layer": layer, "batch_id": 1, "origin_rows": 8,
                 "topk_experts": batch[12:, layer].tolist()} for layer in range(3)]
    expect([write_lines("log.jsonl", records)], batch, *bare, num_requests=0)

    # CSV in both layouts.
    text = ["req_id,layer,experts,token_idx,weights"]
    text += [f'r{r},{l},"{" ".join(map(str, e))}",{t},{";".join(f"{x:.6f}" for x in w)}'
             for r, t, l, e, w in rows]
    summary = expect([write("log.csv", "\n".join(text))], ids, *bare, num_requests=3,
                     has_gate_weights=True)
    check(summary["format"] == "csv", "csv was not detected")
    text = ["layer,expert_0,expert_1,expert_2,expert_3,position"]
    text += [f"{l},{','.join(map(str, e))},{t}" for r, t, l, e, w in rows if r == 1]
    expect([write("log.csv", "\r\n".join(text) + "\r\n")], parts[1], *bare, num_requests=0)

    # Rows that end early: their pads are said.
    for text in ("layer,token,experts\n0,0,1;2\n0,1,3\n", "layer,token,e0,e1\n0,0,1,2\n0,1,3\n"):
        expect([write("log.csv", text)], np.array([[[1, 2]], [[3, -1]]]), *bare, num_pads=1,
               drops={"missing from rows with fewer experts than the first: pads": 1})
    said = moesim("trace", "import", "--force", "log.csv", *map(str, bare), "--out", "trace").stdout
    check("2 tokens x 1 layer, top-2" in said and "left out            1 missing from" in said, said)

    good = next(lines(rows, False))
    for bad, words in (({"layer": 4096}, "line 2: expected a layer number"),
                       ({"token_idx": -1}, "line 2: expected a token number"),
                       ({"topk_ids": []}, "line 2: expected a list of 1 to 1024"),
                       ({"topk_ids": [16, 1, 2, 3]}, "line 2: expected expert ids below"),
                       ({"topk_ids": [1.5, 1, 2, 3]}, "line 2: expected expert ids below"),
                       ({"topk_ids": [1, 2, 3, 4, 5]}, "line 2: has more experts"),
                       ({"topk_ids": [1, [2], 3, 4]}, "line 2: expected a list of numbers"),
                       ({"topk_ids": "1"}, "line 2: expected a list"),
                       ({"topk_weights": [1, 2, 3, 4]}, "line 2: has weights where"),
                       ({"topk_weights": [1]}, "line 2: has not as many weights"),
                       ({"type": "meta", "num_experts": 8}, "line 2: says another number")):
        refuse([write_lines("log.jsonl", [good, {**good, **bad}])], words, *bare)
    refuse([write_lines("log.jsonl", [{**good, "topk_ids": [1, 1, 2, 3]}])], "twice the expert",
           *bare)
    refuse([write("log.jsonl", json.dumps(good) + "\n[1]\n")], "line 2: expected an object", *bare)
    refuse([write("log.csv", "layer,experts,x\n0,1,2\n")], "the first line needs the columns",
           "--from", "csv", *bare)
    head = "layer,token,experts\n0,0,1;2\n"
    for line, words in (("0,1,x", "line 3: expected a list"), ("0,1", "line 3: expected a list"),
                        ("0,,1;2", "line 3: expected a token"), ("9999,1,1", "line 3: expected a l"),
                        ("0,1,1;2;3", "line 3: has more experts")):
        refuse([write("log.csv", head + line + "\n")], words, *bare)


# ---- arrays -----------------------------------------------------------------------------------

def arrays():
    a, b = routing(70, 5, 4, 16), routing(30, 5, 4, 16)
    np.save("a.npy", a.astype(np.int32))
    np.save("b.npy", b.astype(np.uint16))
    summary = expect(["a.npy", "b.npy"], np.concatenate([a, b]), *QWEN, num_tokens_in_file=100)
    check(summary["format"] == "npy", "npy was not detected")
    expect(["a.npy", "b.npy"], np.concatenate([a, b])[:80], *QWEN, "--tokens", 80)
    np.save("b.npy", b[:, :4].astype(np.int32))
    refuse(["a.npy", "b.npy"], "b.npy", *QWEN)
    np.save("b.npy", b[:, :, :3].astype(np.int32))
    refuse(["a.npy", "b.npy"], "b.npy", *QWEN)
    for experts, top_k in ((16, 4), (256, 8), (200, 8), (256, 5), (512, 10), (1024, 3), (300, 16)):
        ids = routing(333, 3, top_k, experts)
        toy = ("--model", "toy", "--num-experts", experts, "--layers", "0-2", "--top-k", top_k)
        for dtype in ("uint8", "uint16", "int32", "int64", "int16"):
            if experts > 256 and dtype == "uint8":
                continue
            np.save("c.npy", ids.astype(dtype))
            expect(["c.npy"], ids, *toy)
            bad = ids.copy()
            token, layer, k = rng.integers(333), rng.integers(3), rng.integers(1, top_k)
            bad[token, layer, k] = bad[token, layer, k - 1]
            np.save("c.npy", bad.astype(dtype))
            refuse(["c.npy"], f"token {token}, layer {layer} of the file (model layer {layer}): "
                   f"twice the expert {bad[token, layer, k]}", *toy)
            if experts in (200, 300) or dtype == "int32":
                bad[token, layer, k] = experts
                np.save("c.npy", bad.astype(dtype))
                refuse(["c.npy"], f"token {token}, layer {layer} of the file (model layer {layer}): "
                       f"expert {experts}", *toy)


# ---- loads ----------------------------------------------------------------------------------------

def loads():
    load = rng.integers(0, 1000, (6, 58, 256))
    history = {"load_history": [{"logical_expert_load": step.tolist()} for step in load]}
    file = write("history.json", json.dumps(history, indent=1))
    summary = import_files([file], out="loads.npy")
    check(summary["format"] == "vllm_load_history" and summary["num_steps"] == 6,
          f"load history: {summary}")
    check((np.load("loads.npy") == load).all(), "steps of the load history differ")
    summary = import_files([file], *DEEPSEEK, out="loads.csv")
    check((np.loadtxt("loads.csv", delimiter=",", dtype=int) == load.sum(axis=0)).all(),
          "sums of the load history differ")
    check(summary["num_assignments"] == load.sum(), f"assignments: {summary}")
    placed = moesim("place", "--load", "loads.csv", "--slots", 288, "--gpus", 32,
                    "--strategy", "eplb", "--out", "placement.csv")
    check(placed.returncode == 0, f"place refuses what import wrote: {placed.stderr}")

    rows = [(layer, expert, int(load[0, layer, expert])) for layer in range(58)
            for expert in range(256)]
    rng.shuffle(rows)
    text = "expert_id,layer_id,x,count\r\n"
    lines = [f"{expert},{layer},,{count}\r\n" for layer, expert, count in rows]
    parts = [write("h0.csv", text + "".join(lines[:9000])),
             write("h1.csv", text + "".join(lines[9000:]))]
    summary = import_files(parts, out="loads.csv")
    check(summary["format"] == "load_histogram", "the histogram was not detected")
    check((np.loadtxt("loads.csv", delimiter=",", dtype=int) == load[0]).all(), "histogram differs")
    full = np.concatenate([np.zeros((3, 256), int), load[0]])  # with dense layers, by number
    lines = [f"{expert},{layer},,{full[layer, expert]}\n" for layer in range(61)
             for expert in range(256)]
    import_files([write("h.csv", text + "".join(lines))], *DEEPSEEK, out="loads.csv")
    check((np.loadtxt("loads.csv", delimiter=",", dtype=int) == load[0]).all(), "dense layers stay")

    # A preset that gives every expert its share, the hottest in 9 of 10 tokens.
    share = np.exp(rng.normal(0, 1, (3, 64)))
    for _ in range(50):
        share = np.minimum(share / share.sum(axis=1, keepdims=True), 0.9 / 8)
    share /= share.sum(axis=1, keepdims=True)
    counts = np.rint(share * 1e7).astype(int)
    counts[1, 5] = 0
    lines = [f"{layer},{expert},{counts[layer, expert]}\n" for layer in range(3)
             for expert in range(64)]
    file_64 = write("h.csv", "layer_id,expert_id,count\n" + "".join(lines))
    toy = ("--model", "toy", "--num-experts", 64, "--top-k", 8)
    import_files([file_64], *toy, out="preset.yaml")
    done = moesim("trace", "generate", "--preset", "./preset.yaml", "--tokens", 100000, "--out",
                  "generated")
    check(done.returncode == 0, f"generate from loads: {done.stderr}")
    ids = read_trace("generated")
    for layer in range(3):
        got = np.bincount(ids[:, layer].ravel(), minlength=64)
        wanted = counts[layer] / counts[layer].sum()
        # Of 64 shares of 800,000 draws, total variation by chance is 0.003.
        variation = abs(got / got.sum() - wanted).sum() / 2
        check(variation < 0.006, f"layer {layer}: total variation {variation:.4f}")
        check(got[5] == 0 or layer != 1, "an expert without tokens was chosen")

    def refuse_loads(file, words, out="refused.csv", *more):
        before = sorted(os.listdir("."))
        done = moesim("trace", "import", *more, file, "--out", out)
        check(done.returncode == 1 and words in done.stderr, f"{words!r} is not in: {done.stderr}")
        check(sorted(os.listdir(".")) == before, f"{words!r}: left something behind")

    refuse_loads(file, "has loads, not tokens: write them to a .csv", "refused")
    refuse_loads(file_64, "a preset needs --model", "refused.yaml")
    np.save("mine.npy", load)
    refuse_loads(file_64, "mine.npy: exists, and the preset's table would", "mine.yaml", *toy)
    check((np.load("mine.npy") == load).all(), "a preset overwrote somebody's loads")
    refuse_loads(file_64, "but with top-16 none can have more than 6.2 %", "refused.yaml", "--model",
                 "toy", "--num-experts", 64, "--top-k", 16)
    refuse_loads(file, "has 256 experts, but mixtral-8x7b has 8", "refused.csv", "--model",
                 "mixtral-8x7b")
    head = "layer_id,expert_id,count\n"
    refuse_loads(write("h.csv", head + "0,0,1\n0,1,-1\nx,1,1\n"), "line 3: count '-1'")
    refuse_loads(write("h.csv", head + "0,0,1\n0,1\n"), "line 3: count ''")
    refuse_loads(write("h.csv", head + "0,70000,1\n"), "line 2: expert_id '70000'")
    refuse_loads(write("h.csv", head + "0,0,0\n"), "holds no token at all")
    refuse_loads(write("h.csv", head + "0,0,9223372036854775807\n0,0,1\n"), "beyond 64 bits")
    for bad, words in (("NaN", "NaN and Infinity are none"), ("1.5", "expected whole numbers"),
                       ("-1", "expected whole numbers"), ("[]", "expected whole numbers")):
        text = '{"load_history": [{"logical_expert_load": [[1, 2], [3, %s]]}]}' % bad
        refuse_loads(write("h.json", text), words)
    text = '{"load_history": [{"logical_expert_load": [[1, 2], [3]]}]}'
    refuse_loads(write("h.json", text), "a layer with another number of experts")


# ---- arrivals -------------------------------------------------------------------------------------

def read_arrivals(path):
    lines = open(path).read().splitlines()
    check(lines[0] == "request,tag,arrival_s,prompt_tokens,decode_tokens,row_offset", lines[0])
    rows = [line.rsplit(",", 4) for line in lines[1:]]
    return [(row[0].split(",", 1)[1], float(row[1]), int(row[2]), int(row[3])) for row in rows]


def arrivals():
    times = np.sort(rng.random(300)) * 1e5
    lengths = rng.integers(1, 9000, (300, 2))

    def expect_arrivals(file, name, expected, *more, **fields):
        done = moesim("trace", "import", "--json", "--force", *more, file, "--out", "a.csv")
        check(done.returncode == 0, f"{name}: {done.stderr}")
        summary = json.loads(done.stdout)
        check(summary["format"] == name, f"{name}: detected {summary['format']}")
        got = read_arrivals("a.csv")
        check(len(got) == len(expected), f"{name}: {len(got)} arrivals")
        for found, wanted in zip(got, expected):
            check(found[0] == wanted[0] and found[2:] == wanted[2:] and
                  abs(found[1] - wanted[1]) < 2e-9, f"{name}: {found}, not {wanted}")
        for key, value in fields.items():
            check(summary[key] == value, f"{name}: {key} is {summary[key]}")

    start = datetime.datetime(2023, 12, 31, 23, 50, 0, 123456)
    micro = [start + datetime.timedelta(microseconds=int(t * 1e6)) for t in times]
    begin = micro[0]
    expected = [("", (m - begin).total_seconds(), int(p), int(d))
                for m, (p, d) in zip(micro, lengths)]
    for zone in ("", "+00:00", "0"):
        lines = [f"{m.strftime('%Y-%m-%d %H:%M:%S.%f')}{zone},{p},{d}"
                 for m, (p, d) in zip(micro, lengths)]
        file = write("azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\r\n" +
                     "\r\n".join(lines))
        expect_arrivals(file, "azure_arrivals", expected)
    lines = [f"{5 + i},{'GPT-4' if i % 3 else 'ChatGPT'},{p},{d if i % 10 else 0},{p + d},API log"
             for i, (p, d) in enumerate(lengths)]
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    expected = [("GPT-4" if i % 3 else "ChatGPT", float(i - 1), int(p), int(d))
                for i, (p, d) in enumerate(lengths) if i % 10]
    failed = {"dropped": [{"reason": "requests without a token of prompt or answer (they failed)",
                           "count": 30}]}
    expect_arrivals(write("burst.csv", head + "\n".join(lines)), "burstgpt_arrivals", expected,
                    **failed)
    shuffled = [lines[i] for i in rng.permutation(len(lines))]
    expect_arrivals(write("burst.csv", head + "\n".join(shuffled)), "burstgpt_arrivals", expected)
    records = [{"timestamp": int(t), "input_length": int(p), "output_length": int(d),
                "hash_ids": [1, 2]} for t, (p, d) in zip(times, lengths)]
    expected = [("", (int(t) - int(times[0])) / 1e3, int(p), int(d))
                for t, (p, d) in zip(times, lengths)]
    expect_arrivals(write_lines("m.jsonl", records), "mooncake_arrivals", expected)
    os.replace("a.csv", "own.csv")
    expect_arrivals("own.csv", "arrivals", expected)

    # What a plan asks of the traffic: a request every 20 s for four hours, every 10 s in the third.
    seconds = [s for s in range(0, 14400, 10) if s % 20 == 0 or 7200 <= s < 10800]
    lines = [f"{s},{100 + i % 3},{10 + i % 2}" for i, s in enumerate(seconds)]
    steady = write("steady.csv", "arrival_s,prompt_tokens,decode_tokens\n" + "\n".join(lines))
    done = moesim("trace", "import", "--force", steady, "--out", "a.csv")
    per_day = 900 / 14380 * 86400  # 720 + 180 requests; the last comes at 14 380 s
    peak = 360 / (900 / 14380 * 3600)
    flags = (f"--input 101 --output 10 --requests-per-day {per_day:.0f} \\\n"
             f"                      --set traffic.peak_over_mean={peak:.2f}\n")
    check(flags in done.stdout, f"{flags} is not in {done.stdout}")

    # Attached to a trace: times in order, contexts as measured.
    ids = routing(40, 5, 4, 16)
    lines = write_lines("t.jsonl", [{"routed_experts": {
        "data": b64(part.astype("<i4")), "shape": part.shape, "start": 7}}
        for part in np.array_split(ids, 4)])
    import_files([lines], *QWEN)
    done = moesim("trace", "import", "own.csv", "--attach", "trace")
    check(done.returncode == 0 and "4 requests have their times" in done.stdout, done.stderr)
    found = requests_of("trace")
    check([float(row["arrival_s"]) for row in found] == [row[1] for row in expected[:4]],
          f"attached {found}")
    check(all(row["prompt_tokens"] == "7" for row in found), "contexts changed")
    check(moesim("trace", "check", "trace").returncode == 0, "a trace with arrivals is not sound")
    check(not os.path.exists("trace.partial"), "attach left something behind")
    short = write("short.csv", "arrival_s,prompt_tokens,decode_tokens\n0,1,1\n")
    done = moesim("trace", "import", short, "--attach", "trace")
    check(done.returncode == 1 and "has 4 requests, but there are only 1 arrivals" in done.stderr,
          done.stderr)

    head = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    for text, words in ((head + "now,1,1\n2023-13-01 00:00:00,1,1\n", "azure.csv:3: expected a time"),
                        (head + "2023-01-01 00:00:00,-1,x\n", "azure.csv:2: expected whole numbers"),
                        (head, "holds no request"),
                        (head + "x\n" * 50, "stopped reading after 10 problems"),
                        ("TIMESTAMP,ContextTokens\n", "needs the columns TIMESTAMP"),
                        ('{"timestamp": 1, "input_length": NaN, "output_length": 1}', "NaN"),
                        ('{"timestamp": -1, "input_length": 1, "output_length": 1}',
                         "azure.csv:1: expected timestamp")):
        refuse([write("azure.csv", text)], words)


def real_arrivals(folder):
    if not os.path.isdir(folder):
        print(f"skipped: real arrivals are not in {folder}")
        return
    azure = os.path.join(folder, "azure_2023_conv.csv")
    rows = [line.split(",") for line in open(azure).read().splitlines()[1:]]
    times = [datetime.datetime.fromisoformat(row[0][:26]) for row in rows]  # its last digit is 0
    summary = import_files([azure], out="a.csv")
    got = read_arrivals("a.csv")
    check(summary["num_arrivals"] == len(rows) == len(got), "azure: requests are missing")
    order = sorted(range(len(rows)), key=lambda i: times[i])
    first = times[order[0]]
    check(all(abs(row[1] - (times[i] - first).total_seconds()) < 1e-6 and
              row[2:] == (int(rows[i][1]), int(rows[i][2])) for row, i in zip(got, order)),
          "azure: requests differ")
    mooncake = os.path.join(folder, "mooncake_conversation.jsonl")
    records = [json.loads(line) for line in open(mooncake)]
    import_files([mooncake], out="a.csv")
    got = read_arrivals("a.csv")
    check([(row[1], row[2], row[3]) for row in got] == [
        (r["timestamp"] / 1e3, r["input_length"], r["output_length"]) for r in records],
        "mooncake: requests differ")


# ---- what all formats share ---------------------------------------------------------------------

def hygiene():
    ids = routing(100, 5, 4, 16)
    ids[10:42] = ids[10]   # 32 alike: dummies
    ids[60:91] = ids[60]   # 31 alike: not
    def response(part):
        return {"routed_experts": {"data": b64(part.astype("<i4")), "shape": part.shape}}

    cuts = [0, 5, 12, 40, 50, 65, 100]
    file = write_lines("h.jsonl", [response(ids[a:b]) for a, b in zip(cuts, cuts[1:])])
    expect([file], ids, *QWEN, num_tokens_alike=32, num_requests=6)
    kept = np.concatenate([ids[:10], ids[42:]])
    expect([file], kept, *QWEN, "--strip-dummy", num_tokens_alike=32, num_requests=5,
           num_tokens_in_file=100, drops={"requests of which no row is left": 1})
    offsets = [int(request["row_offset"]) for request in requests_of("trace")]
    check(offsets == [0, 5, 10, 18, 33], f"offsets after stripping: {offsets}")
    for shard in (1, 3, 64):
        expect([file], kept, *QWEN, "--strip-dummy", "--tokens-per-shard", shard)
    expect([file], ids[:44], *QWEN, "--tokens", 44)
    long = np.repeat(routing(1, 5, 4, 16), 9000, axis=0)
    long[:3], long[-2:] = routing(3, 5, 4, 16), routing(2, 5, 4, 16)
    stripped = np.concatenate([long[:3], long[-2:]])
    file = write_lines("l.jsonl", [response(part) for part in np.array_split(long, 7)])
    expect([file], stripped, *QWEN, "--strip-dummy", num_tokens_alike=8995, num_tokens_in_file=9000)
    dummies = write_lines("m.jsonl", [response(long[5:80])])
    refuse([dummies], "nothing is left of 75 tokens: all were dummies", *QWEN, "--strip-dummy")

    # A bare name: layers that hold one id throughout are dense.
    bare = ("--model", "toy", "--num-experts", 16)
    dense = routing(40, 5, 4, 16)
    dense[:, 0], dense[:, 3] = 0, 0
    expect([write_lines("n.jsonl", [response(dense)])], dense[:, [1, 2, 4]], *bare,
           num_dense_layers_dropped=2)

    # 256 experts in one byte have no room for pads; the first pad comes late.
    gaps = routing(6000, 5, 4, 256)
    expect([write_lines("o.jsonl", [response(gaps)])], gaps, "--model", "toy", "--num-experts", 256)
    gaps[5990, 2] = -1
    expect([write_lines("o.jsonl", [response(gaps)])], gaps, "--model", "toy", "--num-experts", 256,
           num_pads=4)

    # Physical ids: slots of a map, as .npy, CSV and SGLang's JSON.
    slots = np.stack([rng.permutation(np.concatenate([np.arange(16), [3, 5]])) for _ in range(5)])
    logical = routing(50, 5, 4, 16)
    physical = np.zeros_like(logical)
    for layer in range(5):
        for token in range(50):
            for k in range(4):
                physical[token, layer, k] = rng.choice(
                    np.flatnonzero(slots[layer] == logical[token, layer, k]))
    file = write_lines("p.jsonl", [response(physical)])
    np.save("map.npy", slots)
    np.savetxt("map.csv", slots, fmt="%d", delimiter=",")
    write("map.json", json.dumps({"physical_to_logical_map": slots.tolist()}))
    for name in ("map.npy", "map.csv", "map.json"):
        expect([file], logical, *QWEN, "--physical-to-logical", name)
    refuse([file], "expert 1", *QWEN)
    refuse([file], "has 5 layers, 5 of them recorded, but the physical-to-logical map has 4", *QWEN,
           "--physical-to-logical", write("map4.csv", "0,1\n2,3\n4,5\n6,7\n"))
    refuse([file], "row 1, slot 1: expected an expert id", *QWEN, "--physical-to-logical",
           write("bad.csv", "0,1\n2,x\n"))


def hostile_responses():
    good = routing(4, 5, 4, 16).astype("<i4")
    text = b64(good)

    def raw(data, **more):
        return json.dumps({"meta_info": {"routed_experts": data, **more}}) + "\n"

    def shaped(data, shape, dtype="int32"):
        return json.dumps({"routed_experts": {"data": data, "shape": shape, "dtype": dtype}}) + "\n"

    def file(text):
        return [write("hostile", text)]

    refuse(file(raw("!" + text[1:])), "line 1: routed_experts: '!' at character 0", *QWEN)
    refuse(file(raw(text[:200] + "=" + text[201:])), "is no base64", *QWEN)
    refuse(file(raw(text[:-5])), "are no whole tokens of 5 layers x top-4 x int32", *QWEN)
    refuse(file(shaped(text, [4, 5, 5])), "4 x 5 x 5 int32 are not the 320 bytes", *QWEN)
    refuse(file(shaped(text, [2**62, 5, 4])), "are not the 320 bytes", *QWEN)
    refuse(file(shaped(text, [4, 2**40, 2**40])), "are not the 320 bytes", *QWEN)
    refuse(file(shaped(text, [-4, 5, 4])), "are not the 320 bytes", *QWEN)
    refuse(file(shaped(text, [4, 20])), "shape: expected three numbers", *QWEN)
    refuse(file(shaped(text, [4, 5, 4], "float32")), "dtype: expected an integer type", *QWEN)
    refuse(file(shaped(b64_npy(good.astype("float32")), [])), "holds float32 of 3 axes", *QWEN)
    big = io.BytesIO()
    np.save(big, good)
    lying = big.getvalue().replace(b"(4, 5, 4)", b"(4, 9, 4)")
    lying = base64.b64encode(lying).decode()
    refuse(file(json.dumps({"choices": [{"routed_experts": lying}]})), "routed_experts: its shape asks for",
           *QWEN)
    refuse(file(json.dumps({"choices": [{"routed_experts": text}]})),
           "is it --from sglang_routed_experts", "--from", "vllm_routed_experts", *QWEN)
    for lists in ([[1, 2]], [[[1, 2], [3]]], [[[1], [2, 3]]], [[[1], [2]], [[3]]],
                  [[[1]], [[2], [3]]], [[[1.5]]], [[["a"]]], [[[None]]],
                  [[[[1]]]], [[]], [[[]]], [[[2**40]]], [3], {"data": [[[1]]]}):
        refuse(file(json.dumps({"routed_experts": lists})), "line 1: routed_experts: ", "--from",
               "vllm_routed_experts", *QWEN)
    refuse(file('{"routed_experts": [[[1, 2], [3, 4]],\n[[5, 6], [7]]]}'),
           "line 2: routed_experts: expected lists of whole numbers", *QWEN)
    refuse(file('{"routed_experts": [[[1, 2]'), "ends within", "--from", "vllm_routed_experts", *QWEN)
    choice = {"data": "AAEC", "shape": [3, 1, 1], "dtype": "uint8"}
    for last in ([[[1]]], {"data": "AA==", "shape": [1, 1, 1]}):
        choices = 65535 * [choice] + [{"shape": [1, 1, 1]}, last]  # the last but one has no data
        refuse(file(json.dumps({"choices": [{"routed_experts": rows} for rows in choices]})),
               "line 1: one response with more than 65536 choices", "--from", "vllm_routed_experts",
               "--model", "any", "--num-experts", "8")
    refuse(file('{"routed_experts": 3}'), "or nested lists", "--from", "vllm_routed_experts", *QWEN)
    refuse(file("[" * 100 + "]" * 100), "nested deeper than 64", "--from", "sglang_routed_experts",
           *QWEN)
    refuse(file('{"routed_experts": NaN}'), "NaN and Infinity are none", *QWEN)
    refuse(file(raw(text)[:-20]), "ends within a string", *QWEN)
    refuse(file(""), "is empty", *QWEN)
    refuse(["nowhere.json"], "No such file", *QWEN)
    refuse(["."], "", *QWEN)
    refuse(file(raw(text)), "no format 'x'; there are", "--from", "x", *QWEN)
    refuse(file("just words"), "looks like no format", *QWEN)
    np.save("floats.npy", good.astype(np.float32))
    for way in ((), ("--from", "npy")):
        refuse(["floats.npy"], "ids.astype(numpy.int32)", *way, *QWEN)
    refuse(file('{"choices": [{"text": "yes"}]}'), "--enable-return-routed-experts", *QWEN)
    several = raw(text) + raw("?" + text[1:]) + "{broken\n" + raw(text[:-9]) + raw(text)
    words = refuse(file(several), "line 2: routed_experts: '?'", *QWEN)
    check("line 3: expected a key" in words and "line 4:" in words, f"not all problems: {words}")
    wrong = good.copy()
    wrong[2, 3, 1] = 16
    refuse(file(raw(b64(wrong))), "line 1: token 2, layer 3 of the file (model layer 3): expert 16",
           *QWEN)
    wrong[2, 3, 1] = wrong[2, 3, 0]
    refuse(file(raw(b64(wrong))), "twice the expert", *QWEN)
    two = shaped(text, [4, 5, 4]) + shaped(b64(routing(4, 5, 3, 16).astype("<i4")), [4, 5, 3])
    refuse(file(two), "has 5 layers and top-3, but the rows before had 5 layers and top-4", *QWEN)
    refuse(file(raw(text)), "name a --model that is known", "--model", "toy", "--num-experts", 16)
    os.symlink("/etc/passwd", "link")
    refuse(["link"], "looks like no format", *QWEN)
    os.remove("link")


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        for part in (sglang_responses, vllm_responses, megatron, logs, arrays, loads,
                     arrivals, hygiene, hostile_responses):
            part()
        if len(sys.argv) > 2:
            real_arrivals(sys.argv[2])
        os.chdir("/")
    print(f"import_formats: {checks} checks passed")


if __name__ == "__main__":
    main()
