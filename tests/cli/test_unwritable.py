"""Places that can't be written: one sentence with the place, the reason and the cure."""

import errno
from pathlib import Path

import pytest

from avser.cli import main
from avser.errors import escape_controls, os_error_sentence
from avser.files import append_json_line, atomic_write, json_lines
from avser.testing.corpora.manifest import fake_manifest
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A file, below which nothing can be made, by whoever runs the test."""
    (tmp_path / "file").write_text("kept")
    return tmp_path / "file"


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_bundle(tmp_path / "tiny"))


def sentence(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"avser {words[0]}: ")
    return lines[0]


CURE = "a part of that name is a file; name a place in a folder."


@pytest.mark.parametrize(
    "output", ["--json x.json", "--csv x.csv", "--parquet x.parquet"], ids=lambda o: o.split()[0]
)
def test_classify_names_the_place_before_it_begins(
    output: str, blocked: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_wav(tmp_path / "a.wav", voice("happy", seconds=0.3))
    flag, name = output.split()
    words = ["classify", str(clip), "--model", model, flag, str(blocked / name)]
    message = sentence(capsys, words)
    assert f"Can't use {blocked}: " in message and message.endswith(CURE)
    assert blocked.read_text() == "kept"


def test_a_plot_that_cannot_be_written_is_its_clips_error(
    blocked: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_wav(tmp_path / "a.wav", voice("happy", seconds=0.3))
    words = ["classify", str(clip), "--model", model, "--quiet", "--plot", str(blocked / "x.png")]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert (
        f"{clip}: Failed --plot of it: Can't use {blocked}/x.png: " in message and CURE in message
    )


@pytest.mark.parametrize("command", ["fit", "train", "audit", "export", "filters", "federate"])
def test_every_command_that_writes_names_the_place(
    command: str, blocked: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, corpus = str(blocked / "run"), fake_manifest(tmp_path / "own", per_emotion=1)
    data = ["-c", "configs/data/manifest.yaml", "--root", str(corpus)]
    words = {
        "fit": ["fit", *data, "-c", "configs/model/audio_small.yaml", "--out", place],
        "train": ["train", str(corpus), "--model", "small", "--out", place],
        "audit": ["audit", *data, "--plot", place],
        "export": ["export", "--model", model, "--out", f"{place}.pt2"],
        "filters": ["filters", "--model", model, "--out", f"{place}.png"],
        "federate": ["federate", "keys", "server", "--out", place],
    }[command]
    message = sentence(capsys, words)
    assert f"Can't use {place}" in message and message.endswith(CURE)


# -- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.EACCES, "check its rights, or name another place"),
        (errno.EROFS, "name a place that can be written"),
        (errno.ENOSPC, "free some space, or name a place on another disk"),
        (errno.EIO, "check that this place is there and can be written"),
    ],
)
def test_each_reason_has_its_cure(code: int, cure: str) -> None:
    message = os_error_sentence(OSError(code, "Some Reason", "out/x\ny.json"))
    assert message == f"Can't use out/x\\ny.json: some Reason; {cure}."


def test_a_full_disk_is_reported_of_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.raises(OSError, match="full") as caught, atomic_write(path) as file:
        file.write("half")
        raise OSError(errno.ENOSPC, "disk full")
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_half_a_line_swallows_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_json_line(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "wh')  # killed here
    append_json_line(path, {"n": 3})
    append_json_line(path, {"n": 4})
    assert [row["n"] for row in json_lines(path)] == [1, 3, 4]


def test_names_cannot_move_the_cursor_or_begin_a_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a\nb: happy 99 %.wav", "c\x1b[2J\u202ed.wav", "e\t.wav"]
    for name in names[:2]:
        write_wav(tmp_path / "in" / name, voice("happy", seconds=0.3))
    (tmp_path / "in" / names[2]).write_text("no sound")
    assert main(["classify", str(tmp_path / "in"), "--model", model, "--device", "cpu"]) == 1
    shown = capsys.readouterr()
    for text, escaped in (
        (shown.out, r"in/a\nb: happy 99 %.wav: "),
        (shown.out, r"in/c\x1b[2J\u202ed.wav: "),
        (shown.err, r"in/e\t.wav: "),
    ):
        assert sum(escaped in line for line in text.splitlines()) == 1
    assert not set("\x1b\u202e\t") & set(shown.out + shown.err)
    assert escape_controls("née 👩‍👧 שלום.wav") == "née 👩‍👧 שלום.wav"  # these are no controls
