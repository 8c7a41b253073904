"""From a checkpoint's settings to what its graph must compute: plain frozen data, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.errors import LoadError
from exporter.lm.families import FAMILIES, Family

__all__ = ["Attention", "Blueprint", "HeadLayout", "blueprint"]

Array = npt.NDArray[Any]
_ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
}  # fmt: skip
# settings that change the numbers and that no row expresses: setting -> the value that they may have
_REFUSED: Mapping[str, Any] = {
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "use_bidirectional_attention": (None, False),
    "qk_layernorm": False,
    "scale_attn_weights": True,
}


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """How the values of one head lie in the graph.

    size     values of a head in the checkpoint
    padded   values of a head in the graph: onnxruntime's GroupQueryAttention takes multiples of 16 where it rotates and
             of 8 where it does not (contrib_ops/cpu/bert/group_query_attention_helper.h)
    order    for q and k: the checkpoint's index at each place, -1 for a zero. Rotary pairs are (i, i + padded / 2), so
             values that do not rotate are spread over both halves, with cos 1 and sin 0
    """

    size: int
    padded: int
    order: tuple[int, ...]

    @property
    def plain(self) -> tuple[int, ...]:
        """The same for v and for the columns of the output matrix: as they are, then zeros."""
        return tuple(range(self.size)) + (-1,) * (self.padded - self.size)


@dataclass(frozen=True, slots=True)
class Attention:
    """What differs from layer to layer. window: keys that a query sees, itself included (None: all)."""

    window: int | None
    rotary: str | None  # key of Blueprint.rotary


@dataclass(frozen=True, slots=True, eq=False)
class Blueprint:
    """One decoder. Sizes are numbers of values; ``context`` is the most tokens that it may hold.

    rotary       cos and sin, f32 [context, heads.padded / 2], by kind
    scale        factor on the scores
    softcap      c in c * tanh(score / c), 0: none; final_softcap: the same for logits
    end          token ids that end a text
    """

    name: str
    family: Family
    vocabulary: int
    hidden: int
    inner: int
    context: int
    query_heads: int
    kv_heads: int
    heads: HeadLayout
    layers: tuple[Attention, ...]
    rotary: Mapping[str, tuple[Array, Array]]
    epsilon: float
    activation: str
    scale: float
    softcap: float
    final_softcap: float
    embed_scale: float
    tied: bool
    head_norms: bool
    end: tuple[int, ...]


def blueprint(
    config: Any, rotary: Mapping[str, tuple[Array, Array]], names: Mapping[str, Any], context: int | None = None
) -> Blueprint | None:
    """None for a family without a row.

    config   the settings, every default filled in (an object of transformers.PreTrainedConfig)
    rotary   cos and sin by layer type, as Reference.rotary gives them, for at least ``context`` positions
    names    the checkpoint's tensors
    Raises LoadError for a setting that the row does not express.
    """
    row = FAMILIES.get(config.model_type)
    if row is None:
        return None
    for setting, allowed in _REFUSED.items():
        found = getattr(config, setting, allowed)
        if found != allowed and not (isinstance(allowed, tuple) and found in allowed):
            raise LoadError(f"config.json: {setting} = {found!r} is not known for {config.model_type}")
    row = _as_configured(row, config)
    most = context or config.max_position_embeddings
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    turned = next((2 * cos.shape[1] for cos, _ in rotary.values()), 0)
    layout = head_layout(size, turned)
    kinds = getattr(config, "layer_types", None) or [None] * config.num_hidden_layers
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    activation = activation or config.activation_function
    if activation not in _ACTIVATIONS:
        raise LoadError(f"config.json: activation {activation!r} is not known", f"known: {', '.join(_ACTIVATIONS)}")
    tied = bool(config.tie_word_embeddings) or not _has(names, f"{row.head}.weight", row)
    return Blueprint(
        name=config.model_type,
        family=row,
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        inner=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size,
        context=most,
        query_heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        heads=layout,
        layers=tuple(_attention(config, kind, rotary) for kind in kinds),
        rotary={kind: padded_rotary(*tables, layout.padded, most) for kind, tables in rotary.items()},
        epsilon=_epsilon(config),
        activation=_ACTIVATIONS[activation],
        scale=float(getattr(config, "query_pre_attn_scalar", None) or size) ** -0.5,
        softcap=float(getattr(config, "attn_logit_softcapping", None) or 0.0),
        final_softcap=float(getattr(config, "final_logit_softcapping", None) or 0.0),
        embed_scale=float(np.float32(config.hidden_size**0.5)) if row.embed_scaled else 1.0,
        tied=tied,
        head_norms=bool(row.query_norm) and _has(names, row.query_norm.format(0) + ".weight", row),
        end=_ends(config.eos_token_id),
    )


def _as_configured(row: Family, config: Any) -> Family:
    if config.model_type == "gpt_neox" and not config.use_parallel_residual:
        return replace(row, parallel=False)
    return row


def _has(names: Mapping[str, Any], name: str, row: Family) -> bool:
    return name in names or name.removeprefix(row.optional) in names


def _epsilon(config: Any) -> float:
    for name in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    raise LoadError("config.json names no epsilon of its norms")


def _attention(config: Any, kind: str | None, rotary: Mapping[str, Any]) -> Attention:
    window = getattr(config, "sliding_window", None)
    if kind is not None and kind != "sliding_attention":
        window = None
    if not rotary:
        return Attention(window, None)
    return Attention(window, kind if kind in rotary else next(iter(rotary)))


def _ends(given: Any) -> tuple[int, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, (list, tuple)) else (int(given),)


def head_layout(size: int, rotary: int) -> HeadLayout:
    """Layout of heads of ``size`` values of which the first ``rotary`` rotate in pairs (i, i + rotary / 2)."""
    step = 16 if rotary else 8
    padded = -(-size // step) * step
    if not rotary or (rotary == size == padded):
        return HeadLayout(size, padded, tuple(range(size)) + (-1,) * (padded - size))
    pair, still = rotary // 2, list(range(rotary, size))
    halves = [
        [*range(pair), *still[: padded // 2 - pair]],
        [*range(pair, rotary), *still[padded // 2 - pair :]],
    ]
    order = [index for half in halves for index in half + [-1] * (padded // 2 - len(half))]
    return HeadLayout(size, padded, tuple(order))


def padded_rotary(cos: Array, sin: Array, padded: int, context: int) -> tuple[Array, Array]:
    """Tables for padded / 2 pairs: those beyond the rotary ones stand still."""
    more = padded // 2 - cos.shape[1]
    still = np.ones((context, more), np.float32), np.zeros((context, more), np.float32)
    return (
        np.concatenate([cos[:context], still[0]], axis=1).astype(np.float32),
        np.concatenate([sin[:context], still[1]], axis=1).astype(np.float32),
    )
