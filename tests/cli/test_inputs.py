"""Inputs of a command, drawn one at a time."""

import os
from itertools import islice
from pathlib import Path

import pytest

from avser.cli.inputs import Inputs, expand
from avser.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings at three depths, a text file, hidden files."""
    top = tmp_path / "top"
    for name in ("b.wav", "a.MP4", "notes.txt", ".c.wav", "below/d.wav", "below/deep/e.wav",
                 ".hidden/f.wav"):  # fmt: skip
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return top


def names(inputs: Inputs, folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in inputs]


def test_folders_flat_and_with_all_below(folder: Path) -> None:
    assert names(Inputs([str(folder)]), folder) == ["a.MP4", "b.wav"]
    deep = Inputs([str(folder)], recursive=True)
    assert names(deep, folder) == ["a.MP4", "b.wav", "below/d.wav", "below/deep/e.wav"]
    assert deep.left_out == 1 and "notes.txt" in str(deep.summary())
    assert deep.common_folder() == folder


def test_each_input_comes_once_in_the_order_given(folder: Path) -> None:
    given = [str(folder / "b.wav"), str(folder), str(folder / "*.wav")]
    assert names(Inputs(given), folder) == ["b.wav", "a.MP4"]


def test_linked_folders_are_followed_and_loops_end(folder: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "g.wav").touch()
    (away / "back").symlink_to(folder)
    (folder / "linked").symlink_to(away)
    (folder / "below" / "loop").symlink_to(folder)
    (folder / "sideways").symlink_to(folder / "below")
    inputs = Inputs([str(folder)], recursive=True)
    assert names(inputs, folder) == [
        "a.MP4", "b.wav", "below/d.wav", "below/deep/e.wav", "linked/g.wav"
    ]  # fmt: skip
    for link in ("linked/back", "below/loop", "sideways"):
        assert f"{folder / link} (a link to a folder that is listed)" in str(inputs.summary())


def test_links_to_nothing_are_named(folder: Path) -> None:
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / "gone").symlink_to("nowhere")
    inputs = Inputs([str(folder)])
    assert names(inputs, folder) == ["a.MP4", "b.wav", "gone.wav"]  # its row says why
    assert f"{folder / 'gone'} (a link to nothing)" in str(inputs.summary())


def test_pipes_are_read_only_where_they_are_named(folder: Path) -> None:
    pipe = folder / "pipe.wav"
    os.mkfifo(pipe)
    inputs = Inputs([str(folder)])
    assert names(inputs, folder) == ["a.MP4", "b.wav"]
    assert f"{pipe} (a pipe or a device)" in str(inputs.summary())
    assert list(Inputs([str(pipe)])) == [str(pipe)]


def test_inputs_are_drawn_and_never_listed(tmp_path: Path) -> None:
    pipe = tmp_path / "names"
    pipe.write_text("".join(f"clip-{n}.wav\n" for n in range(100_000)))
    inputs = iter(Inputs([], lists=[str(pipe)]))
    assert list(islice(inputs, 2)) == ["clip-0.wav", "clip-1.wav"]


def test_addresses_and_standard_input_are_taken_as_they_are() -> None:
    given = ["https://host/a.wav?x=[1]", "-", "s3://bucket/b.wav"]
    assert list(Inputs(given)) == given


def test_nothing_is_an_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="no media file is there"):
        expand([str(folder / "empty")], recursive=False)
