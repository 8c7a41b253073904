"""Train a family of small Llama-style models on one text file; minutes on two cores.

    python train.py tinyshakespeare.txt --out checkpoints            # all four sizes
    python train.py tinyshakespeare.txt --out checkpoints --sizes s m

Each model is saved as a Hugging Face checkpoint folder: config.json, model.safetensors, tokenizer.json. The first 90 %
of the text are for training, the last 10 % are never seen: train.txt and test.txt beside the checkpoints.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
WINDOW = 128  # tokens of one training sample
BATCH = 16


@dataclass(frozen=True)
class Size:
    """One member of the family. The learning rate falls with the width, or the larger ones would not win."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    learning_rate: float


FAMILY = {
    "s": Size(64, 2, 2, 1, 176, 6e-3),
    "m": Size(96, 4, 3, 1, 256, 4e-3),
    "l": Size(128, 6, 4, 2, 352, 3e-3),
    "xl": Size(256, 6, 8, 2, 704, 1.5e-3),
}


def split(text: str) -> tuple[str, str]:
    """Training and test part: the last 10 % are the test."""
    border = len(text) * 9 // 10
    return text[:border], text[border:]


def train_tokenizer(text: str, vocabulary: int = 512) -> Tokenizer:
    """Byte-level BPE: any text can be encoded, and decoding gives it back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text[i : i + 10000] for i in range(0, len(text), 10000)], trainer)
    return tokenizer


def build(size: Size, vocabulary: int, *, context: int = 512, tied: bool = True) -> LlamaForCausalLM:
    """RMSNorm, rotary positions, SwiGLU, grouped-query attention; random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            intermediate_size=size.inner,
            max_position_embeddings=context,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=0,
        )
    )


def loss_on(model: LlamaForCausalLM, tokens: torch.Tensor, windows: int = 64, length: int = 256) -> float:
    """Nats a token on evenly spread windows."""
    model.eval()
    starts = torch.linspace(0, len(tokens) - length - 1, windows).long()
    total = 0.0
    with torch.no_grad():
        for part in starts.split(16):
            batch = torch.stack([tokens[s : s + length] for s in part.tolist()])
            total += model(input_ids=batch, labels=batch).loss.item() * len(part)
    model.train()
    return total / windows


def train(
    size: Size,
    tokens: torch.Tensor,
    vocabulary: int,
    *,
    steps: int = 1200,
    seed: int = 0,
    tied: bool = True,
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> LlamaForCausalLM:
    """AdamW, a short warm-up, then a cosine down to a tenth."""
    torch.manual_seed(seed)
    model = build(size, vocabulary, tied=tied)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    generator = torch.Generator().manual_seed(seed)
    warm = max(1, steps // 20)
    for step in range(steps):
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / steps)
        for group in optimizer.param_groups:
            group["lr"] = size.learning_rate * min(1.0, (step + 1) / warm) * cosine
        starts = torch.randint(0, len(tokens) - WINDOW - 1, (BATCH,), generator=generator)
        batch = torch.stack([tokens[s : s + WINDOW + 1] for s in starts.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps - 1:
            tell(step + 1, loss.item())
    return model.eval()


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """A checkpoint folder that ``transformers`` opens."""
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", choices=list(FAMILY), default=list(FAMILY))
    parser.add_argument("--steps", type=int, default=1200)
    options = parser.parse_args()
    known, unseen = split(options.text.read_text("utf-8"))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "train.txt").write_text(known, "utf-8")
    (options.out / "test.txt").write_text(unseen, "utf-8")
    tokenizer = train_tokenizer(known)
    tokens, held_out = (torch.tensor(tokenizer.encode(text).ids) for text in (known, unseen))
    a_byte = len(held_out) / len(unseen.encode()) / math.log(2)
    for name in options.sizes:
        start = time.perf_counter()

        def tell(step: int, loss: float, name: str = name, start: float = start) -> None:
            passed = time.perf_counter() - start
            print(f"\r{name}: step {step}/{options.steps}, loss {loss:.3f}, {passed:.0f} s ", end="", flush=True)

        model = train(FAMILY[name], tokens, tokenizer.get_vocab_size(), steps=options.steps, tell=tell)
        nats = loss_on(model, held_out)
        save(model, tokenizer, options.out / name)
        facts = {
            "parameters": model.num_parameters(),
            "test_nats_per_token": round(nats, 4),
            "test_bits_per_byte": round(nats * a_byte, 4),
            "seconds": round(time.perf_counter() - start),
        }
        (options.out / name / "training.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        print(f"\r{name}: {facts}")


if __name__ == "__main__":
    main()
