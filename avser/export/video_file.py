"""One ONNX file of a net that judges faces: sound and faces, or faces alone."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avser.bundle.serialization import Bundle
from avser.export.compact import compact
from avser.export.graph import cut_into_steps, describe, name_axes, translate
from avser.export.int8 import to_int8
from avser.export.onnx_file import Difference, bursts, metadata, write
from avser.export.video_program import (
    FACE_INPUTS,
    VIDEO_INPUTS,
    VIDEO_OUTPUTS,
    face_net,
    whole_net,
)
from avser.extras import require
from avser.media.faces import FACES_PER_STEP
from avser.media.faces.collect import SIZE
from avser.models.encoders.faces import FaceEncoder
from avser.models.net import EmotionNet
from avser.types import STEP_SAMPLES, audio_batch, steps_of

#: Seconds of clips at which a file is compared with PyTorch.
VIDEO_PARITY = (0.3, 3.3, 20.0)


class VideoGraph:
    """A net that judges faces, traced once, to be written as ONNX files.

    Of both streams, inputs are ``waveform [B, S]`` float32 at 16 kHz in -1..1, ``lengths [B]``
    int64, ``faces [B, T, N, 3, 112, 112]`` uint8 and ``face_mask [B, T, N]`` bool, with
    ``T = ceil(S / 8192)``: the shorter stream is filled up. Of faces alone they are the last two.
    Outputs are ``probabilities [B, K]``, ``step_probabilities [B, T, K]``, ``step_mask [B, T]`` and
    ``used [B]`` int64: 0 both streams, 1 sound, 2 faces, -1 no signal. Every crop is computed,
    invalid ones for nothing: ``N = 1`` is enough for a clip without faces.

    Args:
        bundle: a loaded model.
        branch: "both", or "video" for faces alone.

    Raises:
        ConfigError: the model judges no face crops, or the extra ``onnx`` is not installed.
    """

    def __init__(self, bundle: Bundle, *, branch: Literal["both", "video"] = "both") -> None:
        require("onnx", "onnx", "onnxscript", "onnxruntime")
        self.bundle = bundle
        self._left: set[str] = set()
        audio = bundle.net.audio if branch == "both" else None
        self.kind = "faces" if audio is None else "video"
        program = (face_net if audio is None else whole_net)(bundle.net)
        inputs = FACE_INPUTS if audio is None else VIDEO_INPUTS
        self._model = translate(program, inputs=inputs, outputs=VIDEO_OUTPUTS)
        if audio is not None:
            cut_into_steps(self._model, waveform="waveform", step_samples=STEP_SAMPLES)
            self._left = compact(self._model, audio.frontend)
        name_axes(self._model, self._axes())

    def _axes(self) -> dict[str, list[str | int]]:
        classes = len(self.bundle.net.emotions)
        return {
            "waveform": ["batch", "samples"],
            "lengths": ["batch"],
            "faces": ["batch", "steps", "faces_per_step", 3, SIZE, SIZE],
            "face_mask": ["batch", "steps", "faces_per_step"],
            "probabilities": ["batch", classes],
            "step_probabilities": ["batch", "steps", classes],
            "step_mask": ["batch", "steps"],
            "used": ["batch"],
        }

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
        encoder = self.bundle.net.video
        if isinstance(encoder, FaceEncoder) and "centred" in encoder.statistics:
            own["centred"] = "true"  # which the runtime's predictions state
        own |= {"face_size": str(SIZE), "faces_per_step": str(FACES_PER_STEP)}
        describe(model, own)
        return write(model, path)


def has_faces(net: EmotionNet) -> bool:
    """Whether a net judges face crops, which `VideoGraph` exports."""
    return isinstance(net.video, FaceEncoder)


@torch.inference_mode()
def video_differences(
    net: EmotionNet, path: str | Path, *, seconds: Sequence[float] = VIDEO_PARITY, clips: int = 2
) -> list[Difference]:
    """Compare a file with the network that it was made of, on noise bursts and noisy pictures.

    Faces are lost at random; the last clip has none at all.

    Args:
        net: in evaluation mode.
        path: of the file.
        seconds: duration of the clips.
        clips: in a batch.
    """
    from avser.export.video_runtime import OnnxVideoNet

    model = OnnxVideoNet(path)
    rows = []
    for duration in seconds:
        wave, lengths = bursts(clips, duration)
        faces, mask = _pictures(clips, steps_of(wave.shape[1]))
        batch = audio_batch(torch.from_numpy(wave), torch.from_numpy(lengths))
        batch["faces"], batch["face_mask"] = torch.from_numpy(faces), torch.from_numpy(mask)
        streams = net(batch)
        if not model.takes_sound:
            streams = {"video": streams["video"]}
        expected = net.predict(streams)
        got = model(wave, lengths, faces, mask)
        np.testing.assert_array_equal(expected.used.numpy(), got.used)
        valid = expected.mask.numpy()
        np.testing.assert_array_equal(valid, got.valid)
        apart = np.abs(expected.step_probabilities.numpy() - got.steps)[valid]
        clip = float(np.abs(expected.probabilities.numpy() - got.clips).max())
        rows.append(Difference(clips, duration, clip, float(apart.max(initial=0.0))))
    return rows


def _pictures(clips: int, steps: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Soft random crops ``[B, T, N, 3, s, s]``, and which of them are valid."""
    random = np.random.default_rng(steps)
    coarse = random.integers(0, 256, (clips, steps, FACES_PER_STEP, 3, SIZE // 8, SIZE // 8))
    faces = coarse.astype(np.uint8).repeat(8, axis=-1).repeat(8, axis=-2)
    mask = random.random((clips, steps, FACES_PER_STEP)) < 0.7
    mask[0, 0, 0] = True
    if clips > 1:
        mask[-1] = False
    return faces, mask
