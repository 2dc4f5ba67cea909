"""Partition of clips among clients."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avser.data.splits import clip_name
from avser.errors import ConfigError
from avser.federated.settings import FederatedSettings
from avser.types import Clip


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client.

    Attributes:
        name: of the speaker, or ``client-007``.
        train: training clips.
        holdout: clips held out for evaluation.
        streams: of its clips: "audio", "video".
        attack: "label_flip" or "scaled" for a malicious client of an experiment; "" is honest.
    """

    name: str
    train: tuple[Clip, ...]
    holdout: tuple[Clip, ...] = ()
    streams: tuple[str, ...] = ("audio",)
    attack: str = ""


def make_clients(
    clips: Sequence[Clip], settings: FederatedSettings, *, streams: Sequence[str] = ("audio",)
) -> list[Client]:
    """Partition clips among clients, and split off their holdouts.

    Args:
        clips: that may be trained on.
        settings: number, partition, holdout, malicious clients, clients without video.
        streams: of the clips.

    Raises:
        ConfigError: there are too few clips or speakers for so many clients.
    """
    shares = _shares(sorted(clips, key=clip_name), settings)
    kind, bad = settings.attackers
    if bad + settings.audio_only > len(shares) or bad >= len(shares):
        raise ConfigError(
            f"Bad number of special clients {bad + settings.audio_only}: there are {len(shares)}."
        )
    clients = []
    for index, (name, rows) in enumerate(sorted(shares.items())):
        train, holdout = split_holdout(rows, share=settings.holdout_share, seed=settings.seed)
        if not train:
            raise ConfigError(f"Bad clients: {name} has no clip to train on; take fewer clients.")
        poor = len(shares) - settings.audio_only <= index
        clients.append(
            Client(
                name=name,
                train=tuple(train),
                holdout=tuple(holdout),
                streams=("audio",) if poor else tuple(streams),
                attack=kind if index < bad else "",
            )
        )
    return clients


def _shares(clips: Sequence[Clip], settings: FederatedSettings) -> dict[str, list[Clip]]:
    if not clips:
        raise ConfigError("Bad clients: there are no training clips.")
    rng = np.random.default_rng(settings.seed)
    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_speaker[clip.speaker].append(clip)
    if settings.clients == "speaker":
        if settings.partition != "speaker":
            raise ConfigError(
                f"Bad pair --clients speaker and --partition {settings.partition}: clients are "
                "the speakers then; give a number of clients."
            )
        if "" in by_speaker:
            raise ConfigError("Bad clients speaker: some speakers are unknown; give a number.")
        return dict(by_speaker)
    count = int(settings.clients)
    if count > len(clips):
        raise ConfigError(f"Bad clients {count}: there are {len(clips)} clips; take fewer.")
    if settings.partition == "speaker":
        parts = _by_speaker(by_speaker, count, rng)
    elif settings.partition == "iid":
        order = rng.permutation(len(clips))
        parts = [[clips[i] for i in part] for part in np.array_split(order, count)]
    elif settings.partition == "balanced":
        parts = _balanced(clips, count, rng)
    else:
        parts = _dirichlet(clips, count, float(settings.dirichlet or 1.0), rng)
    return {f"client-{i:03d}": part for i, part in enumerate(parts)}


def _by_speaker(
    by_speaker: dict[str, list[Clip]], count: int, rng: np.random.Generator
) -> list[list[Clip]]:
    """Whole speakers for each client, or each speaker's clips for several clients."""
    names = [str(n) for n in rng.permutation(sorted(by_speaker))]
    if count <= len(names):
        groups = np.array_split(np.array(names), count)
        return [[c for n in group for c in by_speaker[str(n)]] for group in groups]
    parts: list[list[Clip]] = []
    for index, name in enumerate(names):
        mine = count // len(names) + (index < count % len(names))
        order = rng.permutation(len(by_speaker[name]))
        parts += [[by_speaker[name][i] for i in part] for part in np.array_split(order, mine)]
    return parts


def _classes(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    classes: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        classes[str(clip.emotion)].append(clip)
    return {name: classes[name] for name in sorted(classes)}


def _balanced(clips: Sequence[Clip], count: int, rng: np.random.Generator) -> list[list[Clip]]:
    """Equal numbers of clips of each emotion for all clients; the rest is left out."""
    classes = _classes(clips)
    each = min(len(rows) for rows in classes.values()) // count
    if not each:
        least = min(classes, key=lambda name: len(classes[name]))
        raise ConfigError(
            f"Bad clients {count} of partition balanced: there are {len(classes[least])} clips of "
            f"{least}; take at most as many clients."
        )
    parts: list[list[Clip]] = [[] for _ in range(count)]
    for rows in classes.values():
        order = rng.permutation(len(rows))
        for i, part in enumerate(parts):
            part += [rows[j] for j in order[i * each : (i + 1) * each]]
    return parts


def _dirichlet(
    clips: Sequence[Clip], count: int, alpha: float, rng: np.random.Generator
) -> list[list[Clip]]:
    """Assign each emotion's clips by a Dirichlet draw (Hsu et al. 2019), 2 or more a client."""
    parts: list[list[Clip]] = [[] for _ in range(count)]
    for rows in _classes(clips).values():
        shares = rng.dirichlet(np.full(count, alpha))
        owners = rng.choice(count, size=len(rows), p=shares)
        for clip, owner in zip(rows, owners, strict=True):
            parts[int(owner)].append(clip)
    for part in parts:
        while len(part) < 2:  # one to train on, one for the holdout
            richest = max(parts, key=len)
            part.append(richest.pop(int(rng.integers(len(richest)))))
    return parts


def split_holdout(
    clips: Sequence[Clip], *, share: float, seed: int
) -> tuple[list[Clip], list[Clip]]:
    """Split clips into training and holdout; see `split_holdout_rows`."""
    rows = sorted(clips, key=clip_name)
    train, holdout = split_holdout_rows([str(c.emotion) for c in rows], share=share, seed=seed)
    return [rows[i] for i in train], [rows[i] for i in holdout]


def split_holdout_rows(
    classes: Sequence[str], *, share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split rows class by class; a class with fewer than 4 rows is all training.

    Returns:
        Indices of training and of holdout rows.
    """
    rng = np.random.default_rng(seed)
    holdout: set[int] = set()
    for name in sorted(set(classes)):
        mine = [i for i, c in enumerate(classes) if c == name]
        count = max(1, round(share * len(mine))) if share and len(mine) >= 4 else 0
        holdout |= {mine[j] for j in rng.permutation(len(mine))[:count].tolist()}
    return [i for i in range(len(classes)) if i not in holdout], sorted(holdout)
