"""Runtime of exported models that judge faces: videos are classified without torch.

It needs numpy, onnxruntime, PyAV, OpenCV, scipy and einops. ``avser export --out DIR/`` copies it
and the parts of avser that read files and detect faces into the folder.

    from avser_runtime.export.video_runtime import OnnxVideoClassifier

    classify = OnnxVideoClassifier("DIR")
    prediction = classify("clip.mp4")
    print(prediction.label, prediction.probabilities)

A prediction is an estimate of the emotion that somebody expresses, not of their state of mind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError, unknown
from avser.export.runtime import OnnxSegment, named, open_session, windows
from avser.media.clip import (
    EMBEDDINGS_CENTRED_RUNNING,
    ClipSegment,
    LoadedClip,
    check_streams,
    face_boxes,
    load_clip,
    reason_of,
)
from avser.media.faces import FACES_PER_STEP, FaceDetector
from avser.media.faces.onnx_mtcnn import OnnxMtcnnDetector
from avser.media.pictures import PICTURE_SUFFIXES, load_picture
from avser.media.samples import rounded
from avser.types import STEP_S, STEP_SAMPLES, Prediction, TimelineEntry

Modality = Literal["auto", "audio", "video", "both"]

MODALITIES = ("auto", "audio", "video", "both")

#: Files of a folder.
MODEL_FILE, DETECTOR_FOLDER = "model.onnx", "face_detector"

_STREAMS = {0: {"audio", "video"}, 1: {"audio"}, 2: {"video"}}  # by the output ``used``


@dataclass(frozen=True)
class VideoNetOutput:
    """Output for a batch: ``clips [B, K]``, ``steps [B, T, K]``, ``valid [B, T]``, ``used [B]``."""

    clips: NDArray[np.float32]
    steps: NDArray[np.float32]
    valid: NDArray[np.bool_]
    used: NDArray[np.int64]


class OnnxVideoNet:
    """An exported network on samples and face crops.

    Args:
        path: of a file that `avser.export.video_file.VideoGraph` wrote.
        threads: of the arithmetic; 1 is best for short clips.

    Attributes:
        labels: emotions, in the order of the outputs.
        metadata: of the file: model, version, licence, training data.
        takes_sound: whether the file has an audio branch too.

    Raises:
        ConfigError: the file is no such model.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        try:
            self._session = open_session(path, threads=threads)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if self.metadata.get("kind") not in ("video", "faces"):
            raise ConfigError(f"Bad model '{path}': it judges no faces; use runtime.py with it.")
        self.labels: tuple[str, ...] = tuple(json.loads(self.metadata["emotions"]))
        self.takes_sound = self.metadata["kind"] == "video"

    def __call__(
        self,
        waveform: NDArray[np.float32],
        lengths: NDArray[np.int64],
        faces: NDArray[np.uint8],
        face_mask: NDArray[np.bool_],
    ) -> VideoNetOutput:
        """Run ``[B, S], [B], [B, T, N, 3, H, W], [B, T, N]``; a file of faces needs no sound."""
        inputs: dict[str, NDArray[Any]] = {"faces": faces, "face_mask": face_mask}
        if self.takes_sound:
            steps = faces.shape[1]
            spare = steps * STEP_SAMPLES - waveform.shape[1]
            inputs |= {"waveform": np.pad(waveform, ((0, 0), (0, spare))), "lengths": lengths}
        return VideoNetOutput(*self._session.run(None, inputs))


class OnnxVideoClassifier:
    """Classifies media files as `avser.Predictor` does with the same model.

    Args:
        folder: that ``avser export`` wrote.
        threads: of the arithmetic.
        detector: of faces; None is the MTCNN of the folder.

    Attributes:
        net: the exported network.

    Raises:
        ConfigError: the folder is no such export.
    """

    def __init__(
        self, folder: str | Path, *, threads: int = 1, detector: FaceDetector | None = None
    ) -> None:
        folder = Path(folder)
        self.net = OnnxVideoNet(folder / MODEL_FILE, threads=threads)
        self._detector = detector or OnnxMtcnnDetector(folder / DETECTOR_FOLDER, threads=threads)

    def __call__(self, path: str | Path, *, modality: Modality = "auto") -> Prediction:
        """Classify one media file or picture.

        Args:
            path: of the file.
            modality: streams to use; "auto" takes what there is, but not a still face beside a
                voice.

        Raises:
            AvserError: the file can't be read, or lacks the stream that was asked for.
        """
        if modality not in MODALITIES:
            raise ConfigError(unknown("modality", modality, MODALITIES))
        with self._load(path, modality) as clip:
            return self._predict(clip, str(path), modality)

    def _load(self, path: str | Path, modality: Modality) -> LoadedClip:
        if Path(path).suffix.lower() in PICTURE_SUFFIXES:
            check_streams(path, modality, has_audio=False, has_video=True)
            return load_picture(path, detector=self._detector)
        looks = modality != "audio"
        clip = load_clip(path, detector=self._detector, faces=looks, modality=modality)
        if modality == "auto" and self.net.takes_sound:
            main = clip.faces.main if clip.faces is not None else None
            clip.judges_face = main is None or main.speaks is not False
        return clip

    def _predict(self, clip: LoadedClip, path: str, modality: Modality) -> Prediction:
        used: set[str] = set()

        def run(start: int, count: int) -> OnnxSegment:
            output = self._run(clip.cut(start, count), modality)
            used.update(_STREAMS.get(int(output.used[0]), set()))
            return OnnxSegment(output.clips[0], output.steps[0], output.valid[0])

        pieces = list(windows(run, clip.steps))
        steps, valid = (
            np.concatenate([p.steps for p in pieces]),
            np.concatenate([p.valid for p in pieces]),
        )
        label: str | None = None
        probabilities: Mapping[str, float] | None = None
        timeline: tuple[TimelineEntry, ...] = ()
        if used:
            shares = pieces[0].clip if len(pieces) == 1 else steps[valid].mean(axis=0)
            label = self.net.labels[int(shares.argmax())]
            probabilities = named(self.net.labels, shares)
            timeline = self._timeline(steps, valid, clip.duration_s)
        branches = {"audio", "video"} if self.net.takes_sound else {"video"}
        main = clip.faces.main if clip.faces is not None else None
        centred = "video" in used and self.net.metadata.get("centred") == "true"
        return Prediction(
            label=label,
            probabilities=probabilities,
            modalities=tuple(sorted(used)),
            reason=reason_of(
                clip,
                branches=branches,
                used=used,
                modality=modality,
                label=label,
                timeline=timeline,
                marks=[EMBEDDINGS_CENTRED_RUNNING] if centred else [],
            ),
            duration_s=clip.duration_s,
            timeline=timeline,
            model=self.net.metadata["model"],
            path=path,
            boxes=() if main is None else face_boxes(main),
        )

    def _run(self, cut: ClipSegment, modality: Modality) -> VideoNetOutput:
        # rounded to 16 bits, as where the network was trained
        samples = rounded(cut.samples)
        if modality == "video":
            samples = samples[:0]
        wave = np.zeros((1, cut.steps * STEP_SAMPLES), np.float32)
        wave[0, : len(samples)] = samples
        lengths = np.array([len(samples)], np.int64)
        size = int(self.net.metadata["face_size"])
        if cut.faces is None or cut.face_mask is None:  # one black crop a step, masked
            faces = np.zeros((1, cut.steps, 1, 3, size, size), np.uint8)
            return self.net(wave, lengths, faces, np.zeros((1, cut.steps, 1), np.bool_))
        faces = np.zeros((1, cut.steps, FACES_PER_STEP, 3, size, size), np.uint8)
        mask = np.zeros((1, cut.steps, FACES_PER_STEP), np.bool_)
        faces[0, : len(cut.faces)], mask[0, : len(cut.faces)] = cut.faces, cut.face_mask
        return self.net(wave, lengths, faces, mask)

    def _timeline(
        self, steps: NDArray[np.float32], valid: NDArray[np.bool_], duration_s: float
    ) -> tuple[TimelineEntry, ...]:
        entries = []
        for index, (row, judged) in enumerate(zip(steps, valid, strict=True)):
            start = index * STEP_S
            if start >= duration_s:
                break
            shares: Mapping[str, float] | None = named(self.net.labels, row) if judged else None
            entries.append(
                TimelineEntry(
                    start_s=start,
                    end_s=min(start + STEP_S, duration_s),
                    label=self.net.labels[int(row.argmax())] if judged else None,
                    probabilities=shares,
                )
            )
        return tuple(entries)
