"""Weights of 8 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORTH = 512  # elements under which a weight is left as it is
_INT8 = 127


def shrink_weights(model: Any, *, leave: set[str]) -> int:  # noqa: ANN401
    """Store the weights of an ``onnx.ModelProto`` in 8 bits, with one scale for each output.

    They are float32 again when a runtime has loaded them, so that arithmetic, and with it the
    front end, logarithms and normalisation, keeps its precision and needs no ranges of activations.

    Args:
        model: changed in place.
        leave: names of constants that are not weights.

    Returns:
        Number of weights that were rounded.
    """
    from onnx import helper, numpy_helper

    graph, nodes, kept, count = model.graph, [], [], 0
    axes = dict(_outputs_of_weights(graph))
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        axis = axes.get(tensor.name)
        if axis is None or tensor.name in leave or array.size < _WORTH or array.dtype != np.float32:
            kept.append(tensor)
            continue
        small, scale = rounded(array, axis)
        count += array.size
        kept.append(numpy_helper.from_array(small, f"{tensor.name}_int8"))
        kept.append(numpy_helper.from_array(scale, f"{tensor.name}_scale"))
        nodes.append(helper.make_node("Cast", [f"{tensor.name}_int8"], [f"{tensor.name}_f"], to=1))
        inputs = [f"{tensor.name}_f", f"{tensor.name}_scale"]
        nodes.append(helper.make_node("Mul", inputs, [tensor.name]))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)
    return count


def rounded(array: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round to -127..127 with a scale for each index of an axis; the scale keeps all axes."""
    others = tuple(a for a in range(array.ndim) if a != axis)
    peak = np.abs(array).max(axis=others, keepdims=True)
    scale = np.where(peak > 0, peak / _INT8, 1.0).astype(np.float32)
    return np.rint(array / scale).clip(-_INT8, _INT8).astype(np.int8), scale


def _outputs_of_weights(graph: Any) -> Any:  # noqa: ANN401
    """Names of constants that weigh inputs, and the axis of their outputs."""
    for node in graph.node:
        if node.op_type == "Conv":
            yield node.input[1], 0
        elif node.op_type == "MatMul":
            yield node.input[1], 1
        elif node.op_type == "Gemm":
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            yield node.input[1], 0 if turned else 1
        elif node.op_type in ("LSTM", "GRU"):
            yield node.input[1], 1
            yield node.input[2], 1
