from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.data.splits import (
    CrossCorpus,
    Given,
    HeldOut,
    Loso,
    RandomSplit,
    Resubstitution,
    SpeakerKFold,
    Split,
    SplitParts,
    clip_name,
    find_speaker,
)
from avser.errors import SplitError
from avser.types import Clip

EMOTIONS = ("happy", "sad", "angry")


def speaker_clips(
    count: int, *, sentences: int = 4, corpus: str = "ravdess", first: int = 1
) -> list[Clip]:
    """Clips of ``count`` speakers, odd ones male, who say each sentence in each emotion."""
    return [
        Clip(
            path=Path(f"{corpus}/{who:02d}-{emotion}-{text}.wav"),
            clip_id=f"{who:02d}-{emotion}-{text}",
            emotion=emotion,
            speaker=f"{corpus}/{who:02d}",
            corpus=corpus,
            sex="male" if who % 2 else "female",
            sentence=f"s{text}",
        )
        for who in range(first, first + count)
        for emotion in EMOTIONS
        for text in range(sentences)
    ]


def names(clips: Sequence[Clip]) -> set[str]:
    return {clip_name(c) for c in clips}


def speakers(clips: Sequence[Clip]) -> set[str]:
    return {c.speaker for c in clips}


def sexes(clips: Sequence[Clip]) -> set[str]:
    return {c.sex for c in clips}


def sides(parts: SplitParts) -> list[set[str]]:
    return [speakers(clips) for _, clips in parts.items()]


def disjoint(parts: SplitParts) -> bool:
    result = sides(parts)
    return sum(map(len, result)) == len(set.union(*result))


def copies(clips: Sequence[Clip], *same: str) -> dict[str, str]:
    """A digest for every clip, one and the same for those that are named."""
    return {clip_name(c): "copy" if clip_name(c) in same else clip_name(c) for c in clips}


# -- whole speakers ------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_test_every_clip_once_with_both_sexes_everywhere(folds: int) -> None:
    clips = speaker_clips(12)
    tested: list[str] = []
    for fold in range(folds):
        parts = SpeakerKFold(folds=folds, fold=fold).split(clips)
        assert disjoint(parts)
        assert (
            sexes(parts.test)
            == sexes(parts.validation)
            == sexes(parts.train)
            == {
                "male",
                "female",
            }
        )
        assert len(speakers(parts.validation)) == 2
        assert names(parts.train) | names(parts.validation) | names(parts.test) == names(clips)
        tested += sorted(names(parts.test))
    assert sorted(tested) == sorted(names(clips))


@pytest.mark.parametrize(("women", "men"), [(8, 34), (5, 7), (34, 8)])
def test_folds_hold_both_sexes_where_one_is_rare(women: int, men: int) -> None:
    clips = speaker_clips(women + men, sentences=1)
    order = sorted(speakers(clips))
    clips = [replace(c, sex="female" if order.index(c.speaker) < women else "male") for c in clips]
    for fold in range(4):
        parts = SpeakerKFold(folds=4, fold=fold).split(clips)
        assert sexes(parts.test) == sexes(parts.validation) == {"female", "male"}


def test_folds_do_not_depend_on_the_order_of_the_clips_and_do_on_the_seed() -> None:
    clips = speaker_clips(10)
    one = SpeakerKFold(fold=1).split(clips)
    assert one.hash == SpeakerKFold(fold=1).split(clips[::-1]).hash
    assert one.hash != SpeakerKFold(fold=1, seed=1).split(clips).hash
    assert SpeakerKFold().fold_count(clips) == 5 and SpeakerKFold().describe().endswith("5 folds")


def test_corpora_that_only_train_are_in_no_fold_and_leave_the_folds_as_they_were() -> None:
    own, extra = speaker_clips(10), speaker_clips(3, corpus="savee")
    for fold in range(5):
        alone = SpeakerKFold(fold=fold).split(own)
        parts = SpeakerKFold(fold=fold, train_only=["savee"]).split([*extra, *own])
        assert names(parts.test) == names(alone.test)
        assert names(parts.validation) == names(alone.validation)
        assert names(parts.train) == names(alone.train) | names(extra)
    assert "savee in training alone" in SpeakerKFold(train_only=["savee"]).describe()
    with pytest.raises(SplitError, match="Bad corpus 'tess'"):
        SpeakerKFold(train_only=["tess"]).split(own)


def test_leave_one_out_tests_every_speaker_alone() -> None:
    clips = speaker_clips(6)
    assert Loso().fold_count(clips) == 6
    tested = [speakers(Loso(fold=k).split(clips).test) for k in range(6)]
    assert sorted(s for group in tested for s in group) == sorted(speakers(clips))
    assert all(len(group) == 1 for group in tested)
    with pytest.raises(SplitError, match="Bad fold 6: there are 6 speakers"):
        Loso(fold=6).split(clips)


def test_leave_one_out_counts_speakers_who_share_a_recording_once() -> None:
    clips = speaker_clips(6)
    digests = copies(clips, "ravdess/02-sad-0", "ravdess/05-sad-1")
    count = Loso().fold_count(clips, digests)
    tested = [speakers(Loso(fold=k).split(clips, digests).test) for k in range(count)]
    assert count == 5 and {"ravdess/02", "ravdess/05"} in tested
    assert sorted(s for group in tested for s in group) == sorted(speakers(clips))


def test_hash_is_equal_exactly_when_the_parts_are() -> None:
    clips = speaker_clips(8)
    parts = SpeakerKFold().split(clips)
    assert parts.hash == replace(parts, train=parts.train[::-1], notes=("said",)).hash
    moved = replace(parts, train=parts.train[1:], test=[*parts.test, parts.train[0]])
    swapped = replace(parts, validation=parts.test, test=parts.validation)
    assert len({parts.hash, moved.hash, swapped.hash}) == 3
    assert len(parts.hash) == 8 and int(parts.hash, 16) >= 0


def test_with_few_training_speakers_validation_is_taken_by_sentence_and_said() -> None:
    clips = speaker_clips(4, sentences=10)
    parts = Loso(fold=0).split(clips)
    assert parts.notes == ("validation by sentence inside the training speakers",)
    assert (
        speakers(parts.train)
        == speakers(parts.validation)
        == speakers(clips) - speakers(parts.test)
    )
    texts = [{c.sentence for c in side} for side in (parts.train, parts.validation)]
    assert not texts[0] & texts[1] and len(texts[1]) == 2  # a fifth of ten
    five = Loso(fold=0).split(speaker_clips(5))
    assert five.notes == () and disjoint(five)


@pytest.mark.parametrize("split", [SpeakerKFold(), Loso(), HeldOut(test=["01"])])
def test_unknown_speakers_are_refused_with_the_way_out(split: Split) -> None:
    clips = speaker_clips(6)
    clips[3] = replace(clips[3], speaker="")
    with pytest.raises(SplitError, match=r"speaker of 1 clips is unknown.*--data\.split random"):
        split.split(clips)
    clips[3] = replace(clips[3], part="train")  # an owner's part does not tell who speaks
    with pytest.raises(SplitError, match=r"--data\.split random"):
        split.split(clips)
    assert RandomSplit(test=0.2, validation=0.2).split(clips).test


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpeakerKFold(folds=1),
        lambda: SpeakerKFold(folds=5, fold=5),
        lambda: SpeakerKFold(folds=5, fold=-1),
        lambda: RandomSplit(validation=0.6, test=0.4),
        lambda: RandomSplit(validation=-0.1),
        lambda: SpeakerKFold(folds=7).split(speaker_clips(6)),
        lambda: SpeakerKFold().split([]),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(SplitError, match=r"^Bad .*[.]$"):
        make()  # type: ignore[operator]


# -- speakers by name ----------------------------------------------------------------------------


def test_speakers_are_found_by_number_or_full_name() -> None:
    clips = speaker_clips(24, sentences=1)
    for name in ("21", "ravdess/21"):
        parts = HeldOut(test=[name, "22"]).split(clips)
        assert speakers(parts.test) == {"ravdess/21", "ravdess/22"} and disjoint(parts)
        assert sexes(parts.validation) == {"male", "female"}
    named = HeldOut(test=["21"], validation=["01", "ravdess/02"]).split(clips)
    assert speakers(named.validation) == {"ravdess/01", "ravdess/02"}
    assert not HeldOut(test=[]).split(clips).test
    with pytest.raises(SplitError, match=r"Bad speaker 'ravdes/21'.*did you mean 'ravdess/21'"):
        HeldOut(test=["ravdes/21"]).split(clips)


def test_a_number_that_two_corpora_have_must_be_said_in_full() -> None:
    both = ["ravdess/03", "emodb/03", "emodb/08"]
    with pytest.raises(SplitError, match="say which of emodb/03, ravdess/03"):
        find_speaker("03", both)
    assert find_speaker("08", both) == "emodb/08"


def test_a_speaker_named_for_two_parts_is_refused() -> None:
    with pytest.raises(SplitError, match="ravdess/01"):
        HeldOut(test=["01", "02"], validation=["01", "03"]).split(speaker_clips(8))


def test_cross_corpus_trains_on_one_and_tests_on_the_other() -> None:
    clips = speaker_clips(6) + speaker_clips(4, corpus="savee") + speaker_clips(2, corpus="tess")
    split = CrossCorpus(train=["ravdess"], test=["savee"])
    parts = split.split(clips)
    assert {c.corpus for c in parts.train + parts.validation} == {"ravdess"}
    assert names(parts.test) == names([c for c in clips if c.corpus == "savee"])
    assert disjoint(parts) and "ravdess to savee" in split.describe()
    with pytest.raises(SplitError, match=r"Bad corpus 'save'.*did you mean 'savee'"):
        CrossCorpus(train=["ravdess"], test=["save"]).split(clips)
    with pytest.raises(SplitError, match="in train and in test"):
        CrossCorpus(train=["ravdess"], test=["ravdess"]).split(clips)


# -- copies of a recording -----------------------------------------------------------------------


@pytest.mark.parametrize("fold", range(5))
def test_copies_tie_their_speakers_into_one_side(fold: int) -> None:
    clips = speaker_clips(12)
    digests = copies(clips, "ravdess/02-sad-0", "ravdess/07-sad-1", "ravdess/12-happy-3")
    parts = SpeakerKFold(fold=fold).split(clips, digests)
    tied = {"ravdess/02", "ravdess/07", "ravdess/12"}
    assert disjoint(parts)
    assert sum(bool(tied & side) for side in sides(parts)) == 1


def test_copies_that_can_not_be_kept_on_one_side_are_refused() -> None:
    clips = speaker_clips(8)
    digests = copies(clips, "ravdess/01-sad-0", "ravdess/02-sad-0")
    with pytest.raises(SplitError, match=r"ravdess/0[12]"):
        HeldOut(test=["01"], validation=["02", "03"]).split(clips, digests)
    assert disjoint(HeldOut(test=["01"], validation=["03"]).split(clips, digests))
    mixed = speaker_clips(6) + speaker_clips(4, corpus="savee")
    across = copies(mixed, "ravdess/01-sad-0", "savee/01-sad-0")
    with pytest.raises(SplitError, match="recording copy is in"):
        CrossCorpus(train=["ravdess"], test=["savee"]).split(mixed, across)
    inside = copies(clips[:48], "ravdess/01-sad-0", "ravdess/01-sad-1")
    assert disjoint(SpeakerKFold(folds=4).split(clips, inside))


def test_random_split_deals_copies_together_and_is_marked() -> None:
    clips = speaker_clips(10)
    same = ["ravdess/01-sad-0", "ravdess/02-sad-0", "ravdess/03-sad-0"]
    for seed in range(20):
        parts = RandomSplit(validation=0.2, test=0.3, seed=seed).split(clips, copies(clips, *same))
        assert sum(bool(names(side) & set(same)) for _, side in parts.items()) == 1
        assert sum(len(side) for _, side in parts.items()) == len(clips)
        assert len(parts.test) == pytest.approx(36, abs=3)
    assert RandomSplit.mark == "RANDOM SPLIT"
    assert speakers(parts.test) & speakers(parts.train)  # what the mark warns of


# -- the owner's parts, and all in one -----------------------------------------------------------


def with_parts(clips: Sequence[Clip], *, test: set[str], validation: set[str]) -> list[Clip]:
    """Give parts by speaker."""
    side = dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")
    return [replace(c, part=side.get(c.speaker, "train")) for c in clips]


def test_given_parts_are_taken_as_they_are() -> None:
    clips = with_parts(speaker_clips(6), test={"ravdess/01"}, validation={"ravdess/02"})
    parts = Given().split(clips)
    assert speakers(parts.test) == {"ravdess/01"} and speakers(parts.validation) == {"ravdess/02"}
    assert parts.notes == ()
    seen = [replace(clips[0], part="train"), *clips[1:]]
    assert Given().split(seen).notes == ("SEEN SPEAKERS: 1 test speakers are in train",)


def test_given_without_validation_takes_it_from_train_and_says_so() -> None:
    clips = with_parts(speaker_clips(6, sentences=5), test={"ravdess/01"}, validation=set())
    parts = Given().split(clips)
    assert parts.validation and "by sentence" in parts.notes[0]
    assert not {c.sentence for c in parts.train} & {c.sentence for c in parts.validation}
    with pytest.raises(SplitError, match=r"Bad part None .*legal is train, validation, test"):
        Given().split([replace(clips[0], part=None), *clips[1:]])
    with pytest.raises(SplitError, match="recording copy is in"):
        Given().split(clips, copies(clips, "ravdess/01-sad-0", "ravdess/02-sad-0"))


def test_resubstitution_is_everything_everywhere_and_marked() -> None:
    clips = speaker_clips(2)
    parts = Resubstitution().split(clips, copies(clips))
    assert names(parts.train) == names(parts.validation) == names(parts.test) == names(clips)
    assert Resubstitution.mark == "ON TRAINING DATA"


# -- the law -------------------------------------------------------------------------------------


@given(data=st.data())
def test_no_speaker_and_no_recording_is_ever_on_two_sides(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 14), label="speakers")
    rows = [
        c
        for c in speaker_clips(count, sentences=2)
        if data.draw(st.booleans() if count < 4 else st.just(True))
    ]
    shuffled = data.draw(st.permutations(rows)) if len(rows) < 12 else rows
    digests = {clip_name(c): str(data.draw(st.integers(0, 60))) for c in rows[:6]}
    split: Split = data.draw(
        st.one_of(
            st.builds(SpeakerKFold, folds=st.integers(2, 6), fold=st.integers(0, 1)),
            st.builds(Loso, fold=st.integers(0, 14), validation_speakers=st.integers(0, 3)),
            st.builds(HeldOut, test=st.lists(st.sampled_from(["01", "02", "03"]))),
        )
    )
    try:
        parts = split.split(shuffled, digests)
    except SplitError as error:
        assert str(error).startswith("Bad ")
        return
    train, validation, test = sides(parts)
    assert not test & (train | validation)
    assert parts.notes or not train & validation
    assert sum(len(side) for _, side in parts.items()) == len(rows)
    recordings = [{digests.get(n, n) for n in names(side)} for _, side in parts.items()]
    assert sum(map(len, recordings)) == len(set.union(*recordings))
