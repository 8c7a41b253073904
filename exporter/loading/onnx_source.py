"""ONNX files and protos of any opset from 7 on -> canonical graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
import onnx_ir.passes.common as passes
from google.protobuf.message import DecodeError

from exporter.errors import LoadError

__all__ = ["OPSET", "canonical", "first_line", "from_file", "from_proto", "silence"]

OPSET = 21


def from_file(path: Path) -> ir.Model:
    """Raises LoadError for a file that is missing, corrupt, truncated, or reaches outside its folder."""
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist", "check model.source (relative to the recipe)")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise LoadError(f"{path} is not an ONNX file, or it is truncated", "export it again") from error
    if not proto.graph.node and not proto.graph.output:
        raise LoadError(f"{path} holds no graph", "is it an ONNX model?")
    _check_external(proto, path)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise LoadError(f"{path}: its external data cannot be read: {first_line(error)}") from error
    return from_proto(proto, str(path))


def from_proto(proto: onnx.ModelProto, where: str = "the model") -> ir.Model:
    """Canonical graph of a proto that holds all of its data."""
    opset = next((o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}), 0)
    try:
        with silence():
            if opset and opset < OPSET:
                proto = onnx.version_converter.convert_version(_with_declared_constants(proto), OPSET)
            model = ir.from_proto(proto)
    except Exception as error:
        if opset < OPSET:
            what = f"{where}: opset {opset} cannot be converted to {OPSET}: {first_line(error)}"
            raise LoadError(what, "export it again at a newer opset") from error
        raise LoadError(f"{where} is not a sound ONNX model: {first_line(error)}") from error
    return canonical(model, where)


def _with_declared_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The converter knows only graphs of IR 3, in which every initializer is an input too."""
    known = {v.name for v in proto.graph.input}
    missing = [t for t in proto.graph.initializer if t.name not in known]
    if missing:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        copy.graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in missing)
        return copy
    return proto


def canonical(model: ir.Model, where: str = "the model") -> ir.Model:
    """Inline functions, lift constants, infer shapes, give every value and node a name."""
    try:
        with silence():
            passes.InlinePass()(model)
            passes.RemoveInitializersFromInputsPass()(model)
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            passes.ClearMetadataAndDocStringPass()(model)
            passes.TopologicalSortPass()(model)
            passes.NameFixPass()(model)
            model = passes.ShapeInferencePass(data_prop=True)(model).model
    except Exception as error:
        raise LoadError(f"{where} is not a sound ONNX model: {first_line(error)}") from error
    if model.graph.opset_imports.get("", 0) < OPSET:
        model.graph.opset_imports[""] = OPSET
    model.ir_version = max(model.ir_version, 10)
    return model


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            place = (folder / entry.value).resolve()
            if not place.is_relative_to(folder):
                raise LoadError(f"{path}: tensor {tensor.name!r} reads {entry.value!r}, outside the model's folder")
            if not place.is_file():
                raise LoadError(f"{path}: tensor {tensor.name!r} needs {entry.value!r}, which is not beside it")


def first_line(error: BaseException) -> str:
    """The first line of a foreign error, cut to a readable length."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Exporters and converters print, warn and log; the user needs none of it."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
