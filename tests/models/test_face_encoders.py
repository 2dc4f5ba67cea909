"""Encoders of face crops: the contract of all, and what each is."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import Conv2dSame
from tiny_encoders import FACES, classes
from torch import Tensor, nn

from avser.bundle import serialization as bundle
from avser.errors import ConfigError
from avser.media.faces.motion import MOVING, lip_movement
from avser.models.encoders import faces as faces_module
from avser.models.encoders.backbone import create_backbone, pad_alike
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.encoders.faces import FaceEncoder, StepStatistic
from avser.models.encoders.grey import to_grey
from avser.models.encoders.lips import lip_movement as batched_lips
from avser.models.encoders.pixels import PixelEncoder
from avser.models.encoders.timm_faces import TimmFacesEncoder
from avser.models.transforms import Transforms
from avser.types import Batch, audio_batch


def tiny_timm(*, pretrained: bool | str = False) -> TimmFacesEncoder:
    return TimmFacesEncoder(backbone="test_efficientnet", pretrained=pretrained, size=32)


@pytest.fixture(params=FACES)
def encoder(request: pytest.FixtureRequest) -> FaceEncoder:
    torch.manual_seed(0)
    return FACES[request.param]().eval()


def faces_batch(faces: Tensor, mask: Tensor) -> Batch:
    """A batch of ``faces [B, T, N, C, H, W]`` without sound."""
    batch = audio_batch(torch.zeros(len(faces), 0), torch.zeros(len(faces), dtype=torch.long))
    batch["faces"], batch["face_mask"] = faces, mask
    return batch


def crops(*shape: int, channels: int = 3, side: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, 256, (*shape, channels, side, side), dtype=torch.uint8, generator=generator
    )


def test_every_face_encoder_has_tiny_settings() -> None:
    """What has none is in no contract test."""
    tested = {type(make()) for make in FACES.values()}
    missing = {kind.__name__ for kind in classes(FaceEncoder)} - {k.__name__ for k in tested}
    assert not missing, f"Add tests/tiny_encoders/<name>.py with FACES for {sorted(missing)}."


# -- the contract --------------------------------------------------------------------------------


def test_folded_norms_give_the_same_vectors(encoder: FaceEncoder) -> None:
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # as after training: no map has a mean of 0 and a deviation of 1
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert value is not None
            value.data.uniform_(0.5, 1.5)
    images = crops(4).float() / 255
    with torch.no_grad():
        plain = encoder.embed(images)
        encoder.fold_norms()
        torch.testing.assert_close(encoder.embed(images), plain, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


@pytest.mark.parametrize("size", [32, 37, 45])
def test_equal_padding_gives_the_same_vectors(size: int) -> None:
    torch.manual_seed(0)
    network = create_backbone("tf_efficientnet_lite0", channels=3, size=(size, size + 1)).eval()
    images = torch.rand(2, 3, size, size + 1)
    with torch.no_grad():
        plain = network(images)
        assert any(isinstance(module, Conv2dSame) for module in network.modules())
        pad_alike(network, images)
        torch.testing.assert_close(network(images), plain, rtol=1e-5, atol=1e-6)
    assert not any(isinstance(module, Conv2dSame) for module in network.modules())


class NormFirst(FaceEncoder):
    """Registers a norm after the convolution that it runs before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.width = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), 3
        self.norm.bias.data.fill_(2.0)

    def embed(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.conv(self.norm(images).relu()).mean(dim=(2, 3))
        return vectors


def test_norms_stay_where_folding_would_change_the_vectors() -> None:
    encoder = NormFirst().eval()
    encoder.fold_norms()
    assert isinstance(encoder.norm, nn.BatchNorm2d)


def test_a_step_is_valid_if_any_of_its_faces_is(encoder: FaceEncoder) -> None:
    mask = torch.tensor([[[True, False], [False, False], [True, True]]])
    x, valid = encoder(faces_batch(crops(1, 3, 2), mask))
    assert x.shape == (1, 3, encoder.dim) and x.dtype == torch.float32
    assert valid.tolist() == [[True, False, True]]
    assert not x[0, 1].any()


def test_a_step_is_the_mean_of_its_valid_faces(encoder: FaceEncoder) -> None:
    faces, every = crops(1, 1, 3), torch.ones(1, 1, 3, dtype=torch.bool)
    mask = torch.tensor([[[True, False, True]]])
    alone = [encoder(faces_batch(faces[:, :, [i]], every[..., :1]))[0] for i in (0, 2)]
    both, _ = encoder(faces_batch(faces, mask))
    mean = slice(encoder.width)  # the first statistic of all
    torch.testing.assert_close(
        both[..., mean], (alone[0] + alone[1])[..., mean] / 2, atol=1e-5, rtol=1e-4
    )


def test_padding_never_leaks(encoder: FaceEncoder) -> None:
    short, long = crops(1, 2, 2), crops(1, 4, 3)
    alone, _ = encoder(faces_batch(short, torch.ones(1, 2, 2, dtype=torch.bool)))
    padded = torch.full((2, 4, 3, 3, 40, 40), 255, dtype=torch.uint8)  # bright, not black
    padded[0, :2, :2], padded[1] = short[0], long[0]
    mask = torch.zeros(2, 4, 3, dtype=torch.bool)
    mask[0, :2, :2], mask[1] = True, True
    x, valid = encoder(faces_batch(padded, mask))
    torch.testing.assert_close(x[:1, :2], alone, atol=1e-5, rtol=1e-4)
    assert valid[0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("training", [False, True])
def test_batches_without_a_face_are_answered(encoder: FaceEncoder, training: bool) -> None:
    encoder.train(training)
    sound = audio_batch(torch.zeros(2, 20_000), torch.tensor([20_000, 0]))
    hidden = faces_batch(crops(2, 3, 1), torch.zeros(2, 3, 1, dtype=torch.bool))
    for batch in (sound, hidden):
        x, valid = encoder(batch)
        assert x.shape == (2, 3, encoder.dim)
        assert not valid.any() and not x.any()


def test_long_clips_are_embedded_piece_by_piece(
    encoder: FaceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = faces_batch(crops(2, 3, 1), torch.ones(2, 3, 1, dtype=torch.bool))
    whole, _ = encoder(batch)
    monkeypatch.setattr(faces_module, "PIECE", 4)
    pieces, _ = encoder(batch)
    torch.testing.assert_close(whole, pieces, atol=1e-5, rtol=1e-4)


def test_every_weight_learns(encoder: FaceEncoder) -> None:
    torch.manual_seed(0)
    x, _ = encoder.train()(faces_batch(crops(4, 2, 1), torch.ones(4, 2, 1, dtype=torch.bool)))
    if not list(encoder.parameters()):
        return  # of an encoder without weights a baseline learns
    (x * torch.randn_like(x)).sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


def test_augmentation_sees_valid_faces_of_training_alone(encoder: FaceEncoder) -> None:
    class Seeing(nn.Module):  # as ImageAugment is; a plain function would do too
        def forward(self, images: Tensor, clip: Tensor) -> Tensor:
            seen.append((images, clip))
            return images

    seen: list[tuple[Tensor, Tensor]] = []
    transforms = Transforms(faces=Seeing())
    mask = torch.tensor([[[True], [False]], [[True], [True]]])
    batch = faces_batch(crops(2, 2, 1), mask)
    encoder(batch, transforms=transforms)
    assert not seen
    encoder.train()(batch, transforms=transforms)
    ((images, clip),) = seen
    assert clip.tolist() == [0, 1, 1]
    assert images.shape == (3, 3, 40, 40) and 0 <= images.min() and 0.9 < images.max() <= 1


# -- statistics of a step ------------------------------------------------------------------------


class FirstPixel(FaceEncoder):
    """A crop's first pixel, 0 to 255, and a tenth of it: embeddings that are known."""

    width = 2

    def embed(self, images: Tensor) -> Tensor:
        value = 255 * images[:, 0, 0, :1]
        return torch.cat([value, value / 10], dim=1)


def steps_of_values(
    values: list[list[int | None]], *statistics: StepStatistic, training: bool = False
) -> Tensor:
    """Vectors ``[T, D]`` of one clip, of which the crops' values are given; None is no face."""
    mask = torch.tensor([[[value is not None for value in step] for step in values]])
    plain = torch.tensor([[[255 if value is None else value for value in step] for step in values]])
    faces = plain[..., None, None, None].expand(*plain.shape, 3, 4, 4).to(torch.uint8)
    encoder = FirstPixel(statistics=statistics).train(training)
    x, steps = encoder(faces_batch(faces, mask))
    assert torch.equal(steps, mask.any(dim=2)) and x.shape[-1] == encoder.dim
    rows: Tensor = x[0]
    return rows


@pytest.mark.parametrize("training", [False, True])
def test_movement_is_the_deviation_over_a_steps_valid_crops(training: bool) -> None:
    values: list[list[int | None]] = [[10, 30, 50], [70, None, 90], [80, None, None], [None] * 3]
    x = steps_of_values(values, "deviation", "mean", training=training)
    spread = [(800 / 3) ** 0.5, 10.0, 0.0, 0.0]  # one crop does not move, nobody does neither
    expected = [[d, d / 10, m, m / 10] for d, m in zip(spread, [30, 80, 80, 0], strict=True)]
    torch.testing.assert_close(x, torch.tensor(expected), atol=1e-4, rtol=1e-5)


def test_a_centred_step_is_its_mean_less_the_shrunk_mean_so_far() -> None:
    x = steps_of_values([[40, 120], [None, None], [20, None], [200, 200]], "centred")
    means = [80 / 40, 0, 100 / 41, 300 / 42]  # after n steps with a face: sum / (n + 39)
    expected = torch.tensor([80 - means[0], 0, 20 - means[2], 200 - means[3]])
    torch.testing.assert_close(x, torch.stack([expected, expected / 10], dim=1))
    later = steps_of_values([[40, 120], [None, None], [20, None], [0, 9]], "centred")
    assert torch.equal(later[:3], x[:3])  # no step depends on a later one


def test_lips_are_the_movement_by_which_speakers_are_chosen() -> None:
    noise = np.random.default_rng(0)
    film = [np.asarray(noise.integers(0, 40, (112, 112, 3)) + 90, np.uint8) for _ in range(4)]
    for index, crop in enumerate(film):  # a mouth that opens
        crop[80 : 84 + 5 * index, 40:72] = 20
    grid = torch.from_numpy(np.stack(film)).movedim(-1, 1).reshape(1, 2, 2, 3, 112, 112)
    every = torch.ones(1, 2, 2, dtype=torch.bool)
    expected = [lip_movement(a, b) / MOVING for a, b in pairwise(film)]
    moved = batched_lips(grid, every).flatten()
    assert moved[0].isnan()  # nothing is before
    assert moved[1:].tolist() == pytest.approx(expected, abs=2e-3) and min(expected) > 0.5
    encoder = FirstPixel(statistics=("lips", "mean"))
    assert encoder.dim == 4
    for training in (False, True):
        x, _ = encoder.train(training)(faces_batch(grid, every))
        second = np.mean(expected[1:]), np.std(expected[1:])
        assert x[0, 0, :2].tolist() == pytest.approx([expected[0], 0.0], abs=2e-3)
        assert x[0, 1, :2].tolist() == pytest.approx(second, abs=2e-3)
    hidden = torch.tensor([[[True, True], [False, True]]])  # since the last one that is there
    x, _ = encoder(faces_batch(grid, hidden))
    since = lip_movement(film[1], film[3]) / MOVING
    assert x[0, :, 0].tolist() == pytest.approx([expected[0], since], abs=2e-3)
    lost = torch.tensor([[[True, False], [False, False], [False, True]]])  # for a whole step
    x, _ = encoder(faces_batch(grid[:, [0, 0, 1]], lost))
    assert not x[..., :2].any()
    held, _ = encoder(faces_batch(grid[:, :1, :1].expand(-1, 2, 2, -1, -1, -1), every))
    assert held[..., :2].abs().max() < 1e-3
    flat, _ = encoder(faces_batch(torch.full_like(grid, 90), every))
    assert not flat[..., :2].any()


@pytest.mark.parametrize("encoder", ["cnn of movement"], indirect=True)
def test_a_still_face_does_not_move_and_movement_learns(encoder: FaceEncoder) -> None:
    held = crops(2, 2, 1).expand(-1, -1, 2, -1, -1, -1)
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    for training in (False, True):
        x, _ = encoder.train(training)(faces_batch(held, mask))
        mean, deviation, centred = x.split(encoder.width, dim=-1)
        assert mean.any() and not deviation.any()
        if not training:  # without dropout
            torch.testing.assert_close(centred[:, 0], mean[:, 0] * 39 / 40)
    deviation.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    encoder.zero_grad()
    x, _ = encoder(faces_batch(crops(2, 2, 2), mask))
    x.split(encoder.width, dim=-1)[1].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_dropout_is_no_movement() -> None:
    encoder = FaceCnnEncoder(channels=(8,), blocks=(1,), dropout=0.5, statistics=("deviation",))
    held = crops(2, 2, 1).expand(-1, -1, 2, -1, -1, -1)
    x, _ = encoder.train()(faces_batch(held, torch.ones(2, 2, 2, dtype=torch.bool)))
    assert not x.any()


@pytest.mark.parametrize("statistics", [(), ("mean", "mean"), ("mean", "median")])
def test_unknown_statistics_are_refused(statistics: tuple[StepStatistic, ...]) -> None:
    with pytest.raises(ConfigError, match="legal are mean, deviation, centred, lips"):
        PixelEncoder(statistics=statistics)


# -- FaceCnnEncoder ------------------------------------------------------------------------------


@torch.no_grad()
def embedded(encoder: FaceEncoder, faces: Tensor) -> Tensor:
    mask = torch.ones(*faces.shape[:3], dtype=torch.bool)
    x: Tensor = encoder.eval()(faces_batch(faces, mask))[0]
    return x


def test_the_shipped_size_stays_under_five_megabytes() -> None:
    net = FaceCnnEncoder()
    assert 4 * sum(p.numel() for p in net.parameters()) < 5_000_000
    assert net.dim == 160


def test_light_and_size_and_colour_do_not_matter() -> None:
    torch.manual_seed(0)
    net = FaceCnnEncoder(channels=(16, 32), blocks=(1, 1))
    smooth = torch.nn.functional.interpolate(torch.rand(2, 1, 5, 5), (48, 48), mode="bicubic")
    grey, other = (40 + 120 * smooth.clamp(0, 1)).to(torch.uint8)[:, None, None, None]
    first = embedded(net, grey)
    apart = float((embedded(net, other) - first).norm())
    same = {
        "brighter": (grey.float() * 1.4 + 10).to(torch.uint8),
        "in colour": grey.expand(-1, -1, -1, 3, -1, -1),
        "larger": grey.repeat_interleave(3, dim=-1).repeat_interleave(3, dim=-2),
    }
    far = {name: float((embedded(net, x) - first).norm()) / apart for name, x in same.items()}
    assert max(far.values()) < 0.1, far


def test_a_flat_face_is_finite() -> None:
    flat = torch.full((1, 1, 1, 1, 48, 48), 128, dtype=torch.uint8)
    assert embedded(FaceCnnEncoder(channels=(8,), blocks=(1,)), flat).isfinite().all()


def test_mirrored_faces_are_alike_where_asked() -> None:
    torch.manual_seed(0)
    faces = crops(1, 1, 1, channels=1, side=48)
    both = FaceCnnEncoder(channels=(8,), blocks=(1,), mirror=True)
    torch.testing.assert_close(embedded(both, faces), embedded(both, faces.flip(-1)))
    both.mirror = False
    assert not torch.allclose(embedded(both, faces), embedded(both, faces.flip(-1)), atol=1e-4)


@pytest.mark.parametrize(("channels", "blocks"), [((8, 16), (1,)), ((), ()), ((8,) * 5, (1,) * 5)])
def test_stages_that_do_not_fit_are_refused(
    channels: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match="give as many blocks as channels"):
        FaceCnnEncoder(channels=channels, blocks=blocks)


# -- TimmFacesEncoder ----------------------------------------------------------------------------


def test_colours_are_those_of_the_backbones_training() -> None:
    net = tiny_timm()
    seen: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    grey = torch.full((1, 1, 1, 1, 48, 48), 51, dtype=torch.uint8)
    embedded(net, grey)
    assert seen[0].shape == (1, 3, 32, 32)
    expected = (0.2 - net.mean) / net.deviation
    torch.testing.assert_close(seen[0][0, :, 5, 5], expected.flatten())


def test_a_network_of_grey_pictures_sees_brightness_alone() -> None:
    torch.manual_seed(0)
    net = TimmFacesEncoder(backbone="test_efficientnet", size=32, colour=False).eval()
    skin = torch.rand(2, 3, 48, 48) * torch.tensor([0.9, 0.6, 0.5])[:, None, None]
    grey = (skin * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    seen: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        net.embed(skin), net.embed(grey)
    torch.testing.assert_close(seen[0], seen[1])
    red, _, blue = (seen[0] * net.deviation + net.mean).unbind(dim=1)
    torch.testing.assert_close(red, blue)


@pytest.mark.parametrize("name", ["av.multi", "face_cnn.fer2013"])
def test_released_face_networks_of_grey_pictures_ignore_colour(name: str) -> None:
    video = bundle.load(name).net.eval().video
    assert isinstance(video, FaceEncoder)
    skin = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(video.embed(skin), video.embed(to_grey(skin)))


def test_a_backbone_starts_from_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(5)
    weights = create_backbone("test_efficientnet", channels=3, size=(32, 32)).state_dict()
    save_file(weights, tmp_path / "own.safetensors")
    net = tiny_timm(pretrained=str(tmp_path / "own.safetensors"))
    assert torch.equal(net.backbone.state_dict()["conv_stem.weight"], weights["conv_stem.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"size": 8}, "Bad size 8"), ({"backbone": "resnet-18"}, "Bad backbone 'resnet-18'")],
)
def test_what_can_not_be_built_is_one_sentence(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmFacesEncoder(**settings)  # type: ignore[arg-type]


def test_pixels_are_those_of_the_crop() -> None:
    faces, mask = crops(1, 1, 1, side=8), torch.ones(1, 1, 1, dtype=torch.bool)
    x, _ = PixelEncoder(size=8, colour=True)(faces_batch(faces, mask))
    torch.testing.assert_close(x[0, 0], faces.flatten() / 255)
    grey, _ = PixelEncoder(size=8)(faces_batch(faces, mask))
    torch.testing.assert_close(grey[0, 0], faces[0, 0, 0].float().mean(dim=0).flatten() / 255)
    half, _ = PixelEncoder(size=4)(faces_batch(faces, mask))
    assert half.shape == (1, 1, 16) and not list(PixelEncoder().parameters())
    with pytest.raises(ConfigError, match="Bad size 2"):
        PixelEncoder(size=2)
