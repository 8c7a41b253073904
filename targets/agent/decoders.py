"""Language models token by token on either runtime. The cache stays where it is: nothing of it is copied at a token."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .runtimes import load_runtime

__all__ = ["ContextFull", "open_decoder"]


_KEEP = "logits_to_keep"  # for how many of the last positions the head is computed; 0, where it is not given: all


class ContextFull(Exception):
    """More tokens than the model has room for: one line that says how many."""


def open_decoder(artifact: Any, language: Any, path: Any, threads: Any) -> Any:
    """An open artifact of a language model: OnnxDecoder or TfliteDecoder.

    artifact  its entry in the manifest        language  manifest["language_model"] (docs/bundle-format.md)
    Raises MissingRuntime; the runtime's own exceptions pass through.
    """
    module, _, _ = load_runtime(artifact["runtime"])
    kind = OnnxDecoder if artifact["runtime"] == "onnxruntime" else TfliteDecoder
    return kind(module, artifact, language, path, threads)


class _Decoder:
    """``length``: tokens in the cache. ``capacity``: how many it holds."""

    length = 0
    capacity = 0

    def reset(self) -> None:
        """An empty cache."""
        self.length = 0

    def prefill(self, tokens: Any) -> Any:
        """f32 [tokens, vocabulary]: what the model says after each of these tokens."""
        raise NotImplementedError

    def read(self, tokens: Any) -> Any:
        """f32 [vocabulary]: what the model says after the last of these tokens."""
        return self.prefill(tokens)[-1]

    def _claim(self, count: Any) -> None:
        if self.length + count > self.capacity:
            found = "%d tokens after the %d in the cache" % (count, self.length) if self.length else "%d tokens" % count
            raise ContextFull("%s do not fit: the context holds %d; shorten the prompt" % (found, self.capacity))


class OnnxDecoder(_Decoder):
    """Past and present are one buffer, bound once; GroupQueryAttention writes the new token into it."""

    def __init__(self, module: Any, artifact: Any, language: Any, path: Any, threads: Any) -> None:
        options = module.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        self._module = module
        self._session = module.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.capacity = language["context"]
        names = [i.name for i in self._session.get_inputs()]
        self._placed = "position_ids" in names
        self._keeps = any(i.name == _KEEP for i in self._session.get_overridable_initializers())
        size = (1, language["kv_heads"], self.capacity, language["head_size"])
        self._caches = {name: self._value(np.zeros(size, np.float32)) for name in names if name.startswith("past_key")}
        # one token: every buffer is bound once and written in place
        self._ids, self._position = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64)
        self._mask = np.zeros((1, self.capacity), np.int64)
        self._logits = np.zeros((1, 1, language["vocabulary"]), np.float32)
        self._one = self._bind(self._ids, self._mask, self._position, self._logits)

    def prefill(self, tokens: Any) -> Any:
        return self._take(tokens, len(tokens))

    def read(self, tokens: Any) -> Any:
        return self._take(tokens, 1 if self._keeps else len(tokens))[-1]

    def _take(self, tokens: Any, kept: Any) -> Any:
        """f32 [kept, vocabulary]: after the last ``kept`` of the tokens."""
        ids = np.asarray(tokens, np.int64)[None]
        count = ids.shape[1]
        self._claim(count)
        mask = np.ones((1, self.length + count), np.int64)
        position = np.arange(self.length, self.length + count, dtype=np.int64)[None]
        logits = np.zeros((1, kept, self._logits.shape[2]), np.float32)
        binding = self._bind(ids, mask, position, logits)
        if kept < count:
            binding.bind_ortvalue_input(_KEEP, self._value(np.array([kept], np.int64)))
        self._session.run_with_iobinding(binding)
        self.length += count
        self._mask[:, : self.length] = 1
        return logits[0]

    def step(self, token: Any) -> Any:
        """f32 [vocabulary], valid until the next call."""
        self._claim(1)
        self._ids[0, 0], self._position[0, 0] = token, self.length
        self._mask[0, self.length] = 1
        self._session.run_with_iobinding(self._one)
        self.length += 1
        return self._logits[0, 0]

    def reset(self) -> None:
        self.length = 0
        self._mask[:] = 0

    def _value(self, array: Any) -> Any:
        return self._module.OrtValue.ortvalue_from_numpy(array)

    def _bind(self, ids: Any, mask: Any, position: Any, logits: Any) -> Any:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", self._value(ids))
        binding.bind_ortvalue_input("attention_mask", self._value(mask))
        if self._placed:
            binding.bind_ortvalue_input("position_ids", self._value(position))
        binding.bind_ortvalue_output("logits", self._value(logits))
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(name, cache)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), cache)
        return binding


class TfliteDecoder(_Decoder):
    """Signatures ``decode`` (the first subgraph), ``prefill_N`` and ``head_N``. New keys and values go into the cache.

    Tensors of the first subgraph keep their addresses once allocated, so views on them are made once.
    """

    def __init__(self, module: Any, artifact: Any, language: Any, path: Any, threads: Any) -> None:
        self._interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._views = self._views_of_decode()
        self._caches = [name for name in self._views if name.startswith("kv_cache_")]
        self._pairs = [
            (self._views[name][0], self._views[name.replace("cache", "slice")][0, :, 0]) for name in self._caches
        ]
        for name in self._caches:
            self._views[name][:] = 0  # places not yet written weigh nothing, but must be numbers
        self.capacity = self._views[self._caches[0]].shape[2]
        self._tokens, self._place = self._views["tokens"], self._views["input_pos"]
        self._logits = self._views["logits"]
        signatures = [key for key in self._interpreter.get_signature_list() if key.startswith("prefill_")]
        self._lengths = sorted(int(key.rpartition("_")[2]) for key in signatures)

    def prefill(self, tokens: Any) -> Any:
        """f32 [tokens, vocabulary], in calls of the lengths that the file has, the last one padded."""
        tokens = np.asarray(tokens, np.int32)
        self._claim(len(tokens))
        found, start = [], 0
        while start < len(tokens):
            left = len(tokens) - start
            size = next((n for n in self._lengths if n >= left), max(self._lengths, default=1))
            if left == 1 or size == 1:
                found.append(self.step(tokens[start])[None].copy())
                start += 1
                continue
            count = min(size, left)
            result = self._chunk(tokens[start : start + count], size)
            if "logits" not in result:  # files of before have the head in prefill
                result = self._interpreter.get_signature_runner("head_%d" % size)(states=result["states"])
            found.append(result["logits"][0, :count])
            start += count
        return np.concatenate(found)

    def read(self, tokens: Any) -> Any:
        tokens = np.asarray(tokens, np.int32)
        self._claim(len(tokens))
        start, body = 0, len(tokens) - 1  # decode takes the last token, with the head
        while start < body:
            left = body - start
            size = next((n for n in self._lengths if n >= left), max(self._lengths, default=1))
            count = min(size, left)
            if count == 1:
                self.step(tokens[start])
            else:
                self._chunk(tokens[start : start + count], size)
            start += count
        return self.step(tokens[-1])

    def step(self, token: Any) -> Any:
        """f32 [vocabulary], valid until the next call."""
        self._claim(1)
        self._tokens[0, 0], self._place[0] = token, self.length
        self._interpreter.invoke()
        for cache, new in self._pairs:
            cache[:, self.length] = new
        self.length += 1
        return self._logits[0, 0]

    def _chunk(self, tokens: Any, size: Any) -> Any:
        """What the prefill of that many tokens gives; the cache is written."""
        count = len(tokens)
        padded = np.zeros((1, size), np.int32)
        padded[0, :count] = tokens
        positions = np.minimum(np.arange(self.length, self.length + size), self.capacity - 1).astype(np.int32)
        caches = {name: self._views[name] for name in self._caches}
        # a runner that is kept counts as a reference into the interpreter too: make it anew, it holds nothing
        runner = self._interpreter.get_signature_runner("prefill_%d" % size)
        result = runner(tokens=padded, input_pos=positions, **caches)
        for name in self._caches:
            new = result[name.replace("cache", "slice")][0]
            self._views[name][0, :, self.length : self.length + count] = new[:, :count]
        self.length += count
        return result

    def _views_of_decode(self) -> Any:
        runner = self._interpreter.get_signature_runner("decode")
        places = dict(runner.get_input_details())
        places.update(runner.get_output_details())
        return {name: self._view(detail["index"]) for name, detail in places.items()}

    def _view(self, index: Any) -> Any:
        """A tensor of the first subgraph without a reference into the interpreter, which refuses to run with one."""
        array = self._interpreter.tensor(index)()
        address, shape, dtype = array.ctypes.data, array.shape, array.dtype
        del array
        count = int(np.prod(shape))
        raw = (ctypes.c_byte * (count * dtype.itemsize)).from_address(address)
        return np.frombuffer(raw, dtype, count).reshape(shape)
