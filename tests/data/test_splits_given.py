"""The owner's parts where nobody knows who is shown."""

from collections import Counter
from pathlib import Path

import pytest

from avser.data.splits import Given, SplitParts, clip_name
from avser.errors import SplitError
from avser.types import Clip

EMOTIONS = ("happy", "sad", "disgust")


def pictures(**counts: int) -> list[Clip]:
    """So many pictures of each emotion in each part; a tenth as many of disgust."""
    return [
        Clip(
            path=Path(f"{part}/{emotion}/{n:03d}.png"),
            clip_id=f"{part}/{emotion}/{n:03d}",
            emotion=emotion,
            speaker="",
            corpus="faces",
            part=part,
        )
        for part, count in counts.items()
        for emotion in EMOTIONS
        for n in range(count // 10 if emotion == "disgust" else count)
    ]


def digests_of(clips: list[Clip], *copies: tuple[str, str]) -> dict[str, str]:
    """Each its own; the second of each pair is a copy of the first."""
    result = {clip_name(c): clip_name(c) for c in clips}
    for first, second in copies:
        result[f"faces/{second}"] = result[f"faces/{first}"]
    return result


def ids(clips: list[Clip]) -> set[str]:
    return {c.clip_id for c in clips}


def sizes(parts: SplitParts) -> tuple[int, int, int]:
    return len(parts.train), len(parts.validation), len(parts.test)


def test_a_share_of_train_chooses_the_epoch_class_by_class() -> None:
    clips = pictures(train=100, validation=20)
    parts = Given(validation_share=0.1).split(clips, digests_of(clips))
    assert Counter(c.emotion for c in parts.validation) == {"happy": 10, "sad": 10, "disgust": 1}
    assert all(c.part == "train" for c in (*parts.train, *parts.validation))
    assert ids(parts.test) == {c.clip_id for c in clips if c.part == "validation"}
    assert sizes(parts) == (189, 21, 42)
    assert Given(validation_share=0.1).describe() == "given, epoch chosen on 10% of train"


def test_the_owners_test_part_stays_the_test_part() -> None:
    clips = pictures(train=50, validation=20, test=30)
    parts = Given(validation_share=0.2).split(clips)
    assert {c.part for c in parts.test} == {"test"} and len(parts.test) == 63
    assert sizes(Given().split(clips)) == (105, 42, 63)


def test_the_draw_follows_the_seed_alone() -> None:
    clips = pictures(train=50, test=10)
    first = Given(validation_share=0.2).split(clips)
    assert first.hash == Given(validation_share=0.2).split(clips[::-1]).hash
    assert first.hash != Given(validation_share=0.2, seed=1).split(clips).hash


def test_copies_stay_together() -> None:
    clips = pictures(train=40, test=10)
    pairs = [(f"train/happy/{n:03d}", f"train/sad/{n:03d}") for n in range(40)]
    parts = Given(validation_share=0.25).split(clips, digests_of(clips, *pairs))
    numbers = [{c.clip_id[-3:] for c in side if c.emotion != "disgust"} for side in
               (parts.train, parts.validation)]  # fmt: skip
    assert not numbers[0] & numbers[1] and len(numbers[1]) == 10


def test_copies_of_later_parts_are_left_out_and_counted() -> None:
    clips = pictures(train=20, validation=20, test=20)
    copies = [
        ("test/sad/000", "train/sad/005"),
        ("test/sad/000", "validation/sad/007"),
        ("validation/sad/003", "train/happy/001"),
        ("test/happy/001", "test/happy/002"),
    ]
    parts = Given().split(clips, digests_of(clips, *copies))
    assert not {"train/sad/005", "train/happy/001"} & ids(parts.train)
    assert "validation/sad/007" not in ids(parts.validation)
    assert sizes(parts) == (40, 41, 42)
    assert "2 train clips left out: copies are in a later part" in parts.notes
    assert "1 validation clips left out: copies are in a later part" in parts.notes


def test_known_people_and_impossible_shares_are_refused() -> None:
    clips = pictures(train=20, test=5)
    known = [Clip(**{**vars(c), "speaker": "faces/anna"}) for c in clips]
    with pytest.raises(SplitError, match="Bad validation_share: the speakers are known"):
        Given(validation_share=0.1).split(known)
    with pytest.raises(SplitError, match=r"Bad validation_share 1\.0"):
        Given(validation_share=1.0)
    with pytest.raises(SplitError, match="0 validation"):
        Given(validation_share=0.001).split(clips)
