"""The checkpoint in torch, through ``transformers``: its settings with all defaults, its rotary tables, its logits.

The weights stay in their file; each module reads its own while it runs, so that a model of any size can be asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.errors import LoadError, MissingError, first_line
from exporter.lm.checkpoint import Checkpoint
from exporter.lm.families import FAMILIES

__all__ = ["Reference"]

Array = npt.NDArray[Any]


class Reference:
    """``config``: the checkpoint's settings as ``transformers`` understands them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises MissingError without ``transformers``, LoadError for an architecture that it does not know."""
        self._checkpoint = checkpoint
        with _quiet():
            transformers = _transformers()
            try:
                self.config = transformers.AutoConfig.from_pretrained(
                    str(checkpoint.path), local_files_only=True, trust_remote_code=False
                )
            except Exception as error:
                kind = checkpoint.config["model_type"]
                found = f"{checkpoint.path}: transformers {transformers.__version__} does not take its config.json"
                raise LoadError(f"{found} (model_type {kind!r}): {first_line(error)}") from error
        self._model: Any = None

    @property
    def family(self) -> str:
        """model_type of the text model."""
        return str(self.config.model_type)

    def rotary(self, positions: int) -> dict[str, tuple[Array, Array]]:
        """cos and sin, f32 [positions, rotary size / 2], by layer type ("" where all layers share one); {}: none."""
        import torch

        found: dict[str, tuple[Array, Array]] = {}
        module = next((m for m in self.model.modules() if type(m).__name__.endswith("RotaryEmbedding")), None)
        if module is None:
            return found
        kinds = getattr(module, "layer_types", None) or [""]
        states, places = torch.zeros(1, 1), torch.arange(positions)[None]
        for kind in kinds:
            cos, sin = module(states, places, *([kind] if kind else []))
            half = cos.shape[-1] // 2
            found[kind] = cos[0, :, :half].numpy(), sin[0, :, :half].numpy()
        return found

    def logits(self, tokens: Array) -> Array:
        """f32 [batch, sequence, vocabulary] for i64 tokens [batch, sequence], all positions seen."""
        import torch

        with torch.inference_mode(), _quiet(), self._streamed(self.model):
            try:
                result = self.model(input_ids=torch.from_numpy(np.asarray(tokens, np.int64)), use_cache=False)
            except Exception as error:
                raise LoadError(f"{self._checkpoint.path}: torch cannot run it: {first_line(error)}") from error
            array: Array = result.logits.float().numpy()
            return array

    @property
    def model(self) -> Any:
        """The torch module: buffers are real, parameters are on the meta device until it runs."""
        if self._model is None:
            with _quiet(), _parameters_on_meta():
                self._model = (
                    _transformers()
                    .AutoModelForCausalLM.from_config(self.config, attn_implementation="eager", dtype="float32")
                    .eval()
                )
        return self._model

    @contextlib.contextmanager
    def _streamed(self, model: Any) -> Iterator[None]:
        """Modules with parameters of their own read them before they run and drop them after."""
        import torch

        handles = []
        for path, module in model.named_modules():
            own = list(module._parameters)
            if not any(module._parameters[name] is not None for name in own):
                continue
            keys = {n: f"{path}.{n}".lstrip(".") for n in own if module._parameters[n] is not None}

            def enter(module: Any, _: Any, keys: Mapping[str, str] = keys) -> None:
                for name, key in keys.items():
                    array = self._read(key)
                    module._parameters[name] = torch.nn.Parameter(torch.from_numpy(array), requires_grad=False)

            def leave(module: Any, _: Any, __: Any, keys: Mapping[str, str] = keys) -> None:
                for name in keys:
                    module._parameters[name] = module._parameters[name].to("meta")

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _read(self, key: str) -> Array:
        weights, prefix = self._checkpoint.weights, f"{self.model.base_model_prefix}."
        names = [key]
        if key == "lm_head.weight" and self.family in FAMILIES:
            names.append(f"{FAMILIES[self.family].head}.weight")  # GPT-NeoX: renamed since transformers 5
        if self.config.tie_word_embeddings:
            names.append(dict(getattr(self.model, "_tied_weights_keys", None) or {}).get(key, key))
        names += [name.removeprefix(prefix) for name in names]
        return weights.array(next((name for name in names if name in weights), key))


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """A module built meanwhile has real buffers and parameters without storage (as accelerate's init_empty_weights)."""
    import torch

    register = torch.nn.Module.register_parameter

    def on_meta(module: Any, name: str, parameter: Any) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)

    torch.nn.Module.register_parameter = on_meta
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register


def _transformers() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a folder on disk is all that it may open
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import transformers
    except ImportError as error:
        raise MissingError("language models need transformers and torch", "pip install 'kbit[lm]'") from error
    return transformers


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
