"""Every configuration of a voice is exported, or says why not; released models at full size."""

import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Bundle
from avser.errors import AvserError, BundleError
from avser.export.folder import save_folder
from avser.export.onnx_file import MOST_APART, AudioGraph, bursts, differences
from avser.export.runtime import OnnxClassifier
from avser.models.factory import build_net

pytestmark = pytest.mark.long
CONFIGS = Path(__file__).parents[2] / "configs"
LENGTHS = (0.3, 3.3, 61.0, 600.0)


def voices() -> dict[str, dict[str, object]]:
    """Audio branch of every configuration that has one, by path."""
    result = {}
    for path in sorted(CONFIGS.rglob("*.yaml")):
        model = (yaml.safe_load(path.read_text()) or {}).get("model") or {}
        if isinstance(model.get("audio"), dict) and "class_path" in model["audio"]:
            slots = {"audio": model["audio"], "head": model.get("head")}
            slots["head"] = slots["head"] or {"class_path": "avser.models.heads.AttentiveHead"}
            result[str(path.relative_to(CONFIGS))] = slots
    return result


@pytest.mark.parametrize("name", voices())
def test_every_voice_is_exported_or_says_why_not(name: str, tmp_path: Path) -> None:
    try:
        net = build_net(voices()[name], ["a", "b", "c"]).eval()
    except BundleError as error:
        pytest.skip(f"{name}: {error}")
    made = Bundle(name="untrained", folder=Path(), net=net, config={})
    try:
        path = AudioGraph(made).save(tmp_path / "voice.onnx")
    except AvserError as error:
        assert str(error).startswith("Bad export") and str(error).count("\n") == 0
        return
    sizes = [(clips, s) for s in (0.3, 3.3, 20.0) for clips in (1, 2)]
    result = differences(net.audio_branch(), path, sizes=sizes)
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART


def test_the_released_voice_at_four_lengths_and_two_sizes(tmp_path: Path) -> None:
    loaded = bundle.load("audio_small.multi")
    graph = AudioGraph(loaded)
    sizes = [(clips, seconds) for seconds in LENGTHS for clips in (1, 2)]
    result = differences(
        loaded.net.audio_branch(), graph.save(tmp_path / "float.onnx"), sizes=sizes
    )
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART
    small = graph.save(tmp_path / "int8.onnx", int8=True)
    assert small.stat().st_size <= 500_000
    assert max(d.clip for d in differences(loaded.net.audio_branch(), small)) < 0.05


def test_the_folder_in_an_environment_of_numpy_and_onnxruntime(tmp_path: Path) -> None:
    path = save_folder(AudioGraph(bundle.load("audio_small.multi")), tmp_path / "out", int8=True)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    words = [str(python), "-m", "pip", "install", "-q", "numpy", "onnxruntime"]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("numpy and onnxruntime can't be installed here: no package index")
    wave = bursts(1, 3.0)[0][0]
    np.save(tmp_path / "wave.npy", wave)
    code = (
        "import numpy as np, sys; from runtime import OnnxClassifier; "
        "print(OnnxClassifier('model.onnx')(np.load('../wave.npy')).label); "
        "assert not {'torch', 'avser', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run(
        [str(python), "-c", code], cwd=path.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == OnnxClassifier(path)(wave).label


def test_int8_loses_nothing_worth_telling(tmp_path: Path) -> None:
    """Of labels on noise bursts of many kinds, float and int8 agree on nearly all."""
    loaded = bundle.load("audio_small.multi")
    graph = AudioGraph(loaded)
    plain = OnnxClassifier(graph.save(tmp_path / "float.onnx"))
    small = OnnxClassifier(graph.save(tmp_path / "int8.onnx", int8=True))
    torch.manual_seed(0)
    waves = [bursts(1, 1 + 0.01 * i)[0][0] for i in range(100)]
    agree = [plain(wave).label == small(wave).label for wave in waves]
    assert np.mean(agree) >= 0.97
