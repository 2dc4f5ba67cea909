"""Attribution finds a planted signal: in a step, a band, a region of the face."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn

from avser.cli import main
from avser.errors import ConfigError, SignalError
from avser.media.faces.collect import SIZE
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.faces import FaceEncoder
from avser.models.encoders.whisper import WhisperEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.mfcc import Mfcc
from avser.models.frontends.two_channel import TwoChannelSpectrogram
from avser.models.fusion.late import LateFusion
from avser.models.heads import LinearHead, masked_softmax
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle, tiny_net
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Batch, audio_batch
from avser.visualization.attribution import explain_batch, row_frequencies
from avser.visualization.explain_plots import explanation_figure, explanation_figures
from avser.visualization.plots import render

STEPS, PLANTED_HZ = 4, {"happy": 600.0, "sad": 3_000.0}
EYES, MOUTH = 0.36, 0.76  # rows of the face, as shares of its height


class Gate(nn.Module):
    """One plane for each class, which lets its own rows through."""

    def __init__(self, gates: torch.Tensor) -> None:
        super().__init__()
        self.gates = nn.Parameter(gates[:, :, None])  # [classes, rows, 1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gates


class BandEncoder(AudioEncoder):
    """Energy of a step in a band around each class's planted frequency."""

    def __init__(self) -> None:
        super().__init__(
            frontend=LogMel(bins=64), normalise="none", trim_db=None, conditioning="mean"
        )
        self.dim = 2
        hz = row_frequencies(self.frontend)
        assert hz is not None
        bands = [np.abs(np.log2(hz / planted)) < 0.3 for planted in PLANTED_HZ.values()]
        self.gate = Gate(torch.tensor(np.stack(bands), dtype=torch.float32))

    def encode(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gated = self.gate(features.clamp(min=0.0))
        steps = rearrange(gated, "b c m (t f) -> b t c m f", f=self.frontend.frames_per_step)
        valid = rearrange(mask, "b (t f) -> b t f", f=self.frontend.frames_per_step)
        return steps.mean(dim=(3, 4)), valid.any(dim=2)


class RegionEncoder(FaceEncoder):
    """Brightness of the rows around the mouth (happy) and around the eyes (sad)."""

    width = 2

    def __init__(self) -> None:
        super().__init__()
        rows = (torch.arange(SIZE) + 0.5) / SIZE
        gates = [((rows - place).abs() < 0.06).float() for place in (MOUTH, EYES)]
        self.gate = Gate(torch.stack(gates))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.gate(images[:, :1]).mean(dim=(2, 3))


def net_of(*, audio: AudioEncoder | None = None, video: FaceEncoder | None = None) -> EmotionNet:
    """A net whose logits are the two values of its encoder's vector, times 40."""
    net = EmotionNet(audio=audio, video=video, head=LinearHead(), emotions=("happy", "sad"))
    for head in net.heads.values():
        assert isinstance(head, LinearHead)
        with torch.no_grad():
            head.step.weight.copy_(40 * torch.eye(2))
            head.step.bias.zero_()
    return net.eval()


def sound_batch(emotion: str, *, step: int = 1) -> Batch:
    """Noise of four steps, with the emotion's tone in one of them."""
    rng = torch.Generator().manual_seed(0)
    wave = 0.02 * torch.randn(STEPS * STEP_SAMPLES, generator=rng)
    times = torch.arange(STEP_SAMPLES) / SAMPLE_RATE
    place = slice(step * STEP_SAMPLES, (step + 1) * STEP_SAMPLES)
    wave[place] += 0.5 * torch.sin(2 * torch.pi * PLANTED_HZ[emotion] * times)
    return audio_batch(wave[None], torch.tensor([STEPS * STEP_SAMPLES]))


def face_batch(emotion: str) -> Batch:
    """Two faces that are grey all over, and brighter where the emotion's signal is planted."""
    batch = audio_batch(torch.zeros(1, STEP_SAMPLES), torch.zeros(1).long())
    crops = torch.full((1, 1, 2, 3, SIZE, SIZE), 128, dtype=torch.uint8)
    middle = round((MOUTH if emotion == "happy" else EYES) * SIZE)
    crops[..., middle - 4 : middle + 4, 30:82] = 255
    batch["faces"], batch["face_mask"] = crops, torch.ones(1, 1, 2, dtype=torch.bool)
    return batch


@pytest.mark.parametrize("emotion", ["happy", "sad"])
@pytest.mark.parametrize("step", [1, 3])
def test_the_planted_step_and_band_decide(emotion: str, step: int) -> None:
    result = explain_batch(net_of(audio=BandEncoder()), sound_batch(emotion, step=step))
    assert (result.emotion, result.head) == (emotion, "audio") and result.probability > 0.9
    assert result.step == step
    assert result.lost[step] > 3 * np.delete(np.abs(result.lost), step).max()
    assert result.audio_map is not None and result.spectrogram is not None
    assert result.audio_map.shape == result.spectrogram.shape
    (low, high), share = max(result.bands(4).items(), key=lambda item: item[1])
    assert low < PLANTED_HZ[emotion] < high and share > 0.5
    by_frame = result.audio_map.sum(axis=0)
    assert int(by_frame.argmax() * result.hop_s * SAMPLE_RATE) // STEP_SAMPLES == step


@pytest.mark.parametrize(
    ("emotion", "region"), [("happy", "mouth and chin"), ("sad", "brows and eyes")]
)
def test_the_planted_region_of_the_face_decides(emotion: str, region: str) -> None:
    net = net_of(video=RegionEncoder())
    result = explain_batch(net, face_batch(emotion))
    assert (result.emotion, result.head) == (emotion, "video")
    regions = result.regions()
    assert max(regions, key=lambda name: regions[name]) == region and regions[region] > 0.9
    assert sum(regions.values()) == pytest.approx(1.0)
    assert result.faces is not None and result.faces.shape == (2, SIZE, SIZE, 3)


def test_late_fusion_is_explained_by_both_streams() -> None:
    """A step is taken out of voice and face; without the planted one, happy is lost."""
    parts = {"audio": BandEncoder(), "video": RegionEncoder()}
    net = EmotionNet(
        **parts, fusion=LateFusion(weight=0.5), head=LinearHead(), emotions=("happy", "sad")
    ).eval()
    for name, head in net.heads.items():
        assert isinstance(head, LinearHead)
        with torch.no_grad():
            head.step.weight.copy_((40 if name == "audio" else 1) * torch.eye(2))
            head.step.bias.zero_()
    batch = sound_batch("happy", step=2)
    faces = face_batch("happy")
    for name in ("faces", "face_mask"):
        shape = (1, STEPS, *faces[name].shape[2:])
        batch[name] = faces[name].expand(shape).contiguous()
    explanation = explain_batch(net, batch)
    assert (explanation.emotion, explanation.head) == ("happy", "fused")
    assert explanation.attention is None and explanation.mask.all()
    assert explanation.step == 2 and explanation.lost[2] > 0.2
    assert explanation.audio_map is not None and explanation.face_maps is not None
    alone = explain_batch(net, batch, stream="video")
    assert alone.lost == pytest.approx(np.zeros(STEPS), abs=1e-6)  # all its steps are alike


def test_maps_of_a_mirroring_network_lie_over_the_crops_as_they_are() -> None:
    net = net_of(video=RegionEncoder())
    assert isinstance(net.video, FaceEncoder)
    batch = face_batch("happy")
    batch["faces"][..., :56] = 0  # the left half is dark
    net.video.mirror = True
    result = explain_batch(net, batch)
    assert net.video.mirror and result.face_maps is not None
    assert result.face_maps[:, :, :52].max() == 0 < result.face_maps[:, :, 60:].max()


def test_the_attention_of_a_head_is_that_of_its_pooling() -> None:
    net = tiny_net(("happy", "sad"))
    batch = sound_batch("happy")
    result = explain_batch(net, batch)
    with torch.no_grad():
        x, mask = net.encode(batch)["audio"]
        expected = masked_softmax(net.heads["audio"].attention(x).squeeze(-1), mask)[0]  # type: ignore[operator]
    assert result.attention is not None
    np.testing.assert_allclose(result.attention, expected.numpy(), atol=1e-6)
    assert result.attention.sum() == pytest.approx(1.0, abs=1e-5)


def test_an_explanation_changes_nothing_in_the_network() -> None:
    sound_net, batch = net_of(audio=BandEncoder()), sound_batch("happy")
    with torch.no_grad():
        before = sound_net(batch)["audio"].logits
    for parameter in sound_net.parameters():
        parameter.requires_grad_(False)  # a frozen network is explained too
    explain_batch(sound_net, batch)
    for parameter in sound_net.parameters():
        assert parameter.grad is None
        parameter.requires_grad_(True)
    with torch.no_grad():
        torch.testing.assert_close(sound_net(batch)["audio"].logits, before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in sound_net.modules())


def test_another_emotion_may_be_explained_and_silence_may_not() -> None:
    sound_net, batch = net_of(audio=BandEncoder()), sound_batch("happy")
    other = explain_batch(sound_net, batch, emotion="sad")
    assert other.emotion == "sad" and other.probability < 0.1
    with pytest.raises(ConfigError, match=r"Bad emotion 'hapy'.*did you mean 'happy'"):
        explain_batch(sound_net, batch, emotion="hapy")
    silent = audio_batch(torch.zeros(1, STEP_SAMPLES), torch.tensor([STEP_SAMPLES]))
    with pytest.raises(SignalError, match="neither a voice nor a face"):
        explain_batch(sound_net, silent)


def test_a_head_without_attention_has_none() -> None:
    result = explain_batch(net_of(audio=BandEncoder()), sound_batch("happy"))
    assert result.attention is None and result.lost.shape == (STEPS,)
    assert set(explanation_figures(result)) == {"steps", "spectrogram"}


def test_vectors_of_a_pretrained_network_are_no_spectrogram() -> None:
    """Where the encoder reads pooled vectors, the front end's planes are shown, without a map."""
    torch.manual_seed(0)
    encoder = WhisperEncoder(size="tiny", pretrained=False, layers=1, join=[1])
    net = EmotionNet(audio=encoder, head=LinearHead(), emotions=("happy", "sad")).eval()
    explanation = explain_batch(net, sound_batch("happy"))
    assert explanation.spectrogram is not None and explanation.row_hz is not None
    assert explanation.spectrogram.shape[0] == len(explanation.row_hz) == 80
    assert explanation.audio_map is None and explanation.to_dict()["bands"] == []
    assert render(explanation_figure(explanation)).startswith(b"\x89PNG")


def test_rows_of_front_ends_have_their_frequencies() -> None:
    linear = row_frequencies(TwoChannelSpectrogram(fmax_hz=2_000.0, size=64))
    assert linear is not None
    np.testing.assert_allclose(linear, np.arange(64) * 2_000 / 64, atol=32)  # a tone is 31 Hz apart
    mel = row_frequencies(LogMel(bins=64, window=512, hop=256, n_fft=1024))
    assert mel is not None and 40 < mel[0] < 120 and 7_000 < mel[-1] < 8_000
    assert row_frequencies(Mfcc()) is None


def test_figures_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_bundle(tmp_path / "model")
    clip = write_wav(tmp_path / "a.wav", voice("happy", seconds=1.4))
    out = tmp_path / "out"
    words = ["explain", str(clip), "--model", str(model)]
    assert main([*words, "--out", str(out), "--format", "svg"]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        *("explanation.json", "explanation.svg", "spectrogram.svg", "steps.svg")
    ]
    result = json.loads((out / "explanation.json").read_text())
    assert len(result["steps"]) == 3 and result["head"] == "audio"
    assert sum(band["share"] for band in result["bands"]) == pytest.approx(1.0, abs=1e-4)
    assert f"drawn: {out / 'steps.svg'}" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "one.pdf")]) == 0
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert main([*words, "--out", str(tmp_path / "one.gif")]) == 1
    assert "expected a name that ends in .png, .pdf, .svg" in capsys.readouterr().err


def test_a_figure_of_faces_is_drawn() -> None:
    result = explain_batch(net_of(video=RegionEncoder()), face_batch("sad"))
    assert set(explanation_figures(result)) == {"steps", "faces"}
    figure = explanation_figure(result, title="a.mp4")
    assert render(figure).startswith(b"\x89PNG")
    assert figure.get_suptitle().startswith("a.mp4: sad, ")
