import pytest

from avser.errors import ConfigError
from avser.web.limits import BusyError, LateError, Limits, RefusedError, TooLargeError


def test_defaults_are_legal_and_counted_in_bytes() -> None:
    assert Limits().upload_bytes == 100_000_000
    assert Limits(queue=0).queue == 0


@pytest.mark.parametrize("name", ["upload_mb", "duration_s", "concurrency", "queue", "time_s"])
def test_limit_below_its_range_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Bad {name.replace('_', '-')} -1"):
        Limits(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["upload_mb", "duration_s", "time_s"])
def test_limit_that_is_no_number_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"Bad {name.replace('_', '-')} {value}: expected more"):
        Limits(**{name: value})  # type: ignore[arg-type]


def test_each_limit_has_its_status_and_one_sentence() -> None:
    limits = Limits(upload_mb=2, time_s=5, concurrency=3, queue=4)
    message: list[tuple[RefusedError, type[RefusedError], int, str]] = [
        (limits.too_large(), TooLargeError, 413, "2 MB"),
        (limits.too_late(), LateError, 504, "5 s"),
        (limits.busy(), BusyError, 429, "3 clips are processed and 4 wait"),
    ]
    for error, kind, status, words in message:
        assert isinstance(error, kind) and error.status == status
        assert words in str(error) and str(error).endswith(".")
