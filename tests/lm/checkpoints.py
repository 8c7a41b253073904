"""Small checkpoints of every family: random weights say whether a graph is right, trained ones whether it is good."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers as hf

COMMON: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": None,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

CONFIGS: dict[str, hf.PreTrainedConfig] = {
    "llama": hf.LlamaConfig(**GROUPED, rope_parameters=_LLAMA_3),
    "llama_biases_no_groups": hf.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True),
    "llama_tied": hf.LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "llama_vocabulary_is_hidden": hf.LlamaConfig(**{**COMMON, "vocab_size": 64}),
    "llama_heads_of_10": hf.LlamaConfig(
        **{**COMMON, "hidden_size": 60, "num_attention_heads": 6, "num_key_value_heads": 2}
    ),
    "mistral_window": hf.MistralConfig(**GROUPED, sliding_window=7),
    "qwen2": hf.Qwen2Config(**GROUPED),
    "qwen3": hf.Qwen3Config(**GROUPED, head_dim=32),
    "qwen3_heads_of_20": hf.Qwen3Config(**GROUPED, head_dim=20),
    "gemma": hf.GemmaConfig(**{**COMMON, "num_key_value_heads": 1}, head_dim=32),
    "gemma2": hf.Gemma2Config(**GROUPED, head_dim=16, sliding_window=5, query_pre_attn_scalar=24),
    "gemma3": hf.Gemma3TextConfig(
        **{**GROUPED, "num_hidden_layers": 3}, head_dim=16, sliding_window=5, sliding_window_pattern=3
    ),
    "phi": hf.PhiConfig(**GROUPED),
    "phi3": hf.Phi3Config(**{**GROUPED, "pad_token_id": 0}),
    "gpt2_heads_of_15": hf.GPT2Config(
        vocab_size=96, n_embd=60, n_layer=2, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=1
    ),
    "gpt_neox": hf.GPTNeoXConfig(**COMMON),
    "gpt_neox_serial": hf.GPTNeoXConfig(**COMMON, use_parallel_residual=False),
}


def write(config: hf.PreTrainedConfig, folder: Path, seed: int = 0, **options: Any) -> Path:
    """A checkpoint folder with random weights, biases and norms among them."""
    torch.manual_seed(seed)
    with quiet():
        model = hf.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(folder, **options)
    return folder


@contextlib.contextmanager
def quiet() -> Any:
    """transformers reports on stderr what nobody asked."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
