"""Where samples come from: .npz files, folders of images or wavs, callables, arrays in memory."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter import user_code
from exporter.data.npz import Rows, open_npz
from exporter.errors import DataError, MissingError
from exporter.recipe import Preprocess, is_callable_name

__all__ = ["Raw", "read"]

_LABELS = ("labels", "label", "y", "targets")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Raw:
    """Samples before preprocessing; ``take(name, index)`` reads some of them."""

    where: str
    count: int
    labels: npt.NDArray[Any] | None
    take: Callable[[str, npt.NDArray[np.int64]], npt.NDArray[Any]]


def read(source: Any, names: Sequence[str], preprocess: Mapping[str, Preprocess], base: Path) -> Raw:
    """Open ``source``; raises DataError with the file and key that do not fit."""
    if isinstance(source, str) and (is_callable_name(source) or ".py:" in source):
        return _from_callable(source, names, base)
    if isinstance(source, (str, Path)):
        path = base / source
        if path.is_dir():
            return _from_folder(path, names, preprocess)
        if not path.is_file():
            raise DataError(f"data file {path} does not exist", "paths are relative to the recipe")
        if path.suffix != ".npz":
            raise DataError(f"{path} is neither .npz nor a folder", "save arrays with numpy.savez")
        return _from_npz(path, names)
    if hasattr(source, "__array__"):  # a torch tensor, too
        source = {names[0]: np.asarray(source)}
    if isinstance(source, Mapping):
        return _from_arrays({k: np.asarray(v) for k, v in source.items()}, names, "calibration data")
    return _from_batches(source, names, "calibration data")


def _from_npz(path: Path, names: Sequence[str]) -> Raw:
    return _from_arrays(open_npz(path, _LABELS), names, str(path))


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any] | Rows], names: Sequence[str], where: str) -> Raw:
    label_key = next((key for key in _LABELS if key in arrays and key not in names), None)
    data = {key: a for key, a in arrays.items() if key != label_key}
    chosen = {}
    for name in names:
        if name in data:
            chosen[name] = data[name]
        elif len(names) == 1:
            chosen[name] = _only_array(data, where, name)
        else:
            raise DataError(
                f"{where} has no array {name!r}", f"it has {', '.join(data) or 'none'}; name one as the input"
            )
    for name, array in chosen.items():
        if array.ndim == 0:
            raise DataError(f"{where}: array for {name!r} is a single number", "expected samples along dimension 0")
    counts = {name: len(array) for name, array in chosen.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{where}: inputs differ in the number of samples: {counts}", "they must be as many")
    labels = None if label_key is None else np.asarray(arrays[label_key])
    return Raw(where, next(iter(counts.values())), labels, lambda name, index: chosen[name][index])


def _only_array(data: Mapping[str, npt.NDArray[Any] | Rows], where: str, name: str) -> npt.NDArray[Any] | Rows:
    for key in ("images", "samples", "x", "data", "inputs"):
        if key in data:
            return data[key]
    if len(data) != 1:
        raise DataError(f"{where} has no array {name!r}", f"it has {', '.join(data) or 'none'}; name one as the input")
    return next(iter(data.values()))


def _from_folder(path: Path, names: Sequence[str], preprocess: Mapping[str, Preprocess]) -> Raw:
    if len(names) != 1:
        raise DataError(f"{path} is a folder, but the model has inputs {', '.join(names)}", "use an .npz")
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in (*_IMAGES, ".wav") and f.is_file())
    if not files:
        raise DataError(f"{path} holds no images or wavs", f"known: {', '.join(_IMAGES)}, .wav")
    folders = sorted({f.parent.name for f in files if f.parent != path})
    labels = np.array([folders.index(f.parent.name) for f in files]) if folders and all(
        f.parent != path for f in files
    ) else None  # fmt: skip
    spec = preprocess.get(names[0], Preprocess())

    def take(name: str, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        samples = [_read_file(files[i], spec) for i in index]
        shapes = {s.shape for s in samples}
        if len(shapes) > 1:
            found = f"{path}: samples differ in shape: {', '.join(map(str, sorted(shapes)[:3]))}"
            raise DataError(found, f"set data.preprocess.{name}.resize or .length")
        return np.stack(samples)

    return Raw(str(path), len(files), labels, take)


def _read_file(file: Path, spec: Preprocess) -> npt.NDArray[Any]:
    if file.suffix.lower() == ".wav":
        return _read_wav(file, spec.length)
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingError(
            "reading images needs Pillow, which is not installed", "pip install 'kbit[images]'"
        ) from error
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
            if spec.resize is not None:
                picture = picture.resize((spec.resize[1], spec.resize[0]), Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except OSError as error:
        raise DataError(f"{file} cannot be read as an image", "remove it or save it again") from error


def _read_wav(file: Path, length: int | None) -> npt.NDArray[np.int16]:
    try:
        with wave.open(str(file)) as opened:
            if opened.getsampwidth() != 2:
                raise DataError(f"{file} has {8 * opened.getsampwidth()}-bit samples", "expected 16-bit PCM")
            samples = np.frombuffer(opened.readframes(opened.getnframes()), "<i2").reshape(-1, opened.getnchannels())
    except (wave.Error, EOFError) as error:
        raise DataError(f"{file} is not a PCM wav file", "convert it to 16-bit PCM") from error
    mono = samples[:, 0]
    if length is None:
        return mono
    return np.pad(mono[:length], (0, max(0, length - len(mono))))


def _from_callable(source: str, names: Sequence[str], base: Path) -> Raw:
    found = user_code.call(source, base, "data", DataError)
    with user_code.running(base):  # a generator runs only now
        return _from_batches(_told(found, source) if isinstance(found, Iterator) else found, names, source)


def _told(batches: Iterator[Any], source: str) -> Iterator[Any]:
    """The same batches; what the user's code raises becomes a DataError."""
    try:
        yield from batches
    except Exception as error:
        raise DataError(f"data {source!r} failed: {user_code.innermost(error)}") from error


def _parted(item: Any, names: Sequence[str], where: str) -> tuple[Mapping[str, Any], Any]:
    """Inputs by name and labels, or None, of one batch."""
    if isinstance(item, Mapping):
        return item, None
    parts = item if isinstance(item, tuple) or (isinstance(item, list) and _holds_parts(item, names)) else (item,)
    if len(parts) == 2 and isinstance(parts[0], Mapping):
        return parts[0], parts[1]
    if len(parts) > len(names) + 1:
        found = f"{where}: a batch of {len(parts)} arrays for {len(names)} input{'s'[: len(names) > 1]}"
        raise DataError(found, "give the inputs in the model's order, then labels if there are any")
    return dict(zip(names, parts, strict=False)), parts[len(names)] if len(parts) > len(names) else None


def _holds_parts(batch: list[Any], names: Sequence[str]) -> bool:
    """What a torch DataLoader gives, [inputs, labels]; arrays of one shape are a batch as the list of its samples."""
    if not batch or not all(hasattr(part, "__array__") or isinstance(part, Mapping) for part in batch):
        return False
    shapes = {np.shape(part) for part in batch if not isinstance(part, Mapping)}
    return len(batch) == 1 or len(names) > 1 or len(shapes) > 1 or isinstance(batch[0], Mapping)


def _from_batches(batches: Any, names: Sequence[str], where: str) -> Raw:
    """Batches as arrays, dicts by input name, (inputs, labels) or (first, second, …), as a torch DataLoader gives them;
    gathered, since they may come only once."""
    if not isinstance(batches, Iterable):
        raise DataError(
            f"{where} gives {type(batches).__name__}", "expected arrays, a dict of arrays, or batches of them"
        )
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    labels: list[npt.NDArray[Any]] = []
    for number, item in enumerate(batches):
        batch, given = _parted(item, names, where)
        if given is not None:
            labels.append(np.asarray(given))
        for name in names:
            if name not in batch:
                raise DataError(f"{where}: batch {number} has no array {name!r}", f"it has {', '.join(batch)}")
            columns[name].append(np.asarray(batch[name]))
    try:
        arrays = {name: np.concatenate(parts) for name, parts in columns.items() if parts}
    except ValueError as error:
        raise DataError(f"{where}: batches differ in shape", "all samples must have one shape") from error
    if not arrays:
        raise DataError(f"{where} holds no samples", "give at least one")
    if labels:
        arrays["labels"] = np.concatenate(labels)
    return _from_arrays(arrays, names, where)
