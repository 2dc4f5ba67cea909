import pytest
import torch
from torch import Tensor

from avser.errors import ConfigError
from avser.training.image_augment import ImageAugment

OFF = {"flip": 0.0, "scale": 0.0, "shift": 0.0, "rotation": 0.0}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def ramps(count: int, *, channels: int = 1) -> Tensor:
    """Images that brighten from left to right, ``[count, C, 32, 32]``."""
    return torch.linspace(0.1, 0.9, 32).expand(count, channels, 32, 32).clone()


def each(count: int) -> Tensor:
    return torch.arange(count)


@pytest.mark.parametrize("augment", [ImageAugment(enabled=False, mixup=1.0), ImageAugment(**OFF)])
def test_off_changes_nothing(augment: ImageAugment) -> None:
    images, target = torch.rand(6, 3, 20, 24), torch.eye(6)
    augment.draw(6, images)
    assert torch.equal(augment(images, each(6)), images)
    assert torch.equal(augment.labels(target), target)


def test_flip_mirrors_left_and_right() -> None:
    always = ImageAugment(**{**OFF, "flip": 1.0})
    images = torch.rand(3, 1, 20, 20)
    torch.testing.assert_close(always(images, each(3)), images.flip(-1))
    half = ImageAugment(**{**OFF, "flip": 0.5})(ramps(400), each(400))
    mirrored = half[:, 0, 0, 0] > half[:, 0, 0, -1]
    assert 0.4 < float(mirrored.float().mean()) < 0.6


def test_shift_moves_by_its_share_at_most() -> None:
    spot = torch.zeros(300, 1, 40, 40)
    spot[:, :, 19:21, 19:21] = 1
    moved = ImageAugment(**{**OFF, "shift": 0.1})(spot, each(300))
    place = torch.arange(40.0) + 0.5
    for axis in (2, 3):
        mass = moved.sum(dim=(1, 5 - axis))
        centre = (mass * place).sum(dim=1) / mass.sum(dim=1) - 20
        assert 3 < float(centre.abs().max()) <= 4.05
        assert abs(float(centre.mean())) < 0.5


def test_scale_makes_faces_larger_and_smaller() -> None:
    square = torch.zeros(200, 1, 40, 40)
    square[:, :, 10:30, 10:30] = 1
    area = ImageAugment(**{**OFF, "scale": 0.2})(square, each(200)).sum(dim=(1, 2, 3)) / 400
    assert 0.6 < float(area.min()) < 0.75 and 1.3 < float(area.max()) < 1.5


def test_rotation_turns_by_its_degrees_at_most() -> None:
    bar = torch.zeros(200, 1, 41, 41)
    bar[:, :, 20, 5:36] = 1
    turned = ImageAugment(**{**OFF, "rotation": 20.0})(bar, each(200))
    rows = torch.arange(41.0)[:, None] - 20
    columns = torch.arange(41.0)[None] - 20
    angle = torch.atan2(
        (turned * rows * columns).sum(dim=(1, 2, 3)), (turned * columns**2).sum(dim=(1, 2, 3))
    ).rad2deg()
    assert 15 < float(angle.abs().max()) <= 20.5 and angle.min() < 0 < angle.max()


def test_light_keeps_the_range() -> None:
    images = torch.rand(100, 1, 16, 16)
    lit = ImageAugment(**OFF, brightness=0.3, contrast=0.5)(images, each(100))
    assert 0 <= lit.min() and lit.max() <= 1
    change = (lit.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))).abs()
    assert 0.15 < float(change.max()) < 0.31
    spread = lit.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert spread.min() < 0.7 and spread.max() > 1.05


def test_blur_spreads_a_point_and_keeps_the_light() -> None:
    points = torch.zeros(40, 3, 33, 33)
    points[:, :, 16, 16] = 1.0
    blurred = ImageAugment(**{**OFF, "blur": 0.05})(points, each(40))
    assert blurred.shape == points.shape
    torch.testing.assert_close(blurred.sum(dim=(2, 3)), torch.ones(40, 3), atol=1e-3, rtol=0)
    places = torch.arange(33.0) - 16
    spread = (blurred.sum(dim=2) * places.square()).sum(dim=2).sqrt()  # deviation in pixels
    assert float(spread.max()) <= 0.05 * 33 + 0.05 and float(spread.std()) > 0.1
    torch.testing.assert_close(spread[:, 0], spread[:, 2])  # colours alike
    flat = torch.full((2, 1, 20, 24), 0.4)
    torch.testing.assert_close(ImageAugment(**{**OFF, "blur": 0.1})(flat, each(2)), flat)


def test_erasing_takes_a_rectangle_of_some_clips() -> None:
    images = ramps(400)
    erased = ImageAugment(**OFF, erasing=0.5)(images, each(400)) != images
    hit = erased.flatten(1).any(dim=1)
    assert 0.4 < float(hit.float().mean()) < 0.6
    share = erased[hit].float().mean(dim=(1, 2, 3))
    assert share.max() < 0.3
    for hole in erased[hit][:20, 0]:
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        # the ramp equals its mean nowhere, so the hole is all of its bounding box
        assert hole.sum() == rows.sum() * columns.sum()


def test_crops_of_one_clip_change_alike() -> None:
    image = torch.rand(1, 1, 24, 24)
    clip = torch.tensor([0, 0, 0, 2, 2])  # clip 1 has no face
    augment = ImageAugment(brightness=0.2, contrast=0.2, erasing=1.0)
    changed = augment(image.expand(5, -1, -1, -1), clip)
    assert torch.equal(changed[0], changed[1]) and torch.equal(changed[0], changed[2])
    assert torch.equal(changed[3], changed[4])
    assert not torch.allclose(changed[0], changed[3], atol=1e-2)


def test_mixup_mixes_faces_and_labels_alike() -> None:
    augment = ImageAugment(**OFF, mixup=0.8)
    values = torch.linspace(0, 1, 6)
    images, target = values[:, None, None, None].expand(6, 1, 4, 4), torch.eye(6)
    augment.draw(6, images)
    mixed, labels = augment(images, each(6)), augment.labels(target)
    torch.testing.assert_close(mixed[:, 0, 0, 0], labels @ values)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(6))
    assert (labels.argmax(dim=1) == each(6)).all()  # each stays the larger part of itself
    assert ((labels > 0).sum(dim=1) == 2).any()


def test_mixup_takes_crops_of_the_partner_in_turn_and_leaves_clips_without_a_face() -> None:
    augment = ImageAugment(**OFF, mixup=1.0)
    present = torch.tensor([True, False, True])
    clip = torch.tensor([0, 0, 0, 2, 2])
    images = torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0])[:, None, None, None].expand(5, 1, 2, 2)
    for _ in range(20):
        augment.draw(3, images, present=present)
        labels = augment.labels(torch.eye(3))
        assert labels[1].tolist() == [0, 1, 0]
        mixed = augment(images, clip)[:, 0, 0, 0]
        if labels[0, 2] > 0:
            share = float(labels[0, 2])
            torch.testing.assert_close(mixed[:3], share * torch.tensor([0.5, 1.0, 0.5]))
            return
    pytest.fail("twenty draws never paired the two clips")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 2.0}, "Bad flip 2.0"),
        ({"scale": 1.0}, "Bad scale 1.0"),
        ({"erasing": -1}, "-1"),
        ({"blur": 0.5}, "Bad blur 0.5: a deviation is a share of the side"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageAugment(**settings)  # type: ignore[arg-type]
