"""Constants that are cheaper to compute than to store.

A front end's Fourier matrices and filter banks would be most of a small file. Matrices become the
few operations that make them, sparse ones their entries: runtimes compute both once, when loading.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from avser.models.frontends.base import PowerSpectrum, half_kernel

_WORTH = 1024  # elements under which a constant is left alone


def compact(model: Any, frontend: nn.Module) -> set[str]:  # noqa: ANN401
    """Replace a front end's large constants in an ``onnx.ModelProto``.

    Returns:
        Names of the front end's constants that are still stored: they are not for rounding.
    """
    from onnx import numpy_helper

    spectra = [m for m in frontend.modules() if isinstance(m, PowerSpectrum)]
    buffers = [b.numpy() for b in frontend.buffers() if b.numel() > 1]
    graph, nodes, kept, stored = model.graph, [], [], set()
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        spectrum = next((s for s in spectra if _part(s, array) is not None), None)
        if array.dtype != np.float32 or array.size < _WORTH:
            made = None
        elif spectrum is not None:
            made = list(_kernel(spectrum, tensor.name, sines=_part(spectrum, array) == 1))
        elif np.count_nonzero(array) < array.size / 8:
            made = list(_scattered(array, tensor.name))
        else:
            made = None
        if made is None:
            kept.append(tensor)
            if any(_same(array, b) for b in buffers):
                stored.add(tensor.name)
        else:
            nodes += made
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)
    return stored


def _same(array: NDArray[Any], buffer: NDArray[Any]) -> bool:
    """Whether a constant is a buffer, perhaps turned round or in another shape."""
    return array.size == buffer.size and bool(
        np.array_equal(array.ravel(), buffer.ravel()) or np.array_equal(array, buffer.T)
    )


def _part(spectrum: PowerSpectrum, array: NDArray[Any]) -> int | None:
    """0 if the constant is the spectrum's cosines, 1 if it is its sines."""
    for part, kernel in enumerate(spectrum.kernel.numpy()):
        if array.shape == kernel.shape and np.array_equal(array, kernel):
            return part
    return None


def _constant(value: NDArray[Any], name: str) -> Any:  # noqa: ANN401
    from onnx import helper, numpy_helper

    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _kernel(spectrum: PowerSpectrum, name: str, *, sines: bool) -> Iterator[Any]:
    """Nodes that compute `avser.models.frontends.base.half_kernel`.

    Angles are taken modulo a turn as whole numbers, so that float32 keeps them exact.
    """
    from onnx import helper

    window, bins = spectrum.window, spectrum.bins
    twice = (
        np.arange((window + 1) // 2, window, dtype=np.int64) * 2 - window
    )  # of the sample's place
    taper = half_kernel(window, n_fft=spectrum.n_fft, first_bin=0, bin_count=1)[0].numpy()
    yield _constant(twice[:, None].astype(np.int16), f"{name}_rows")
    yield _constant(np.array([bins.start], dtype=np.int64)[0], f"{name}_first")
    yield _constant(np.array([bins.stop], dtype=np.int64)[0], f"{name}_end")
    yield _constant(np.array([1], dtype=np.int64)[0], f"{name}_one")
    yield _constant(np.array([2 * spectrum.n_fft], dtype=np.int64), f"{name}_turn")
    yield _constant(np.array([math.pi / spectrum.n_fft], dtype=np.float32), f"{name}_unit")
    yield _constant(taper.astype(np.float32), f"{name}_taper")
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Cast", ["rows"], "rows64", {"to": 7}),  # int64
        ("Range", ["first", "end", "one"], "columns", {}),
        ("Mul", ["rows64", "columns"], "product", {}),
        ("Mod", ["product", "turn"], "rest", {}),
        ("Cast", ["rest"], "whole", {"to": 1}),  # float32
        ("Mul", ["whole", "unit"], "angle", {}),
        ("Sin" if sines else "Cos", ["angle"], "wave", {}),
    )
    for kind, inputs, output, attributes in steps:
        names = [f"{name}_{each}" for each in inputs]
        yield helper.make_node(kind, names, [f"{name}_{output}"], **attributes)
    yield helper.make_node("Mul", [f"{name}_wave", f"{name}_taper"], [name])


def _scattered(array: NDArray[np.float32], name: str) -> Iterator[Any]:
    """Nodes that put the entries of a mostly empty matrix where they belong."""
    from onnx import helper

    flat = array.ravel()
    places = np.flatnonzero(flat)
    narrow = np.uint16 if array.size < 1 << 16 else np.int32
    yield _constant(places.astype(narrow), f"{name}_narrow")
    yield _constant(flat[places], f"{name}_values")
    yield _constant(np.array([array.size], dtype=np.int64), f"{name}_size")
    yield _constant(np.array(array.shape, dtype=np.int64), f"{name}_shape")
    yield helper.make_node("Cast", [f"{name}_narrow"], [f"{name}_places"], to=7)  # int64
    yield helper.make_node("ConstantOfShape", [f"{name}_size"], [f"{name}_empty"])
    inputs = [f"{name}_empty", f"{name}_places", f"{name}_values"]
    yield helper.make_node("ScatterElements", inputs, [f"{name}_flat"], axis=0)
    yield helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name])
