"""Predictions on sound as it arrives: `avser.export.runtime` without an exported file."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.errors import ConfigError
from avser.export.runtime import (
    LISTEN_STEPS,
    OnnxSegment,
    OnnxStep,
    OnnxStream,
    Samples,
    StepPredictor,
    Window,
)
from avser.models.net import AudioBranch
from avser.types import STEP_S, STEP_SAMPLES

_TIMED = 3  # predictions, of which the fastest counts


class StreamingPredictor:
    """Predicts the emotion of each step of 0.512 s as soon as its sound is complete.

    A causal model carries its state from step to step, so that each prediction uses all sound so
    far. Any other is run again for each step, on a sliding window of the last seconds; its
    prediction is then the one that `avser.Predictor` gives for the samples of that window.

    Args:
        branch: audio branch of a network, in evaluation mode, on the CPU.
        emotions: in the order of its outputs.
        window_s: length of the sliding window, in seconds; whole steps are taken. A causal model
            has none.

    Attributes:
        causal: whether the model carries a state.
        window_steps: steps of the sliding window.
        cost_ms: computing time of one prediction, measured on noise when the stream began.

    Raises:
        ConfigError: the window is not longer than 0 s.
    """

    def __init__(
        self,
        branch: AudioBranch,
        emotions: Sequence[str],
        *,
        window_s: float = LISTEN_STEPS * STEP_S,
    ) -> None:
        if not window_s > 0:
            raise ConfigError(f"Bad window {window_s:g} s: legal is over 0.")
        self._branch, self._emotions = branch, tuple(emotions)
        self.causal = is_causal(branch)
        self.window_steps = max(1, round(window_s / STEP_S))
        self.cost_ms = step_cost_ms(self._new_stream(), steps=self.window_steps)
        self._stream = self._new_stream()

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, *, window_s: float = LISTEN_STEPS * STEP_S
    ) -> Self:
        """Load a released model by name, or a bundle or run folder.

        Args:
            model: name or folder; None is the default voice model.
            window_s: see `StreamingPredictor`.

        Raises:
            BundleError: there is no such model, or it is damaged or unsafe.
            ConfigError: it has no audio branch, or the window is not longer than 0 s.
        """
        loaded = bundle.load(bundle.DEFAULT_MODEL if model is None else model)
        return cls(loaded.net.audio_branch(), loaded.net.emotions, window_s=window_s)

    def push(self, samples: NDArray[np.floating[Any]]) -> list[OnnxStep]:
        """Take samples ``[n]`` at 16 kHz; return the steps that they completed.

        Raises:
            ValueError: the samples are of another shape, or not numbers.
        """
        return self._stream.push(samples)

    def finish(self) -> list[OnnxStep]:
        """Return the partial step that is left, if any."""
        return self._stream.finish()

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Emotion to probability of the last prediction; None before there was any sound."""
        return self._stream.probabilities

    def _new_stream(self) -> OnnxStream:
        predict: StepPredictor
        if self.causal:
            predict = _StepRunner(self._branch)
        else:
            predict = Window(_WindowRunner(self._branch), steps=self.window_steps)
        return OnnxStream(self._emotions, predict)


def step_cost_ms(stream: OnnxStream, *, steps: int) -> float:
    """Measure the milliseconds of one prediction, on noise; the stream is used up.

    Args:
        stream: new.
        steps: of its window, which is full when the time is taken.
    """
    noise = np.random.default_rng(0).standard_normal((steps + _TIMED, STEP_SAMPLES)) * 0.05
    stream.push(noise[:steps].astype(np.float32).ravel())
    times = []
    for piece in noise[steps:].astype(np.float32):
        begun = time.perf_counter()
        stream.push(piece)
        times.append(time.perf_counter() - begun)
    return 1000 * min(times)


def is_causal(branch: AudioBranch) -> bool:
    """Whether a branch carries a state from step to step."""
    try:
        branch.initial_state(1)
    except ConfigError:  # its encoder or its head uses later sound
        return False
    return True


class _StepRunner:
    """Runs a causal branch step by step."""

    def __init__(self, branch: AudioBranch) -> None:
        self._branch = branch
        self._state = branch.initial_state(1)

    @torch.inference_mode()
    def __call__(self, piece: Samples) -> tuple[Samples | None, Samples, bool]:
        samples = torch.zeros(1, STEP_SAMPLES)
        samples[0, : len(piece)] = torch.from_numpy(piece)
        lengths = torch.tensor([len(piece)])
        clip, step, valid, self._state = self._branch.advance(samples, lengths, self._state)
        return clip[0].numpy(), step[0].numpy(), bool(valid[0])


class _WindowRunner:
    """Runs a branch on a whole window."""

    def __init__(self, branch: AudioBranch) -> None:
        self._branch = branch

    @torch.inference_mode()
    def __call__(self, wave: Samples) -> OnnxSegment:
        samples = torch.from_numpy(np.ascontiguousarray(wave))[None]
        outputs = self._branch(samples, torch.tensor([len(wave)]))
        clip, steps, valid = (x[0].numpy() for x in outputs)
        return OnnxSegment(clip, steps, valid)
