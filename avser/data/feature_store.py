"""Outputs of frozen audio encoders, computed once for each clip and kept on disk.

Heads, fusions and baselines then train in seconds. A row's key is a hash of the clip's decoded
samples, the encoder's settings and weights, and the degradation's settings and index, so rows are
never used for another network. Each encoder has one SQLite file in the folder of prepared data;
several processes may fill it at once, and an interrupted preparation can be resumed.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avser.data.content import cache_folder
from avser.errors import CacheError
from avser.media.degradations import Degrade, Samples
from avser.models.devices import device_of
from avser.models.encoders.base import AudioEncoder
from avser.models.frontends.conditioning import has_sound

_SCHEMA = """CREATE TABLE IF NOT EXISTS features (
    key TEXT PRIMARY KEY, channels INTEGER NOT NULL, bins INTEGER NOT NULL, data BLOB NOT NULL,
    mask BLOB NOT NULL, checksum INTEGER NOT NULL)"""
_BATCH = 8  # clips of similar length that are encoded together


def fingerprint(encoder: AudioEncoder) -> str:
    """Hash of all that an encoder's raw features depend on: classes, settings and weights.

    Not included is what follows the features: the norm, a trained mix of layers, and, if the
    features are the front end's, the network.
    """
    after = ["normaliser"]
    if encoder.spectrogram_features:
        after = [name for name, _ in encoder.named_children() if name != "frontend"]
    digest = blake2b(digest_size=16)
    for name, module in encoder.named_modules():
        if name.split(".")[0] in after:
            continue
        plain = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, (str, int, float, tuple)) and key != "training"
        }
        digest.update(f"{name} {type(module).__qualname__} {sorted(plain.items())}".encode())
    for name, tensor in encoder.state_dict().items():
        if name.split(".")[0] not in (*after, "mix"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class ClipSound:
    """A clip to prepare.

    Attributes:
        name: of the clip, as batches give it.
        digest: hash of its decoded samples.
        read: returns its samples ``[S]``, full scale 1.
        speaker: babble is mixed from the speaker's other clips, and so from the same part of the
            split; "" for no babble.
        views: number of degraded views, in addition to the clip itself.
    """

    name: str
    digest: str
    read: Callable[[], Samples]
    speaker: str
    views: int


class FeatureStore:
    """Raw features of one encoder by key, in half precision.

    Args:
        encoder_hash: `fingerprint` of the encoder.
        folder: of prepared data; None is `avser.data.audio_cache.cache_folder`.

    Raises:
        CacheError: the folder can't be written.
    """

    def __init__(self, encoder_hash: str, *, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder()) / "features" / f"{encoder_hash}.sqlite"
        self._connection: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open().execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise self._bad(error) from error

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_connection": None}  # each process has a connection of its own

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self.path, timeout=60)
        return self._connection

    def _bad(self, error: Exception) -> CacheError:
        return CacheError(
            f"Bad prepared features {self.path}: {error}; delete the file, or set AVSER_CACHE to a "
            "folder that can be written."
        )

    def missing(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that have no row."""
        try:
            known = {key for (key,) in self._open().execute("SELECT key FROM features")}
        except sqlite3.Error as error:
            raise self._bad(error) from error
        return set(keys) - known

    def write(self, rows: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Write ``features [C, M, F]`` and ``mask [F]`` by key; existing rows are kept."""
        values = []
        for key, (features, mask) in rows.items():
            data = features.half().cpu().contiguous().numpy().tobytes()
            channels, bins, _ = features.shape
            values.append((key, channels, bins, data, mask.cpu().numpy().tobytes(), _sum(data)))
        try:
            with self._open() as connection:
                query = "INSERT OR IGNORE INTO features VALUES (?,?,?,?,?,?)"
                connection.executemany(query, values)
        except sqlite3.Error as error:
            raise self._bad(error) from error

    def read(self, key: str) -> tuple[Tensor, Tensor]:
        """Return ``features [C, M, F]`` float32 and ``mask [F]``.

        Raises:
            CacheError: the row is missing or damaged.
        """
        query = "SELECT channels, bins, data, mask, checksum FROM features WHERE key = ?"
        try:
            row = self._open().execute(query, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._bad(error) from error
        if row is None or _sum(row[2]) != row[4]:
            raise self._bad(ValueError(f"row {key} is missing or damaged"))
        channels, bins, data, mask, _ = row
        array = np.frombuffer(data, np.float16).reshape(channels, bins, -1).astype(np.float32)
        valid: NDArray[np.bool_] = np.frombuffer(mask, np.bool_).copy()
        return torch.from_numpy(array), torch.from_numpy(valid)


class ClipFeatures:
    """Prepared features of clips, by name and view; empty until `fill` is called.

    Loaders are created with it before the encoder is known.
    """

    def __init__(self) -> None:
        self._store: FeatureStore | None = None
        self._keys: Mapping[str, Sequence[str]] = {}

    def fill(self, store: FeatureStore, keys: Mapping[str, Sequence[str]]) -> None:
        """Set the store, and the keys of each clip and its views."""
        self._store, self._keys = store, keys

    @property
    def ready(self) -> bool:
        """Whether it was filled."""
        return self._store is not None

    def views(self, name: str) -> int:
        """Return the number of degraded views of a clip."""
        return len(self._keys[name]) - 1

    def read(self, name: str, view: int = 0) -> tuple[Tensor, Tensor]:
        """Return ``features [C, M, F]`` and ``mask [F]`` of a clip; view 0 is the clip itself."""
        if self._store is None:
            raise CacheError(f"Bad clip {name!r}: its features are not prepared yet.")
        return self._store.read(self._keys[name][view])


def _sum(data: bytes) -> int:
    return zlib.crc32(data)


def prepare_features(
    encoder: AudioEncoder,
    clips: Sequence[ClipSound],
    *,
    degrade: Degrade,
    into: ClipFeatures,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Compute the rows that are not in the store, and open it.

    Args:
        encoder: its raw features must be constant in training.
        clips: to prepare.
        degrade: computes the views; each depends on the clip and the view's index alone.
        into: is filled.
        folder: of prepared data.
        progress: called as ``(done, total)`` over the computed rows.

    Returns:
        Number of computed rows.

    Raises:
        CacheError: the store can't be read or written.
    """
    store = FeatureStore(fingerprint(encoder), folder=folder)
    voices: dict[str, list[ClipSound]] = {}
    for clip in clips:
        if clip.speaker:
            voices.setdefault(clip.speaker, []).append(clip)
    speakers = {name: _digest(*sorted(c.digest for c in own)) for name, own in voices.items()}

    def key(clip: ClipSound, view: int) -> str:
        if not view:
            return _digest(clip.digest)
        return _digest(clip.digest, view, degrade.settings, speakers.get(clip.speaker, ""))

    keys = {clip.name: [key(clip, view) for view in range(clip.views + 1)] for clip in clips}
    lost = store.missing([k for own in keys.values() for k in own])
    todo = [(c, v, k) for c in clips for v, k in enumerate(keys[c.name]) if k in lost]
    done = 0
    for rows in _computed(encoder, todo, voices, degrade):
        store.write(rows)
        done += len(rows)
        if progress is not None:
            progress(done, len(todo))
    into.fill(store, keys)
    return len(todo)


def _computed(
    encoder: AudioEncoder,
    todo: Sequence[tuple[ClipSound, int, str]],
    voices: Mapping[str, Sequence[ClipSound]],
    degrade: Degrade,
) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Features by key, some rows at a time."""
    was, home = encoder.training, device_of(encoder)
    encoder.eval()
    try:
        for first in range(0, len(todo), 8 * _BATCH):  # sorted by length in runs: pads little
            made = []
            for clip, view, key in todo[first : first + 8 * _BATCH]:
                samples = clip.read()
                if view:
                    others = [c for c in voices.get(clip.speaker, ()) if c.digest != clip.digest]
                    seed = int(_digest(clip.digest, view)[:16], 16)
                    rng = np.random.default_rng(seed)
                    pool = rng.choice(len(others), min(5, len(others)), replace=False)
                    samples = degrade(samples, rng, [others[i].read() for i in pool])
                made.append((key, torch.from_numpy(samples)))
            made.sort(key=lambda row: len(row[1]))
            for begin in range(0, len(made), _BATCH):
                yield _encoded(encoder, made[begin : begin + _BATCH], home)
    finally:
        encoder.train(was)


@torch.inference_mode()
def _encoded(
    encoder: AudioEncoder, rows: Sequence[tuple[str, Tensor]], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    lengths = torch.tensor([len(samples) for _, samples in rows])
    waveform = torch.zeros(len(rows), max(1, int(lengths.max())))
    for row, (_, samples) in zip(waveform, rows, strict=True):
        row[: len(samples)] = samples
    waveform, lengths = waveform.to(device), lengths.to(device)
    raw, mask = encoder.raw_features(waveform, lengths)
    mask = mask & has_sound(waveform, lengths)[:, None]
    result = {}
    for place, (key, samples) in enumerate(rows):
        frames = encoder.frame_count(len(samples))
        result[key] = raw[place, ..., :frames], mask[place, :frames]
    return result


def _digest(*words: object) -> str:
    return blake2b(" ".join(map(str, words)).encode(), digest_size=16).hexdigest()
