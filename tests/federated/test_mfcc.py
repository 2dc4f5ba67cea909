"""MFCC, low-level descriptors and deltas against librosa."""

import math
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.frontends.base import Frontend
from avser.models.frontends.deltas import Deltas
from avser.models.frontends.descriptors import LowLevelDescriptors
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.mfcc import Mfcc

STEP = 8192
Signal = NDArray[np.float32]


def speechlike(samples: int = 2 * STEP) -> torch.Tensor:
    """Noise whose level and colour change, ``[1, S]``."""
    torch.manual_seed(0)
    time = torch.arange(samples) / 16000
    return (0.1 * torch.randn(samples) + 0.2 * torch.sin(900 * time)) * (1 + torch.sin(9 * time))[
        None
    ] + 0.01 * torch.randn(1, samples)


def around(wave: torch.Tensor, *, window: int, hop: int) -> Signal:
    """The same sound, padded so that librosa's uncentred frames stand where ours do."""
    spare = window - hop
    short = -wave.shape[1] % hop
    padded: Signal = F.pad(wave, (spare // 2, spare - spare // 2 + short))[0].numpy()
    return padded


@pytest.mark.parametrize(
    ("window", "hop", "coefficients", "bands", "lifter", "preemphasis"),
    [
        (512, 256, 13, 40, 0, 0.0),
        (320, 320, 13, 40, 22, 0.97),  # 20 ms frames and steps
        (1024, 160, 20, 128, 0, 0.97),
        (2048, 512, 40, 128, 30, 0.0),
    ],
)
def test_mfcc_is_librosas(
    window: int, hop: int, coefficients: int, bands: int, lifter: int, preemphasis: float
) -> None:
    front = Mfcc(
        coefficients=coefficients,
        bands=bands,
        window=window,
        hop=hop,
        n_fft=window,
        lifter=lifter,
        preemphasis=preemphasis,
    )
    wave = speechlike()
    y = lfilter([1, -preemphasis], [1], around(wave, window=window, hop=hop)).astype(np.float32)
    expected = librosa.feature.mfcc(
        y=y,
        sr=16000,
        n_mfcc=coefficients,
        n_mels=bands,
        n_fft=window,
        hop_length=hop,
        center=False,
        lifter=lifter,
    )
    result = front(wave)[0, 0].numpy()
    assert result.shape == expected.shape == (coefficients, math.ceil(2 * STEP / hop))
    np.testing.assert_allclose(result, expected, atol=0.02, rtol=1e-3)  # of some hundred


def test_silence_has_a_finite_floor() -> None:
    assert torch.isfinite(Mfcc()(torch.zeros(1, STEP))).all()
    quiet = Mfcc()(torch.zeros(1, STEP))[0, 0, :, 5]
    assert float(quiet[0]) == pytest.approx(-100 * math.sqrt(40))  # -100 dB in every band
    assert quiet[1:].abs().max() < 1e-3


def test_descriptors_are_librosas() -> None:
    wave = speechlike(4 * STEP)
    wave[:, :3000] = 0.0  # signs of nothing: no crossing
    result = LowLevelDescriptors()(wave)[0, 0].numpy()
    y = around(wave, window=2048, hop=512)
    sizes: dict[str, Any] = {"frame_length": 2048, "hop_length": 512, "center": False}
    expected = np.concatenate(
        [
            librosa.feature.rms(y=y, **sizes),
            librosa.feature.zero_crossing_rate(y, **sizes),
            librosa.feature.mfcc(
                S=librosa.power_to_db(
                    librosa.feature.melspectrogram(
                        y=y, sr=16000, n_fft=2048, hop_length=512, center=False
                    ),
                    top_db=None,
                ),
                n_mfcc=13,
            ),
        ]
    )
    assert result.shape == expected.shape == (15, 64)
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(result[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(result[2:], expected[2:], atol=0.05, rtol=1e-3)


@pytest.mark.parametrize("width", [5, 9])
def test_deltas_are_librosas(width: int) -> None:
    wave = speechlike()
    front = LogMel(bins=8, hop=512, n_fft=512)
    result = Deltas(front, order=2, width=width)(wave)[0].numpy()
    plain = front(wave)[0, 0].numpy()
    assert result.shape == (3, 8, 32)
    np.testing.assert_array_equal(result[0], plain)
    for order in (1, 2):
        expected = librosa.feature.delta(plain, width=width, order=order, mode="nearest")
        np.testing.assert_allclose(result[order], expected, atol=1e-4)


def test_first_deltas_are_htks_regression() -> None:
    wave = speechlike()
    front = LogMel(bins=4, hop=1024, window=1024)
    features = np.pad(front(wave)[0, 0].numpy(), ((0, 0), (2, 2)), mode="edge")
    slope = sum(n * (features[:, 2 + n : 18 + n] - features[:, 2 - n : 18 - n]) for n in (1, 2))
    result = Deltas(front, order=1, width=5)(wave)[0, 1].numpy()
    np.testing.assert_allclose(result, slope / 10, atol=1e-5)


def test_deltas_of_a_ramp_are_its_slope_up_to_the_edges_of_the_valid_frames() -> None:
    class Ramp(Frontend):
        channels, bins, hop = 2, 1, 1024

        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            ramp = torch.arange(waveform.shape[1] // 1024).float()
            return torch.stack([3 * ramp, -ramp])[None, :, None].expand(len(waveform), -1, -1, -1)

    mask = torch.zeros(1, 32, dtype=torch.bool)
    mask[:, 6:26] = True
    result = Deltas(Ramp(), order=2, width=5).forward_masked(torch.zeros(1, 4 * STEP), mask)
    assert result.shape == (1, 6, 1, 32)
    first, second = result[0, 2:4, 0], result[0, 4:, 0]
    torch.testing.assert_close(first[:, 8:24], torch.tensor([[3.0], [-1.0]]).expand(-1, 16))
    torch.testing.assert_close(second[:, 8:24], torch.zeros(2, 16), atol=1e-5, rtol=0)
    assert 0 < first[0, 6] < 3 and 0 < first[0, 25] < 3  # frames beyond the edges repeat them


@pytest.mark.parametrize(
    "front",
    [Mfcc(causal=True, preemphasis=0.97), LowLevelDescriptors(causal=True)],
    ids=lambda front: type(front).__name__,
)
def test_causal_front_ends_do_not_hear_the_future(front: Frontend) -> None:
    wave = torch.randn(1, 2 * STEP)
    changed = wave.clone()
    changed[:, STEP:] = torch.randn(1, STEP)
    a, b = front(wave), front(changed)
    half = a.shape[-1] // 2
    assert torch.equal(a[..., :half], b[..., :half])
    assert not torch.equal(a[..., half:], b[..., half:])
    assert not Deltas(front).causal


@pytest.mark.parametrize(
    "front",
    [
        Mfcc(window=400, hop=320, preemphasis=0.97, lifter=22),
        LowLevelDescriptors(),
        Deltas(Mfcc(preemphasis=0.97), order=2),
    ],
    ids=lambda front: type(front).__name__,
)
def test_front_ends_export_for_any_number_of_steps(front: Frontend) -> None:
    steps = torch.export.Dim("steps", min=1, max=64)
    program = torch.export.export(
        front.eval(), (torch.randn(2, 3 * STEP),), dynamic_shapes=({1: STEP * steps},)
    )
    assert not any("fft" in str(node.target) for node in program.graph.nodes)
    for count in (1, 2, 7):
        wave = speechlike(count * STEP).expand(2, -1)
        result, expected = program.module()(wave), front(wave)
        assert result.shape == expected.shape
        torch.testing.assert_close(result, expected, atol=0.05, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mfcc(coefficients=41), "raise bands"),
        (lambda: Mfcc(preemphasis=1.0), "0.97 is usual"),
        (lambda: Mfcc(window=320, hop=320, causal=True), "Bad hop 320"),
        (lambda: Mfcc(hop=0), "Bad hop 0"),
        (lambda: Mfcc(window=320, hop=320).frames_per_step, "Bad hop 320"),
        (lambda: LowLevelDescriptors(window=1), "Bad window 1"),
        (lambda: Deltas(LogMel(), order=3), "Bad order 3"),
        (lambda: Deltas(LogMel(), width=4), "odd number"),
    ],
)
def test_bad_sizes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
