"""Degradations: each has the level, band or delay that it states."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.degradations import (
    CONDITIONS,
    Colour,
    Degrade,
    Samples,
    add_hum,
    add_noise,
    add_offset,
    babble,
    change_level,
    clip_peaks,
    reverberate,
    telephone,
    through_codec,
)
from avser.testing.media import voice, write_wav

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> Samples:
    return np.asarray(voice("happy", speaker="a", seconds=2.0), dtype=np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def power_db(samples: NDArray[np.floating]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def band_db(samples: NDArray[np.floating], low: float, high: float) -> float:
    spectrum = np.square(np.abs(np.fft.rfft(samples)))
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(10 * np.log10(spectrum[(hz >= low) & (hz < high)].mean()))


@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_its_ratio_and_its_slope(speech: Samples, colour: Colour, snr_db: float) -> None:
    noisy = add_noise(speech, rng(), snr_db=snr_db, colour=colour)
    noise = noisy.astype(np.float64) - speech
    assert power_db(speech - speech.mean()) - power_db(noise) == pytest.approx(snr_db, abs=0.01)
    slope = band_db(noise, 4000, 8000) - band_db(noise, 250, 500)  # four octaves
    assert slope == pytest.approx({"white": 0, "pink": -12, "brown": -24}[colour], abs=1.5)


def test_recorded_noise_is_repeated_and_an_offset_does_not_raise_it(speech: Samples) -> None:
    hiss = rng(1).standard_normal(1000).astype(np.float32)
    noise = add_noise(speech + np.float32(0.5), rng(), snr_db=10, colour=hiss) - speech - 0.5
    np.testing.assert_allclose(noise[:1000], noise[1000:2000], atol=1e-5)
    assert power_db(speech - speech.mean()) - power_db(noise) == pytest.approx(10, abs=0.05)
    silent = np.zeros(100, dtype=np.float32)
    assert np.array_equal(add_noise(speech, rng(), snr_db=3, colour=silent), speech)


def test_babble_is_of_several_voices(speech: Samples) -> None:
    mixed = babble([speech, speech[::-1].copy()], rng(), count=8000)
    assert mixed.shape == (8000,) and mixed.dtype == np.float32
    assert abs(np.corrcoef(mixed, speech[:8000])[0, 1]) < 0.6
    assert np.array_equal(mixed, babble([speech, speech[::-1].copy()], rng(), count=8000))
    with pytest.raises(ConfigError, match="needs clips of other speech"):
        babble([], rng(), count=10)


@pytest.mark.parametrize("rt60_s", [0.3, 0.8])
def test_a_room_decays_by_60_db_in_its_time(rt60_s: float) -> None:
    click = np.zeros(RATE, dtype=np.float32)
    click[100] = 1.0
    wet = reverberate(click, rng(), rt60_s=rt60_s).astype(np.float64)
    assert not np.abs(wet[:100]).max() > 1e-6 and np.argmax(np.abs(wet)) == 100
    tail = np.square(wet[100 + 40 :])
    left_db = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum())  # Schroeder's integral
    fell = int(np.argmax(left_db < -30))
    assert 2 * fell / RATE == pytest.approx(rt60_s, rel=0.1)
    assert power_db(wet) == pytest.approx(power_db(click), abs=0.01)


def test_a_telephone_keeps_its_band_alone(speech: Samples) -> None:
    noise = (0.1 * rng().standard_normal(2 * RATE)).astype(np.float32)
    narrow = telephone(noise)
    assert len(narrow) == len(noise)
    inside = band_db(narrow, 500, 3000)
    assert inside == pytest.approx(band_db(noise, 500, 3000), abs=1.0)
    assert band_db(narrow, 20, 120) < inside - 20 and band_db(narrow, 4500, 8000) < inside - 20
    assert len(telephone(speech[:7001])) == 7001 and not len(telephone(speech[:0]))


@pytest.mark.parametrize(("codec", "kbit_s", "least"), [("opus", 8, 0.6), ("mp3", 16, 0.9)])
def test_a_codec_loses_detail_and_no_time(
    speech: Samples, codec: str, kbit_s: float, least: float
) -> None:
    decoded = through_codec(speech, codec=codec, kbit_s=kbit_s)  # type: ignore[arg-type]
    assert len(decoded) == len(speech) and not np.array_equal(decoded, speech)
    likeness = [
        np.corrcoef(speech[4000:20000], decoded[4000 + lag : 20000 + lag])[0, 1]
        for lag in (-160, 0, 160)
    ]
    assert likeness[1] == max(likeness) > least
    assert power_db(decoded) == pytest.approx(power_db(speech), abs=2)
    loud = through_codec(4 * speech, codec=codec, kbit_s=kbit_s)  # type: ignore[arg-type]
    assert np.abs(loud).max() > 1.2 * np.abs(speech).max()  # over full scale: nothing is clipped


def test_hum_level_clipping_and_offset(speech: Samples) -> None:
    hum = add_hum(np.zeros(RATE, dtype=np.float32), rng(), level_dbfs=-40, mains_hz=60)
    assert power_db(hum) == pytest.approx(-40, abs=0.05)
    assert np.argmax(np.abs(np.fft.rfft(hum))) == 60
    cut = clip_peaks(speech, over_db=12)
    peak = np.abs(speech).max()
    assert np.abs(cut).max() == pytest.approx(peak * 10 ** (-12 / 20), rel=1e-5)
    assert np.array_equal(cut[np.abs(speech) < peak / 5], speech[np.abs(speech) < peak / 5])
    quiet = change_level(speech, gain_db=-20)
    assert power_db(quiet) == pytest.approx(power_db(speech) - 20, abs=0.05)
    np.testing.assert_allclose(quiet * 32768, np.rint(quiet * 32768), atol=1e-6)
    moved = add_offset(speech, offset=0.005)
    assert float((moved - speech).mean()) == pytest.approx(0.005, abs=1e-6)


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_is_seeded_and_keeps_the_length(speech: Samples, name: str) -> None:
    condition, others = CONDITIONS[name], [speech[::-1].copy()]
    first, second = (condition.apply(speech, rng(3), others) for _ in range(2))
    assert first.dtype == np.float32 and len(first) == len(speech)
    assert np.isfinite(first).all() and np.array_equal(first, second)
    assert not np.array_equal(first, speech)


def test_a_random_draw_follows_from_its_generator(speech: Samples) -> None:
    degrade = Degrade()
    drawn = [degrade(speech, rng(seed), [speech]) for seed in range(12)]
    again = [degrade(speech, rng(seed), [speech]) for seed in range(12)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert len({x.tobytes() for x in drawn}) > 8 and all(len(x) == len(speech) for x in drawn)
    none = dict.fromkeys(degrade.shares, 0.0)
    assert np.array_equal(Degrade(**none)(speech, rng()), speech)  # type: ignore[arg-type]
    assert Degrade().settings == degrade.settings != Degrade(room=0.5).settings


def test_own_noise_is_taken_from_a_folder(speech: Samples, tmp_path: Path) -> None:
    write_wav(tmp_path / "hum.wav", 0.1 * np.sin(np.arange(RATE) * 2 * np.pi * 1000 / RATE))
    none = dict.fromkeys(Degrade().shares, 0.0) | {"noise": 1.0}
    degrade = Degrade(**none, noise_folder=str(tmp_path), snr_db=(0.0, 0.0))  # type: ignore[arg-type]
    peaks = [
        int(np.argmax(np.abs(np.fft.rfft((degrade(speech, rng(s)) - speech)[:RATE]))))
        for s in range(10)
    ]
    assert 2 <= peaks.count(1000) < 10
    with pytest.raises(ConfigError, match="holds no sound"):
        Degrade(noise=1.0, noise_folder=str(tmp_path / "none"))._recorded()


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="Bad room"):
        Degrade(room=1.5)
    with pytest.raises(ConfigError, match="Bad snr_db 20 to 5: legal is a lower end"):
        Degrade(snr_db=(20.0, 5.0))
    with pytest.raises(ConfigError, match="both over 0"):
        Degrade(rt60_s=(0.0, 0.5))
