"""Tables of the scale pages: computed by one rule, and equal to the committed measurement."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import scale, scale_data, scale_jobs, scale_table
from benchmarks.measure import Report
from benchmarks.scale import SOUND, VIDEO


def results(*, rate: float = 50.0, size: float = 32_000) -> dict[str, Any]:
    made = {"rate": 90.0, "core": rate, "start": 20.0, "seconds": 100.0}
    jobs = {SOUND: {"two": made, "one": made, "local": {**made, "core": 50.0, "start": 5.0}}}
    jobs[VIDEO] = {"two": {**made, "core": 1.0}, "local": {**made, "core": 1.25}}
    rows = scale.rows(jobs, sizes={SOUND: size, VIDEO: 2e6}, plan_s=1e-5)
    report = Report("scale: jobs", "so many clips", rows).to_dict()
    machine = {"cores": 2, "processor": "X"}
    return {"machine": machine, "quick": True, "benchmarks": {"scale": report}}


def lines(**more: float) -> dict[tuple[str, str], list[str]]:
    """Cells of the first table, by kind and cores."""
    table = scale_table.million(results(**more)).split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {(row[0], row[1]): row[2:] for row in cells}


def test_work_start_up_and_core_hours_of_a_million_clips() -> None:
    table = lines()
    # 20 s and 10 µs an input before; a million divided by 50 a second and ten cores; whole parts
    assert table[SOUND, "10"] == ["30 s", "33 min", "cores", "34 min", "5.6"]
    assert table[VIDEO, "100"] == ["30 s", "2.8 h", "cores", "2.8 h", "281.7"]
    # one prefix gives 2,750 clips a second; a thousand cores would take 50,000
    assert table[SOUND, "1,000"] == ["30 s", "6 min", "store", "7 min", "109.3"]
    # of 10 MB, the network gives 125 clips a second
    assert lines(size=1e7)[SOUND, "100"][1:3] == ["2.2 h", "network"]


def test_saturation_and_ratio_of_engines() -> None:
    text = scale_table.million(results())
    assert "| cores that 10 Gbit/s feed | 781 | 625 |" in text
    assert "2 a clip | 55 | 2,750 |" in text
    ray = {row["ours"]: row for row in results()["benchmarks"]["scale"]["rows"]}
    row = ray[scale.RATE.format(kind=VIDEO)]
    assert row["ratio"] == 0.8 and row["reached"] is True
    assert "| 0.80 × | ≥ 0.8 × | yes |" in scale_table.measured(results())


def test_the_pages_have_the_tables_of_the_committed_measurement() -> None:
    content = json.loads(scale_table.RESULTS.read_text(encoding="utf-8"))
    for page, (name, make) in scale_table.PAGES.items():
        text = page.read_text(encoding="utf-8")
        same = scale_table.written(text, name, make(content))
        assert text == same, "run python -m benchmarks scale_table --write"


def test_tables_replace_those_of_the_pages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, file = tmp_path / "page.md", tmp_path / "scale.json"
    file.write_text(json.dumps(results()))
    monkeypatch.setattr(scale_table, "ROOT", tmp_path)
    monkeypatch.setattr(scale_table, "PAGES", {page: ("million", scale_table.million)})
    page.write_text("before\n<!-- scale_table: million -->\nold\n<!-- end: million -->\nafter\n")
    for _ in range(2):
        assert command.main(["scale_table", str(file), "--write"]) == 0
        text = page.read_text()
        assert "old" not in text and text.count("| a million clips |") == 1
        assert text.startswith("before\n<!--") and text.endswith("<!-- end: million -->\nafter\n")
    page.write_text("no place")
    with pytest.raises(ValueError, match="has no <!-- scale_table: million"):
        scale_table.written("no place", "million", "")


def test_a_measurement_without_a_row_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"benchmarks": {"scale": {"rows": []}}}))
    for name in ("old.json", "none.json"):
        with pytest.raises(SystemExit):
            command.main(["scale_table", str(tmp_path / name)])
    err = capsys.readouterr().err
    assert "there is no row 'sound: clips per second" in err and "No such file" in err
    assert "python -m benchmarks scale --json results/scale.json" in err


@pytest.mark.parametrize("module", [scale, scale_jobs, scale_data])
def test_sizes_fit_the_measuring_function(module: Any) -> None:
    import inspect

    assert (
        set(module.FULL) == set(module.QUICK) == set(inspect.signature(module.measure).parameters)
    )
