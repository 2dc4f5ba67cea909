"""Emotion in a media file without torch: ``python example.py clip.mp4``.

It needs ``pip install -r requirements.txt``.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent  # the model lies beside this file, wherever it is run
sys.path.insert(0, str(FOLDER))

from avser.errors import AvserError  # noqa: E402
from avser.export.video_runtime import OnnxVideoClassifier  # noqa: E402


def main() -> None:
    """Print the label, the probabilities and the label of each step of 0.512 s."""
    if len(sys.argv) != 2:
        sys.exit("usage: python example.py CLIP")
    try:
        prediction = OnnxVideoClassifier(FOLDER)(sys.argv[1])
    except AvserError as error:
        sys.exit(str(error))
    if prediction.reason:
        print(prediction.reason, file=sys.stderr)
    if prediction.label is None or prediction.probabilities is None:
        print("no voice and no face")
        return
    used = " and ".join(prediction.modalities)
    print(f"{prediction.label} {prediction.probabilities[prediction.label]:.0%} by {used}")
    for name, share in prediction.probabilities.items():
        print(f"  {name:<10} {share:.3f}")
    for step in prediction.timeline:
        print(f"{step.start_s:6.2f} s  {step.label or 'nothing to judge'}")


if __name__ == "__main__":
    main()
