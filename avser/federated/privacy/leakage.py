"""Leakage audit: an attack that infers a speaker's sex from updates.

The attacker is trained on all rounds' updates of speakers whose sex is known. It is tested on pairs
of an unseen woman and an unseen man, none of whose updates is in its training. Leaving out a pair
keeps the sexes balanced; with a single speaker left out, the imbalance would reveal the sex.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.evaluation.numbers import format_figure
from avser.federated.server.run_store import RunStore
from avser.federated.settings import FederatedSettings

CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class LeakageResult:
    """Accuracy of the attack.

    Attributes:
        accuracy: share of the pairs in which the woman is ranked over the man; chance is one half.
        low, high: 95 % interval by speaker.
        by_update: the same for pairs of single updates.
        speakers, updates: their numbers.
        view: what the attacker observes.
    """

    accuracy: float
    low: float
    high: float
    by_update: float
    speakers: int
    updates: int
    view: str

    def describe(self) -> str:
        """Summarise in one line."""
        interval = {"value": self.accuracy, "low": self.low, "high": self.high}
        return (
            f"sex from updates, pairs of unseen speakers: {format_figure(interval)} "
            f"(chance {format_figure(CHANCE)}), single updates {format_figure(self.by_update)}; "
            f"{self.speakers} speakers, {self.updates} updates, {self.view}"
        )


def audit_run(folder: Path, *, seed: int = 0) -> list[LeakageResult]:
    """Audit the updates that the server receives and, with differential privacy, noisy ones.

    The server adds the noise to the sum and receives updates without. The second row assumes that
    each client had added the whole noise to its own update.

    Raises:
        ConfigError: see `audit_leakage`.
    """
    dp = _dp_of(folder)
    if dp is None:
        return [audit_leakage(folder, seed=seed)]
    before = audit_leakage(folder, view="clipped, as the server receives them", seed=seed)
    noise, clip = dp
    view = f"with the run's noise ({noise:g} times the clip {clip:g}) on each"
    return [before, audit_leakage(folder, noise=noise * clip, view=view, seed=seed)]


def audit_leakage(
    folder: Path, *, noise: float = 0.0, view: str = "as the server receives them", seed: int = 0
) -> LeakageResult:
    """Train and test the attacker on a run with saved updates.

    Every update is compared with the mean of its round, scaled to norm 1, and classified by
    a linear support vector machine; a speaker's score is the mean over the updates.

    Args:
        folder: of the run.
        noise: deviation of Gaussian noise that is added to every update first.
        view: what the attacker observes, in words.
        seed: of noise and interval.

    Raises:
        ConfigError: the run has no saved updates, or its clients are not speakers of both sexes.
    """
    sexes = _sexes(folder)
    rounds, speakers, rows = _updates(folder, sexes)
    rng = np.random.default_rng(seed)
    if noise:
        rows = [r + rng.normal(scale=noise, size=r.shape).astype(np.float32) for r in rows]
    names = np.array(speakers)
    kernel = _kernel(rounds, rows)
    women, men = ([p for p in sorted(set(speakers)) if sexes[p] == k] for k in ("female", "male"))
    labels = np.isin(names, women)
    accuracies = np.array(
        [[_pair_accuracy(kernel, labels, names, w, m) for m in men] for w in women]
    )
    whole, single = accuracies[..., 0], accuracies[..., 1]
    drawn = [
        whole[np.ix_(rng.choice(len(women), len(women)), rng.choice(len(men), len(men)))].mean()
        for _ in range(1000)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return LeakageResult(
        accuracy=float(whole.mean()),
        low=float(low),
        high=float(high),
        by_update=float(single.mean()),
        speakers=len(women) + len(men),
        updates=len(rows),
        view=view,
    )


def _sexes(folder: Path) -> dict[str, str]:
    try:
        clients: Mapping[str, Any] = json.loads((folder / "clients.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Bad run folder {folder}: it is not of a simulation.") from error
    sexes = {n: c["sexes"][0] for n, c in clients.items() if len(c["sexes"]) == 1}
    if set(sexes.values()) != {"female", "male"} or len(sexes) < 4:
        raise ConfigError(
            f"Bad run folder {folder}: its clients are no speakers of both sexes, 4 or more; "
            "simulate with --clients speaker on a corpus that states the sex."
        )
    return sexes


def _updates(
    folder: Path, sexes: Mapping[str, str]
) -> tuple[list[int], list[str], list[NDArray[np.float32]]]:
    rounds: list[int] = []
    speakers: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for number, client, arrays in RunStore(folder).updates():
        name = client.split("@")[0]
        if name in sexes:
            rounds.append(number)
            speakers.append(name)
            rows.append(np.concatenate([arrays[n].ravel() for n in sorted(arrays)]))
    if not rows:
        raise ConfigError(
            f"Bad run folder {folder}: it has no saved updates; simulate with --keep-updates."
        )
    return rounds, speakers, rows


def _kernel(rounds: list[int], rows: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Cosines ``[N, N]`` of updates after their round's mean is taken out."""
    matrix = np.stack(rows)
    for number in set(rounds):
        mine = np.array(rounds) == number
        matrix[mine] -= matrix[mine].mean(axis=0)
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    return np.asarray(matrix @ matrix.T, dtype=np.float64)


def _pair_accuracy(
    kernel: NDArray[np.float64],
    labels: NDArray[np.bool_],
    names: NDArray[np.str_],
    woman: str,
    man: str,
) -> tuple[float, float]:
    """Accuracy on a pair, of an attacker trained on all others: by speaker and by update."""
    from sklearn.svm import SVC

    test = (names == woman) | (names == man)
    attacker = SVC(kernel="precomputed", C=10.0, class_weight="balanced")
    attacker.fit(kernel[np.ix_(~test, ~test)], labels[~test])
    scores = attacker.decision_function(kernel[np.ix_(test, ~test)])
    hers, his = (scores[names[test] == name] for name in (woman, man))
    pairs = np.sign(hers[:, None] - his[None]) / 2 + 0.5
    return float(hers.mean() > his.mean()), float(pairs.mean())


def _dp_of(folder: Path) -> tuple[float, float] | None:
    """Noise multiplier and clip of a run."""
    import yaml

    path = folder / "config.yaml"
    if not path.is_file():
        return None
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    dp = (config.get("federated") or {}).get("dp", "")
    return FederatedSettings(dp=dp).noise_and_clip
