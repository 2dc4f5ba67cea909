"""Prepared features: computed once, the same as computed anew, and of no other network."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.data.feature_store import ClipFeatures, ClipSound, fingerprint, prepare_features
from avser.errors import CacheError
from avser.media.degradations import Degrade, Samples
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.encoders.whisper import WhisperEncoder
from avser.models.frontends.logmel import LogMel


def encoder(seed: int = 0, **settings: object) -> WhisperEncoder:
    torch.manual_seed(seed)
    return WhisperEncoder(**{"size": "mini", "join": (1, 2), **settings})  # type: ignore[arg-type]


def noise(seed: int, length: int) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def clips(views: int = 0) -> list[ClipSound]:
    lengths = (20_000, 9_000, 31_000, 700)
    return [
        ClipSound(f"c/{i}", f"digest{i}", lambda i=i, n=n: noise(i, n), f"c/{i // 2}", views)  # type: ignore[misc]
        for i, n in enumerate(lengths)
    ]


def test_what_is_prepared_is_what_the_encoder_gives(tmp_path: Path) -> None:
    made, result = encoder().train(), ClipFeatures()
    assert not result.ready
    count = prepare_features(made, clips(), degrade=Degrade(), into=result, folder=tmp_path)
    assert count == 4 and result.ready and made.training
    for clip in clips():
        samples = torch.from_numpy(clip.read())[None]
        with torch.no_grad():
            raw, mask = made.eval().raw_features(samples, torch.tensor([samples.shape[1]]))
        features, valid = result.read(clip.name)
        assert valid.tolist() == mask[0].tolist()
        torch.testing.assert_close(features, raw[0], atol=2e-3, rtol=2e-3)


def test_nothing_is_computed_twice_and_nothing_taken_from_another_network(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def prepare(made: WhisperEncoder, views: int, degrade: Degrade | None = None) -> int:
        return prepare_features(
            made,
            clips(views),
            degrade=degrade or Degrade(),
            into=ClipFeatures(),
            folder=tmp_path,
            progress=lambda *at: done.append(at),
        )

    assert prepare(encoder(), 1) == 8 and done[-1] == (8, 8)
    assert prepare(encoder(), 1) == 0
    assert prepare(encoder(), 2) == 4
    assert prepare(encoder(), 1, Degrade(room=0.9)) == 4  # the clips themselves are known
    assert prepare(encoder(1), 0) == 4
    assert prepare(encoder(conditioning="mean"), 0) == 4
    assert prepare(encoder(normalise="none"), 0) == 0  # the norm comes later
    assert len(list((tmp_path / "features").iterdir())) == 3


def test_views_follow_from_the_clip_and_their_number(tmp_path: Path) -> None:
    kept = []
    for folder, order in (("a", clips(2)), ("b", clips(2)[::-1])):
        result = ClipFeatures()
        loud = Degrade(noise=1.0, room=1.0, snr_db=(0.0, 5.0))
        prepare_features(encoder(), order, degrade=loud, into=result, folder=tmp_path / folder)
        kept.append([result.read(c.name, v)[0] for c in clips(2) for v in range(3)])
        assert result.views("c/0") == 2
    for one, other in zip(*kept, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
    first = kept[0][:3]
    assert not torch.allclose(first[0], first[1], atol=1e-2)
    assert not torch.allclose(first[1], first[2], atol=1e-2)


def test_silence_has_no_valid_step(tmp_path: Path) -> None:
    silent = ClipSound("c/0", "zeros", lambda: np.zeros(20_000, dtype=np.float32), "", 0)
    result = ClipFeatures()
    prepare_features(encoder(), [silent], degrade=Degrade(), into=result, folder=tmp_path)
    assert not result.read("c/0")[1].any()


def test_a_damaged_row_is_refused(tmp_path: Path) -> None:
    result = ClipFeatures()
    with pytest.raises(CacheError, match="not prepared yet"):
        result.read("c/0")
    prepare_features(encoder(), clips(), degrade=Degrade(), into=result, folder=tmp_path)
    with sqlite3.connect(next((tmp_path / "features").iterdir())) as file:
        file.execute("UPDATE features SET checksum = 0")
    with pytest.raises(CacheError, match="missing or damaged; delete the file"):
        result.read("c/0")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CacheError, match="set AVSER_CACHE"):
        prepare_features(encoder(), clips(), degrade=Degrade(), into=result, folder=blocked)


def test_a_fingerprint_is_of_settings_and_weights() -> None:
    own = fingerprint(encoder())
    assert own == fingerprint(encoder()) == fingerprint(encoder(normalise="speaker"))
    others = [encoder(3), encoder(join=(0, 1)), encoder(join=(1,), layers=1)]
    assert len({own, *map(fingerprint, others)}) == 4


def test_only_what_makes_the_features_is_in_the_fingerprint() -> None:
    def crnn(bins: int, hidden: int) -> CrnnEncoder:
        frontend = LogMel(bins=bins, window=512, hop=512, n_fft=512)
        return CrnnEncoder(frontend=frontend, channels=(4,), pools=((2, 2),), hidden=hidden)

    first = fingerprint(crnn(16, 8))
    assert fingerprint(crnn(16, 8)) == first  # its random weights come after the spectrogram
    assert fingerprint(crnn(32, 8)) != first
