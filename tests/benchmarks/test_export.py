import pytest

from benchmarks import export
from benchmarks.measure import Goal


def test_export_rows() -> None:
    result = {
        "int8": {"ms": 1.0, "peak_mb": 80.0},
        "float": {"ms": 2.5, "peak_mb": 82.0},
        "two_channel": {"ms": 3.0, "peak_mb": 82.0},
        "whisper_tiny": {"ms": 2.0, "peak_mb": 90.0},
        "whisper_base": {"ms": 5.0, "peak_mb": 99.0},
        "torch": {"ms": 4.0, "peak_mb": 400.0},
        "wav2vec2": {"ms": 100.0, "peak_mb": 900.0},
        "face_int8": {"ms": 5.0, "peak_mb": 90.0},
        "face_torch": {"ms": 9.0, "peak_mb": 500.0},
    }
    cold = {"int8": 0.2, "float": 0.2, "two_channel": 0.2, "torch": 2.0, "wav2vec2": 6.0}
    sizes = {
        "int8": 434.0,
        "float": 1600.0,
        "two_channel": 500.0,
        "whisper_tiny": 6_000.0,
        "whisper_base": 14_000.0,
        "torch": 1580.0,
        "wav2vec2": 378_000.0,
    }
    made = export.rows(result, cold, sizes)
    reached = [r.goal.reached(r) for r in made if r.goal]
    assert reached == [True, True, False, False, True, False, True, True]
    assert made[1].ratio == pytest.approx(100.0) and made[1].goal == Goal("ratio", 50)
    assert (made[-1].ours, made[-1].value) == ("face network, ONNX int8", 5.0)
    assert {r.unit for r in made if r.ours == "ONNX int8"} == {
        "ms per s of sound",
        "KB in files",
        "MB at most, whole process",
        "s from start to first answer",
    }


@pytest.mark.long
def test_exports_are_measured() -> None:
    report = export.measure(**export.QUICK)
    assert len(report.rows) == 25 and all(row.value > 0 for row in report.rows)
