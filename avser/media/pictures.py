"""Still pictures as clips: one frame, no sound, no duration."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from avser.errors import MediaError
from avser.media.clip import LoadedClip
from avser.media.decoders import Frame
from avser.media.faces import DETECT_HEIGHT, FaceCollector, FaceDetector

Image = NDArray[np.uint8]

#: By which a file is read as a still picture, in lower case.
PICTURE_SUFFIXES = frozenset(".jpg .jpeg .jpe .png .bmp .webp .tif .tiff".split())

_MOST_BYTES = 200 << 20  # of the file; OpenCV itself refuses more than 2**30 pixels


def load_picture(path: str | Path, *, detector: FaceDetector | None) -> LoadedClip:
    """Load a still picture, turned upright as its EXIF orientation says.

    Args:
        path: of the picture.
        detector: of faces; None does not look for faces.

    Raises:
        MediaError: it can't be read.
    """
    clip = LoadedClip()
    clip.has_video = True
    if detector is None:
        return clip
    try:
        collector = FaceCollector(detector=detector)
        clip.resources.callback(collector.close)
        collector.add(Frame(0.0, _read(Path(path))))
        clip.faces = collector.finish()
    except BaseException:
        clip.close()
        raise
    return clip


def _read(path: Path) -> Image:
    """Decode to ``[H, W, 3]`` uint8 RGB, at most as high as faces are looked for in."""
    if not path.is_file():
        raise MediaError(f"Can't read {path}: there is no such file; check the path.")
    if path.stat().st_size > _MOST_BYTES:
        raise MediaError(
            f"Can't read {path}: it has more than {_MOST_BYTES >> 20} MB; shrink the picture."
        )
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise MediaError(f"Can't read {path}: it is no picture, or damaged; export it again.")
    return shrink(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))


def shrink(image: Image) -> Image:
    """Shrink ``[H, W, 3]`` to the height in which faces are looked for; never enlarge it."""
    height, width = image.shape[:2]
    if height <= DETECT_HEIGHT:
        return image
    size = (max(1, round(width * DETECT_HEIGHT / height)), DETECT_HEIGHT)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
