"""Opening a media file and choosing its streams, or saying in one sentence why that can't be."""

from pathlib import Path

import av
from av import AudioStream, VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from avser.errors import MediaError

# Demuxers that may open a file. Text art, image sequences and above all playlists (which name
# further files and addresses) stay out, whatever a file's name or content pretends.
_DEMUXERS = (
    "mov,matroska,webm,avi,flv,mpegts,mpeg,ogg,wav,w64,aiff,flac,mp3,aac,asf,caf,au,amr,ac3,eac3"
)


def open_container(path: Path) -> InputContainer:
    """Open a file, whatever its name says.

    Raises:
        MediaError: the file is missing, empty, or no media.
    """
    if not path.exists():
        raise unreadable(path, "there is no such file", "check the path")
    if not path.is_file():
        raise unreadable(path, "it is a folder", "name the files in it")
    if not path.stat().st_size:
        raise unreadable(path, "it is empty", "record or download it again")
    try:
        return av.open(
            str(path.absolute()),  # absolute: a name such as "concat:a" is no address then
            options={"format_whitelist": _DEMUXERS, **_probing(path)},
            metadata_errors="ignore",
        )
    except (FFmpegError, ValueError) as error:
        raise unreadable(
            path,
            "it is no recording, or its index is missing",
            "expected sound or video such as .wav, .mp3, .mp4, .mov, .webm or .mkv, whole",
        ) from error


def _probing(path: Path) -> dict[str, str]:
    """Bound the search for a surround stream hidden in a wav's samples.

    By default FFmpeg tries thousands of packets of every wav, and even eight take twice as long as
    to decode a clip. Such a stream pretends to be two channels: in one channel there is none.
    """
    with path.open("rb") as file:
        head = file.read(24)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return {}
    mono = head[12:16] == b"fmt " and head[22:24] == b"\x01\x00"
    return {"max_probe_packets": "1" if mono else "8"}


def unreadable(path: Path, why: str, cure: str) -> MediaError:
    """Make the one sentence of every error here: what, which file, why, the cure."""
    return MediaError(f"Can't read {path}: {why}; {cure}.")


def main_streams(
    container: InputContainer, path: Path
) -> tuple[AudioStream | None, VideoStream | None]:
    """Find the main sound and the main picture; either may be None.

    Raises:
        MediaError: both are None.
    """
    audio, video = container.streams.best("audio"), container.streams.best("video")
    if not isinstance(audio, AudioStream) or not audio.codec_context:
        audio = None
    if not isinstance(video, VideoStream) or not video.codec_context:
        video = None
    elif video.disposition & Disposition.attached_pic:  # the cover of a record
        video = None
    if audio is None and video is None:
        container.close()
        raise unreadable(path, "it holds neither sound nor picture", "choose a recording")
    return audio, video
