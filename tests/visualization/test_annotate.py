from pathlib import Path

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.reader import open_media, probe
from avser.testing.media import voice, write_video, write_wav
from avser.types import STEP_S, FaceBox, Prediction, TimelineEntry
from avser.visualization import clip_plots as draw_clip
from avser.visualization.annotate import annotate, thumbnails
from avser.visualization.colours import rgb_of

GREY = np.full((30, 120, 160, 3), 100, np.uint8)  # three seconds at 10 fps


def prediction_of(*, boxes: tuple[FaceBox, ...] = (), labels: str = "happy sad") -> Prediction:
    """Every step another of the labels, in turn."""
    names = labels.split()
    steps = [
        TimelineEntry(
            start_s=i * STEP_S,
            end_s=(i + 1) * STEP_S,
            label=names[i % len(names)],
            probabilities={n: 0.9 if n == names[i % len(names)] else 0.1 for n in names},
        )
        for i in range(6)
    ]
    return Prediction(
        label=names[0],
        probabilities=dict.fromkeys(names, 0.5),
        modalities=("audio", "video"),
        reason=None,
        duration_s=3.0,
        timeline=tuple(steps),
        model="tiny",
        boxes=boxes,
    )


def box(time_s: float, x: float = 0.5) -> FaceBox:
    return FaceBox(time_s=time_s, x=x, y=0.25, w=0.25, h=0.5, score=1.0)


def pictures(path: Path, *times: float) -> list[np.ndarray]:  # type: ignore[type-arg]
    with open_media(path, audio=False, frame_times=list(times)) as reader:
        return [f.image.astype(int) for block in reader for f in block.frames]


def test_copy_keeps_time_and_sound_and_shows_the_box_where_the_face_is(tmp_path: Path) -> None:
    sound = voice("happy", seconds=3.0)
    source = write_video(tmp_path / "clip.mp4", GREY, samples=sound)
    result = tuple(box(t) for t in np.arange(0.1, 1.3, 0.25))
    target = annotate(prediction_of(boxes=result), source, tmp_path / "out" / "clip.mp4")
    before, after = probe(source), probe(target)
    assert after.has_audio and (after.width, after.height) == (before.width, before.height)
    assert after.duration_s == pytest.approx(before.duration_s, abs=0.15)
    early, late = pictures(target, 0.2, 2.5)
    edge = (slice(50, 70), slice(78, 83))  # the left side of the box, at half of 160 columns
    assert np.abs(early[edge] - 100).max() > 40  # drawn in the label's colour
    assert np.abs(late[edge] - 100).max() < 25  # the face was last seen more than a second ago
    colours = [image[-4:, 40:60].mean(axis=(0, 1)) for image in (early, late)]
    assert np.abs(colours[0] - colours[1]).max() < 12  # the timeline's strip stands still
    assert (
        np.abs(colours[0] - list(rgb_of("sad"))).max() < 60
    )  # column 50 of 160 is at 0.94 s: step 1


def test_bars_are_as_long_as_probabilities(tmp_path: Path) -> None:
    target = annotate(prediction_of(), write_video(tmp_path / "a.mp4", GREY), tmp_path / "b.mp4")
    (image,) = pictures(target, 0.2)
    first = image[10:14, 68:148].mean(axis=0)  # happy, 0.9 in the first step
    second = image[24:28, 68:148].mean(axis=0)
    lit = [
        np.abs(row - list(rgb_of(n))).sum(axis=1) < 120
        for row, n in ((first, "happy"), (second, "sad"))
    ]
    assert lit[0].sum() > 60 and lit[1].sum() < 20


def test_what_has_no_picture_or_no_mp4_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", voice("sad", seconds=1.0))
    with pytest.raises(MediaError, match="no picture"):
        annotate(prediction_of(), wav, tmp_path / "b.mp4")
    with pytest.raises(MediaError, match=r"ends in \.mp4"):
        annotate(prediction_of(), wav, tmp_path / "b.avi")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav"]


def test_faces_are_cut_out_and_drawn_under_the_timeline(tmp_path: Path) -> None:
    frames = GREY.copy()
    frames[:, 30:90, 80:120] = 250
    source = write_video(tmp_path / "a.mp4", frames)
    result = prediction_of(boxes=tuple(box(t) for t in np.arange(0.1, 2.9, 0.25)))
    shots = thumbnails(result, source, count=4)
    assert len(shots) == 4 and shots[0][0] < 0.3 and shots[-1][0] > 2.4
    assert all(image[len(image) // 2, image.shape[1] // 2].min() > 200 for _, image in shots)
    assert thumbnails(prediction_of(), source) == []
    plain, full = draw_clip.timeline_figure(result), draw_clip.timeline_figure(result, faces=shots)
    assert len(full.axes) == len(plain.axes) + 1
    assert len(full.axes[2].artists) == 4
