"""As much of TFLite as the checker needs, read and edited as bytes: operators, and other subgraph outputs.

FlatBuffers encoding (flatbuffers.dev, "Internals"); fields in the order of tensorflow/lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["operators", "shortened", "tensor_indices", "with_outputs"]

_MODEL_CODES, _MODEL_SUBGRAPHS = 1, 2
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3  # of SubGraph
_TENSOR_NAME = 3
# BuiltinOperator of schema.fbs, from 0 on; what is newer shows as its number
_BUILTINS = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR "
    "FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC "
    "LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX "
    "SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD "
    "UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE "
    "UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE "
    "BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL "
    "LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT "
    "RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT "
    "UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR "
    "LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK "
    "ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 "
    "NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL "
    "PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS "
    "HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE "
    "READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL "
    "GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 "
    "UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT "
)
_NAMES = _BUILTINS.split()


def operators(data: Any) -> Any:
    """[{"name", "op", "inputs", "outputs"}] of the first subgraph: tensors and operators by name."""
    codes = [_code(data, at) for at in _tables(data, _root(data), _MODEL_CODES)]
    graph = _tables(data, _root(data), _MODEL_SUBGRAPHS)[0]
    names = _tensor_names(data)
    found = []
    for at in _tables(data, graph, _OPERATORS):
        inputs, outputs = _integers(data, at, 1), _integers(data, at, 2)
        place = _field(data, at, 0)
        code = codes[struct.unpack_from("<I", data, place)[0] if place else 0]
        found.append({
            "name": "", "op": code, "inputs": [names[i] for i in inputs if i >= 0],
            "outputs": [names[i] for i in outputs],
        })  # fmt: skip
    return found


def tensor_indices(data: Any) -> Any:
    """Name -> index in the first subgraph."""
    return {name: index for index, name in enumerate(_tensor_names(data))}


def with_outputs(data: Any, names: Any) -> bytes:
    """The same model with these tensors as further outputs: a new vector at the end of the file, one offset to it."""
    places = tensor_indices(data)
    graph = _tables(data, _root(data), _MODEL_SUBGRAPHS)[0]
    outputs = _integers(data, graph, _OUTPUTS)
    return _given(data, graph, outputs + [places[name] for name in names if places[name] not in outputs])


def shortened(data: Any, count: Any) -> bytes:
    """The model cut behind its first ``count`` operators; its outputs are what these make and do not read."""
    graph = _tables(data, _root(data), _MODEL_SUBGRAPHS)[0]
    kept = _tables(data, graph, _OPERATORS)[:count]
    read = {index for at in kept for index in _integers(data, at, 1)}
    made = [index for at in kept for index in _integers(data, at, 2)]
    found = bytearray(_given(data, graph, [index for index in made if index not in read]))
    start, _ = _vector(data, graph, _OPERATORS)
    struct.pack_into("<I", found, start - 4, len(kept))
    return bytes(found)


def _given(data: Any, graph: Any, outputs: Any) -> bytes:
    """The model with these outputs."""
    found = bytearray(data)
    found += bytes(-len(found) % 4)
    slot = _field(data, graph, _OUTPUTS)
    struct.pack_into("<I", found, slot, len(found) - slot)
    return bytes(found) + struct.pack("<I%di" % len(outputs), len(outputs), *outputs)


def _tensor_names(data: Any) -> Any:
    graph = _tables(data, _root(data), _MODEL_SUBGRAPHS)[0]
    return [_text(data, at, _TENSOR_NAME) for at in _tables(data, graph, _TENSORS)]


def _code(data: Any, at: Any) -> Any:
    """Name of the builtin: the old field holds what fits into a byte (schema.fbs, OperatorCode)."""
    old, new = _field(data, at, 0), _field(data, at, 3)
    small = struct.unpack_from("<b", data, old)[0] if old else 0
    number = max(small, struct.unpack_from("<i", data, new)[0] if new else 0)
    return _NAMES[number] if number < len(_NAMES) else str(number)


def _root(data: Any) -> Any:
    if len(data) < 8 or bytes(data[4:8]) != b"TFL3":
        raise ValueError("not a TFLite file")
    return struct.unpack_from("<I", data, 0)[0]


def _field(data: Any, table: Any, index: Any) -> Any:
    """Where a field of a table lies; 0 when it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0]
    return table + offset if offset else 0


def _vector(data: Any, table: Any, index: Any) -> Any:
    """(place of the first element, count)."""
    place = _field(data, table, index)
    if not place:
        return 0, 0
    start = place + struct.unpack_from("<I", data, place)[0]
    return start + 4, struct.unpack_from("<I", data, start)[0]


def _tables(data: Any, table: Any, index: Any) -> Any:
    start, count = _vector(data, table, index)
    return [at + struct.unpack_from("<I", data, at)[0] for at in range(start, start + 4 * count, 4)]


def _integers(data: Any, table: Any, index: Any) -> Any:
    start, count = _vector(data, table, index)
    return list(struct.unpack_from("<%di" % count, data, start))


def _text(data: Any, table: Any, index: Any) -> str:
    start, count = _vector(data, table, index)
    return bytes(data[start : start + count]).decode("utf-8", "replace")
