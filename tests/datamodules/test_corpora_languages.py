"""Corpora of other languages, and of television: what their names and tables mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from avser.data.dataset import equal_corpora
from avser.data.splits import LeaveOneCorpusOut, Resubstitution
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.cafe import Cafe
from avser.datamodules.corpora.emovo import Emovo
from avser.datamodules.corpora.esd import Esd
from avser.datamodules.corpora.jl_corpus import JlCorpus
from avser.datamodules.corpora.meld import Meld
from avser.datamodules.corpora.mix import Mix
from avser.datamodules.corpora.nemo import Nemo
from avser.datamodules.corpora.ravdess import Ravdess
from avser.datamodules.corpora.subesco import Subesco
from avser.errors import CorpusError, SplitError
from avser.testing.corpora import FAKES
from avser.types import Clip, Corpus


def by_id(corpus: Corpus) -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in corpus.clips()}


def about(clip: Clip) -> tuple[str | None, str, str, str]:
    return clip.emotion, clip.speaker, clip.sex, clip.sentence


def test_nemo_takes_sex_and_text_from_the_owners_table(tmp_path: Path) -> None:
    clips = by_id(Nemo(FAKES["nemo"](tmp_path / "own", speakers=2, per_emotion=2)))
    assert len(clips) == 2 * 6 * 2
    clip = clips["SM0_surprised_2"]
    assert about(clip) == ("surprised", "nemo/SM0", "male", "2")
    assert clip.attributes == {"age": "25", "text": 'Zdanie "2".'}
    flat = tmp_path / "flat"
    flat.mkdir()
    (tmp_path / "own" / "samples" / "EB0_fear_1.wav").rename(flat / "EB0_fear_1.wav")
    assert about(by_id(Nemo(flat))["EB0_fear_1"]) == ("fearful", "nemo/EB0", "", "1")


def test_emovo_names(tmp_path: Path) -> None:
    clips = by_id(Emovo(FAKES["emovo"](tmp_path, speakers=2, per_emotion=2)))
    assert about(clips["gio-f1-b1"]) == ("happy", "emovo/f1", "female", "b1")
    assert about(clips["pau-m1-b2"]) == ("fearful", "emovo/m1", "male", "b2")
    (tmp_path / "xxx-f1-b1.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"emotion code of .*xxx-f1-b1"):
        Emovo(tmp_path).clips()


def test_cafe_odd_actors_are_men_and_intensity_is_kept(tmp_path: Path) -> None:
    clips = by_id(Cafe(FAKES["cafe"](tmp_path, speakers=2, per_emotion=2)))
    assert about(clips["01-C-1-1"]) == ("angry", "cafe/01", "male", "1")
    assert about(clips["02-T-2-1"]) == ("sad", "cafe/02", "female", "1")
    assert clips["02-T-2-1"].attributes == {"intensity": "strong"}
    assert clips["01-N-1-2"].emotion == "neutral"


def test_esd_numbers_tell_emotion_sentence_and_language(tmp_path: Path) -> None:
    root = FAKES["esd"](tmp_path, speakers=("0011", "0001"), per_emotion=2)
    clips = by_id(Esd(root))
    assert about(clips["0011_000352"]) == ("angry", "esd/0011", "", "english2")
    assert about(clips["0001_001401"]) == ("surprised", "esd/0001", "", "mandarin1")
    assert {c.speaker for c in Esd(root, language="english").clips()} == {"esd/0011"}
    assert Esd(root, language="mandarin").languages == ("Mandarin",)


def test_meld_joins_tables_and_videos(tmp_path: Path) -> None:
    corpus = Meld(FAKES["meld"](tmp_path, speakers=2, per_emotion=3))
    clips = by_id(corpus)
    assert len(clips) == 2 * 7 * 3
    clip = clips["validation/dia0_utt0"]
    assert about(clip)[:2] == ("angry", "meld/Monica")
    assert clip.part == "validation" and clip.video == clip.path
    assert clip.attributes["text"] == "Well, 1."
    assert corpus.notes == ["1 rows of MELD's tables have no video"]
    assert Counter(c.part for c in clips.values()) == {"train": 14, "validation": 14, "test": 14}


def test_subesco_men_and_women_are_numbered_apart(tmp_path: Path) -> None:
    clips = by_id(Subesco(FAKES["subesco"](tmp_path, speakers=2, per_emotion=2)))
    assert about(clips["F_02_S_1_SURPRISE_5"]) == ("surprised", "subesco/F_02", "female", "1")
    assert about(clips["M_02_S_2_FEAR_5"]) == ("fearful", "subesco/M_02", "male", "2")


def test_jl_corpus_leaves_secondary_emotions_out_and_says_so(tmp_path: Path) -> None:
    corpus = JlCorpus(FAKES["jl_corpus"](tmp_path, speakers=2, per_emotion=2))
    clips = by_id(corpus)
    assert about(clips["female1_excited_2a_1"]) == ("excited", "jl_corpus/female1", "female", "2a")
    assert corpus.notes == ["4 clips of secondary emotions are left out"]
    assert len(clips) == 2 * 5 * 2


# Mixes


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    root = tmp_path_factory.mktemp("mix")
    return Mix(
        [
            Ravdess(FAKES["ravdess"](root / "ravdess", speakers=6, per_emotion=2)),
            Emovo(FAKES["emovo"](root / "emovo", speakers=4, per_emotion=2)),
            Nemo(FAKES["nemo"](root / "nemo", speakers=2, per_emotion=2)),
        ]
    )


@pytest.mark.parametrize(("fold", "left"), list(enumerate(["emovo", "nemo", "ravdess"])))
def test_each_corpus_is_left_out_once(mix: Mix, fold: int, left: str) -> None:
    clips = mix.clips()
    split = LeaveOneCorpusOut(fold=fold)
    assert split.fold_count(clips) == 3
    parts = split.split(clips)
    assert {c.corpus for c in parts.test} == {left}
    assert len(parts.test) == sum(c.corpus == left for c in clips)
    others = {"emovo", "nemo", "ravdess"} - {left}
    assert {c.corpus for c in parts.train} == others
    # nEMO's fake has two speakers: too few to take one for validation
    assert {c.corpus for c in parts.validation} == others - {"nemo"}
    assert not {c.speaker for c in parts.train} & {c.speaker for c in parts.validation}
    assert any(f"tested on {left}" in note for note in parts.notes)


def test_a_fold_that_is_no_corpus_is_refused(mix: Mix) -> None:
    with pytest.raises(SplitError, match="Bad fold 3 of 3 corpora"):
        LeaveOneCorpusOut(fold=3).split(mix.clips())
    one = [c for c in mix.clips() if c.corpus == "emovo"]
    with pytest.raises(SplitError, match="of a mix of two or more"):
        LeaveOneCorpusOut().split(one)


def test_corpora_count_alike(mix: Mix) -> None:
    clips = mix.clips()
    sizes = Counter(c.corpus for c in clips)
    rows = equal_corpora(clips)
    assert set(Counter(c.corpus for c in rows).values()) == {max(sizes.values())}
    times = Counter(c.clip_id for c in rows)
    for name, size in sizes.items():
        own = [times[c.clip_id] for c in clips if c.corpus == name]
        assert max(own) - min(own) <= 1 and sum(own) == max(sizes.values()) and len(own) == size
    data = ClipDataModule(mix, Resubstitution(), equal_corpora=True)
    assert len(data.train_dataloader().dataset) == 3 * max(sizes.values())  # type: ignore[arg-type]


def test_calm_is_neutral_in_a_mix_unless_it_is_asked_for(mix: Mix) -> None:
    def classes(**settings: object) -> tuple[str, ...]:
        return ClipDataModule(mix, Resubstitution(), **settings).classes  # type: ignore[arg-type]

    assert "calm" not in classes()
    assert "calm" in classes(merge={})
    assert classes(emotions=["calm", "sad"]) == ("calm", "sad")
    alone = ClipDataModule(mix.corpora[0], Resubstitution())
    assert "calm" in alone.classes
