import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avser.errors import ConfigError
from avser.models.encoders.backbone import backbone_colour, backbone_dim, create_backbone

SIZE = (64, 96)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "own.safetensors"
    save_file(create_backbone("test_resnet", channels=3, size=SIZE).state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "test_vit"])
def test_a_backbone_gives_vectors_of_the_stated_width(name: str) -> None:
    model = create_backbone(name, channels=2, size=SIZE).eval()
    assert model(torch.randn(3, 2, *SIZE)).shape == (3, backbone_dim(model))


def test_weights_come_from_a_local_file(weights: Path, tmp_path: Path) -> None:
    first = create_backbone("test_resnet", channels=3, size=SIZE, pretrained=str(weights)).eval()
    torch.save({"state_dict": first.state_dict()}, tmp_path / "own.pt")
    again = create_backbone(
        "test_resnet", channels=3, size=SIZE, pretrained=str(tmp_path / "own.pt")
    ).eval()
    image = torch.rand(1, 3, *SIZE)
    assert torch.equal(first(image), again(image))
    other = create_backbone("test_resnet", channels=3, size=SIZE).eval()
    assert not torch.allclose(first(image), other(image))


def test_one_channel_sees_what_three_equal_ones_do(weights: Path) -> None:
    grey = create_backbone("test_resnet", channels=1, size=SIZE, pretrained=str(weights)).eval()
    colour = create_backbone("test_resnet", channels=3, size=SIZE, pretrained=str(weights)).eval()
    image = torch.rand(2, 1, *SIZE)
    torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)))


def test_without_a_network_one_sentence_comes_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as hub

    def unreachable(*_: object, **__: object) -> socket.socket:
        raise OSError("no route")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    before, start = hub.HF_HUB_OFFLINE, time.monotonic()
    with pytest.raises(ConfigError, match="connect to the internet once"):
        create_backbone("resnet18", channels=3, size=SIZE, pretrained=True)
    assert time.monotonic() - start < 20  # the hub's retries take most of a minute
    assert before == hub.HF_HUB_OFFLINE


def test_bad_weights_are_told_in_one_sentence(weights: Path, tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.pt", "no such file"), (tmp_path / "bad.pt", "damaged")):
        (tmp_path / "bad.pt").write_bytes(b"no tensors")
        with pytest.raises(ConfigError, match=message):
            create_backbone("test_resnet", channels=3, size=SIZE, pretrained=str(path))
    torch.save({"model": Path("x")}, tmp_path / "code.pt")  # loading it would run a constructor
    with pytest.raises(ConfigError, match="more than tensors"):
        create_backbone("test_resnet", channels=3, size=SIZE, pretrained=str(tmp_path / "code.pt"))
    with pytest.raises(ConfigError, match="other shapes"):
        create_backbone("resnet18", channels=3, size=SIZE, pretrained=str(weights))
    with pytest.raises(ConfigError, match=r"lacks \d+ of the"):
        create_backbone("test_vit", channels=3, size=SIZE, pretrained=str(weights))


def test_a_misspelt_name_is_told_with_its_likes() -> None:
    with pytest.raises(ConfigError, match="such as resnet18"):
        create_backbone("resnett18", channels=3, size=SIZE)


def test_colours_are_those_of_the_training() -> None:
    mean, deviation = backbone_colour(create_backbone("resnet18", channels=3, size=SIZE))
    assert mean == (0.485, 0.456, 0.406) and deviation == (0.229, 0.224, 0.225)
