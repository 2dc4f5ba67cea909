import sys
from typing import Any

import pytest
import torch

from avser.errors import BundleError, ConfigError
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.factory import build, build_net
from avser.models.frontends.logmel import LogMel as LogMel
from avser.models.heads import AttentiveHead, Head
from avser.testing.nets import tiny_net, tiny_spec

EMOTIONS = ("happy", "sad", "angry")
HEAD = tiny_spec()["head"]


class ForeignEncoder(CrnnEncoder):
    """Lives outside of avser."""


def refused(spec: dict[str, Any], match: str, *, allow: tuple[str, ...] = ()) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        build_net(spec, EMOTIONS, allow=allow)
    message = str(caught.value)
    assert message.startswith("Bad ") and message.endswith((".", "?")) and "\n" not in message


def head_of(path: str, settings: object = None) -> dict[str, Any]:
    return tiny_spec() | {"head": {"class_path": path, "init_args": settings}}


def test_plain_settings_make_the_same_network() -> None:
    torch.manual_seed(0)
    made, ours = build_net(tiny_spec(), EMOTIONS), tiny_net()
    assert made.emotions == EMOTIONS and str(made) == str(ours)
    shapes = {k: v.shape for k, v in made.state_dict().items()}
    assert shapes == {k: v.shape for k, v in ours.state_dict().items()}
    assert isinstance(build(HEAD, Head), AttentiveHead)


@pytest.mark.parametrize(
    "path",
    ["os.system", "subprocess.Popen", "torch.nn.Linear", "builtins.eval", "avserx.a.B", "Head", ""],
)
def test_classes_from_elsewhere_are_refused(path: str) -> None:
    refused(head_of(path), "expected one under avser[.]; if you trust it")


@pytest.mark.parametrize(
    "path",
    [
        "avser.models.net.EmotionNet",  # a module, but no head
        "avser.models.encoders.crnn.CrnnEncoder",
        "avser.models.heads.masked_softmax",
        "avser.bundle.serialization.shutil",
        "avser.types.Clip",
    ],
)
def test_what_is_no_head_is_refused_as_a_head(path: str) -> None:
    refused(head_of(path), "expected a Head in this place")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("avser.models.heads.AttentivHead", "does not exist"),
        ("avser.nowhere.Head", "does not exist"),
        ("avser.bundle.serialization.shutil.rmtree", "does not exist"),
        ("avser..os.system", "does not exist"),
        ("avser.models.heads.Head", "Bad settings"),  # abstract
        ("avser.__main__.Head", "does not exist"),  # and the command line does not start
    ],
)
def test_classes_that_can_not_be_made_are_refused(
    path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["avser", "--version"])
    monkeypatch.delitem(sys.modules, "avser.__main__", raising=False)
    refused(head_of(path), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 8}, "hiden"),
        ({"hidden": -8}, "Bad model settings"),
        ({"dropout": 2.0}, "dropout"),
        ({"hidden": {"class_path": "os.system"}}, "no module belongs in this place"),
        ({"hidden": [{"class_path": "os.system"}]}, "no module belongs in this place"),
        (["hidden"], "init_args by name"),
        ("hidden", "init_args by name"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: object, message: str) -> None:
    refused(head_of("avser.models.heads.AttentiveHead", settings), message)


@pytest.mark.parametrize(
    "spec", ["avser.models.heads.AttentiveHead", {"class_path": 3}, {}, [HEAD]]
)
def test_what_names_no_class_is_refused(spec: object) -> None:
    refused(tiny_spec() | {"head": spec}, "expected class_path and init_args")


def test_a_nested_class_must_subclass_its_place_too() -> None:
    spec = tiny_spec()
    spec["audio"]["init_args"]["frontend"] = HEAD
    refused(spec, "expected a Frontend in this place")


def test_slots_are_those_of_the_network() -> None:
    refused(tiny_spec() | {"hed": HEAD}, r"Bad slot 'hed'.*did you mean 'head'")
    refused({"audio": tiny_spec()["audio"]}, "the head is missing")
    refused(tiny_spec() | {"head": None}, "the head is missing")
    with pytest.raises(ConfigError, match="no encoder"):
        build_net({"head": HEAD}, EMOTIONS)


def test_a_prefix_is_allowed_by_name() -> None:
    spec = tiny_spec()
    spec["audio"]["class_path"] = f"{__name__}.ForeignEncoder"
    refused(spec, "allow its prefix by name")
    allow = (f"{__name__}.",)
    assert type(build_net(spec, EMOTIONS, allow=allow).audio) is ForeignEncoder
    spec["audio"]["class_path"] = f"{__name__}.LogMel"  # of the prefix, and no encoder
    refused(spec, "expected a AudioEncoder", allow=allow)
    spec["audio"]["class_path"] = "torch.nn.Linear"
    refused(spec, "expected one under", allow=allow)


def test_a_class_path_of_an_earlier_layout_is_refused_with_its_present_one() -> None:
    spec = tiny_spec() | {"head": {"class_path": "avser.heads.AttentiveHead", "init_args": {}}}
    refused(spec, "it is now avser.models.heads.AttentiveHead")
