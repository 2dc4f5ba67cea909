"""Offset, level and the test for sound are the same for every encoder, whole or step by step."""

import math

import pytest
import torch
from tiny_encoders import ENCODERS, STREAMS
from torch import Tensor

from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.frontends.conditioning import (
    HOP,
    Conditioning,
    Reach,
    condition,
    has_sound,
    is_sound,
    sound_evidence,
)
from avser.models.frontends.logmel import LogMel
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.testing.media import voice
from avser.types import STEP_SAMPLES

SECOND = 16_000
TIME = torch.arange(3 * SECOND) / SECOND


def sixteen_bits(wave: Tensor) -> Tensor:
    return (wave * 32768).round().clamp(-32768, 32767) / 32768


def speech(gain_db: float = 0.0) -> Tensor:
    """Synthetic speech of 3 s between half seconds of a faint room."""
    spoken = torch.from_numpy(voice("happy", speaker="a", seconds=2.0))
    room = 1e-4 * torch.randn(len(TIME), generator=torch.manual_seed(0))
    room[9_000 : 9_000 + len(spoken)] += spoken
    return 10 ** (gain_db / 20) * room


def hum(hz: float, *, harmonics: int = 1, level: float = 0.1) -> Tensor:
    waves = [torch.sin(2 * math.pi * hz * k * TIME + k) / k for k in range(1, harmonics + 1)]
    return level * torch.stack(waves).sum(dim=0)


def white(level: float) -> Tensor:
    return level * torch.randn(len(TIME), generator=torch.manual_seed(1))


def sounds(wave: Tensor) -> bool:
    return bool(has_sound(wave[None], torch.tensor([len(wave)])))


SOUND = {
    "speech": speech(),
    "speech at -20 dB": speech(-20),
    "speech at -40 dB, 16 bits": sixteen_bits(speech(-40)),
    "speech on an offset": speech() + 0.3,
    "quiet speech on an offset": sixteen_bits(speech(-40) + 0.2),
    "quiet speech in louder hum": speech(-20) + hum(50, level=0.05),
    "white noise at -30 dBFS": white(0.03),
    "a tone of 300 Hz": 0.3 * torch.sin(2 * math.pi * 300 * TIME),
}
NO_SOUND = {
    "silence": torch.zeros(SECOND),
    "a constant": torch.full((SECOND,), 0.27),
    "full scale": torch.ones(SECOND),
    "16-bit dither": sixteen_bits(white(1.2e-5)),
    "dither on a constant": sixteen_bits(white(1.2e-5) + 0.27),
    "50 Hz": hum(50),
    "60 Hz, loud": hum(60, level=0.9),
    "50 Hz, 16 bits": sixteen_bits(hum(50, level=0.01)),
    "faint 50 Hz, 16 bits": sixteen_bits(hum(50, level=0.002)),
    "hum with harmonics": hum(50, harmonics=6),
    "hum on an offset": hum(60, harmonics=4) + 0.2,
    "a faint room": white(1e-4),
    "a slow drift": torch.linspace(-0.5, 0.5, SECOND),
}


@pytest.mark.parametrize("kind", SOUND)
def test_speech_is_sound_however_quiet(kind: str) -> None:
    assert sounds(SOUND[kind])


@pytest.mark.parametrize("kind", NO_SOUND)
def test_what_carries_no_voice_is_no_sound(kind: str) -> None:
    assert not sounds(NO_SOUND[kind])


def test_the_edge_of_a_clip_is_no_sound() -> None:
    """An offset or hum that ends within a hop of 32 ms would look like a click."""
    for length in (SECOND, SECOND + 1, SECOND + 77, SECOND + HOP - 1):
        for wave in (torch.full((1, length), 0.3), hum(50)[None, :length]):
            padded = torch.nn.functional.pad(wave, (0, 9000))
            assert not has_sound(padded, torch.tensor([length])).any()


@pytest.mark.parametrize("kind", [*SOUND, *NO_SOUND])
def test_evidence_of_parts_adds_up(kind: str) -> None:
    wave = (SOUND | NO_SOUND)[kind]
    before = None
    for start in range(0, len(wave), STEP_SAMPLES):
        piece = wave[start : start + STEP_SAMPLES]
        before = sound_evidence(piece[None], torch.tensor([len(piece)]), before)
    assert before is not None
    assert bool(is_sound(before)) is (kind in SOUND)
    torch.testing.assert_close(before, sound_evidence(wave[None], torch.tensor([len(wave)])))


@pytest.mark.parametrize("mode", ["mean", "level"])
def test_a_conditioned_clip_has_no_offset_and_stays_zero_after_its_end(mode: Conditioning) -> None:
    wave = torch.stack([speech() + 0.2, speech(-30) - 0.1])[:, : 5 * STEP_SAMPLES]
    lengths = torch.tensor([5 * STEP_SAMPLES, 20_000])
    wave[1, 20_000:] = 0
    result, _ = condition(wave, lengths, mode=mode, reach="clip")
    assert result[0].mean().abs() < 1e-6 and result[1, :20_000].mean().abs() < 1e-6
    assert not result[1, 20_000:].any()
    loudest = [x.unfold(0, HOP, HOP).square().mean(dim=1).max().log10() * 10 for x in result]
    if mode == "level":
        assert [float(x) for x in loudest] == pytest.approx([-10, -10], abs=0.01)
    else:
        torch.testing.assert_close(result[0], wave[0] - wave[0].mean(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("reach", ["clip", "past", "step"])
def test_parts_of_a_stream_are_conditioned_as_the_whole(reach: Reach) -> None:
    wave = speech()[None, : 5 * STEP_SAMPLES] + 0.1
    whole, _ = condition(wave, torch.tensor([wave.shape[1]]), mode="level", reach=reach)
    if reach == "clip":
        longer = torch.nn.functional.pad(wave, (0, 2 * STEP_SAMPLES))
        padded, _ = condition(longer, torch.tensor([wave.shape[1]]), mode="level", reach=reach)
        assert torch.equal(padded[:, : wave.shape[1]], whole)
        return
    parts, before = [], torch.zeros(1, 3)
    for piece in wave.split(STEP_SAMPLES, dim=1):
        length = torch.tensor([STEP_SAMPLES])
        part, before = condition(piece, length, mode="level", reach=reach, before=before)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def test_a_stream_does_not_lift_a_quiet_beginning_to_the_level_of_speech() -> None:
    wave = speech()[None, : 5 * STEP_SAMPLES]
    length = torch.tensor([wave.shape[1]])
    result, _ = condition(wave, length, mode="level", reach="past")
    quiet = slice(0, SECOND // 4)
    assert result[0, quiet].abs().max() <= 10.1 * wave[0, quiet].abs().max()


@pytest.mark.parametrize(
    "kind", sorted({*ENCODERS} - {"pooled steps"}) + ["stream " + k for k in STREAMS]
)
def test_an_offset_changes_no_vector(kind: str) -> None:
    torch.manual_seed(0)
    stream = kind.removeprefix("stream ")
    encoder: AudioEncoder = (STREAMS[stream] if stream != kind else ENCODERS[kind])().eval()
    wave = speech()[None, : 4 * STEP_SAMPLES]
    length = torch.tensor([wave.shape[1]])
    with torch.no_grad():
        plain, mask = encoder(wave, length)
        shifted, shifted_mask = encoder(wave + 0.05, length)
    assert torch.equal(mask, shifted_mask)
    torch.testing.assert_close(shifted, plain, atol=2e-2, rtol=2e-2)


def test_level_changes_no_prediction_of_a_levelled_encoder() -> None:
    torch.manual_seed(0)
    encoder = CrnnEncoder(
        frontend=LogMel(hop=512, n_fft=512),
        normalise="none",
        conditioning="level",
        channels=(4, 4, 4, 4),
        hidden=8,
    )
    net = EmotionNet(audio=encoder, head=AttentiveHead(hidden=8), emotions=("a", "b")).eval()
    wave, length = speech()[None], torch.tensor([len(TIME)])
    with torch.no_grad():
        expected, _, mask = net.audio_branch()(wave, length)
        for gain in (0.1, 0.01, 3.0):
            result, _, there = net.audio_branch()(gain * wave, length)
            torch.testing.assert_close(result, expected, atol=1e-3, rtol=0)
            assert torch.equal(there, mask) and there.any()
