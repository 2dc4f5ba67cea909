"""Sound and picture of a media file.

Everything is decoded by PyAV (FFmpeg's libraries inside the wheel; no ffmpeg command is needed).
Sound becomes float32 mono at 16 kHz in -1..1, pictures become upright RGB. One pass over the file
serves both streams, in bounded blocks, so that the length of a file does not matter to memory.

Rules:

- **Time 0** is where the earlier of the two streams begins (or ``start_s``). Sound that begins
  later than the picture is preceded by silence, and gaps in it (up to 60 s: longer ones are broken
  clocks) become silence, so that sample ``n`` is heard at ``n / 16000`` s, beside that frame.
- **Mono** is the mean of left and right. More channels follow FFmpeg's standard down-mix (centre
  in full, sides and surrounds weaker, no LFE), scaled so that it can't clip.
- **Frames** are given for the times asked: the first decoded frame at or after each time (within
  1 ms, for containers that round their times). A frame that answers several times is given once;
  a time after the last frame is not answered. Only these frames are converted.
- A cover picture inside a music file is not video.

What becomes of odd files:

| file | outcome |
|---|---|
| sound only | samples, no frames |
| picture only | no samples (an empty array), frames |
| wav of zero samples | no samples, no error |
| silent | samples that are all zero |
| cut short, damaged inside | the good part; ``truncated``, ``bad_packets`` and ``warning`` say so |
| cut so that the index is missing (mp4 without moov) | `MediaError` |
| empty, text, random bytes, playlists, missing, a folder | `MediaError` |
| cut (``start_s``) after the end | no samples, no frames, no error |
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from avser.errors import ConfigError
from avser.media.container import main_streams, open_container, unreadable
from avser.media.decoders import (
    NO_SAMPLES,
    AudioDecoder,
    Samples,
    VideoDecoder,
    first_time_s,
    is_short,
    seek_before,
)
from avser.media.decoders import Frame as Frame  # part of this module's face
from avser.types import SAMPLE_RATE

_SOUND_AHEAD_S = 30.0  # how far one stream may lie before the other in the file (2 MB of sound)
_PICTURE_AHEAD_S = 2.0  # frames are large

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file states about itself; zero where it has no such stream.

    Attributes:
        duration_s: length in seconds as the container states it, or None.
        has_audio, has_video: whether there is a stream that can be decoded.
        sample_rate: of the file, in Hz (decoded sound is always 16 kHz).
        channels: of the file (decoded sound is always mono).
        width, height: of the upright picture, in pixels.
        fps: mean frames a second.
        rotation: degrees that the stored picture is turned counter-clockwise to stand upright.
    """

    duration_s: float | None
    has_audio: bool
    has_video: bool
    sample_rate: int
    channels: int
    width: int
    height: int
    fps: float
    rotation: int


@dataclass(frozen=True)
class Block:
    """A stretch of a file.

    Attributes:
        start_sample: index of the first sample, at 16 kHz from time 0.
        samples: ``[n]`` float32; blocks follow each other without gap or overlap.
        frames: the frames asked for that are seen in the stretch, in order of time. Where a file
            stores its streams far apart (30 s of sound, 2 s of picture), a frame may come in
            another block; its time is right.
    """

    start_sample: int
    samples: Samples
    frames: list[Frame]


def probe(path: str | Path) -> MediaInfo:
    """Say what is in a file, decoding one frame at most.

    Raises:
        MediaError: the file is missing, empty, or no media.
    """
    with open_container(Path(path)) as container:
        audio, video = main_streams(container, Path(path))
        width = height = rotation = 0
        if video:
            width, height = video.codec_context.width, video.codec_context.height
            with suppress(FFmpegError, StopIteration):
                rotation = int(next(container.decode(video)).rotation)
            if rotation % 180:
                width, height = height, width
        return MediaInfo(
            duration_s=container.duration / av.time_base if container.duration else None,
            has_audio=audio is not None,
            has_video=video is not None,
            sample_rate=int(audio.codec_context.sample_rate) if audio else 0,
            channels=int(audio.codec_context.channels) if audio else 0,
            width=width,
            height=height,
            fps=float(video.average_rate or 0) if video else 0.0,
            rotation=rotation,
        )


def read_audio(
    path: str | Path, *, start_s: float | None = None, end_s: float | None = None
) -> Samples:
    """Read the sound of a short clip at once, ``[S]`` float32 mono 16 kHz in -1..1.

    A file without sound gives an empty array. What is wrong inside is logged; `open_media` tells.

    Args:
        path: media file, with or without picture.
        start_s: beginning of the part to read, in seconds; None is the file's own.
        end_s: its end, in seconds; None is the file's own.

    Raises:
        MediaError: the file is missing, empty, no media, or no sample could be decoded.
        ConfigError: the part is empty or begins before 0.
    """
    with open_media(path, start_s=start_s, end_s=end_s) as reader:
        parts = [block.samples for block in reader]
        if reader.warning:
            _log.warning(reader.warning)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def open_media(
    path: str | Path,
    *,
    audio: bool = True,
    frame_times: float | Iterable[float] | None = None,
    frame_height: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    block_s: float = 2.048,
) -> MediaReader:
    """Open a file for one pass over its sound and its picture.

    Args:
        path: media file.
        audio: whether to decode the sound.
        frame_times: None for no pictures; a number for one every so many seconds, from 0; or the
            times in seconds, ascending (they are drawn as needed, so they need not end). With
            ``start_s`` they count from there, as do all times given back.
        frame_height: shrink pictures to this height in pixels, shape kept; never enlarged.
        start_s: beginning of the part to read, in seconds; None is the file's own.
        end_s: its end, in seconds; None is the file's own.
        block_s: length of a block in seconds (2.048 s is four steps).

    Returns:
        An iterator of `Block`; close it, use it in ``with``, or exhaust it.

    Raises:
        MediaError: the file is missing, empty, or no media; later: nothing in it can be decoded.
        ConfigError: a setting is out of its range.
    """
    begin = start_s or 0.0
    if begin < 0 or (end_s is not None and end_s <= begin):
        raise ConfigError(f"Bad part {start_s} to {end_s} s of {path}: expected 0 <= start < end.")
    for name, value in (("block_s", block_s), ("frame_height", frame_height)):
        if value is not None and value <= 0:
            raise ConfigError(f"Bad {name} {value}: expected more than 0.")
    return MediaReader(
        Path(path),
        audio=audio,
        times=None if frame_times is None else _ascending(frame_times),
        frame_height=frame_height,
        start_s=begin,
        length_s=float("inf") if end_s is None else end_s - begin,
        block=max(1, round(block_s * SAMPLE_RATE)),
    )


class MediaReader(Iterator[Block]):
    """One pass over a file; made by `open_media`.

    Attributes:
        has_audio, has_video: whether the file has such a stream (asked for or not).
        bad_packets: pieces that could not be decoded and were left out, so far.
        truncated: the file ended before its stated end; known when the pass is over.
    """

    def __init__(
        self,
        path: Path,
        *,
        audio: bool,
        times: Iterator[float] | None,
        frame_height: int | None,
        start_s: float,
        length_s: float,
        block: int,
    ) -> None:
        self.path = path
        self.truncated, self.bad_packets = False, 0
        self._block, self._container = block, open_container(path)
        sound, picture = main_streams(self._container, path)
        self.has_audio, self.has_video = sound is not None, picture is not None
        origin_s = start_s + first_time_s(sound, picture)
        seeked = start_s > 0 and seek_before(self._container, origin_s)
        self._sound: AudioDecoder | None = None
        self._picture: VideoDecoder | None = None
        if audio and sound:
            # without a picture, the first sound decoded tells the origin better than the header
            late = origin_s if picture or seeked else None
            self._sound = AudioDecoder(sound, origin_s=late, start_s=start_s, length_s=length_s)
        if times is not None and picture:
            self._picture = VideoDecoder(
                picture, origin_s=origin_s, length_s=length_s, times=times, height=frame_height
            )
        self._parts: list[AudioDecoder | VideoDecoder] = [
            p for p in (self._sound, self._picture) if p
        ]
        self._generator = self._blocks()

    @property
    def duration_s(self) -> float:
        """End of what was decoded so far, in seconds from time 0."""
        return max((part.end_s for part in self._parts), default=0.0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong inside the file, in words; complete when the pass is over."""
        return (self.warning,) if self.warning else ()

    @property
    def warning(self) -> str | None:
        """What is wrong inside the file, in one sentence, or None."""
        wrong = ["it ends before its stated end"] if self.truncated else []
        wrong += [f"{self.bad_packets} piece(s) can't be decoded"] if self.bad_packets else []
        return f"Damaged {self.path}: {' and '.join(wrong)}; the rest is used." if wrong else None

    def __next__(self) -> Block:
        return next(self._generator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        self._generator.close()
        self._container.close()

    def _blocks(self) -> Generator[Block]:
        first = 0  # sample at which the next block begins
        for packet in self._packets():
            part = next(p for p in self._parts if p.stream.index == packet.stream.index)
            self._feed(part, packet)
            while self._ready(first + self._block):
                yield from self._cut(first, first + self._block)
                first += self._block
            far = first + self._block + _PICTURE_AHEAD_S * SAMPLE_RATE
            if self._picture and self._picture.sure_s * SAMPLE_RATE > far:
                yield from self._cut(first, first)
        for part in self._parts:
            self._feed(part, None)
        self._judge()
        while any(part.holds for part in self._parts):
            yield from self._cut(first, first + self._block)
            first += self._block
        self._container.close()

    def _packets(self) -> Iterator[Packet[Stream]]:
        """Give packets in the order of the file until all that was asked for is decoded."""
        streams = [part.stream for part in self._parts]
        try:
            for packet in self._container.demux(streams) if streams else ():
                if packet.size:  # the empty ones at the end ask for what decoders hold back
                    yield packet
                if all(part.done for part in self._parts):
                    return
        except FFmpegError:
            self.truncated = True

    def _feed(self, part: AudioDecoder | VideoDecoder, packet: Packet[Stream] | None) -> None:
        try:
            if not part.done:
                part.feed(packet)
        except FFmpegError:
            self.bad_packets += packet is not None

    def _ready(self, last: int) -> bool:
        """Tell whether all that belongs before sample `last` has been decoded."""
        if not all(part.done or part.sure_s * SAMPLE_RATE >= last for part in self._parts):
            sound = self._sound
            return sound is not None and sound.position > last + _SOUND_AHEAD_S * SAMPLE_RATE
        return any(part.holds for part in self._parts)

    def _cut(self, first: int, last: int) -> Iterator[Block]:
        """Make the block of samples `first` to `last`; an empty span takes early frames along."""
        samples = self._sound.pull(last - first) if self._sound else NO_SAMPLES
        until_s = last / SAMPLE_RATE if last > first else float("inf")
        frames = self._picture.pull(until_s) if self._picture else []
        if samples.size or frames:
            yield Block(first, samples, frames)

    def _judge(self) -> None:
        """After the pass, tell whether the file was cut short, and refuse one with nothing."""
        everything = len(self._parts) == self.has_audio + self.has_video
        self.truncated |= is_short(self._container, self._parts, everything=everything)
        if self.warning and all(part.reached_s is None for part in self._parts):
            raise unreadable(self.path, "nothing can be decoded", "record or download it again")


def _ascending(times: float | Iterable[float]) -> Iterator[float]:
    if isinstance(times, int | float) and times <= 0:
        raise ConfigError(f"Bad frame interval {times} s: expected more than 0.")
    last = 0.0
    for time_s in (i * times for i in count()) if isinstance(times, int | float) else times:
        if time_s < last:
            raise ConfigError(f"Bad frame time {time_s} s: expected ascending times from 0.")
        yield (last := time_s)
