"""Augmentation on the device, batch by batch, with soft labels where clips are mixed."""

import itertools
import math
from typing import Self
from zlib import crc32

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.media.degradations import Degrade
from avser.training.mixup import Mixup
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Batch, steps_of

WINDOW, HOP = 1024, 256  # of the phase vocoder: 64 ms, two periods of a low voice


def _uniform(size: int, low: float, high: float, like: Tensor) -> Tensor:
    return torch.rand(size, device=like.device) * (high - low) + low


def change_speed(waveform: Tensor, lengths: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Change pitch and tempo of each clip together, by linear interpolation.

    Args:
        waveform: ``[B, S]``.
        lengths: ``[B]``.
        rate: ``[B]``; 2 is twice as fast.

    Returns:
        ``[B, S']`` and ``[B]``.
    """
    new = (lengths / rate).long()
    out = torch.arange(int(new.max()), device=waveform.device)
    position = out * rate[:, None]
    left = position.long().clamp(max=waveform.shape[1] - 1)
    right = (left + 1).clamp(max=waveform.shape[1] - 1)
    part = (position - left).clamp(0, 1).to(waveform.dtype)
    result = waveform.gather(1, left) * (1 - part) + waveform.gather(1, right) * part
    return result * (out < new[:, None]), new


def change_pitch_and_tempo(
    waveform: Tensor, lengths: Tensor, *, semitones: float, tempo: float
) -> tuple[Tensor, Tensor]:
    """Shift the pitch and scale the tempo independently, with a phase vocoder.

    The result is cut at the end of a clip's last step of 0.512 s, so that a chunk stays a chunk.

    Args:
        waveform: ``[B, S]``.
        lengths: ``[B]``.
        semitones: pitch shift; formants are shifted too.
        tempo: factor; 2 is twice as fast.

    Returns:
        ``[B, S']`` and ``[B]``.
    """
    factor = 2 ** (semitones / 12)
    # the vocoder stretches by 1 / rate; changing the speed by the factor then gives the tempo
    rate = tempo / factor
    window = torch.hann_window(WINDOW, device=waveform.device)
    spectrum = torch.stft(
        waveform, WINDOW, HOP, window=window, return_complex=True, pad_mode="constant"
    )
    advance = torch.linspace(0, math.pi * HOP, WINDOW // 2 + 1, device=waveform.device)[:, None]
    stretched = torchaudio.functional.phase_vocoder(spectrum, rate, advance)
    longest = max(1, round(waveform.shape[1] / rate))
    wave = torch.istft(stretched, WINDOW, HOP, window=window, length=longest)
    even = torch.full((len(wave),), factor, device=wave.device)
    wave, _ = change_speed(wave, (lengths / rate).ceil().long(), even)
    room = -(-lengths // STEP_SAMPLES) * STEP_SAMPLES
    new = torch.minimum((lengths / tempo).long(), room).clamp(max=wave.shape[1])
    wave = wave[:, : max(1, int(new.max()))]
    inside = torch.arange(wave.shape[1], device=wave.device) < new[:, None]
    return wave * inside, new


class Augment(nn.Module):
    """SpecAugment, mixup, time shift, speed, pitch, noise and gain; each off at 0.

    Call it on a batch, pass `spectrogram` to the network (`Transforms`), and train on the soft
    labels of `labels`.

    Args:
        enabled: False turns everything off.
        semitones, tempos: pitch shifts and tempo factors, of which one each is drawn for every
            clip, independently (`change_pitch_and_tempo`). Empty changes nothing.
        speed: speed factor drawn from 1 ± speed (pitch and tempo together).
        shift_s: silence of up to this many seconds before a clip.
        gain_db: level drawn from ± gain_db.
        noise_snr_db: white noise at an SNR drawn from this to this + 30 dB, for half the clips;
            None for no noise.
        pitch: frequency axis scaled by a factor from 1 ± pitch (pitch and formants; on a mel axis
            an approximation in the manner of vocal tract length perturbation, Jaitly & Hinton
            2013).
        stretch: time axis scaled by a factor from 1 ± stretch, pitch kept.
        frequency_masks, frequency_width: SpecAugment (Park et al. 2019): masks and the largest
            share of rows that each takes.
        time_masks, time_width: the same for frames of each clip.
        mixup: Beta parameter of mixup (Zhang et al. 2018) between spectrograms.
        degrade: rooms, noise, telephones and more, after speed and pitch; babble is mixed from the
            batch's other clips. None for none.
        seed: of the degradations, which depend on it, the clip's name and the epoch alone.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        semitones: tuple[float, ...] = (),
        tempos: tuple[float, ...] = (),
        speed: float = 0.1,
        shift_s: float = 0.0,
        gain_db: float = 3.0,
        noise_snr_db: float | None = None,
        pitch: float = 0.1,
        stretch: float = 0.1,
        frequency_masks: int = 2,
        frequency_width: float = 0.12,
        time_masks: int = 2,
        time_width: float = 0.15,
        mixup: float = 0.2,
        degrade: Degrade | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(tempos, default=1.0) <= 0:
            raise ConfigError(f"Bad tempos {list(tempos)}: legal is more than 0.")
        self.enabled = enabled
        self.semitones, self.tempos = tuple(semitones) or (0.0,), tuple(tempos) or (1.0,)
        self.speed, self.shift_s, self.gain_db = speed, shift_s, gain_db
        self.noise_snr_db, self.pitch, self.stretch = noise_snr_db, pitch, stretch
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width = time_masks, time_width
        self.mixup, self.degrade, self.seed = mixup, degrade, seed
        self._mixup = Mixup(mixup if enabled else 0.0)
        self._wide: Tensor | None = None
        self._rate: Tensor | None = None
        self._delay: Tensor | None = None

    def forward(self, batch: Batch, *, epoch: int, video: bool) -> None:
        """Augment the sound of a batch in place.

        Args:
            batch: is changed.
            epoch: of the training; each draws other degradations.
            video: whether faces and features are moved with the sound.
        """
        self.draw(len(batch["lengths"]), batch["waveform"])
        batch["waveform"], batch["lengths"] = self.waveform(batch["waveform"], batch["lengths"])
        if self.enabled and self.degrade is not None:
            self._degrade(batch, self.degrade, epoch=epoch)
        if video:
            self.move_video(batch)

    @property
    def changes_sound(self) -> bool:
        """Whether samples are changed, and not only the spectrogram."""
        amounts = (self.speed, self.shift_s, self.gain_db)
        recast = len(self.semitones) * len(self.tempos) > 1
        added = self.noise_snr_db is not None or self.degrade is not None
        return self.enabled and (any(amounts) or recast or added)

    def draw(self, size: int, like: Tensor) -> Self:
        """Draw the mixup partners and shares and the time scales for a batch of ``size``."""
        self._wide = self._rate = self._delay = None
        if self.enabled and self.stretch > 0:
            self._wide = _uniform(size, 1 - self.stretch, 1 + self.stretch, like)
        self._mixup.draw(size, like)
        return self

    def labels(self, target: Tensor) -> Tensor:
        """Mix soft labels ``[B, K]`` as the batch's spectrograms are mixed."""
        return self._mixup.mix(target)

    def waveform(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Change ``[B, S]`` and ``[B]``: pitch and tempo, speed, shift, noise, gain."""
        if not self.enabled or not waveform.shape[1]:
            return waveform, lengths
        size = len(waveform)
        self._rate = waveform.new_ones(size)
        if len(self.semitones) * len(self.tempos) > 1:
            waveform, lengths = self._recast(waveform, lengths)
        if self.speed > 0:
            rate = _uniform(size, 1 - self.speed, 1 + self.speed, waveform)
            waveform, lengths = change_speed(waveform, lengths, rate)
            self._rate = self._rate * rate
        if self.shift_s > 0:
            waveform, lengths = self._shift(waveform, lengths)
        valid = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        if self.noise_snr_db is not None:
            power = waveform.square().sum(dim=1) / lengths.clamp(min=1)
            snr = _uniform(size, self.noise_snr_db, self.noise_snr_db + 30, waveform)
            scale = (power / 10 ** (snr / 10)).sqrt() * (torch.rand_like(power) < 0.5)
            waveform = waveform + torch.randn_like(waveform) * scale[:, None] * valid
        if self.gain_db > 0:
            gain = 10 ** (_uniform(size, -self.gain_db, self.gain_db, waveform) / 20)
            waveform = (waveform * gain[:, None]).clamp(-1, 1)
        return waveform, lengths

    def _degrade(self, batch: Batch, degrade: Degrade, *, epoch: int) -> None:
        """Degrade each clip's samples; lengths stay.

        Computed by numpy on the CPU, some milliseconds a clip.

        Args:
            batch: its ``waveform`` is replaced.
            degrade: draws and applies the degradations.
            epoch: of the training; each draws others.
        """
        waveform, lengths = batch["waveform"], batch["lengths"].tolist()
        if not any(lengths):
            return
        waves = [row[:length].numpy() for row, length in zip(waveform.cpu(), lengths, strict=True)]
        result = torch.zeros(waveform.shape)
        for index, (wave, name) in enumerate(zip(waves, batch["clip_id"], strict=True)):
            if len(wave):
                rng = np.random.default_rng([self.seed, epoch, crc32(name.encode())])
                others = [other for i, other in enumerate(waves) if i != index and len(other)]
                changed = degrade(wave, rng, others)
                result[index, : len(wave)] = torch.from_numpy(np.ascontiguousarray(changed))
        batch["waveform"] = result.to(waveform)

    def _recast(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a pitch and a tempo for each clip."""
        kinds = list(itertools.product(self.semitones, self.tempos))
        drawn = torch.randint(len(kinds), (len(waveform),), device=waveform.device)
        longest = waveform.shape[1] + -waveform.shape[1] % STEP_SAMPLES
        out, new = waveform.new_zeros(len(waveform), longest), lengths.clone()
        for index, (semitones, tempo) in enumerate(kinds):
            rows = (drawn == index).nonzero().squeeze(1)
            wave, count = waveform[rows], lengths[rows]
            if len(rows) and (semitones, tempo) != (0.0, 1.0):
                wave, count = change_pitch_and_tempo(wave, count, semitones=semitones, tempo=tempo)
            out[rows, : wave.shape[1]] = wave
            new[rows] = count
            if self._rate is not None:
                self._rate[rows] = tempo
        return out[:, : max(1, int(new.max()))], new

    def _shift(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        most = int(self.shift_s * SAMPLE_RATE)
        shift = torch.randint(0, most + 1, (len(waveform), 1), device=waveform.device)
        self._delay = shift.squeeze(1)
        padded = F.pad(waveform, (0, most))
        index = torch.arange(padded.shape[1], device=waveform.device) - shift
        moved = padded.gather(1, index.clamp(min=0)) * (index >= 0)
        return moved, lengths + shift.squeeze(1) * (lengths > 0)

    def move_video(self, batch: Batch) -> None:
        """Move faces and features of a batch as `waveform` and `spectrogram` move its sound.

        Each step gets the faces of the sound in its middle; steps outside the clip are invalid.
        """
        if not self.enabled or self._rate is None:
            return
        rate, waveform = self._rate, batch["waveform"]
        wide = torch.ones_like(rate) if self._wide is None else self._wide
        delay = torch.zeros_like(rate) if self._delay is None else self._delay.to(rate)
        steps = torch.arange(max(1, steps_of(waveform.shape[1])), device=rate.device)
        middle = (steps + 0.5) * STEP_SAMPLES * wide[:, None]
        source = ((middle - delay[:, None]) * rate[:, None] / STEP_SAMPLES).floor().long()
        row = torch.arange(len(rate), device=rate.device)[:, None]
        for name, fill in (("faces", 0), ("face_mask", False), ("video_features", torch.nan)):
            x: Tensor = batch[name]  # type: ignore[literal-required]
            inside = (source >= 0) & (source < x.shape[1])
            if not x.numel():
                shape = (x.shape[0], len(steps), *x.shape[2:])
                batch[name] = x.new_zeros(shape)  # type: ignore[literal-required]
                continue
            moved = x[row, source.clamp(0, x.shape[1] - 1)]
            moved[~inside] = fill
            batch[name] = moved  # type: ignore[literal-required]

    def spectrogram(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Change ``features [B, C, M, F]`` and ``mask [B, F]``: warp, mask out, mix."""
        if not self.enabled:
            return features, mask
        size, _, rows, frames = features.shape
        if self.pitch > 0 or self.stretch > 0:
            up = _uniform(size, 1 - self.pitch, 1 + self.pitch, features)
            wide = self._wide  # drawn with the batch, because faces move with it
            if wide is None:
                wide = _uniform(size, 1 - self.stretch, 1 + self.stretch, features)
            theta = features.new_zeros(size, 2, 3)
            # both scalings hold the origin (lowest row, first frame) in place
            theta[:, 0, 0], theta[:, 0, 2] = wide, wide - 1
            theta[:, 1, 1], theta[:, 1, 2] = up, up - 1
            grid = F.affine_grid(theta, [size, 1, rows, frames], align_corners=False)
            features = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
            source = (torch.arange(frames, device=mask.device) + 0.5) * wide[:, None]
            inside = source < frames
            mask = mask.gather(1, source.long().clamp(max=frames - 1)) & inside
            features = features * mask[:, None, None, :].to(features.dtype)
        keep = features.new_ones(size, 1, rows, frames)
        for _ in range(self.frequency_masks):
            all_rows = torch.full_like(keep[:, 0, 0, 0], rows)
            hole = self._hole(rows, self.frequency_width * rows, all_rows, first=0)
            keep = keep * hole[:, None, :, None]
        count = mask.sum(dim=1).to(features.dtype)
        first = mask.int().argmax(dim=1)  # frames before it are silence
        for _ in range(self.time_masks):
            hole = self._hole(frames, self.time_width * count, count, first=first)
            keep = keep * hole[:, None, None, :]
        features = features * keep
        if self._mixup.partner is not None:
            features = self._mixup.mix(features)
            mask = mask | mask[self._mixup.partner]
        return features, mask

    @staticmethod
    def _hole(
        length: int, widest: Tensor | float, within: Tensor, *, first: Tensor | int
    ) -> Tensor:
        """Ones ``[B, length]`` with a run of zeros, at most ``widest`` long, from ``first`` on."""
        width = torch.rand_like(within) * widest
        start = first + torch.rand_like(within) * (within - width)
        index = torch.arange(length, device=within.device)
        inside = (index >= start[:, None]) & (index < (start + width)[:, None])
        return (~inside).to(within.dtype)
