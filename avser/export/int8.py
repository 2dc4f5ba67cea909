"""Quantisation of a graph's weights to 8 bits."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORTH = 512  # elements under which a weight is left as it is
_DYNAMIC = 1 << 15  # elements from which a matrix is multiplied in 8 bits
_INT8 = 127


def to_int8(model: Any, *, leave: set[str]) -> Any:  # noqa: ANN401
    """Return an ``onnx.ModelProto`` with the weights of 8 bits.

    Large matrices, those of transformer layers, are multiplied in 8 bits with activations that are
    rounded by their range in each run (dynamic quantisation): half the time of float32. All other
    weights are stored in 8 bits and are float32 again when a runtime has loaded them, so that the
    front end, logarithms, normalisation and recurrences keep their precision. No range is
    calibrated in either case.

    Args:
        model: with float32 weights; it may be changed.
        leave: names of constants that are not weights.
    """
    model = _multiply_in_int8(model, leave=leave)
    shrink_weights(model, leave=leave)
    return model


def _multiply_in_int8(model: Any, *, leave: set[str]) -> Any:  # noqa: ANN401
    """Quantise products with constant matrices of at least `_DYNAMIC` elements."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    elements = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    chosen = []
    for index, node in enumerate(model.graph.node):
        weight = node.input[1] if node.op_type == "MatMul" else ""
        if weight not in leave and elements.get(weight, 0) >= _DYNAMIC:
            node.name = f"product_{index}"
            chosen.append(node.name)
    if not chosen:
        return model
    # what its own preparation would mark: constants are folded, and shapes are not needed
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=chosen,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # 7 bits: processors without VNNI add two products in 16 bits, which 8 would overflow
            reduce_range=True,
        )
        model = onnx.load(path)
    for node in model.graph.node:
        node.name = ""
    return model


def shrink_weights(model: Any, *, leave: set[str]) -> int:  # noqa: ANN401
    """Store the weights of an ``onnx.ModelProto`` in 8 bits, with one scale for each output.

    They are float32 again when a runtime has loaded them.

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
