"""A network over cuts of clips: batches, windows, and what their answers say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avser.data.dataset import audio_batch
from avser.errors import SignalError
from avser.inference.windows import WINDOW_STEPS, WindowSpan, named, timeline, windows
from avser.media.clip import ClipCut, LoadedClip, face_cut, load_clip
from avser.media.faces import FaceTrack
from avser.models.net import HEADS, EmotionNet
from avser.types import (
    SAMPLE_RATE,
    STEP_SAMPLES,
    Batch,
    FaceBox,
    FaceResult,
    Prediction,
    TimelineEntry,
)

BATCH_CLIPS = 16
_BATCH_STEPS = 2 * WINDOW_STEPS  # of one forward pass, padding included: bounds memory


@dataclass(frozen=True)
class ClipResult:
    """What a clip's pieces say together; without signal only ``heads`` is there, and empty."""

    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    timeline: tuple[TimelineEntry, ...] = ()
    heads: frozenset[str] = field(default_factory=frozenset)


def combine_windows(
    names: Sequence[str], pieces: Sequence[WindowSpan], duration_s: float
) -> ClipResult:
    """Join the pieces of a clip: one piece's own answer, or the mean of the steps of several."""
    heads = frozenset(HEADS[p.used] for p in pieces if p.used >= 0)
    if not heads:
        return ClipResult()
    steps, mask = torch.cat([p.steps for p in pieces]), torch.cat([p.mask for p in pieces])
    clip = pieces[0].probabilities if len(pieces) == 1 else steps[mask].mean(dim=0)
    return ClipResult(
        names[int(clip.argmax())],
        named(names, clip),
        tuple(timeline(names, steps, mask, duration_s)),
        heads,
    )


class Runner:
    """Answers cuts with one network.

    Args:
        net: in evaluation mode.
        device: where it is.
        reference: of an enrolled voice, ``[2, C, M]``, or None.
    """

    def __init__(
        self, net: EmotionNet, device: torch.device, *, reference: Tensor | None = None
    ) -> None:
        self.net, self.device, self.reference = net, device, reference

    def enrol(self, files: Sequence[str | Path]) -> None:
        """Take the voice's statistics of one speaker's files, a minute of each.

        Raises:
            SignalError: the files hold no sound.
        """
        audio = self.net.audio
        waves = []
        for path in files:
            with load_clip(path) as found:
                waves.append(found.sound.cut(0, WINDOW_STEPS * STEP_SAMPLES).copy())
        heard = [torch.from_numpy(wave)[None].to(self.device) for wave in waves if len(wave)]
        if audio is None or not heard:
            raise SignalError("Bad --enrol: its files hold no sound; give some that do.")
        self.reference = audio.reference((w, torch.tensor([w.shape[1]])) for w in heard)

    @torch.inference_mode()
    def run(self, cuts: Sequence[ClipCut], *, head: str | None = None) -> list[WindowSpan]:
        """Answer cuts of at most a window each, in batches of like length.

        Args:
            cuts: to answer.
            head: that is to answer alone, or None for the one that the net chooses.
        """
        order = sorted(range(len(cuts)), key=lambda i: cuts[i].steps)
        pieces: dict[int, WindowSpan] = {}
        while order:
            longest = cuts[order[-1]].steps
            size = min(BATCH_CLIPS, max(1, _BATCH_STEPS // longest))
            part, order = order[-size:], order[:-size]
            streams = self.net(self._batch([cuts[i] for i in part]))
            if head is not None:
                streams = {head: streams[head]}
            answer = self.net.answer(streams)
            for row, i in enumerate(part):
                steps = cuts[i].steps
                pieces[i] = WindowSpan(
                    answer.probabilities[row].cpu(),
                    answer.step_probabilities[row, :steps].cpu(),
                    answer.mask[row, :steps].cpu(),
                    int(answer.used[row]),
                )
        return [pieces[i] for i in range(len(cuts))]

    def _batch(self, cuts: Sequence[ClipCut]) -> Batch:
        lengths = torch.tensor([len(c.samples) for c in cuts])
        # as long as the longest stream: every row of an answer has the same steps
        waveform = torch.zeros(len(cuts), max(c.steps for c in cuts) * STEP_SAMPLES)
        for row, cut in zip(waveform, cuts, strict=True):
            row[: len(cut.samples)] = torch.from_numpy(np.ascontiguousarray(cut.samples))
        batch = audio_batch(waveform.to(self.device), lengths.to(self.device))
        if any(c.faces is not None for c in cuts):
            batch["faces"], batch["face_mask"] = self._faces(cuts)
        if any(c.features is not None for c in cuts):
            batch["video_features"] = self._features(cuts)
        if self.reference is not None:
            batch["speaker_statistics"] = self.reference.expand(len(cuts), -1, -1, -1).to(
                self.device
            )
        return batch

    def _faces(self, cuts: Sequence[ClipCut]) -> tuple[Tensor, Tensor]:
        like = next(c.faces for c in cuts if c.faces is not None)
        none = like.new_zeros(0, *like.shape[1:])
        faces = pad_sequence([none if c.faces is None else c.faces for c in cuts], True)
        lost = torch.zeros(0, like.shape[1], dtype=torch.bool)
        masks = pad_sequence([lost if c.face_mask is None else c.face_mask for c in cuts], True)
        return faces.to(self.device), masks.to(self.device)

    def _features(self, cuts: Sequence[ClipCut]) -> Tensor:
        like = next(c.features for c in cuts if c.features is not None)
        none = like.new_zeros(0, like.shape[1])
        rows = [none if c.features is None else c.features for c in cuts]
        return pad_sequence(rows, True, torch.nan).to(self.device)

    def whole(self, intake: LoadedClip, *, head: str | None = None) -> list[WindowSpan]:
        """Answer a clip of any length; see `run`."""
        return list(windows(lambda a, n: self.run([intake.cut(a, n)], head=head)[0], intake.steps))

    def face(self, track: FaceTrack, intake: LoadedClip) -> FaceResult:
        """Answer by one person's face alone."""
        pieces = windows(
            lambda a, n: self.run([face_cut(track, a, n)], head="video")[0], intake.steps
        )
        said = combine_windows(self.net.emotions, list(pieces), intake.duration_s)
        return FaceResult(
            face_id=track.face_id,
            label=said.label,
            probabilities=said.probabilities,
            timeline=said.timeline,
            boxes=boxes(track),
        )


def boxes(track: FaceTrack) -> tuple[FaceBox, ...]:
    """Where a person's face was."""
    rows = zip(track.times_s, track.boxes, track.scores, strict=True)
    return tuple(
        FaceBox(
            time_s=float(t),
            x=float(x),
            y=float(y),
            w=float(w),
            h=float(h),
            score=float(score),
        )
        for t, (x, y, w, h), score in rows
    )


def reason(net: EmotionNet, intake: LoadedClip, said: ClipResult, *, modality: str) -> str | None:
    """Say in words why a stream of the net was not used, or not throughout."""
    told = []
    used = {"audio", "video"} if "fused" in said.heads else set(said.heads)
    if net.audio is not None and "audio" not in used and modality != "video":
        told.append("the sound is silent" if intake.sound.count else "the file has no sound")
    if net.video is not None and modality != "audio":
        if intake.faces is not None and intake.faces.reason:
            told.append(intake.faces.reason)
        elif not intake.has_video and intake.features is None:
            told.append("the file has no picture")
        elif intake.faces is None and intake.features is None:
            told.append("the model's face half reads precomputed features; give --features")
    if intake.warning:
        told.append(intake.warning)
    return "; ".join(told) or None


def prediction(
    net: EmotionNet,
    intake: LoadedClip,
    pieces: Sequence[WindowSpan],
    *,
    model: str,
    path: str | None,
    modality: str = "auto",
    faces: tuple[FaceResult, ...] | None = None,
) -> Prediction:
    """Put together what is said of a clip."""
    said = combine_windows(net.emotions, pieces, intake.duration_s)
    main = intake.faces.main if intake.faces is not None else None
    streams = {s for h in said.heads for s in (("audio", "video") if h == "fused" else (h,))}
    return Prediction(
        label=said.label,
        probabilities=said.probabilities,
        modalities=tuple(sorted(streams)),
        reason=reason(net, intake, said, modality=modality) if said.heads else "no_signal",
        duration_s=intake.duration_s,
        timeline=said.timeline,
        model=model,
        path=path,
        boxes=boxes(main) if main is not None else (),
        faces=faces,
    )


def of_samples(samples: NDArray[np.float32]) -> LoadedClip:
    """An intake of sound that is in memory, ``[S]`` float32 at 16 kHz."""
    found = LoadedClip()
    found.sound.add(samples)
    found.has_audio, found.duration_s = True, len(samples) / SAMPLE_RATE
    return found
