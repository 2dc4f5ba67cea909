"""Whisper's encoder: arithmetic against transformers, freezing, weights, long clips."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.errors import ConfigError
from avser.models.encoders import whisper
from avser.models.encoders.whisper import PIECE_STEPS, WhisperEncoder, WhisperNetwork, load_whisper
from avser.models.frontends.whisper_mel import WhisperMel
from avser.models.heads import AttentiveHead, LinearHead
from avser.models.net import EmotionNet
from avser.models.transforms import Transforms
from avser.training.task import EmotionTask
from avser.types import audio_batch

STEP = 8192


def sound(*lengths: int) -> tuple[Tensor, Tensor]:
    """Noise that is louder and quieter, ``[B, S]``, and lengths."""
    index = torch.arange(max(lengths))
    wave = torch.randn(len(lengths), max(lengths), generator=torch.manual_seed(0))
    wave = wave * (0.02 + 0.2 * (index / 3000).sin().square())
    size = torch.tensor(lengths)
    return wave * (index < size[:, None]), size


def reference(frames: int, **settings: int) -> Any:
    """An encoder of transformers with random weights, for clips of so many log-mel frames."""
    transformers = pytest.importorskip("transformers", reason="needs avser[ssl]")
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        max_source_positions=frames // 2,
    )
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    made: Any = Theirs(config)
    return made.eval()


def outputs(model: Any, mel: Tensor) -> list[Tensor]:
    """Outputs of the convolutions with positions, and of each layer, of transformers' encoder."""
    kept: list[Tensor] = []
    hooks = [model.layers[0].register_forward_pre_hook(lambda _, args: kept.append(args[0]))]
    for layer in model.layers:
        hooks.append(
            layer.register_forward_hook(
                lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out)
            )
        )
    with torch.no_grad():
        model(mel)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize("frames", [100, 101 + 101])
def test_layers_are_those_of_transformers(frames: int, tmp_path: Path) -> None:
    theirs = reference(frames)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    network = WhisperNetwork(width=16, heads=2, layers=2).eval()
    load_whisper(network, str(tmp_path), size="mini")
    mel = torch.randn(1, 80, frames)
    with torch.no_grad():
        states, mask = network(mel, torch.ones(1, frames, dtype=torch.bool), frozen=3)
    assert mask.all() and mask.shape == (1, frames // 2)
    for ours, other in zip(states, outputs(theirs, mel), strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)


def test_padding_does_not_enter_the_network() -> None:
    network = WhisperNetwork(width=16, heads=2, layers=2).eval()
    mel, mask = torch.randn(2, 80, 60), torch.ones(2, 60, dtype=torch.bool)
    mask[1, 37:] = False
    with torch.no_grad():
        together, valid = network(mel * mask[:, None], mask, frozen=0)
        alone, _ = network(mel[1:, :, :37], mask[1:, :37], frozen=0)
    assert valid.sum(dim=1).tolist() == [30, 19]
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1, :19], one[0], atol=1e-5, rtol=1e-4)


def test_log_mel_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="needs avser[ssl]")
    extractor = transformers.WhisperFeatureExtractor()
    wave, lengths = sound(20_000, 31_777)
    frames = torch.arange(-(-2 * 16_384 // 160))
    mask = (frames + 1) * 160 <= lengths[:, None]
    padded = torch.nn.functional.pad(wave, (0, 2 * 16_384 - wave.shape[1]))
    ours = WhisperMel().forward_masked(padded, mask)
    assert ours.shape == (2, 1, 80, 205)
    for row, length in enumerate(lengths.tolist()):
        clip = wave[row, :length].numpy()
        theirs = extractor(clip, sampling_rate=16_000, return_tensors="pt").input_features[0]
        count = length // 160
        torch.testing.assert_close(ours[row, 0, :, :count], theirs[:, :count], atol=1e-4, rtol=0)
        assert not ours[row, ..., count:].any()


def test_steps_hold_mean_and_deviation_of_their_frames() -> None:
    encoder = WhisperEncoder(size="mini", join=(1, 2), normalise="none", conditioning="mean").eval()
    wave, lengths = sound(3 * STEP - 1000)
    x, mask = encoder(wave, lengths)
    assert x.shape == (1, 3, encoder.dim) and encoder.dim == 64 and mask.all()
    frames = int(lengths[0]) // 160
    wave = wave - wave.mean()
    mel = WhisperMel().forward_masked(wave, torch.ones(1, frames, dtype=torch.bool))[..., :frames]
    states, _ = encoder.network(mel[:, 0], torch.ones(1, frames, dtype=torch.bool), frozen=3)
    begin = torch.arange(states[0].shape[1]) * 320
    for step in range(3):
        own = (begin >= step * STEP) & (begin < (step + 1) * STEP)
        expected = []
        for state in states[1:]:
            frames_of_step = state[0, own]
            expected += [frames_of_step.mean(dim=0), frames_of_step.std(dim=0, correction=0)]
        torch.testing.assert_close(x[0, step], torch.cat(expected), atol=1e-3, rtol=1e-3)


def test_a_long_clip_is_cut_into_pieces_that_do_not_see_each_other() -> None:
    encoder = WhisperEncoder(size="mini", join=(2,), conditioning="mean").eval()
    wave, lengths = sound((PIECE_STEPS + 3) * STEP, 5 * STEP + 777)
    for piece in wave[0].split(PIECE_STEPS * STEP):
        piece -= piece.mean()  # conditioning is of the whole clip
    x, mask = encoder(wave, lengths)
    assert x.shape[1] == PIECE_STEPS + 3 and mask.sum(dim=1).tolist() == [PIECE_STEPS + 3, 6]
    first, _ = encoder(wave[:1, : PIECE_STEPS * STEP], torch.tensor([PIECE_STEPS * STEP]))
    second, _ = encoder(wave[:1, PIECE_STEPS * STEP :], torch.tensor([3 * STEP]))
    torch.testing.assert_close(x[0], torch.cat([first[0], second[0]]), atol=1e-5, rtol=1e-4)
    short, _ = encoder(wave[1:, : 5 * STEP + 777], lengths[1:])
    torch.testing.assert_close(x[1, :6], short[0], atol=1e-5, rtol=1e-4)
    assert not x[1, 6:].any()


@pytest.mark.parametrize(
    ("tune", "learning"),
    [("none", set()), (1, {"layers.1"}), (2, {"layers.0", "layers.1"})],
)
def test_frozen_blocks_have_no_gradients_and_are_stored_in_half(
    tune: Any,
    learning: set[str],
) -> None:
    encoder = WhisperEncoder(size="mini", join=(0, 1, 2), tune=tune).train()
    wave, lengths = sound(2 * STEP, STEP)
    x = encoder(wave, lengths)[0]
    assert x.requires_grad == bool(learning)
    if learning:
        x.square().sum().backward()
    for name, parameter in encoder.network.named_parameters():
        trained = name.startswith(tuple(learning)) if learning else False
        assert (parameter.grad is not None) == trained == parameter.requires_grad, name
        stored = encoder.state_dict()[f"network.{name}"].dtype
        assert stored == (torch.float32 if trained else torch.float16)
        assert parameter.dtype == torch.float32
    assert encoder.constant_features == (tune == "none")
    frozen = encoder.network.blocks[: encoder.frozen]
    owners = [m for block in frozen for m in block.modules() if list(m.parameters(recurse=False))]
    assert owners and not any(module.training for module in owners)
    again = WhisperEncoder(size="mini", join=(0, 1, 2), tune=tune)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(wave, lengths)[0], encoder.eval()(wave, lengths)[0])


def test_lower_layers_learn_more_slowly() -> None:
    encoder = WhisperEncoder(size="mini", tune="all", join=(2,), layer_decay=0.5)
    task = EmotionTask(
        audio=encoder,
        head=LinearHead(),
        emotions=("a", "b"),
        lr=0.1,
        lr_scale={"audio": 0.1},
    )
    groups = task.new_optimizer().param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    network = encoder.network
    assert rate[id(network.conv1.weight)] == pytest.approx(0.0025)
    assert rate[id(network.layers[0].get_parameter("fc1.bias"))] == pytest.approx(0.005)
    assert rate[id(network.layers[1].get_parameter("fc1.weight"))] == pytest.approx(0.01)
    assert rate[id(task.net.heads["audio"].get_parameter("step.weight"))] == pytest.approx(0.1)


def test_vectors_are_standardised_by_the_training_part_or_the_speaker() -> None:
    encoder = WhisperEncoder(size="mini", join=(1, 2), normalise="speaker").eval()
    wave, lengths = sound(4 * STEP, 3 * STEP, 4 * STEP)
    encoder.fit_statistics([audio_batch(wave, lengths)])
    x, mask = encoder(wave, lengths)
    torch.testing.assert_close(x[mask].mean(dim=0), torch.zeros(64), atol=1e-3, rtol=0)
    assert 0.5 < float(x[mask].std(dim=0).median()) < 1.2
    own = encoder.reference([(wave[:1], lengths[:1])])
    unknown = torch.full_like(own, torch.nan)
    y, _ = encoder(wave[:2], lengths[:2], torch.stack([own, unknown]))
    torch.testing.assert_close(y[0].mean(dim=0), torch.zeros(64), atol=1e-3, rtol=0)
    torch.testing.assert_close(y[1], x[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_a_bundle_holds_its_weights_and_needs_no_others(tmp_path: Path, half: bool) -> None:
    save_file(reference(100).state_dict(), tmp_path / "model.safetensors")
    encoder = WhisperEncoder(size="mini", layers=1, join=(1,), pretrained=str(tmp_path))
    net = EmotionNet(audio=encoder, head=AttentiveHead(hidden=8), emotions=("a", "b")).eval()
    settings = {"size": "mini", "layers": 1, "join": [1], "pretrained": str(tmp_path)}
    spec = {
        "audio": {
            "class_path": "avser.models.encoders.whisper.WhisperEncoder",
            "init_args": settings,
        },
        "head": {"class_path": "avser.models.heads.AttentiveHead", "init_args": {"hidden": 8}},
    }
    folder = bundle.save(
        net, tmp_path / "bundle", spec=spec, name="w", provenance=bundle.Provenance(), half=half
    )
    (tmp_path / "model.safetensors").unlink()
    loaded = bundle.load(folder).net
    stored = load_file(next(folder.glob("*.safetensors")))
    frozen = {k: v for k, v in stored.items() if k.startswith("audio.network.")}
    assert frozen and {v.dtype for v in frozen.values()} == {torch.float16}
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, parameter in loaded.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, net.get_parameter(name)), name
    wave, lengths = sound(2 * STEP)
    branch, other = net.audio_branch(), loaded.audio_branch()
    with torch.no_grad():
        expected, got = branch(wave, lengths)[0], other(wave, lengths)[0]
    torch.testing.assert_close(got, expected, atol=2e-3 if half else 0, rtol=0)


def test_weights_of_a_whole_recogniser_are_read_too(tmp_path: Path) -> None:
    theirs = reference(100).state_dict()
    whole = {f"model.encoder.{k}": v for k, v in theirs.items()}
    save_file({**whole, "model.decoder.x": torch.zeros(3)}, tmp_path / "model.safetensors")
    network = WhisperNetwork(width=16, heads=2, layers=1)
    load_whisper(network, str(tmp_path), size="mini")
    for name, value in network.state_dict().items():
        assert torch.equal(value, theirs[name])


def test_wrong_weights_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper, "connected", lambda: False)
    with pytest.raises(ConfigError, match=r"connect to the internet once, .* or set it to null\.$"):
        WhisperEncoder(pretrained="nobody/no-such-weights")
    with pytest.raises(ConfigError, match=r"holds no model\.safetensors"):
        WhisperEncoder(pretrained=str(tmp_path))
    save_file(reference(100).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"have width 16; set size to mini\.$"):
        WhisperEncoder(size="tiny", layers=2, join=(2,), pretrained=str(tmp_path))
    with pytest.raises(ConfigError, match=r"lacks 30 tensors of Whisper tiny"):
        WhisperEncoder(size="tiny", layers=4, pretrained=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="is damaged"):
        WhisperEncoder(size="mini", join=(2,), pretrained=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 3}, "Bad layers 3: Whisper mini has 1 to 2"),
        ({"join": (2, 3)}, r"Bad join \[2, 3\]: .* to 2, or weighted"),
        ({"join": ()}, "Bad join"),
        ({"join": (1, 1)}, "Bad join"),
        ({"join": (1,), "tune": 3}, "Bad tune 3: legal is none, all, or 1 to 2"),
        ({"join": (1,), "layer_decay": 0.0}, "Bad layer_decay 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WhisperEncoder(size="mini", **settings)


def test_spectrogram_augmentation_is_of_frames_and_in_training_alone() -> None:
    encoder = WhisperEncoder(size="mini", join=(1,), normalise="none")
    shapes: list[tuple[int, ...]] = []

    def augment(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        shapes.append(tuple(features.shape))
        return features * 0, mask

    transforms = Transforms(spectrogram=augment)
    wave, lengths = sound(2 * STEP)
    plain = encoder.eval()(wave, lengths, transforms=transforms)[0]
    assert shapes == []
    changed = encoder.train()(wave, lengths, transforms=transforms)[0]
    assert shapes == [(1, 1, 80, 103)] and not torch.allclose(plain, changed)
