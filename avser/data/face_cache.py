"""Prepared faces: detected, tracked and cropped once for each clip, then read from files.

The cache folder holds one file per clip, named by a hash of the video's content, the clip's part of
it and the settings. Files are renamed when they are complete: interrupted preparation can be
resumed, and several processes can prepare at once. A damaged file is computed again.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avser.data.audio_cache import clip_key
from avser.data.content import cache_folder, hash_files, unwritable
from avser.errors import AvserError, CacheError, StorageError
from avser.files import atomic_write
from avser.media.clip import load_clip
from avser.media.faces import DETECT_HEIGHT, FACES_PER_STEP, FaceDetector, detector_settings
from avser.media.faces.collect import SIZE
from avser.media.reader import check_start
from avser.stores import local_copy
from avser.types import Clip

_LAYOUT = 3


@dataclass(frozen=True)
class FaceRow:
    """The main person's face in one clip.

    Attributes:
        path: of its prepared file; None where the clip has no picture.
        size: side of the crops in pixels.
        frames: largest number of crops, drawn at random, always the same; None takes all.
        seed: of the draw.
        content: bytes of the prepared file, if they are in memory.
    """

    path: Path | None
    size: int
    timeless: bool = False
    frames: int | None = None
    seed: int = 0
    content: bytes | None = None

    def cut(self, start: int, steps: int) -> dict[str, Tensor]:
        """``faces [T, N, 3, H, W]`` and ``face_mask [T, N]`` of the steps from ``start``."""
        faces = np.zeros((steps * FACES_PER_STEP, self.size, self.size, 3), np.uint8)
        mask = np.zeros(steps * FACES_PER_STEP, bool)
        if self.path is not None:
            source = self.path if self.content is None else BytesIO(self.content)
            with np.load(source, allow_pickle=False) as file:
                places = file["places"] - start * FACES_PER_STEP
                if self.frames is not None:
                    places = np.where(self._drawn(len(places)), places, -1)
                inside = (places >= 0) & (places < len(mask))
                if inside.any():
                    faces[places[inside]] = file["crops"][inside]
                    mask[places[inside]] = True
        return self._entries(faces, mask, steps)

    def _drawn(self, count: int) -> NDArray[np.bool_]:
        """Mask of the drawn crops; depends on the file's name and the seed."""
        name = zlib.crc32(str(self.path and self.path.name).encode())
        order = np.random.default_rng((self.seed, name)).permutation(count)
        return order < (self.frames or 0)

    def _entries(
        self, faces: NDArray[np.uint8], mask: NDArray[np.bool_], steps: int
    ) -> dict[str, Tensor]:
        shape = (steps, FACES_PER_STEP)
        crops = torch.from_numpy(faces).view(*shape, self.size, self.size, 3)
        return {
            "faces": crops.movedim(-1, 2).contiguous(),
            "face_mask": torch.from_numpy(mask).view(shape),
        }


@dataclass(frozen=True)
class FaceRows:
    """Faces of a corpus's clips, in their order.

    Attributes:
        rows: one a clip.
        reasons: index of a clip to why it has no face, or failed.
    """

    rows: list[FaceRow]
    reasons: dict[int, str]
    timeless: bool = False

    def __getitem__(self, index: int) -> FaceRow:
        return self.rows[index]

    @property
    def size(self) -> int | None:
        """Side of the crops in pixels; None without rows."""
        return next((row.size for row in self.rows), None)

    def sampled(self, frames: int, *, seed: int) -> "FaceRows":
        """The same with that many random crops of each clip, always the same ones."""
        rows = [replace(row, frames=frames, seed=seed) for row in self.rows]
        return replace(self, rows=rows)


def prepare_faces(
    clips: Sequence[Clip],
    *,
    detector: FaceDetector | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FaceRows:
    """Detect and crop the faces of clips with a video, unless they are in the cache.

    Args:
        clips: rows of a corpus; those without a video get no face.
        detector: of faces; None is MTCNN.
        folder: of the cache; None is `cache_folder`.
        progress: called as ``(done, total)`` over the clips that are not in the cache.

    Raises:
        CacheError: the cache can't be written, or no clip has a face.
        StorageError: a store can't be reached or refuses the credential; what is found is kept.
    """
    home = (folder or cache_folder()) / "faces"
    paths: list[Path | None] = []
    reasons: dict[int, str] = {}
    videos = [clip.video for clip in clips if clip.video is not None]
    hashes = hash_files(videos, folder=folder)
    for index, clip in enumerate(clips):
        content = None if clip.video is None else hashes[clip.video]
        if isinstance(content, str):
            paths.append(home / f"{_key(clip, content, detector)}.npz")
        else:
            paths.append(None)
            if content is not None:
                reasons[index] = str(content)
    todo = [i for i, path in enumerate(paths) if path is not None and not _intact(path)]
    for done, index in enumerate(todo, 1):
        path = paths[index]
        try:
            if path is not None:
                _find(clips[index], path, detector)
        except StorageError:  # no video of that store can be read
            raise
        except AvserError as error:
            paths[index] = None
            reasons[index] = str(error)
        except OSError as error:
            raise unwritable(home, error) from error
        if progress is not None:
            progress(done, len(todo))
    recorded = {i: _reason(path) for i, path in enumerate(paths) if path is not None}
    reasons |= {i: text for i, text in recorded.items() if text}
    size = next((_size(p) for p in paths if p is not None and _size(p)), 0)
    if not size:
        first = next(iter(reasons.values()), "no clip has a video")
        raise CacheError(
            f"Bad video: no face in any of {len(clips)} clips; the first says: {first}"
        )
    return FaceRows([FaceRow(path, size) for path in paths], reasons)


def _key(clip: Clip, content: str, detector: FaceDetector | None) -> str:
    """Key of the video's content, the clip's part of it, and the settings."""
    whole = clip_key(clip, content=content)
    crops = f"{FACES_PER_STEP} of {SIZE} pixels, found at {DETECT_HEIGHT}, layout {_LAYOUT}"
    settings = f"{whole} {detector_settings(detector)} {crops}"
    return hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()


def _find(clip: Clip, path: Path, detector: FaceDetector | None) -> None:
    with local_copy(clip.video or clip.path) as video:
        check_start(video, clip.start_s)
        _find_in(video, clip, path, detector)


def _find_in(video: Path, clip: Clip, path: Path, detector: FaceDetector | None) -> None:
    with load_clip(
        video, detector=detector, faces=True, start_s=clip.start_s, end_s=clip.end_s
    ) as result:
        main = result.faces.main if result.faces is not None else None
        reason = (
            result.faces.reason if result.faces is not None else "the file has no picture"
        ) or ""
        crops: NDArray[np.uint8] = np.zeros((0, 0, 0, 3), np.uint8)
        places: NDArray[np.int64] = np.zeros(0, np.int64)
        if main is not None:
            crops, places = np.asarray(main.crops[:]), np.asarray(main.places, np.int64)
        with atomic_write(path, mode="wb") as file:
            np.savez(file, crops=crops, places=places, reason=np.array(reason))


def _intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _reason(path: Path) -> str:
    with np.load(path, allow_pickle=False) as file:
        return str(file["reason"])


def _size(path: Path) -> int:
    with np.load(path, allow_pickle=False) as file:
        return int(file["crops"].shape[1])
