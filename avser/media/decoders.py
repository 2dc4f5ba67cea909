"""Opening and decoding with PyAV: what `avser.media.reader` is built on.

Containers, time stamps, sample formats and rotation are known here; all else sees one clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av import AudioFrame, AudioResampler, AudioStream, VideoFrame, VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from avser.types import SAMPLE_RATE

# Containers with an index: their seeking and their stated durations can be trusted.
_INDEXED = {"mov", "matroska", "webm", "avi", "wav"}
# Containers that tell how long each picture lasts; others state one length where pictures come as
# they please.
_TIMED = {"mov", "avi"}

_GAP_S = 0.1  # containers round times to 1 ms and more; a longer hole in the sound is real
_MAX_GAP_S = 60.0  # a longer one is a broken clock
_PREROLL_S = 1.0  # decoded before a cut and dropped: codecs need up to 80 ms to settle
_SHORT_S = 0.5  # a stream that ends so much before its stated end is cut short
_SLOPPY = 4_096  # bytes by which recorders err about the length of their own file
_FRAME_SLACK_S = 0.001  # containers that round times to 1 ms

Samples = NDArray[np.float32]
Image = NDArray[np.uint8]
NO_SAMPLES: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Frame:
    """One upright picture: seconds from time 0, and ``image [H, W, 3]`` uint8 RGB."""

    time_s: float
    image: Image


class AudioDecoder:
    """Decodes, mixes and resamples one stream, and knows where in time each sample lies.

    Args:
        stream: the sound of an open file.
        origin_s: time of the file that is time 0; None is the first sound plus `start_s`.
        start_s: where the part begins, in seconds after the beginning of the file.
        length_s: length of the part; ``inf`` is to the end.
    """

    def __init__(
        self, stream: AudioStream, *, origin_s: float | None, start_s: float, length_s: float
    ) -> None:
        self.stream = stream
        self.position = 0  # index of the next sample, from time 0; below 0 it is dropped
        self.reached_s: float | None = None  # time in the file where what was decoded ends
        self._origin_s, self._start_s = origin_s, start_s
        self._limit = round(min(length_s * SAMPLE_RATE, 2**60))
        self._kind: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None
        self._held: list[Samples] = []

    @property
    def done(self) -> bool:
        """Whether all that was asked for is decoded."""
        return self.position >= self._limit

    @property
    def end_s(self) -> float:
        """End of what was decoded so far, in seconds from time 0."""
        return max(0, min(self.position, self._limit)) / SAMPLE_RATE

    @property
    def sure_s(self) -> float:
        """All that belongs before this time is decoded."""
        return self.end_s

    @property
    def holds(self) -> bool:
        """Whether samples wait to be pulled."""
        return bool(self._held)

    def feed(self, packet: Packet[Stream] | None) -> None:
        """Decode a piece of the stream; None is its end.

        Raises:
            FFmpegError: the piece is damaged; the next one may be fed.
        """
        try:
            for frame in self.stream.decode(packet):
                self._take(frame)
        finally:
            if packet is None:
                self._flush()

    def _take(self, frame: AudioFrame) -> None:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        # not frame.time: the frames that a decoder holds back to the end have none
        time_s = self.reached_s if frame.pts is None else _seconds(frame.pts, self.stream)
        self._align(time_s or 0.0)
        if kind != self._kind or self._resampler is None:
            self._flush()
            # 32-bit integers, not floats: only for them FFmpeg scales the down-mix to full scale
            self._resampler = av.AudioResampler("s32", "mono", SAMPLE_RATE)
            self._kind = kind
        frame.pts = None  # the resampler need not know: gaps are closed here
        self._add(self._resampler.resample(frame))
        self.reached_s = (self.reached_s or 0.0) + frame.samples / frame.sample_rate

    def pull(self, samples: int) -> Samples:
        """Hand over so many samples, or as many as there are."""
        if not self._held or not samples:
            return NO_SAMPLES
        held = np.concatenate(self._held)
        self._held = [held[samples:]] if len(held) > samples else []
        return held[:samples].copy()  # a copy, or one block would keep all of `held` alive

    def _align(self, time_s: float) -> None:
        """Bring the position to where sound of that time belongs, by silence where it is late."""
        if self._origin_s is None:
            self._origin_s = time_s + self._start_s
        if self.reached_s is not None and time_s - self.reached_s < _GAP_S:
            return
        self._flush()
        gap = round((time_s - self._origin_s) * SAMPLE_RATE) - self.position
        if gap > _MAX_GAP_S * SAMPLE_RATE:
            self._origin_s += gap / SAMPLE_RATE
        elif self.reached_s is None and gap < 0:
            self.position = gap
        elif gap > 0:
            self._append(np.zeros(gap, np.float32))
        self.reached_s = time_s

    def _flush(self) -> None:
        if self._resampler is not None:
            self._add(self._resampler.resample(None))
        self._resampler, self._kind = None, None

    def _add(self, frames: Iterable[AudioFrame]) -> None:
        for frame in frames:
            self._append(frame.to_ndarray()[0].astype(np.float32) * np.float32(2**-31))

    def _append(self, samples: Samples) -> None:
        kept = samples[max(0, -self.position) : max(0, self._limit - self.position)]
        self.position += len(samples)
        if kept.size:
            self._held.append(kept)


class VideoDecoder:
    """Decodes one stream in order and converts the frames that were asked for.

    Args:
        stream: the picture of an open file.
        origin_s: time of the file that is time 0.
        length_s: length of the part; ``inf`` is to the end.
        times: seconds from time 0, ascending.
        height: of the upright pictures in pixels, or None to keep their own.
    """

    def __init__(
        self,
        stream: VideoStream,
        *,
        origin_s: float,
        length_s: float,
        times: Iterator[float],
        height: int | None,
    ) -> None:
        self.stream = stream
        self.reached_s: float | None = None  # time in the file where what was decoded ends
        self.sure_s = 0.0  # all that belongs before this time is decoded
        self.end_s = 0.0  # end of what was decoded so far, in seconds from time 0
        self._spared_s = 0.0  # and of what was not
        stream.thread_type = "AUTO"
        self._origin_s, self._length_s, self._height = origin_s, length_s, height
        self._step_s = float(1 / stream.average_rate) if stream.average_rate else 0.04
        self._gap_s = self._step_s  # the longest between two pictures, so far
        self._timed = not _TIMED.isdisjoint(stream.container.format.name.split(","))
        self._times = times
        self._drawn: deque[float] = deque()  # after the one that is wanted next
        self._wanted = next(times, None)
        self.done = self._wanted is None or self._wanted >= length_s
        self._frames: list[Frame] = []

    @property
    def holds(self) -> bool:
        """Whether frames wait to be pulled."""
        return bool(self._frames)

    def feed(self, packet: Packet[Stream] | None) -> None:
        """Decode a piece of the stream; None is its end.

        Raises:
            FFmpegError: the piece is damaged; the next one may be fed.
        """
        if packet is not None:
            self._spare(packet)
        for frame in self.stream.decode(packet):
            self._take(frame)
        if packet is None:
            self.end_s = max(self.end_s, self._spared_s)

    def _spare(self, packet: Packet[Stream]) -> None:
        """Leave a picture undecoded that nobody asked for and that no other is built on.

        Most encoders make every second picture so, or more. Asked for is the first at or after a
        time: one that comes within two pictures of a time is decoded.
        """
        wanted = True
        if self._timed and packet.pts is not None:
            time_s = _seconds(packet.pts, self.stream) - self._origin_s
            last = time_s + _FRAME_SLACK_S
            self._draw(last)
            self._gap_s = max(self._gap_s, _seconds(packet.duration, self.stream))
            before = time_s - 2 * self._gap_s
            coming = [] if self._wanted is None else [self._wanted, *self._drawn]
            wanted = any(before < t <= last for t in coming) or time_s >= self._length_s
            if not wanted and time_s <= self.end_s + _MAX_GAP_S:
                self._spared_s = max(self._spared_s, time_s + self._step_s)
        self.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"

    def _draw(self, until_s: float) -> None:
        """Draw the times up to that one, and the first after it."""
        while not self._drawn or self._drawn[-1] <= until_s:
            time_s = next(self._times, None)
            if time_s is None:
                return
            self._drawn.append(time_s)

    def pull(self, until_s: float) -> list[Frame]:
        """Hand over the frames before that time."""
        frames = [frame for frame in self._frames if frame.time_s < until_s]
        self._frames = self._frames[len(frames) :]
        return frames

    def _take(self, frame: VideoFrame) -> None:
        time_s = self.end_s
        if frame.pts is not None:
            time_s = _seconds(frame.pts, self.stream) - self._origin_s
        if time_s > self.end_s + _MAX_GAP_S:
            return
        self.sure_s, self.end_s = time_s, max(self.end_s, time_s + self._step_s)
        self.reached_s = self.end_s + self._origin_s
        if self._wanted is None or time_s >= self._length_s:
            self.done = True
        elif time_s >= self._wanted - _FRAME_SLACK_S:
            self._frames.append(Frame(max(time_s, 0.0), _upright(frame, self._height)))
            while self._wanted is not None and self._wanted <= time_s + _FRAME_SLACK_S:
                self._draw(self._wanted)
                self._wanted = self._drawn.popleft() if self._drawn else None
            self.done = self._wanted is None or self._wanted >= self._length_s


def _upright(frame: VideoFrame, height: int | None) -> Image:
    """Convert to RGB ``[H, W, 3]``, shrunk and then turned as the file says."""
    turned = frame.rotation % 180 != 0
    shown = frame.width if turned else frame.height
    scale = 1.0 if height is None else min(1.0, height / shown)
    image = frame.to_ndarray(
        format="rgb24",
        width=max(1, round(frame.width * scale)),
        height=max(1, round(frame.height * scale)),
        interpolation="AREA",
    )
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _indexed(container: InputContainer) -> bool:
    return not _INDEXED.isdisjoint(container.format.name.split(","))


def _seconds(ticks: int | None, stream: Stream) -> float:
    return float((ticks or 0) * stream.time_base) if stream.time_base else 0.0


def first_time_s(*streams: Stream | None) -> float:
    """Time in the file at which the earliest of the streams begins, as their headers say."""
    return min(_seconds(stream.start_time, stream) for stream in streams if stream is not None)


def seek_before(container: InputContainer, time_s: float) -> bool:
    """Skip to a little before that time of the file; False where it must be decoded till there.

    Without an index, times after a seek are guesses.
    """
    if time_s <= 2 * _PREROLL_S or not _indexed(container):
        return False
    try:
        container.seek(int((time_s - _PREROLL_S) * av.time_base))
    except FFmpegError:
        return False
    return True


def is_short(
    container: InputContainer, parts: Sequence[AudioDecoder | VideoDecoder], *, everything: bool
) -> bool:
    """Tell whether a file, read to its end, ended before its header says.

    Args:
        container: the file.
        parts: what was decoded of it.
        everything: whether these are all its streams.
    """
    parts = [part for part in parts if not part.done]
    if not parts or not _indexed(container):
        return False
    with open(container.name, "rb") as file:
        kind, size = file.read(4), int.from_bytes(file.read(4), "little")
    if kind == b"RIFF" and size < 2**32 - 1:  # wav, avi: FFmpeg takes their lengths from the file
        return size > Path(container.name).stat().st_size + _SLOPPY
    if any(part.stream.duration is not None for part in parts):
        ends = [
            _seconds(part.stream.start_time, part.stream)
            + _seconds(part.stream.duration, part.stream)
            for part in parts
        ]
        return any(
            (p.reached_s or 0.0) < end - _SHORT_S for p, end in zip(parts, ends, strict=True)
        )
    end_s = (container.duration or 0) / av.time_base  # of the longest stream
    return everything and max(part.reached_s or 0.0 for part in parts) < end_s - _SHORT_S
