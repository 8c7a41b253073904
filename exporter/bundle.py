"""Write, read and verify a bundle. docs/bundle-format.md specifies every field."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.errors import BundleError
from exporter.files import refuse_unwritable, write_whole, writing
from targets.agent import archive
from targets.agent.manifest import FORMAT, BrokenBundle, file_hash
from targets.agent.manifest import read as read_manifest
from targets.agent.manifest import verify as verify_manifest

__all__ = ["Artifact", "Bundle", "TensorSpec", "add_result", "claim", "claim_result", "package", "read", "verify"]

_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as an artifact has it.

    permutation   ONNX axes in the artifact's order (NHWC: [0, 2, 3, 1]); None when they are the same
    scale, zero_point  of an int8 or int16 input or output; None for float32
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    permutation: tuple[int, ...] | None = None
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """One model file before it is packed. role: "reference" (float) or "candidate".

    data    its bytes, or a file that is moved into the bundle
    beside  names of further files that belong to it (weights of a large ONNX file); ``package`` gets them as ``extra``
    """

    name: str
    runtime: str
    role: str
    path: str
    data: bytes | Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk; ``manifest`` is its manifest.json."""

    path: Path
    manifest: Mapping[str, Any]

    def artifact(self, name: str) -> Path:
        """Path of an artifact by name: "float", "onnxruntime" or "tflite"."""
        for entry in self.manifest["artifacts"]:
            if entry["name"] == name:
                return self.path / str(entry["path"])
        raise BundleError(f"{self.path} has no artifact {name!r}", "kbit inspect shows what it holds")


def claim(out: Path) -> None:
    """Raise KbitError now, before any work, when ``out`` cannot become a bundle."""
    if out.is_file():
        raise BundleError(f"--out {out} is a file", "name a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise BundleError(f"--out {out} is not empty", "name a new folder, or remove it first")
    refuse_unwritable(out, folder=True)


def package(
    out: Path | str,
    *,
    name: str,
    artifacts: Sequence[Artifact],
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    golden: Mapping[str, npt.NDArray[Any]],
    evaluation: Mapping[str, npt.NDArray[Any]] | None = None,
    metric: str = "top1",
    texts: Mapping[str, str] | None = None,
    extra: Mapping[str, Path] | None = None,
    gates: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    float_nodes: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    language_model: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write all files beside ``out`` and rename: the bundle appears complete or not at all.

    golden      raw inputs "input.NAME" and what each artifact gave here, "expected.ARTIFACT.OUTPUT"
    evaluation  raw inputs "input.NAME" and "labels"
    texts       further files by name (plan.json, recipe.toml)
    extra       files that are copied in, by name; those beside an artifact are moved
    language_model  facts of a decoder (docs/bundle-format.md); None for any other model
    The same arguments give the same bytes. Raises BundleError for a folder in use, KbitError
    for one that cannot be written.
    """
    out = Path(out)
    claim(out)
    files: dict[str, bytes | Path] = {a.path: a.data for a in artifacts}
    files["golden.npz"] = _npz(golden)
    if evaluation is not None:
        files["evaluation.npz"] = _npz(evaluation)
    files["check.pyz"] = archive.build()
    files |= {key: text.encode() for key, text in (texts or {}).items()}
    files |= extra or {}
    listed = [_entry(path, data) for path, data in files.items() if path not in {a.path for a in artifacts}]
    counts = {key: len(array) for key, array in golden.items() if key.startswith("input.")}
    body = {
        "format": FORMAT,
        "name": name,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "artifacts": [_artifact(a) for a in artifacts],
        "files": listed,
        "golden": {"path": "golden.npz", "cases": next(iter(counts.values()), 0)},
        "evaluation": None if evaluation is None else {
            "path": "evaluation.npz", "samples": len(next(iter(evaluation.values()))), "metric": metric},
        "gates": dict(gates or {}),
        "recipe": dict(recipe or {}),
        "plan": {"path": "plan.json"} if "plan.json" in files else None,
        "float_nodes": dict(float_nodes or {}),
        "versions": dict(versions or {}),
    }  # fmt: skip
    if language_model is not None:
        body["language_model"] = dict(language_model)
    files["manifest.json"] = (json.dumps(body, indent=1) + "\n").encode()
    _write(out, files, moved={a.path for a in artifacts} | {name for a in artifacts for name in a.beside})
    return read(out)


def _write(out: Path, files: Mapping[str, bytes | Path], moved: Collection[str]) -> None:
    scratch = None
    try:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            for path, data in files.items():
                if isinstance(data, bytes):
                    (scratch / path).write_bytes(data)
                elif path in moved:
                    shutil.move(data, scratch / path)
                else:
                    shutil.copyfile(data, scratch / path)
            scratch.chmod(0o755)
            if out.is_dir():
                out.rmdir()
            scratch.rename(out)
    finally:
        if scratch is not None and scratch.exists():
            shutil.rmtree(scratch, ignore_errors=True)


def _entry(path: str, data: bytes | Path) -> dict[str, Any]:
    if isinstance(data, Path):
        return {"path": path, "sha256": file_hash(data), "bytes": data.stat().st_size}
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _artifact(artifact: Artifact) -> dict[str, Any]:
    body: dict[str, Any] = {"name": artifact.name, "runtime": artifact.runtime, "role": artifact.role}
    body |= _entry(artifact.path, artifact.data)
    if artifact.beside:
        body["with"] = list(artifact.beside)
    return body | {"inputs": [asdict(t) for t in artifact.inputs], "outputs": [asdict(t) for t in artifact.outputs]}


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """As numpy.savez_compressed, with a fixed date: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, part.getvalue())
    return buffer.getvalue()


def claim_result(bundle: Path, name: str) -> None:
    """Raise KbitError now, before anything is measured, when ``add_result`` could not write it."""
    if bundle.is_dir():  # else it is no bundle, which is said better elsewhere
        refuse_unwritable(bundle / name)


def add_result(bundle: Path, name: str, body: Mapping[str, Any]) -> None:
    """Write check.json or analysis.json into a bundle; complete or not at all."""
    write_whole(bundle / name, json.dumps(body, indent=1) + "\n")


def amend_manifest(bundle: Path, **keys: Any) -> None:
    """Set keys of manifest.json that no file's hash depends on."""
    body = dict(read(bundle).manifest)
    body |= keys
    add_result(bundle, "manifest.json", body)


def read(path: Path | str) -> Bundle:
    """The bundle in this folder; BundleError when it is none. ``verify`` proves the files too."""
    try:
        return Bundle(Path(path), read_manifest(path))
    except BrokenBundle as error:
        raise BundleError(str(error)) from error


def verify(path: Path | str) -> Bundle:
    """``read``, and every file is inside the folder, complete and unaltered; else BundleError."""
    try:
        return Bundle(Path(path), verify_manifest(path))
    except BrokenBundle as error:
        raise BundleError(str(error)) from error
