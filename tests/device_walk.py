"""One training step, validation, calibration and prediction of a configuration elsewhere."""

from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from other_device import OTHER, other_device, tensors_of

from avser.data.feature_store import ClipFeatures, ClipSound, prepare_features
from avser.evaluation.calibration import calibrate
from avser.evaluation.predict import predict
from avser.inference.predictor import Predictor
from avser.media.degradations import Degrade
from avser.models.devices import device_of, on_device
from avser.models.net import EmotionNet
from avser.training.baselines import fit_baselines, has_baseline
from avser.training.task import EmotionTask
from avser.types import STEP_SAMPLES, Batch, Clip, audio_batch

CONFIGS = Path(__file__).parents[1] / "configs"
EMOTIONS = ("neutral", "happy", "sad", "angry")
MOVED_AT_USE = "frontend._kept"  # cleaned clips stay in the processor's memory
SIZE, STEPS = 4, 2
REPEATS = 20  # of the batch, where a baseline needs more vectors than classes


def combined(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several files, the later ones over the earlier."""
    out: dict[str, Any] = {}
    for one in settings:
        for key, value in one.items():
            old = out.get(key)
            both = isinstance(old, dict) and isinstance(value, dict) and "class_path" not in value
            out[key] = combined(old, value) if both else value
    return out


def settings_of(name: str) -> dict[str, Any]:
    """Model settings of ``model/x``, ``fusion/x``, ``systems/x/y``, without downloads."""
    load = lambda part: yaml.safe_load((CONFIGS / f"{part}.yaml").read_text())["model"]  # noqa: E731
    own = load(name)
    if name.startswith("fusion/"):
        own = combined(load("model/audio_crnn"), load("model/video_aus"), own)
    elif not own.get("audio") and not own.get("video"):
        own = combined(load(f"{Path(name).parent}/resnet34"), own)
    own.pop("init", None)  # a released model's weights
    baseline = (own.get("head") or {}).get("init_args", {}).get("baseline")
    if baseline and "mixtures" in baseline.get("init_args", {}):
        baseline["init_args"]["mixtures"] = 2  # as many as a class has different steps
    for stream in ("audio", "video"):
        init = (own.get(stream) or {}).get("init_args", {})
        if "pretrained" in init:
            init["pretrained"] = False
        if init.get("kind"):
            init["size"] = "tiny"
        if "backbone" in init and "size" in init:
            init["size"] = [64, 64] if stream == "audio" else 64
    return own


def task_of(name: str) -> EmotionTask:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EmotionTask, "model")
    spec = {"class_path": "avser.training.task.EmotionTask"}
    spec["init_args"] = settings_of(name) | {"emotions": list(EMOTIONS)}
    torch.manual_seed(0)
    task = parser.instantiate(parser.parse_object({"model": spec})).model
    assert isinstance(task, EmotionTask)
    return task


def clips_batch() -> Batch:
    """Clips of a tone each, with faces and vectors, two of each class."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(STEPS * STEP_SAMPLES) / 16_000
    pitch = 150 + 60 * torch.arange(SIZE)[:, None]
    wave = 0.2 * torch.sin(2 * torch.pi * pitch * time) * (0.3 + torch.sin(9 * time).abs())
    wave = wave + 0.01 * torch.randn(wave.shape, generator=generator)
    lengths = torch.tensor([wave.shape[1] - 1500 * i for i in range(SIZE)])
    wave[torch.arange(wave.shape[1]) >= lengths[:, None]] = 0
    label = torch.arange(SIZE) % len(EMOTIONS)
    batch = audio_batch(wave, lengths, label=label, clip_id=[f"fake/{i}" for i in range(SIZE)])
    faces = torch.randint(256, (SIZE, STEPS, 2, 3, 60, 50), generator=generator)
    batch["faces"] = faces.to(torch.uint8)
    batch["face_mask"] = torch.rand(SIZE, STEPS, 2, generator=generator) < 0.8
    batch["video_features"] = torch.randn(SIZE, STEPS, 35, generator=generator)
    return batch


Parts = namedtuple("Parts", "train validation test")
SplitFake = namedtuple("SplitFake", "mark")


class DataFake:
    """What a task asks of a data module; batches are on the processor, as loaders give them."""

    split = SplitFake("")
    digests: Mapping[str, str] = {}
    views, unlabelled = None, False

    def __init__(self, folder: Path) -> None:
        self.batch, self.folder, self.features = clips_batch(), folder, ClipFeatures()
        self.clips = [
            Clip(path=Path(n), clip_id=n.split("/")[1], emotion=None, speaker="s", corpus="fake")
            for n in self.batch["clip_id"]
        ]
        self.parts = Parts(self.clips, self.clips, self.clips)

    def class_counts(self) -> list[int]:
        return [SIZE // len(EMOTIONS)] * len(EMOTIONS)

    def loader(self, clips: object = None) -> list[Batch]:
        batch = dict(self.batch)
        if self.features.ready:
            rows = [self.features.read(n) for n in self.batch["clip_id"]]
            most = max(mask.shape[0] for _, mask in rows)
            pad = torch.nn.functional.pad
            batch["audio_features"] = torch.stack([pad(x, (0, most - len(m))) for x, m in rows])
            batch["audio_mask"] = torch.stack([pad(m, (0, most - len(m))) for _, m in rows])
        return [Batch(**batch)]  # type: ignore[typeddict-item]

    views_loader = loader

    def prepare_features(self, encoder: Any) -> None:
        if encoder.constant_features and type(encoder).__name__ == "WhisperEncoder":
            waves, lengths = self.batch["waveform"], self.batch["lengths"]
            sounds = [
                ClipSound(name, name, wave[:end].numpy, "", 0)
                for name, wave, end in zip(self.batch["clip_id"], waves, lengths, strict=True)
            ]
            prepare_features(
                encoder, sounds, degrade=Degrade(), into=self.features, folder=self.folder
            )

    def enrol_speakers(self, encoder: Any) -> None:
        reference = encoder.reference_of(self.loader())
        assert reference.device.type == "cpu"  # loaders hold it
        if encoder.normaliser.mode == "speaker":
            self.batch["speaker_statistics"] = reference.expand(SIZE, -1, -1, -1)


def all_there(module: torch.nn.Module) -> None:
    lost = [
        name
        for name, tensor in tensors_of(module)
        if tensor.device != OTHER and not name.endswith(MOVED_AT_USE)
    ]
    assert not lost, lost


def probabilities(net: EmotionNet, data: DataFake) -> np.ndarray[Any, Any]:
    return predict(net, data.loader(), data.clips, seen=set()).probabilities


def walk(name: str, folder: Path) -> None:
    """Train one step of a configuration on the other device, validate, calibrate and predict."""
    data = DataFake(folder)
    with other_device():
        task = task_of(name).to(OTHER)
        all_there(task)
        task.prepare(data)  # type: ignore[arg-type]  # as far as it is asked
        if has_baseline(task.net):
            net = fit_baselines(task.net, REPEATS * data.loader())
        else:
            optimizer = task.new_optimizer()
            task.train()
            batch = on_device(data.loader()[0], OTHER)
            loss, _ = task.training_loss(batch)
            loss.backward()
            optimizer.step()
            assert torch.isfinite(loss.cpu())
            task.averaged.eval()
            task.validation_step(on_device(data.loader()[0], OTHER), 0)
            net = task.net.eval()
        all_there(task)
        calibrate(net, data.loader())
        there = probabilities(net, data)
        if net.audio is not None:
            predictor = Predictor(net, device=str(OTHER))
            wave = data.batch["waveform"][0].numpy()
            prediction = predictor(wave, sample_rate=16_000)
            assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-4)
        all_there(net)
        net = net.to("cpu")
        assert device_of(net).type == "cpu"
        assert not [n for n, t in tensors_of(net) if t.device.type != "cpu"]
    assert np.abs(there - probabilities(net, data)).max() < 1e-4
