import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Provenance
from avser.errors import BundleError
from avser.models.net import EmotionNet
from avser.testing.nets import MeanFusion, VectorVideoEncoder, tiny_net, tiny_spec
from avser.types import audio_batch

SPEC = tiny_spec()
TRAINED = Provenance(corpora=("fake",), speakers=("fake/1", "fake/2"), licence="free", epochs=3)


@pytest.fixture(scope="module")
def net() -> EmotionNet:
    made = tiny_net()
    made.temperature("audio").fill_(1.2345678)
    return made


@pytest.fixture(scope="module")
def saved(net: EmotionNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "m"
    return bundle.save(net, path, spec=SPEC, name="tiny.fake", provenance=TRAINED)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A bundle of one's own to tamper with."""
    return shutil.copytree(saved, tmp_path / "m")


def config_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return content


def change(folder: Path, *place: str, to: object) -> None:
    """Set one value of the config; an `Ellipsis` removes it."""
    config = config_of(folder)
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = to
    if to is ...:
        del inner[place[-1]]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def weights(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def replace_weights(folder: Path, raw: bytes) -> None:
    """Other weights with a right hash and name."""
    weights(folder).unlink()
    digest = hashlib.sha256(raw).hexdigest()
    (folder / f"model-{digest[:8]}.safetensors").write_bytes(raw)
    entry = {"file": f"model-{digest[:8]}.safetensors", "sha256": digest}
    change(folder, "weights", to=entry)


def refused(folder: Path, match: str, **settings: Any) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        bundle.load(folder, **settings)
    message = str(caught.value)
    assert message.startswith("Bad ") and message.endswith((".", "?")) and "\n" not in message


# -- there and back ------------------------------------------------------------------------------


def test_what_is_loaded_answers_bit_for_bit_as_what_was_saved(
    net: EmotionNet, folder: Path
) -> None:
    loaded = bundle.load(folder)
    wave = 0.1 * torch.randn(2, 20000)
    batch = audio_batch(wave, torch.tensor([20000, 9000]))
    ours, theirs = net.predict(net(batch)), loaded.net.predict(loaded.net(batch))
    assert torch.equal(ours.probabilities, theirs.probabilities)
    assert torch.equal(ours.step_probabilities, theirs.step_probabilities)
    assert torch.equal(loaded.net.temperature("audio"), torch.tensor(1.2345678))
    assert not loaded.net.training and loaded.net.emotions == net.emotions
    assert loaded.name == "tiny.fake" and loaded.provenance.speakers == ["fake/1", "fake/2"]
    assert "happy" in loaded.card and "Not for" in loaded.card


def test_a_net_of_both_streams_comes_back_with_a_temperature_a_head(tmp_path: Path) -> None:
    net = tiny_net(features=5)
    for head, value in (("fused", 0.5), ("audio", 1.5), ("video", 2.5)):
        net.temperature(head).fill_(value)
    kinds = {"video": VectorVideoEncoder, "fusion": MeanFusion}
    arguments = {"video": {"features": 5}, "fusion": {}}
    spec = SPEC | {
        slot: {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": arguments[slot]}
        for slot, kind in kinds.items()
    }
    path = bundle.save(net, tmp_path / "av", spec=spec, name="av", provenance=TRAINED)
    loaded = bundle.load(path).net
    assert [float(loaded.temperature(h)) for h in ("fused", "audio", "video")] == [0.5, 1.5, 2.5]
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_a_bundle_replaces_a_bundle_and_nothing_else(net: EmotionNet, folder: Path) -> None:
    bundle.save(net, folder, spec=SPEC, name="other", provenance=TRAINED, card="# mine\n")
    assert bundle.load(folder).name == "other" and bundle.load(folder).card == "# mine\n"
    assert sorted(os.listdir(folder.parent)) == ["m"]
    (folder.parent / "precious.txt").write_text("mine")
    with pytest.raises(BundleError, match="choose another"):
        bundle.save(net, folder.parent, spec=SPEC, name="x", provenance=TRAINED)
    assert (folder.parent / "precious.txt").exists()


def test_a_model_is_found_by_its_folder_or_its_run(folder: Path) -> None:
    folder.rename(folder.with_name("bundle"))
    assert bundle.find(folder.parent) == folder.parent / "bundle"


def test_a_misspelt_model_lists_those_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "released", lambda: {"tiny.fake": folder, "big.fake": folder})
    assert bundle.load("tiny.fake").name == "tiny.fake"
    with pytest.raises(BundleError, match=r"expected one of tiny.fake, big.fake; did you mean"):
        bundle.find("tiny.fke")


# -- weights -------------------------------------------------------------------------------------


def test_changed_weights_are_refused(folder: Path) -> None:
    raw = bytearray(weights(folder).read_bytes())
    raw[-1] ^= 1
    weights(folder).write_bytes(raw)
    refused(folder, "the hash does not match")


def test_renamed_weights_are_refused(folder: Path) -> None:
    weights(folder).rename(folder / "model-00000000.safetensors")
    refused(folder, "is missing")
    change(folder, "weights", "file", to="model-00000000.safetensors")
    refused(folder, "the hash does not match")


def _without(state: dict[str, Tensor]) -> None:
    del state["heads.audio.clip.weight"]


def _with(state: dict[str, Tensor]) -> None:
    state["heads.audio.clip.scale"] = torch.ones(3)


def _reshaped(state: dict[str, Tensor]) -> None:
    state["heads.audio.clip.bias"] = torch.ones(4)


def _retyped(state: dict[str, Tensor]) -> None:
    state["heads.audio.clip.bias"] = state["heads.audio.clip.bias"].half()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_without, "1 keys missing .*clip.weight"),
        (_with, "1 too many .*clip.scale"),
        (_reshaped, r"clip.bias is \(4,\).*expected \(3,\)"),
        (_retyped, "float16"),
    ],
)
def test_weights_of_another_model_are_refused(
    folder: Path, tamper: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    state = load_file(weights(folder))
    tamper(state)
    replace_weights(folder, save(state))
    refused(folder, message)


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/passwd",
        "model-00000000.pt",
        "./model-00000000.safetensors",
        "model-00000000.safetensors\n",
        None,
        ["model-00000000.safetensors"],
    ],
)
def test_weights_anywhere_else_are_refused(folder: Path, name: object) -> None:
    change(folder, "weights", "file", to=name)
    refused(folder, r"expected model-<8 hex>\.safetensors")


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    path = weights(folder)
    outside = path.rename(folder.parent / path.name)
    path.symlink_to(outside)
    refused(folder, "is missing")
    path.unlink()
    (folder / "inside").mkdir()
    path.symlink_to(outside.rename(folder / "inside" / path.name))
    assert bundle.load(folder).name == "tiny.fake"  # as stores of large files link them


def test_a_huge_header_is_refused_before_it_is_read(folder: Path) -> None:
    replace_weights(folder, struct.pack("<Q", 1 << 40) + b"{}")
    refused(folder, "header claims 1099511627776 bytes")
    replace_weights(folder, b"")
    refused(folder, "^Bad weights")
    replace_weights(folder, struct.pack("<Q", 2) + b"[]")
    refused(folder, "^Bad weights")


# -- classes and settings ------------------------------------------------------------------------


def test_classes_from_elsewhere_are_refused(folder: Path) -> None:
    change(folder, "net", "head", "class_path", to="os.system")
    refused(folder, "expected one under avser[.]; if you trust it")
    change(folder, "net", "head", "class_path", to="torch.nn.Linear")
    refused(folder, "expected a Head in this place", allow=["torch."])


@pytest.mark.parametrize("value", [0, 0.001, -1.0, 101, float("nan"), float("inf"), None, "1", []])
def test_temperatures_out_of_range_are_refused(folder: Path, value: object) -> None:
    change(folder, "temperatures", "audio", to=value)
    refused(folder, "Bad temperature .*legal is 0.01 to 100")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format 2, this avser reads 1"),
        ("format", ..., "format None"),
        ("sample_rate", 8000, "rate and step"),
        ("emotions", None, "emotions in config.yaml is None"),
        ("emotions", [["happy"], "sad", "angry"], "expected a list of two or more different names"),
        ("net", ["audio"], "net in config.yaml is .*expected settings by name"),
        ("weights", ..., "Bad weights name"),
        ("temperatures", ..., "Bad temperature"),
    ],
)
def test_a_config_that_lacks_something_is_refused(
    folder: Path, key: str, value: object, message: str
) -> None:
    change(folder, key, to=value)
    refused(folder, message)


@pytest.mark.parametrize(
    "text",
    [
        "format: !!python/object/apply:os.system ['true']",
        "format: !!python/name:os.system",
        "a: &x [1, 2]\nb: [*x, *x]",  # copies of copies can fill any memory
        "[" * 2000,
        "a: 2024-13-45",
        "a: [",
        "\0",
        "- a list",
    ],
)
@pytest.mark.parametrize("name", ["config.yaml", "trained_on.yaml"])
def test_what_is_not_plain_yaml_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    refused(folder, f"Bad bundle file .*{name}")


def test_a_config_over_a_mebibyte_is_refused(folder: Path) -> None:
    with (folder / "config.yaml").open("a") as file:
        file.write("#" * (1 << 20))
    refused(folder, "over 1 MiB")


def test_nothing_in_a_bundle_is_a_pickle(folder: Path) -> None:
    kinds = [".md", ".safetensors", ".txt", ".yaml", ".yaml"]
    assert sorted(p.suffix for p in folder.iterdir()) == kinds
    size = struct.unpack("<Q", weights(folder).read_bytes()[:8])[0]
    assert "heads.audio.clip.weight" in json.loads(weights(folder).read_bytes()[8 : 8 + size])


def test_weights_stored_in_half_the_size_give_nearly_the_same(tmp_path: Path) -> None:
    net = tiny_net()
    settings: dict[str, Any] = {"spec": tiny_spec(), "name": "tiny", "provenance": Provenance()}
    whole = bundle.save(net, tmp_path / "whole", **settings)
    half = bundle.save(net, tmp_path / "half", half=True, **settings)
    assert weights(half).stat().st_size < 0.7 * weights(whole).stat().st_size
    result = bundle.load(half).net
    for key, tensor in bundle.load(whole).net.state_dict().items():
        assert result.state_dict()[key].dtype == tensor.dtype
        torch.testing.assert_close(result.state_dict()[key], tensor, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        next(net.parameters()).fill_(1e6)  # float16 ends at 65,504
    with pytest.raises(BundleError, match="leave out half"):
        bundle.save(net, tmp_path / "wide", half=True, **settings)
    with torch.no_grad():
        next(net.parameters()).fill_(torch.nan)
    with pytest.raises(BundleError, match="not finite"):
        bundle.load(bundle.save(net, tmp_path / "lost", **settings))
