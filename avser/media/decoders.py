"""Decoding of one stream: sound at 16 kHz, and the pictures shown at given times.

`avser.media.reader` feeds packets whose time stamps `avser.media.clock` has corrected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av import AudioFrame, AudioResampler, AudioStream, VideoFrame, VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.clock import seconds
from avser.media.samples import (
    FULL_SCALE,
    NO_SAMPLES,
    ChannelMixer,
    Samples,
    bad_warning,
    down_mix,
    scaled_warning,
    zero_bad,
)
from avser.types import SAMPLE_RATE, STEP_S

# Containers that state how long each picture lasts; others state one length where pictures come as
# they please.
_TIMED = {"mov", "avi"}

_FLOATS = ("flt", "dbl")  # formats of samples begin so
_GAP_S = 0.1  # containers round times to 1 ms and more; a longer hole in the sound is real
_PREROLL_S = 1.0  # decoded before a part and dropped: codecs need up to 80 ms to settle
_FRAME_SLACK_S = 0.001  # containers that round times to 1 ms
_LONGEST_STEP_S = 60.0  # a picture that claims to last longer claims it in a damaged header
_OVERSHOOT = 1.42  # lossy codecs exceed full scale by up to 3 dB where the original touched it
_WIDEST_PIXEL = 8.0  # no camera has pixels of another shape; damaged headers have
_MOST_PIXELS = 2**26  # twice 8K; a damaged header can ask for any size
DECODE_ERRORS = (FFmpegError, ValueError, IndexError, OverflowError)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """The upright picture shown at a time.

    Pictures that are shown at several times are one and the same array.

    Attributes:
        time_s: seconds from time 0 for which it was asked.
        image: ``[H, W, 3]`` uint8 RGB, with square pixels.
    """

    time_s: float
    image: Image


class AudioDecoder:
    """Decodes, mixes and resamples one audio stream, and tracks the time of each sample.

    Args:
        stream: the sound of an open file.
        origin_s: time of the file that is time 0; None is the first sound plus `start_s`.
        start_s: where the part begins, in seconds after the beginning of the file.
        length_s: length of the part; ``inf`` is to the end.

    Attributes:
        position: index of the next sample, from time 0; samples below 0 are dropped.
        done: whether all that was asked for is decoded.
        end_s: end of what was decoded so far, in seconds from time 0.
        sure_s: all that belongs before this time is decoded.
        waiting: samples to be pulled.
        reached_s: time in the file where what was decoded ends.
        bad, total: samples that are no numbers, and all samples of the file's own rate.
        peak: largest size of a sample; above 1 the caller scales by it.
    """

    def __init__(
        self, stream: AudioStream, *, origin_s: float | None, start_s: float, length_s: float
    ) -> None:
        self.stream, self._base = stream, stream.time_base or Fraction(0)
        self.position = 0
        self.reached_s: float | None = None
        self.bad = self.total = 0
        self.peak = 0.0
        self._origin_s, self._start_s = origin_s, start_s
        self._limit = round(min(length_s * SAMPLE_RATE, 2**60))
        self.done, self.end_s, self.sure_s = self._limit <= 0, 0.0, 0.0
        self._kind: tuple[str, str, int] | None = None
        self._scale = 1.0  # of what the resampler gives
        self._resampler: AudioResampler | None = None
        self._mixer = ChannelMixer()
        self._overlap = 0  # samples to drop: a section of the file begins before the last one ends
        self.waiting: deque[Samples] = deque()

    @property
    def gain(self) -> float:
        """Factor that brings the samples into -1..1.

        Lossless floats are scaled as soon as they exceed full scale. Lossy codecs overshoot a
        little, which every player clips.
        """
        lossless = self.stream.codec_context.name.startswith(("pcm_", "wavpack"))
        return 1.0 if self.peak <= (FULL_SCALE if lossless else _OVERSHOOT) else 1 / self.peak

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was mended in the samples so far, in words."""
        result = [bad_warning(self.bad, self.total)] if self.bad else []
        result += [scaled_warning(self.peak)] if self.gain != 1 else []
        return (*result, *self._mixer.warnings)

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
        # not frame.time: the frames that a decoder holds back to the end have none
        time_s = self.reached_s if frame.pts is None else seconds(frame.pts, self._base)
        self._align(time_s or 0.0)
        self.reached_s = (self.reached_s or 0.0) + frame.samples / frame.sample_rate
        frame = self._cleaned(frame)
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind or self._resampler is None:
            self._flush()
            # to two channels at most: whether those cancel each other is seen before the mix
            layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            # floats may exceed full scale, and are scaled when all are known
            floats = frame.format.name.startswith(_FLOATS)
            self._resampler = AudioResampler("fltp" if floats else "s32p", layout, SAMPLE_RATE)
            self._scale = 1.0 if floats else 2.0**-31
            self._kind = kind
        frame.pts = None  # the resampler need not know: gaps are closed here
        self._add(self._resampler.resample(frame))

    def _cleaned(self, frame: AudioFrame) -> AudioFrame:
        """Replace samples that are no numbers, and mix more than two channels into two."""
        channels = frame.layout.nb_channels
        self.total += frame.samples * channels
        if frame.format.name.startswith(_FLOATS):
            kind = np.float64 if "dbl" in frame.format.name else np.float32
            values, bad = zero_bad(np.asarray(frame.to_ndarray(), kind))
            self.peak = max(self.peak, float(np.abs(values).max(initial=0.0)))
            if bad:
                self.bad += bad
                for plane, row in zip(frame.planes, values, strict=True):
                    np.frombuffer(memoryview(plane), row.dtype)[: len(row)] = row
        matrix = down_mix([channel.name for channel in frame.layout.channels])
        return frame if matrix is None else _down_mixed(frame, matrix)

    def pull(self, samples: int) -> Samples:
        """Hand over so many samples, or as many as there are."""
        taken: list[Samples] = []
        while self.waiting and samples > 0:
            first = self.waiting.popleft()
            if len(first) > samples:
                self.waiting.appendleft(first[samples:])
            taken.append(first[:samples])
            samples -= len(taken[-1])
        return np.concatenate(taken) if taken else NO_SAMPLES  # a copy: keeps nothing else alive

    def _align(self, time_s: float) -> None:
        """Bring the position to where sound of that time belongs, by silence where it is late."""
        if self._origin_s is None:
            self._origin_s = time_s + self._start_s
        if self.reached_s is not None and abs(time_s - self.reached_s) < _GAP_S:
            return
        self._flush()
        gap = round((time_s - self._origin_s) * SAMPLE_RATE) - self.position
        self._overlap = 0
        if self.reached_s is None and gap < 0:
            self.position = gap
        elif gap > 0:
            self._append(np.zeros(gap, np.float32))
        else:
            self._overlap = -gap
        self.reached_s = time_s

    def _flush(self) -> None:
        if self._resampler is not None:
            self._add(self._resampler.resample(None))
        self._resampler, self._kind = None, None

    def _add(self, frames: Iterable[AudioFrame]) -> None:
        for frame in frames:
            values = frame.to_ndarray().astype(np.float32) * np.float32(self._scale)
            self._append(self._mixer.mix(values))

    def _append(self, samples: Samples) -> None:
        dropped = min(self._overlap, len(samples))
        self._overlap -= dropped
        samples = samples[dropped:]
        kept = samples[max(0, -self.position) : max(0, self._limit - self.position)]
        self.position += len(samples)
        self.done = self.position >= self._limit
        self.end_s = self.sure_s = max(0, min(self.position, self._limit)) / SAMPLE_RATE
        if kept.size:
            self.waiting.append(kept)


def _down_mixed(frame: AudioFrame, matrix: NDArray[np.float32]) -> AudioFrame:
    """A frame's channels times a matrix ``[2, C]``, as a stereo frame of floats in -1..1."""
    values = frame.to_ndarray()
    rows = values if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels).T
    floats = np.asarray(rows, np.float32)
    if np.issubdtype(values.dtype, np.integer):
        floats = floats / np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    if values.dtype == np.uint8:
        floats = floats - np.float32(1)
    mixed = np.ascontiguousarray(matrix @ floats, np.float32)
    stereo = AudioFrame.from_ndarray(mixed, format="fltp", layout="stereo")
    stereo.sample_rate = frame.sample_rate
    return stereo


class VideoDecoder:
    """Decodes one stream in order and gives the picture shown at each time asked for.

    A picture is shown from its own time until the next one comes.

    Args:
        stream: the picture of an open file.
        origin_s: time of the file that is time 0.
        length_s: length of the part; ``inf`` is to the end.
        times: seconds from time 0, ascending.
        height: of the upright pictures in pixels, or None to keep their own.

    Attributes:
        reached_s: time in the file where what was decoded ends.
        sure_s: all that belongs before this time is decoded.
        end_s: end of what was decoded so far, in seconds from time 0.
        done: whether all that was asked for is decoded.
        waiting: frames to be pulled.
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
        self.stream, self._base = stream, stream.time_base or Fraction(0)
        self.reached_s: float | None = None
        self.sure_s = self.end_s = 0.0
        self._stated_s = 0.0  # latest end of a picture, as its packet states it
        self._given = False
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
        self._origin_s, self._length_s, self._height = origin_s, length_s, height
        self._aspect = pixel_aspect(stream)
        rate = float(stream.average_rate or 25)
        self._step_s = min(max(1 / rate, 1e-3), _LONGEST_STEP_S)
        self._gap_s = self._step_s  # the longest between two pictures, so far
        self._timed = not _TIMED.isdisjoint(stream.container.format.name.split(","))
        self._stated_end_s = (
            float((stream.start_time or 0) * self._base)
            + float(stream.duration * self._base)
            - origin_s
            if stream.duration and self._timed
            else None
        )
        self._times, self._last_s = times, 0.0
        self._drawn: deque[float] = deque()  # after the one that is wanted next
        self._draw(-1.0)
        self._wanted = self._drawn.popleft() if self._drawn else None
        self._shown: VideoFrame | None = None
        self._image: Image | None = None  # of what is shown, once it is asked for
        self.done = self._wanted is None or self._wanted >= length_s
        self.waiting: deque[Frame] = deque()

    def feed(self, packet: Packet[Stream] | None) -> None:
        """Decode a piece of the stream; None is its end.

        Raises:
            FFmpegError: the piece is damaged; the next one may be fed.
        """
        if packet is not None:
            self._choose(packet)
        for frame in self.stream.decode(packet):
            self._take(frame)
        if packet is None and self.reached_s is not None:
            self._reach(self._stated_s)

    def _choose(self, packet: Packet[Stream]) -> None:
        """Skip the decoding of a picture that is not needed and that no other one references.

        With most encoders that is every second picture, or more. A picture is needed if a requested
        time is after its own time by less than the longest gap between pictures.
        """
        wanted = True
        if self._stated_end_s is not None and packet.pts is not None:
            time_s = seconds(packet.pts, self._base) - self._origin_s
            length_s = min(seconds(packet.duration or 0, self._base), _LONGEST_STEP_S)
            self._gap_s = max(self._gap_s, length_s)
            after_s = time_s + self._gap_s + 2 * _FRAME_SLACK_S
            self._draw(after_s)
            coming = [] if self._wanted is None else [self._wanted, *self._drawn]
            wanted = any(time_s - 2 * _FRAME_SLACK_S <= t < after_s for t in coming)
            wanted |= time_s >= self._length_s or after_s >= self._stated_end_s
            # durations follow the order of decoding, so that one alone may be another picture's
            self._stated_s = max(self._stated_s, min(time_s + length_s, self._stated_end_s))
        self.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"

    def _draw(self, until_s: float) -> None:
        """Draw the times up to that one, and the first after it.

        Raises:
            ConfigError: they do not ascend.
        """
        while not self._drawn or self._drawn[-1] <= until_s:
            time_s = next(self._times, None)
            if time_s is None:
                return
            if time_s < self._last_s:
                raise ConfigError(f"Bad frame time {time_s} s: expected ascending times from 0.")
            self._last_s = time_s
            self._drawn.append(time_s)

    def pull(self, until_s: float) -> list[Frame]:
        """Hand over the frames before that time."""
        frames: list[Frame] = []
        while self.waiting and self.waiting[0].time_s < until_s:
            frames.append(self.waiting.popleft())
        return frames

    def finish(self, end_s: float) -> None:
        """After the end of the stream, show the last picture until the end of the clip."""
        self._show_until(max(end_s, self.end_s))
        last_s = min(self.end_s + STEP_S, self._length_s)
        if not self._given and self._wanted is not None and self._wanted < last_s:
            self._give(self._wanted)  # a clip that ends within its first step
        self.done = True

    def _take(self, frame: VideoFrame) -> None:
        time_s = self.end_s
        if frame.pts is not None:
            time_s = seconds(frame.pts, self._base) - self._origin_s
        if self._shown is None and self._wanted is not None and 0 < time_s <= _GAP_S:
            time_s = 0.0  # a first picture that is hardly late is shown from the beginning
        self._show_until(time_s)
        self._shown, self._image = frame, None
        self.sure_s = time_s
        end_s = time_s + self._step_s  # of uneven pictures that is a mean
        self._reach(end_s if self._stated_end_s is None else min(end_s, self._stated_end_s))
        self.done = self._wanted is None or time_s >= self._length_s

    def _reach(self, time_s: float) -> None:
        self.reached_s = max(self.reached_s or 0.0, time_s + self._origin_s)
        self.end_s = min(max(self.end_s, time_s), self._length_s)

    def _show_until(self, time_s: float) -> None:
        """Give what is shown for the times that are asked for before that one."""
        end_s = min(time_s - _FRAME_SLACK_S, self._length_s)
        while self._wanted is not None and self._wanted < end_s:
            self._give(self._wanted)
            last_s = self._wanted
            while self._wanted is not None and self._wanted <= last_s:
                self._draw(last_s)
                self._wanted = self._drawn.popleft() if self._drawn else None

    def _give(self, time_s: float) -> None:
        if self._shown is None:
            return
        if self._image is None:
            self._image = upright_image(self._shown, aspect=self._aspect, height=self._height)
        self.waiting.append(Frame(time_s, self._image))
        self._given = True


def pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height: 1 for most, 16/15 for PAL, 2 for anamorphic."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL else 1.0


def upright_image(frame: VideoFrame, *, aspect: float = 1.0, height: int | None = None) -> Image:
    """Convert to RGB ``[H, W, 3]`` with square pixels, shrunk and turned as the file says.

    Args:
        frame: decoded picture.
        aspect: width of its pixels over their height, as `pixel_aspect` gives it.
        height: shrink to this height in pixels; None keeps the picture's own.
    """
    turned = frame.rotation % 180 != 0
    width = frame.width * aspect
    shown = width if turned else frame.height
    scale = 1.0 if height is None else min(1.0, height / shown)
    image = frame.to_ndarray(
        format="rgb24",
        width=max(1, round(width * scale)),
        height=max(1, round(frame.height * scale)),
        interpolation="AREA",
    )
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def seek_before(container: InputContainer, time_s: float) -> bool:
    """Skip to a little before that time of a file; False where it must be decoded till there.

    Only for files with an index: without one, times after a seek are guesses.
    """
    if time_s <= 2 * _PREROLL_S:
        return False
    try:
        container.seek(int((time_s - _PREROLL_S) * av.time_base))
    except (FFmpegError, OverflowError):
        return False
    return True
