"""A Llama checkpoint as GGUF for llama.cpp: python -m benchmarks.language_gguf CHECKPOINT OUT.gguf F32|Q8_0|Q4_0

Runs in llama.cpp's environment (gguf, safetensors). Query and key rows are turned as llama.cpp wants them
(convert_hf_to_gguf.py, LlamaModel.permute).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def name_of(name: str) -> str:
    """The GGUF name of a weight of a Llama checkpoint."""
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in outer:
        return f"{outer[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.weight"


def turned(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix as llama.cpp rotates them: the two that turn together lie side by side."""
    rows, columns = array.shape
    return array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def main(folder: Path, out: Path, kind: str) -> None:
    """Write the GGUF file, its matrices of this kind."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    heads, pairs = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(pairs)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    words = {index: word for word, index in tokenizer["model"]["vocab"].items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([words.get(i, f"<unused{i}>") for i in range(config["vocab_size"])])
    writer.add_token_types([gguf.TokenType.NORMAL] * config["vocab_size"])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    kept = gguf.GGMLQuantizationType[kind]
    for name, stored in load_file(folder / "model.safetensors").items():
        array = np.ascontiguousarray(stored, np.float32)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            array = np.ascontiguousarray(turned(array, heads if "q_proj" in name else pairs))
        if array.ndim == 2 and kind != "F32":
            writer.add_tensor(name_of(name), gguf.quants.quantize(array, kept), raw_dtype=kept)
        else:
            writer.add_tensor(name_of(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
