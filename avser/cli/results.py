"""Predictions as lines for a terminal."""

from avser.types import FaceResult, Prediction

#: Remark on a face, by whether its lips move with the sound.
_SPEAKS = {True: "  (speaks)", False: "  (does not speak)", None: ""}


def percent(share: float) -> str:
    """Write a share as every command does.

    >>> percent(0.256)
    '25.6 %'
    """
    return f"{100 * share:.1f} %"


def bar(share: float, width: int = 30, *, ascii_only: bool = False) -> str:
    """A bar of so many characters; of eighths of them where the terminal has such.

    >>> bar(0.5, 4), bar(0.5, 4, ascii_only=True)
    ('██   ', '##   ')
    """
    if ascii_only:
        return ("#" * round(share * width)).ljust(width + 1)
    full, part = divmod(round(share * width * 8), 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[part]).ljust(width + 1)


def result_lines(prediction: Prediction, *, several: bool, ascii_only: bool = False) -> list[str]:
    """Lines for one clip: label and reason; probabilities and timeline where it is the only one."""
    if prediction.probabilities is None or prediction.label is None:
        return [f"{prediction.path}: no voice and no face to judge ({prediction.reason})"]
    used = " and ".join(prediction.modalities)
    share = percent(prediction.probabilities[prediction.label])
    lines = [f"{prediction.path}: {prediction.label} {share}  ({used}, {prediction.model})"]
    if prediction.reason:
        lines.append(f"  {prediction.reason}")
    lines += [_face_line(face) for face in prediction.faces or ()]
    if several:
        return lines
    for emotion, p in sorted(prediction.probabilities.items(), key=lambda item: -item[1]):
        lines.append(f"  {emotion:<10} {bar(p, ascii_only=ascii_only)} {percent(p):>7}")
    lines += ["  timeline"] if prediction.timeline else []
    for entry in prediction.timeline:
        span = f"{entry.start_s:6.2f} to {entry.end_s:6.2f} s"
        if entry.label is None or entry.probabilities is None:
            lines.append(f"  {span}  (silence)")
            continue
        p = entry.probabilities[entry.label]
        bars = bar(p, 12, ascii_only=ascii_only)
        lines.append(f"  {span}  {entry.label:<10} {bars} {percent(p):>7}")
    return lines


def _face_line(face: FaceResult) -> str:
    """Label of one face alone, which is not judged where no step shows it."""
    if face.label is None or face.probabilities is None:
        return f"  face {face.face_id}: not judged"
    share = percent(face.probabilities[face.label])
    return f"  face {face.face_id}: {face.label} {share}{_SPEAKS[face.speaks]}"
