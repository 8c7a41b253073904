"""genai_config.json: what onnxruntime-genai needs to open the folder that holds our model.onnx."""

from __future__ import annotations

import json
from typing import Any

from exporter.lm.source import Decoder

__all__ = ["genai_config"]

# model_type of a checkpoint -> type by which onnxruntime-genai knows decoders with these inputs and outputs
# (onnxruntime-genai, src/models/model_type.h)
_TYPES = {"gpt_neox": "llama", "gpt2": "llama", "gemma3_text": "gemma3_text"}


def genai_config(decoder: Decoder, file: str = "model.onnx") -> str:
    """The file's text (schema: onnxruntime-genai, docs; names of inputs and outputs are exporter.lm.decoder's)."""
    plan, config = decoder.plan, decoder.reference.config
    ends = list(plan.end)
    first = getattr(config, "bos_token_id", None)
    pad = getattr(config, "pad_token_id", None)
    inputs = {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    if plan.family.positions:
        inputs["position_ids"] = "position_ids"
    body: dict[str, Any] = {
        "model": {
            "bos_token_id": first if isinstance(first, int) else (ends[0] if ends else 0),
            "context_length": plan.context,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": file,
                "head_size": plan.heads.padded,
                "hidden_size": plan.hidden,
                "inputs": inputs,
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "num_attention_heads": plan.query_heads,
                "num_hidden_layers": len(plan.layers),
                "num_key_value_heads": plan.kv_heads,
            },
            "eos_token_id": ends if len(ends) != 1 else ends[0],
            "pad_token_id": pad if isinstance(pad, int) else (ends[0] if ends else 0),
            "type": _TYPES.get(plan.name, plan.name),
            "vocab_size": plan.vocabulary,
        },
        "search": {
            "do_sample": False,
            "max_length": plan.context,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }
    return json.dumps(body, indent=1) + "\n"
