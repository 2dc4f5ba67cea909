"""Random search for settings, by validation alone.

Every trial is an ``avser fit --no-test`` of its own process and folder, ``DIR/trial<N>``: a
finished one is skipped, an unfinished one goes on. Trial N of a seed always draws the same
settings, however many trials are asked for.
Source: Bergstra & Bengio (2012).
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from avser.errors import AvserError, ConfigError
from avser.evaluation.metrics import uar
from avser.evaluation.predictions import Predictions
from avser.files import atomic_write
from avser.training.crossval import fit_apart

Value = Any  # of a setting: what YAML holds


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, as likely each, or each power of ten as likely (``log``).

    Attributes:
        low, high: ends, both included.
        log: whether the logarithm is drawn.
        integer: whether to round.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def draw(self, rng: np.random.Generator) -> Value:
        """One number."""
        if self.log:
            found = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        else:
            found = float(rng.uniform(self.low, self.high))
        return round(found) if self.integer else float(f"{found:.4g}")


@dataclass(frozen=True)
class Choice:
    """One of several values, as likely each."""

    values: tuple[Value, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """One of them."""
        return self.values[int(rng.integers(len(self.values)))]


Space = Mapping[str, Range | Choice]


def read_space(path: str | Path) -> dict[str, Range | Choice]:
    """Read a space of settings.

    ``model.lr: {low: 1.0e-4, high: 1.0e-2, log: true}`` is a `Range`,
    ``model.head.init_args.dropout: [0.0, 0.3, 0.5]`` a `Choice`.

    Raises:
        ConfigError: the file is missing or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"Bad space {str(path)!r}: it can't be read as YAML.") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"Bad space {str(path)!r}: expected a setting a line, such as "
            "'model.lr: {low: 1.0e-4, high: 1.0e-2, log: true}'."
        )
    return {str(name): _axis(str(name), value) for name, value in content.items()}


def _axis(name: str, value: Value) -> Range | Choice:
    if isinstance(value, list) and value:
        return Choice(tuple(value))
    legal = (
        f"Bad range of {name}: {value!r}; expected a list of values, or low and high (with log "
        "and integer if wanted), low under high and, for log, above 0."
    )
    if not isinstance(value, dict) or not {"low", "high"} <= set(value):
        raise ConfigError(legal)
    try:
        found = Range(**value)
        proper = 0 < found.low < found.high if found.log else found.low < found.high
    except TypeError as error:
        raise ConfigError(legal) from error
    if not proper:
        raise ConfigError(legal)
    return found


def draw(space: Space, *, seed: int, trial: int) -> dict[str, Value]:
    """Settings of one trial, by name."""
    rng = np.random.default_rng((seed, trial))
    return {name: axis.draw(rng) for name, axis in space.items()}


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: of the trial, from 0.
        settings: that were drawn.
        uar: on the validation part; None where it failed or is not done.
        problem: why it failed, or "".
    """

    number: int
    settings: Mapping[str, Value]
    uar: float | None = None
    problem: str = ""


def run(
    space: Space,
    *,
    out: Path,
    trials: int,
    words: Sequence[str],
    seed: int,
    jobs: int,
    finished: Callable[[Trial], None],
) -> list[Trial]:
    """Run what is not done; write ``trials.json`` and the best configuration, ``best.yaml``.

    Args:
        space: settings to draw.
        out: folder of the search.
        trials: how many.
        words: command-line words of the configuration.
        seed: of the draws.
        jobs: trainings at once.
        finished: called after each trial, in order of finishing.

    Returns:
        All trials, the best first.

    Raises:
        ConfigError: the folder holds a search of another space or seed.
        AvserError: every trial failed.
    """
    plan = [Trial(n, draw(space, seed=seed, trial=n)) for n in range(trials)]
    _refuse_other(out, plan)
    done: dict[int, Trial] = {}
    threads = max(1, (os.cpu_count() or 1) // max(1, jobs))

    def one(trial: Trial) -> None:
        result = _train(trial, out / f"trial{trial.number}", words, threads)
        done[trial.number] = result
        finished(result)

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        list(pool.map(one, plan))
    found = sorted(done.values(), key=lambda t: (t.uar is None, -(t.uar or 0), t.number))
    _write(out, found)
    if found[0].uar is None:
        raise AvserError(f"Bad search: all {trials} trials failed; the first says: {_first(found)}")
    shutil.copyfile(out / f"trial{found[0].number}" / "config.yaml", out / "best.yaml")
    return found


def _first(found: Sequence[Trial]) -> str:
    return min(found, key=lambda t: t.number).problem


def _train(trial: Trial, folder: Path, words: Sequence[str], threads: int) -> Trial:
    if not (folder / "DONE").exists():
        own = [f"--{name}={json.dumps(value)}" for name, value in trial.settings.items()]
        problem = fit_apart([*words, *own, "--no-test"], folder, threads=threads)
        if problem:
            return Trial(trial.number, trial.settings, problem=problem)
    kept = Predictions.load(folder / "predictions" / "validation.json")
    score = uar(kept.labels, kept.predicted, len(kept.emotions))
    return Trial(trial.number, trial.settings, uar=round(float(score), 6))


def _refuse_other(out: Path, plan: Sequence[Trial]) -> None:
    """Refuse to go on with trials that were drawn from something else."""
    path = out / "trials.json"
    drawn = {t.number: dict(t.settings) for t in plan}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for row in before:
        if drawn.get(row["trial"], row["settings"]) != row["settings"]:
            raise ConfigError(
                f"Bad search folder {out}: its trial {row['trial']} was drawn from another space "
                "or seed; choose another --out."
            )
    if not before:
        _write(out, plan)


def _write(out: Path, found: Sequence[Trial]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"trial": t.number, "settings": dict(t.settings), "uar": t.uar, "problem": t.problem}
        for t in found
    ]
    with atomic_write(out / "trials.json") as file:
        file.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
