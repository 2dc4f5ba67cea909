import copy
from pathlib import Path

import pytest
import torch

from avser.bundle import serialization as bundle
from avser.errors import ConfigError
from avser.models.baselines.gaussian import NaiveBayes
from avser.models.baselines.head import BaselineHead
from avser.models.heads import LstmHead
from avser.models.net import EmotionNet
from avser.testing.nets import tiny_net, tiny_spec
from avser.training.transfer import (
    encoder_of,
    freeze_stream,
    refuse_known_recordings,
    refuse_known_speakers,
    start_from,
)
from avser.types import Clip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A voice model that was trained on speaker 01, its weights unlike those of `tiny_net`."""
    seen = bundle.Provenance(speakers=["ravdess/01"], licence="as its owner says")
    folder = tmp_path_factory.mktemp("models") / "voice"
    net = tiny_net()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1)
    return bundle.save(net, folder, spec=tiny_spec(), name="voice", provenance=seen)


def clip(speaker: str) -> Clip:
    return Clip(path=Path("x"), clip_id="x", emotion="sad", speaker=speaker, corpus="ravdess")


def test_a_stream_begins_with_a_models_encoder_and_head(model: Path) -> None:
    net, loaded = tiny_net(features=4), bundle.load(model).net
    video = [p.clone() for p in encoder_of(net, "video").parameters()]
    (known,) = start_from(net, {"audio": str(model)})
    assert known.speakers == ["ravdess/01"]
    for mine, other in ((net.audio, loaded.audio), (net.heads["audio"], loaded.heads["audio"])):
        assert mine is not None and other is not None
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    assert all(map(torch.equal, video, encoder_of(net, "video").parameters()))


def test_a_head_of_other_classes_is_trained_anew(model: Path) -> None:
    net = tiny_net(("happy", "sad", "angry", "calm"))
    before = [p.clone() for p in net.heads["audio"].parameters()]
    start_from(net, {"audio": str(model)})
    assert all(map(torch.equal, before, net.heads["audio"].parameters()))


def test_streams_that_do_not_fit_are_reported(model: Path) -> None:
    with pytest.raises(ConfigError, match="Bad stream 'sound'"):
        start_from(tiny_net(), {"sound": str(model)})
    with pytest.raises(ConfigError, match="no video encoder"):
        start_from(tiny_net(), {"video": str(model)})
    wide = tiny_net()
    wide.audio = torch.nn.Linear(3, 3)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="other settings"):
        start_from(wide, {"audio": str(model)})


def test_a_start_that_has_seen_the_test_speakers_is_refused() -> None:
    known = [bundle.Provenance(speakers=["ravdess/01", "ravdess/02"])]
    refuse_known_speakers(known, [clip("ravdess/03"), clip("")])
    with pytest.raises(ConfigError, match=r"ravdess/02, who is in the test part \(1"):
        refuse_known_speakers(known, [clip("ravdess/02"), clip("ravdess/03")])


def test_a_start_that_has_heard_the_test_recordings_is_refused() -> None:
    known = [bundle.Provenance(speakers=["ravdess/01"], digests=["0" * 16])]
    digests = {"ravdess/x": "1" * 32}
    refuse_known_recordings(
        known, [clip("ravdess/01")], digests
    )  # the speaker may be on both sides
    with pytest.raises(ConfigError, match=r"ravdess/x, which is in the test part \(1"):
        refuse_known_recordings(known, [clip("ravdess/03")], {"ravdess/x": "0" * 32})


def test_a_baseline_begins_with_the_models_scores(model: Path) -> None:
    loaded = bundle.load(model).net
    assert loaded.audio is not None
    heads = {name: type(loaded.heads["audio"])(hidden=8) for name in ("right", "other")}
    net = EmotionNet(
        audio=copy.deepcopy(loaded.audio),
        head=BaselineHead(baseline=NaiveBayes(), scores=heads["right"], unit="step"),
        emotions=loaded.emotions,
    )
    start_from(net, {"audio": str(model)})
    head = net.heads["audio"]
    assert isinstance(head, BaselineHead) and head.baseline.features == 3
    x, mask = torch.randn(2, 3, loaded.audio.dim), torch.ones(2, 3, dtype=torch.bool)
    vectors, _ = head.vectors(x, mask)
    with torch.no_grad():
        torch.testing.assert_close(vectors, loaded.heads["audio"](x, mask)[1].flatten(0, 1))
    wrong = EmotionNet(
        audio=copy.deepcopy(loaded.audio),
        head=BaselineHead(baseline=NaiveBayes(), scores=LstmHead()),
        emotions=loaded.emotions,
    )
    with pytest.raises(ConfigError, match="its head is not"):
        start_from(wrong, {"audio": str(model)})


def test_a_stream_that_is_held_still_does_not_learn_or_drop() -> None:
    net = tiny_net(features=4).train()
    freeze_stream(net, "audio", True)
    assert not any(p.requires_grad for p in encoder_of(net, "audio").parameters())
    assert not any(m.training for m in encoder_of(net, "audio").modules())
    assert not any(m.training for m in net.heads["audio"].modules())
    assert net.heads["fused"].training and encoder_of(net, "video").training
    freeze_stream(net, "audio", False)
    assert all(p.requires_grad for p in encoder_of(net, "audio").parameters())
    assert encoder_of(net, "audio").training
