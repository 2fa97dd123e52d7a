"""A stage's tensors as another implementation might name and pack them."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Parts of a block by the names of several common ways to write one.
BLOCKS = {
    "paper": {
        "norm1": "norm1",
        "qkv": "attn.qkv",
        "q_norm": "attn.q_norm",
        "k_norm": "attn.k_norm",
        "out": "attn.out",
        "norm2": "norm2",
        "gate": "ffn.w1",
        "up": "ffn.w2",
        "down": "ffn.w3",
    },
    "llama": {
        "norm1": "input_layernorm",
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
        "out": "self_attn.o_proj",
        "norm2": "post_attention_layernorm",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    },
    "meta": {
        "qkv": "attention.wqkv",
        "out": "attention.wo",
        "q_norm": "attention.q_norm",
        "k_norm": "attention.k_norm",
        "gate": "feed_forward.w1",
        "down": "feed_forward.w2",
        "up": "feed_forward.w3",
        "norm1": "attention_norm",
        "norm2": "ffn_norm",
    },
    "fused": {
        "norm1": "0.norm",
        "qkv": "0.to_qkv",
        "q_norm": "0.norm_q",
        "k_norm": "0.norm_k",
        "out": "0.to_out",
        "norm2": "1.norm",
        "gate_up": "1.proj_in",
        "down": "1.proj_out",
    },
}
SOURCES = ("vocal", "instrumental", "coarse")  # in the order of their segments
TABLES = {
    "segment": "seg_emb.weight",
    "quantizer_offset": "q_offset.weight",
    "transformer.bias": "rel_bias.weight",
    "transformer.norm.weight": "final_norm.weight",
}


def foreign(own: Mapping[str, Tensor], style: str = "paper") -> dict[str, Tensor]:
    """`own`, tensors by Backline's names, in another style; every table of a kind is a module of its own."""
    named: dict[str, Tensor] = {}
    sources = [name for name in map("conditions.{}".format, SOURCES) if name in own]
    tables = [table for name in sources for table in own[name]]
    named |= {f"cond_emb.{index}.weight": table for index, table in enumerate(tables)}
    named |= {f"pred_emb.{index}.weight": table for index, table in enumerate(own["prediction"])}
    named |= {f"heads.{index}.weight": table for index, table in enumerate(own["heads"])}
    named |= {other: own[name] for name, other in TABLES.items()}
    layers = 1 + max(int(found[1]) for name in own if (found := re.match(r"transformer\.blocks\.(\d+)", name)))
    for layer in range(layers):
        prefix = f"transformer.blocks.{layer}."
        parts = {
            name.removeprefix(prefix).removesuffix(".weight"): tensor
            for name, tensor in own.items()
            if name.startswith(prefix)
        }
        parts |= dict(zip("qkv", parts["qkv"].chunk(3), strict=True))
        parts["gate_up"] = torch.cat([parts["gate"], parts["up"]])
        named |= {f"blocks.{layer}.{other}.weight": parts[role] for role, other in BLOCKS[style].items()}
    return {name: tensor.clone() for name, tensor in named.items()}
