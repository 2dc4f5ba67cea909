"""Runtime of exported audio models; needs numpy and onnxruntime, nothing else.

This file stands alone: copy it beside a model that ``avser export`` wrote.

    from runtime import OnnxClassifier

    classify = OnnxClassifier("model.onnx")
    prediction = classify(samples)      # [S] float32, 16 kHz, -1..1
    print(prediction.label, prediction.probabilities)

    stream = classify.stream()
    for block in microphone:            # of any size
        for step in stream.push(block):
            print(step.start_s, step.label)

A prediction is an estimate of the emotion that a voice expresses, not of anybody's state of mind.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz
STEP_SAMPLES = 8_192  # 0.512 s
SILENCE_DBFS = -60.0  # a step whose RMS is under this carries no voice
WINDOW_STEPS = 120  # longer clips are predicted in windows, so that memory has a bound
HOP_STEPS = 60
MARGIN_STEPS = 30  # at both ends of a window, where another window covers them
LISTEN_STEPS = 6  # steps of the sliding window of a model without state: 3.1 s


@dataclass(frozen=True)
class OnnxStep:
    """Prediction of one step of 0.512 s.

    Attributes:
        label: most probable emotion; None where the step has no voice.
        probabilities: emotion to probability of this step by itself.
        so_far: of a stream, emotion to probability of all sound so far, or of the sliding window;
            else None.
        level_dbfs: level of the step (RMS; a full-scale square wave has 0).
        silent: the level is under -60 dBFS.
    """

    start_s: float
    end_s: float
    label: str | None
    probabilities: Mapping[str, float] | None
    so_far: Mapping[str, float] | None
    level_dbfs: float
    silent: bool


@dataclass(frozen=True)
class OnnxPrediction:
    """Prediction of a clip; label and probabilities are None where it is silent."""

    label: str | None
    probabilities: Mapping[str, float] | None
    timeline: tuple[OnnxStep, ...]
    duration_s: float


@dataclass(frozen=True)
class OnnxSegment:
    """Output of a graph for a clip: ``clip [K]``, ``steps [T, K]``, ``valid [T]``."""

    clip: Samples
    steps: Samples
    valid: NDArray[np.bool_]


def open_session(path: str | Path, *, threads: int = 1) -> Any:  # noqa: ANN401 (onnxruntime's)
    """Open an ONNX file for inference on the processor.

    Raises:
        ValueError: there is no such file, or onnxruntime can't load it.
    """
    import onnxruntime

    if not Path(path).is_file():
        raise ValueError(f"Bad model {str(path)!r}: there is no such file; give a .onnx file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no base of their own
        raise ValueError(f"Bad model {str(path)!r}: {error}; export it anew.") from error


class OnnxClassifier:
    """Audio model in an exported file.

    Args:
        path: that ``avser export`` wrote.
        threads: of the arithmetic; 1 is best for short clips.

    Attributes:
        labels: emotions, in the order of the outputs.
        metadata: of the file: model, version, licence, training data.
        streaming: whether the file is a step graph, which carries state from step to step.

    Raises:
        ValueError: the file is no such model.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self._session = open_session(path, threads=threads)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if self.metadata.get("step_samples") != str(STEP_SAMPLES):
            raise ValueError(f"Bad model {str(path)!r}: avser export did not write it.")
        self.labels: tuple[str, ...] = tuple(json.loads(self.metadata["emotions"]))
        self.streaming = self.metadata["kind"] == "stream"

    def __call__(self, samples: NDArray[np.floating[Any]]) -> OnnxPrediction:
        """Classify one clip.

        Args:
            samples: ``[S]`` in -1..1 at 16 kHz, of any length.

        Raises:
            ValueError: the samples are of another shape, or not numbers.
        """
        wave = _mono(samples)
        steps = max(1, -(-len(wave) // STEP_SAMPLES))
        if self.streaming:
            stream = self.stream()
            timeline = [*stream.push(wave), *stream.finish()]
            return self._prediction(wave, stream.probabilities, timeline)

        def run(start: int, count: int) -> OnnxSegment:
            return self.whole(wave[start * STEP_SAMPLES : (start + count) * STEP_SAMPLES])

        pieces = list(windows(run, steps))
        if not any(p.valid.any() for p in pieces):
            return self._prediction(wave, None, ())
        shares = np.concatenate([p.steps for p in pieces])
        valid = np.concatenate([p.valid for p in pieces])
        clip = pieces[0].clip if len(pieces) == 1 else shares[valid].mean(axis=0)
        cuts = np.split(wave, range(STEP_SAMPLES, len(wave), STEP_SAMPLES))
        timeline = [
            step_of(self.labels, cut, index, row if has_voice else None, None)
            for index, (cut, row, has_voice) in enumerate(zip(cuts, shares, valid, strict=True))
        ]
        return self._prediction(wave, named(self.labels, clip), timeline)

    def stream(self, *, window_steps: int = LISTEN_STEPS) -> "OnnxStream":
        """Begin a stream: samples go in as they arrive, a prediction comes out after each step.

        A file with state (``avser export --streaming``) uses all sound so far; any other is run
        again for each step, on a sliding window of the last steps.

        Args:
            window_steps: of a file without state.
        """
        predict: StepPredictor = (
            _States(self._session) if self.streaming else Window(self.whole, steps=window_steps)
        )
        return OnnxStream(self.labels, predict)

    def batch(
        self, waveform: Samples, lengths: NDArray[np.int64]
    ) -> tuple[Samples, Samples, NDArray[np.bool_]]:
        """Run the graph for whole clips: ``[B, S], [B]`` to ``[B, K], [B, T, K], [B, T]``."""
        if self.streaming:
            raise ValueError("Bad call: this file is a step graph; use stream().")
        clips, steps, valid = self._session.run(None, {"waveform": waveform, "lengths": lengths})
        return clips, steps, valid

    def whole(self, wave: Samples) -> "OnnxSegment":
        """Run the graph for whole clips on one clip ``[S]``."""
        if not len(wave):
            wave = np.zeros(1, dtype=np.float32)
        clip, steps, valid = self.batch(wave[None], np.array([len(wave)], dtype=np.int64))
        return OnnxSegment(clip[0], steps[0], valid[0])

    def _prediction(
        self, wave: Samples, clip: Mapping[str, float] | None, timeline: Sequence[OnnxStep]
    ) -> OnnxPrediction:
        duration_s = len(wave) / SAMPLE_RATE
        if clip is None:
            return OnnxPrediction(None, None, (), duration_s)
        label = max(clip, key=lambda name: clip[name])
        return OnnxPrediction(label, clip, tuple(timeline), duration_s)


# -- streams -------------------------------------------------------------------------------------

#: Takes the next step's samples, fewer than a step only at the end; gives probabilities ``[K]`` of
#: all sound so far (None: there was none) and of this step, and whether this step has voice.
StepPredictor = Callable[[Samples], tuple[Samples | None, Samples, bool]]


class OnnxStream:
    """Predicts each step of 0.512 s of sound that arrives in pieces of any size.

    Memory does not grow with time.

    Args:
        labels: emotions, in the order of the probabilities.
        predict: see `StepPredictor`.

    Attributes:
        probabilities: emotion to probability at the last step; None before there was any voice.
    """

    def __init__(self, labels: Sequence[str], predict: StepPredictor) -> None:
        self._labels, self._predict = tuple(labels), predict
        self._waiting: list[Samples] = []
        self._count = 0  # samples that wait for a whole step
        self._steps = 0
        self._has_voice = False  # any step so far
        self.probabilities: dict[str, float] | None = None

    def push(self, samples: NDArray[np.floating[Any]]) -> list[OnnxStep]:
        """Take samples ``[n]`` at 16 kHz; return the steps that they completed.

        Raises:
            ValueError: the samples are of another shape, or not numbers.
        """
        piece = _mono(samples)
        self._waiting.append(piece)
        self._count += len(piece)
        if self._count < STEP_SAMPLES:
            return []
        wave = np.concatenate(self._waiting)
        whole = self._count // STEP_SAMPLES
        cuts = np.split(wave, [i * STEP_SAMPLES for i in range(1, whole + 1)])
        self._waiting, self._count = [cuts[-1].copy()], len(cuts[-1])
        return [self._step(cut) for cut in cuts[:-1]]

    def finish(self) -> list[OnnxStep]:
        """Return the partial step that is left, if any."""
        rest = np.concatenate(self._waiting) if self._waiting else np.zeros(0, dtype=np.float32)
        self._waiting, self._count = [], 0
        return [self._step(rest)] if len(rest) else []

    def _step(self, piece: Samples) -> OnnxStep:
        index = self._steps
        self._steps += 1
        clip, step, valid = self._predict(piece)
        self._has_voice = self._has_voice or valid
        if not self._has_voice or clip is None:
            return step_of(self._labels, piece, index, None, None)
        self.probabilities = named(self._labels, clip)
        return step_of(self._labels, piece, index, step if valid else None, clip)


class Window:
    """Runs a model for whole clips on a sliding window of the last steps.

    Args:
        whole: runs the model on a clip ``[S]``.
        steps: of the window.
    """

    def __init__(
        self, whole: Callable[[Samples], OnnxSegment], *, steps: int = LISTEN_STEPS
    ) -> None:
        if steps < 1:
            raise ValueError(f"Bad window of {steps} steps: legal is 1 or more.")
        self._whole, self._steps = whole, steps
        self._last: list[Samples] = []

    def __call__(self, piece: Samples) -> tuple[Samples | None, Samples, bool]:
        """See `StepPredictor`."""
        self._last = [*self._last, piece][-self._steps :]
        output = self._whole(np.concatenate(self._last))
        clip = output.clip if output.valid.any() else None
        return clip, output.steps[-1], bool(output.valid[-1])


class _States:
    """Runs a step graph, whose state it carries."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401
        self._session = session
        values = json.loads(session.get_modelmeta().custom_metadata_map["initial_state"])
        self._state = {
            i.name: np.full([1, *i.shape[1:]], values[i.name], dtype=np.float32)
            for i in session.get_inputs()
            if i.name in values
        }

    def __call__(self, piece: Samples) -> tuple[Samples | None, Samples, bool]:
        """See `StepPredictor`."""
        samples = np.zeros((1, STEP_SAMPLES), dtype=np.float32)
        samples[0, : len(piece)] = piece
        inputs = {"samples": samples, "lengths": np.array([len(piece)], dtype=np.int64)}
        clip, step, valid, *state = self._session.run(None, inputs | self._state)
        self._state = dict(zip(self._state, state, strict=True))
        return clip[0], step[0], bool(valid[0])


# -- parts of a prediction -------------------------------------------------------------------


def named(labels: Sequence[str], shares: Samples) -> dict[str, float]:
    """Turn probabilities ``[K]`` into shares by name."""
    return {name: round(float(p), 6) for name, p in zip(labels, shares, strict=True)}


def step_of(
    labels: Sequence[str],
    piece: Samples,
    index: int,
    shares: Samples | None,
    so_far: Samples | None,
) -> OnnxStep:
    """Describe a step by its samples and probabilities ``[K]``."""
    level, start = level_dbfs(piece), index * STEP_SAMPLES
    return OnnxStep(
        start_s=start / SAMPLE_RATE,
        end_s=(start + len(piece)) / SAMPLE_RATE,
        label=None if shares is None else labels[int(shares.argmax())],
        probabilities=None if shares is None else named(labels, shares),
        so_far=None if so_far is None else named(labels, so_far),
        level_dbfs=round(level, 1),
        silent=level <= SILENCE_DBFS,
    )


def level_dbfs(piece: Samples) -> float:
    """Level of a step of ``[n]`` samples, zeros after them, in dBFS (RMS)."""
    wide = piece.astype(np.float64)
    return float(10 * np.log10(wide @ wide / STEP_SAMPLES + 1e-12))


def _mono(samples: NDArray[np.floating[Any]]) -> Samples:
    wave = np.asarray(samples)
    if wave.ndim != 1 or not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(
            f"Bad samples of shape {list(wave.shape)} and type {wave.dtype}: expected one channel "
            "[S] of floating-point numbers in -1..1 at 16 kHz."
        )
    wave = wave.astype(np.float32)
    if not np.isfinite(wave).all():
        raise ValueError("Bad samples: some are not finite; mend the source.")
    # the 16 bits of the training data: what lies below them changes an answer by up to .015
    whole: Samples = np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.float32)
    return whole / np.float32(32768)


def windows(run: Callable[[int, int], OnnxSegment], steps: int) -> Iterator[OnnxSegment]:
    """Predict a clip of so many steps in windows whose outer steps are dropped."""
    start = 0
    while steps - start > WINDOW_STEPS:
        skip = MARGIN_STEPS if start else 0
        yield _cut(run(start, WINDOW_STEPS), skip, WINDOW_STEPS - MARGIN_STEPS)
        start += HOP_STEPS
    piece = run(start, steps - start)
    yield _cut(piece, MARGIN_STEPS, steps - start) if start else piece


def _cut(piece: OnnxSegment, a: int, b: int) -> OnnxSegment:
    return OnnxSegment(piece.clip, piece.steps[a:b], piece.valid[a:b])
