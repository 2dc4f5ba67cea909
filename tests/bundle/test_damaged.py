"""Damaged bundles: one sentence each, whatever is broken."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from avser.bundle import serialization as bundle
from avser.bundle.listing import listed
from avser.cli import main
from avser.errors import BundleError
from avser.testing.nets import tiny_bundle
from avser.types import audio_batch

FILES = ("config.yaml", "trained_on.yaml")
LOST = "<deleted>"
VALUES: tuple[Any, ...] = (LOST, None, 0, -1, [], "x", {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("whole") / "tiny")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "tiny")


def places(content: Mapping[str, Any], *before: str) -> Iterator[tuple[str, ...]]:
    """Paths of all keys, nested ones too."""
    for key, value in content.items():
        yield *before, key
        if isinstance(value, dict):
            yield from places(value, *before, key)


def damaged(content: Mapping[str, Any], place: tuple[str, ...], value: object) -> str:
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if value == LOST:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return yaml.safe_dump(copy)


def problem(folder: Path) -> str:
    """The sentence of a bundle that is refused; "" of one that is loaded and predicts."""
    try:
        loaded = bundle.load(folder)
    except BundleError as error:
        return str(error)
    wave = audio_batch(0.1 * torch.randn(1, 9000), torch.tensor([9000]))
    assert loaded.net.predict(loaded.net(wave)).probabilities.shape == (1, 3)
    assert isinstance(listed(folder)["name"], str)
    return ""


@pytest.mark.parametrize("file", FILES)
def test_every_damaged_value_is_refused_in_one_sentence_or_harmless(
    whole: Path, folder: Path, file: str
) -> None:
    content = yaml.safe_load((whole / file).read_text())
    refused = 0
    for place in places(content):
        for value in VALUES:
            (folder / file).write_text(damaged(content, place, value))
            text = problem(folder)
            assert not text or (text.startswith("Bad ") and text[-1] in ".?"), (place, value, text)
            assert "\n" not in text, (place, value)
            refused += bool(text)
    assert refused >= 30


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("name", LOST, "name in config.yaml is None, expected a name"),
        ("parameters", 0, "parameters in config.yaml is 0, expected a whole number above 0"),
        ("emotions", ["happy"], "expected a list of two or more different names"),
        ("figures", "x", "figures in config.yaml is 'x', expected figures by name"),
        ("figures", {"uar": {"value": "x"}}, "expected a value with its interval"),
    ],
)
def test_damaged_config_names_key_value_and_what_is_legal(
    folder: Path, key: str, value: object, text: str
) -> None:
    content = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(damaged(content, (key,), value))
    assert text in problem(folder)
    with pytest.raises(BundleError, match="Bad bundle"):
        listed(folder)


@pytest.mark.parametrize("name", ["speakers", "corpora"])
def test_damaged_provenance_is_named(folder: Path, name: str) -> None:
    content = yaml.safe_load((folder / "trained_on.yaml").read_text())
    (folder / "trained_on.yaml").write_text(damaged(content, (name,), None))
    assert f"{name} in trained_on.yaml is None, expected a list of names" in problem(folder)


def test_digests_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "digests.txt").write_bytes(b"\xff\xfe")
    assert "digests.txt: it is not ASCII" in problem(folder)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_weights_are_refused(
    folder: Path, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    assert problem(folder).startswith("Bad weights")
    assert main(["release", str(folder), "--out", str(folder.parent / "new")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
