#!/usr/bin/env python3
"""Golden vectors of tests/test_reference_*.c, from PyTorch and Hugging Face's own MoE modules.

Usage: make_reference.py [DIRECTORY]     (default: beside this script)

Needs torch and transformers; made with torch 2.15 and transformers 5.23. Weights are random and
small in number, so that all of it is a few hundred KiB; the modules are the ones that run the
published models. Beside each layer's output stand the experts chosen and their weights, sorted best
first as reference/gate.h has them.
"""
import os
import sys

import numpy
import torch

HIDDEN = 24
FFN = 20  # no multiple of eight: the last granule of gate and up is a narrow one
TOKENS = 12


def save(directory, **arrays):
    os.makedirs(directory, exist_ok=True)
    for name, array in arrays.items():
        if torch.is_tensor(array):
            array = array.detach().contiguous().numpy()
        numpy.save(os.path.join(directory, name + ".npy"), numpy.ascontiguousarray(array))


def randomise(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted([*module.named_parameters(), *module.named_buffers()]):
        spread = 0.05 if "correction" in name else 0.5
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return torch.randn((1, TOKENS, HIDDEN), generator=generator)


def best_first(weights, indices, score=None):
    """Sorted by what was compared when choosing; by weight where that is the same."""
    order = torch.argsort(weights if score is None else score, dim=-1, descending=True)
    return weights.gather(1, order), indices.gather(1, order).to(torch.int32)


def split(experts):
    """gate and up out of a concatenated [E][2 F][H]."""
    gate, up = experts.gate_up_proj.chunk(2, dim=1)
    return {"gate": gate, "up": up, "down": experts.down_proj}


def deepseek_v3(directory):
    from transformers.models.deepseek_v3 import configuration_deepseek_v3, modeling_deepseek_v3
    config = configuration_deepseek_v3.DeepseekV3Config(
        hidden_size=HIDDEN, moe_intermediate_size=FFN, n_routed_experts=16, num_local_experts=16,
        num_experts_per_tok=4, n_group=4, topk_group=2, n_shared_experts=2,
        routed_scaling_factor=2.5, norm_topk_prob=True)
    config._experts_implementation = "eager"
    module = modeling_deepseek_v3.DeepseekV3MoE(config)
    x = randomise(module, 1)
    logits, weights, indices = module.gate(x)
    score = (logits.sigmoid() + module.gate.e_score_correction_bias).gather(1, indices)
    weights, indices = best_first(weights, indices, score)
    shared = module.shared_experts
    save(os.path.join(directory, "deepseek_v3"), x=x[0], out=module(x)[0], router=module.gate.weight,
         choice_bias=module.gate.e_score_correction_bias, expert=indices, gate_weight=weights,
         shared_gate=shared.gate_proj.weight, shared_up=shared.up_proj.weight,
         shared_down=shared.down_proj.weight, **split(module.experts))


def softmax_layer(directory, name, module, seed):
    x = randomise(module, seed)
    _, weights, indices = module.gate(x)
    weights, indices = best_first(weights, indices)
    save(os.path.join(directory, name), x=x[0], out=module(x)[0], router=module.gate.weight,
         expert=indices, gate_weight=weights, **split(module.experts))


def mixtral(directory):
    from transformers.models.mixtral import configuration_mixtral, modeling_mixtral
    config = configuration_mixtral.MixtralConfig(
        hidden_size=HIDDEN, intermediate_size=FFN, num_local_experts=8, num_experts_per_tok=2)
    config._experts_implementation = "eager"
    softmax_layer(directory, "mixtral", modeling_mixtral.MixtralSparseMoeBlock(config).eval(), 2)


def qwen3_moe(directory):
    from transformers.models.qwen3_moe import configuration_qwen3_moe, modeling_qwen3_moe
    config = configuration_qwen3_moe.Qwen3MoeConfig(
        hidden_size=HIDDEN, moe_intermediate_size=FFN, num_experts=16, num_experts_per_tok=8,
        norm_topk_prob=True)
    config._experts_implementation = "eager"
    softmax_layer(directory, "qwen3_moe", modeling_qwen3_moe.Qwen3MoeSparseMoeBlock(config), 3)


def olmoe(directory):
    from transformers.models.olmoe import configuration_olmoe, modeling_olmoe
    config = configuration_olmoe.OlmoeConfig(
        hidden_size=HIDDEN, intermediate_size=FFN, num_experts=16, num_experts_per_tok=8,
        norm_topk_prob=False)
    config._experts_implementation = "eager"
    softmax_layer(directory, "olmoe", modeling_olmoe.OlmoeSparseMoeBlock(config), 4)


def gpt_oss(directory):
    from transformers.models.gpt_oss import configuration_gpt_oss, modeling_gpt_oss
    config = configuration_gpt_oss.GptOssConfig(
        hidden_size=HIDDEN, intermediate_size=FFN, num_local_experts=8, num_experts_per_tok=4)
    config._experts_implementation = "eager"
    module = modeling_gpt_oss.GptOssMLP(config)
    x = randomise(module, 5)
    x *= 3  # so that some gates and ups are clamped
    _, weights, indices = module.router(x[0])
    weights, indices = best_first(weights, indices)
    experts = module.experts
    save(os.path.join(directory, "gpt_oss"), x=x[0], out=module(x)[0][0],
         router=module.router.weight, router_bias=module.router.bias, expert=indices,
         gate_weight=weights,
         gate=experts.gate_up_proj[:, :, 0::2].transpose(1, 2),
         up=experts.gate_up_proj[:, :, 1::2].transpose(1, 2),
         gate_bias=experts.gate_up_proj_bias[:, 0::2], up_bias=experts.gate_up_proj_bias[:, 1::2],
         down=experts.down_proj.transpose(1, 2), down_bias=experts.down_proj_bias)


def llama4(directory):
    from transformers.models.llama4 import configuration_llama4, modeling_llama4
    config = configuration_llama4.Llama4TextConfig(
        hidden_size=HIDDEN, intermediate_size=FFN, num_local_experts=8, num_experts_per_tok=1)
    module = modeling_llama4.Llama4TextMoe(config)
    x = randomise(module, 6)
    out, logits = module(x[0])
    weights, indices = torch.topk(logits.sigmoid(), 1, dim=-1)
    gate, up = module.experts.gate_up_proj.transpose(1, 2).chunk(2, dim=1)
    shared = module.shared_expert
    save(os.path.join(directory, "llama4"), x=x[0], out=out, router=module.router.weight,
         expert=indices.to(torch.int32), gate_weight=weights, gate=gate, up=up,
         down=module.experts.down_proj.transpose(1, 2), shared_gate=shared.gate_proj.weight,
         shared_up=shared.up_proj.weight, shared_down=shared.down_proj.weight)


def gates(directory):
    """The two group-limited gates at the sizes of the published models."""
    from transformers.models.deepseek_v2 import configuration_deepseek_v2, modeling_deepseek_v2
    from transformers.models.deepseek_v3 import configuration_deepseek_v3, modeling_deepseek_v3
    generator = torch.Generator().manual_seed(7)
    config = configuration_deepseek_v2.DeepseekV2Config(
        hidden_size=32, n_routed_experts=160, num_experts=160, num_experts_per_tok=6, n_group=8,
        topk_group=3, topk_method="group_limited_greedy", routed_scaling_factor=16.0)
    gate = modeling_deepseek_v2.DeepseekV2TopkRouter(config)
    gate.weight.data.copy_(torch.randn(gate.weight.shape, generator=generator))
    logits, weights, indices = gate(torch.randn((40, 32), generator=generator))
    weights, indices = best_first(weights, indices)
    save(os.path.join(directory, "gate_deepseek_v2"), logits=logits, expert=indices,
         gate_weight=weights)

    config = configuration_deepseek_v3.DeepseekV3Config(
        hidden_size=32, n_routed_experts=256, num_local_experts=256, num_experts_per_tok=8,
        n_group=8, topk_group=4, routed_scaling_factor=2.5, norm_topk_prob=True)
    gate = modeling_deepseek_v3.DeepseekV3TopkRouter(config)
    gate.weight.data.copy_(torch.randn(gate.weight.shape, generator=generator))
    bias = torch.randn(256, generator=generator) * 0.1
    gate.e_score_correction_bias.copy_(bias)
    logits, weights, indices = gate(torch.randn((40, 32), generator=generator))
    weights, indices = best_first(weights, indices, (logits.sigmoid() + bias).gather(1, indices))
    save(os.path.join(directory, "gate_deepseek_v3"), logits=logits, choice_bias=bias,
         expert=indices, gate_weight=weights)


def quantize_blocks(x, axes_shape):
    """DeepGEMM's formula: the block's largest magnitude over 448; value times its reciprocal."""
    amax = x.abs().float().amax(dim=axes_shape, keepdim=True).clamp(1e-4)
    scale = amax / 448.0
    return (x * (1.0 / scale)).to(torch.float8_e4m3fn), scale


def casts(directory):
    """Casts where rounding is decided: at, just below and above every tie; random bits; specials."""
    generator = torch.Generator().manual_seed(8)
    fp8 = torch.arange(0x7f, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    ties = (fp8[1:] + fp8[:-1]) / 2
    values = [fp8, ties, torch.tensor([464.0, 464.00003, 463.99997, 480.0, 1e4, float("inf")])]
    half = torch.randint(0, 0x7f80, (512,), generator=generator, dtype=torch.int32)
    values.append((half * 65536 + 0x8000).view(torch.float32))  # ties of bf16
    values.append(torch.randint(0, 0x7f800000, (512,), generator=generator,
                                dtype=torch.int32).view(torch.float32))
    values.append(torch.randn(512, generator=generator))
    flat = torch.cat(values)
    bits = flat.view(torch.int32)
    flat = torch.cat([flat, (bits + 1).view(torch.float32),
                      (bits - (bits > 0).int()).view(torch.float32)])
    flat = torch.cat([flat, -flat, torch.tensor([float("nan")])])
    save(os.path.join(directory, "casts"), value=flat,
         bf16=flat.to(torch.bfloat16).view(torch.int16).numpy().view(numpy.uint16),
         fp8=flat.to(torch.float8_e4m3fn).view(torch.uint8))

    rows, columns = 5, 300
    padded = torch.zeros((rows, 384))
    padded[:, :columns] = torch.randn((rows, columns), generator=generator) * 3
    padded[2, 128:256] = 0.0
    padded[3, 5] = 1000.0
    element, scale = quantize_blocks(padded.view(rows, 3, 128), (2,))
    save(os.path.join(directory, "activations"), value=padded[:, :columns],
         fp8=element.view(torch.uint8).view(rows, 384)[:, :columns],
         scale=scale.view(rows, 3).t())
    rows, columns = 140, 140
    padded = torch.zeros((256, 256))
    padded[:rows, :columns] = torch.randn((rows, columns), generator=generator) * 0.02
    element, scale = quantize_blocks(padded.view(2, 128, 2, 128), (1, 3))
    save(os.path.join(directory, "weights"), value=padded[:rows, :columns],
         fp8=element.view(torch.uint8).view(256, 256)[:rows, :columns], scale=scale.view(2, 2))


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    with torch.no_grad():
        for make in (deepseek_v3, mixtral, qwen3_moe, olmoe, gpt_oss, llama4, gates, casts):
            make(directory)


if __name__ == "__main__":
    main()
