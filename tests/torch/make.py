#!/usr/bin/env python3
"""Writes the files beside it as engines write them, by PyTorch and safetensors themselves.

Usage: make.py FOLDER

They are kept, so that the tests that read them need neither. Needs torch, safetensors and numpy.
Numbers follow formulas that the tests know (value = place in the array, unless said otherwise).
"""
import collections
import json
import os
import struct
import sys

import numpy
import safetensors.torch
import torch

NUM_LAYERS, NUM_EXPERTS, NUM_SLOTS, TOP_K, COLUMNS = 4, 8, 10, 2, 8
MOE_LAYERS = [1, 2, 3]  # layer 0 is dense: -1 in every row


def physical_to_logical():
    """[layers][slots]: every layer turned by its number; slots 8 and 9 are copies."""
    slots = torch.arange(NUM_SLOTS).repeat(NUM_LAYERS, 1)
    return (slots + torch.arange(NUM_LAYERS).reshape(-1, 1)) % NUM_EXPERTS


def record(forward_pass, rank, num_tokens, mode):
    """One forward pass of SGLang's recorder in mode per_token."""
    ids = torch.full((NUM_LAYERS, num_tokens, COLUMNS), -1, dtype=torch.int32)
    for layer in MOE_LAYERS:
        for token in range(num_tokens):
            first = (forward_pass * 7 + rank * 2 + layer * 3 + token * 5) % NUM_SLOTS
            ids[layer, token, 0] = first
            # 3 slots on: never a copy of the same expert, which is 8 slots on
            ids[layer, token, 1] = (first + 3) % NUM_SLOTS
    if num_tokens > 2:
        ids[2, 1, 1] = -1  # a gap, as expert parallelism leaves one
    count = torch.zeros((NUM_LAYERS, NUM_SLOTS), dtype=torch.int32)
    for layer in range(NUM_LAYERS):
        for slot in ids[layer].flatten().tolist():
            if slot >= 0:
                count[layer, slot] += 1
    return dict(
        forward_pass_id=forward_pass, rank=rank, gatherer_key="primary",
        input_ids=list(range(100, 100 + num_tokens)), positions=list(range(num_tokens)),
        extend_seq_lens=[num_tokens] if mode == 1 else None, forward_mode=mode,
        topk_ids_of_layer=ids, misc_objects=[], global_physical_count=count)


def logical(records):
    """[layers][tokens][k] of the MoE layers, gaps last."""
    table = physical_to_logical()
    rows = torch.cat([entry["topk_ids_of_layer"] for entry in records], dim=1)[:, :, :TOP_K]
    out = torch.full(rows.shape, -1, dtype=torch.int64)
    for layer in MOE_LAYERS:
        good = rows[layer] >= 0
        out[layer][good] = table[layer][rows[layer][good].long()]
    return out[MOE_LAYERS].numpy().astype(numpy.int32)


def sglang(folder):
    ranks = []
    for rank in range(2):
        records = [record(0, rank, 3, 1), record(1, rank, 1, 2), record(2, rank, 0, 2),
                   record(3, rank, 2, 2)]
        ranks.append(records)
        torch.save(dict(records=records, last_physical_to_logical_map=physical_to_logical()),
                   f"{folder}/expert_distribution_recorder_1700000000.5_{rank}.pt")
    numpy.save(f"{folder}/sglang_per_token.npy",
               numpy.concatenate([logical(records) for records in ranks], axis=1))

    passes = [{key: entry[key] for key in ("forward_pass_id", "rank", "gatherer_key",
                                           "global_physical_count")} for entry in ranks[0]]
    torch.save(dict(records=passes, last_physical_to_logical_map=physical_to_logical()),
               f"{folder}/sglang_per_pass.pt")

    counts = torch.zeros((5, NUM_LAYERS, NUM_EXPERTS), dtype=torch.int32)
    counts[:3] = torch.arange(3 * NUM_LAYERS * NUM_EXPERTS).reshape(3, NUM_LAYERS, NUM_EXPERTS)
    counts[:, 0] = 0  # dense
    torch.save(dict(rank=0, logical_count=counts, average_utilization_rate_over_window=None),
               f"{folder}/expert_distribution_recorder_1700000000.5.pt")


def types(folder):
    base = torch.arange(12)
    torch.save({
        **{f"{kind}".removeprefix("torch."): (base % 2).to(kind) if kind is torch.bool
           else base.to(kind) for kind in (
               torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8,
               torch.uint16, torch.uint32, torch.uint64, torch.float16, torch.bfloat16,
               torch.float32, torch.float64)},
        "negative": -base.to(torch.int16),
        "transposed": base.reshape(3, 4).t(), "slice": base[4:10:2], "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3), "shape": torch.Size([2, 3]),
        "ordered": collections.OrderedDict(x=1, y=2.5), "true": True, "none": None,
        "small": -5, "medium": 70000, "large": -(1 << 40), "tuple": ("a", None, (1,)),
        "long list": list(range(1200)), "Schlüssel": "Wert",
    }, f"{folder}/types.pt")


class Foreign:
    def __reduce__(self):
        return os.system, ("touch /tmp/a_pickle_was_here",)


def hostile(folder):
    torch.save({"records": [Foreign()]}, f"{folder}/os_system.pt")
    torch.save({"records": {1, 2}}, f"{folder}/a_set.pt")
    torch.save({"records": []}, f"{folder}/protocol_4.pt", pickle_protocol=4)
    torch.save({"records": []}, f"{folder}/before_1_6.pt", _use_new_zipfile_serialization=False)
    shared = torch.zeros(1).expand(1 << 20)
    torch.save({"logical_count": shared}, f"{folder}/repeated.pt")


def trtllm(folder):
    with open(f"{folder}/meta_info.json", "w", encoding="utf-8") as file:
        json.dump({"num_experts": NUM_EXPERTS, "num_experts_per_token": TOP_K}, file)
    for rank in range(2):
        # Iterations 50 to 52; layer 3 is written as the 12th, to tell numbers from text order.
        tensors = {f"{step}_{layer}": torch.arange(NUM_EXPERTS) + 10 * (step - 50) + layer
                   + 1000 * rank for step in range(50, 53) for layer in (1, 2, 12)}
        safetensors.torch.save_file(tensors, f"{folder}/rank{rank}.safetensors")
    safetensors.torch.save_file(
        {"half": torch.arange(6).half().reshape(2, 3), "flag": torch.tensor([True, False]),
         "brain": torch.arange(3).bfloat16(), "scalar": torch.tensor(7, dtype=torch.uint8)},
        f"{folder}/types.safetensors", metadata={"format": "pt"})


def logits(folder):
    """Scores of 12 layers, in three shapes; best experts by a stable sort, so of equals the lowest."""
    scores = numpy.random.default_rng(7).standard_normal((12, 6, NUM_EXPERTS)).astype(numpy.float32)
    scores[0, 0, :] = 1.5  # all equal
    best = numpy.argsort(-scores, axis=2, kind="stable")[:, :, :TOP_K].astype(numpy.int32)
    numpy.save(f"{folder}/router_logits_expected.npy", best)
    numpy.save(f"{folder}/router_logits.npy", scores)
    # savez names them arr_0 ... arr_11, and text order would put arr_10 before arr_2
    numpy.savez(f"{folder}/router_logits.npz", *scores)
    numpy.savez_compressed(f"{folder}/router_logits_batch.npz",
                           *scores.reshape(12, 2, 3, NUM_EXPERTS).astype(numpy.float64))


def gguf(folder):
    """llama.cpp's imatrix: byte for byte as docs/gguf.md of ggml says it, by struct."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()
    keys = [text("general.type") + struct.pack("<I", 8) + text("imatrix"),
            text("general.alignment") + struct.pack("<II", 4, 64),
            text("imatrix.chunk_count") + struct.pack("<II", 4, 7),
            text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 2) + text("a.txt") + text("b")]
    tensors = []  # name, values; layer 2 has no gate counts
    for layer in (1, 2, 11):
        for part in ("gate", "up", "down"):
            if (layer, part) != (2, "gate"):
                tensors.append((f"blk.{layer}.ffn_{part}_exps.weight.in_sum2", [0.5] * 4))
                tensors.append((f"blk.{layer}.ffn_{part}_exps.weight.counts",
                                [100.0 * layer + expert for expert in range(NUM_EXPERTS)]))
        tensors.append((f"blk.{layer}.attn_q.weight.counts", [1.0]))
    infos, data = b"", b""
    for name, values in tensors:
        infos += text(name) + struct.pack("<IQQIQ", 2, 1, len(values), 0, len(data))
        data += struct.pack(f"<{len(values)}f", *values)
        data += b"\0" * (-len(data) % 64)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    with open(f"{folder}/imatrix.gguf", "wb") as file:
        file.write(head + b"\0" * (-len(head) % 64) + data)


def main():
    folder = sys.argv[1]
    os.makedirs(f"{folder}/trtllm", exist_ok=True)
    sglang(folder)
    types(folder)
    hostile(folder)
    logits(folder)
    gguf(folder)
    trtllm(f"{folder}/trtllm")
    os.replace(f"{folder}/trtllm/types.safetensors", f"{folder}/types.safetensors")
    for name in ("types", "trtllm/rank0", "trtllm/rank1"):
        os.chmod(f"{folder}/{name}.safetensors", 0o644)


main()
