"""One network on loaded clips: batches, windows, and the prediction for each clip.

**Label and timeline.** The clip's probabilities are those of the network's head for whole clips
(attentive pooling weighs the steps); a clip of over 61 s has the mean of its steps. The timeline
gives each step by itself. Where most steps have another label than the clip, `reason` names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avser.data.dataset import audio_batch
from avser.errors import AvserError, ConfigError, SignalError
from avser.evaluation.summary import ENROLLED
from avser.inference.windows import WINDOW_STEPS, WindowOutput, named, timeline, windows_of
from avser.media.clip import ClipSegment, LoadedClip, face_segment, load_clip
from avser.media.faces import FaceDetector, FaceTrack
from avser.media.samples import Samples, from_16_bit, to_16_bit
from avser.models.devices import on_device
from avser.models.net import HEADS, EmotionNet
from avser.types import (
    SAMPLE_RATE,
    STEP_S,
    STEP_SAMPLES,
    Batch,
    FaceBox,
    FaceResult,
    Prediction,
    TimelineEntry,
)
from avser.visualization.attribution import Explanation, explain_batch

BATCH_CLIPS = 16
_BATCH_STEPS = 2 * WINDOW_STEPS  # of one forward pass, padding included: bounds memory
_ENROLLED_WINDOWS = 10  # of all files together, but one of each at least
_MOST_CLIPS = 200  # that are read; of more, as many evenly over the list
_ENOUGH_CLIPS, _ENOUGH_S = 5, 60  # of one speaker, to enrol from what is predicted
_OFTEN = 0.5  # share of the main person's frames in which somebody else matters
_LARGE = 0.25  # share of the area of the main person's face from which somebody else matters

#: How a prediction by a face centred on an enrolled person is marked.
CENTRED = "the face is centred on the enrolled person"

#: Why a face that is seen is not judged beside a voice.
STILL_PICTURE = (
    "the face is still while somebody speaks, so that the voice alone is judged; --modality both "
    "adds the face"
)

#: How the sentence about a disagreement of label and timeline begins.
DISAGREEMENT = "the whole clip is judged"


@dataclass(frozen=True)
class _ClipOutput:
    """Joined output of a clip's windows; without signal only ``heads`` is set, and empty."""

    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    timeline: tuple[TimelineEntry, ...] = ()
    heads: frozenset[str] = field(default_factory=frozenset)


def _as_in_training(samples: Samples) -> Samples:
    """Round to 16 bits, so that a clip is the same as where it was trained on."""
    return from_16_bit(to_16_bit(samples))


class Runner:
    """Runs one network on loaded clips.

    Args:
        net: in evaluation mode.
        device: of the network.
        name: of the model, given in every prediction.

    Attributes:
        reference: statistics of an enrolled speaker, ``[2, C, M]``, or None.
        centred: whether the face is centred on an enrolled person.
    """

    def __init__(self, net: EmotionNet, device: torch.device, *, name: str) -> None:
        self.net, self.device, self.name = net, device, name
        self.reference: Tensor | None = None
        self.centred = False

    def enrol_voice(self, files: Sequence[str | Path], *, own: bool = False) -> None:
        """Compute a speaker's statistics from files: a minute of each, ten of a single one.

        Every later prediction is marked ENROLLED.

        Args:
            files: of one speaker.
            own: the files are those that are predicted: there must be enough of them, and those
                that can't be read are passed over.

        Raises:
            SignalError: the files hold no sound, or too little of it.
        """
        audio = self.net.audio
        waves, total = [], 0
        window = WINDOW_STEPS * STEP_SAMPLES
        each = max(1, _ENROLLED_WINDOWS // max(1, len(files)))
        for path in files[:: -(-len(files) // _MOST_CLIPS) or 1]:
            with suppress(*([AvserError] if own else [])), load_clip(path) as clip:
                total += clip.sound.count
                starts = range(0, max(1, clip.sound.count), window)
                chosen = starts[:: -(-len(starts) // each)]  # evenly over the recording
                waves += [clip.sound.cut(start, window).copy() for start in chosen]
        if own and len(files) < _ENOUGH_CLIPS and total <= _ENOUGH_S * SAMPLE_RATE:
            raise SignalError(
                f"Bad --enrol self: {len(files)} clips of {total / SAMPLE_RATE:.0f} s are too "
                f"little of a speaker; legal are {_ENOUGH_CLIPS} clips of one person, or over "
                f"{_ENOUGH_S} s; give more, or leave it out."
            )
        sounds = [torch.from_numpy(_as_in_training(wave))[None] for wave in waves if len(wave)]
        if audio is None or not sounds:
            raise SignalError("Bad --enrol: its files hold no sound; give some that do.")
        self.reference = audio.reference((w, torch.tensor([w.shape[1]])) for w in sounds)
        self.name = f"{self.name.removesuffix(f' {ENROLLED}')} {ENROLLED}"

    @torch.inference_mode()
    def enrol_face(
        self, files: Sequence[str | Path], *, detector: FaceDetector, own: bool = False
    ) -> bool:
        """Centre the face on a person's mean log probabilities, a minute of each file.

        Returns:
            Whether a face is in any of the files; without one nothing is centred.
        """
        self.net.centre_faces(None)
        scores = []
        for path in files:
            with (
                suppress(*([AvserError] if own else [])),
                load_clip(path, detector=detector, faces=True) as clip,
            ):
                main = clip.faces.main if clip.faces is not None else None
                if main is not None:
                    cut = face_segment(main, 0, min(clip.steps, WINDOW_STEPS))
                    (output,) = self._run([cut], head="video")
                    scores.append(output.steps[output.mask].clamp(min=1e-8).log())
        self.centred = bool(scores)
        if scores:
            self.net.centre_faces(torch.cat(scores).mean(dim=0))
        return self.centred

    @torch.inference_mode()
    def predict(self, clips: Sequence[LoadedClip], *, modality: str = "auto") -> list[Prediction]:
        """Predict each clip; short ones together, long ones window by window.

        Args:
            clips: open.
            modality: "audio" and "video" take the head of that stream alone.
        """
        alone = self.net.fusion is not None and modality in ("audio", "video")
        head = modality if alone else None
        short = [i for i, clip in enumerate(clips) if clip.steps <= WINDOW_STEPS]
        together = self._run([clips[i].cut(0, clips[i].steps) for i in short], head=head)
        outputs = {i: [output] for i, output in zip(short, together, strict=True)}
        predictions = []
        for i, clip in enumerate(clips):
            output = outputs.get(i) or [
                self._run([clip.cut(w.start, w.stop - w.start)], head=head)[0].kept(w)
                for w in windows_of(clip.steps)
            ]
            predictions.append(self._prediction(clip, output, modality=modality))
        return predictions

    def explain(
        self, clip: LoadedClip, *, emotion: str | None = None, modality: str = "auto"
    ) -> Explanation:
        """Explain the prediction of a clip of at most a window.

        Args:
            clip: open.
            emotion: to explain; None is the most probable one.
            modality: "audio" and "video" take the head of that stream alone.

        Raises:
            ConfigError: the clip is longer, or the model has no such class.
            SignalError: there is nothing to judge.
        """
        if clip.steps > WINDOW_STEPS:
            raise ConfigError(
                f"Bad clip of {clip.duration_s:.0f} s: at most {WINDOW_STEPS * STEP_S:.0f} s can "
                "be explained; cut out the part in question."
            )
        alone = self.net.fusion is not None and modality in ("audio", "video")
        batch = self._batch([clip.cut(0, clip.steps)])
        return explain_batch(self.net, batch, emotion=emotion, stream=modality if alone else None)

    def _run(self, cuts: Sequence[ClipSegment], *, head: str | None) -> list[WindowOutput]:
        """Run cuts of at most a window each, in batches of like length; None: any head."""
        order = sorted(range(len(cuts)), key=lambda i: cuts[i].steps)
        outputs: dict[int, WindowOutput] = {}
        while order:
            longest = cuts[order[-1]].steps
            size = min(BATCH_CLIPS, max(1, _BATCH_STEPS // longest))
            part, order = order[-size:], order[:-size]
            streams = self.net(self._batch([cuts[i] for i in part]))
            if head is not None:
                streams = {head: streams[head]}
            answer = self.net.predict(streams)
            for row, i in enumerate(part):
                steps = cuts[i].steps
                outputs[i] = WindowOutput(
                    answer.probabilities[row].cpu(),
                    answer.step_probabilities[row, :steps].cpu(),
                    answer.mask[row, :steps].cpu(),
                    int(answer.used[row]),
                )
        return [outputs[i] for i in range(len(cuts))]

    def _batch(self, cuts: Sequence[ClipSegment]) -> Batch:
        lengths = torch.tensor([len(c.samples) for c in cuts])
        # as long as the longest stream: every row of the output has the same steps
        waveform = torch.zeros(len(cuts), max(c.steps for c in cuts) * STEP_SAMPLES)
        for row, cut in zip(waveform, cuts, strict=True):
            row[: len(cut.samples)] = torch.from_numpy(_as_in_training(cut.samples))
        batch = audio_batch(waveform, lengths)
        if any(c.faces is not None for c in cuts):
            batch["faces"], batch["face_mask"] = self._face_batch(cuts)
        if any(c.features is not None for c in cuts):
            batch["video_features"] = self._feature_batch(cuts)
        if self.reference is not None:
            batch["speaker_statistics"] = self.reference.expand(len(cuts), -1, -1, -1)
        return on_device(batch, self.device)

    def _face_batch(self, cuts: Sequence[ClipSegment]) -> tuple[Tensor, Tensor]:
        like = next(c.faces for c in cuts if c.faces is not None)
        none = like.new_zeros(0, *like.shape[1:])
        faces = pad_sequence([none if c.faces is None else c.faces for c in cuts], True)
        lost = torch.zeros(0, like.shape[1], dtype=torch.bool)
        masks = pad_sequence([lost if c.face_mask is None else c.face_mask for c in cuts], True)
        return faces, masks

    def _feature_batch(self, cuts: Sequence[ClipSegment]) -> Tensor:
        like = next(c.features for c in cuts if c.features is not None)
        none = like.new_zeros(0, like.shape[1])
        rows = [none if c.features is None else c.features for c in cuts]
        return pad_sequence(rows, True, torch.nan)

    @torch.inference_mode()
    def predict_faces(self, clip: LoadedClip) -> tuple[FaceResult, ...]:
        """Predict every person in a clip by the face alone, main person first."""
        results = []
        for track in clip.faces.tracks if clip.faces is not None else ():
            outputs = [
                self._run([face_segment(track, w.start, w.stop - w.start)], head="video")[0].kept(w)
                for w in windows_of(clip.steps)
            ]
            output = _join(self.net.emotions, outputs, clip.duration_s)
            results.append(
                FaceResult(
                    face_id=track.face_id,
                    label=output.label,
                    probabilities=output.probabilities,
                    timeline=output.timeline,
                    boxes=face_boxes(track),
                    speaks=track.speaks,
                )
            )
        return tuple(results)

    def _prediction(
        self,
        clip: LoadedClip,
        outputs: Sequence[WindowOutput],
        *,
        modality: str,
    ) -> Prediction:
        output = _join(self.net.emotions, outputs, clip.duration_s)
        main = clip.faces.main if clip.faces is not None else None
        used = {s for h in output.heads for s in (("audio", "video") if h == "fused" else (h,))}
        parts = [
            *missing_streams(self.net, clip, used=used, modality=modality),
            *other_faces(clip),
            *([CENTRED] if self.centred and "video" in used else []),
            *disagreement(output.label, output.timeline),
            *([clip.warning] if clip.warning else []),
        ]
        return Prediction(
            label=output.label,
            probabilities=output.probabilities,
            modalities=tuple(sorted(used)),
            reason="; ".join(parts) or None if output.heads else "no_signal",
            duration_s=clip.duration_s,
            timeline=output.timeline,
            model=self.name,
            boxes=face_boxes(main) if main is not None else (),
        )


def _join(names: Sequence[str], outputs: Sequence[WindowOutput], duration_s: float) -> _ClipOutput:
    """Join a clip's windows: the output of one, or the mean of the steps of several."""
    heads = frozenset(HEADS[o.used] for o in outputs if o.used >= 0)
    if not heads:
        return _ClipOutput()
    steps, mask = torch.cat([o.steps for o in outputs]), torch.cat([o.mask for o in outputs])
    clip = outputs[0].probabilities if len(outputs) == 1 else steps[mask].mean(dim=0)
    return _ClipOutput(
        names[int(clip.argmax())],
        named(names, clip),
        tuple(timeline(names, steps, mask, duration_s)),
        heads,
    )


def face_boxes(track: FaceTrack) -> tuple[FaceBox, ...]:
    """Boxes of a person's face over time."""
    rows = zip(track.times_s, track.boxes, track.scores, strict=True)
    return tuple(
        FaceBox(time_s=float(t), x=float(x), y=float(y), w=float(w), h=float(h), score=float(score))
        for t, (x, y, w, h), score in rows
    )


# -- parts of `Prediction.reason` ----------------------------------------------------------------


def missing_streams(
    net: EmotionNet, clip: LoadedClip, *, used: set[str], modality: str
) -> list[str]:
    """Explain why a stream was not used, or not throughout."""
    parts = []
    if net.audio is not None and "audio" not in used and modality != "video":
        parts.append("the sound is silent" if clip.sound.count else "the file has no sound")
    if modality == "audio":
        return parts
    if clip.faces is not None:  # also where the voice model is used, since there was no face
        parts += [clip.faces.reason] if clip.faces.reason else []
    elif net.video is not None and clip.features is None:
        parts.append(
            "the model's video branch reads precomputed features; give --features"
            if clip.has_video
            else "the file has no picture"
        )
    return parts


def other_faces(clip: LoadedClip) -> list[str]:
    """Mention a face that is not judged, and somebody who is seen about as often and as large."""
    if clip.faces is None or not clip.faces.tracks:
        return []
    main, *others = clip.faces.tracks
    parts = [] if clip.judges_face else [STILL_PICTURE]
    frames, area = _OFTEN * len(main.times_s), _LARGE * _area(main)
    often = [t for t in others if len(t.times_s) >= frames and _area(t) >= area]
    if often and clip.judges_face:
        which = "the one whose lips move with the sound" if main.speaks else "the main one"
        still = f" ({_count_still(often)})" if any(t.still for t in often) else ""
        parts.append(
            f"{len(often) + 1} faces are seen{still}, and {which} is judged; --faces all judges "
            "each"
        )
    return parts


def _count_still(tracks: Sequence[FaceTrack]) -> str:
    count = sum(track.still for track in tracks)
    return "one of them still, as a photograph" if count == 1 else f"{count} of them still"


def _area(track: FaceTrack) -> float:
    """Median share of the picture that a face covers."""
    return float(np.median(track.boxes[:, 2] * track.boxes[:, 3]))


def disagreement(label: str | None, timeline: Sequence[TimelineEntry]) -> list[str]:
    """Name the label of most steps where the clip has another."""
    counts = Counter(entry.label for entry in timeline if entry.label is not None)
    if label is None or not counts:
        return []
    other, most = counts.most_common(1)[0]
    if counts[label] == most:
        return []
    return [f"{DISAGREEMENT} {label}, {most} of its {counts.total()} steps alone {other}"]
