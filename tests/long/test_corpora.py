"""Corpora read from real data, where it is; see `shared_data`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from shared_data import DATA, missing

from avser.datamodules.corpora import find_corpus
from avser.datamodules.corpora.ravdess import Ravdess

pytestmark = pytest.mark.long


def present(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(missing(name, DATA, "AVSER_DATA"))
    return path


# The full corpora, or the parts of them that are kept for measuring
@pytest.mark.parametrize(
    ("name", "clips", "speakers", "emotions"),
    [
        ("ravdess", (1440, 1200), (24, 20), 8),
        ("savee", (480, 360), (4, 3), 7),
        ("emodb", (535, 408), (10, 8), 7),
        ("nemo", (4481, 280), (9, 7), 6),
    ],
)
def test_counts(
    name: str, clips: tuple[int, int], speakers: tuple[int, int], emotions: int
) -> None:
    result = find_corpus(name)(present(name)).clips()
    counts = len(result), len({clip.speaker for clip in result})
    assert counts in zip(clips, speakers, strict=True)
    assert len({clip.emotion for clip in result}) == emotions
    assert len({clip.clip_id for clip in result}) == len(result)


def test_ravdess_classes_and_oddities() -> None:
    clips = Ravdess(present("ravdess")).clips()
    counts = Counter(clip.emotion for clip in clips)
    assert counts["neutral"] * 2 == counts["happy"] == counts["calm"]
    ids = {clip.clip_id for clip in clips}
    assert {"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"} <= ids  # one recording, two names


def test_ravdess_action_units_of_every_take() -> None:
    table = present("ravdess_openface_aus.csv")
    clips = Ravdess(present("ravdess"), features=table).clips()
    assert all(c.features == f"{table}#{c.clip_id.replace('03-', '01-', 1)}" for c in clips)


def test_ravdess_videos() -> None:
    films = present("ravdess_video")
    clips = Ravdess(present("ravdess"), video_root=films).clips()
    paired = {clip.video.name for clip in clips if clip.video is not None}
    assert {"01-01-01-01-01-01-01.mp4", "02-01-04-01-02-01-01.mp4"} <= paired
    both = Ravdess(films, modality="av").clips()
    assert {clip.clip_id for clip in both} >= {"01-01-01-01-01-01-01", "01-01-01-01-01-02-01"}
    assert all(clip.video == clip.path for clip in both)
