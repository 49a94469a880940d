"""model.py -- the language model whose router is recorded: OLMoE's shape, made small.

Pre-norm decoder: RMSNorm, rotary attention, and in every layer a mixture of SwiGLU experts without
a shared one (Muennighoff et al. 2024, arXiv 2409.02060). The gate is DeepSeek-V3's (arXiv
2412.19437, eq. 13-16, no groups): s = sigmoid(W h), the top_k of s + bias are chosen, and their
weight is s over the sum of the chosen s. The bias is zero but in loss-free balancing. All three
ways of balancing share this gate, so that they differ in nothing else.
"""
import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

ROWS = 64


@dataclasses.dataclass(frozen=True)
class Shape:
    hidden_dim: int
    num_layers: int
    num_heads: int
    num_experts: int
    top_k: int
    expert_ffn_dim: int
    vocab_size: int = 4096


SHAPES = {
    "smoke": Shape(hidden_dim=32, num_layers=2, num_heads=2, num_experts=16, top_k=4,
                   expert_ffn_dim=16),
    "small": Shape(hidden_dim=128, num_layers=8, num_heads=4, num_experts=64, top_k=8,
                   expert_ffn_dim=64),
    "large": Shape(hidden_dim=512, num_layers=12, num_heads=8, num_experts=64, top_k=8,
                   expert_ffn_dim=256),
}


class GroupedLinear(torch.autograd.Function):
    """x [rows][in], sorted by expert, times weight [experts][in][out]; end [experts] is the row
    behind each expert's last. One matrix product an expert."""

    @staticmethod
    def forward(ctx, x, weight, end):
        ctx.save_for_backward(x, weight)
        ctx.end = end
        out = x.new_empty(x.shape[0], weight.shape[2])
        begin = 0
        for expert, stop in enumerate(end):
            if stop > begin:
                torch.mm(x[begin:stop], weight[expert], out=out[begin:stop])
            begin = stop
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight)
        begin = 0
        for expert, stop in enumerate(ctx.end):
            if stop > begin:
                torch.mm(grad[begin:stop], weight[expert].t(), out=grad_x[begin:stop])
                torch.mm(x[begin:stop].t(), grad[begin:stop], out=grad_weight[expert])
            begin = stop
        return grad_x, grad_weight, None


def grouped_linear(x, weight, end):
    """On a CPU the loop is faster than the padded batch, because loads are uneven."""
    if x.is_cuda and hasattr(F, "grouped_mm"):
        return F.grouped_mm(x, weight, offs=end.to(torch.int32))
    return GroupedLinear.apply(x, weight, end.tolist())


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


def rotary(length, dim, device):
    """cos and sin [length][dim / 2], base 10,000."""
    rate = 1e4 ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    left, right = x.float().chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.num_heads = shape.num_heads
        self.qkv = nn.Linear(shape.hidden_dim, 3 * shape.hidden_dim, bias=False)
        self.out = nn.Linear(shape.hidden_dim, shape.hidden_dim, bias=False)

    def forward(self, x, position):
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = rotate(qkv[0], *position), rotate(qkv[1], *position)
        mixed = F.scaled_dot_product_attention(query, key, qkv[2], is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class MixtureOfExperts(nn.Module):
    """Leaves behind what the last forward pass routed: scores, chosen, gate_weight, load."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.gate = nn.Linear(shape.hidden_dim, shape.num_experts, bias=False)
        self.up = nn.Parameter(torch.empty(shape.num_experts, shape.hidden_dim,
                                           2 * shape.expert_ffn_dim))
        self.down = nn.Parameter(torch.empty(shape.num_experts, shape.expert_ffn_dim,
                                             shape.hidden_dim))
        self.register_buffer("bias", torch.zeros(shape.num_experts))
        self.ranks_max = None

    def favourites(self):
        """[tokens][top_k] experts. With ranks_max = (ranks, most), of experts that lie on so many
        ranks in order a token chooses from `most` ranks alone, those with the largest sums of
        their two best: DeepSeek-V3's node-limited gate."""
        wish = self.scores.detach() + self.bias
        if self.ranks_max is not None:
            ranks, most = self.ranks_max
            by_rank = wish.view(len(wish), ranks, -1)
            best = by_rank.topk(2).values.sum(-1).topk(most).indices
            barred = torch.ones(len(wish), ranks, dtype=torch.bool,
                                device=wish.device).scatter(1, best, False)
            wish = by_rank.masked_fill(barred[:, :, None], -torch.inf).flatten(1)
        return wish.topk(self.shape.top_k).indices

    def route(self, flat):
        """In float32: autocast is off, as it is for every router that is trained in bf16."""
        with torch.autocast(flat.device.type, enabled=False):
            self.scores = torch.sigmoid(self.gate(flat.float()))
            self.chosen = self.favourites()
            weight = self.scores.gather(1, self.chosen)
            self.gate_weight = weight / weight.sum(1, keepdim=True)
        self.load = torch.bincount(self.chosen.flatten(), minlength=self.shape.num_experts)

    def balance_loss(self):
        """E sum f P, 1 when balanced (Fedus et al. 2021, arXiv 2101.03961, eq. 4, with f over all
        top_k choices); P is the mean of the scores over their sum, as in DeepSeek-V3's eq. 19."""
        share = self.load / self.load.sum()
        probability = (self.scores / self.scores.sum(1, keepdim=True)).mean(0)
        return self.shape.num_experts * (share * probability).sum()

    def forward(self, x):
        """Each expert's rows begin at a multiple of ROWS; what is padded is zero in and not read
        out. So matrix products come in few shapes, and oneDNN compiles its kernels once."""
        flat = x.reshape(-1, x.shape[-1])
        self.route(flat)
        order = self.chosen.flatten().argsort(stable=True)
        token = order // self.shape.top_k
        padded = (self.load + ROWS - 1) // ROWS * ROWS
        end = padded.cumsum(0)
        shift = end - padded - (self.load.cumsum(0) - self.load)
        row = torch.arange(len(order), device=x.device) + shift.repeat_interleave(self.load)
        rows = flat.new_zeros(int(end[-1]), flat.shape[1])
        rows = rows.index_copy(0, row, flat.index_select(0, token))
        left, right = grouped_linear(rows, self.up.to(flat.dtype), end).chunk(2, dim=-1)
        out = grouped_linear(F.silu(left) * right, self.down.to(flat.dtype), end)
        gate_weight = self.gate_weight.flatten()[order].to(flat.dtype)
        return torch.zeros_like(flat).index_add(
            0, token, out.index_select(0, row) * gate_weight[:, None]).view_as(x)


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.norm_attention = RMSNorm(shape.hidden_dim)
        self.attention = Attention(shape)
        self.norm_ffn = RMSNorm(shape.hidden_dim)
        self.moe = MixtureOfExperts(shape)

    def forward(self, x, position):
        x = x + self.attention(self.norm_attention(x), position)
        return x + self.moe(self.norm_ffn(x))


class LanguageModel(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.hidden_dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        self.norm = RMSNorm(shape.hidden_dim)
        self.head = nn.Linear(shape.hidden_dim, shape.vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        self.initialise()

    def initialise(self):
        """Normal, variance one over the inputs; what adds to the residual stream is smaller by
        sqrt(2 layers), the shared embedding by a fixed 0.02."""
        residual = (2 * self.shape.num_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("up", "down")):
                spread = parameter.shape[1] ** -0.5
            else:
                spread = parameter.shape[-1] ** -0.5
            if name.startswith("embedding"):
                spread = 0.02
            if name.endswith(("down", "attention.out.weight")):
                spread *= residual
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=spread)

    @property
    def moes(self):
        return [block.moe for block in self.blocks]

    def forward(self, ids):
        """ids [batch][length] -> logits [batch][length][vocab_size]."""
        x = self.embedding(ids)
        if torch.is_autocast_enabled(ids.device.type):
            x = x.to(torch.get_autocast_dtype(ids.device.type))
        position = rotary(ids.shape[1], self.shape.hidden_dim // self.shape.num_heads, ids.device)
        for block in self.blocks:
            x = block(x, position)
        return self.head(self.norm(x))

    def count_parameters(self):
        """(total, active): active leaves out the experts that a token does not reach."""
        total = sum(parameter.numel() for parameter in self.parameters())
        experts = sum(moe.up.numel() + moe.down.numel() for moe in self.moes)
        return total, total - experts + experts * self.shape.top_k // self.shape.num_experts
