"""Samples of wav files with numpy alone, against known signals and against the media reader."""

import struct
from pathlib import Path

import numpy as np
import pytest

from avser.export.wav import read_wav, resample, to_mono
from avser.media.reader import read_audio
from avser.media.samples import condition_samples
from avser.testing.media import voice

RATE = 16_000
_GUID = bytes.fromhex("000000001000800000aa00389b71")  # of an extensible header, after the kind


def tone(hz: float, rate: int, *, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def write(
    path: Path,
    channels: np.ndarray,
    *,
    rate: int,
    bits: int,
    is_float: bool = False,
    extensible: bool = False,
    mask: int = 0,
) -> Path:
    """Write ``[channels, S]`` in -1..1 by hand: every format has its own few lines."""
    flat = np.atleast_2d(channels).T.ravel()
    if is_float:
        data = flat.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (np.round(flat * 127) + 128).astype(np.uint8).tobytes()
    else:
        whole = np.round(flat * (2 ** (bits - 1) - 1)).astype(np.int64)
        data = b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)
    count = len(np.atleast_2d(channels))
    kind, block = 3 if is_float else 1, count * bits // 8
    head = struct.pack("<HHIIHH", kind, count, rate, rate * block, block, bits)
    if extensible:
        head = struct.pack("<H", 0xFFFE) + head[2:]
        head += struct.pack("<HHI", 22, bits, mask) + struct.pack("<H", kind) + _GUID
    chunks = b"JUNK" + struct.pack("<I", 3) + b"odd\0"  # an odd chunk is padded
    chunks += b"fmt " + struct.pack("<I", len(head)) + head
    chunks += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    return path


@pytest.mark.parametrize(
    ("bits", "is_float", "error"),
    [
        (8, False, 9e-3),
        (16, False, 4e-5),
        (24, False, 1e-6),
        (32, False, 1e-6),
        (32, True, 1e-6),
        (64, True, 1e-6),
    ],
)
@pytest.mark.parametrize("extensible", [False, True])
def test_each_width_gives_the_samples_that_were_written(
    bits: int, is_float: bool, error: float, extensible: bool, tmp_path: Path
) -> None:
    signal = tone(440, RATE)
    path = write(
        tmp_path / "a.wav", signal, rate=RATE, bits=bits, is_float=is_float, extensible=extensible
    )
    audio = read_wav(path)
    assert audio.samples.dtype == np.float32 and audio.notes == ()
    np.testing.assert_allclose(audio.samples, signal, atol=error)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_414, 44_100, 48_000, 96_000])
def test_resampling_keeps_a_tone_and_its_place_in_time(rate: int) -> None:
    made = resample(tone(1_000, rate, seconds=9.5), rate)
    assert abs(len(made) - 9.5 * RATE) <= 1
    wanted = tone(1_000, RATE, seconds=9.5)[: len(made)]
    inside = slice(1_600, len(made) - 1_600)
    np.testing.assert_allclose(made[inside], wanted[inside], atol=1e-3)


def test_what_16_khz_can_not_carry_is_taken_out() -> None:
    made = resample(tone(10_000, 48_000), 48_000)
    assert np.abs(made[1_600:-1_600]).max() < 1e-3


MASKS = {"5.1": 0x3F, "5.1(side)": 0x60F, "7.1": 0x63F, "quad": 0x33, "centre and low": 0xC}


@pytest.mark.parametrize("speakers", [None, *MASKS])
@pytest.mark.parametrize(("bits", "is_float"), [(16, False), (32, True)])
def test_channels_are_mixed_as_in_the_media_reader(
    bits: int, is_float: bool, speakers: str | None, tmp_path: Path
) -> None:
    mask = 0 if speakers is None else MASKS[speakers]
    count = mask.bit_count() or 6
    channels = 0.1 * np.random.default_rng(0).normal(size=(count, 11_025))
    path = write(
        tmp_path / "a.wav",
        channels,
        rate=11_025,
        bits=bits,
        is_float=is_float,
        extensible=mask > 0,
        mask=mask,
    )
    ours, theirs = read_wav(path).samples, read_audio(path)
    assert len(ours) == len(theirs) == RATE
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 8, 9])
def test_channels_without_loudspeakers_are_mixed_alike(count: int, tmp_path: Path) -> None:
    channels = np.zeros((count, RATE))
    channels[-1] = tone(300, RATE)
    path = write(tmp_path / "a.wav", channels, rate=RATE, bits=16)
    ours, theirs = read_wav(path).samples, read_audio(path)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    # the last of 5.1 and 7.1 is a surround, on one side of two
    front = 1 + 0.5**0.5
    share = {6: 0.5**0.5 / (front + 0.5**0.5) / 2, 8: 0.5**0.5 / (front + 2**0.5) / 2}
    wanted = share.get(count, 1 / count) * channels[-1]
    np.testing.assert_allclose(ours, wanted, atol=1e-4)


def test_the_centre_of_five_point_one_is_the_voice(tmp_path: Path) -> None:
    voice_part, music = tone(300, RATE), tone(2_000, RATE)
    low = tone(50, RATE, level=1.0)
    channels = np.stack([music, music, voice_part, low, 0 * low, 0 * low])
    path = write(tmp_path / "a.wav", channels, rate=RATE, bits=16)
    weight = 1 + 2 * 0.5**0.5
    wanted = (music + 0.5**0.5 * voice_part) / weight
    np.testing.assert_allclose(read_wav(path).samples, wanted, atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_414, 32_000, 44_100, 48_000, 192_000])
def test_every_rate_is_resampled_as_in_the_media_reader(rate: int, tmp_path: Path) -> None:
    left = voice("angry", seconds=2.0, sample_rate=rate)
    path = write(tmp_path / "a.wav", np.stack([left, 0.4 * left]), rate=rate, bits=24)
    ours, theirs = read_wav(path).samples, read_audio(path)
    assert 0 <= len(ours) - len(theirs) <= 1  # FFmpeg leaves out a last partial sample
    np.testing.assert_allclose(ours[: len(theirs)], theirs, atol=1e-5)
    array, _ = condition_samples(np.stack([left, 0.4 * left]), sample_rate=rate)
    np.testing.assert_allclose(array, theirs, atol=1e-5)


def test_channels_that_cancel_for_a_while_are_replaced_for_that_while(tmp_path: Path) -> None:
    signal = tone(300, RATE, seconds=4.0)
    sign = np.where(np.arange(len(signal)) < len(signal) // 2, 1, -1)
    path = write(tmp_path / "a.wav", np.stack([signal, sign * signal]), rate=RATE, bits=16)
    ours, theirs = read_wav(path).samples, read_audio(path)
    for part in (slice(0, 2 * RATE - 8_000), slice(2 * RATE + 8_000, None)):
        np.testing.assert_allclose(np.abs(ours[part]), np.abs(signal[part]), atol=1e-4)
        np.testing.assert_allclose(np.abs(theirs[part]), np.abs(signal[part]), atol=1e-4)


def test_channels_that_cancel_leave_the_louder_one(tmp_path: Path) -> None:
    signal = tone(300, RATE)
    audio = read_wav(
        write(tmp_path / "a.wav", np.stack([0.5 * signal, -signal * 0.52]), rate=RATE, bits=16)
    )
    np.testing.assert_allclose(audio.samples, -0.52 * signal, atol=1e-4)
    assert audio.notes == ("The channels cancel each other; the loudest was taken.",)
    mixed, cancelled = to_mono(np.stack([signal, np.zeros_like(signal)]))
    np.testing.assert_allclose(mixed, signal / 2)
    assert not cancelled


def test_floats_over_full_scale_are_scaled_and_broken_ones_set_to_0(tmp_path: Path) -> None:
    signal = 3 * tone(200, RATE, level=1.0)
    signal[100] = np.nan
    audio = read_wav(write(tmp_path / "a.wav", signal, rate=RATE, bits=32, is_float=True))
    assert audio.samples[100] == 0 and float(np.abs(audio.samples).max()) == pytest.approx(1, 1e-3)
    assert [note.split()[0] for note in audio.notes] == ["1", "The"]


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_short_and_empty_files_have_few_samples(seconds: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(100, 44_100, seconds=seconds), rate=44_100, bits=16)
    assert len(read_wav(path).samples) == round(seconds * RATE)


def test_what_is_no_wav_is_refused_in_one_sentence(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", tone(100, RATE), rate=RATE, bits=16).read_bytes()
    law = bytearray(good)
    law[good.index(b"fmt ") + 8] = 7  # mu-law
    cases = {
        "mp3.wav": (b"ID3" + bytes(100), "it is no wav file"),
        "empty.wav": (b"", "it is no wav file"),
        "head.wav": (good[:50], "damaged or it holds no samples"),
        "law.wav": (bytes(law), "legal is PCM of 8, 16, 24 or 32 bits, or floats"),
    }
    for name, (data, sentence) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=sentence) as error:
            read_wav(tmp_path / name)
        assert str(error.value).startswith("Bad clip") and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="check the path"):
        read_wav(tmp_path / "none.wav")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(good[:-1001])
    assert len(read_wav(cut).samples) == RATE - 501


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_an_offset_has_no_click_at_its_ends(rate: int) -> None:
    assert np.allclose(resample(np.full(rate // 2, 0.5), rate), 0.5, atol=1e-6)


@pytest.mark.parametrize("length", [0, 2**32 - 1])
def test_a_file_without_its_length_is_read_to_its_end(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, RATE), rate=RATE, bits=16)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[:place] + struct.pack("<I", length) + content[place + 4 :])
    audio = read_wav(path)
    assert np.allclose(audio.samples, tone(440, RATE), atol=1e-4) and audio.notes == ()


def test_a_file_that_is_cut_short_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, RATE), rate=RATE, bits=16)
    path.write_bytes(path.read_bytes()[: -RATE // 2])
    audio = read_wav(path)
    assert len(audio.samples) == RATE * 3 // 4 and "cut short" in audio.notes[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_file_of_which_most_is_no_sound_is_refused(bad: float, tmp_path: Path) -> None:
    samples = np.where(np.arange(RATE) % 4, bad, 0.1)
    path = write(tmp_path / "a.wav", samples, rate=RATE, bits=32, is_float=True)
    with pytest.raises(ValueError, match="12000 of 16000 samples are no numbers"):
        read_wav(path)


def test_a_rate_that_holds_no_speech_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1, 100), rate=100, bits=16)
    with pytest.raises(ValueError, match="it states 100 samples a second"):
        read_wav(path)
