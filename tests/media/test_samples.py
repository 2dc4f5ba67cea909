import numpy as np
import pytest
from media_files import pitch, tone

from avser.errors import ConfigError
from avser.media.samples import CANCELLED, ChannelMixer, condition_samples
from avser.types import SAMPLE_RATE


def test_ordinary_samples_are_given_as_they_are() -> None:
    samples = tone(1, SAMPLE_RATE)
    given, warnings = condition_samples(samples, sample_rate=SAMPLE_RATE)
    np.testing.assert_array_equal(given, samples)
    assert warnings == () and given.dtype == np.float32
    assert condition_samples(np.zeros(0), sample_rate=8_000)[0].shape == (0,)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_rates_are_resampled(rate: int) -> None:
    given, warnings = condition_samples(np.stack([tone(1, rate)] * 2), sample_rate=rate)
    assert len(given) == SAMPLE_RATE and pitch(given) == pytest.approx(440, abs=1)
    assert warnings == ()


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_inverted_channels_do_not_cancel(channels: int) -> None:
    sound = tone(1, 44_100)
    signs = np.where(np.arange(channels) % 2, -1, 1)[:, None]
    if channels % 2:
        signs[-1] = 0
    given, warnings = condition_samples((sound * signs).astype("f4"), sample_rate=44_100)
    assert np.abs(given[1_000:-1_000]).max() == pytest.approx(0.5, abs=0.01)
    assert warnings == (CANCELLED,)


@pytest.mark.parametrize("part", [-0.8, -0.5, 0.0, 0.5])
def test_the_loudest_is_taken_only_15_db_above_the_mix(part: float) -> None:
    sound = tone(1, SAMPLE_RATE)
    given, warnings = condition_samples(np.stack([sound, part * sound]), sample_rate=SAMPLE_RATE)
    cancelled = part < -0.65  # a mix of (1 - .645) / 2 lies 15 dB below
    np.testing.assert_allclose(given, sound if cancelled else sound * (1 + part) / 2, atol=1e-6)
    assert warnings == ((CANCELLED,) if cancelled else ())


def test_a_wide_recording_keeps_its_mean() -> None:
    wide = np.random.default_rng(0).normal(0, 0.1, (2, 3 * SAMPLE_RATE)).astype(np.float32)
    given, warnings = condition_samples(wide, sample_rate=SAMPLE_RATE)
    np.testing.assert_allclose(given, wide.mean(axis=0), atol=1e-6)
    assert warnings == ()


def test_a_mixer_follows_a_change_within_half_a_second() -> None:
    sound = tone(4, SAMPLE_RATE)
    other = np.where(np.arange(len(sound)) < 2 * SAMPLE_RATE, sound, -sound)
    mixer = ChannelMixer()
    both = np.stack([sound, other]).astype("f4")
    mixed = np.concatenate([mixer.mix(both[:, i : i + 512]) for i in range(0, len(sound), 512)])
    levels = np.abs(mixed).reshape(-1, 1_000).max(axis=1)
    assert levels[:31].min() > 0.49 and levels[-22:].min() > 0.49
    assert (levels < 0.4).sum() * 1_000 / SAMPLE_RATE <= 0.5


@pytest.mark.parametrize("scale", [3.0, 2.0**15, 2.0**31])
def test_floats_of_another_scale_are_scaled_by_their_peak(scale: float) -> None:
    sound = tone(1, SAMPLE_RATE).astype(np.float64)
    given, warnings = condition_samples(2 * scale * sound, sample_rate=SAMPLE_RATE)
    np.testing.assert_allclose(given, sound / np.abs(sound).max(), atol=1e-5)
    assert len(warnings) == 1 and "scaled by their peak" in warnings[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_bad_values_are_zero(bad: float) -> None:
    sound = tone(1, SAMPLE_RATE)
    spoilt = sound.copy()
    spoilt[5_000:5_050:10] = bad
    given, warnings = condition_samples(spoilt, sample_rate=SAMPLE_RATE)
    assert not given[5_000:5_050:10].any()
    kept = np.ones(len(sound), bool)
    kept[5_000:5_050:10] = False
    np.testing.assert_array_equal(given[kept], sound[kept])
    assert len(warnings) == 1 and warnings[0].startswith("5 of 16000 samples are NaN")


def test_bad_values_do_not_spread_in_resampling() -> None:
    sound = tone(1, 48_000)
    sound[24_000] = np.inf
    given, _ = condition_samples(sound, sample_rate=48_000)
    assert np.isfinite(given).all() and pitch(given) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.full(100, np.nan), 16_000, "100 of 100 are NaN"),
        (np.zeros(100), None, "rate is not given"),
        (np.zeros(100), 0, "rate is not given"),
        (np.zeros(100, np.int16), 16_000, "divide 16-bit"),
        (np.zeros((100, 2)), 16_000, "transpose"),
        (np.zeros((2, 2, 2)), 16_000, "shape"),
        (np.float64(0.0), 16_000, "shape"),
    ],
)
def test_what_can_not_be_sound_is_refused(
    samples: np.ndarray,  # type: ignore[type-arg]
    rate: int | None,
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        condition_samples(samples, sample_rate=rate)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_an_offset_has_no_click_at_its_ends(rate: int) -> None:
    samples, _ = condition_samples(np.full((2, rate // 2), 0.5, np.float32), sample_rate=rate)
    assert np.allclose(samples, 0.5, atol=1e-6)
