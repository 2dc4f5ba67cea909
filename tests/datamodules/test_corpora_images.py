"""Corpora of pictures: layouts, labels, parts, pixels, and what is said of wrong roots."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from avser.datamodules.corpora import corpus_names, find_corpus
from avser.datamodules.corpora.fer2013 import Fer2013
from avser.datamodules.corpora.image_folder import ImageFolder
from avser.emotions import VOCABULARY
from avser.errors import CorpusError
from avser.testing.images import FOLDERS, encoded, face_picture
from avser.testing.pictures import IMAGE_FAKES
from avser.testing.pictures.fer2013 import fake_fer2013
from avser.testing.pictures.image_folder import fake_image_folder
from avser.types import ImageCorpus

NAMES = [name for name in corpus_names() if issubclass(find_corpus(name), ImageCorpus)]


def corpus_of(name: str, root: Path) -> ImageCorpus:
    corpus = find_corpus(name)(root)
    assert isinstance(corpus, ImageCorpus)
    return corpus


# -- the contract --------------------------------------------------------------------------------


def test_every_corpus_of_pictures_has_a_fake() -> None:
    assert set(IMAGE_FAKES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_pictures_of_unknown_people(name: str, tmp_path: Path) -> None:
    root = IMAGE_FAKES[name](tmp_path / name, per_emotion=2)
    clips = corpus_of(name, root).clips()
    ids = [clip.clip_id for clip in clips]
    assert ids == sorted(set(ids)) and len(ids) > 10
    for clip in clips:
        assert clip.emotion in VOCABULARY and clip.corpus == name
        assert clip.speaker == "" and clip.path.is_file()
    assert clips == corpus_of(name, root).clips()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_come_in_the_order_asked_for(name: str, tmp_path: Path) -> None:
    corpus = corpus_of(name, IMAGE_FAKES[name](tmp_path / name, per_emotion=2))
    clips = corpus.clips()
    forth, back = list(corpus.pictures(clips)), list(corpus.pictures(clips[::-1]))
    for one, other in zip(forth, back[::-1], strict=True):
        assert isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exists", [True, False])
def test_wrong_root_says_what_where_and_the_cure(name: str, exists: bool, tmp_path: Path) -> None:
    root = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(CorpusError) as caught:
        corpus_of(name, root).clips()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in (find_corpus(name).title, str(root), find_corpus(name).url, "--root"):
        assert part in sentence


# -- FER2013 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folders", "tar", "csv"])
def test_every_form_of_fer2013_holds_the_same(form: str, tmp_path: Path) -> None:
    corpus = Fer2013(fake_fer2013(tmp_path / "fer2013", per_emotion=2, form=form))  # type: ignore[arg-type]
    clips = corpus.clips()
    assert len(clips) == 3 * 7 * 2
    rows = [(c.part, c.emotion) for c in clips]
    assert all(rows.count((p, e)) == 2 for p in ("train", "validation", "test") for e in _WORDS)
    numbers = {"train": 0, "validation": 0, "test": 0}
    for clip, pixels in zip(clips, corpus.pictures(clips), strict=True):
        options = [face_picture(str(clip.emotion), person=f"{clip.part}{n}") for n in range(2)]
        assert any(np.array_equal(pixels, option) for option in options)
        numbers[str(clip.part)] += 1
    assert set(numbers.values()) == {14}


_WORDS = set(FOLDERS.values())


def test_the_archive_or_table_may_be_the_root_itself_or_beside_it(tmp_path: Path) -> None:
    root = fake_fer2013(tmp_path / "fer2013", per_emotion=1, form="tar")
    inside = Fer2013(root).clips()
    assert Fer2013(root / "fer2013.tar").clips() == inside
    (root / "fer2013.tar").rename(tmp_path / "other.tar")
    root.rmdir()
    assert [c.clip_id for c in Fer2013(tmp_path / "other").clips()] == [c.clip_id for c in inside]


def test_an_archive_made_inside_its_folder_is_read(tmp_path: Path) -> None:
    root = fake_fer2013(tmp_path / "fer2013", per_emotion=1)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(root, arcname=".")  # names begin with "./"
    corpus = Fer2013(tmp_path / "a.tar")
    clips = corpus.clips()
    assert [c.clip_id for c in clips] == [c.clip_id for c in Fer2013(root).clips()]
    assert all(isinstance(p, np.ndarray) for p in corpus.pictures(clips))


def test_kaggles_names_of_parts_are_known_as_folders_too(tmp_path: Path) -> None:
    path = tmp_path / "PrivateTest" / "happy" / "1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(face_picture("happy")))
    (clip,) = Fer2013(tmp_path).clips()
    assert clip.part == "test" and clip.emotion == "happy"


def test_a_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "fer2013.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(CorpusError, match=r"Bad archive .*get it anew"):
        Fer2013(tmp_path).clips()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,0 0,Training", "line 2 .*emotion '7', legal is 0 to 6"),
        ("3,0 0,Sometimes", "line 2 .*Usage 'Sometimes'"),
    ],
)
def test_a_wrong_row_of_the_table_is_named(row: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n{row}\n")
    with pytest.raises(CorpusError, match=message):
        Fer2013(tmp_path).clips()


def test_another_table_is_refused_and_an_empty_one_too(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("path,label\na,b\n")
    with pytest.raises(CorpusError, match="its columns are path,label; expected Kaggle's"):
        Fer2013(tmp_path).clips()
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(CorpusError, match="get the corpus from"):
        Fer2013(tmp_path).clips()


def test_damaged_rows_say_why_and_leave_the_others(tmp_path: Path) -> None:
    good = " ".join(["9"] * 2304)
    lines = ["emotion,pixels,Usage", f"0,{good},Training", "", "0,1 2 3,Training"]
    lines += [f"0,{good[:-1]}999,Training"]
    (tmp_path / "fer2013.csv").write_text("\n".join(lines) + "\n")
    corpus = Fer2013(tmp_path)
    result = list(corpus.pictures(corpus.clips()))
    assert isinstance(result[0], np.ndarray) and (result[0] == 9).all()
    assert result[1] == "line 4 does not hold 2304 grey levels from 0 to 255"
    assert str(result[2]).startswith("line 5 ")


# -- folders -------------------------------------------------------------------------------------


def test_labels_may_be_spelt_in_many_ways_and_other_folders_are_left_out(tmp_path: Path) -> None:
    clips = ImageFolder(fake_image_folder(tmp_path, per_emotion=2)).clips()
    assert {c.emotion for c in clips} == {"happy", "sad", "angry"}
    assert {c.part for c in clips} == {"train", "test"} and len(clips) == 12
    assert clips[0].clip_id == "test/Anger/0.jpg"


def test_folders_without_parts_have_none(tmp_path: Path) -> None:
    path = tmp_path / "faces" / "sad" / "anna.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(face_picture("sad")))
    (clip,) = ImageFolder(tmp_path).clips()
    assert clip.part is None and clip.clip_id == "sad/anna.png"


def test_one_name_in_two_folders_is_two_pictures(tmp_path: Path) -> None:
    for place in ("a/sad", "b/sad"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.png").write_bytes(encoded(face_picture("sad")))
    assert [c.clip_id for c in ImageFolder(tmp_path).clips()] == ["a/sad/1.png", "b/sad/1.png"]


def test_colour_pictures_are_red_green_blue(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    (tmp_path / "sad" / "1.png").write_bytes(encoded(red))
    (tmp_path / "sad" / "2.png").write_bytes(encoded(red[..., 0]))
    corpus = ImageFolder(tmp_path)
    first, second = corpus.pictures(corpus.clips())
    np.testing.assert_array_equal(first, red)
    np.testing.assert_array_equal(second, red[..., 0])


def test_a_vanished_picture_says_why(tmp_path: Path) -> None:
    corpus = ImageFolder(fake_image_folder(tmp_path, per_emotion=1))
    clips = corpus.clips()
    clips[0].path.unlink()
    first, second = list(corpus.pictures(clips))[:2]
    assert isinstance(first, str) and "can't be read" in first
    assert isinstance(second, np.ndarray)
