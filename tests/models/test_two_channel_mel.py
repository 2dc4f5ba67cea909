"""Resolution of the two mel channels: harmonics in one, formants without them in the other."""

import pytest
import torch

from avser.errors import ConfigError
from avser.models.frontends.base import RUN_FRAMES
from avser.models.frontends.two_channel_mel import TwoChannelMel, on_half_the_bins


def pulses(hz: int) -> torch.Tensor:
    wave = torch.zeros(1, 16384)
    wave[0, :: 16000 // hz] = 1.0
    return wave


def ripple(channel: torch.Tensor) -> float:
    """How unlike neighbouring bands are, averaged over frames of the middle."""
    return float(channel[2:24, 8:56].diff(dim=0).abs().mean())


def test_the_long_window_resolves_harmonics_and_the_short_one_merges_them() -> None:
    pitch, formants = TwoChannelMel()(pulses(200))[0]
    assert ripple(pitch) > 3 * ripple(formants)


def test_channels_have_the_frames_of_the_hop() -> None:
    wave = torch.randn(2, 3 * 8192)
    assert TwoChannelMel(bins=40, hop=128)(wave).shape == (2, 2, 40, 192)
    assert TwoChannelMel()(wave).shape == (2, 2, 64, 96)


def test_a_click_stays_in_its_own_frames() -> None:
    wave = torch.zeros(1, 16384)
    wave[0, 8192 + 128] = 1.0  # the middle of frame 32
    energy = TwoChannelMel()(wave)[0].exp().sum(dim=1)
    assert energy.argmax(dim=1).tolist() == [32, 32]
    assert ((energy[1] > energy[1].max() / 100).nonzero().flatten() == 32).all()


def test_runs_of_frames_give_what_the_whole_gives() -> None:
    front = TwoChannelMel()
    wave = torch.randn(1, (RUN_FRAMES + 40) * 64 // 8192 * 8192 + 8192)
    whole = front(wave)
    first = front(wave[:, :16384])
    torch.testing.assert_close(whole[..., :60], first[..., :60], rtol=1e-4, atol=1e-4)


def test_a_causal_front_end_does_not_use_later_samples() -> None:
    front = TwoChannelMel(causal=True)
    wave = torch.randn(1, 16384)
    other = wave.clone()
    other[:, 8192:] = 0
    assert torch.equal(front(wave)[..., :32], front(other)[..., :32])


def test_every_second_bin_gives_the_same_bands() -> None:
    """Loud low bands beside ones 60 dB weaker, as in speech; each band by itself."""
    torch.manual_seed(0)
    filters = torch.eye(257)  # each bin is a band
    taper = torch.hann_window(80, dtype=torch.float64)
    tone = torch.outer(torch.linspace(0.01, 0.05, 9), torch.arange(80)).double().cos()
    frames = (tone + 1e-3 * torch.randn(9, 80, dtype=torch.float64)) * taper
    all_bins = torch.fft.rfft(frames, 512).abs().square() @ filters.double()
    half = torch.fft.rfft(frames, 256).abs().square()
    got = half @ on_half_the_bins(filters, window=80).double()
    torch.testing.assert_close(got, all_bins, rtol=1e-3, atol=1e-6 * float(all_bins.mean()))


def test_bins_outside_the_bands_are_not_computed() -> None:
    front = TwoChannelMel(fmin_hz=100.0, fmax_hz=4000.0)
    assert front.long.bins == slice(7, 256)  # of 15.6 Hz: 109 to 3,984
    assert front.long_filters.shape == (249, 64)


@pytest.mark.parametrize("settings", [{"hop": 160}, {"fine_hop": 96}, {"fine_hop": 128}])
def test_bad_hops_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="hop"):
        TwoChannelMel(**settings)
