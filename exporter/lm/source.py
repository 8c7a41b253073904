"""A checkpoint folder as a decoder: its blueprint, its weights, and the graphs made from both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from exporter.errors import LoadError
from exporter.lm.blueprint import Blueprint, blueprint
from exporter.lm.checkpoint import Checkpoint, open_checkpoint
from exporter.lm.decoder import build_decoder
from exporter.lm.families import FAMILIES
from exporter.lm.matrices import Matrices
from exporter.lm.reference import Reference
from exporter.lm.static import build_head, build_static

__all__ = ["MOST_CONTEXT", "Decoder", "open_decoder"]

MOST_CONTEXT = 2048  # tokens, unless more are asked for: the cache of every one of them is held in memory
_UNTIL_ORIGINAL = ("longrope", "dynamic")  # rotary tables that change with the length beyond the trained one


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """``plan`` says what to compute, ``matrices`` hold the numbers, ``reference`` is the same model in torch."""

    checkpoint: Checkpoint
    plan: Blueprint
    matrices: Matrices
    reference: Reference

    def dynamic(self) -> ir.Model:
        """The float graph for ONNX Runtime: see exporter.lm.decoder."""
        return build_decoder(self.plan, self.matrices)

    def static(self, length: int, *, head: bool = True) -> ir.Model:
        """A float graph for TFLite that takes ``length`` tokens a call: see exporter.lm.static."""
        return build_static(self.plan, self.matrices, length, self.plan.context, head=head)

    def head(self, length: int) -> ir.Model:
        """The graph from the states of ``length`` tokens to their logits."""
        return build_head(self.plan, self.matrices, length)


def open_decoder(path: Path | str, context: int | None = None) -> Decoder:
    """``context``: tokens that the cache shall hold; by default as many as the model was made for, up to MOST_CONTEXT.

    Raises LoadError for a folder that is damaged, an unknown architecture, or a longer context than the model knows.
    """
    checkpoint = open_checkpoint(Path(path))
    reference = Reference(checkpoint)
    if reference.family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise LoadError(
            f"{path}: model_type {reference.family!r} has no row in exporter/lm/families.py", f"known: {known}"
        )
    most = _most(reference)
    if context is not None and context > most:
        raise LoadError(f"lm.context = {context}: the model in {path} is made for {most} tokens", "ask for fewer")
    chosen = context or min(most, MOST_CONTEXT)
    plan = blueprint(reference.config, reference.rotary(chosen), checkpoint.weights, chosen)
    assert plan is not None
    return Decoder(checkpoint, plan, Matrices(checkpoint.weights, plan), reference)


def _most(reference: Reference) -> int:
    config = reference.config
    most = int(config.max_position_embeddings)
    parameters = getattr(config, "rope_parameters", None) or {}
    if parameters.get("rope_type") in _UNTIL_ORIGINAL:
        name = "original_max_position_embeddings"
        most = min(most, int(parameters.get(name) or getattr(config, name, None) or most))
    return most
