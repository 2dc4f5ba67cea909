import sys
from pathlib import Path

import pytest
import torch

from avser.errors import ConfigError
from avser.models.encoders.ssl import SslEncoder
from avser.models.frontends.samples import RawWaveform

pytest.importorskip("transformers", reason="needs avser[ssl]")
STEP = 8192


def test_samples_are_a_front_end() -> None:
    wave = torch.randn(2, 2 * STEP)
    features = RawWaveform(hop=320)(wave)
    assert features.shape == (2, 1, 320, 52)
    flat = features[:, 0].transpose(1, 2).reshape(2, -1)
    assert torch.equal(flat[:, : 2 * STEP], wave) and not flat[:, 2 * STEP :].any()


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
def test_it_is_the_librarys_network_on_each_clip_alone(kind: str) -> None:
    encoder = SslEncoder(kind=kind, size="tiny", span="clip", trim_db=None).eval()
    wave = 0.1 * torch.randn(1, 320 * 50)
    x, mask = encoder(wave, torch.tensor([320 * 50]))
    assert mask.tolist() == [[True, True]]
    received = wave - wave.mean()  # conditioning
    if kind != "wavlm":  # whose base size was trained on samples as they are
        received = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
    padded = torch.nn.functional.pad(received, (40, 40))  # the last frame has 400 samples
    states = encoder.model(padded, output_hidden_states=True).hidden_states
    assert states[0].shape[1] == 50
    expected = torch.stack(states).mean(dim=0).mean(dim=1)
    torch.testing.assert_close(x[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_the_layers_weights_are_learnt() -> None:
    encoder = SslEncoder(kind="hubert", size="tiny")
    wave, length = 0.1 * torch.randn(2, 2 * STEP), torch.tensor([2 * STEP, STEP])
    first = encoder(wave, length)[0]
    encoder.mix.data[-1] = 9.0  # nearly all of the last layer
    assert not torch.allclose(encoder(wave, length)[0], first, atol=1e-3)
    encoder(wave, length)[0].square().sum().backward()
    learns = [n for n, p in encoder.named_parameters() if p.grad is not None]
    assert learns == ["mix"]


def test_a_frozen_one_has_no_dropout_and_a_tuned_one_learns() -> None:
    wave, length = 0.1 * torch.randn(1, STEP), torch.tensor([STEP])
    frozen = SslEncoder(size="tiny").train()
    assert torch.equal(frozen(wave, length)[0], frozen(wave, length)[0])
    tuned = SslEncoder(size="tiny", tune=True).train()
    assert not torch.equal(tuned(wave, length)[0], tuned(wave, length)[0])


def test_weights_come_from_a_local_folder(tmp_path: Path) -> None:
    other = SslEncoder(kind="wavlm", size="tiny").model
    other.save_pretrained(tmp_path / "own")
    result = SslEncoder(kind="wavlm", size="tiny", pretrained=str(tmp_path / "own")).model
    theirs = other.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in result.state_dict().items())
    with pytest.raises(ConfigError, match=r"do not fit|lacks"):
        SslEncoder(kind="wavlm", size="base", pretrained=str(tmp_path / "own"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        SslEncoder(size="tiny", pretrained=str(tmp_path / "none"))


def test_what_can_not_be_had_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avser.models.encoders.ssl.connected", lambda: False)
    with pytest.raises(ConfigError, match=r"name a local folder, or set it to false\.$"):
        SslEncoder(pretrained=True)
    with pytest.raises(ConfigError, match="no weights of size tiny"):
        SslEncoder(size="tiny", pretrained=True)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"install avser\[ssl\]"):
        SslEncoder()
