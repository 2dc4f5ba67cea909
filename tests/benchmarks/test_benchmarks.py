import io
import json
import time
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import (
    batch,
    export,
    features,
    footage,
    material,
    measure,
    memory,
    serve,
    startup,
    training,
    video,
    video_memory,
    video_stages,
)
from benchmarks.measure import Goal, Report, Row


def printed(report: Report) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table())
    return console.export_text()


def test_ratio_says_how_many_times_better_ours_is() -> None:
    time = Row(ours="a", value=2.0, unit="s", alternative="b", other=10.0)
    rate = Row(ours="a", value=2.0, unit="1/s", alternative="b", other=10.0, more_is_better=True)
    assert time.ratio == pytest.approx(5.0)
    assert rate.ratio == pytest.approx(0.2)
    assert Row(ours="a", value=2.0, unit="s").ratio is None


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (Goal("ratio", 5), True),
        (Goal("ratio", 5.1), False),
        (Goal("at most", 2), True),
        (Goal("at most", 1.9), False),
        (Goal("at least", 2), True),
        (Goal("at least", 2.1), False),
    ],
)
def test_goal_is_judged_and_shown(goal: Goal, reached: bool) -> None:
    row = Row(ours="a", value=2.0, unit="s", alternative="b", other=10.0, goal=goal)
    assert goal.reached(row) is reached
    assert row.to_dict()["reached"] is reached
    text = printed(Report("t", "c", [row]))
    assert ("yes" if reached else "no") in text
    assert str(goal) in text
    assert "5.00 ×" in text


def test_runs_take_turns_and_are_warmed_once() -> None:
    order: list[str] = []
    times = measure.in_turn({n: lambda n=n: order.append(n) for n in "ab"}, repeats=2)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    assert measure.medians({"a": [3.0, 1.0, 2.0]}, per=2) == {"a": 1.0}


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with measure.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_takes_are_like_a_corpus() -> None:
    emotion, samples = material.take(4)
    assert emotion == "angry"
    assert 3.0 <= len(samples) / 48_000 <= 4.0
    quarter = len(samples) // 4
    loud = np.abs(samples[quarter:-quarter]).max()
    assert loud > 100 * np.abs(samples[: quarter // 2]).mean()


def test_usual_features_are_means_over_time(tmp_path: Path) -> None:
    (path,) = material.write_clips(tmp_path, 1)
    result = features.usual(path, tuning=0.0)
    assert result.shape == (40 + 12 + 128 + 7,)
    assert np.isfinite(result).all()


def test_features(tmp_path: Path) -> None:
    report = features.measure(clips=2, repeats=1)
    assert len(report.rows) == 12
    goals = [row for row in report.rows if row.goal]
    assert {row.alternative for row in goals} == {features.USUAL}
    assert {row.ours.split(",")[0] for row in goals} == {"log-mel CRNN", "two-channel CRNN"}
    assert "two-channel CRNN, in batches of 16" in printed(report)


def test_batches_and_single_files_are_encoded_alike(tmp_path: Path) -> None:
    paths = material.write_clips(tmp_path, 2)
    encoder = material.untrained("audio_crnn").audio
    assert encoder is not None
    (both,) = features.ours(encoder, paths, batch=2)
    alone = features.ours(encoder, paths, batch=1)
    for row, single in zip(both, alone, strict=True):
        assert torch.allclose(row[: single.shape[1]], single[0], atol=1e-4)


def test_processes_are_extrapolated() -> None:
    one, loaded = batch.rows(
        {"one": 4.0, "each": 10.0}, {"together": 1.0, "one by one": 2.0}, files=100, sample=5
    )
    assert one.other == pytest.approx(200.0)
    assert one.ratio == pytest.approx(50.0)
    assert "extrapolated from 5" in one.note
    assert (loaded.value, loaded.other, loaded.ratio) == (100.0, 50.0, 2.0)


def test_all_files_are_answered_in_one_process(tmp_path: Path) -> None:
    paths = material.write_clips(tmp_path, 2)
    using, _ = batch.model(tmp_path)
    predictor = batch.Predictor.from_pretrained(using, device="cpu")
    assert batch.inside(predictor, paths, together=True) == 2
    assert batch.inside(predictor, paths, together=False) == 2


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on loggers and workers
def test_training_takes_both_sources_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material.write_clips(tmp_path, 8)
    decoded: list[Path] = []
    read = training.read_audio
    monkeypatch.setattr(training, "read_audio", lambda path: decoded.append(path) or read(path))
    with measure.threads(1):
        result = training.train(tmp_path, epochs=1)
    assert {name: len(result[name]) for name in training.SOURCES} == {"cache": 1, "files": 1}
    assert all(result[name][0] > 0 for name in training.SOURCES)
    assert len(decoded) == 2 * 8  # two of the four epochs
    assert result["parameters"] == "395 K"


def test_epochs_are_dealt_to_their_sources() -> None:
    clock = training.EpochClock()
    clock.ends = [0.0, 9.0, 11.0, 14.0, 18.0, 23.0]
    assert clock.seconds() == {"cache": [2.0, 4.0], "files": [3.0, 5.0]}


def test_training_rows() -> None:
    rates = {
        ("keep", "cache"): 200.0,
        ("keep", "files"): 100.0,
        ("give", "cache"): 50.0,
        ("give", "files"): 40.0,
    }
    rows = training.rows(rates)
    assert [row.ratio for row in rows] == [2.0, 4.0, 5.0]
    assert rows[0].goal is not None
    assert rows[0].goal.reached(rows[0])


def test_memory_rows() -> None:
    one = {"above_mb": 300.0, "whole_mb": 290.0, "first_ten_mb": 280.0, "seconds": 36.0}
    kept = {
        "long": {**one, "duration_s": 3600.0},
        "short": {**one, "above_mb": 250.0},
        "at once": {"above_mb": 900.0},
    }
    size, flat, within, speed = memory.rows(kept, minutes=60, short=10)
    assert size.ratio == pytest.approx(3.0)
    assert flat.goal == Goal("at most", round(1.1 * 250 + memory.SLACK_MB))
    assert flat.goal.reached(flat)
    assert within.goal is not None
    assert within.goal.reached(within)
    assert speed.value == pytest.approx(100.0)
    assert "0.0100" in speed.note


def test_memory_that_grows_is_reported() -> None:
    one = {"above_mb": 100.0, "whole_mb": 100.0, "first_ten_mb": 100.0, "seconds": 1.0}
    long = {**one, "above_mb": 400.0, "whole_mb": 400.0, "duration_s": 3600.0}
    rows = memory.rows({"long": long, "short": one, "at once": one}, minutes=60, short=10)
    assert [row.goal.reached(row) for row in rows if row.goal] == [True, False, False]


def test_sampler_keeps_the_peak_of_each_window() -> None:
    (sampler := memory.Sampler(interval_s=0.001)).start()
    sampler.mark()
    with mmap(-1, 64_000_000) as held:  # new pages, whatever other tests have freed
        held.write(b"1" * len(held))
        sampler.stop()
    before, after = sampler.peaks
    assert after > before + 0.8 * 64


@pytest.mark.long
def test_memory_of_a_long_file_is_bounded(tmp_path: Path) -> None:
    path = material.write_recording(tmp_path / "long.flac", 2)
    result = memory.classify(path)
    assert result["duration_s"] == pytest.approx(120.0)
    assert result["windows"] >= 3
    assert 0 < result["above_mb"] < memory.LIMIT_MB


def test_recording_has_the_length_asked_for(tmp_path: Path) -> None:
    from avser.media.reader import probe

    path = material.write_recording(tmp_path / "short.flac", 0.2)
    assert probe(path).duration_s == pytest.approx(12.0)


SMALL = {"size": (180, 320), "fps": 5, "sample_rate": 16_000, "preset": "ultrafast"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return footage.write_film(tmp_path_factory.mktemp("film") / "film.mp4", 2.0, **SMALL)


def test_film_is_as_asked_for_and_shows_one_face_that_moves(film: Path) -> None:
    from avser.media.clip import load_clip
    from avser.media.reader import probe

    info = probe(film)
    assert (info.width, info.height, info.fps) == (320, 180, 5.0)
    assert info.has_audio and info.duration_s == pytest.approx(2.0, abs=0.1)
    with load_clip(film, faces=True) as result:
        assert result.faces is not None and len(result.faces.tracks) == 1
        assert result.faces.detected == result.faces.sampled >= 7
        assert result.faces.tracks[0].boxes[:, 0].std() > 0.01
        received = result.sound.cut(0, result.sound.count)
    assert (
        np.abs(received).max() > 100 * np.abs(received[:8_000]).mean()
    )  # speech after a quiet room


def test_long_film_repeats_its_pictures_and_takes(tmp_path: Path) -> None:
    from avser.media.reader import open_media

    size = {**SMALL, "size": (90, 160)}
    path = footage.write_film(tmp_path / "long.mp4", 2 * footage.PERIOD_S, **size)
    times = [1.0, 3.0, 1.0 + footage.PERIOD_S]
    with open_media(path, audio=False, frame_times=times) as reader:
        first, other, again = (f.image.astype(int) for block in reader for f in block.frames)
    assert np.abs(again - first).mean() < np.abs(other - first).mean() / 3


def test_video_model_hears_and_sees(film: Path) -> None:
    predictor, what = footage.av_predictor()
    assert "released" in what or "1730 K" in what
    video.ours(film, predictor)
    with pytest.raises(RuntimeError, match="Bad benchmark clip"):
        video.ours(film, batch.Predictor(material.untrained("audio_crnn"), device="cpu"))


def test_usual_video_pipeline_looks_at_every_frame(film: Path) -> None:
    class Looks:
        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def __call__(self, image: np.ndarray) -> object | None:  # type: ignore[type-arg]
            self.shapes.append(image.shape)
            return object() if len(self.shapes) % 2 else None

    looks = Looks()
    result = video.usual(film, looks)
    assert looks.shapes == [(180, 320, 3)] * 10
    assert (result.looked, result.faces, result.features.shape) == (10, 5, (40 + 12 + 128 + 7,))
    assert video.usual(film, Looks(), every=4).looked == 3


def test_video_rows() -> None:
    assert video.SELDOM == 8  # of 30 a second: one every quarter of a second
    times = {video.OURS: 0.4, video.USUAL: 16.0, video.SPARSE: 1.2}
    usual, sparse, real_time = video.rows(times, seconds=4.0)
    assert usual.ratio == pytest.approx(40.0) and sparse.ratio == pytest.approx(3.0)
    assert real_time.value == pytest.approx(0.1)
    assert [r.goal.reached(r) for r in (usual, real_time) if r.goal] == [True, True]
    assert sparse.goal is None
    slow = video.rows({**times, video.OURS: 3.0}, seconds=4.0)
    assert [r.goal.reached(r) for r in slow if r.goal] == [False, False]


def test_stages_of_a_clip_add_up_to_all_of_it() -> None:
    names = (video_stages.DECODING, video_stages.DETECTION, video_stages.CROPS)
    times = dict.fromkeys(names, 0.1) | {video_stages.FACE: 0.2, video_stages.VOICE: 0.05}
    times |= {video_stages.WHOLE: 0.6, video_stages.EVERY: 0.25, "wall": 0.5, video.USUAL: 30.0}
    whole, *parts, following = video_stages.rows(times)
    assert whole.value == pytest.approx(600) and whole.ratio == pytest.approx(50)
    assert sum(part.value for part in parts) == pytest.approx(600)
    assert {p.ours: p.note for p in parts}[video_stages.REST] == "8%"
    assert following.ratio == pytest.approx(2.5) and following.goal is not None
    assert following.goal.reached(following)


def test_time_in_networks_is_theirs_alone() -> None:
    class Busy(torch.nn.Module):
        def forward(self, seconds: float) -> float:
            start = time.process_time()
            while time.process_time() - start < seconds:
                pass
            return seconds

    first, second = Busy(), Busy()
    with video_stages.timed({"first": first, "second": second}) as spent:
        first(0.03)
        first(0.03)
        second(0.01)
    first(0.05)
    assert 0.06 <= spent["first"] < 0.1 and 0.01 <= spent["second"] < 0.05


def test_video_memory_rows() -> None:
    short = {"peak_mb": 1000.0, "duration_s": 600.0, "seconds": 30.0}
    long = {"peak_mb": 1150.0, "duration_s": 3600.0, "seconds": 180.0}
    peak, flat, speed = video_memory.rows({"long": long, "short": short}, minutes=60, short=10)
    assert peak.goal == Goal("at most", 1500) and flat.goal == Goal("at most", 1150)
    assert [r.goal.reached(r) for r in (peak, flat) if r.goal] == [True, True]
    assert speed.value == pytest.approx(20.0) and "0.0500" in speed.note
    grown = {**long, "peak_mb": 1501.0}
    rows = video_memory.rows({"long": grown, "short": short}, minutes=60, short=10)
    assert [r.goal.reached(r) for r in rows if r.goal] == [False, False]


@pytest.mark.long
def test_memory_of_a_film_is_counted_in_all(film: Path) -> None:
    result = measure.child("video_memory", film, count=1)
    assert result["duration_s"] == pytest.approx(2.0, abs=0.1) and result["faces"] >= 7
    assert 200 < result["baseline_mb"] < result["peak_mb"] < video_memory.LIMIT_MB


def test_startup_rows() -> None:
    first, second = startup.rows({startup.TORCH: 2.0, "avser --help": 0.1, "slow": 0.4})
    assert first.ratio == pytest.approx(20.0)
    assert first.goal is not None and second.goal is not None
    assert first.goal.reached(first)
    assert not second.goal.reached(second)


@pytest.mark.parametrize(
    "module",
    [startup, features, batch, video, video_stages, training, memory, video_memory, serve, export],
)
def test_sizes_fit_the_measuring_function(module: ModuleType) -> None:
    import inspect

    names = set(inspect.signature(module.measure).parameters)
    assert set(module.FULL) == set(module.QUICK) <= names


def test_command_prints_and_writes_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row(ours="a", value=1.0, unit="s", alternative="b", other=3.0, goal=Goal("ratio", 2))
    fake: Callable[..., Report] = lambda **_: Report("startup: fake", "no time passes", [row])  # noqa: E731
    monkeypatch.setattr(startup, "measure", fake)
    monkeypatch.chdir(tmp_path)
    assert command.main(["startup", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "startup: fake" in out
    assert "1 of 1 goals reached" in out
    assert not list(tmp_path.rglob("*.json"))
    assert command.main(["startup", "--json", "results/bench.json"]) == 0
    result = json.loads((tmp_path / "results" / "bench.json").read_text())
    assert result["benchmarks"]["startup"]["rows"][0]["ratio"] == 3.0
    assert result["machine"]["cores"] >= 1


def test_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["sppeed"])
    assert "expected one of startup" in capsys.readouterr().err
