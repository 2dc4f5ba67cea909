import json
from pathlib import Path

import numpy as np
import pytest

from avser.bundle import serialization as bundle
from avser.inference.predictor import Predictor
from avser.media.reader import probe, read_audio

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLE = EXAMPLES / "sample.mp4"


def test_sample_has_a_face_video_and_a_voice() -> None:
    assert SAMPLE.stat().st_size < 1_000_000
    info = probe(SAMPLE)
    assert info.has_audio and info.has_video
    assert info.duration_s is not None and info.duration_s > 3
    assert info.width >= 320 and info.height >= 240 and info.fps >= 20


def test_sample_is_not_silent() -> None:
    samples = read_audio(SAMPLE)
    assert len(samples) > 3 * 16_000
    seconds = samples[: len(samples) // 16_000 * 16_000].reshape(-1, 16_000)
    level_db = 10 * np.log10(np.square(seconds).mean(axis=1) + 1e-12)
    assert (level_db > -40).all()  # somebody speaks in every second


def test_every_example_is_told_with_its_licence() -> None:
    table = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name != "README.md" and path.is_file():
            assert f"| `{path.name}` |" in table


NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_and_their_outputs_cleared(path: Path) -> None:
    """They run in `tests/long/test_notebooks.py`, and the table names them."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["cells"][0]["source"][0].startswith("# ")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] for cell in code)
    assert all(cell["execution_count"] is None for cell in code)
    assert f"| `notebooks/{path.name}` |" in (EXAMPLES / "README.md").read_text()


@pytest.mark.skipif(bundle.DEFAULT_AV_MODEL not in bundle.released(), reason="no released model")
def test_default_model_answers_for_the_sample() -> None:
    answer = Predictor.from_pretrained(device="cpu")(str(SAMPLE))
    assert answer.probabilities is not None and answer.label in answer.probabilities
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)
    assert answer.modalities == ("audio", "video") and answer.reason is None
    assert answer.model == bundle.DEFAULT_AV_MODEL
    assert len(answer.timeline) == -(-round(answer.duration_s * 1000) // 512)
