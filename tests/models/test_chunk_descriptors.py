"""The 26 hand-built features against what they say of known sounds."""

import math

import librosa
import pytest
import torch
from torch import Tensor

from avser.models.frontends.chunk_descriptors import NAMES, ChunkDescriptors
from avser.models.frontends.mfcc import Mfcc

STEP = 8192


def described(wave: Tensor) -> dict[str, float]:
    """Rows of the first step by name."""
    return dict(zip(NAMES, ChunkDescriptors()(wave[None])[0, 0, :, 0].tolist(), strict=True))


def voice(hz: float) -> Tensor:
    """Harmonics to 4 kHz that fall as in a voice."""
    time = torch.arange(STEP) / 16_000
    many = range(1, int(4000 / hz))
    return 0.05 * torch.stack([torch.sin(2 * math.pi * hz * k * time) / k for k in many]).sum(dim=0)


def test_there_are_as_many_of_each_kind_as_the_paper_says() -> None:
    kinds = ["rms", "mfcc", "zero", "energy", "roll-off", "centroid", "pitch"]
    counts = [sum(name.startswith(kind) for name in NAMES) for kind in kinds]
    assert counts == [1, 13, 1, 4, 5, 1, 1] and sum(counts) == ChunkDescriptors.bins == 26


@pytest.mark.parametrize("hz", [75, 120, 210, 330])
def test_pitch_is_that_of_the_voice(hz: float) -> None:
    result = described(voice(hz))
    assert result["pitch"] == pytest.approx(hz, rel=0.02)
    assert described(voice(hz) + 0.02 * torch.randn(STEP))["pitch"] == pytest.approx(hz, rel=0.02)


def test_noise_and_silence_have_no_pitch() -> None:
    assert described(0.1 * torch.randn(STEP))["pitch"] == 0
    silent = described(torch.zeros(STEP))
    assert all(math.isfinite(value) for value in silent.values())
    zero = [name for name in NAMES if not name.startswith(("mfcc", "energy"))]
    assert [silent[name] for name in zero] == [0] * len(zero)


def test_level_crossings_and_spectrum_of_a_tone() -> None:
    time = torch.arange(STEP) / 16_000
    result = described(0.5 * torch.sin(2 * math.pi * 1500 * time + 0.1))
    assert result["rms"] == pytest.approx(0.5 / math.sqrt(2), rel=1e-3)
    assert result["zero crossing"] == pytest.approx(2 * 1500 / 16_000, rel=0.01)
    assert result["energy 1000-2000 Hz"] > 30 + max(
        result[f"energy {band} Hz"] for band in ("0-1000", "2000-4000", "4000-8000")
    )
    assert result["roll-off 25%"] == pytest.approx(1500, abs=35)
    assert result["roll-off 95%"] == pytest.approx(1500, abs=35)


def test_roll_off_and_centroid_of_noise_follow_its_spectrum() -> None:
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(STEP)
    result = described(wave)
    for share in (25, 50, 75, 90, 95):
        assert result[f"roll-off {share}%"] == pytest.approx(80 * share, rel=0.1)
    expected = librosa.feature.spectral_centroid(y=wave.numpy(), sr=16_000).mean()
    assert result["centroid"] == pytest.approx(float(expected), rel=0.02)


def test_each_step_is_described_by_itself() -> None:
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(1, 3 * STEP)
    front = ChunkDescriptors()
    whole, alone = front(wave), front(wave[:, STEP : 2 * STEP])
    assert whole.shape == (1, 1, 26, 3)
    torch.testing.assert_close(whole[..., 1:2], alone, rtol=1e-4, atol=1e-3)
    mfcc = Mfcc(coefficients=13, bands=40, n_fft=1024)(wave[:, STEP : 2 * STEP]).mean(dim=3)
    torch.testing.assert_close(alone[0, 0, 1:14, 0], mfcc[0, 0])
