"""Opening a media file and choosing its streams; all errors become `MediaError`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
from av import AudioStream, VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from avser.errors import AvserError, MediaError
from avser.media.tracks import first_with_sound, picture_track, sound_tracks

# Demuxers that may open a file. Text art, image sequences and above all playlists (which name
# further files and addresses) stay out, whatever a file's name or content pretends.
_DEMUXERS = (
    "mov,matroska,webm,avi,flv,mpegts,mpeg,ogg,wav,w64,aiff,flac,mp3,aac,asf,caf,au,amr,ac3,eac3,"
    "dts,tta,wv,ape,voc,nistsphere,mpegvideo,mxf,dv,gif,rm,nut,ivf"
)

# Containers with an index: their seeking and their stated durations can be trusted.
_INDEXED = {"mov", "matroska", "webm", "avi", "wav"}
_SHORT_S = 0.5  # a stream that ends so much before its stated end is cut short
_SLOPPY = 4_096  # error in bytes of the file length that recorders write
_LFS_POINTER = b"version https://git-lfs"
_LOWEST_RATE = 1_000  # of sound, in Hz: half of it is the highest frequency that it holds


@contextmanager
def media_errors(path: Path) -> Iterator[None]:
    """Convert all errors of the block to a `MediaError` about a file.

    Decoders raise errors of many kinds on damaged files, and so does the system for bad names and
    missing permissions. Errors of avser are not changed.

    Raises:
        MediaError: anything else went wrong.
    """
    try:
        yield
    except AvserError:
        raise
    except FFmpegError as error:
        raise unreadable(
            path,
            "it is no recording, or its index is missing",
            "expected sound or video such as .wav, .mp3, .mp4, .mov, .webm or .mkv, whole",
        ) from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise unreadable(path, f"the system says '{why}'", "check name and permissions") from error
    except MemoryError as error:
        raise unreadable(path, "there is not enough memory", "check that it is whole") from error
    except Exception as error:
        what = f"it is damaged ({type(error).__name__}: {error})"
        raise unreadable(path, what, "record or download it again") from error


@dataclass(frozen=True)
class MediaFile:
    """An open file, with what its headers state.

    Attributes:
        container: of PyAV.
        audio, video: the main sound and the main picture; at least one is there.
        begin_s: time in the file at which the earlier of them begins.
        length_s: from the first time to the last, or None.
        indexed: whether the container has an index, so that stated durations and seeking can be
            trusted.
        warnings: about the choice of the main sound, in words.
    """

    container: InputContainer
    audio: AudioStream | None
    video: VideoStream | None
    begin_s: float
    length_s: float | None
    indexed: bool
    warnings: tuple[str, ...] = ()

    def is_short(
        self, reached_s: Sequence[tuple[AudioStream | VideoStream, float]], *, everything: bool
    ) -> bool:
        """Tell whether a file, read to its end, ended before its header says.

        Args:
            reached_s: streams that were decoded to their end, and the time where that was.
            everything: whether these are all its streams.
        """
        if not reached_s or not self.indexed:
            return False
        with open(self.container.name, "rb") as file:
            kind, size = file.read(4), int.from_bytes(file.read(4), "little")
        if kind == b"RIFF" and size < 2**32 - 1:  # wav, avi: FFmpeg takes lengths from the file
            return size > Path(self.container.name).stat().st_size + _SLOPPY
        # Matroska states one length for all streams
        own = "matroska" not in self.container.format.name
        if own and any(stream.duration is not None for stream, _ in reached_s):
            return any(
                time_s < _seconds(s.start_time, s) + _seconds(s.duration, s) - _SHORT_S
                for s, time_s in reached_s
            )
        start_s = (self.container.start_time or 0) / av.time_base
        end_s = start_s + (self.length_s or 0.0)  # of the longest stream
        return everything and max(time_s for _, time_s in reached_s) < end_s - _SHORT_S


def open_file(path: Path) -> MediaFile:
    """Open a file, whatever its name says, and choose its streams.

    Raises:
        MediaError: the file is missing, empty, or no media; it has neither sound nor picture; or
            the sound's rate is too low for speech.
    """
    with media_errors(path):
        if "\0" in str(path):
            raise unreadable(path, "its name holds a NUL character", "check the list of names")
        if path.is_symlink() and not path.exists():
            raise unreadable(path, "it is a link to nothing, or to itself", "mend the link")
        if not path.exists():
            raise unreadable(path, "there is no such file", "check the path")
        if path.is_dir():
            raise unreadable(path, "it is a folder", "name the files in it")
        if not path.is_file():
            raise unreadable(path, "it is a pipe or a device", "store it in a file first")
        if not path.stat().st_size:
            raise unreadable(path, "it is empty", "record or download it again")
        container = _opened(path)
        try:
            audio, video, warnings = _main_streams(container, path)
            streams = [stream for stream in (audio, video) if stream is not None]
            starts = [_seconds(s.start_time, s) for s in streams if s.start_time is not None]
            return MediaFile(
                container,
                audio,
                video,
                begin_s=min(starts, default=0.0),
                length_s=_stated_length_s(container),
                indexed=not _INDEXED.isdisjoint(container.format.name.split(",")),
                warnings=warnings,
            )
        except BaseException:
            container.close()
            raise


def _opened(path: Path) -> InputContainer:
    return av.open(
        str(path.absolute()),  # absolute: a name such as "concat:a" is no address then
        options={"format_whitelist": _DEMUXERS, **_probing(path)},
        metadata_errors="ignore",
    )


def _probing(path: Path) -> dict[str, str]:
    """Bound the search for a surround stream hidden in a wav's samples.

    By default FFmpeg tries thousands of packets of every wav, and even eight take twice as long as
    to decode a clip. Such a stream pretends to be two channels: in one channel there is none.

    Raises:
        MediaError: the file is a pointer of git-lfs.
    """
    with path.open("rb") as file:
        head = file.read(24)
    if head.startswith(_LFS_POINTER):
        raise unreadable(
            path, "it is a git-lfs pointer, not the recording", "fetch it with 'git lfs pull'"
        )
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return {}
    mono = head[12:16] == b"fmt " and head[22:24] == b"\x01\x00"
    return {"max_probe_packets": "1" if mono else "8"}


def unreadable(path: Path, why: str, cure: str) -> MediaError:
    """Make the one sentence of every error here: what, which file, why, the cure."""
    name = str(path).replace("\0", "\\0")
    return MediaError(f"Can't read {name}: {why}; {cure}.")


def _main_streams(
    container: InputContainer, path: Path
) -> tuple[AudioStream | None, VideoStream | None, tuple[str, ...]]:
    """Find the main sound and the main picture; either may be None.

    Returns:
        Both, and a warning in words where the preferred sound is silent.

    Raises:
        MediaError: both are None, or the sound's rate is too low for speech.
    """
    video, tracks = picture_track(container), sound_tracks(container)
    if not tracks and video is None:
        raise unreadable(path, "it holds neither sound nor picture", "choose a recording")
    if not tracks:
        return None, video, ()
    indices = tuple(track.index for track in tracks)
    index = indices[0]
    if len(tracks) > 1:
        state = path.stat()
        index = _sounding_track(path.absolute(), state.st_size, state.st_mtime_ns, indices)
    audio = next(track for track in tracks if track.index == index)
    rate = audio.codec_context.sample_rate
    if 0 < rate < _LOWEST_RATE:
        raise unreadable(
            path,
            f"it states {rate} samples a second, and below {_LOWEST_RATE} there is no speech",
            "export it again",
        )
    if audio is tracks[0]:
        return audio, video, ()
    silent, used = (1 + container.streams.audio.index(track) for track in (tracks[0], audio))
    warning = f"its sound track {silent} of {len(tracks)} is silent, so that track {used} is used"
    return audio, video, (warning,)


@lru_cache(maxsize=256)
def _sounding_track(path: Path, _size: int, _changed_ns: int, indices: tuple[int, ...]) -> int:
    """Return the first of the tracks with sound; of silent ones the first.

    A file is often opened again, for each of its parts or for its faces: hence the cache.
    """
    with _opened(path) as container:
        tracks = [container.streams[index] for index in indices if index < len(container.streams)]
        sounds = [track for track in tracks if isinstance(track, AudioStream)]
        place = first_with_sound(container, sounds) or 0
    return indices[place]


def _seconds(ticks: int | None, stream: Stream) -> float:
    """Seconds of a stream's ticks."""
    return float((ticks or 0) * stream.time_base) if stream.time_base else 0.0


def _stated_length_s(container: InputContainer) -> float | None:
    """Length in seconds as the container states it, from its first time to its last."""
    if not container.duration or container.duration < 0:
        return None
    length_s = container.duration / av.time_base
    if container.format.name == "avi":  # its own length is that of the picture
        return max([length_s, *(_seconds(s.frames, s) for s in container.streams.audio)])
    start_s = (container.start_time or 0) / av.time_base
    # these state the time at which they end, counted from 0 and not from their start
    ends_at = not {"matroska", "webm", "flv", "ogg"}.isdisjoint(container.format.name.split(","))
    return length_s - start_s if ends_at and 0 < start_s < length_s else length_s
