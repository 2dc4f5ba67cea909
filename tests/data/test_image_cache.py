from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.data.image_cache import PreparedImages, prepare_images
from avser.datamodules.corpora.fer2013 import Fer2013
from avser.datamodules.corpora.image_folder import ImageFolder
from avser.errors import CacheError
from avser.testing.images import encoded, face_picture
from avser.testing.pictures.fer2013 import fake_fer2013
from avser.testing.pictures.image_folder import fake_image_folder
from avser.types import Clip


class Counting(Fer2013):
    """Counts how often its pictures are decoded."""

    decoded = 0

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        Counting.decoded += 1
        return super().pictures(clips)


@pytest.fixture
def corpus(tmp_path: Path) -> Counting:
    Counting.decoded = 0
    return Counting(fake_fer2013(tmp_path / "fer2013", per_emotion=2))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def prepared(corpus: Fer2013, cache: Path) -> PreparedImages:
    return prepare_images(corpus, corpus.clips(), size=48, colour=False, folder=cache)


def test_pixels_are_the_pictures(corpus: Counting, cache: Path) -> None:
    store = prepared(corpus, cache)
    assert store.pixels.shape == (42, 1, 48, 48) and store.pixels.dtype == np.uint8
    for clip, pixels in zip(store.clips[::9], store.pixels[::9], strict=True):
        number = f"{clip.part}{clip.path.stem}"
        expected = face_picture(str(clip.emotion), person=number)
        np.testing.assert_array_equal(pixels[0], expected)


def test_a_corpus_is_decoded_once_wherever_it_is(
    corpus: Counting, cache: Path, tmp_path: Path
) -> None:
    first = prepared(corpus, cache)
    corpus.root.rename(tmp_path / "moved")
    again = prepared(Counting(tmp_path / "moved"), cache)
    assert Counting.decoded == 1
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.digests == again.digests


def test_a_changed_picture_is_decoded_anew(corpus: Counting, cache: Path) -> None:
    first = prepared(corpus, cache)
    first.clips[5].path.write_bytes(encoded(face_picture("bored")))
    again = prepared(corpus, cache)
    changed = [a != b for a, b in zip(first.digests, again.digests, strict=True)]
    assert [i for i, different in enumerate(changed) if different] == [5]


@pytest.mark.parametrize("damage", ["short", "flipped", "no table", "bad table", "empty"])
def test_a_damaged_file_is_made_anew(corpus: Counting, cache: Path, damage: str) -> None:
    expected = np.array(prepared(corpus, cache).pixels)
    (path,) = (cache / "images").glob("*.u8")
    raw = bytearray(path.read_bytes())
    table = path.with_suffix(".json")
    if damage == "short":
        path.write_bytes(raw[:-100])
    elif damage == "flipped":
        raw[1000] ^= 1
        path.write_bytes(raw)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no table":
        table.unlink()
    else:
        table.write_text('{"count": ')
    np.testing.assert_array_equal(prepared(corpus, cache).pixels, expected)
    assert Counting.decoded == 2
    assert sorted(p.suffix for p in (cache / "images").iterdir()) == [".json", ".u8"]


def test_an_interrupted_preparation_leaves_nothing(
    corpus: Counting, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Counting, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        yield np.zeros((48, 48), np.uint8)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Counting, "pictures", broken)
        with pytest.raises(KeyboardInterrupt):
            prepared(corpus, cache)
    assert not list((cache / "images").iterdir())
    assert len(prepared(corpus, cache).clips) == 42


def test_bad_pictures_are_left_out_with_the_reason(corpus: Counting, cache: Path) -> None:
    paths = [clip.path for clip in corpus.clips()]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"not a picture")
    for store in (prepared(corpus, cache), prepared(corpus, cache)):  # made, and read back
        assert len(store.clips) == len(store.pixels) == len(store.digests) == 40
        assert [clip.path for clip, _ in store.failed] == paths[:2]
        assert all("no picture" in reason for _, reason in store.failed)
    assert Counting.decoded == 1


def test_copies_share_their_digest(corpus: Counting, cache: Path) -> None:
    clips = corpus.clips()
    clips[0].path.write_bytes(clips[7].path.read_bytes())
    digests = prepared(corpus, cache).digests
    assert digests[0] == digests[7] and len(set(digests)) == 41


def test_sizes_and_colours_are_brought_to_one(tmp_path: Path, cache: Path) -> None:
    corpus = ImageFolder(fake_image_folder(tmp_path / "own", per_emotion=2))
    grey = prepare_images(corpus, corpus.clips(), size=32, colour=False, folder=cache)
    colour = prepare_images(corpus, corpus.clips(), size=32, colour=True, folder=cache)
    assert grey.pixels.shape == (12, 1, 32, 32) and colour.pixels.shape == (12, 3, 32, 32)
    red, _, blue = colour.pixels[:, :, 16, 16].astype(int).T  # on the nose: skin
    assert (red > blue + 10).all()
    luma = colour.pixels[:, :, 16, 16] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey.pixels[:, 0, 16, 16], luma, atol=3)


def test_nothing_decodable_is_one_sentence(corpus: Counting, cache: Path) -> None:
    for clip in corpus.clips():
        clip.path.write_bytes(b"x")
    with pytest.raises(CacheError, match=r"Bad corpus .*none of its 42 pictures could be decoded"):
        prepared(corpus, cache)


def test_a_cache_that_can_not_be_written_names_the_cure(corpus: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="set AVSER_CACHE"):
        prepared(corpus, tmp_path / "file")


def test_progress_is_reported(corpus: Counting, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    clips = corpus.clips() * 5
    prepare_images(
        corpus, clips, size=48, colour=False, folder=cache, progress=lambda *x: seen.append(x)
    )
    assert seen == [(100, 210), (200, 210)]
