"""Sentences for `Prediction.reason`, and boxes of the face that was judged. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from avser.media.clip import LoadedClip
from avser.media.faces import FaceTrack
from avser.types import FaceBox, TimelineEntry

_OFTEN = 0.5  # share of the main person's frames in which somebody else matters
_LARGE = 0.25  # share of the area of the main person's face from which somebody else matters

#: Why a face that is seen is not judged beside a voice.
STILL_PICTURE = (
    "the face is still while somebody speaks, so that the voice alone is judged; --modality both "
    "adds the face"
)

#: How the sentence about a disagreement of label and timeline begins.
DISAGREEMENT = "the whole clip is judged"


def face_boxes(track: FaceTrack) -> tuple[FaceBox, ...]:
    """Boxes of a person's face over time."""
    rows = zip(track.times_s, track.boxes, track.scores, strict=True)
    return tuple(
        FaceBox(time_s=float(t), x=float(x), y=float(y), w=float(w), h=float(h), score=float(score))
        for t, (x, y, w, h), score in rows
    )


def reason_of(
    clip: LoadedClip,
    *,
    branches: set[str],
    used: set[str],
    modality: str,
    label: str | None,
    timeline: Sequence[TimelineEntry],
    marks: Sequence[str] = (),
) -> str | None:
    """Everything that is to be known beside a label, in one text; None where there is nothing.

    Args:
        clip: that was predicted.
        branches: of the model: "audio", "video".
        used: streams that were used; without any there was no signal.
        modality: that was asked for.
        label: of the clip.
        timeline: of its steps.
        marks: further sentences about the model's settings.
    """
    if not used:
        return "no_signal"
    parts = []
    if "audio" in branches and "audio" not in used and modality != "video":
        parts.append("the sound is silent" if clip.sound.count else "the file has no sound")
    if modality == "audio":
        pass
    elif clip.faces is not None:  # also where the voice model is used, since there was no face
        parts += [clip.faces.reason] if clip.faces.reason else []
    elif "video" in branches and clip.features is None:
        parts.append(
            "the model's video branch reads precomputed features; give --features"
            if clip.has_video
            else "the file has no picture"
        )
    parts += [*_other_faces(clip), *marks, *disagreement(label, timeline), *clip.warnings]
    return "; ".join(parts) or None


def _other_faces(clip: LoadedClip) -> list[str]:
    """Mention a face that is not judged, and somebody who is seen about as often and as large."""
    if clip.faces is None or not clip.faces.tracks:
        return []
    if not clip.judges_face:
        return [STILL_PICTURE]
    main, *tracks = clip.faces.tracks
    # the share of the picture that each covers
    own, *areas = (float(np.median(t.boxes[:, 2] * t.boxes[:, 3])) for t in clip.faces.tracks)
    others = [
        track
        for track, area in zip(tracks, areas, strict=True)
        if len(track.times_s) >= _OFTEN * len(main.times_s) and area >= _LARGE * own
    ]
    if not others:
        return []
    which = "the one whose lips move with the sound" if main.speaks else "the main one"
    still = f" ({_count_still(others)})" if any(t.still for t in others) else ""
    return [
        f"{len(others) + 1} faces are seen{still}, and {which} is judged; --faces all judges each"
    ]


def _count_still(tracks: Sequence[FaceTrack]) -> str:
    count = sum(track.still for track in tracks)
    return "one of them still, as a photograph" if count == 1 else f"{count} of them still"


def disagreement(label: str | None, timeline: Sequence[TimelineEntry]) -> list[str]:
    """Name the label of most steps where the clip has another."""
    counts = Counter(entry.label for entry in timeline if entry.label is not None)
    if label is None or not counts:
        return []
    other, most = counts.most_common(1)[0]
    if counts[label] == most:
        return []
    return [f"{DISAGREEMENT} {label}, {most} of its {counts.total()} steps alone {other}"]
