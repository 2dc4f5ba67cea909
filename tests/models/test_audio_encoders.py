"""Encoders of sound: what each is, beyond the contract of all in test_net."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_encoders import ENCODERS, STREAMS, classes
from torch import Tensor

from avser.errors import ConfigError
from avser.models.encoders.backbone import create_backbone
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.encoders.lstm import LstmEncoder
from avser.models.encoders.step_cnn import StepCnnEncoder, ValueSample
from avser.models.encoders.steps import crop_or_pad, group_by_step, repeat_over_steps
from avser.models.encoders.timm_audio import TimmAudioEncoder
from avser.models.factory import build
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.mfcc import Mfcc
from avser.models.frontends.two_channel import TwoChannelSpectrogram
from avser.models.transforms import Transforms
from avser.training.image_augment import ImageAugment
from avser.types import Batch, audio_batch

STEP = 8192


def encoded(encoder: AudioEncoder, wave: Tensor) -> Tensor:
    """Vectors ``[T, D]`` of one clip."""
    x: Tensor = encoder.eval()(wave, torch.tensor([wave.shape[1]]))[0][0]
    return x


def changed_after(wave: Tensor, sample: int) -> Tensor:
    return torch.cat([wave[:, :sample], 0.3 * torch.randn_like(wave[:, sample:])], dim=1)


def test_every_audio_encoder_has_tiny_settings() -> None:
    """What has none is in no contract test."""
    tested = {type(make()) for make in ENCODERS.values()}
    missing = {kind.__name__ for kind in classes(AudioEncoder)} - {k.__name__ for k in tested}
    assert not missing, f"Add tests/tiny_encoders/<name>.py with AUDIO for {sorted(missing)}."


def test_every_encoder_that_streams_has_settings_that_stream() -> None:
    able = {type(e) for e in (make() for make in ENCODERS.values()) if not e.not_streamable}
    streams = [make() for make in STREAMS.values()]
    assert all(encoder.not_streamable is None for encoder in streams)
    missing = {kind.__name__ for kind in able - {type(e) for e in streams}}
    assert not missing, f"Add STREAMING to tests/tiny_encoders/<name>.py for {sorted(missing)}."


# -- frames and steps ----------------------------------------------------------------------------


@pytest.mark.parametrize("hop", [256, 320, 160, 500, 8192, 5000])
def test_frames_go_to_the_steps_in_which_they_begin(hop: int) -> None:
    steps = 7
    frames = math.ceil(steps * STEP / hop)
    index = torch.arange(frames)
    x = (index + 1.0)[None, :, None]
    mask = (index != 3)[None]
    sorted_x, valid = group_by_step(x, mask, hop=hop)
    for step in range(steps):
        expected = [i + 1 for i in range(frames) if i * hop // STEP == step and i != 3]
        assert sorted_x[0, step][valid[0, step]].flatten().tolist() == expected
    there = [any(i * hop // STEP == s for i in range(frames) if i != 3) for s in range(steps)]
    vectors, step_mask = repeat_over_steps(torch.tensor([[2.0, 5.0]]), mask, hop=hop)
    assert step_mask[0].tolist() == there
    assert vectors[0].tolist() == [[2.0, 5.0] if t else [0.0, 0.0] for t in there]


def test_an_encoder_that_pools_frames_refuses_a_hop_off_the_grid() -> None:
    for make in (CrnnEncoder, StepCnnEncoder):
        with pytest.raises(ConfigError, match=r"Bad hop 320 .*, or LstmEncoder"):
            make(frontend=Mfcc(window=320, hop=320))


# -- LSTM ----------------------------------------------------------------------------------------


def test_causal_where_all_of_its_parts_are() -> None:
    past: dict[str, Any] = {"normalise": "running", "trim_db": None, "bidirectional": False}
    encoder = LstmEncoder(frontend=Mfcc(causal=True), **past)
    assert encoder.causal
    wave = 0.1 * torch.randn(1, 4 * STEP)
    a, b = encoded(encoder, wave), encoded(encoder, changed_after(wave, 2 * STEP))
    torch.testing.assert_close(a[:2], b[:2])
    assert not torch.allclose(a[2:], b[2:])
    for other in (
        {"trim_db": 35.0},
        {"normalise": "clip"},
        {"bidirectional": True},
        {"span": "clip"},
        {"frontend": Mfcc()},
    ):
        assert not LstmEncoder(**{"frontend": Mfcc(causal=True), **past, **other}).causal


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_state_is_that_of_the_last_valid_frame(bidirectional: bool) -> None:
    encoder = LstmEncoder(
        frontend=Mfcc(window=320, hop=320), bidirectional=bidirectional, span="clip", pool="last"
    ).eval()
    frames = 77  # of 3 steps of 25.6
    x = torch.randn(1, 1, 13, frames)
    mask = torch.zeros(1, frames, dtype=torch.bool)
    mask[:, 4:60] = True
    result, valid = encoder.encode(x, mask)
    assert valid.tolist() == [[True, True, True]]
    plain = torch.nn.LSTM(13, 64, num_layers=2, batch_first=True, bidirectional=bidirectional)
    for index, layer in enumerate(encoder.layers):
        for way, suffix in ((layer.forwards, ""), (layer.backwards, "_reverse")):
            for name, value in () if way is None else way.named_parameters():
                getattr(plain, name.replace("l0", f"l{index}{suffix}")).data.copy_(value)
    state = plain(x[0, 0, :, 4:60].T[None])[1][0][-1 - bidirectional :].flatten()
    torch.testing.assert_close(result[0, 0], state)
    assert torch.equal(result[0, 0], result[0, 2])


def test_a_mean_of_steps_or_of_the_clip() -> None:
    wave = 0.1 * torch.randn(1, 3 * STEP)
    settings: dict[str, Any] = {"frontend": Mfcc(), "trim_db": None}
    torch.manual_seed(0)
    of_steps = LstmEncoder(**settings)
    torch.manual_seed(0)
    of_clip = LstmEncoder(**settings, span="clip")
    a, b = encoded(of_steps, wave), encoded(of_clip, wave)
    assert of_steps.span == "step" and of_clip.span == "clip"
    torch.testing.assert_close(a.mean(dim=0), b[0])
    assert torch.equal(b[0], b[2]) and not torch.allclose(a[0], a[2])


# -- CNN of steps --------------------------------------------------------------------------------


def test_a_step_knows_nothing_of_other_steps() -> None:
    encoder = StepCnnEncoder(frontend=TwoChannelSpectrogram(), channels=(8,), trim_db=None)
    assert encoder.causal
    wave = 0.1 * torch.randn(1, 4 * STEP)
    other = changed_after(wave, 2 * STEP)
    other[:, :STEP] = 0.1 * torch.randn(1, STEP)
    a, b = encoded(encoder, wave), encoded(encoder, other)
    torch.testing.assert_close(a[1], b[1])
    assert all(not torch.allclose(a[i], b[i]) for i in (0, 2, 3))
    torch.testing.assert_close(encoded(encoder, wave[:, STEP : 2 * STEP])[0], a[1])


@pytest.mark.parametrize(
    ("channels", "kernels", "pools", "size", "values"),
    [
        ((16,), ((5, 5),), ((2, 2),), None, 16 * 32 * 32),
        ((16, 32), ((5, 5), (5, 5)), ((2, 2), (2, 2)), None, 32 * 16 * 16),
        ((1024,), ((64, 5),), ((1, 2),), None, 1024 * 32),
        ((128,), ((64, 10),), ((2, 2),), None, 128 * 32),  # one row is left: pooled in time alone
        ((16, 32), ((64, 5), (1, 5)), ((1, 2), (1, 2)), None, 32 * 16),
        ((4,), ((32, 5),), ((1, 1),), (32, 48), 4 * 48),
    ],
)
def test_layers_are_a_list(
    channels: tuple[int, ...], kernels: Any, pools: Any, size: Any, values: int
) -> None:
    encoder = StepCnnEncoder(
        frontend=TwoChannelSpectrogram(),
        channels=channels,
        kernels=kernels,
        pools=pools,
        size=size,
        leak=0.1,
        width=7,
    )
    assert encoder.affine.in_features == values and encoder.dim == 7
    assert encoded(encoder, 0.1 * torch.randn(1, 2 * STEP)).shape == (2, 7)


def test_layers_that_do_not_fit_are_refused() -> None:
    front = TwoChannelSpectrogram()
    with pytest.raises(ConfigError, match="as many of each"):
        StepCnnEncoder(frontend=front, channels=(4, 8))
    with pytest.raises(ConfigError, match="Bad kernel 64 x 5: the image has 1 rows"):
        StepCnnEncoder(
            frontend=front,
            channels=(4, 8),
            kernels=((64, 5), (64, 5)),
            pools=((1, 2), (1, 2)),
        )


def sound(size: int = 6) -> Batch:
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(size, 2 * STEP)
    lengths = torch.full((size,), 2 * STEP)
    wave[0, STEP:], lengths[0] = 0, STEP
    return audio_batch(wave, lengths)


def test_the_mean_image_of_training_is_taken_off() -> None:
    encoder = StepCnnEncoder(
        frontend=TwoChannelSpectrogram(),
        normalise="none",
        trim_db=None,
        channels=(),
        kernels=(),
        pools=(),
        width=None,
        pixel_mean=True,
    )
    assert encoder.dim == 2 * 64 * 64 and encoder.needs_statistics
    batch = sound()
    encoder.fit_statistics([batch, batch])
    x, valid = encoder(batch["waveform"], batch["lengths"])
    assert valid.sum() == 11
    torch.testing.assert_close(x[valid].mean(dim=0), torch.zeros(encoder.dim), atol=1e-4, rtol=0)
    step = batch["waveform"][1:2, STEP:]
    raw = encoder.frontend(step - step.mean())
    torch.testing.assert_close(x[1, 1], (raw[0] - encoder.image).flatten())


def test_anomalous_values_become_the_usual_one() -> None:
    encoder = StepCnnEncoder(
        frontend=TwoChannelSpectrogram(), normalise="none", trim_db=None, channels=(4,), anomaly=3.0
    )
    batch = sound()
    before, _ = encoder.raw_features(batch["waveform"], batch["lengths"])
    encoder.fit_statistics([batch])
    after, mask = encoder.raw_features(batch["waveform"], batch["lengths"])
    usual = before[1:].movedim(1, 0).flatten(1).median(dim=1).values
    torch.testing.assert_close(encoder.usual.flatten(), usual, atol=0.1, rtol=0)
    changed = before != after
    assert 0 < changed[mask[:, None, None].expand_as(changed)].float().mean() < 0.02
    assert (
        after[changed] == encoder.usual.expand_as(after[0])[None].expand_as(after)[changed]
    ).all()
    silent = torch.zeros(1, STEP)  # the logarithm's floor is far from any sound
    assert (encoder.raw_features(silent, torch.tensor([STEP]))[0] == encoder.usual).all()
    again = copy.deepcopy(encoder)
    again.fit_statistics([batch])
    assert torch.equal(again.usual, encoder.usual)  # the draw is the same each time


def test_a_sample_holds_every_column_as_often() -> None:
    counts = torch.zeros(60)
    for seed in range(300):
        sample = ValueSample(20)
        sample._generator.manual_seed(seed)
        for part in torch.arange(60.0)[None].split(7, dim=1):
            sample.add(part)
        assert len(set(sample.values[0].tolist())) == 20
        counts[sample.values[0].long()] += 1
    assert 60 < counts.min() and counts.max() < 140  # 100 each, deviation 8
    with pytest.raises(ConfigError, match="no clip"):
        _ = ValueSample(3).values


# -- image networks ------------------------------------------------------------------------------


def image_net(**settings: Any) -> TimmAudioEncoder:
    kept = {"frontend": LogMel(bins=32), "backbone": "test_resnet", "size": (32, 64)} | settings
    return TimmAudioEncoder(**kept)


def test_short_clips_are_filled_and_of_long_ones_the_middle_is_heard() -> None:
    encoder = image_net(clip_s=1.024)  # 64 frames
    features = torch.arange(1.0, 129.0).expand(2, 1, 32, -1)
    mask = torch.zeros(2, 128, dtype=torch.bool)
    mask[0, 10:110] = True
    mask[1, 98:] = True
    image = crop_or_pad(features * mask[:, None, None], mask, encoder.frames)
    assert image.shape == (2, 1, 32, 64)
    assert image[0, 0, 0].tolist() == [i + 1 for i in range(28, 92)]
    assert image[1, 0, 0].tolist() == [i + 1 for i in range(98, 128)] + [0] * 34


def test_an_image_network_starts_from_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    other = create_backbone("test_resnet", channels=3, size=(32, 64))
    torch.save(other.state_dict(), path)
    encoder = image_net(frontend=TwoChannelSpectrogram(), pretrained=str(path))
    names = [n for n, v in other.state_dict().items() if v.ndim == 4 and not n.startswith("conv1")]
    assert len(names) > 5  # the first layers apart, which are adapted to two channels
    for name in names:
        assert torch.equal(encoder.backbone.state_dict()[name], other.state_dict()[name])


def test_a_bundle_asks_nobody_for_the_weights_that_training_began_with() -> None:
    spec = {
        "class_path": "avser.models.encoders.timm_audio.TimmAudioEncoder",
        "init_args": {
            "frontend": {"class_path": "avser.models.frontends.logmel.LogMel"},
            "backbone": "test_resnet",
            "pretrained": "/no/longer/there.pt",
        },
    }
    assert isinstance(build(spec, AudioEncoder), TimmAudioEncoder)


@pytest.mark.parametrize("settings", [{"clip_s": 0.001}, {"size": (0, 32)}])
def test_an_image_of_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"Bad (clip_s|size)"):
        image_net(**settings)


def test_a_gate_leaves_silence_out_of_the_answer_and_of_the_statistics() -> None:
    encoder = ENCODERS["crnn gated"]().eval()
    speech = torch.randn(1, 2 * STEP, generator=torch.manual_seed(0)) / 10
    quiet = torch.randn(1, STEP, generator=torch.manual_seed(1)) * 1e-4  # -80 dBFS
    lengths = torch.tensor([4 * STEP])
    with torch.no_grad():
        x, mask = encoder(torch.cat([quiet, speech, quiet], dim=1), lengths)
        other, _ = encoder(torch.cat([quiet / 10, speech, 0 * quiet], dim=1), lengths)
    assert mask.tolist() == [[False, True, True, False]]
    torch.testing.assert_close(x, other, atol=1e-5, rtol=0)  # windows reach over a step's edge


def test_an_image_of_a_clip_is_turned_scaled_and_lit_in_training_alone() -> None:
    encoder = image_net(trim_db=None)
    wave, length = 0.1 * torch.randn(2, STEP), torch.tensor([STEP, STEP])
    shown: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    encoder.train()(wave, length)
    none = ImageAugment(flip=0.0, scale=0.0, shift=0.0, rotation=0.0)
    encoder(wave, length, transforms=Transforms(audio_images=none))
    torch.testing.assert_close(shown[1], shown[0].clamp(-4, 4), atol=1e-5, rtol=1e-5)
    changes = ImageAugment(flip=0.0, scale=0.2, rotation=10.0, brightness=0.1)
    encoder(wave, length, transforms=Transforms(audio_images=changes))
    assert (shown[2] - shown[0]).abs().mean() > 0.05
    prepared = encoder.raw_features(wave, length)
    encoder.from_features(*prepared, transforms=Transforms(audio_images=changes))
    assert (shown[3] - shown[0]).abs().mean() > 0.05
    encoder.eval()(wave, length, transforms=Transforms(audio_images=changes))
    assert torch.equal(shown[4], shown[0])
