"""Prediction of loaded clips with one network: batches, windows, and joining of windows.

**Label and timeline.** The clip's probabilities are those of the network's head for whole clips
(attentive pooling weights the steps); for a clip over 61 s they are the mean over its steps. The
timeline has the prediction of each step. If most steps have another label than the clip, `reason`
names it.

**Windows** have 120 steps (61.4 s) and a hop of 60 steps. The outer 30 steps of a window are
dropped where another window covers them, so that windows join without gap or overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avser.errors import AvserError, ConfigError, SignalError
from avser.evaluation.summary import ENROLLED
from avser.media.clip import (
    CENTRED,
    CENTRED_RUNNING,
    EMBEDDINGS_CENTRED,
    EMBEDDINGS_CENTRED_RUNNING,
    ClipSegment,
    LoadedClip,
    face_boxes,
    face_segment,
    load_clip,
    reason_of,
)
from avser.media.faces import FaceDetector
from avser.media.samples import rounded
from avser.models.centring import RunningCentre
from avser.models.encoders.faces import FaceEncoder, step_means
from avser.models.net import HEADS, EmotionNet, NetPrediction
from avser.models.transforms import Transforms
from avser.types import (
    SAMPLE_RATE,
    STEP_S,
    STEP_SAMPLES,
    Batch,
    FaceResult,
    Prediction,
    TimelineEntry,
    audio_batch,
)
from avser.visualization.attribution import Explanation, explain_batch

WINDOW_STEPS = 120
HOP_STEPS = WINDOW_STEPS // 2
MARGIN_STEPS = WINDOW_STEPS // 4
BATCH_CLIPS = 16
_BATCH_STEPS = 2 * WINDOW_STEPS  # of one forward pass, padding included: bounds memory
_ENROLLED_WINDOWS = 10  # of all files together, but one of each at least
_MOST_CLIPS = 200  # that are read; of more, as many evenly over the list
_ENOUGH_CLIPS, _ENOUGH_S = 5, 60  # of one speaker, to enrol from what is predicted


@dataclass(frozen=True)
class Window:
    """Steps ``start`` to ``stop`` of a clip, of which ``first`` to ``last`` are kept."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class WindowOutput:
    """Output for a window: ``probabilities [K]``, ``steps [T, K]``, ``mask [T]``, head index.

    ``video`` is that of the video head alone, where the net has one.
    """

    probabilities: Tensor
    steps: Tensor
    mask: Tensor
    used: int
    video: WindowOutput | None = None

    def kept(self, window: Window) -> WindowOutput:
        """Return the output without the steps that another window covers."""
        keep = slice(window.first - window.start, window.last - window.start)
        video = None if self.video is None else self.video.kept(window)
        return replace(self, steps=self.steps[keep], mask=self.mask[keep], video=video)


def windows_of(steps: int) -> Iterator[Window]:
    """Cut a clip of so many steps, at least 1, into windows.

    >>> [(w.start, w.stop, w.first, w.last) for w in windows_of(150)]
    [(0, 120, 0, 90), (60, 150, 90, 150)]
    """
    start = 0
    while steps - start > WINDOW_STEPS:
        stop = start + WINDOW_STEPS
        yield Window(start, stop, start + MARGIN_STEPS if start else 0, stop - MARGIN_STEPS)
        start += HOP_STEPS
    yield Window(start, steps, start + MARGIN_STEPS if start else 0, steps)


@dataclass(frozen=True)
class _ClipOutput:
    """Joined output of a clip's windows; without a signal all fields are empty."""

    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    timeline: tuple[TimelineEntry, ...] = ()
    heads: frozenset[str] = field(default_factory=frozenset)


class Runner:
    """Runs one network on loaded clips.

    Args:
        net: in evaluation mode.
        device: of the network.
        name: of the model, given in every prediction.

    Attributes:
        reference: statistics of an enrolled speaker, ``[2, C, M]``, or None.
        centred: whether the face is centred on an enrolled person.
        centred_running: whether it is centred on its own mean so far.
    """

    def __init__(self, net: EmotionNet, device: torch.device, *, name: str) -> None:
        self.net, self.device, self.name = net, device, name
        self.reference: Tensor | None = None
        self.centred = self.centred_running = False
        branches = {"audio": net.audio, "video": net.video}
        self._branches = {name for name, encoder in branches.items() if encoder is not None}

    def enrol_voice(self, files: Sequence[str | Path], *, own: bool = False) -> None:
        """Compute a speaker's statistics from files: ten minutes in all, at least one of each.

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
        sounds = [torch.from_numpy(rounded(wave))[None] for wave in waves if len(wave)]
        if audio is None or not sounds:
            raise SignalError("Bad --enrol: its files hold no sound; give some that do.")
        self.reference = audio.reference((w, torch.tensor([w.shape[1]])) for w in sounds)
        self.name = f"{self.name.removesuffix(f' {ENROLLED}')} {ENROLLED}"

    @torch.inference_mode()
    def enrol_face(
        self, files: Sequence[str | Path], *, detector: FaceDetector, own: bool = False
    ) -> bool:
        """Centre the face on a person's means, of a minute of each file.

        An encoder with ``centred`` statistics gets the person's mean embedding, and the scores are
        centred on the mean log probabilities that then follow. Every step with a face counts once.

        Returns:
            Whether a face is in any of the files; without one nothing is centred.
        """
        self.net.centre_faces(None)
        self.centred_running = False
        encoder = self._centred_encoder
        if encoder is not None:
            encoder.person_mean = None
        outputs: list[tuple[Tensor, Tensor]] = []  # of the encoder, for each file
        for path in files:
            with (
                suppress(*([AvserError] if own else [])),
                load_clip(path, detector=detector, faces=True) as clip,
            ):
                main = clip.faces.main if clip.faces is not None else None
                if main is not None:
                    cut = face_segment(main, 0, min(clip.steps, WINDOW_STEPS))
                    batch = self._batch([cut], cut.steps)
                    if encoder is None:
                        outputs.append(self.net.encode(batch)["video"])
                    else:  # pooled below, when the person's mean is known
                        outputs.append(encoder.embed_crops(batch))
        self.centred = any(bool(mask.any()) for _, mask in outputs)
        if self.centred and encoder is not None:
            means = [step_means(vectors[..., : encoder.width], valid) for vectors, valid in outputs]
            encoder.person_mean = torch.cat([mean[steps] for mean, steps in means]).mean(dim=0)
            outputs = [encoder.pool_crops(vectors, valid) for vectors, valid in outputs]
        if self.centred:
            self.net.centre_faces(torch.cat([self._face_scores(*o) for o in outputs]).mean(dim=0))
        return self.centred

    def _face_scores(self, x: Tensor, mask: Tensor) -> Tensor:
        """Log probabilities ``[n, K]`` by the face of the valid steps of ``x [1, T, D]``."""
        face = self.net.predict(self.net.run_heads({"video": (x, mask)}))
        return face.step_probabilities[face.mask].clamp(min=1e-8).log()

    @property
    def _centred_encoder(self) -> FaceEncoder | None:
        """The face encoder, if its statistics have centred embeddings."""
        encoder = self.net.video
        if isinstance(encoder, FaceEncoder) and "centred" in encoder.statistics:
            return encoder
        return None

    def _marks(self, used: set[str]) -> list[str]:
        """Remarks on how the face is centred, for a prediction of those streams."""
        if "video" not in used:
            return []
        marks = [CENTRED] if self.centred else [CENTRED_RUNNING] if self.centred_running else []
        if self._centred_encoder is not None:
            marks.append(EMBEDDINGS_CENTRED if self.centred else EMBEDDINGS_CENTRED_RUNNING)
        return marks

    @torch.inference_mode()
    def predict(
        self, clips: Sequence[LoadedClip], *, modality: str = "auto", faces: bool = False
    ) -> list[Prediction]:
        """Predict each clip; short ones together, long ones window by window.

        Args:
            clips: open.
            modality: "audio" and "video" take the head of that stream alone.
            faces: also predict every person by the face alone.
        """
        alone = self.net.fusion is not None and modality in ("audio", "video")
        head = modality if alone else None
        short = [i for i, clip in enumerate(clips) if clip.steps <= WINDOW_STEPS]
        together = self._run([clips[i].cut(0, clips[i].steps) for i in short], head=head)
        outputs = {i: [output] for i, output in zip(short, together, strict=True)}
        predictions = []
        for i, clip in enumerate(clips):
            output = outputs.get(i) or self._windows(clip.cut, clip.steps, head=head)
            prediction = self._prediction(clip, output, modality=modality)
            if faces:
                prediction = replace(prediction, faces=self.predict_faces(clip, outputs=output))
            predictions.append(prediction)
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
        batch = self._batch([clip.cut(0, clip.steps)], clip.steps)
        return explain_batch(self.net, batch, emotion=emotion, stream=modality if alone else None)

    def _windows(
        self, cut: Callable[[int, int], ClipSegment], steps: int, *, head: str | None
    ) -> list[WindowOutput]:
        """Run a clip of any length window by window, without the overlapping steps."""
        centre, outputs = RunningCentre(), []
        for window in windows_of(steps):
            with centre.followed_by(HOP_STEPS) as recorder:
                segment = cut(window.start, window.stop - window.start)
                (output,) = self._run([segment], head=head, centre=recorder)
            outputs.append(output.kept(window))
        return outputs

    def _run(
        self,
        cuts: Sequence[ClipSegment],
        *,
        head: str | None,
        centre: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> list[WindowOutput]:
        """Run cuts of at most a window each, in batches of similar length; head None: any."""
        centre = (centre or RunningCentre()) if self.centred_running else None
        transforms = Transforms(face_centre=centre)
        lengths = [cut.steps for cut in cuts]
        order = sorted(range(len(cuts)), key=lengths.__getitem__)
        outputs: dict[int, WindowOutput] = {}
        while order:
            longest = lengths[order[-1]]
            size = min(BATCH_CLIPS, max(1, _BATCH_STEPS // longest))
            part, order = order[-size:], order[:-size]
            batch = self._batch([cuts[i] for i in part], longest)
            streams = self.net(batch, transforms=transforms)
            face = self.net.predict({"video": streams["video"]}) if "video" in streams else None
            if head is not None:
                streams = {head: streams[head]}
            answer = self.net.predict(streams)
            for row, i in enumerate(part):
                video = None if face is None else _row(face, row, lengths[i])
                outputs[i] = replace(_row(answer, row, lengths[i]), video=video)
        return [outputs[i] for i in range(len(cuts))]

    def _batch(self, cuts: Sequence[ClipSegment], steps: int) -> Batch:
        """Make a batch of cuts, padded to that many steps."""
        device = self.device
        lengths = torch.tensor([len(c.samples) for c in cuts])
        waveform = torch.zeros(len(cuts), steps * STEP_SAMPLES)
        for row, cut in zip(waveform, cuts, strict=True):
            row[: len(cut.samples)] = torch.from_numpy(rounded(cut.samples))
        batch = audio_batch(waveform.to(device), lengths.to(device))
        if any(c.faces is not None for c in cuts):
            batch["faces"] = _padded([c.faces for c in cuts], 0).to(device)
            batch["face_mask"] = _padded([c.face_mask for c in cuts], 0).to(device)
        if any(c.features is not None for c in cuts):
            batch["video_features"] = _padded([c.features for c in cuts], torch.nan).to(device)
        if self.reference is not None:
            of_speaker = self.reference.expand(len(cuts), -1, -1, -1)
            batch["speaker_statistics"] = of_speaker.to(device)
        return batch

    @torch.inference_mode()
    def predict_faces(
        self, clip: LoadedClip, *, outputs: Sequence[WindowOutput] = ()
    ) -> tuple[FaceResult, ...]:
        """Predict every person in a clip by the face alone, main person first.

        Args:
            clip: open.
            outputs: of the clip's windows; they contain the main person's face if it was used, so
                that its pictures are not embedded again.
        """
        known = [output.video for output in outputs if output.video is not None]
        results = []
        for track in clip.faces.tracks if clip.faces is not None else ():
            judged = known if clip.judges_face and clip.faces and track is clip.faces.main else []
            windows = judged or self._windows(
                partial(face_segment, track), clip.steps, head="video"
            )
            output = _join(self.net.emotions, windows, clip.duration_s)
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
        return Prediction(
            label=output.label,
            probabilities=output.probabilities,
            modalities=tuple(sorted(used)),
            reason=reason_of(
                clip,
                branches=self._branches,
                used=used,
                modality=modality,
                label=output.label,
                timeline=output.timeline,
                marks=self._marks(used),
            ),
            duration_s=clip.duration_s,
            timeline=output.timeline,
            model=self.name,
            boxes=face_boxes(main) if main is not None else (),
        )


def _padded(rows: Sequence[NDArray[Any] | None], value: float) -> Tensor:
    """Pad rows ``[T, ...]`` of clips to one tensor ``[B, T, ...]``; None is a row of no step."""
    like = next(row for row in rows if row is not None)
    tensors = [torch.from_numpy(like[:0] if row is None else row) for row in rows]
    return pad_sequence(tensors, True, value)


def _row(answer: NetPrediction, row: int, steps: int) -> WindowOutput:
    """Return the output of one cut of a batch, of that many steps."""
    return WindowOutput(
        answer.probabilities[row].cpu(),
        answer.step_probabilities[row, :steps].cpu(),
        answer.mask[row, :steps].cpu(),
        int(answer.used[row]),
    )


def _join(names: Sequence[str], outputs: Sequence[WindowOutput], duration_s: float) -> _ClipOutput:
    """Join a clip's windows: the output of one, or the mean of the steps of several.

    The timeline ends with the clip; a step without a signal has no label.
    """
    heads = frozenset(HEADS[o.used] for o in outputs if o.used >= 0)
    if not heads:
        return _ClipOutput()
    steps, mask = torch.cat([o.steps for o in outputs]), torch.cat([o.mask for o in outputs])
    clip = outputs[0].probabilities if len(outputs) == 1 else steps[mask].mean(dim=0)
    timeline = []
    for index, (probabilities, valid) in enumerate(zip(steps, mask.tolist(), strict=True)):
        start_s = index * STEP_S
        if start_s >= duration_s:
            break
        timeline.append(
            TimelineEntry(
                start_s=start_s,
                end_s=min(start_s + STEP_S, duration_s),
                label=names[int(probabilities.argmax())] if valid else None,
                probabilities=_named(names, probabilities) if valid else None,
            )
        )
    return _ClipOutput(names[int(clip.argmax())], _named(names, clip), tuple(timeline), heads)


def _named(names: Sequence[str], probabilities: Tensor) -> dict[str, float]:
    """Turn ``probabilities [K]`` into shares by name."""
    return {n: round(float(p), 6) for n, p in zip(names, probabilities, strict=True)}
