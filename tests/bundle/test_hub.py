"""Bundles go to the Hub and come back, with a fake of it in a folder."""

import inspect
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from avser.bundle import serialization as bundle
from avser.bundle.hub import push_to_hub
from avser.errors import BundleError, ConfigError
from avser.inference.predictor import Predictor
from avser.testing.nets import tiny_bundle

REAL = {
    "create_repo": inspect.signature(huggingface_hub.HfApi.create_repo),
    "upload_folder": inspect.signature(huggingface_hub.HfApi.upload_folder),
    "snapshot_download": inspect.signature(huggingface_hub.snapshot_download),
}


class FakeHub:
    """Repositories as folders; calls that the real API would refuse are refused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.private: dict[str, bool] = {}

    def create_repo(self, *words: Any, **named: Any) -> str:
        given = REAL["create_repo"].bind(self, *words, **named).arguments
        assert given["exist_ok"]
        self.private.setdefault(given["repo_id"], given["private"])
        (self.root / given["repo_id"]).mkdir(parents=True, exist_ok=True)
        return f"https://hub.invalid/{given['repo_id']}"

    def upload_folder(self, *words: Any, **named: Any) -> None:
        given = REAL["upload_folder"].bind(self, *words, **named).arguments
        self._copy(Path(given["folder_path"]), self.root / given["repo_id"], given)

    def snapshot_download(self, *words: Any, **named: Any) -> str:
        given = REAL["snapshot_download"].bind(*words, **named).arguments
        home = self.root / given["repo_id"]
        if not home.is_dir() or given.get("revision") not in (None, "v1"):
            raise FileNotFoundError(f"404: {given['repo_id']} was not found.\nSee the manual.")
        target = Path(given["local_dir"])
        self._copy(home, target, given)
        return str(target)

    @staticmethod
    def _copy(source: Path, target: Path, given: dict[str, Any]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in given["allow_patterns"]):
                shutil.copyfile(path, target / path.name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def test_a_bundle_goes_to_the_hub_and_comes_back(hub: FakeHub, tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "run" / "bundle")
    (folder / "notes.txt").write_text("mine")
    assert push_to_hub(tmp_path / "run", "anna/tiny", private=True) == (
        "https://hub.invalid/anna/tiny"
    )
    assert hub.private == {"anna/tiny": True}
    sent = {path.name for path in (hub.root / "anna" / "tiny").iterdir()}
    assert sent == {path.name for path in folder.iterdir()} - {"notes.txt"}
    (hub.root / "anna" / "tiny" / "evil.py").write_text("raise SystemExit")

    expected = bundle.load(folder)
    for name in ("hf://anna/tiny", "hf://anna/tiny@v1"):
        result = bundle.load(name)
        assert (result.name, result.config) == (expected.name, expected.config)
        assert not (result.folder / "evil.py").exists()
    assert Predictor.from_pretrained("hf://anna/tiny").net.emotions == expected.net.emotions


def test_changed_weights_of_a_download_are_refused(hub: FakeHub, tmp_path: Path) -> None:
    push_to_hub(tiny_bundle(tmp_path / "bundle"), "anna/tiny")
    (weights,) = (hub.root / "anna" / "tiny").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="the hash does not match"):
        bundle.load("hf://anna/tiny")


@pytest.mark.parametrize("name", ["hf://tiny", "hf://anna/tiny/more", "hf://anna/ti ny", "hf://"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="expected hf://OWNER/NAME or hf://OWNER/NAME@TAG"):
        bundle.load(name)


def test_what_fails_is_one_sentence(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^Can't download hf://anna/lost: 404.*; check the name"):
        bundle.load("hf://anna/lost")
    folder = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="Bad repository 'tiny': expected OWNER/NAME"):
        push_to_hub(folder, "tiny")
    with pytest.raises(BundleError, match="Bad bundle"):
        push_to_hub(tmp_path / "nothing", "anna/tiny")
    assert not hub.root.exists()


def test_without_the_library_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("avser.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'avser\[hub\]'"):
        bundle.load("hf://anna/tiny")
