"""Sources in memory: samples, audio columns of ``datasets``, pictures, and frames of a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.clip import LoadedClip
from avser.media.decoders import Frame
from avser.media.faces import FaceCollector, FaceDetector, sample_times
from avser.media.pictures import shrink
from avser.media.samples import condition_samples
from avser.types import SAMPLE_RATE

Image = NDArray[np.uint8]

LEGAL = (
    "a path; floats [S] or [channels, S] with sample_rate; a picture (PIL, or uint8 [H, W, 3]); or "
    "a dict with array and sampling_rate, with frames and fps, or with all four"
)


@dataclass(frozen=True)
class MemorySource:
    """Sound, pictures, or both, already decoded.

    Attributes:
        samples: ``[S]`` at 16 kHz in -1..1, or None.
        images: ``[H, W, 3]`` uint8 each, or None.
        fps: of the images, in Hz; None where they are one still picture.
        path: where they are from, or None.
        warnings: what was mended, in words.
    """

    samples: NDArray[np.float32] | None = None
    images: Sequence[Image] | None = None
    fps: float | None = None
    path: str | None = None
    warnings: tuple[str, ...] = ()

    def load(self, detector: FaceDetector | None) -> LoadedClip:
        """Make a clip of it, with faces where a detector is given."""
        clip = LoadedClip()
        clip.warnings = self.warnings
        if self.samples is not None:
            clip.sound.add(self.samples)
            clip.has_audio, clip.duration_s = True, len(self.samples) / SAMPLE_RATE
        if self.images is None:
            return clip
        clip.has_video = True
        if self.fps is not None:
            clip.duration_s = max(clip.duration_s, len(self.images) / self.fps)
        if detector is not None:
            try:
                collector = FaceCollector(detector=detector)
                clip.resources.callback(collector.close)
                for frame in self._sampled(self.images):
                    collector.add(frame)
                clip.faces = collector.finish()
            except BaseException:
                clip.close()
                raise
        return clip

    def _sampled(self, images: Sequence[Image]) -> Iterator[Frame]:
        """The pictures shown at the times at which faces are looked for."""
        if self.fps is None:
            yield Frame(0.0, shrink(images[0]))
            return
        fps, shown = self.fps, -1
        end_s = len(images) / fps
        for time_s in takewhile(lambda t: t < end_s, sample_times()):
            index = int(time_s * fps)
            if index != shown:  # a picture shown at two times is one array, looked at once
                shown, image = index, shrink(images[index])
            yield Frame(time_s, image)


def memory_source(source: Any, *, sample_rate: int | None = None) -> MemorySource:  # noqa: ANN401
    """Recognise a source in memory.

    Args:
        source: what `LEGAL` lists, but no path.
        sample_rate: of an array of samples, in Hz.

    Raises:
        ConfigError: it is no source.
    """
    if isinstance(source, np.ndarray) and source.dtype != np.uint8:
        return _sound(source, sample_rate)
    if isinstance(source, np.ndarray) or _is_pil(source):
        return MemorySource(images=[_image(source)])
    if hasattr(source, "get_all_samples"):  # the decoder that newer versions of datasets give
        decoded = source.get_all_samples()
        return _sound(np.asarray(decoded.data), decoded.sample_rate)
    if isinstance(source, Mapping) and ("array" in source or "frames" in source):
        return _mapping(source)
    raise ConfigError(f"Bad source of type {type(source).__name__}: expected {LEGAL}.")


def _mapping(source: Mapping[str, Any]) -> MemorySource:
    sound = MemorySource()
    if source.get("array") is not None:
        sound = _sound(np.asarray(source["array"]), source.get("sampling_rate"))
    path = source.get("path")
    if "frames" not in source:
        return MemorySource(samples=sound.samples, path=path, warnings=sound.warnings)
    fps = source.get("fps")
    if fps is None or not 0 < fps < float("inf"):
        raise ConfigError(f"Bad fps {fps!r} of frames: give their rate in Hz, as fps: 25.")
    images = [_image(frame) for frame in source["frames"]]
    if not images:
        raise ConfigError("Bad frames: there are none; leave the key out, or give some.")
    return MemorySource(
        samples=sound.samples, images=images, fps=float(fps), path=path, warnings=sound.warnings
    )


def _sound(samples: NDArray[Any], sample_rate: int | None) -> MemorySource:
    wave, warnings = condition_samples(samples, sample_rate=sample_rate)
    return MemorySource(samples=wave, warnings=warnings)


def _is_pil(source: Any) -> bool:  # noqa: ANN401
    return hasattr(source, "convert") and hasattr(source, "getexif")


def _image(picture: Any) -> Image:  # noqa: ANN401
    """An upright picture as ``[H, W, 3]`` uint8 RGB."""
    if _is_pil(picture):
        from PIL import ImageOps

        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    image = np.asarray(picture)
    if image.dtype == np.uint8 and image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        what = (
            "several pictures are given as {'frames': ..., 'fps': ...}"
            if image.ndim == 4
            else "expected uint8 [H, W, 3] in RGB, or [H, W] in grey"
        )
        raise ConfigError(f"Bad picture of shape {image.shape} and type {image.dtype}: {what}.")
    return image
