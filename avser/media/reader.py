"""Sound and picture of a media file.

Everything is decoded by PyAV (FFmpeg's libraries inside the wheel; no ffmpeg command is needed).
Sound becomes float32 mono at 16 kHz, pictures become upright RGB with square pixels. One pass over
the file serves both streams, in bounded blocks, so that the length of a file does not matter to
memory.

Rules:

- **Time 0** is the beginning of the earlier of the two streams (or ``start_s``). Sound that begins
  later than the picture is preceded by silence, and gaps become silence, so that sample ``n`` is at
  ``n / 16000`` s, aligned with the frame shown then. Jumps of time stamps are removed, alike for
  both streams (see `avser.media.clock`).
- **Mono** is the mean of left and right, or the louder one where they cancel each other. Up to
  eight loudspeakers are mixed into left and right first (ITU-R BS.775: centre and surrounds 3 dB
  weaker, no subwoofer), scaled so that nothing clips; other channels are averaged.
- **16 kHz** is made by FFmpeg's resampler with its default filter.
- **Scale** is -1..1. Blocks hold floats as the file has them, times `MediaReader.gain` when all are
  known; `read_audio` and `avser.media.clip` apply it. NaN and infinite samples are 0.
- **Frames** are what is shown at the times asked: the last picture at or before each time (within
  1 ms, for containers that round their times), held until the next one, and the last one until the
  clip ends. Before the first picture nothing is shown. Only these frames are converted.
- A cover picture inside a music file is not video. Of several tracks `avser.media.tracks` chooses.

Unusual files:

| file | outcome |
|---|---|
| sound only | samples, no frames |
| picture only | no samples (an empty array), frames |
| wav of zero samples | no samples, no error |
| silent | samples that are all zero |
| cut short, damaged inside | the good part, and a warning |
| cut so that the index is missing (mp4 without moov) | `MediaError` |
| mostly NaN | `MediaError` |
| empty, text, random bytes, playlists, git-lfs pointers, missing, a folder | `MediaError` |
| part (``start_s``) after the end | no samples, no frames, no error |
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
from av import VideoStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from avser.errors import ConfigError, escape_controls
from avser.media.clock import FileClock
from avser.media.container import media_errors, open_file, unreadable
from avser.media.decoders import (
    DECODE_ERRORS,
    AudioDecoder,
    VideoDecoder,
    pixel_aspect,
    seek_before,
)
from avser.media.decoders import Frame as Frame  # part of this module's face
from avser.media.samples import MOST_BAD, NO_SAMPLES, Samples
from avser.types import SAMPLE_RATE

_SOUND_AHEAD_S = 30.0  # how far one stream may lie before the other in the file (2 MB of sound)
_PICTURE_AHEAD_S = 2.0  # frames are large
_PROBED_PACKETS = 50  # after so many a picture that can't be decoded is not waited for
_MOST_LOST_PACKETS = 1_000  # of streams that a damaged file makes up while it is read

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """Properties stated in a file's headers; zero for a stream that it does not have.

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
class MediaBlock:
    """A stretch of a file.

    Attributes:
        start_sample: index of the first sample, at 16 kHz from time 0.
        samples: ``[n]`` float32, not yet scaled by the reader's `gain`; blocks follow each other
            without gap or overlap.
        frames: the frames asked for that are shown in the stretch, in order of time. Where a file
            stores its streams far apart (30 s of sound, 2 s of picture), a frame may come in
            another block; its time is right.
    """

    start_sample: int
    samples: Samples
    frames: list[Frame]


def probe(path: str | Path) -> MediaInfo:
    """Describe what is in a file, decoding one frame at most.

    Raises:
        MediaError: the file is missing, empty, or no media.
    """
    path = Path(path)
    file = open_file(path)
    with file.container as container, media_errors(path):
        audio, video = file.audio, file.video
        width = height = rotation = 0
        if video:
            width, height = video.codec_context.width, video.codec_context.height
            width = round(width * pixel_aspect(video))
            rotation = _rotation(container, video)
            if rotation % 180:
                width, height = height, width
        return MediaInfo(
            duration_s=file.length_s,
            has_audio=audio is not None,
            has_video=video is not None,
            sample_rate=int(audio.codec_context.sample_rate) if audio else 0,
            channels=int(audio.codec_context.channels) if audio else 0,
            width=width,
            height=height,
            fps=float(video.average_rate or 0) if video else 0.0,
            rotation=rotation,
        )


def _rotation(container: InputContainer, video: VideoStream) -> int:
    """Rotation of the first picture that can be decoded soon; 0 where none can."""
    for packet in islice(container.demux(video), _PROBED_PACKETS):
        with suppress(*DECODE_ERRORS):
            for frame in video.decode(packet):
                return int(frame.rotation)
    return 0


def read_audio(
    path: str | Path, *, start_s: float | None = None, end_s: float | None = None
) -> Samples:
    """Read the sound of a short clip at once, ``[S]`` float32 mono 16 kHz in -1..1.

    A file without sound gives an empty array. What is wrong inside is logged.

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
        for warning in reader.warnings:
            _log.warning("%s: %s", escape_controls(str(path)), warning)
    return scaled(np.concatenate(parts), reader.gain) if parts else np.zeros(0, np.float32)


def check_start(path: str | Path, start_s: float | None) -> None:
    """Refuse a part of which nothing is there, because the file ends before it.

    Raises:
        MediaError: the part begins at the stated end of the file or after it.
    """
    length_s = probe(path).duration_s if start_s else None
    if start_s is not None and length_s is not None and start_s >= length_s:
        raise unreadable(
            Path(path),
            f"its part begins at {start_s:g} s, after its end at {length_s:.2f} s",
            "correct the start",
        )


def scaled(samples: Samples, gain: float) -> Samples:
    """Samples times a reader's gain, in -1..1; lossy codecs overshoot a little, which is cut."""
    if gain != 1:
        samples = samples * np.float32(gain)
    return np.clip(samples, -1.0, 1.0)


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
        An iterator of `MediaBlock`; close it, use it in ``with``, or exhaust it.

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
    times: Iterator[float] | None = None
    if isinstance(frame_times, int | float):
        if frame_times <= 0:
            raise ConfigError(f"Bad frame interval {frame_times} s: expected more than 0.")
        interval_s = frame_times
        times = (i * interval_s for i in count())
    elif frame_times is not None:
        times = iter(frame_times)
    return MediaReader(
        Path(path),
        audio=audio,
        times=times,
        frame_height=frame_height,
        start_s=begin,
        length_s=float("inf") if end_s is None else end_s - begin,
        block=max(1, round(block_s * SAMPLE_RATE)),
    )


class MediaReader(Iterator[MediaBlock], AbstractContextManager["MediaReader"]):
    """One pass over a file; made by `open_media`.

    Attributes:
        has_audio, has_video: whether the file has such a stream (asked for or not).
        stated_s: length in seconds as the container states it, or None.
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
        self._lost = 0  # pieces of streams that begin inside the file
        self._block, self._file = block, open_file(path)
        self.stated_s = self._file.length_s
        sound, picture = self._file.audio, self._file.video
        self.has_audio, self.has_video = sound is not None, picture is not None
        self._sound: AudioDecoder | None = None
        self._picture: VideoDecoder | None = None
        with media_errors(path):
            begin_s, indexed = self._file.begin_s, self._file.indexed
            origin_s = start_s + begin_s
            stated_end_s = begin_s + self.stated_s if indexed and self.stated_s else None
            seeked = start_s > 0 and indexed and seek_before(self._file.container, origin_s)
            self._clock = FileClock(
                start_s=origin_s if seeked else begin_s, stated_end_s=stated_end_s
            )
            self._begin_s, self._origin_s = begin_s, origin_s
            if audio and sound:
                # without a picture, the first decoded sound gives a better origin than the header
                late = origin_s if picture or seeked else None
                self._sound = AudioDecoder(sound, origin_s=late, start_s=start_s, length_s=length_s)
            if times is not None and picture:
                self._picture = VideoDecoder(
                    picture, origin_s=origin_s, length_s=length_s, times=times, height=frame_height
                )
        # both are followed, whatever is asked for: each confirms the other's time
        self._streams = [stream for stream in (sound, picture) if stream is not None]
        self._parts: list[AudioDecoder | VideoDecoder] = [
            p for p in (self._sound, self._picture) if p
        ]
        self._generator = self._blocks()

    @property
    def duration_s(self) -> float:
        """End of what was decoded so far, in seconds from time 0."""
        return max((part.end_s for part in self._parts), default=0.0)

    @property
    def gain(self) -> float:
        """Factor that brings all samples so far into -1..1: 1 for nearly every file."""
        return self._sound.gain if self._sound else 1.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong inside the file and what was mended, in words, so far."""
        wrong = ["it ends before its stated end"] if self.truncated else []
        wrong += [f"{self.bad_packets} piece(s) can't be decoded"] if self.bad_packets else []
        wrong += ["streams that begin inside it are left out"] if self._lost else []
        damage = f"the file is damaged: {' and '.join(wrong)}, and the rest is used"
        warnings = [damage] if wrong else []
        jumps = self._clock.jumps
        # sound alone that starts anew loses nothing
        if jumps and (len(self._streams) > 1 or self._clock.forward):
            first_s = max(0.0, jumps[0] - self._origin_s)
            many = "once" if len(jumps) == 1 else f"{len(jumps)} times"
            joined = f"its time stamps jump {many}, first at {first_s:.2f} s, and are joined there"
            warnings.append(joined)
        sound = (*self._file.warnings, *self._sound.warnings) if self._sound else ()
        return (*warnings, *sound)

    def __next__(self) -> MediaBlock:
        with media_errors(self.path):
            block = next(self._generator, None)
        if block is None:
            raise StopIteration
        return block

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        self._generator.close()
        self._file.container.close()

    def _blocks(self) -> Generator[MediaBlock]:
        first = 0  # sample at which the next block begins
        parts = {part.stream.index: part for part in self._parts}
        for packet in self._packets():
            self._clock.correct(packet)
            if packet.stream.index in parts:
                self._feed(parts[packet.stream.index], packet)
            while self._ready(first + self._block):
                yield from self._take_block(first, first + self._block)
                first += self._block
            far = first + self._block + _PICTURE_AHEAD_S * SAMPLE_RATE
            if self._picture and self._picture.sure_s * SAMPLE_RATE > far:
                yield from self._take_block(first, first)
        for part in self._parts:
            self._feed(part, None)
        # whether the file was cut short; one with nothing in it is refused
        reached_s = [(p.stream, p.reached_s or 0.0) for p in self._parts if not p.done]
        everything = len(self._parts) == self.has_audio + self.has_video
        self.truncated |= self._file.is_short(reached_s, everything=everything)
        damaged = self.truncated or self.bad_packets
        if damaged and all(part.reached_s is None for part in self._parts):
            raise unreadable(self.path, "nothing can be decoded", "record or download it again")
        sound = self._sound
        if sound is not None and sound.bad > MOST_BAD * sound.total:
            raise unreadable(
                self.path,
                f"{sound.bad} of {sound.total} samples are NaN, infinite or out of all range",
                "export it again with samples in -1..1",
            )
        if self._picture:
            self._picture.finish(max(self.duration_s, self._clock.end_s - self._origin_s))
        while any(part.waiting for part in self._parts):
            yield from self._take_block(first, first + self._block)
            first += self._block
        self._file.container.close()

    def _packets(self) -> Iterator[Packet[Stream]]:
        """Give packets in the order of the file until all that was asked for is decoded."""
        while self._parts and self._lost < _MOST_LOST_PACKETS:
            try:
                for packet in self._file.container.demux(self._streams):
                    if packet.size:  # the empty ones at the end ask for what decoders hold back
                        yield packet
                    if all(part.done for part in self._parts):
                        return
                return
            except IndexError:  # a packet of a stream that was not there at the beginning
                self._lost += 1
            except DECODE_ERRORS:
                self.truncated = True
                return

    def _feed(self, part: AudioDecoder | VideoDecoder, packet: Packet[Stream] | None) -> None:
        try:
            if not part.done:
                part.feed(packet)
        except DECODE_ERRORS:
            self.bad_packets += packet is not None

    def _ready(self, last: int) -> bool:
        """Whether all that belongs before sample `last` has been decoded."""
        if not all(part.done or part.sure_s * SAMPLE_RATE >= last for part in self._parts):
            sound = self._sound
            return sound is not None and sound.position > last + _SOUND_AHEAD_S * SAMPLE_RATE
        return any(part.waiting for part in self._parts)

    def _take_block(self, first: int, last: int) -> Iterator[MediaBlock]:
        """Make the block of samples `first` to `last`; an empty span takes early frames along."""
        samples = self._sound.pull(last - first) if self._sound else NO_SAMPLES
        until_s = last / SAMPLE_RATE if last > first else float("inf")
        frames = self._picture.pull(until_s) if self._picture else []
        if samples.size or frames:
            yield MediaBlock(first, samples, frames)
