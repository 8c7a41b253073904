"""Decoder families: where each one keeps its matrices, and how its blocks differ. One row a family.

Source of every row: transformers/models/FAMILY/modeling_FAMILY.py. Each export is compared with torch's
logits, so a row that no longer fits its family is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """Names in the checkpoint ({} is the layer) and the form of a block.

    qkv          one matrix each for q, k and v, or one packed matrix
    packing      how a packed one lies: "parts" all of q, then k, then v; "heads" q, k and v of head 0, of head 1 …
    gate         "" for a plain feed-forward (up, down); the same key as ``up`` where both are packed, gate first
    norm         RMSNorm or LayerNorm; ``norm_offset`` is added to its weight (Gemma stores weight - 1)
    after_*      norms behind the attention and the feed-forward, before the residual sum (Gemma 2)
    parallel     feed-forward beside the attention, not behind it; both read ``attention_norm`` when mlp_norm is ""
    transposed   matrices lie [in, out] (GPT-2's Conv1D)
    optional     prefix that older checkpoints leave out
    """

    embed: str = "model.embed_tokens"
    positions: str = ""
    attention_norm: str = "model.layers.{}.input_layernorm"
    qkv: tuple[str, ...] = (
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.self_attn.k_proj",
        "model.layers.{}.self_attn.v_proj",
    )
    packing: Literal["parts", "heads"] = "parts"
    query_norm: str = "model.layers.{}.self_attn.q_norm"
    key_norm: str = "model.layers.{}.self_attn.k_norm"
    output: str = "model.layers.{}.self_attn.o_proj"
    after_attention: str = ""
    mlp_norm: str = "model.layers.{}.post_attention_layernorm"
    gate: str = "model.layers.{}.mlp.gate_proj"
    up: str = "model.layers.{}.mlp.up_proj"
    down: str = "model.layers.{}.mlp.down_proj"
    after_mlp: str = ""
    last_norm: str = "model.norm"
    head: str = "lm_head"
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0
    parallel: bool = False
    transposed: bool = False
    optional: str = "model."
    embed_scaled: bool = False


_LLAMA = Family()
_GEMMA = Family(norm_offset=1.0, embed_scaled=True)
_GEMMA_2 = Family(
    norm_offset=1.0,
    embed_scaled=True,
    after_attention="model.layers.{}.post_attention_layernorm",
    mlp_norm="model.layers.{}.pre_feedforward_layernorm",
    after_mlp="model.layers.{}.post_feedforward_layernorm",
)
_PHI = Family(
    output="model.layers.{}.self_attn.dense",
    mlp_norm="",
    gate="",
    up="model.layers.{}.mlp.fc1",
    down="model.layers.{}.mlp.fc2",
    last_norm="model.final_layernorm",
    norm="layer",
    parallel=True,
)
_PHI_3 = Family(
    qkv=("model.layers.{}.self_attn.qkv_proj",),
    gate="model.layers.{}.mlp.gate_up_proj",
    up="model.layers.{}.mlp.gate_up_proj",
)
_GPT_2 = Family(
    embed="transformer.wte",
    positions="transformer.wpe",
    attention_norm="transformer.h.{}.ln_1",
    qkv=("transformer.h.{}.attn.c_attn",),
    output="transformer.h.{}.attn.c_proj",
    mlp_norm="transformer.h.{}.ln_2",
    gate="",
    up="transformer.h.{}.mlp.c_fc",
    down="transformer.h.{}.mlp.c_proj",
    last_norm="transformer.ln_f",
    norm="layer",
    transposed=True,
    optional="transformer.",
)
_NEOX = Family(
    embed="gpt_neox.embed_in",
    attention_norm="gpt_neox.layers.{}.input_layernorm",
    qkv=("gpt_neox.layers.{}.attention.query_key_value",),
    packing="heads",
    output="gpt_neox.layers.{}.attention.dense",
    mlp_norm="gpt_neox.layers.{}.post_attention_layernorm",
    gate="",
    up="gpt_neox.layers.{}.mlp.dense_h_to_4h",
    down="gpt_neox.layers.{}.mlp.dense_4h_to_h",
    last_norm="gpt_neox.final_layer_norm",
    head="embed_out",
    norm="layer",
    parallel=True,
    optional="gpt_neox.",
)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _GEMMA,
    "gemma2": _GEMMA_2,
    "gemma3_text": _GEMMA_2,
    "phi": _PHI,
    "phi3": _PHI_3,
    "gpt2": _GPT_2,
    "gpt_neox": _NEOX,
}
