"""Emotion in a wav file, with numpy and onnxruntime alone: ``python example.py clip.wav``."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent  # the model lies beside this file, wherever it is run
sys.path.insert(0, str(FOLDER))

from runtime import OnnxClassifier  # noqa: E402
from wav import read_wav  # noqa: E402


def main() -> None:
    """Print the label, the probabilities and the label of each step of 0.512 s."""
    if len(sys.argv) != 2:
        sys.exit("usage: python example.py CLIP.wav")
    try:
        audio = read_wav(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
    for note in audio.notes:
        print(note, file=sys.stderr)
    prediction = OnnxClassifier(FOLDER / "model.onnx")(audio.samples)
    if prediction.label is None or prediction.probabilities is None:
        print("no voice")
        return
    print(f"{prediction.label} {prediction.probabilities[prediction.label]:.0%}")
    for name, share in prediction.probabilities.items():
        print(f"  {name:<10} {share:.3f}")
    for step in prediction.timeline:
        print(f"{step.start_s:6.2f} s  {step.label or 'silence'}")


if __name__ == "__main__":
    main()
