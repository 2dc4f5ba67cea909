import pytest

from avser.visualization.numbers import format_share


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5834, ".583"), (0.0, ".000"), (0.9996, "1.000"), (1.0, "1.000"), (-0.0125, "-.013"),
     (-0.0001, ".000"), (None, "–")],
)  # fmt: skip
def test_share_has_three_decimals(value: float | None, text: str) -> None:
    assert format_share(value) == text


def test_change_has_a_sign() -> None:
    assert [format_share(v, sign=True) for v in (0.25, -0.25, 0.0)] == ["+.250", "-.250", "+.000"]
