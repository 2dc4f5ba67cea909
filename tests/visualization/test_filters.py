"""Rankings of first-layer filters on filters that are made for one thing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.errors import ConfigError
from avser.testing.nets import tiny_net, tiny_spec
from avser.visualization.filter_plots import _side_by_side, filters_figure
from avser.visualization.filters import MEANINGS, first_filters, rankings
from avser.visualization.plots import render

ROWS, FRAMES = 64, 5


@pytest.fixture
def made() -> Tensor:
    """Noise, and in it filters for pitch (3), formants (5), harmonics (7) and silence (9)."""
    torch.manual_seed(0)
    filters = 0.1 * torch.randn(12, 2, ROWS, FRAMES)
    filters[3, 1] = 0
    filters[5, 0] = 0
    filters[7, 0] += torch.cos(torch.arange(ROWS) * 2 * torch.pi / 6.5)[:, None]
    filters[9] = -filters[9].abs()
    return filters


def test_each_ranking_finds_what_was_made_for_it(made: Tensor) -> None:
    result = {name: int(score.argmax()) for name, score in rankings(made).items()}
    assert result == {"pitch": 3, "formant": 5, "periodicity": 7, "silence": 9}
    scores = rankings(made)
    torch.testing.assert_close(scores["pitch"] + scores["formant"], torch.ones(12))
    assert scores["silence"][9] == 1 and scores["periodicity"][7] > 0.9
    assert scores["periodicity"].max() <= 1.0001


def test_filters_of_one_plane_or_few_rows_have_fewer_rankings() -> None:
    assert list(rankings(torch.randn(4, 1, 64, 3))) == ["periodicity", "silence"]
    assert list(rankings(torch.randn(4, 3, 5, 5))) == ["silence"]
    assert list(rankings(torch.zeros(2, 2, 64, 5))) == list(MEANINGS)
    assert all(s.isfinite().all() for s in rankings(torch.zeros(2, 2, 64, 5)).values())


def test_the_picture_shows_the_best_first(made: Tensor) -> None:
    figure = filters_figure(made, title="made", count=4)
    bands = figure.subfigs
    assert [b.axes[0].get_title().split()[1] for b in bands] == ["3", "5", "7", "9"]
    assert all(len(b.axes) == 4 for b in bands)
    shown = bands[0].axes[0].images[0].get_array()
    assert shown.shape == (ROWS, 2 * FRAMES + 1)
    np.testing.assert_allclose(shown[:, :FRAMES], made[3, 0])
    assert render(figure, dpi=40).startswith(b"\x89PNG")


def test_planes_stand_side_by_side() -> None:
    joined = _side_by_side(np.arange(12.0).reshape(2, 3, 2))
    assert np.isnan(joined[:, 2]).all()
    np.testing.assert_array_equal(joined[:, :2], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(joined[:, 3:], [[6, 7], [8, 9], [10, 11]])


def test_the_command_draws_a_models_first_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tiny_net()
    folder = bundle.save(
        net, tmp_path / "m", spec=tiny_spec(), name="tiny", provenance=bundle.Provenance()
    )
    assert first_filters(net).shape == (4, 1, 5, 5)
    out = tmp_path / "filters.png"
    assert main(["filters", "--model", str(folder), "--out", str(out), "--count", "3"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and "silence" in capsys.readouterr().out
    assert main(["filters", "--model", str(folder), "--out", str(out), "--stream", "video"]) == 1
    assert "no video encoder" in capsys.readouterr().err
    assert main(["filters", "--model", str(folder), "--out", str(out), "--count", "0"]) == 1


def test_an_encoder_without_images_has_none() -> None:
    net = tiny_net(features=4)
    with pytest.raises(ConfigError, match="no convolution over images"):
        first_filters(net, stream="video")
