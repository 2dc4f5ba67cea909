"""What updates tell of those who sent them: an attacker who guesses a speaker's sex.

The attacker has updates of other speakers whose sex is known, and sees all rounds. It is tested on
speakers whom it has not seen: none of their updates, of any round, is in its training.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.federated.store import RunStore

CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Leak:
    """How well the attacker does.

    Attributes:
        accuracy: mean of the recalls of both sexes over speakers; chance is one half.
        low, high: 95 % interval by speaker.
        by_update: the same for single updates.
        speakers, updates: how many.
        private: what is said of noise; "" where there was none.
    """

    accuracy: float
    low: float
    high: float
    by_update: float
    speakers: int
    updates: int
    private: str

    def told(self) -> str:
        """One line."""
        noise = self.private or "without noise"
        return (
            f"sex from updates, unseen speakers: {100 * self.accuracy:.1f} % "
            f"[{100 * self.low:.1f}, {100 * self.high:.1f}] (chance {100 * CHANCE:.0f} %), single "
            f"updates {100 * self.by_update:.1f} %; {self.speakers} speakers, {self.updates} "
            f"updates, {noise}"
        )


def audit_leakage(folder: Path, *, seed: int = 0) -> Leak:
    """Train and test the attacker on a run that kept its updates.

    Every update is compared with the mean of its round, scaled to norm 1, and judged by a linear
    support vector machine; a speaker's updates are judged together by their mean.

    Args:
        folder: of the run.
        seed: of the interval.

    Raises:
        ConfigError: the run kept no updates, or its clients are not speakers of both sexes.
    """
    sexes = _sexes(folder)
    rounds, speakers, rows = _updates(folder, sexes)
    labels = np.array([sexes[s] == "female" for s in speakers])
    names = np.array(speakers)
    kernel = _kernel(rounds, rows)
    scores = _leave_one_out(kernel, labels, names)
    people = sorted(set(speakers))
    judged = np.array([scores[names == p].mean() > 0 for p in people])
    truth = np.array([sexes[p] == "female" for p in people])
    rng = np.random.default_rng(seed)
    drawn = [_balanced(truth[i], judged[i]) for i in _draws(truth, rng)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Leak(
        accuracy=_balanced(truth, judged),
        low=float(low),
        high=float(high),
        by_update=_balanced(labels, scores > 0),
        speakers=len(people),
        updates=len(rows),
        private=_private(folder),
    )


def _sexes(folder: Path) -> dict[str, str]:
    try:
        clients: Mapping[str, Any] = json.loads((folder / "clients.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Bad run folder {folder}: it is no simulation's.") from error
    found = {n: c["sexes"][0] for n, c in clients.items() if len(c["sexes"]) == 1}
    if set(found.values()) != {"female", "male"} or len(found) < 4:
        raise ConfigError(
            f"Bad run folder {folder}: its clients are no speakers of both sexes, 4 or more; "
            "simulate with --clients speaker on a corpus that tells the sex."
        )
    return found


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
            f"Bad run folder {folder}: it kept no updates; simulate with --keep-updates."
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


def _leave_one_out(
    kernel: NDArray[np.float64], labels: NDArray[np.bool_], names: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Score of each update by an attacker who knows all speakers but its own."""
    from sklearn.svm import SVC

    scores = np.zeros(len(names))
    for person in sorted(set(names.tolist())):
        test = names == person
        attacker = SVC(kernel="precomputed", C=10.0, class_weight="balanced")
        attacker.fit(kernel[np.ix_(~test, ~test)], labels[~test])
        scores[test] = attacker.decision_function(kernel[np.ix_(test, ~test)])
    return scores


def _balanced(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    parts = [float((guess[truth == k] == k).mean()) for k in (False, True) if (truth == k).any()]
    return float(np.mean(parts))


def _draws(truth: NDArray[np.bool_], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """A thousand draws of speakers with replacement, each sex by itself."""
    groups = [np.flatnonzero(truth == k) for k in (False, True)]
    return [
        np.concatenate([rng.choice(group, size=len(group)) for group in groups])
        for _ in range(1000)
    ]


def _private(folder: Path) -> str:
    rows = RunStore(folder).rows()
    epsilon = rows[-1].get("epsilon") if rows else None
    return "" if epsilon is None else f"differentially private, epsilon {epsilon:.2f}"
