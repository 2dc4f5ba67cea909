"""One ONNX file from raw samples to calibrated probabilities."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avser import __version__
from avser.bundle.serialization import Bundle
from avser.errors import ConfigError
from avser.export.compact import compact
from avser.export.graph import cut_into_steps, describe, name_axes, translate
from avser.export.int8 import to_int8
from avser.export.program import (
    CLIP_INPUTS,
    CLIP_OUTPUTS,
    STEP_INPUTS,
    STEP_OUTPUTS,
    initial_values,
    one_step,
    whole_clips,
)
from avser.extras import require
from avser.files import atomic_write
from avser.models.net import AudioBranch
from avser.types import SAMPLE_RATE, STEP_SAMPLES
from avser.visualization.colours import colour_of

#: Clips in a batch and their duration in seconds, at which a file is compared with PyTorch.
PARITY = (*((size, s) for s in (0.3, 3.3, 20.0, 61.0) for size in (1, 2)), (1, 600.0))
MOST_APART = 1e-4


class AudioGraph:
    """The audio branch of a model, traced once, to be written as ONNX files.

    For whole clips inputs are ``waveform [B, S]`` float32 at 16 kHz in -1..1 and ``lengths [B]``
    int64, valid samples; outputs are ``probabilities [B, K]``, ``step_probabilities [B, T, K]`` and
    ``step_mask [B, T]`` bool, False where a step has no voice.
    For streams inputs are ``samples [B, 8192]``, ``lengths [B]`` and ``state_0``, ``state_1``, ...;
    outputs are ``probabilities [B, K]`` of the stream so far, ``step_probabilities [B, K]``,
    ``step_mask [B]`` and ``next_state_0``, ...; ``initial_state`` in the metadata names the value
    that each part of an empty state is filled with.
    Labels and provenance are in the metadata.

    Args:
        bundle: a loaded model; of an audio-visual one, the audio branch is taken.
        streaming: make a graph for the next step of each clip.

    Raises:
        ConfigError: the model has no audio branch, can't stream though it is to, or the extra
            ``onnx`` is not installed.
    """

    def __init__(self, bundle: Bundle, *, streaming: bool = False) -> None:
        require("onnx", "onnx", "onnxscript", "onnxruntime")
        branch = bundle.net.audio_branch()
        self.bundle = bundle
        self._state: dict[str, tuple[list[int], float]] = {}  # shape and first value of each part
        self.kind = "stream" if streaming else "clip"
        self._model = self._steps(branch) if streaming else self._clips(branch)
        self._left = compact(self._model, branch.encoder.frontend)

    def _clips(self, branch: AudioBranch) -> Any:  # noqa: ANN401
        model = translate(whole_clips(branch), inputs=CLIP_INPUTS, outputs=CLIP_OUTPUTS)
        cut_into_steps(model, waveform="waveform", step_samples=STEP_SAMPLES)
        classes = len(self.bundle.net.emotions)
        axes: dict[str, list[str | int]] = {
            "waveform": ["batch", "samples"],
            "lengths": ["batch"],
            "probabilities": ["batch", classes],
            "step_probabilities": ["batch", "steps", classes],
            "step_mask": ["batch", "steps"],
        }
        name_axes(model, axes)
        return model

    def _steps(self, branch: AudioBranch) -> Any:  # noqa: ANN401
        program = one_step(branch)
        state = branch.initial_state(1)
        before = [f"state_{i}" for i in range(len(state))]
        after = [f"next_{name}" for name in before]
        shapes = [list(part.shape) for part in state]
        parts = zip(shapes, initial_values(branch), strict=True)
        self._state = dict(zip(before, parts, strict=True))
        model = translate(program, inputs=[*STEP_INPUTS, *before], outputs=[*STEP_OUTPUTS, *after])
        classes = len(self.bundle.net.emotions)
        axes: dict[str, list[str | int]] = {
            "samples": ["batch", STEP_SAMPLES],
            "lengths": ["batch"],
            "probabilities": ["batch", classes],
            "step_probabilities": ["batch", classes],
            "step_mask": ["batch"],
        }
        for old, new, part in zip(before, after, state, strict=True):
            axes[old] = axes[new] = ["batch", *part.shape[1:]]
        name_axes(model, axes)
        return model

    def save(self, path: str | Path, *, int8: bool = False) -> Path:
        """Write a file, which takes its name when it is whole.

        Args:
            path: of the file.
            int8: store weights in 8 bits; see `avser.export.int8.to_int8`.
        """
        model = copy.deepcopy(self._model)
        if int8:
            model = to_int8(model, leave=self._left)
        own = metadata(self.bundle, kind=self.kind, int8=int8)
        if self._state:
            own["initial_state"] = json.dumps({n: value for n, (_, value) in self._state.items()})
        describe(model, own)
        return write(model, path)

    def facts(self, *, int8: bool = False) -> dict[str, Any]:
        """The metadata of a file as JSON, for runtimes that can't read it from the file.

        ``state`` has the shape and the first value of each part of an empty state.
        """
        facts: dict[str, Any] = dict(metadata(self.bundle, kind=self.kind, int8=int8))
        facts["emotions"] = list(self.bundle.net.emotions)
        facts["colours"] = [colour_of(name) for name in self.bundle.net.emotions]
        facts["state"] = {n: {"shape": s, "value": v} for n, (s, v) in self._state.items()}
        return facts


def metadata(bundle: Bundle, *, kind: str, int8: bool) -> dict[str, str]:
    """Metadata of a file."""
    return {
        "kind": kind,  # "clip" takes whole clips; "stream" takes a step and a state
        "model": bundle.name,
        "emotions": json.dumps(list(bundle.net.emotions)),
        "sample_rate": str(SAMPLE_RATE),
        "step_samples": str(STEP_SAMPLES),
        "weights": "int8" if int8 else "float32",
        "weights_sha256": str(bundle.config.get("weights", {}).get("sha256", "")),
        "avser_version": __version__,
        "licence": bundle.provenance.licence,
        "trained_on": ", ".join(bundle.provenance.corpora),
        "not_for": "Decisions about people: an estimate of expressed emotion, not of a state of "
        "mind; regulated or banned in workplaces and education in places (EU AI Act, Art. 5).",
    }


def write(model: Any, path: str | Path) -> Path:  # noqa: ANN401
    """Check an ``onnx.ModelProto`` and write it, all or nothing."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    with atomic_write(path, mode="wb") as file:
        file.write(model.SerializeToString())
    return Path(path)


@dataclass(frozen=True)
class Difference:
    """How far a file is from PyTorch, for one size of batch and one duration."""

    clips: int
    seconds: float
    clip: float  # largest difference of a probability of the clip
    step: float  # of a valid step


@torch.inference_mode()
def differences(
    branch: AudioBranch, path: str | Path, *, sizes: Sequence[tuple[int, float]] | None = None
) -> list[Difference]:
    """Compare a file for whole clips with the network that it was made of, on noise bursts.

    Args:
        branch: the audio branch, in evaluation mode.
        path: of the file.
        sizes: clips in a batch and their duration in seconds; None is `PARITY`.
    """
    from avser.export.runtime import OnnxClassifier

    classifier = OnnxClassifier(path)
    rows = []
    for clips, seconds in PARITY if sizes is None else sizes:
        wave, lengths = bursts(clips, seconds)
        expected = [x.numpy() for x in branch(torch.from_numpy(wave), torch.from_numpy(lengths))]
        got = classifier.batch(wave, lengths)
        if not np.array_equal(expected[2], got[2]):
            raise ConfigError(
                f"Bad export {path}: at {clips} x {seconds:g} s its steps are not the network's; "
                "this is a fault of avser."
            )
        valid = expected[2]
        apart = np.abs(expected[1] - got[1])[valid]
        rows.append(
            Difference(
                clips,
                seconds,
                float(np.abs(expected[0] - got[0]).max()),
                float(apart.max()) if apart.size else 0.0,
            )
        )
    return rows


@torch.inference_mode()
def stream_differences(
    branch: AudioBranch, path: str | Path, *, seconds: Sequence[float] = (0.3, 3.3, 20.0, 61.0)
) -> list[Difference]:
    """Compare a file for streams, step by step, with the network on whole clips."""
    from avser.export.runtime import OnnxClassifier

    classifier = OnnxClassifier(path)
    rows = []
    for duration in seconds:
        wave, lengths = bursts(1, duration)
        clip, steps, _ = branch(torch.from_numpy(wave), torch.from_numpy(lengths))
        prediction = classifier(wave[0])
        apart = [
            max(abs(float(p) - q) for p, q in zip(row, step.probabilities.values(), strict=True))
            for row, step in zip(steps[0], prediction.timeline, strict=True)
            if step.probabilities is not None
        ]
        shares = (prediction.probabilities or {}).values()
        clip_apart = max(abs(float(p) - q) for p, q in zip(clip[0], shares, strict=True))
        rows.append(Difference(1, duration, clip_apart, max(apart)))
    return rows


def bursts(clips: int, seconds: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Noise with loud and quiet parts, ``[B, S]`` and ``[B]``, each clip shorter than the last."""
    samples = round(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(samples + clips)
    lengths = np.array([samples - i * samples // 5 for i in range(clips)], dtype=np.int64)
    index = np.arange(samples)
    loud = 0.02 + 0.2 * np.square(np.sin(2 * np.pi * index / (0.7 * SAMPLE_RATE)))
    wave = noise.standard_normal((clips, samples)) * loud * (index < lengths[:, None])
    return wave.astype(np.float32), lengths


def summary(metadata: Mapping[str, str]) -> str:
    """Describe a file in one line."""
    names = ", ".join(json.loads(metadata["emotions"]))
    licence = metadata["licence"] or "not stated"
    return f"{metadata['model']}: {names}; weights {metadata['weights']}, licence {licence}"
