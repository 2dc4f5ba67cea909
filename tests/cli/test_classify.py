import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avser.cli import commands, main
from avser.errors import AvserError
from avser.inference import predictor
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
        found = self.capsys.readouterr()
        self.err = found.err
        return found.out

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
    assert (row["modalities"], row["reason"], row["model"]) == (["audio"], None, "tiny")
    assert row["duration_s"] == 1.2
    assert [list(entry) for entry in row["timeline"]] == [
        ["start_s", "end_s", "label", "probabilities"]
    ] * 3
    assert [entry["start_s"] for entry in row["timeline"]] == [0, STEP_S, 2 * STEP_S]
    assert row["timeline"][-1]["end_s"] == 1.2
    heard = [entry for entry in row["timeline"] if entry["label"]]
    assert heard
    for entry in heard:
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_folders_patterns_and_files(call: Call, clips: Path) -> None:
    flat = call.rows(clips)
    assert [Path(row["path"]).name for row in flat] == ["a.wav", "b.mp4"]
    assert "left out 1 file without a media suffix" in call.err
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
    said = call.sentence(clips, "--modality", modality, "--json", kept, "--quiet")
    assert "no face half" in said
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


# -- interruption --------------------------------------------------------------------------------


def test_interrupted_it_keeps_what_it_has_and_resumes(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        write_wav(tmp_path / "many" / f"{n}.wav", voice("happy", seed=n))
    out = tmp_path / "out.json"
    whole = predictor.Predictor.classify
    asked: list[list[str]] = []

    def interrupted(self: Any, paths: list[str], **settings: Any) -> Iterator[Any]:
        for n, answer in enumerate(whole(self, paths, **settings)):
            if n == 2:
                raise KeyboardInterrupt
            yield answer

    def counted(self: Any, paths: list[str], **settings: Any) -> Iterator[Any]:
        asked.append(paths)
        return whole(self, paths, **settings)

    monkeypatch.setattr(predictor.Predictor, "classify", interrupted)
    call(tmp_path / "many", "--json", out, "--quiet", code=130)
    first = json.loads(out.read_text())
    assert [Path(row["path"]).name for row in first] == ["0.wav", "1.wav"]
    monkeypatch.setattr(predictor.Predictor, "classify", counted)
    call(tmp_path / "many", "--json", out, "--resume", "--quiet")
    assert [[Path(p).name for p in paths] for paths in asked] == [["2.wav", "3.wav"]]
    rows = json.loads(out.read_text())
    assert [Path(row["path"]).name for row in rows] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert rows[:2] == first
    call(tmp_path / "many", "--json", out, "--resume", "--quiet")
    assert len(asked) == 1  # nothing is left to do


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
    assert "not what --json writes" in call.sentence(clips, "--json", out, "--resume")
    assert "give --json FILE" in call.sentence(clips, "--resume")


# -- usage ---------------------------------------------------------------------------------------


def test_unknown_model_lists_what_there_is(
    clips: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"audio_crnn.ravdess": clips, "audio_crnn.emodb": clips}
    monkeypatch.setattr("avser.bundle.serialization.released", lambda: known)
    words = ["classify", str(clips), "--model", "audio_crn.ravdess"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "audio_crnn.ravdess, audio_crnn.emodb; did you mean 'audio_crnn.ravdess'?" in said
    with pytest.raises(AvserError):
        main([*words, "--debug"])


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clasify"]) == 2
    said = capsys.readouterr().err
    assert "Bad command 'clasify'" in said and "did you mean 'classify'" in said
    assert main([]) == 2
    capsys.readouterr()
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in commands())
    assert main(["--version"]) == 0
    with pytest.raises(SystemExit) as caught:
        main(["classify"])
    assert caught.value.code == 2


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_of_every_command_loads_nothing_slow() -> None:
    said = python(
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
    assert said.count("usage: avser ") == len(commands())


def test_classifying_never_loads_lightning(model: str, clips: Path) -> None:
    words = ["classify", str(clips), "--model", model, "--device", "cpu", "--json", "-"]
    said = python(
        "import sys\n"
        "from avser.cli import main\n"
        f"assert main({words}) == 0\n"
        "loaded = {m for m in sys.modules if 'lightning' in m or m == 'jsonargparse'}\n"
        "assert not loaded, loaded\n"
    )
    assert len(json.loads(said)) == 2
