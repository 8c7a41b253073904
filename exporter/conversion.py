"""One ONNX file into another format, as it is: nothing is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from exporter.comparison import compare_once, refuse_unsound
from exporter.emit.ort import emit_onnx
from exporter.errors import KbitError
from exporter.files import refuse_unwritable, replacing
from exporter.loading import from_file, set_input_shapes

__all__ = ["FORMATS", "Converted", "convert"]

FORMATS = ("tflite", "onnx")


_VERIFIED = 1 << 28  # bytes of a file up to which it is run before it is handed over


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written: the file and its size in bytes.

    difference  largest distance to ONNX Runtime on a random input, relative to the largest output; None: not run
    """

    path: str
    format: str
    size: int
    difference: float | None = None


def convert(
    source: Path,
    to: str,
    out: Path,
    *,
    channels_last: bool = False,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    verify: bool = True,
) -> Converted:
    """Write ``source``, float or QDQ ONNX, as ``to``. The file appears complete or not at all.

    channels_last  4-d inputs of a TFLite file become NHWC
    shapes         dimensions to fix, by input
    verify         run a TFLite file of up to 256 MB and its source on a random input before it gets its name
    Raises KbitError: LoadError for the source, UnsupportedError for what TFLite lacks.
    """
    if to not in FORMATS:
        raise KbitError(f"unknown format {to!r}", f"expected {' or '.join(FORMATS)}")
    if channels_last and to != "tflite":
        raise KbitError("channels_last is for TFLite: an ONNX file keeps its layout", "leave it out")
    refuse_unwritable(out)
    model = from_file(source, mapped=to == "tflite")
    set_input_shapes(model, shapes or {}, "--shape")
    difference = None
    try:
        with replacing(out) as partial:
            if to == "tflite":
                from exporter.emit.tflite import SIGNATURE, translate

                content = translate({SIGNATURE: model}, channels_last=channels_last)
                size = content.size
                with partial.open("wb") as file:
                    content.write(file)
                del content  # its weights, before two runtimes hold their own
                if verify and size <= _VERIFIED:
                    difference = compare_once(source, model, partial, channels_last=channels_last)
            else:
                ir.save(emit_onnx(model), partial, format="protobuf")
    except KbitError:
        raise
    except Exception:
        refuse_unsound(source, model)  # says what is wrong with a file that no one can run; else the fault is ours
        raise
    return Converted(str(out), to, out.stat().st_size, difference)
