#!/usr/bin/env python3
"""The same MoE layer by PyTorch's grouped GEMM and by a fused Triton kernel, in turns with ours.

Usage: peers.py --csv FILE --tokens N,... --routing NAME,... --seconds S -- MOE-BENCH forward FLAGS

Runs moe-bench forward --turns: before each of its rounds moe-bench says "turn" and waits, and the
peers take one sample each. So all see the same clocks and the same thermal state. Loads are those
that moe-bench names for the case. Each peer is one CUDA graph; before a sample the L2 is filled by
reading something else, as moe-bench does: written lines would go back to HBM in the sample's time.
Rows go to the same CSV, with the peer's name as version.

bf16:
  torch_grouped_mm  router, top-k, sort, torch._grouped_mm, silu, torch._grouped_mm, weighted sum
  triton_fused_moe  router, top-k, two fused kernels that gather tokens by expert (as vLLM's
                    fused_moe does; sorting tokens into blocks is done beforehand and not counted)

fp8 (--dtype fp8 among moe-bench's flags):
  torch_scaled_grouped_mm  as torch_grouped_mm, by torch._scaled_grouped_mm: a scale a row and a
                           column, which is less work than ours, with 1 x 128 and 128 x 128
  deep_gemm                its contiguous layout with our scales, where it can be imported; rows
                           are laid out beforehand

A shared expert is two torch.nn.functional.linear on the same stream, in bf16.
"""
import argparse
import csv
import importlib
import statistics
import subprocess
import sys
import time

DEVICE = "cuda"
SAMPLES_MIN = 3
FP8_MAX = 448.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", required=True)
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--routing", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("bench", nargs="+", help="moe-bench forward and the layer's flags")
    return parser.parse_args()


def layer_of(flags):
    """The layer's flags as moe-bench reads them."""
    parser = argparse.ArgumentParser()
    for name in ("hidden-dim", "ffn-dim", "num-experts", "top-k", "shared-ffn-dim"):
        parser.add_argument("--" + name, type=int, default=0)
    parser.add_argument("--activation", default="swiglu")
    parser.add_argument("--dtype", default="bf16")
    return parser.parse_known_args(flags)[0]


def make_kernel(triton, tl):
    """out[row] = x[token of row] w[expert of block]^T for blocks of rows that share an expert."""

    @triton.jit
    def grouped(x, w, out, row_of, expert_of, num_choices, n, k, top_k,
                block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
                band: tl.constexpr, gathers: tl.constexpr):
        pid = tl.program_id(0)
        num_m = tl.num_programs(0) // tl.cdiv(n, block_n)
        first_m = pid // (band * tl.cdiv(n, block_n)) * band
        width = min(num_m - first_m, band)
        inside = pid % (band * tl.cdiv(n, block_n))
        pid_m = first_m + inside % width
        pid_n = inside // width
        expert = tl.load(expert_of + pid_m).to(tl.int64)
        if expert < 0:
            return
        choice = tl.load(row_of + pid_m * block_m + tl.arange(0, block_m)).to(tl.int64)
        there = choice < num_choices
        source = choice // top_k if gathers else choice
        columns = pid_n * block_n + tl.arange(0, block_n).to(tl.int64)
        depth = tl.arange(0, block_k)
        x_at = x + source[:, None] * k + depth[None, :]
        w_at = w + expert * n * k + columns[None, :] * k + depth[:, None]
        total = tl.zeros((block_m, block_n), dtype=tl.float32)
        for begin in range(0, k, block_k):
            inner = depth < k - begin
            a = tl.load(x_at, mask=there[:, None] & inner[None, :], other=0.0)
            b = tl.load(w_at, mask=inner[:, None] & (columns < n)[None, :], other=0.0)
            total += tl.dot(a, b)
            x_at += block_k
            w_at += block_k
        out_at = out + choice[:, None] * n + columns[None, :]
        tl.store(out_at, total.to(tl.bfloat16), mask=there[:, None] & (columns < n)[None, :])

    return grouped


class Layer:
    """Weights, and what does not depend on the tokens."""

    def __init__(self, torch, shape):
        def weights(*size):  # in place: there is no room for a second copy of the largest
            bound = (3.0 / size[-1]) ** 0.5
            return torch.empty(size, device=DEVICE, dtype=torch.bfloat16).uniform_(-bound, bound)

        def experts(rows, columns):
            """bf16, or fp8 whose scales come with the peer."""
            if shape.dtype != "fp8":
                return weights(shape.num_experts, rows, columns)
            made = torch.empty(shape.num_experts, rows, columns, device=DEVICE,
                               dtype=torch.float8_e4m3fn)
            for expert in made:
                expert.copy_(weights(rows, columns) * (FP8_MAX / (3.0 / columns) ** 0.5))
            return made

        self.torch = torch
        self.shape = shape
        self.router = weights(shape.num_experts, shape.hidden_dim)
        self.gate_up = experts(2 * shape.ffn_dim, shape.hidden_dim)
        self.down = experts(shape.hidden_dim, shape.ffn_dim)
        self.shared = shape.shared_ffn_dim > 0 and (
            weights(2 * shape.shared_ffn_dim, shape.hidden_dim),
            weights(shape.hidden_dim, shape.shared_ffn_dim))
        l2_bytes = torch.cuda.get_device_properties(DEVICE).L2_cache_size
        self.flush = torch.zeros(l2_bytes, device=DEVICE, dtype=torch.int32)  # four times the L2

    def activate(self, both):
        gate, up = both.chunk(2, dim=-1)
        if self.shape.activation == "swiglu_clamped":
            gate = gate.clamp(max=7.0)
            return (up.clamp(-7.0, 7.0) + 1) * gate * self.torch.sigmoid(1.702 * gate)
        return self.torch.nn.functional.silu(gate) * up


class Case:
    """Tokens with given loads: expert[token][k], all different within a token."""

    def __init__(self, layer, loads):
        torch, shape = layer.torch, layer.shape
        self.layer = layer
        self.loads = loads
        rows = sum(loads)
        self.num_tokens = rows // shape.top_k
        # Choices sorted by expert are dealt to the tokens in turn. No load exceeds the tokens, so
        # no token gets an expert twice.
        experts = torch.repeat_interleave(torch.arange(shape.num_experts), torch.tensor(loads))
        self.expert = experts.view(shape.top_k, self.num_tokens).t().contiguous().to(DEVICE)
        self.weight = torch.rand(self.num_tokens, shape.top_k, device=DEVICE) / shape.top_k
        self.x = torch.empty(self.num_tokens, shape.hidden_dim, device=DEVICE,
                             dtype=torch.bfloat16).uniform_(-1.7, 1.7)

    def route(self):
        """The cost of a gate; the choices are the case's."""
        logits = self.layer.torch.nn.functional.linear(self.x, self.layer.router)
        self.layer.torch.topk(logits.float().softmax(-1), self.layer.shape.top_k)

    def finish(self, per_choice):
        out = (per_choice.view(self.num_tokens, self.layer.shape.top_k, -1)
               * self.weight[..., None]).sum(1).to(self.x.dtype)
        if self.layer.shared:
            linear = self.layer.torch.nn.functional.linear
            out += linear(self.layer.activate(linear(self.x, self.layer.shared[0])),
                          self.layer.shared[1])
        return out

    def by_expert(self):
        """Choices sorted by expert, and where each expert's end."""
        torch = self.layer.torch
        ids = self.expert.reshape(-1)
        counts = torch.zeros(self.layer.shape.num_experts, device=DEVICE,
                             dtype=torch.int32).scatter_add_(
            0, ids, torch.ones_like(ids, dtype=torch.int32))
        return torch.argsort(ids, stable=True), torch.cumsum(counts, 0, dtype=torch.int32)

    def torch_grouped_mm(self):
        torch, shape = self.layer.torch, self.layer.shape
        self.route()
        order, ends = self.by_expert()
        rows = self.x[order // shape.top_k]
        both = torch._grouped_mm(rows, self.layer.gate_up.transpose(1, 2), offs=ends)
        out = torch._grouped_mm(self.layer.activate(both), self.layer.down.transpose(1, 2),
                                offs=ends)
        per_choice = torch.empty_like(out)
        per_choice[order] = out
        return self.finish(per_choice)

    def scale_of(self, values, width):
        """fp8 values and their scales, one a row and `width` columns."""
        torch = self.layer.torch
        cut = values.float().view(values.shape[0], -1, width)
        scale = cut.abs().amax(-1, keepdim=True).clamp(min=1e-10) / FP8_MAX
        return (cut / scale).view_as(values).to(torch.float8_e4m3fn), scale.squeeze(-1)

    def torch_scaled_grouped_mm(self):
        torch, shape = self.layer.torch, self.layer.shape
        scales = [torch.full((shape.num_experts, rows), (3.0 / columns) ** 0.5 / FP8_MAX,
                           device=DEVICE)
                for rows, columns in ((2 * shape.ffn_dim, shape.hidden_dim),
                                      (shape.hidden_dim, shape.ffn_dim))]

        def product(rows, weights, weight_scales, ends):
            values, scale = self.scale_of(rows, rows.shape[1])
            return torch._scaled_grouped_mm(values, weights.transpose(1, 2), scale.squeeze(-1),
                                            weight_scales, offs=ends, out_dtype=torch.bfloat16)

        def run():
            self.route()
            order, ends = self.by_expert()
            both = product(self.x[order // shape.top_k], self.layer.gate_up, scales[0], ends)
            out = product(self.layer.activate(both), self.layer.down, scales[1], ends)
            per_choice = torch.empty_like(out)
            per_choice[order] = out
            return self.finish(per_choice)

        return run

    def deep_gemm(self, library):
        torch, shape = self.layer.torch, self.layer.shape
        multiply = getattr(library, "m_grouped_fp8_gemm_nt_contiguous", None) or \
            library.m_grouped_gemm_fp8_fp8_bf16_nt_contiguous
        align = library.get_m_alignment_for_contiguous_layout()
        row_of, expert_of = self.blocks(align)
        indices = expert_of.repeat_interleave(align)
        choices = self.expert.numel()
        token_of = row_of.clamp(max=choices - 1).long() // shape.top_k

        def scales(weights):
            rows, columns = ((size + 127) // 128 for size in weights.shape[1:])
            return torch.full((shape.num_experts, rows, columns),
                              (3.0 / weights.shape[2]) ** 0.5 / FP8_MAX, device=DEVICE)

        of_gate_up, of_down = scales(self.layer.gate_up), scales(self.layer.down)

        def product(rows, weights, weight_scales):
            values, scale = self.scale_of(rows, 128)
            if hasattr(library, "get_col_major_tma_aligned_tensor"):  # before its version 2
                scale = library.get_col_major_tma_aligned_tensor(scale)
            out = torch.empty(rows.shape[0], weights.shape[1], device=DEVICE, dtype=torch.bfloat16)
            multiply((values, scale), (weights, weight_scales), out, indices)
            return out

        def run():
            self.route()
            both = product(self.x[token_of], self.layer.gate_up, of_gate_up)
            out = product(self.layer.activate(both), self.layer.down, of_down)
            per_choice = torch.empty(choices + 1, shape.hidden_dim, device=DEVICE, dtype=out.dtype)
            per_choice[row_of.long()] = out  # padding goes to the row behind the last
            return self.finish(per_choice[:choices])

        return run

    def blocks(self, block_m):
        """Rows of blocks that belong to one expert each, padded with num_choices."""
        torch = self.layer.torch
        order = torch.argsort(self.expert.reshape(-1), stable=True).cpu()
        rows, experts, begin = [], [], 0
        for expert, load in enumerate(self.loads):
            count = (load + block_m - 1) // block_m
            part = torch.full((count * block_m,), order.numel(), dtype=torch.int32)
            part[:load] = order[begin:begin + load]
            rows.append(part)
            experts += [expert] * count
            begin += load
        return torch.cat(rows).to(DEVICE), torch.tensor(experts, dtype=torch.int32).to(DEVICE)

    def triton_fused_moe(self, kernel, config):
        block_m, block_n, block_k, warps, stages = config
        row_of, expert_of = self.blocks(block_m)
        shape = self.layer.shape
        choices = self.expert.numel()

        def product(x, w, columns, gathers):
            out = self.layer.torch.empty(choices, columns, device=DEVICE, dtype=x.dtype)
            grid = (expert_of.numel() * ((columns + block_n - 1) // block_n),)
            kernel[grid](x, w, out, row_of, expert_of, choices, columns, x.shape[1], shape.top_k,
                         block_m=block_m, block_n=block_n, block_k=block_k, band=8,
                         gathers=gathers, num_warps=warps, num_stages=stages)
            return out

        def run():
            self.route()
            both = product(self.x, self.layer.gate_up, 2 * shape.ffn_dim, True)
            return self.finish(product(self.layer.activate(both), self.layer.down,
                                       shape.hidden_dim, False))

        return run

    def configs(self):
        rows = sum(self.loads) / max(1, sum(load > 0 for load in self.loads))
        if rows <= 16:
            return [(16, 64, 128, 4, 4), (16, 128, 128, 4, 3), (16, 32, 256, 4, 3)]
        if rows <= 64:
            return [(32, 128, 64, 4, 4), (64, 128, 64, 4, 4), (64, 64, 128, 4, 3)]
        return [(128, 128, 64, 8, 4), (64, 256, 64, 8, 3), (128, 256, 64, 8, 3)]


class Peer:
    """A function as one CUDA graph, and its samples. Graphs of a pool share memory, since they
    never run at one time."""

    def __init__(self, torch, name, run, pool):
        self.torch, self.name, self.samples = torch, name, []
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            out = run()
        self.graph.replay()
        self.out = out.clone()

    def sample(self, flush):
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.amax()
        begin.record()
        self.graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e6


def best_triton(torch, case, kernel, flush, pool):
    """The fastest of a few tile shapes, by the least of three runs."""
    best, best_ns = None, float("inf")
    for config in case.configs():
        peer = try_peer(torch, "triton_fused_moe",
                        lambda config=config: case.triton_fused_moe(kernel, config), pool)
        if peer is not None:
            ns = min(peer.sample(flush) for _ in range(3))
            best, best_ns = (peer, ns) if ns < best_ns else (best, best_ns)
    return best


def try_peer(torch, name, make, pool):
    """None, and why on stderr, where a library is missing something or memory is."""
    try:
        return Peer(torch, name, make(), pool)
    except Exception as reason:
        print(f"peers: {name}: {type(reason).__name__}: {str(reason)[:400]}", file=sys.stderr)
        torch.cuda.synchronize()
        return None


def optional(name):
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def make_peers(torch, layer, kernel, loads):
    case = Case(layer, loads)
    pool = torch.cuda.graph_pool_handle()
    if layer.shape.dtype == "fp8":
        library = optional("deep_gemm")
        peers = [try_peer(torch, "torch_scaled_grouped_mm", case.torch_scaled_grouped_mm, pool),
                 library and try_peer(torch, "deep_gemm", lambda: case.deep_gemm(library), pool)]
    else:
        peers = [try_peer(torch, "torch_grouped_mm", lambda: case.torch_grouped_mm, pool),
                 kernel and best_triton(torch, case, kernel, layer.flush, pool)]
    peers = [peer for peer in peers if peer is not None]
    if len(peers) == 2:
        difference = (peers[0].out.float() - peers[1].out.float()).norm()
        share = (difference / peers[0].out.float().norm()).item()
        if not share < (1e-1 if layer.shape.dtype == "fp8" else 2e-2):
            print(f"peers: they differ by {share:.1e}: rows are marked", file=sys.stderr)
            for peer in peers:
                peer.name += "_differs"
    for peer in peers:
        peer.out = None
    return peers


def rows_of(path, peers):
    """Our last whole-layer row, with each peer's name and samples in place of ours."""
    with open(path, newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    ours = [row for row in table if row["command"] == "forward" and not row["phase"]]
    for peer in peers:
        if not ours or len(peer.samples) < SAMPLES_MIN:
            continue
        samples = sorted(peer.samples)
        median = statistics.median(samples)
        row = dict(ours[-1], version=peer.name, num_samples=len(samples), median_ns=round(median),
                   min_ns=round(samples[0]), p10_ns=round(samples[len(samples) // 10]),
                   p90_ns=round(samples[min(len(samples) - 1, len(samples) * 9 // 10)]))
        for rate, amount, share in (("flops_per_s", "flops", "share_of_gemm"),
                                    ("bytes_per_s", "bytes", "share_of_copy")):
            before = float(row[rate] or 0)
            row[rate] = f"{float(row[amount]) / median * 1e9:.5g}"
            if before and row[share]:
                row[share] = f"{float(row[share]) * float(row[rate]) / before:.4f}"
        yield row


def write_rows(path, peers):
    rows = list(rows_of(path, peers))
    for row in rows:
        print(f"layer           {row['version']:<18} {row['model']:<16} {row['num_tokens']:>6} "
              f"{row['routing']:<10} {float(row['median_ns']) / 1000:>10.2f} us", flush=True)
        with open(path, "a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, fieldnames=list(row), lineterminator="\n").writerow(row)


def main():
    options = arguments()
    import torch
    try:
        import triton
        import triton.language as tl
        kernel = make_kernel(triton, tl)
    except ImportError:
        kernel = None
    if not torch.cuda.is_available():
        print("peers: no GPU: skipped")
        return 77
    layer = Layer(torch, layer_of(options.bench))
    command = options.bench + ["--turns", "--csv", options.csv, "--tokens", options.tokens,
                               "--routing", options.routing, "--budget", str(options.seconds)]
    stop = time.monotonic() + options.seconds
    peers = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as bench:
        for line in bench.stdout:
            words = line.split()
            if line.startswith("case "):
                write_rows(options.csv, peers)
                peers = []
                loads = [int(word) for word in words[3:]]
                whole = sum(loads) == int(words[1]) * layer.shape.top_k
                if time.monotonic() < stop and whole:  # else some choices go nowhere
                    torch.cuda.empty_cache()
                    peers = make_peers(torch, layer, kernel, loads)
            elif line == "turn\n":
                for peer in peers:
                    peer.samples.append(peer.sample(layer.flush))
                bench.stdin.write("\n")
                bench.stdin.flush()
            else:
                print(line, end="", flush=True)
        write_rows(options.csv, peers)
    return bench.returncode


if __name__ == "__main__":
    sys.exit(main())
