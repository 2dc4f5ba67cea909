import sys

import pytest
import torch

from avser.errors import ConfigError
from avser.models.encoders.lstm import LstmEncoder
from avser.models.frontends.base import level_dbfs
from avser.models.frontends.cleaned import Cleaned
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.mfcc import Mfcc

STEP = 8192


def voice(samples: int = 3 * STEP) -> torch.Tensor:
    """A sound that comes and goes twice a second, in steady noise 34 dB under it."""
    on = (torch.arange(samples) // 4000) % 2 == 0
    return (0.2 * torch.randn(samples) * on + 0.004 * torch.randn(samples))[None]


def cleaned(front: Cleaned, wave: torch.Tensor) -> torch.Tensor:
    """What the inner front end is given."""
    return front._clean(wave[0])


def test_every_clip_is_brought_to_one_level() -> None:
    front = Cleaned(LogMel(), level_dbfs=-20.0)
    wave = voice()
    a, b = cleaned(front, wave), cleaned(front, 0.01 * wave)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert float(level_dbfs(a[None], len(a))) == pytest.approx(-20, abs=0.01)
    assert torch.equal(cleaned(Cleaned(LogMel(), level_dbfs=None), wave), wave[0])
    assert not cleaned(front, 0 * wave).any()


def test_a_level_over_full_scale_is_cut_if_asked_for() -> None:
    wave = voice()
    assert cleaned(Cleaned(LogMel(), level_dbfs=5.0), wave).abs().max() > 2
    assert cleaned(Cleaned(LogMel(), level_dbfs=5.0, clip=True), wave).abs().max() == 1


def test_noise_between_words_is_reduced_and_words_stay() -> None:
    pytest.importorskip("noisereduce", reason="needs avser[denoise]")
    wave = voice()[0]
    result = cleaned(Cleaned(LogMel(), level_dbfs=None, denoise=1.0), wave[None])
    assert result.shape == wave.shape
    still, loud = slice(5000, 7000), slice(1000, 3000)  # off and on
    assert result[still].square().mean() < 0.2 * wave[still].square().mean()
    assert result[loud].square().mean() > 0.8 * wave[loud].square().mean()
    half = cleaned(Cleaned(LogMel(), level_dbfs=None, denoise=0.5), wave[None])
    assert result[still].std() < half[still].std() < wave[still].std()


def test_what_was_cleaned_is_looked_up_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("noisereduce", reason="needs avser[denoise]")
    monkeypatch.setattr("avser.models.frontends.cleaned._KEPT_BYTES", 2 * 4 * STEP)
    front = Cleaned(LogMel(), denoise=0.8)
    first = cleaned(front, voice(STEP))
    waves = [voice(STEP) for _ in range(3)]
    result = [cleaned(front, w) for w in waves]
    assert len(front._kept) == 2 and front._size == 2 * 4 * STEP
    again = [cleaned(front, w) for w in waves]
    assert all(torch.equal(a, b) for a, b in zip(result, again, strict=True))
    assert not torch.equal(first, result[0])


@pytest.mark.parametrize("length", [900, 5000, 20_000])
def test_padding_and_quiet_edges_never_leak(length: int) -> None:
    pytest.importorskip("noisereduce", reason="needs avser[denoise]")
    front = Cleaned(Mfcc(window=320, hop=320, preemphasis=0.97), denoise=1.0)
    encoder = LstmEncoder(frontend=front, hidden=8, span="clip", pool="last").eval()
    wave = voice(length)
    alone, _ = encoder(wave, torch.tensor([length]))
    padded = torch.zeros(2, 6 * STEP)
    padded[0, :length], padded[1] = wave[0], voice(6 * STEP)[0]
    together, _ = encoder(padded, torch.tensor([length, 6 * STEP]))
    torch.testing.assert_close(together[0, : alone.shape[1]], alone[0])


def test_it_has_no_weights_and_is_not_causal() -> None:
    pytest.importorskip("noisereduce", reason="needs avser[denoise]")
    front = Cleaned(Mfcc(causal=True), denoise=1.0)
    assert not front.state_dict() and not front.causal
    assert front(voice()).shape == Mfcc()(voice()).shape


def test_settings_that_can_not_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"legal is 0 \(off\) to 1"):
        Cleaned(Mfcc(), denoise=2.0)
    monkeypatch.setitem(sys.modules, "noisereduce.torchgate", None)
    with pytest.raises(ConfigError, match=r"install avser\[denoise\]"):
        Cleaned(Mfcc(), denoise=0.5)
