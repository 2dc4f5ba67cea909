import csv
import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avser.cli import commands, inputs, main
from avser.errors import AvserError
from avser.inference import predictor
from avser.inference.writers import COLUMNS
from avser.media.clip import DISAGREEMENT
from avser.testing.media import face_frames, voice, write_video, write_wav
from avser.testing.nets import tiny_bundle
from avser.types import STEP_S

KEYS = ["path", "label", "probabilities", "modalities", "reason", "duration_s", "timeline", "model"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three voices, one of them a folder below, with a text file among them."""
    folder = tmp_path / "clips"
    write_wav(folder / "a.wav", voice("happy", seconds=1.2))
    write_video(folder / "b.mp4", face_frames("sad", count=8), samples=voice("sad"))
    write_wav(folder / "below" / "a.wav", voice("angry"))
    (folder / "notes.txt").write_text("not media")
    return folder


class Call:
    """`avser classify` with the tiny model, on the CPU."""

    def __init__(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.capsys = model, capsys
        self.err = ""

    def __call__(self, *words: object, code: int = 0) -> str:
        given = ["classify", *map(str, words), "--model", self.model, "--device", "cpu"]
        assert main(given) == code
        result = self.capsys.readouterr()
        self.err = result.err
        return result.out

    def rows(self, *words: object, code: int = 0) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self(*words, "--json", "-", code=code))
        return rows

    def sentence(self, *words: object) -> str:
        """Expect refusal with one line, and nothing on stdout."""
        assert self(*words, code=1) == ""
        lines = [line for line in self.err.splitlines() if "left out" not in line]
        assert len(lines) == 1 and lines[0].startswith("avser classify: Bad ")
        return lines[0]


@pytest.fixture
def call(model: str, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(model, capsys)


# -- answers -------------------------------------------------------------------------------------


def test_json_has_exactly_what_is_specified(call: Call, clips: Path) -> None:
    rows = call.rows(clips / "a.wav")
    assert [list(row) for row in rows] == [KEYS]
    (row,) = rows
    assert row["path"] == str(clips / "a.wav")
    assert sorted(row["probabilities"]) == ["angry", "happy", "sad"]
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
    assert (row["modalities"], row["model"]) == (["audio"], "tiny")
    assert row["reason"] is None or row["reason"].startswith(DISAGREEMENT)
    assert row["duration_s"] == 1.2
    assert [list(entry) for entry in row["timeline"]] == [
        ["start_s", "end_s", "label", "probabilities"]
    ] * 3
    assert [entry["start_s"] for entry in row["timeline"]] == [0, STEP_S, 2 * STEP_S]
    assert row["timeline"][-1]["end_s"] == 1.2
    received = [entry for entry in row["timeline"] if entry["label"]]
    assert received
    for entry in received:
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_folders_patterns_and_files(call: Call, clips: Path) -> None:
    flat = call.rows(clips)
    assert "left out 1 file that is no recording" in call.err and "notes.txt" in call.err
    assert [Path(row["path"]).name for row in flat] == ["a.wav", "b.mp4"]
    assert len(call.rows(clips, "--recursive")) == 3
    assert [row["path"] for row in call.rows(clips / "*.wav")] == [str(clips / "a.wav")]
    twice = call.rows(clips / "a.wav", clips / "a.*")
    assert len(twice) == 1
    empty = clips / "empty"
    empty.mkdir()
    assert "no media file" in call.sentence(empty)


def test_bad_files_get_rows_and_the_rest_go_on(call: Call, clips: Path) -> None:
    (clips / "broken.wav").write_text("this is no sound")
    rows = call.rows(clips, clips / "missing.wav", code=1)
    bad = {Path(r["path"]).name: r for r in rows if "error" in r}
    assert sorted(bad) == ["broken.wav", "missing.wav"]
    for row in bad.values():
        assert list(row) == ["path", "error"] and list(row["error"]) == ["type", "message"]
        assert row["error"]["type"] == "MediaError"
    assert [r["label"] is not None for r in rows if "error" not in r] == [True, True]
    assert "Traceback" not in call.err


def test_silence_is_no_guess(call: Call, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "silent.wav", np.zeros(16_000, np.float32))
    (row,) = call.rows(path)
    assert (row["label"], row["probabilities"]) == (None, None)
    assert (row["timeline"], row["modalities"], row["reason"]) == ([], [], "no_signal")
    assert "no voice" in call(path)


@pytest.mark.parametrize("modality", ["both", "video"])
def test_model_without_a_face_half_says_so(
    call: Call, clips: Path, tmp_path: Path, modality: str
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("[]")
    message = call.sentence(clips, "--modality", modality, "--json", kept, "--quiet")
    assert "no video branch" in message
    assert kept.read_text() == "[]"  # what was there is not lost by a refusal


def test_stream_that_is_asked_for_must_be_there(call: Call, tmp_path: Path) -> None:
    path = write_video(tmp_path / "mute.mp4", face_frames("happy", count=8))
    (row,) = call.rows(path, "--modality", "audio", code=1)
    assert row["error"]["type"] == "SignalError" and "no audio stream" in row["error"]["message"]
    assert call.rows(path)[0]["reason"] == "no_signal"


def test_person_sees_bars_and_timeline(call: Call, clips: Path) -> None:
    one = call(clips / "a.wav")
    assert "timeline" in one and "█" in one and one.count("%") >= 4
    several = call(clips)
    assert "timeline" not in several and several.count("(audio, tiny)") == 2
    assert call(clips, "--quiet") == ""


# -- files ---------------------------------------------------------------------------------------


def test_csv_has_one_row_a_clip(call: Call, clips: Path, tmp_path: Path) -> None:
    (clips / "broken.wav").write_text("this is no sound")
    path = tmp_path / "out" / "labels.csv"
    call(clips, "--csv", path, code=1)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [Path(row["path"]).name for row in rows] == ["a.wav", "b.mp4", "broken.wav"]
    for row in rows[:2]:
        shares = {name: float(row[name]) for name in ("angry", "happy", "sad")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(shares, key=lambda name: shares[name]) and row["error"] == ""
        assert float(row["probability"]) == max(shares.values())
        assert row["calm"] == "" and tuple(row) == COLUMNS
    assert rows[2]["label"] == "" and rows[2]["error"]
    assert call(clips / "a.wav", "--csv", "-").startswith("path,label,")
    assert "both be stdout" in call.sentence(clips, "--csv", "-", "--json", "-")


@pytest.mark.parametrize("kind", ["csv", "json", "vtt", "srt", "TextGrid"])
def test_timeline_of_one_clip_goes_by_suffix(
    call: Call, clips: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"line.{kind}"
    call(clips / "a.wav", "--timeline", path)
    first = {"csv": "start_s,", "json": "{", "vtt": "WEBVTT", "srt": "1\n", "TextGrid": "File type"}
    assert path.read_text().startswith(first[kind])


def test_timelines_and_plots_of_several_are_laid_out_as_the_clips(
    call: Call, clips: Path, tmp_path: Path
) -> None:
    assert "--timeline-format" in call.sentence(clips, "--timeline", tmp_path / "lines")
    words = (clips, "--recursive", "--timeline", tmp_path / "lines", "--timeline-format", "vtt")
    call(*words, "--plot", tmp_path / "plots")
    names = ["a.wav", "b.mp4", "below/a.wav"]  # two are called a.wav: neither is lost
    lines = tmp_path / "lines"
    assert sorted(p.relative_to(lines).as_posix() for p in lines.rglob("*.vtt")) == [
        f"{name}.vtt" for name in names
    ]
    for name in names:
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_plot_of_one_clip(call: Call, clips: Path, tmp_path: Path) -> None:
    call(clips / "a.wav", "--plot", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_file_that_cannot_be_written_is_one_line(call: Call, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    call(clips / "a.wav", "--json", tmp_path / "file" / "out.json", "--quiet", code=1)
    assert call.err.count("\n") == 1 and "Traceback" not in call.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--csv", "x.parquet"), "ends in .csv; --parquet writes that"),
        (("--json", "x.txt"), "ends in .json or .jsonl or .ndjson."),
        (("--parquet", "-"), "Parquet can't at all"),
        (("--plot", "x.jpg"), "ends in .png, .pdf, .svg"),
        (("--annotate", "x.avi"), "ends in .mp4"),
        (("--timeline", "x.txt"), "expected one of csv, json, vtt, srt, TextGrid"),
    ],
)
def test_the_ending_is_the_format_or_is_refused(
    call: Call, clips: Path, words: tuple[str, str], sentence: str
) -> None:
    assert sentence in call.sentence(clips / "a.wav", *words)


def test_a_plot_is_what_its_ending_says(call: Call, clips: Path, tmp_path: Path) -> None:
    for ending, first in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        path = tmp_path / f"plot.{ending}"
        call(clips / "a.wav", "--plot", path)
        assert path.read_bytes().startswith(first)
        assert f"wrote {path}." in call.err


def test_written_files_are_named_and_sound_alone_is_not_annotated(
    call: Call, clips: Path, tmp_path: Path
) -> None:
    call(clips, "--json", tmp_path / "out.json", "--annotate", tmp_path / "films")
    assert f"wrote {tmp_path / 'out.json'}." in call.err
    assert f"wrote 1 file in {tmp_path / 'films'}." in call.err
    assert f"{clips / 'a.wav'}: no video to draw on" in call.err
    assert [p.name for p in (tmp_path / "films").iterdir()] == ["b.mp4.mp4"]
    assert "leave the ending out" in call.sentence(clips, "--plot", tmp_path / "plot.png")


def test_a_side_file_that_fails_is_in_its_row_and_the_rest_go_on(
    call: Call, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avser.visualization import annotate as module

    def broken(*_: object, **__: object) -> None:
        raise IndexError("no such frame")

    monkeypatch.setattr(module, "annotate", broken)
    first, second = call.rows(clips, "--annotate", tmp_path / "films", code=1)
    assert "error" not in first
    assert second["label"] is not None
    assert "--annotate" in second["error"]["message"]
    assert "IndexError: no such frame" in second["error"]["message"]


# -- names, places, rights -----------------------------------------------------------------------


def test_any_exception_of_a_clip_is_its_row(
    call: Call, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = predictor.load_clip

    def strange(path: str, **settings: Any) -> Any:
        if path.endswith("b.mp4"):
            raise PermissionError(13, "Permission denied")
        if path.endswith("c.wav"):
            raise IndexError("tuple index out of range")
        return real(path, **settings)

    write_wav(clips / "c.wav", voice("happy"))
    monkeypatch.setattr(predictor, "load_clip", strange)
    first, second, third = call.rows(clips, code=1)
    assert first["label"] is not None
    assert "Permission denied" in second["error"]["message"]
    assert "IndexError: tuple index out of range" in third["error"]["message"]
    assert "Traceback" not in call.err
    call.rows(clips, "--debug", code=1)
    assert call.err.count("Traceback") == 2


def test_a_clip_that_breaks_the_network_is_a_row_and_its_batch_is_not(
    call: Call, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avser.inference.runner import Runner

    real = Runner.predict

    def strange(self: Runner, clips: list[Any], **settings: Any) -> Any:
        if any(clip.has_video for clip in clips):
            raise RuntimeError("out of memory")
        return real(self, clips, **settings)

    monkeypatch.setattr(Runner, "predict", strange)
    first, second = call.rows(clips, code=1)
    assert first["label"] is not None and "out of memory" in second["error"]["message"]


def test_long_names_and_locked_folders_are_rows(
    call: Call, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = clips / ("x" * 300 + ".wav")
    rows = call.rows(long, clips / "a.wav", code=1)
    assert "file name too long" in rows[0]["error"]["message"] and rows[1]["label"] is not None
    real = inputs.os.scandir

    def locked(path: str) -> Any:
        if path.endswith("below"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(inputs.os, "scandir", locked)
    rows = call.rows(clips, "--recursive", code=1)
    assert [Path(row["path"]).name for row in rows] == ["a.wav", "b.mp4", "below"]
    assert "error" in rows[2]


def test_a_name_that_is_not_utf8_is_classified_and_written(
    call: Call, clips: Path, tmp_path: Path
) -> None:
    name = os.fsencode(clips) + b"/caf\xe9.wav"
    os.link(clips / "a.wav", name)
    out = tmp_path / "out.csv"
    call(os.fsdecode(name), "--csv", out, "--timeline", tmp_path / "line.json", "--quiet")
    assert name in out.read_bytes()
    (row,) = call.rows(os.fsdecode(name))
    assert os.fsencode(row["path"]) == name


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_terminal_can_print_bars_and_names(model: str, clips: Path, encoding: str) -> None:
    name = os.fsencode(clips) + b"/caf\xe9.wav"
    os.link(clips / "a.wav", name)
    words = [sys.executable, "-m", "avser", "classify", name, "--model", model, "--device", "cpu"]
    done = subprocess.run(
        words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}
    )
    assert done.returncode == 0, done.stderr
    assert b"caf\xe9.wav" in done.stdout and b"Traceback" not in done.stderr
    assert ("█".encode() in done.stdout) == (encoding == "utf-8")
    assert (b"##" in done.stdout) == (encoding != "utf-8")


def test_standard_input_pipes_and_addresses(
    call: Call, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    (plain,) = call.rows(clips / "a.wav")
    data = (clips / "a.wav").read_bytes()
    with fsspec.open("memory://clips/a.wav", "wb") as file:
        file.write(data)
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    given, missing, piped = call.rows("memory://clips/a.wav", "memory://clips/no.wav", "-", code=1)
    for row, path in ((given, "memory://clips/a.wav"), (piped, "-")):
        assert row["path"] == path and row["probabilities"] == plain["probabilities"]
    assert "Can't read memory://clips/no.wav" in missing["error"]["message"]
    bad = tmp_path / "bad.bin"
    with fsspec.open("memory://clips/bad.wav", "wb") as file:
        file.write(b"this is no sound")
    (row,) = call.rows("memory://clips/bad.wav", code=1)
    assert row["error"]["message"].startswith("Can't read memory://clips/bad.wav: ")
    assert not bad.exists()


def test_a_list_names_the_inputs(call: Call, clips: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text(f"# clips\n{clips / 'b.mp4'}\n\n{clips / 'a.wav'}\n{clips / 'b.mp4'}\n")
    rows = call.rows("--list", names)
    assert [Path(row["path"]).name for row in rows] == ["b.mp4", "a.wav"]
    assert "Bad --list" in call.sentence("--list", tmp_path / "none.txt")


# -- interruption --------------------------------------------------------------------------------


def test_interrupted_it_keeps_its_rows_and_goes_on(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        write_wav(tmp_path / "many" / f"{n}.wav", voice("happy", seed=n))
    out, log = tmp_path / "out.json", tmp_path / "out.json.part.jsonl"
    whole = predictor.Predictor.classify
    asked: list[list[str]] = []

    def interrupted(self: Any, paths: Iterator[str], **settings: Any) -> Iterator[Any]:
        for n, result in enumerate(whole(self, paths, **settings)):
            if n == 2:
                raise KeyboardInterrupt
            yield result

    def counted(self: Any, paths: Iterator[str], **settings: Any) -> Iterator[Any]:
        asked.append(list(paths))
        return whole(self, asked[-1], **settings)

    monkeypatch.setattr(predictor.Predictor, "classify", interrupted)
    words = (tmp_path / "many", "--json", out, "--csv", tmp_path / "out.csv")
    call(*words, "--quiet", code=130)
    assert f"interrupted; the same command goes on from {log}" in call.err
    assert not out.exists()
    first = [json.loads(line) for line in log.read_text().splitlines()][1:]
    assert [Path(row["path"]).name for row in first] == ["0.wav", "1.wav"]
    monkeypatch.setattr(predictor.Predictor, "classify", counted)
    assert "another modality ('auto')" in call.sentence(*words, "--modality", "audio")
    call(*words, "--quiet")
    assert [[Path(p).name for p in paths] for paths in asked] == [["2.wav", "3.wav"]]
    rows = json.loads(out.read_text())
    assert [Path(row["path"]).name for row in rows] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert rows[:2] == first and not log.exists()
    table = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["label"] for row in table] == [row["label"] for row in rows]
    call(*words, "--resume", "--quiet")
    assert len(asked) == 1 and json.loads(out.read_text()) == rows  # nothing is left to do
    call(*words, "--quiet")
    assert len(asked) == 2  # without --resume, finished files are made anew


def test_resume_tries_bad_files_again_and_refuses_strange_results(
    call: Call, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    (clips / "c.wav").write_text("this is no sound")
    call(clips, "--json", out, code=1)
    write_wav(clips / "c.wav", voice("happy"))
    call(clips, "--json", out, "--resume")
    assert [row["label"] is not None for row in json.loads(out.read_text())] == [True] * 3
    out.write_text('{"a": 1}')
    assert "did not write them" in call.sentence(clips, "--json", out, "--resume")
    assert "give --json FILE" in call.sentence(clips, "--resume")


# -- usage ---------------------------------------------------------------------------------------


def test_unknown_model_lists_what_there_is(
    clips: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"audio_crnn.ravdess": clips, "audio_crnn.emodb": clips}
    monkeypatch.setattr("avser.bundle.serialization.released", lambda: known)
    words = ["classify", str(clips), "--model", "audio_crn.ravdess"]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "audio_crnn.ravdess, audio_crnn.emodb; did you mean 'audio_crnn.ravdess'?" in message
    with pytest.raises(AvserError):
        main([*words, "--debug"])


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_of_every_command_loads_nothing_slow() -> None:
    message = python(
        "import sys, avser.cli.classify\n"
        "from avser.cli import main\n"
        f"for command in {list(commands())}:\n"
        "    try:\n"
        "        main([command, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0\n"
        "slow = {'torch', 'pytorch_lightning', 'matplotlib', 'sklearn', 'av'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    assert message.count("usage: avser ") == len(commands())


def test_classifying_never_loads_lightning(model: str, clips: Path) -> None:
    words = ["classify", str(clips), "--model", model, "--device", "cpu", "--json", "-"]
    message = python(
        "import sys\n"
        "from avser.cli import main\n"
        f"assert main({words}) == 0\n"
        "loaded = {m for m in sys.modules if 'lightning' in m or m == 'jsonargparse'}\n"
        "assert not loaded, loaded\n"
    )
    assert len(json.loads(message)) == 2
