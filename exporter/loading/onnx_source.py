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

from exporter import inference
from exporter.errors import LoadError, first_line
from exporter.loading.mapped import read_mapped
from exporter.loading.opsets import OPSET, converted

__all__ = ["canonical", "from_file", "from_proto", "silence"]


def from_file(path: Path, *, mapped: bool = False) -> ir.Model:
    """Raises LoadError for a file that is missing, corrupt, truncated, or reaches outside its folder.

    mapped  leave large tensors on disk until they are used: for a model that is only translated, not run
    """
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist", "check model.source (relative to the recipe)")
    try:
        proto = read_mapped(path) if mapped else onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise LoadError(f"{path} is not an ONNX file, or it is truncated", "export it again") from error
    if not proto.graph.node and not proto.graph.output:
        raise LoadError(f"{path} holds no graph", "is it an ONNX model?")
    _check_external(proto, path)
    if not mapped:
        try:
            onnx.load_external_data_for_model(proto, str(path.parent))
        except Exception as error:
            raise LoadError(f"{path}: its external data cannot be read: {first_line(error)}") from error
    return from_proto(proto, str(path), folder=path.parent)


def from_proto(proto: onnx.ModelProto, where: str = "the model", *, folder: Path | None = None) -> ir.Model:
    """Canonical graph of a proto. ``folder``: where its external data lies, if it was not loaded."""
    opset = next((o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if opset < 9 and any(n.op_type == "Scan" for n in proto.graph.node):
        what = f"{where}: Scan of opset {opset} has a batch axis, which newer ones lack"
        raise LoadError(what, "export it again at opset 9 or later")
    _check_graph(proto.graph, where)
    try:
        with silence():
            if opset and opset < OPSET:
                proto = converted(proto)
            model = ir.from_proto(proto)
    except Exception as error:
        if opset < OPSET:
            what = f"{where}: opset {opset} cannot be converted to {OPSET}: {first_line(error)}"
            raise LoadError(what, "export it again at a newer opset") from error
        raise LoadError(f"{where} is not a sound ONNX model: {first_line(error)}") from error
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
    return canonical(model, where)


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
            inference.infer_shapes(model)
    except Exception as error:
        raise LoadError(f"{where} is not a sound ONNX model: {first_line(error)}") from error
    if model.graph.opset_imports.get("", 0) < OPSET:
        model.graph.opset_imports[""] = OPSET
    model.ir_version = max(model.ir_version, 10)
    return model


def _check_graph(g: onnx.GraphProto, where: str) -> None:
    """What a runtime trusts a file in: ONNX Runtime ends the process over a Loop without outputs."""
    for node in g.node:
        if not any(node.output):
            raise LoadError(f"{where}: {node.op_type} node {node.name!r} has no output")
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _check_graph(inner, where)
    for value in g.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_value < 0:
                raise LoadError(f"{where}: dimension {axis} of input {value.name!r} is {size.dim_value}")


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
