#!/usr/bin/env python3
"""The same MoE layer by PyTorch's grouped GEMM and by a fused Triton kernel, in turns with ours.

Usage: peers.py --csv FILE --tokens N,... --routing NAME,... --seconds S -- MOE-BENCH forward FLAGS

Runs moe-bench forward --turns: before each of its rounds moe-bench says "turn" and waits, and the
peers take one sample each. So all see the same clocks and the same thermal state. Loads are those
that moe-bench names for the case. Each peer is one CUDA graph, the L2 is flushed before each sample.
Rows go to the same CSV, with the peer's name as version.

  torch_grouped_mm  router, top-k, sort, torch._grouped_mm, silu, torch._grouped_mm, weighted sum
  triton_fused_moe  router, top-k, two fused kernels that gather tokens by expert (as vLLM's
                    fused_moe does; sorting tokens into blocks is done beforehand and not counted)

bf16 only. A shared expert is two torch.nn.functional.linear on the same stream.
"""
import argparse
import csv
import statistics
import subprocess
import sys
import time

DEVICE = "cuda"
SAMPLES_MIN = 3


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
        def weights(*size):
            return torch.empty(size, device=DEVICE, dtype=torch.bfloat16).uniform_(
                -1, 1) * (3.0 / size[-1]) ** 0.5

        self.torch = torch
        self.shape = shape
        self.router = weights(shape.num_experts, shape.hidden_dim)
        self.gate_up = weights(shape.num_experts, 2 * shape.ffn_dim, shape.hidden_dim)
        self.down = weights(shape.num_experts, shape.hidden_dim, shape.ffn_dim)
        self.shared = shape.shared_ffn_dim > 0 and (
            weights(2 * shape.shared_ffn_dim, shape.hidden_dim),
            weights(shape.hidden_dim, shape.shared_ffn_dim))
        self.flush = torch.empty(128 << 20, device=DEVICE, dtype=torch.uint8)

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

    def torch_grouped_mm(self):
        torch, shape = self.layer.torch, self.layer.shape
        self.route()
        ids = self.expert.reshape(-1)
        order = torch.argsort(ids, stable=True)
        counts = torch.zeros(shape.num_experts, device=DEVICE, dtype=torch.int32).scatter_add_(
            0, ids, torch.ones_like(ids, dtype=torch.int32))
        ends = torch.cumsum(counts, 0, dtype=torch.int32)
        rows = self.x[order // shape.top_k]
        both = torch._grouped_mm(rows, self.layer.gate_up.transpose(1, 2), offs=ends)
        out = torch._grouped_mm(self.layer.activate(both), self.layer.down.transpose(1, 2),
                                offs=ends)
        per_choice = torch.empty_like(out)
        per_choice[order] = out
        return self.finish(per_choice)

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
    """A function as one CUDA graph, and its samples."""

    def __init__(self, torch, name, run):
        self.torch, self.name, self.samples = torch, name, []
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = run()

    def sample(self, flush):
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.fill_(90)
        begin.record()
        self.graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e6


def best_triton(torch, case, kernel, flush):
    """The fastest of a few tile shapes, by the least of three runs."""
    best, best_ns = None, float("inf")
    for config in case.configs():
        try:
            peer = Peer(torch, "triton_fused_moe", case.triton_fused_moe(kernel, config))
            ns = min(peer.sample(flush) for _ in range(3))
        except Exception as reason:  # a shape that does not fit is one fewer to choose from
            print(f"peers: triton {config}: {reason}", file=sys.stderr)
            torch.cuda.synchronize()
            continue
        if ns < best_ns:
            best, best_ns = peer, ns
    return best


def make_peers(torch, layer, kernel, loads):
    case = Case(layer, loads)
    peers = []
    try:
        peers.append(Peer(torch, "torch_grouped_mm", case.torch_grouped_mm))
    except Exception as reason:
        print(f"peers: torch_grouped_mm: {reason}", file=sys.stderr)
        torch.cuda.synchronize()
    if kernel is not None:
        triton_peer = best_triton(torch, case, kernel, layer.flush)
        peers += [triton_peer] if triton_peer is not None else []
    if len(peers) == 2:
        difference = (peers[0].out.float() - peers[1].out.float()).norm()
        share = (difference / peers[0].out.float().norm()).item()
        if not share < 2e-2:
            print(f"peers: they differ by {share:.1e}: rows are marked", file=sys.stderr)
            for peer in peers:
                peer.name += "_differs"
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
