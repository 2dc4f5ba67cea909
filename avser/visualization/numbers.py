"""Text of shares: three decimals, no per cent."""


def format_share(value: float | None, *, sign: bool = False) -> str:
    """Write a share of 1 with three decimals and without the zero before the point.

    Args:
        value: the share; None is a dash.
        sign: write a plus before what is not negative, as of a change.

    >>> format_share(0.5834), format_share(1.0), format_share(-0.0125), format_share(None)
    ('.583', '1.000', '-.013', '–')
    """
    if value is None:
        return "–"
    rounded = f"{value:.3f}".removeprefix("-")
    negative = value < 0 and float(rounded) != 0
    prefix = "-" if negative else "+" if sign else ""
    return prefix + (rounded[1:] if rounded.startswith("0") else rounded)
