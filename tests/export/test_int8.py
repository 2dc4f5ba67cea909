"""Weights of 8 bits, and the modules that stand in a graph for others."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from avser.export.int8 import to_int8
from avser.export.recurrence import exportable
from avser.models.encoders.whisper import WhisperNetwork
from avser.models.frontends import base
from avser.models.frontends.base import PowerSpectrum

WIDE, NARROW = 256, 24


def product_model() -> onnx.ModelProto:
    """``x [B, 256]`` times a large, a small, and an excepted matrix, joined."""
    noise = np.random.default_rng(0)
    sizes = {"large": (WIDE, WIDE), "small": (WIDE, NARROW), "excepted": (WIDE, WIDE)}
    weights = [
        numpy_helper.from_array(noise.standard_normal(size).astype("f4") / 16, name)
        for name, size in sizes.items()
    ]
    nodes = [helper.make_node("MatMul", ["x", name], [f"by_{name}"]) for name in sizes]
    nodes.append(helper.make_node("Concat", [f"by_{name}" for name in sizes], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2 * WIDE + NARROW])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def output(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0])


def test_large_matrices_are_multiplied_in_8_bits_and_small_ones_stored_in_8() -> None:
    plain = product_model()
    small = to_int8(product_model(), leave={"excepted"})
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("MatMulInteger") == 1 and kinds.count("MatMul") == 2
    assert kinds.count("DynamicQuantizeLinear") == 1
    types = sorted((t.data_type, int(np.prod(t.dims))) for t in small.graph.initializer)
    assert (TensorProto.INT8, WIDE * WIDE) in types and (TensorProto.INT8, WIDE * NARROW) in types
    assert types.count((TensorProto.FLOAT, WIDE * WIDE)) == 1  # the excepted one
    x = np.random.default_rng(1).standard_normal((7, WIDE)).astype("f4")
    expected, got = output(plain, x), output(small, x)
    apart = np.abs(expected - got)
    assert 1e-4 < apart[:, :WIDE].max() < 0.1  # of values with a deviation of 1
    assert 1e-5 < apart[:, WIDE : WIDE + NARROW].max() < 0.02
    np.testing.assert_allclose(got[:, WIDE + NARROW :], expected[:, WIDE + NARROW :], atol=1e-5)


def test_products_in_8_bits_do_not_overflow_16() -> None:
    """Two products are added in 16 bits on some processors: weights have 7 bits for that."""
    small = to_int8(product_model(), leave=set())
    weights = [numpy_helper.to_array(t) for t in small.graph.initializer]
    large = [w for w in weights if w.dtype == np.int8 and w.size == WIDE * WIDE]
    assert len(large) == 2
    assert all(2 * 255 * int(np.abs(w.astype(int)).max()) < 1 << 15 for w in large)


@pytest.mark.parametrize("frames", [1, 2, 25, 52])
def test_convolutions_are_products_in_a_graph(frames: int) -> None:
    torch.manual_seed(0)
    network = WhisperNetwork(width=16, heads=2, layers=1).eval()
    mel, mask = torch.randn(2, 80, frames), torch.ones(2, frames, dtype=torch.bool)
    with torch.no_grad():
        expected, _ = network(mel, mask, frozen=2)
        replaced = exportable(network)
        assert not isinstance(replaced.conv1, torch.nn.Conv1d)
        got, _ = replaced(mel, mask, frozen=2)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("window", "hop"), [(400, 160), (640, 256), (80, 64), (400, 150)])
def test_windows_in_a_graph_are_those_of_unfolding(
    window: int, hop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectrum = PowerSpectrum(
        window=window, hop=hop, n_fft=1024, first_bin=0, bin_count=9, align="centre"
    )
    wave = torch.randn(2, 2 * 8192)
    plain = spectrum(wave)
    monkeypatch.setattr(base.torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(spectrum(wave), plain, atol=1e-3, rtol=1e-4)
