"""Choice of the sound and the picture in a file with several tracks.

- **Picture**: FFmpeg's best, covers and thumbnails aside.
- **Sound**: the track that the container marks as its default, else the first; tracks for listeners
  or viewers with an impairment come last. Where that track is silent from beginning to end, the
  first one that is not.

Screen recorders and cameras write a track for each source, and often nothing is connected to the
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from av import AudioFrame, AudioStream, VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

_SILENT_DBFS = -70.0  # peak: the dither of 16 bits reaches -84, a quiet voice -50
_IMPAIRED = Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment
_DECODE_ERRORS = (FFmpegError, ValueError, IndexError, OverflowError)


def picture_track(container: InputContainer) -> VideoStream | None:
    """Return the main picture of a file, or None.

    A track of which no packet was seen yet counts where the file has sound: it may begin late.
    """
    best = container.streams.best("video")
    if best is None and container.streams.best("audio") is None:
        return None
    tracks = sorted(container.streams.video, key=lambda track: track is not best)
    return next(
        (t for t in tracks if t.codec_context and not t.disposition & Disposition.attached_pic),
        None,
    )


def sound_tracks(container: InputContainer) -> list[AudioStream]:
    """Return the sound tracks that can be decoded, preferred ones first.

    Tracks of which no packet was seen yet count where the file has nothing else but a picture.
    """
    tracks = [track for track in container.streams.audio if track.codec_context]
    seen = [t for t in tracks if t.codec_context.sample_rate and t.codec_context.channels]
    if not seen and container.streams.best("video") is None:
        return []
    return sorted(
        seen or tracks,
        key=lambda t: (bool(t.disposition & _IMPAIRED), not t.disposition & Disposition.default),
    )


def first_with_sound(container: InputContainer, tracks: Sequence[AudioStream]) -> int | None:
    """Index of the first of the tracks that is not silent; None where all are.

    One pass that ends as soon as the first track is heard, usually within a second.

    Args:
        container: from its beginning; it can't be used afterwards.
        tracks: of the container, in order of preference.
    """
    places = {track.index: place for place, track in enumerate(tracks)}
    with_sound: set[int] = set()
    with suppress(*_DECODE_ERRORS):  # what can be read counts
        for packet in container.demux(list(tracks)):
            place = places.get(packet.stream.index)
            if place is None or place in with_sound:
                continue
            with suppress(*_DECODE_ERRORS):
                if any(not _is_silent(frame) for frame in tracks[place].decode(packet)):
                    with_sound.add(place)
                    if place == 0:
                        break
    return min(with_sound, default=None)


def _is_silent(frame: AudioFrame) -> bool:
    """Whether no channel moves by more than the threshold; an offset is not sound."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    full_scale = 1.0
    if np.issubdtype(values.dtype, np.integer):
        full_scale = 2.0 ** (8 * values.dtype.itemsize - 1)
    span = np.ptp(values.astype(np.float64), axis=1).max(initial=0.0)
    return bool(span <= 2 * full_scale * 10 ** (_SILENT_DBFS / 20))
