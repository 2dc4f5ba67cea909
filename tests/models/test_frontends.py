import importlib
import inspect
import itertools
import math
import pkgutil
from collections.abc import Iterator
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

import avser.models.frontends
from avser.errors import ConfigError
from avser.models.encoders.pooled import PooledEncoder
from avser.models.frontends.base import (
    RUN_FRAMES,
    Frontend,
    PowerSpectrum,
    level_dbfs,
    pad_windows,
    valid_frames,
)
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.normaliser import Normaliser
from avser.models.frontends.two_channel import TwoChannelSpectrogram


def tone(hz: float, samples: int = 16384, amplitude: float = 0.5) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hz * torch.arange(samples) / 16000)[None]


def kinds() -> Iterator[type[Frontend]]:
    """Every front end under ``avser.models.frontends``."""
    for module in pkgutil.walk_packages(avser.models.frontends.__path__, "avser.models.frontends."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                if issubclass(value, Frontend) and not inspect.isabstract(value):
                    yield value


def choices() -> dict[str, tuple[type[Frontend], dict[str, Any]]]:
    """Each front end with its defaults and each value of its switches; some are around another."""
    table: dict[str, tuple[type[Frontend], dict[str, Any]]] = {}
    for kind in kinds():
        hints = get_type_hints(kind.__init__)
        around = {"frontend": LogMel(bins=8, hop=512)} if "frontend" in hints else {}
        switches = [name for name, hint in hints.items() if hint is bool]
        for values in itertools.product((False, True), repeat=len(switches)):
            given = dict(zip(switches, values, strict=True))
            words = " ".join(f"{name}={value}" for name, value in given.items())
            table[f"{kind.__name__} {words}".strip()] = kind, around | given
    return table


CHOICES = choices()
every_frontend = pytest.mark.parametrize("choice", CHOICES)


def make(choice: str) -> Frontend:
    kind, settings = CHOICES[choice]
    return kind(**settings).eval()


# -- the contract --------------------------------------------------------------------------------


def test_all_front_ends_are_in_the_contract_tests() -> None:
    names = {kind.__name__ for kind in kinds()}
    assert names >= {"LogMel", "Mfcc", "TwoChannelSpectrogram", "LowLevelDescriptors", "Deltas"}


@every_frontend
@pytest.mark.parametrize("steps", [1, 3])
def test_one_frame_for_each_hop(choice: str, steps: int) -> None:
    front = make(choice)
    for wave in (0.1 * torch.randn(2, steps * 8192), torch.zeros(2, steps * 8192)):
        features = front(wave)
        frames = -(-steps * 8192 // front.hop)
        assert features.shape == (2, front.channels, front.bins, frames)
        assert features.dtype == torch.float32 and torch.isfinite(features).all()


@every_frontend
def test_padding_changes_no_frame_of_a_clip(choice: str) -> None:
    front, length = make(choice), 2 * 8192 - 3000
    wave = torch.zeros(2, 4 * 8192)
    wave[0, :length] = 0.1 * torch.randn(length)
    wave[1] = torch.randn(4 * 8192)
    lengths = torch.tensor([length, 4 * 8192])
    mask = valid_frames(wave, lengths, hop=front.hop, below_peak_db=None)
    alone = wave[:1, : 2 * 8192]
    own = valid_frames(alone, lengths[:1], hop=front.hop, below_peak_db=None)
    expected = front.forward_masked(alone, own)[0][..., own[0]]
    torch.testing.assert_close(
        front.forward_masked(wave, mask)[0][..., mask[0]], expected, atol=1e-4, rtol=1e-4
    )


@every_frontend
def test_features_depend_on_the_sound(choice: str) -> None:
    front = make(choice)
    first, second = front(0.1 * torch.randn(1, 8192)), front(0.1 * torch.randn(1, 8192))
    assert not torch.allclose(first, second)


@every_frontend
def test_features_are_those_of_full_precision_under_autocast(choice: str) -> None:
    front, wave = make(choice), tone(300) + 1e-4 * tone(6000)
    encoder = PooledEncoder(frontend=front, normalise="none", trim_db=None)
    length = torch.tensor([wave.shape[1]])
    expected, _ = encoder.raw_features(wave, length)
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = encoder.raw_features(wave, length)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("choice", [c for c in CHOICES if make(c).causal])
def test_a_causal_front_end_needs_no_later_sample(choice: str) -> None:
    front = make(choice)
    wave = torch.randn(1, 16384)
    changed = torch.cat([wave[:, :8192], torch.randn(1, 8192)], dim=1)
    a, b = front(wave), front(changed)
    half = a.shape[-1] // 2
    assert torch.equal(a[..., :half], b[..., :half])
    assert not torch.equal(a[..., half:], b[..., half:])


# -- spectra -------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [400, 401])
@pytest.mark.parametrize("fft_pays", [False, True])
def test_power_spectrum_is_the_windowed_fft(fft_pays: bool, window: int) -> None:
    wave = torch.randn(2, 8192)
    spectrum = PowerSpectrum(
        window=window, hop=128, n_fft=512, first_bin=3, bin_count=20, align="start"
    )
    spectrum.fft_pays = fft_pays
    frame = 7
    piece = wave[:, frame * 128 : frame * 128 + window] * torch.hann_window(window)
    expected = torch.fft.rfft(piece, n=512).abs().square()[:, 3:23]
    torch.testing.assert_close(spectrum(wave)[:, frame], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("hz", "bins"), [(440.0, 64), (2000.0, 40)])
def test_logmel_peaks_at_the_tone(hz: float, bins: int) -> None:
    features = LogMel(bins=bins)(tone(hz))
    assert features.shape == (1, 1, bins, 64)
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    low, high = mel(50), mel(8000)
    expected = (mel(hz) - low) / (high - low) * (bins + 1) - 1
    assert abs(int(features[0, 0].mean(dim=-1).argmax()) - expected) <= 1


def test_two_channels_resolve_pitch_and_time() -> None:
    # a pulse train of 100 Hz: the long window shows harmonics, the short one shows pulses
    wave = torch.zeros(1, 16384)
    wave[0, ::160] = 1.0
    pitch, formant = TwoChannelSpectrogram()(wave)[0]
    inside = slice(8, 100)
    assert pitch[:, inside].std(dim=0).mean() > 2 * pitch[:, inside].std(dim=1).mean()
    assert formant[:, inside].std(dim=1).mean() > 2 * formant[:, inside].std(dim=0).mean()


def test_two_channel_matches_the_papers_numbers() -> None:
    front = TwoChannelSpectrogram()
    assert front(torch.zeros(1, 8192)).shape == (1, 2, 64, 64)
    assert [s.window for s in front.spectra] == [640, 80]
    assert front.spectra[0].kernel.shape == (2, 640 // 2, 256)


def test_valid_frames_are_those_of_the_voice() -> None:
    wave = torch.zeros(1, 32768)
    wave[:, 8192:16384] = tone(300, 8192)
    wave += 1e-5 * torch.randn_like(wave)
    mask = valid_frames(wave, torch.tensor([32768]), hop=256, below_peak_db=35.0)
    frames = np.flatnonzero(mask[0].numpy())
    assert frames[0] == 32 - 3 and frames[-1] == 63 + 3  # 50 ms = 3 hops kept on each side
    everything = valid_frames(wave, torch.tensor([20000]), hop=256, below_peak_db=None)
    assert int(everything.sum()) == math.ceil(20000 / 256)


def test_level_of_full_scale_sine_is_minus_3_dbfs() -> None:
    assert level_dbfs(tone(1000, amplitude=1.0), 8192).mean().item() == pytest.approx(
        -3.01, abs=0.01
    )


def test_utterance_norm_ignores_invalid_frames_and_gain() -> None:
    norm = Normaliser(channels=1, bins=4, mode="utterance")
    x = torch.randn(1, 1, 4, 20)
    mask = torch.arange(20)[None] < 12
    spoiled = x.clone()
    spoiled[..., 12:] = 1e3
    torch.testing.assert_close(norm(x, mask), norm(spoiled, mask))
    torch.testing.assert_close(norm(x, mask), norm(x + 5.0, mask), atol=1e-4, rtol=1e-4)


def test_training_norm_uses_fitted_statistics() -> None:
    norm = Normaliser(channels=1, bins=2, mode="training")
    x = torch.randn(1, 1, 2, 5000) * 3 + 7
    norm.fit(x.sum(dim=(0, 3)), x.square().sum(dim=(0, 3)), 5000)
    y = norm(x, torch.ones(1, 5000, dtype=torch.bool))
    assert abs(float(y.mean())) < 1e-3 and abs(float(y.std()) - 1) < 1e-2


def test_running_norm_is_that_of_the_valid_frames_so_far() -> None:
    running = Normaliser(channels=2, bins=5, mode="running")
    x = 4 * torch.randn(2, 2, 5, 40) - 60
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1, :6] = mask[1, 11:13] = mask[1, 30:] = False  # begins late, pauses, is padded
    spoiled = torch.where(mask[:, None, None], x, 1e4)
    result = running(spoiled, mask)
    for clip in range(2):
        for frame in range(40):
            received = x[clip, :, :, : frame + 1][..., mask[clip, : frame + 1]].flatten(1)
            if not mask[clip, frame]:
                assert not result[clip, ..., frame].any()
                continue
            deviation, mean = torch.std_mean(received, dim=1, correction=0, keepdim=True)
            expected = (x[clip, :, :, frame] - mean) / deviation
            torch.testing.assert_close(result[clip, ..., frame], expected, atol=1e-3, rtol=1e-3)


def test_running_norm_ends_where_the_norm_of_the_clip_is() -> None:
    x, mask = torch.randn(1, 1, 8, 50) * 3 - 9, torch.ones(1, 50, dtype=torch.bool)
    running, whole = (Normaliser(channels=1, bins=8, mode=m) for m in ("running", "clip"))  # type: ignore[arg-type]
    torch.testing.assert_close(running(x, mask)[..., -1], whole(x, mask)[..., -1])


def test_a_prior_is_so_many_frames_of_the_training() -> None:
    """As if they had been heard before the clip; pieces of a stream give the same."""
    torch.manual_seed(0)
    past, x = torch.randn(1, 2, 4, 30) * 3 - 40, torch.randn(1, 2, 4, 25) * 5 - 30
    with_prior = Normaliser(channels=2, bins=4, mode="running", prior=30)
    with_prior.fit(past.sum(dim=(0, 3)), past.square().sum(dim=(0, 3)), 30)
    received = Normaliser(channels=2, bins=4, mode="running")
    mask = torch.ones(1, 55, dtype=torch.bool)
    expected = received(torch.cat([past, x], dim=-1), mask)[..., 30:]
    torch.testing.assert_close(with_prior(x, mask[:, :25]), expected, atol=1e-4, rtol=1e-4)
    state, pieces = with_prior.initial_state(1), []
    for piece in x.split(10, dim=-1):
        y, state = with_prior.advance(piece, mask[:, : piece.shape[-1]], state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=-1), expected, atol=1e-4, rtol=1e-4)


def test_running_norm_does_not_hear_the_future() -> None:
    norm = Normaliser(channels=1, bins=8, mode="running")
    mask = torch.ones(1, 50, dtype=torch.bool)
    x = torch.randn(1, 1, 8, 50)
    changed = torch.cat([x[..., :20], 1e3 * torch.randn(1, 1, 8, 30)], dim=-1)
    assert torch.equal(norm(x, mask)[..., :20], norm(changed, mask)[..., :20])


@pytest.mark.parametrize(
    "make", [lambda: LogMel(hop=160), lambda: TwoChannelSpectrogram(fmax_hz=2100)]
)
def test_sizes_off_the_grid_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="use"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("bins", [20, 512])  # as a product, and as an FFT
def test_power_in_runs_of_frames_is_that_of_all_at_once(bins: int) -> None:
    spectrum = PowerSpectrum(
        window=256, hop=32, n_fft=1024, first_bin=1, bin_count=bins, align="centre"
    )
    wave = torch.randn(3, 32 * (2 * RUN_FRAMES + 40)).clamp(-1, 1)
    sizes: list[int] = []

    def pairs(power: torch.Tensor) -> torch.Tensor:
        sizes.append(power.shape[1])
        return (power + 1e-10).log().unflatten(1, (-1, 2)).mean(dim=2)

    result = spectrum.reduced(wave, pairs)
    assert sizes == [RUN_FRAMES, RUN_FRAMES, 40] * 3
    frames = pad_windows(wave, window=256, hop=32, align="centre").unfold(-1, 256, 32)
    taper = torch.hann_window(256, dtype=torch.float64)
    whole = torch.fft.rfft(frames.double() * taper, n=1024).abs().square()[..., 1 : bins + 1]
    torch.testing.assert_close(result, pairs(whole).float(), rtol=1e-3, atol=1e-3)
    assert spectrum(wave).shape == (3, 2 * RUN_FRAMES + 40, bins)
