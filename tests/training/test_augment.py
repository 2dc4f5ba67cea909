import numpy as np
import pytest
import torch
from torch import Tensor

from avser.errors import ConfigError
from avser.media.degradations import Degrade
from avser.training.augment import Augment, change_pitch_and_tempo, change_speed
from avser.types import STEP_SAMPLES as STEP
from avser.types import audio_batch

OFF = {
    "speed": 0.0,
    "gain_db": 0.0,
    "pitch": 0.0,
    "stretch": 0.0,
    "frequency_masks": 0,
    "time_masks": 0,
    "mixup": 0.0,
}


def only(**settings: float) -> Augment:
    """Everything off but what is named."""
    return Augment(**(OFF | settings))  # type: ignore[arg-type]


def tones(hz: float, *lengths: int) -> tuple[Tensor, Tensor]:
    """Sines, padded to the longest."""
    size = torch.tensor(lengths)
    index = torch.arange(max(lengths))
    wave = 0.5 * torch.sin(2 * torch.pi * hz * index / 16000)
    return wave * (index < size[:, None]), size


def peak_hz(wave: Tensor) -> float:
    spectrum = np.abs(np.fft.rfft(wave.numpy() * np.hanning(len(wave)), 1 << 17))
    return float(spectrum.argmax() * 16000 / (1 << 17))


def features(*frames: int, rows: int = 16, size: int = 64) -> tuple[Tensor, Tensor]:
    """Positive features and the mask of clips of so many frames."""
    mask = torch.arange(size) < torch.tensor(frames)[:, None]
    return (torch.rand(len(frames), 2, rows, size) + 0.5) * mask[:, None, None], mask


# -- off -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [Augment(enabled=False, noise_snr_db=0, shift_s=1), only()])
def test_switched_off_it_changes_nothing(augment: Augment) -> None:
    wave, lengths = tones(440, 16000, 9000)
    augment.draw(2, wave)
    changed, counts = augment.waveform(wave, lengths)
    assert torch.equal(changed, wave) and torch.equal(counts, lengths)
    x, mask = features(64, 30)
    warped, kept = augment.spectrogram(x, mask)
    assert torch.equal(warped, x) and torch.equal(kept, mask)
    target = torch.eye(2)
    assert torch.equal(augment.labels(target), target)


def test_one_seed_gives_the_same_batch() -> None:
    augment = Augment(noise_snr_db=5, shift_s=0.1)
    wave, lengths = tones(440, 16000, 9000)
    x, mask = features(64, 30)

    def once(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        augment.draw(2, wave)
        return [
            *augment.waveform(wave, lengths),
            *augment.spectrogram(x, mask),
            augment.labels(torch.eye(2)),
        ]

    assert all(torch.equal(a, b) for a, b in zip(once(1), once(1), strict=True))
    assert not torch.equal(once(1)[2], once(2)[2])


def test_degradations_follow_from_clip_and_epoch() -> None:
    wave, lengths = tones(440, 16000, 9000)
    degrade = Degrade(noise=1.0, room=0.5, codec=0.0, snr_db=(10.0, 20.0))

    def once(names: list[str], *, epoch: int, rows: list[int]) -> Tensor:
        batch = audio_batch(wave[rows], lengths[rows], clip_id=names)
        augment = Augment(**OFF, degrade=degrade, seed=3)  # type: ignore[arg-type]
        augment(batch, epoch=epoch, video=False)
        assert torch.equal(batch["lengths"], lengths[rows])
        return batch["waveform"]

    first = once(["a", "b"], epoch=0, rows=[0, 1])
    assert torch.equal(first, once(["a", "b"], epoch=0, rows=[0, 1]))
    assert not first[1, 9000:].any() and not torch.equal(first, wave)
    assert not torch.equal(first[0], once(["a", "b"], epoch=1, rows=[0, 1])[0])
    assert not torch.equal(first[0], once(["c", "b"], epoch=0, rows=[0, 1])[0])
    plain = audio_batch(wave, lengths, clip_id=["a", "b"])
    Augment(enabled=False, degrade=degrade)(plain, epoch=0, video=True)
    Augment(**OFF)(plain, epoch=0, video=False)  # type: ignore[arg-type]
    assert torch.equal(plain["waveform"], wave)


# -- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch_together(rate: float) -> None:
    wave, lengths = tones(440, 16000, 8000)
    faster, counts = change_speed(wave, lengths, torch.tensor([rate, rate]))
    assert counts.tolist() == pytest.approx([16000 / rate, 8000 / rate], abs=1)
    assert faster.shape == (2, int(counts.max()))
    for row, count in zip(faster, counts.tolist(), strict=True):
        assert peak_hz(row[:count]) == pytest.approx(440 * rate, abs=1)
        assert not row[count:].any()


def test_every_clip_draws_its_own_speed_within_the_range() -> None:
    wave, lengths = tones(440, *[16000] * 64)
    _, counts = only(speed=0.1).waveform(wave, lengths)
    assert len(set(counts.tolist())) > 32
    assert 16000 / 1.1 - 1 <= counts.min() < 15200 and 16900 < counts.max() <= 16000 / 0.9


def test_shift_puts_silence_before_the_clip() -> None:
    wave, lengths = tones(440, *[9000] * 32)
    wave, lengths = wave.clone() + 0.1, lengths
    moved, counts = only(shift_s=0.25).waveform(wave, lengths)
    shifts = (counts - lengths).tolist()
    assert 0 <= min(shifts) < max(shifts) <= 4000
    for row, before, shift in zip(moved, wave, shifts, strict=True):
        assert not row[:shift].any() and not row[shift + 9000 :].any()
        assert torch.equal(row[shift : shift + 9000], before)
    silent, none = only(shift_s=0.25).waveform(torch.zeros(1, 100), torch.tensor([0]))
    assert none.tolist() == [0] and not silent.any()  # no sound stays no sound


def test_noise_has_the_stated_level_for_half_the_clips() -> None:
    wave, lengths = tones(440, *[16000] * 100, 32000)
    noisy, counts = only(noise_snr_db=10.0).waveform(wave, lengths)
    noise = (noisy - wave)[:100]
    assert torch.equal(counts, lengths) and not noise[:, 16000:].any()  # none on padding
    touched = noise.abs().amax(dim=1) > 0
    assert 30 <= int(touched.sum()) <= 70
    power = wave[:100, :16000].square().mean(dim=1) / noise[:, :16000].square().mean(dim=1)
    snr = 10 * torch.log10(power[touched])
    assert snr.min() > 9.8 and snr.max() < 40.2 and snr.max() - snr.min() > 15


def test_gain_changes_level_alone_and_never_clips_round() -> None:
    wave, lengths = tones(440, *[8000] * 64)
    louder, _ = only(gain_db=6.0).waveform(wave, lengths)
    gain = 20 * torch.log10(louder.abs().amax(dim=1) / wave.abs().amax(dim=1))
    assert gain.min() < -4 and gain.max() > 4 and gain.abs().max() < 6.01
    for row, before, db in zip(louder, wave, gain, strict=True):
        torch.testing.assert_close(row, (before * 10 ** (db / 20)).clamp(-1, 1))


# -- spectrograms --------------------------------------------------------------------------------


def test_masks_lie_inside_the_valid_frames() -> None:
    x, mask = features(*[40] * 50)
    masked, kept = only(time_masks=1, time_width=0.25).spectrogram(x, mask)
    assert torch.equal(kept, mask)
    lost = (masked == 0).all(dim=2).all(dim=1) & mask
    counts = lost.sum(dim=1)
    assert 0 < counts.max() <= 0.25 * 40 + 1 and len(set(counts.tolist())) > 4
    untouched = (masked == x) | lost[:, None, None, :]
    assert untouched.all()  # whole frames go, the others stay as they were
    for row in lost:
        where = torch.nonzero(row)[:, 0]
        assert len(where) == 0 or int(where[-1] - where[0]) == len(where) - 1  # one run
    first, last = torch.nonzero(lost.any(dim=0))[[0, -1], 0].tolist()
    assert first < 4 and last >= 36  # anywhere in the clip


def test_masks_are_not_spent_on_the_silence_before_a_clip() -> None:
    x, mask = features(*[60] * 50)
    mask[:, :20] = False
    masked, _ = only(time_masks=1, time_width=0.25).spectrogram(x, mask)
    lost = (masked != x).any(dim=2).any(dim=1).any(dim=0)
    first, last = torch.nonzero(lost)[[0, -1], 0].tolist()
    assert 20 <= first < 24 and last >= 56


def test_frequency_masks_take_whole_rows() -> None:
    x, mask = features(*[64] * 40)
    masked, _ = only(frequency_masks=1, frequency_width=0.25).spectrogram(x, mask)
    lost = (masked == 0).all(dim=3).all(dim=1)
    assert ((masked == x) | lost[:, None, :, None]).all()
    assert 0 < lost.sum(dim=1).max() <= 0.25 * 16 + 1


def test_labels_mix_as_spectrograms_mix() -> None:
    augment = only(mixup=0.4)
    x, mask = features(64, 40, 20, 50)
    target = torch.eye(4)
    augment.draw(4, x)
    mixed, kept = augment.spectrogram(x, mask)
    labels = augment.labels(target)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(4))
    assert (labels >= 0).all() and not torch.equal(labels, target)
    # one-hot labels of distinct clips are the shares themselves
    torch.testing.assert_close(mixed, torch.einsum("bk,kcmf->bcmf", labels, x))
    assert torch.equal(kept, ((labels > 0).float() @ mask.float()) > 0)
    assert (labels.diagonal() >= 0.5).all()  # a clip stays the larger part of itself


def test_a_batch_of_one_is_not_mixed_and_the_last_draw_is_forgotten() -> None:
    augment = only(mixup=0.4)
    x, mask = features(64, 40)
    augment.draw(2, x)
    augment.draw(1, x[:1])
    mixed, _ = augment.spectrogram(x[:1], mask[:1])
    assert torch.equal(mixed, x[:1]) and torch.equal(augment.labels(torch.eye(2)), torch.eye(2))


def test_stretch_moves_the_end_of_the_clip_and_pitch_moves_rows() -> None:
    x, mask = features(*[32] * 40)
    stretched, kept = only(stretch=0.2).spectrogram(x, mask)
    counts = kept.sum(dim=1)
    assert 32 / 1.2 - 1 <= counts.min() < 30 and 34 < counts.max() <= 32 / 0.8 + 1
    assert not (stretched * ~kept[:, None, None]).any()
    line = torch.zeros(40, 1, 32, 16)
    line[:, :, 16] = 1.0
    higher, whole = only(pitch=0.2).spectrogram(line, torch.ones(40, 16, dtype=torch.bool))
    rows = higher.mean(dim=3)[:, 0].argmax(dim=1)
    assert whole.all() and rows.min() < 15 and rows.max() > 17
    assert 16 / 1.2 - 1 <= rows.min() and rows.max() <= 16 / 0.8 + 1


# -- nine versions -------------------------------------------------------------------------------


def pulses(hz: float, samples: int = 24_576) -> torch.Tensor:
    """A tone whose level beats four times a second."""
    time = torch.arange(samples) / 16_000
    return 0.3 * (torch.sin(6.2832 * hz * time) * (1 + torch.cos(6.2832 * 4 * time)) / 2)[None]


def beats_hz(wave: torch.Tensor) -> float:
    """How often a second the level beats."""
    level = wave[0, : wave.shape[1] // 64 * 64].square().view(-1, 64).mean(dim=1)
    result = torch.fft.rfft((level - level.mean()) * torch.hann_window(len(level)), 8192).abs()
    return float(result.argmax()) * 250 / 8192


@pytest.mark.parametrize(
    ("semitones", "tempo"), [(2.0, 1.0), (-2.0, 1.0), (0.0, 0.9), (2.0, 1.1), (-3.0, 0.8)]
)
def test_pitch_and_tempo_change_apart_from_each_other(semitones: float, tempo: float) -> None:
    wave, lengths = change_pitch_and_tempo(
        pulses(440), torch.tensor([24_576]), semitones=semitones, tempo=tempo
    )
    assert peak_hz(wave[0]) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)
    assert beats_hz(wave) == pytest.approx(4 * tempo, rel=0.03)
    assert int(lengths) == pytest.approx(min(24_576, 24_576 / tempo), abs=2)


def test_a_chunk_stays_a_chunk_and_its_padding_empty() -> None:
    wave = torch.zeros(3, 8192)
    wave[0], wave[1, :5000] = pulses(300, 8192), pulses(300, 5000)
    lengths = torch.tensor([8192, 5000, 0])
    slow, new = change_pitch_and_tempo(wave, lengths, semitones=0.0, tempo=0.8)
    assert new.tolist() == [8192, 6250, 0] and slow.shape == (3, 8192)
    assert not slow[1, 6250:].any() and not slow[2].any()
    fast, new = change_pitch_and_tempo(wave, lengths, semitones=1.0, tempo=1.25)
    assert new.tolist() == [6553, 4000, 0] and not fast[0, 6553:].any()


def test_each_clip_comes_in_one_of_nine_versions() -> None:
    off = {"speed": 0.0, "gain_db": 0.0, "mixup": 0.0}
    augment = Augment(semitones=(-2.0, 0.0, 2.0), tempos=(0.9, 1.0, 1.1), **off)
    torch.manual_seed(0)
    wave, lengths = pulses(440).expand(60, -1), torch.full((60,), 20_000)
    changed, new = augment.waveform(wave, lengths)
    kinds = {(round(peak_hz(w[:18_000]) / 20), int(n)) for w, n in zip(changed, new, strict=True)}
    rounded = {(hz, round(n, -1)) for hz, n in kinds}
    assert {n for _, n in rounded} == {18_180, 20_000, 22_220} and len(rounded) == 9
    same, whole = Augment(**off).waveform(wave, lengths)
    assert torch.equal(same, wave) and torch.equal(whole, lengths)
    with pytest.raises(ConfigError, match="Bad tempos"):
        Augment(tempos=(0.0,))


def test_faces_move_with_the_sound() -> None:
    """At the time of an event at 3.5 s, its own step is shown, or the next to it."""
    steps, size, event = 12, 64, 56_000
    wave = torch.zeros(size, steps * STEP)
    wave[:, event : event + 400] = 0.5
    number = torch.arange(steps).expand(size, -1)
    batch = audio_batch(wave, torch.full((size,), steps * STEP))
    batch["video_features"] = number[..., None].float()
    batch["faces"] = number[..., None, None, None, None].expand(-1, -1, 2, 1, 4, 4).byte()
    batch["face_mask"] = torch.ones(size, steps, 2, dtype=torch.bool)
    torch.manual_seed(0)
    augment = only(speed=0.1, shift_s=0.6, stretch=0.1)
    augment(batch, epoch=0, video=True)
    assert augment._wide is not None
    at = (batch["waveform"].abs().argmax(dim=1) / augment._wide / STEP).long()
    assert len(at.unique()) >= 3  # without moving, the step would be off by up to two
    row = torch.arange(size)
    shown = batch["video_features"][row, at, 0]
    assert (shown - event // STEP).abs().max() <= 1
    assert torch.equal(batch["faces"][row, at, 0, 0, 0, 0].float(), shown)
    inside = ~batch["video_features"][..., 0].isnan()
    assert torch.equal(batch["face_mask"][..., 0], inside) and not inside.all()
    assert inside.shape[1] == -(-batch["waveform"].shape[1] // STEP)
