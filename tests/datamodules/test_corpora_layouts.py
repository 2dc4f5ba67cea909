"""Corpora: what each reader makes of its owner's layout, oddities included."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.data.audio_cache import prepare
from avser.datamodules.corpora.crema_d import CremaD
from avser.datamodules.corpora.emodb import EmoDb
from avser.datamodules.corpora.enterface import Enterface
from avser.datamodules.corpora.iemocap import Iemocap
from avser.datamodules.corpora.ravdess import EMOTIONS, Ravdess, Take
from avser.datamodules.corpora.savee import Savee
from avser.datamodules.corpora.tess import Tess
from avser.datamodules.corpora.urdu import Urdu
from avser.errors import ConfigError, CorpusError
from avser.testing import corpora as fakes
from avser.types import Clip, Corpus


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small fake of each corpus, read only."""
    return {
        name: fakes.FAKES[name](tmp_path_factory.mktemp(name) / name, speakers=2, per_emotion=2)
        for name in ("ravdess", "emodb", "tess", "iemocap", "urdu")
    }


def by_id(corpus: Corpus) -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in corpus.clips()}


# RAVDESS


def two_digits() -> st.SearchStrategy[str]:
    return st.integers(0, 99).map("{:02d}".format)


@given(st.tuples(*[two_digits() for _ in range(7)]))
def test_ravdess_name_survives_the_round_trip(parts: tuple[str, ...]) -> None:
    take = Take(*parts)
    assert Take.parse(str(take)) == take


@pytest.mark.parametrize("stem", ["03-01-06-01-02-01", "03-01-06-01-02-01-1x", "", "a"])
def test_ravdess_name_of_another_shape_is_refused(stem: str) -> None:
    with pytest.raises(CorpusError, match="seven two-digit parts"):
        Take.parse(stem)


def test_ravdess_counts_and_meaning(tmp_path: Path) -> None:
    clips = by_id(Ravdess(fakes.FAKES["ravdess"](tmp_path, speakers=("07", "12"), per_emotion=8)))
    assert Counter(c.emotion for c in clips.values()) == {
        **dict.fromkeys(EMOTIONS.values(), 16),
        "neutral": 8,  # no strong intensity
    }
    clip = clips["03-01-06-02-02-01-12"]
    assert (clip.emotion, clip.speaker, clip.sex) == ("fearful", "ravdess/12", "female")
    assert clip.sentence == "02"
    assert clip.attributes["intensity"] == "strong"
    assert clips["03-01-01-01-01-01-07"].sex == "male"
    same = [clips[f"03-01-03-01-02-0{n}-07"].path.read_bytes() for n in (1, 2)]
    assert same[0] == same[1]


def test_ravdess_song_is_excluded_unless_asked_for(trees: dict[str, Path]) -> None:
    speech, both = Ravdess(trees["ravdess"]).clips(), Ravdess(trees["ravdess"], song=True).clips()
    assert {c.attributes["channel"] for c in speech} == {"speech"}
    assert [c.clip_id for c in both if c not in speech] == ["03-02-04-01-01-01-01"]


@pytest.fixture(scope="module")
def av_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("av") / "ravdess"
    return fakes.FAKES["ravdess"](root, speakers=1, per_emotion=1, video=True)


def test_ravdess_sound_is_paired_with_the_video_of_the_take(av_tree: Path) -> None:
    clips = Ravdess(av_tree, features="auto").clips()
    assert len(clips) == 8
    for clip in clips:
        assert clip.clip_id.startswith("03-01-")
        assert clip.path.suffix == ".wav"
        assert clip.video is not None
        assert clip.video.stem == clip.clip_id.replace("03-", "01-", 1)
        assert clip.features == f"{av_tree}_openface_aus.csv#{clip.video.stem}"


def test_ravdess_av_takes_sound_and_picture_from_one_file(av_tree: Path) -> None:
    clips = Ravdess(av_tree, modality="av").clips()
    assert len(clips) == 8  # the video-only file is no clip of its own
    assert all(c.video == c.path and c.clip_id == c.path.stem for c in clips)


def test_ravdess_layouts_of_both_archives_and_copies(av_tree: Path, tmp_path: Path) -> None:
    name = "03-01-01-01-01-01-01"
    wav = next(av_tree.glob(f"Actor_01/{name}.wav"))
    mp4 = next(av_tree.glob("Video_Speech_Actor_01/*/02-*.mp4"))
    for folder in ("Audio_Speech_Actors_01-24/Actor_01", "Audio_Speech_Actors_01-24/x/Actor_01"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(wav, tmp_path / folder / f"{name}.WAV")
    (tmp_path / "Actor_01").mkdir()
    shutil.copy(mp4, tmp_path / "Actor_01")
    (clip,) = Ravdess(tmp_path).clips()
    assert clip.path == tmp_path / "Audio_Speech_Actors_01-24" / "Actor_01" / f"{name}.WAV"
    assert clip.video == tmp_path / "Actor_01" / mp4.name  # shows the take though it is silent


def test_ravdess_videos_beside_the_root(av_tree: Path, tmp_path: Path) -> None:
    shutil.copytree(av_tree / "Actor_01", tmp_path / "ravdess" / "Actor_01")
    assert not any(clip.video for clip in Ravdess(tmp_path / "ravdess").clips())
    films = next(av_tree.glob("Video_Speech_Actor_01/Actor_01"))
    shutil.copytree(films, tmp_path / "ravdess_video" / "Actor_01")
    assert all(clip.video for clip in Ravdess(tmp_path / "ravdess").clips())
    with pytest.raises(CorpusError, match="video root"):
        Ravdess(tmp_path / "ravdess", video_root=tmp_path / "elsewhere").clips()


def test_ravdess_unknown_emotion_is_an_error_not_a_gap(av_tree: Path, tmp_path: Path) -> None:
    shutil.copy(next(av_tree.glob("Actor_01/03-*.wav")), tmp_path / "03-01-09-01-01-01-01.wav")
    with pytest.raises(CorpusError, match=r"03-01-09-01-01-01-01\.wav.*'09'.*01, 02"):
        Ravdess(tmp_path).clips()


def test_ravdess_bad_settings_are_sentences(av_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of audio, av"):
        Ravdess(av_tree, modality="sound")  # type: ignore[arg-type]
    table = tmp_path / "aus.csv"
    table.write_text("AU01_r\n0.1\n")
    for features in (table, tmp_path / "none.csv"):
        with pytest.raises(CorpusError, match=features.name):
            Ravdess(av_tree, features=features).clips()


# The other corpora


def test_savee_original_and_flat(tmp_path: Path) -> None:
    root = fakes.FAKES["savee"](tmp_path / "savee", speakers=("KL",), per_emotion=4, video=True)
    clips = by_id(Savee(root))
    assert len(clips) == 28
    clip = clips["KL_su02"]
    assert (clip.emotion, clip.speaker, clip.sex) == ("surprised", "savee/KL", "male")
    assert clip.video == root / "AudioVisualClip" / "KL" / "su2.avi"
    assert clips["KL_a01"].sentence == clips["KL_h01"].sentence  # the common sentences
    assert clips["KL_a04"].sentence != clips["KL_h04"].sentence
    flat = tmp_path / "flat"
    flat.mkdir()
    for clip in clips.values():
        shutil.copy(clip.path, flat / f"{clip.clip_id}.wav")
    assert [(c.clip_id, c.emotion) for c in Savee(flat).clips()] == [
        (c.clip_id, c.emotion) for c in clips.values()
    ]


def test_emodb_speaker_text_and_sex(trees: dict[str, Path]) -> None:
    clips = by_id(EmoDb(trees["emodb"]))
    assert len(clips) == 2 * 7 * 2
    clip = clips["03a01Fa"]
    assert (clip.emotion, clip.speaker, clip.sex, clip.sentence) == (
        *("happy", "emodb/03", "male"),
        "a01",
    )
    assert clip.attributes["text"].startswith("Der Lappen")
    assert clips["08a01La"].sex == "female"
    assert clips["08a01La"].emotion == "bored"


def test_emodb_unknown_code_is_an_error(trees: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(trees["emodb"] / "wav" / "03a01Fa.wav", tmp_path / "03a01Xa.wav")
    with pytest.raises(CorpusError, match="'X'"):
        EmoDb(tmp_path).clips()


def test_tess_misnamed_file_belongs_to_the_older_woman(trees: dict[str, Path]) -> None:
    clips = by_id(Tess(trees["tess"]))
    assert len(clips) == 2 * 7 * 2
    clip = clips["OAF_bite_neutral"]
    assert clip.path.name == "OA_bite_neutral.wav"
    assert clip.speaker == "tess/OAF"
    assert clips["OAF_back_ps"].emotion == "surprised"
    assert clips["OAF_back_fear"].path.parent.name == "OAF_Fear"


@pytest.fixture(scope="module")
def crema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.FAKES["crema_d"](tmp_path_factory.mktemp("crema"), per_emotion=1, video=True)


def test_crema_d_acted_labels_pairs_and_people(crema: Path) -> None:
    corpus = CremaD(crema)
    clips = by_id(corpus)
    assert corpus.label_target == "acted"
    assert len(clips) == 24
    clip = clips["1002_DFA_HAP_XX"]
    assert (clip.emotion, clip.sex, clip.sentence) == ("happy", "female", "DFA")
    assert all(c.video is not None and c.video.stem == c.clip_id for c in clips.values())
    assert clips["1040_ITH_SAD_XX"].path.stem == "1040_ITH_SAD_X"
    assert clips["1040_ITH_SAD_XX"].attributes["voice_vote"] == "S"
    assert "1076_MTI_SAD_XX" in clips  # soundless, but it has a face


def test_crema_d_crowd_votes(crema: Path) -> None:
    acted, voice = by_id(CremaD(crema)), by_id(CremaD(crema, label_target="voice"))
    assert set(acted) - set(voice) == {"1001_DFA_ANG_XX"}  # a tie has no label
    face = CremaD(crema, label_target="face")
    assert face.label_target == "face"
    clip = by_id(face)["1001_DFA_DIS_XX"]
    assert (clip.emotion, clip.attributes["acted"]) == ("angry", "disgust")
    both = by_id(CremaD(crema, label_target="both"))
    assert {i: c.emotion for i, c in both.items()} == {i: c.emotion for i, c in acted.items()}


def test_crema_d_votes_need_the_table(crema: Path, tmp_path: Path) -> None:
    shutil.copytree(crema / "AudioWAV", tmp_path / "AudioWAV")
    assert len(CremaD(tmp_path).clips()) == 24
    with pytest.raises(CorpusError, match=r"needs processedResults/summaryTable\.csv"):
        CremaD(tmp_path, label_target="voice").clips()
    (tmp_path / "summaryTable.csv").write_text("FileName,VoiceVote\n1001_DFA_ANG_XX,A\n")
    with pytest.raises(CorpusError, match="no VoiceVote for 1001_DFA_DIS_XX"):
        CremaD(tmp_path, label_target="voice").clips()
    with pytest.raises(ConfigError, match="expected one of acted, voice, face, both"):
        CremaD(tmp_path, label_target="crowd")  # type: ignore[arg-type]


def test_enterface_trusts_folders_over_names(tmp_path: Path) -> None:
    root = fakes.FAKES["enterface"](tmp_path, speakers=("1", "3", "6", "11", "12"), per_emotion=1)
    clips = by_id(Enterface(root))
    assert len(clips) == 5 * 6
    assert Counter(c.speaker for c in clips.values())["enterface/12"] == 6
    assert clips["s11_an_1"].path.name == "s12_an_1.avi"  # as the owners named it
    assert clips["s3_fe_1"].path.name == "s_3_fe_1.avi"
    assert clips["s6_ha_1"].emotion == "happy"  # without a sentence folder
    assert all(c.video == c.path for c in clips.values())


def test_enterface_odd_names_and_one_subject_as_root(tmp_path: Path) -> None:
    subject = tmp_path / "subject 16"
    for name in ("surprise/sentence 3/s16_su_3avi.avi", "anger/s16_an.avi", "joy/s16_jo_1.avi"):
        (subject / name).parent.mkdir(parents=True)
        (subject / name).touch()
    with pytest.raises(CorpusError, match="'jo'"):
        Enterface(tmp_path).clips()
    shutil.rmtree(subject / "joy")
    clips = by_id(Enterface(subject))
    assert set(clips) == {"s16_su_3", "s16_an"}
    assert clips["s16_an"].attributes == {"unsegmented": "yes"}


def test_iemocap_speaker_is_who_speaks(trees: dict[str, Path]) -> None:
    clips = by_id(Iemocap(trees["iemocap"]))
    assert len(clips) == 2 * 6 * 2  # xxx and oth are dropped
    assert {c.attributes["label"] for c in clips.values()}.isdisjoint({"xxx", "oth"})
    clip = clips["Ses01F_impro01_M000"]
    assert (clip.speaker, clip.sex) == ("iemocap/Ses01M", "male")
    assert clip.attributes["valence"] == "2.5000"


def test_iemocap_merges_excited_into_happy(trees: dict[str, Path]) -> None:
    apart = Iemocap(trees["iemocap"]).clips()
    merged = Iemocap(trees["iemocap"], merge_excited=True).clips()
    changed = [(a, b) for a, b in zip(apart, merged, strict=True) if a != b]
    assert len(changed) == 4
    assert all((a.emotion, b.emotion) == ("excited", "happy") for a, b in changed)
    assert all(b.attributes["label"] == "exc" for _, b in changed)


def test_iemocap_label_without_sound_is_an_error(trees: dict[str, Path], tmp_path: Path) -> None:
    root = shutil.copytree(trees["iemocap"], tmp_path / "iemocap")
    next(root.rglob("Ses01F_impro01_F000.wav")).unlink()
    with pytest.raises(CorpusError, match="labels Ses01F_impro01_F000"):
        Iemocap(root).clips()


def test_urdu_files_of_one_speaker_are_one_speaker(trees: dict[str, Path]) -> None:
    clips = Urdu(trees["urdu"]).clips()
    assert {c.speaker for c in clips} == {"urdu/SM1", "urdu/SF1"}
    assert {(c.speaker, c.sex) for c in clips} == {("urdu/SM1", "male"), ("urdu/SF1", "female")}
    assert all("guess" in c.attributes["speaker_known"] for c in clips)


def test_linked_folders_are_read_once_and_dangling_links_are_named(tmp_path: Path) -> None:
    away = fakes.FAKES["savee"](tmp_path / "away", speakers=2, per_emotion=1)
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(away)
    (away / "back").symlink_to(root)  # a loop
    (root / "again").symlink_to(away)
    count = len(Savee(away).clips())
    assert len(Savee(root).clips()) == count > 0
    first = Savee(root).clips()[0].path
    first.unlink()
    first.symlink_to(tmp_path / "nowhere.wav")
    second = Savee(root).clips()[1].path
    second.unlink()
    os.mkfifo(second)  # whoever opened it would wait for a writer
    clips = Savee(root).clips()
    assert len(clips) == count - 1
    prepared = prepare(clips, folder=tmp_path / "cache")
    ((clip, reason),) = prepared.failed
    assert clip.path == first and "No such file" in reason
