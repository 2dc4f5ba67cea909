"""An annotated copy of a clip: face box, label, bars, and a moving timeline.

A second pass over the file by the reader that the prediction used too, so that both share one
clock whatever the file's time stamps are. Pictures are drawn on and encoded at a constant rate
(H.264), one at a time, and a picture that stays is drawn on as often as the timeline moves. The
sound is what the model was given: one channel of 16 kHz (AAC).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from avser.errors import MediaError
from avser.files import atomic_write
from avser.media.reader import Frame, open_media, probe, scaled
from avser.types import SAMPLE_RATE, FaceBox, Prediction, TimelineEntry
from avser.visualization.colours import rgb_of

Image = NDArray[np.uint8]
Samples = NDArray[np.float32]

_HIGHEST = 720  # rows of the copy
_FPS = (10.0, 60.0)  # pictures a second of the copy: as the clip's, within these
_SLACK_S = 0.001  # containers round times to 1 ms
_NEAR_S = 0.4  # a box is drawn so long before and after the frame in which it was found
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(
    prediction: Prediction,
    source: str | Path,
    target: str | Path,
    *,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Write the annotated copy, all or nothing.

    Args:
        prediction: of the clip.
        source: the clip.
        target: file to write, .mp4.
        progress: called with the seconds written.

    Raises:
        MediaError: the clip has no picture, or can't be read; or the target is no .mp4.
    """
    target = Path(target)
    if target.suffix.lower() != ".mp4":
        raise MediaError(f"Bad annotated clip {target}: expected a name that ends in .mp4.")
    with atomic_write(target, mode="wb") as file:
        try:
            _write(prediction, Path(source), file, progress)
        except FFmpegError as error:
            raise MediaError(f"Can't write {target}: {error}; check the disk.") from error
    return target


def thumbnails(
    prediction: Prediction, source: str | Path, *, count: int = 8
) -> list[tuple[float, Image]]:
    """Cut the main person's face out of a few frames over the clip: seconds and ``[H, W, 3]``."""
    boxes = prediction.boxes
    if not boxes:
        return []
    chosen = [boxes[round(i)] for i in np.linspace(0, len(boxes) - 1, min(count, len(boxes)))]
    shots: list[tuple[float, Image]] = []
    times = sorted({b.time_s for b in chosen})
    with open_media(source, audio=False, frame_times=times, frame_height=_HIGHEST) as reader:
        for frame in (f for block in reader for f in block.frames):
            box = min(chosen, key=lambda b: abs(b.time_s - frame.time_s))
            shots.append((frame.time_s, _cut_out(frame.image, box)))
    return shots


def _cut_out(image: Image, box: FaceBox) -> Image:
    """The square around a box, as far as the picture reaches."""
    height, width = image.shape[:2]
    half = 0.6 * max(box.w * width, box.h * height)
    x, y = (box.x + box.w / 2) * width, (box.y + box.h / 2) * height
    left, top = max(0, round(x - half)), max(0, round(y - half))
    return image[top : max(top + 1, round(y + half)), left : max(left + 1, round(x + half))]


def _write(
    prediction: Prediction, source: Path, file: IO[bytes], progress: Callable[[float], None] | None
) -> None:
    info = probe(source)
    if not info.has_video:
        raise MediaError(f"Bad clip {source}: it has no picture to draw on; use --plot.")
    fps = Fraction(min(_FPS[1], max(_FPS[0], info.fps))).limit_denominator(1_001)
    size = _even_size(info.width, info.height)
    with (
        open_media(source, frame_times=float(1 / fps), frame_height=_HIGHEST) as reader,
        av.open(file, "w", format="mp4") as copy,
    ):
        # all streams before the first packet: a container can't take another one afterwards
        writer = _Writer(copy, fps=fps, size=size, painter=_Painter(prediction))
        sound = _SoundWriter(copy) if reader.has_audio else None
        for block in reader:
            writer.show(block.frames)
            end_s = max((f.time_s for f in block.frames), default=0.0)
            if sound is not None and block.samples.size:
                sound.write(scaled(block.samples, reader.gain))
                end_s = (block.start_sample + block.samples.size) / SAMPLE_RATE
            writer.draw_until(end_s)
            if progress is not None:
                progress(writer.time_s)
        if not writer.has_picture:
            raise MediaError(f"Bad clip {source}: none of its pictures can be decoded.")
        writer.draw_until(max(reader.duration_s, float(1 / fps)))
        writer.close()
        if sound is not None:
            sound.close()


class _Writer:
    """Encodes pictures at a constant rate: at each time the one that is shown then.

    Args:
        copy: the open mp4.
        fps: pictures a second.
        size: width and height of the copy; pictures of another shape are fitted into it.
        painter: draws on them.
    """

    def __init__(
        self, copy: OutputContainer, *, fps: Fraction, size: tuple[int, int], painter: _Painter
    ) -> None:
        self._copy, self._fps, self._size, self._painter = copy, fps, size, painter
        stream = copy.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        self._stream = stream
        self._count = 0
        self._coming: deque[Frame] = deque()
        self._shown: Image = np.zeros((size[1], size[0], 3), np.uint8)  # before the first: black
        self.has_picture = False

    @property
    def time_s(self) -> float:
        """Time of the next picture."""
        return float(self._count / self._fps)

    def show(self, frames: Sequence[Frame]) -> None:
        """Add pictures, in order; each is shown from its own time on."""
        self.has_picture = self.has_picture or bool(frames)
        self._coming.extend(frames)

    def draw_until(self, end_s: float) -> None:
        """Encode all pictures before that time."""
        while self.time_s < end_s:
            latest = None
            while self._coming and self._coming[0].time_s <= self.time_s + _SLACK_S:
                latest = self._coming.popleft()
            if latest is not None:
                self._shown = _fitted(latest.image, self._size)
            image = self._painter.paint(self._shown.copy(), self.time_s)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = self._count, 1 / self._fps
            self._copy.mux(self._stream.encode(frame))
            self._count += 1

    def close(self) -> None:
        """Write what the encoder holds back."""
        self._copy.mux(self._stream.encode(None))


class _SoundWriter:
    """Encodes samples that follow each other without a gap, from time 0 on."""

    def __init__(self, copy: OutputContainer) -> None:
        self._copy, self._position = copy, 0
        self._stream = copy.add_stream("aac", rate=SAMPLE_RATE, layout="mono")

    def write(self, samples: Samples) -> None:
        """Encode ``[n]`` samples."""
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._position
        frame.time_base = Fraction(1, SAMPLE_RATE)
        self._position += len(samples)
        self._copy.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder holds back."""
        self._copy.mux(self._stream.encode(None))


def _even_size(width: int, height: int) -> tuple[int, int]:
    """At most 720 rows, and sides that the encoder's half-size colour planes divide."""
    scale = min(1.0, _HIGHEST / max(height, 1))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """Scale ``[H, W, 3]`` into a size, its shape kept, with black beside it where shapes differ."""
    (width, height), (rows, columns) = size, image.shape[:2]
    scale = min(width / columns, height / rows)
    inner = (round(columns * scale), round(rows * scale))
    if abs(inner[0] - width) <= 2 and abs(inner[1] - height) <= 2:
        inner = size  # a pixel that makes sides even is no reason for a black line
    resized = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    fitted = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted[top : top + inner[1], left : left + inner[0]] = resized
    return fitted


class _Painter:
    """Draws what a prediction says of one moment."""

    def __init__(self, prediction: Prediction) -> None:
        self._all = prediction
        self._boxes = sorted(prediction.boxes, key=lambda b: b.time_s)
        self._box_times = [b.time_s for b in self._boxes]
        self._starts = [e.start_s for e in prediction.timeline]

    def paint(self, image: Image, time_s: float) -> Image:
        """Draw on ``[H, W, 3]`` in place and return it."""
        unit = max(1.0, image.shape[0] / 360)  # text and lines grow with the picture
        entry = self._entry(time_s)
        self._box(image, time_s, entry, unit)
        self._bars(image, entry, unit)
        self._strip(image, time_s, unit)
        return image

    def _entry(self, time_s: float) -> TimelineEntry | None:
        place = bisect_right(self._starts, time_s) - 1
        return self._all.timeline[place] if place >= 0 else None

    def box_at(self, time_s: float) -> FaceBox | None:
        """The box between the two sampled frames around a time, or one that is near."""
        place = bisect_right(self._box_times, time_s)
        before = self._boxes[place - 1] if place else None
        after = self._boxes[place] if place < len(self._boxes) else None
        if before and after and after.time_s - before.time_s <= 2 * _NEAR_S:
            share = (time_s - before.time_s) / max(after.time_s - before.time_s, 1e-6)
            mixed = {
                k: (1 - share) * getattr(before, k) + share * getattr(after, k) for k in "xywh"
            }
            return FaceBox(time_s=time_s, score=before.score, **mixed)
        near = [b for b in (before, after) if b and abs(b.time_s - time_s) <= _NEAR_S]
        return near[0] if near else None

    def _box(self, image: Image, time_s: float, entry: TimelineEntry | None, unit: float) -> None:
        box = self.box_at(time_s)
        if box is None:
            return
        height, width = image.shape[:2]
        left, top = round(box.x * width), round(box.y * height)
        right, bottom = round((box.x + box.w) * width), round((box.y + box.h) * height)
        label = entry.label if entry is not None and entry.label else ""
        colour = rgb_of(label) if label else (255, 255, 255)
        cv2.rectangle(image, (left, top), (right, bottom), colour, round(2 * unit))
        if label:
            _text(image, label, (left, max(round(14 * unit), top - round(5 * unit))), unit, colour)

    def _bars(self, image: Image, entry: TimelineEntry | None, unit: float) -> None:
        shares = entry.probabilities if entry is not None else None
        if shares:  # words are read on any picture
            panel = image[: round((8 + 14 * len(shares)) * unit), : round(154 * unit)]
            panel[:] = (0.35 * panel).astype(np.uint8)
        for row, name in enumerate(shares or {}):
            y = round((16 + 14 * row) * unit)
            _text(image, name, (round(6 * unit), y), 0.8 * unit, (255, 255, 255))
            left, length = round(68 * unit), round(80 * unit * (shares or {})[name])
            top, bottom = y - round(8 * unit), y
            cv2.rectangle(image, (left, top), (left + round(80 * unit), bottom), (60, 60, 60), -1)
            cv2.rectangle(image, (left, top), (left + length, bottom), rgb_of(name), -1)

    def _strip(self, image: Image, time_s: float, unit: float) -> None:
        height, width = image.shape[:2]
        end_s = max(self._all.duration_s, 1e-6)
        top = height - round(12 * unit)
        cv2.rectangle(image, (0, top), (width, height), (40, 40, 40), -1)
        for entry in self._all.timeline:
            if entry.label:
                left, right = (round(t / end_s * width) for t in (entry.start_s, entry.end_s))
                cv2.rectangle(image, (left, top), (right, height), rgb_of(entry.label), -1)
        now = min(width - 1, round(time_s / end_s * width))
        cv2.line(
            image, (now, top - round(3 * unit)), (now, height), (255, 255, 255), round(2 * unit)
        )


def _text(
    image: Image, text: str, place: tuple[int, int], unit: float, colour: tuple[int, int, int]
) -> None:
    """Text with a dark rim, readable on any picture."""
    size, line = 0.4 * unit, max(1, round(unit))
    cv2.putText(image, text, place, _FONT, size, (0, 0, 0), line + 2, cv2.LINE_AA)
    cv2.putText(image, text, place, _FONT, size, colour, line, cv2.LINE_AA)
