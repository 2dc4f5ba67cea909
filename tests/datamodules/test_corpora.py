"""Corpora: the contract, for every reader and configuration that lies in the folders."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import pytest
import yaml

from avser.datamodules.corpora import corpus_names, find_corpus
from avser.datamodules.corpora.crema_d import CremaD
from avser.emotions import VOCABULARY
from avser.errors import CorpusError
from avser.testing import corpora as fakes
from avser.types import Corpus, ImageCorpus

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
#: Corpora of recordings; those of pictures have a contract of their own, in test_corpora_images.
SOUND = [name for name in corpus_names() if not issubclass(find_corpus(name), ImageCorpus)]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small fake of each corpus, read only."""
    return {
        name: fakes.FAKES[name](tmp_path_factory.mktemp(name) / name, speakers=2, per_emotion=2)
        for name in SOUND
    }


# The contract, for every corpus that lies in the folder


@pytest.mark.parametrize("name", SOUND)
def test_clips_keep_the_contract(name: str, trees: dict[str, Path]) -> None:
    corpus = find_corpus(name)(trees[name])
    clips = corpus.clips()
    ids = [clip.clip_id for clip in clips]
    assert ids == sorted(set(ids))
    assert len({clip.speaker for clip in clips}) == 2
    for clip in clips:
        assert clip.emotion in VOCABULARY
        assert clip.corpus == name
        assert clip.speaker.startswith(f"{name}/")
        assert clip.path.is_file()
        assert clip.video is None or clip.video.is_file()
        assert clip.sex in ("", "female", "male")
        assert not clip.path.name.startswith(".")
    assert clips == find_corpus(name)(trees[name]).clips()


@pytest.mark.parametrize("name", SOUND)
def test_sound_of_every_fake_clip_can_be_decoded(name: str, trees: dict[str, Path]) -> None:
    for clip in find_corpus(name)(trees[name]).clips()[::5]:
        with av.open(str(clip.path)) as media:
            samples = sum(frame.samples for frame in media.decode(audio=0))
            seconds = samples / media.streams.audio[0].rate
        assert 0.55 < seconds < 1.3


@pytest.mark.parametrize("name", corpus_names())
def test_corpus_states_what_it_is(name: str) -> None:
    corpus = find_corpus(name)
    assert corpus.name == name
    assert corpus.title
    assert corpus.licence
    assert corpus.url
    assert corpus.citation or corpus.label_target == "given"  # one's own have no owner to cite


@pytest.mark.parametrize("name", [name for name in SOUND if name != "manifest"])  # it has no owner
@pytest.mark.parametrize("exists", [True, False])
def test_wrong_root_says_what_where_and_the_cure(name: str, exists: bool, tmp_path: Path) -> None:
    root = tmp_path if exists else tmp_path / "nowhere"
    corpus = find_corpus(name)
    with pytest.raises(CorpusError) as caught:
        corpus(root).clips()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in (corpus.title, str(root), corpus.url, "--root", "AVSER_DATA"):
        assert part in sentence


@pytest.mark.parametrize("name", SOUND)
def test_root_comes_from_the_environment(
    name: str, trees: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSER_DATA", str(trees[name].parent))
    corpus = find_corpus(name)()
    assert corpus.root == trees[name]
    assert corpus.clips()


def test_every_corpus_has_a_fake() -> None:
    assert set(fakes.FAKES) == set(SOUND)


def test_unknown_corpus_names_the_one_that_was_meant() -> None:
    with pytest.raises(CorpusError, match=r"Bad corpus 'emo-db': .* did you mean 'emodb'\?"):
        find_corpus("emo-db")
    assert find_corpus("CREMA-D") is CremaD


# Configurations


def class_paths(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "class_path" in node:
            yield node["class_path"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from class_paths(value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of how jsonargparse is called
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_names_corpora_that_exist(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVSER_DATA", raising=False)
    config = yaml.safe_load(path.read_text())
    named = [p for p in class_paths(config) if p.startswith("avser.datamodules.corpora.")]
    for class_path in named:
        module, _, name = class_path.rpartition(".")
        assert issubclass(getattr(import_module(module), name), Corpus)
    data = config["data"].get("init_args", config["data"])
    if "corpus" in data:
        folder = Path("data") / path.stem if not named else Path("data") / named[0].split(".")[-2]
        try:
            assert build(data["corpus"]).root == folder
        except CorpusError as error:  # of a corpus that opens its folder when it is made
            assert str(folder) in str(error)


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_has_a_config(name: str) -> None:
    assert (CONFIGS / f"{name}.yaml").is_file()


def build(node: Any) -> Corpus:
    """Make the corpus of a configuration as the command line does: by its typed constructor."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--corpus", type=Corpus)
    built = parser.instantiate_classes(parser.parse_object({"corpus": node})).corpus
    assert isinstance(built, Corpus)
    return built
