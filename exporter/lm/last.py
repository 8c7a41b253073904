"""The head over the last positions only: whoever writes text needs the logits after the last token of the prompt.

input    logits_to_keep i64 [1]: the graph gives logits for that many positions from the end, for all of them with 0. It
         need not be fed (an initializer holds 0), so that runtimes that do not know it, as onnxruntime-genai, see the
         graph as it was. The name is that of transformers' forward.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["LOGITS_TO_KEEP", "keep_last"]

LOGITS_TO_KEEP = "logits_to_keep"
_STATES = "norm"  # Net.logits: what the head reads


def keep_last(model: ir.Model) -> ir.Model:
    """A decoder's graph (exporter.lm.decoder), quantized or not, with the input; the last step before it is written."""
    result = model.clone()
    g = result.graph
    (states,) = [value for node in g for value in node.outputs if value.name == _STATES]
    readers = list(states.uses())
    keep = graph.add_initializer(g, LOGITS_TO_KEEP, np.zeros(1, np.int64))
    g.inputs.append(keep)
    last = np.array([np.iinfo(np.int64).max])
    start = ir.Value(name=f"{_STATES}/start", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    kept = ir.Value(name=f"{_STATES}/kept", shape=ir.Shape(["batch", "kept", states.shape[2]]), type=states.type)  # type: ignore[index]
    bounds = [
        start,
        *(graph.add_initializer(g, f"{_STATES}/{n}", a) for n, a in (("end", last), ("axis", np.array([1])))),
    ]
    producer = states.producer()
    assert producer is not None
    g.insert_after(
        producer,
        [
            ir.Node("", "Neg", [keep], outputs=[start], name=f"{_STATES}/negative"),  # -0 is the first position
            ir.Node("", "Slice", [states, *bounds], outputs=[kept], name=f"{_STATES}/keep"),
        ],
    )
    for use in readers:
        use.node.replace_input_with(use.idx, kept)
    logits = g.outputs[0]
    assert logits.shape is not None
    logits.shape = ir.Shape(["batch", "kept", logits.shape[2]])
    graph.verify(result, "keep_last")
    return result
