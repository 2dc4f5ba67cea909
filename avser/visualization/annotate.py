"""A copy of a clip with what was found drawn into it: box, label, bars, and a moving timeline.

A second pass over the file: every frame is decoded, drawn on and encoded anew (H.264), one at a
time; the sound is kept (AAC).
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from avser.errors import MediaError
from avser.media.container import main_streams, open_container
from avser.media.decoders import first_time_s
from avser.media.reader import open_media
from avser.types import FaceBox, Prediction, TimelineEntry
from avser.visualization.plots import colour_of

Image = NDArray[np.uint8]

_HIGHEST = 720  # rows of the copy
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
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=".mp4", dir=target.parent)
    os.close(handle)
    try:
        _write(prediction, Path(source), name, progress)
        os.chmod(name, 0o644)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def thumbnails(
    prediction: Prediction, source: str | Path, *, count: int = 8
) -> list[tuple[float, Image]]:
    """Cut the main person's face out of a few frames over the clip: seconds and ``[H, W, 3]``."""
    found = prediction.boxes
    if not found:
        return []
    chosen = [found[round(i)] for i in np.linspace(0, len(found) - 1, min(count, len(found)))]
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
    prediction: Prediction, source: Path, name: str, progress: Callable[[float], None] | None
) -> None:
    with open_container(source) as given, av.open(name, "w", format="mp4") as made:
        sound, picture = main_streams(given, source)
        if picture is None:
            raise MediaError(f"Bad clip {source}: it has no picture to draw on; use --plot.")
        origin_s = first_time_s(sound, picture)
        painter = _Painter(prediction)
        video: Any = None
        audio: Any = _audio_of(made, sound) if sound is not None else None
        wanted = [s for s in (sound, picture) if s is not None]
        for frame in _decoded(given, wanted):
            if isinstance(frame, av.AudioFrame):
                for part in audio[1].resample(frame):
                    made.mux(audio[0].encode(part))
                continue
            image = _fit(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
            if video is None:
                video = _video_of(made, picture, image)
            time_s = max(0.0, float(frame.time or 0.0) - origin_s)
            shown = av.VideoFrame.from_ndarray(painter.paint(image, time_s), format="rgb24")
            shown.pts, shown.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            made.mux(video.encode(shown))
            if progress is not None:
                progress(time_s)
        if video is None:
            raise MediaError(f"Bad clip {source}: none of its pictures can be decoded.")
        made.mux(video.encode(None))
        if audio is not None:
            for part in audio[1].resample(None):
                made.mux(audio[0].encode(part))
            made.mux(audio[0].encode(None))


def _decoded(container: Any, streams: list[Any]) -> Iterator[Any]:  # noqa: ANN401
    """Frames of the streams in the order of the file; damaged pieces are left out."""
    try:
        for packet in container.demux(streams):
            try:
                yield from packet.decode()
            except FFmpegError:
                continue
    except FFmpegError:  # the file ends before its time: what came is kept
        return


def _audio_of(made: Any, sound: Any) -> tuple[Any, Any]:  # noqa: ANN401
    layout = "mono" if sound.codec_context.channels == 1 else "stereo"
    rate = int(sound.codec_context.sample_rate)
    rate = rate if rate in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000) else 48_000
    stream = made.add_stream("aac", rate=rate, layout=layout)
    return stream, av.AudioResampler(format="fltp", layout=layout, rate=rate)


def _video_of(made: Any, picture: Any, image: Image) -> Any:  # noqa: ANN401
    rate = Fraction(picture.average_rate or 25).limit_denominator(1_001)
    stream = made.add_stream("libx264", rate=rate)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, 90_000)
    stream.options = {"preset": "veryfast", "crf": "23"}
    return stream


def _fit(image: Image) -> Image:
    """At most 720 rows, and sides that the encoder's half-size colour planes divide."""
    height, width = image.shape[:2]
    scale = min(1.0, _HIGHEST / height)
    size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _rgb(name: str) -> tuple[int, int, int]:
    text = colour_of(name)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


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
        colour = _rgb(label) if label else (255, 255, 255)
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
            cv2.rectangle(image, (left, top), (left + length, bottom), _rgb(name), -1)

    def _strip(self, image: Image, time_s: float, unit: float) -> None:
        height, width = image.shape[:2]
        end_s = max(self._all.duration_s, 1e-6)
        top = height - round(12 * unit)
        cv2.rectangle(image, (0, top), (width, height), (40, 40, 40), -1)
        for entry in self._all.timeline:
            if entry.label:
                left, right = (round(t / end_s * width) for t in (entry.start_s, entry.end_s))
                cv2.rectangle(image, (left, top), (right, height), _rgb(entry.label), -1)
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
