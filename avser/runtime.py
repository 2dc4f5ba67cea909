"""Emotion in voices from one exported file: needs numpy and onnxruntime, nothing else.

This file stands alone: copy it beside a model that ``avser export`` wrote.

    from runtime import OnnxClassifier

    classify = OnnxClassifier("model.onnx")
    answer = classify(samples)          # [S] float32, 16 kHz, -1..1
    print(answer.label, answer.probabilities)

    stream = classify.stream()
    for block in microphone:            # of any size
        for step in stream.push(block):
            print(step.start_s, step.label)

The answer is an estimate of the emotion that a voice expresses, not of anybody's state of mind.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SILENCE_DBFS = -60.0  # a step whose RMS is under this carries no voice
WINDOW_STEPS = 120  # longer clips are answered in windows, so that memory has a bound
HOP_STEPS = 60
MARGIN_STEPS = 30  # at both ends of a window, where another window covers them
LISTEN_STEPS = 8  # steps that a stream hears at once where the model has no state: 4.1 s


@dataclass(frozen=True)
class Step:
    """What was heard in one step of 0.512 s.

    Attributes:
        start_s, end_s: where it is, in seconds.
        label: most probable emotion; None in silence before anything was said.
        probabilities: emotion to probability of this step by itself.
        so_far: of a stream, emotion to probability of all that was heard; else None.
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
class Answer:
    """What was heard in a clip; label and probabilities are None where it is silent."""

    label: str | None
    probabilities: Mapping[str, float] | None
    timeline: tuple[Step, ...]
    duration_s: float


@dataclass(frozen=True)
class _Piece:
    clip: Samples  # [K]
    steps: Samples  # [T, K]
    valid: NDArray[np.bool_]  # [T]


class OnnxClassifier:
    """A voice model in a file.

    Args:
        path: that ``avser export`` wrote.
        threads: of the arithmetic; 1 is best for short clips.

    Attributes:
        labels: emotions, in the order of the outputs.
        sample_rate: that samples must have, in Hz.
        metadata: all that the file says of itself: model, version, licence, source.
        streaming: whether the file is a step graph, which carries state from step to step.

    Raises:
        ValueError: the file is no such model.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        import onnxruntime

        if not Path(path).is_file():
            raise ValueError(f"Bad model {str(path)!r}: there is no such file; give a .onnx file.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's errors have no base of their own
            raise ValueError(f"Bad model {str(path)!r}: {error}; export it anew.") from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if "emotions" not in self.metadata or "kind" not in self.metadata:
            raise ValueError(f"Bad model {str(path)!r}: avser export did not write it.")
        self.labels: tuple[str, ...] = tuple(json.loads(self.metadata["emotions"]))
        self.sample_rate = int(self.metadata["sample_rate"])
        self.step_samples = int(self.metadata["step_samples"])
        self.streaming = self.metadata["kind"] == "stream"

    def __call__(self, samples: NDArray[np.floating[Any]]) -> Answer:
        """Classify one clip.

        Args:
            samples: ``[S]`` in -1..1 at 16 kHz, of any length.

        Raises:
            ValueError: the samples are of another shape, or not numbers.
        """
        wave = _mono(samples)
        steps = max(1, -(-len(wave) // self.step_samples))
        if self.streaming:
            stream = self.stream()
            timeline = [*stream.push(wave), *stream.finish()]
            return self._of_stream(timeline, stream.probabilities, len(wave))

        def run(start: int, count: int) -> _Piece:
            cut = wave[start * self.step_samples : (start + count) * self.step_samples]
            return self._whole(cut)

        pieces = list(_windows(run, steps))
        if not any(p.valid.any() for p in pieces):
            return Answer(None, None, (), len(wave) / self.sample_rate)
        shares = np.concatenate([p.steps for p in pieces])
        valid = np.concatenate([p.valid for p in pieces])
        clip = pieces[0].clip if len(pieces) == 1 else shares[valid].mean(axis=0)
        return Answer(
            self.labels[int(clip.argmax())],
            self._named(clip),
            tuple(self._timeline(wave, shares, valid)),
            len(wave) / self.sample_rate,
        )

    def stream(self, *, window_steps: int = LISTEN_STEPS) -> "Stream":
        """Begin a stream: sound goes in as it comes, an answer comes out after each step.

        Args:
            window_steps: of a file without state: the last steps that are heard for each answer.
        """
        return Stream(self, window_steps=window_steps)

    def batch(
        self, waveform: Samples, lengths: NDArray[np.int64]
    ) -> tuple[Samples, Samples, NDArray[np.bool_]]:
        """Run the graph for whole clips: ``[B, S], [B]`` to ``[B, K], [B, T, K], [B, T]``.

        Raises:
            ValueError: the file is a step graph.
        """
        if self.streaming:
            raise ValueError("Bad call: this file is a step graph; use stream().")
        found = self._session.run(None, {"waveform": waveform, "lengths": lengths})
        return found[0], found[1], found[2]

    def _whole(self, wave: Samples) -> _Piece:
        if not len(wave):
            wave = np.zeros(1, dtype=np.float32)
        clip, steps, valid = self.batch(wave[None], np.array([len(wave)], dtype=np.int64))
        return _Piece(clip[0], steps[0], valid[0])

    def _named(self, shares: Samples) -> dict[str, float]:
        return {n: round(float(p), 6) for n, p in zip(self.labels, shares, strict=True)}

    def _timeline(self, wave: Samples, shares: Samples, valid: NDArray[np.bool_]) -> Iterator[Step]:
        for index, (row, heard) in enumerate(zip(shares, valid, strict=True)):
            start = index * self.step_samples
            piece = wave[start : start + self.step_samples]
            if not len(piece):
                return
            yield self._step(piece, start, row if heard else None, None)

    def _step(
        self, piece: Samples, start: int, shares: Samples | None, so_far: Samples | None
    ) -> Step:
        level = level_dbfs(piece, self.step_samples)
        return Step(
            start_s=start / self.sample_rate,
            end_s=(start + len(piece)) / self.sample_rate,
            label=None if shares is None else self.labels[int(shares.argmax())],
            probabilities=None if shares is None else self._named(shares),
            so_far=None if so_far is None else self._named(so_far),
            level_dbfs=round(level, 1),
            silent=level <= SILENCE_DBFS,
        )

    def _of_stream(
        self, timeline: Sequence[Step], probabilities: Mapping[str, float] | None, samples: int
    ) -> Answer:
        if probabilities is None:
            return Answer(None, None, (), samples / self.sample_rate)
        label = max(probabilities, key=lambda name: probabilities[name])
        return Answer(label, probabilities, tuple(timeline), samples / self.sample_rate)


class Stream:
    """Sound in pieces of any size, an answer for each step of 0.512 s.

    A file with state (``avser export --streaming``) has heard all that came; any other hears a
    window of the last steps, whole, for each answer. Memory is the same after a minute and a day.

    Attributes:
        probabilities: emotion to probability of what was heard so far; None before there was any.
    """

    def __init__(self, model: OnnxClassifier, *, window_steps: int = LISTEN_STEPS) -> None:
        if window_steps < 1:
            raise ValueError(f"Bad window_steps {window_steps}: legal is 1 or more.")
        self._model = model
        self._waiting: list[Samples] = []
        self._count = 0  # samples that wait for a whole step
        self._steps = 0
        self._heard = False
        self._keep = window_steps
        self._last: list[Samples] = []  # of a file without state
        self._state = _empty_state(model._session) if model.streaming else {}
        self.probabilities: dict[str, float] | None = None

    def push(self, samples: NDArray[np.floating[Any]]) -> list[Step]:
        """Take samples ``[n]``; return the steps that they completed."""
        piece = _mono(samples)
        self._waiting.append(piece)
        self._count += len(piece)
        size = self._model.step_samples
        if self._count < size:
            return []
        wave = np.concatenate(self._waiting)
        whole = self._count // size
        self._waiting, self._count = [wave[whole * size :].copy()], self._count - whole * size
        return [self._answer(wave[i * size : (i + 1) * size]) for i in range(whole)]

    def finish(self) -> list[Step]:
        """Answer for the partial step that is left, if any."""
        rest = np.concatenate(self._waiting) if self._waiting else np.zeros(0, dtype=np.float32)
        self._waiting, self._count = [], 0
        return [self._answer(rest)] if len(rest) else []

    def _answer(self, piece: Samples) -> Step:
        model, start = self._model, self._steps * self._model.step_samples
        self._steps += 1
        clip, step, valid = self._advance(piece) if model.streaming else self._window(piece)
        self._heard = self._heard or level_dbfs(piece, model.step_samples) > SILENCE_DBFS
        if not self._heard or clip is None:
            return model._step(piece, start, None, None)
        self.probabilities = model._named(clip)
        return model._step(piece, start, step if valid else None, clip)

    def _advance(self, piece: Samples) -> tuple[Samples | None, Samples, bool]:
        samples = np.zeros((1, self._model.step_samples), dtype=np.float32)
        samples[0, : len(piece)] = piece
        inputs = {"samples": samples, "lengths": np.array([len(piece)], dtype=np.int64)}
        clip, step, valid, *state = self._model._session.run(None, inputs | self._state)
        self._state = dict(zip(self._state, state, strict=True))
        return clip[0], step[0], bool(valid[0])

    def _window(self, piece: Samples) -> tuple[Samples | None, Samples, bool]:
        self._last = [*self._last, piece][-self._keep :]
        found = self._model._whole(np.concatenate(self._last))
        heard = bool(found.valid.any())
        return (found.clip if heard else None), found.steps[-1], bool(found.valid[-1])


def level_dbfs(piece: Samples, step_samples: int) -> float:
    """Level of a step of ``[n]`` samples, zeros after them, in dBFS (RMS)."""
    return float(10 * np.log10(np.square(piece, dtype=np.float64).sum() / step_samples + 1e-12))


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
    return wave


def _windows(run: Callable[[int, int], _Piece], steps: int) -> Iterator[_Piece]:
    """Answer a clip of so many steps in windows whose outer steps are dropped."""
    start = 0
    while steps - start > WINDOW_STEPS:
        skip = MARGIN_STEPS if start else 0
        yield _cut(run(start, WINDOW_STEPS), skip, WINDOW_STEPS - MARGIN_STEPS)
        start += HOP_STEPS
    piece = run(start, steps - start)
    yield _cut(piece, MARGIN_STEPS, steps - start) if start else piece


def _cut(piece: _Piece, start: int, stop: int) -> _Piece:
    return _Piece(piece.clip, piece.steps[start:stop], piece.valid[start:stop])


def _empty_state(session: Any) -> dict[str, Samples]:  # noqa: ANN401
    """The state of a stream of which nothing was heard, as the file's own inputs describe it."""
    initial = json.loads(session.get_modelmeta().custom_metadata_map["initial_state"])
    return {
        i.name: np.full([1, *i.shape[1:]], initial[i.name], dtype=np.float32)
        for i in session.get_inputs()
        if i.name in initial
    }
