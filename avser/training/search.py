"""Hyperparameter search by validation UAR: Optuna's TPE, with pruning.

Every trial is an ``avser fit --no-test`` in a process and folder of its own, ``DIR/trial<N>``. The
study is stored in a database, by default ``DIR/study.db``: an interrupted search and its unfinished
trials are resumed, and processes or machines with the same database share one study. A trial whose
validation score is below the median of the others at the same epoch ends early.
Source: Bergstra et al. (2011); Akiba et al. (2019).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avser.errors import AvserError, ConfigError, StorageError
from avser.evaluation.metrics import uar
from avser.evaluation.predictions import Predictions
from avser.extras import require
from avser.files import atomic_write
from avser.training.fit_processes import fit_in_process
from avser.training.run_folder import STOP, history

_POLL_S = 1.0  # between looks at a running trial's table of epochs
_WARM_UP = 5  # finished trials, and epochs of a trial, before any is pruned

Value = Any  # of a setting: what YAML holds


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    Attributes:
        low, high: ends, both included.
        log: whether the logarithm is searched.
        integer: whether only whole numbers are.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def suggest(self, trial: Any, name: str) -> Value:  # noqa: ANN401 (an Optuna trial)
        """A number of a trial."""
        if self.integer:
            return trial.suggest_int(name, round(self.low), round(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def suggest(self, trial: Any, name: str) -> Value:  # noqa: ANN401 (an Optuna trial)
        """One of the values in a trial; they may be lists, so that their places are drawn."""
        texts = [json.dumps(value) for value in self.values]
        return json.loads(trial.suggest_categorical(name, texts))


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
        bounds = Range(**value)
        proper = 0 < bounds.low < bounds.high if bounds.log else bounds.low < bounds.high
    except TypeError as error:
        raise ConfigError(legal) from error
    if not proper:
        raise ConfigError(legal)
    return bounds


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: of the trial, from 0.
        settings: that were chosen.
        uar: on the validation part; None where it failed or is not done.
        problem: why it failed, or "".
        pruned: whether it was ended early.
    """

    number: int
    settings: Mapping[str, Value]
    uar: float | None = None
    problem: str = ""
    pruned: bool = False


def run(
    space: Space,
    *,
    out: Path,
    trials: int,
    words: Sequence[str],
    seed: int,
    jobs: int,
    finished: Callable[[Trial], None],
    storage: str | None = None,
) -> list[Trial]:
    """Run trials until the study has so many; write table, plot and best configuration.

    Args:
        space: settings and their ranges.
        out: folder of the search; ``trials.json``, ``search.png`` and ``best.yaml`` are written.
        trials: of the whole study, with those of other processes.
        words: command-line words of the configuration.
        seed: of the sampler.
        jobs: trainings at once.
        finished: called after each trial, in order of finishing.
        storage: database of the study (``sqlite:///FILE``, ``postgresql://...``); None is
            ``study.db`` in the folder.

    Returns:
        All finished trials of the study, the best first.

    Raises:
        ConfigError: the study is of another space.
        StorageError: the database can't be opened.
        AvserError: every trial failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    study = _study(space, out, storage=storage, seed=seed)
    _requeue(study, out)
    threads = max(1, (os.cpu_count() or 1) // max(1, jobs))
    asking = threading.Lock()

    def work() -> None:
        while True:
            with asking:
                if _enough(study, trials):
                    return
                trial = study.ask()
                settings = {name: axis.suggest(trial, name) for name, axis in space.items()}
                folder = Path(trial.user_attrs.get("folder", out / f"trial{trial.number}"))
                trial.set_user_attr("folder", str(folder))
                trial.set_user_attr("settings", settings)
            finished(_train(study, trial, settings, folder, words, threads))

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for future in wait([pool.submit(work) for _ in range(max(1, jobs))]).done:
            future.result()
    return _finish(study, space, out)


def _finish(study: Any, space: Space, out: Path) -> list[Trial]:  # noqa: ANN401 (Optuna's)
    """Write table, plot and best configuration; return the trials, the best first."""
    trials = sorted(_trials(study), key=lambda t: (t.uar is None, -(t.uar or 0), t.number))
    _write(out, trials)
    if trials[0].uar is None:
        first = min(trials, key=lambda t: t.number)
        raise AvserError(f"Bad search: all {len(trials)} trials failed; the first: {first.problem}")
    best = next(t for t in study.get_trials() if t.number == trials[0].number)
    with atomic_write(out / "best.yaml") as file:  # trained elsewhere, perhaps: it is in the study
        file.write(best.user_attrs["config"])
    _plot(out / "search.png", space, trials)
    return trials


def _study(space: Space, out: Path, *, storage: str | None, seed: int) -> Any:  # noqa: ANN401
    """Open or make the study."""
    require("search", "optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = storage or f"sqlite:///{(out / 'study.db').absolute()}"
    try:
        study = optuna.create_study(
            storage=place,
            study_name="avser",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_WARM_UP, n_warmup_steps=_WARM_UP),
        )
        # processes that share a study must not draw alike
        count = len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(
            seed=seed + count, constant_liar=True, n_startup_trials=_WARM_UP
        )
        described = json.loads(json.dumps({name: repr(axis) for name, axis in space.items()}))
        if study.user_attrs.get("space", described) != described:
            raise ConfigError(
                f"Bad search folder {out}: its study is of another space; choose another --out, "
                "or another --storage."
            )
        study.set_user_attr("space", described)
    except ConfigError:
        raise
    except Exception as error:  # each database has its own classes of errors
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise StorageError(
            f"Bad --storage {place}: {reason}; give sqlite:///FILE or postgresql://USER@HOST/NAME "
            "that can be opened."
        ) from error
    return study


def _requeue(study: Any, out: Path) -> None:  # noqa: ANN401 (an Optuna study)
    """Queue interrupted and failed trials of this folder again, in their own folders."""
    from optuna.trial import TrialState

    for trial in _latest(study).values():
        folder = Path(trial.user_attrs["folder"])
        if folder.parent != out or trial.state not in (TrialState.RUNNING, TrialState.FAIL):
            continue  # another machine's, or finished
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": str(folder)})


def _latest(study: Any) -> dict[str, Any]:  # noqa: ANN401 (an Optuna study)
    """The last trial of each folder; a repeated trial counts once."""
    trials = study.get_trials(deepcopy=False)
    return {t.user_attrs["folder"]: t for t in trials if "folder" in t.user_attrs}


def _enough(study: Any, trials: int) -> bool:  # noqa: ANN401 (an Optuna study)
    """Whether no trial waits and the study, with all its processes, has that many trials."""
    from optuna.trial import TrialState

    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return False
    return len(_latest(study)) >= trials


def _train(
    study: Any,  # noqa: ANN401 (an Optuna study)
    trial: Any,  # noqa: ANN401 (an Optuna trial)
    settings: Mapping[str, Value],
    folder: Path,
    words: Sequence[str],
    threads: int,
) -> Trial:
    """Train under the pruner, and report the score to the study."""
    from optuna.trial import TrialState

    own = [f"--{name}={json.dumps(value)}" for name, value in settings.items()]
    problem, watch = None, _Watch(trial, folder)
    if not (folder / "DONE").exists():
        with ThreadPoolExecutor(1) as one:
            fit = one.submit(fit_in_process, [*words, *own, "--no-test"], folder, threads=threads)
            while not fit.done():
                wait([fit], timeout=_POLL_S)
                watch.look()
                watch.prune()
            problem = fit.result()
        watch.look()  # later trials are compared with the last epochs, too
    if problem:
        trial.set_user_attr("problem", problem)
        study.tell(trial, state=TrialState.FAIL)
        return Trial(trial.number, settings, problem=problem)
    kept = Predictions.load(folder / "predictions" / "validation.json")
    score = round(float(uar(kept.labels, kept.predicted, len(kept.emotions))), 6)
    trial.set_user_attr("config", (folder / "config.yaml").read_text(encoding="utf-8"))
    trial.set_user_attr("pruned", watch.pruned)
    study.tell(trial, score)
    return Trial(trial.number, settings, uar=score, pruned=watch.pruned)


class _Watch:
    """Reports a training's validation scores to its trial, and prunes it."""

    def __init__(self, trial: Any, folder: Path) -> None:  # noqa: ANN401 (an Optuna trial)
        self._trial, self._folder = trial, folder
        self._reported = 0  # epochs; each is reported once
        self.pruned = False

    def look(self) -> None:
        """Report new epochs."""
        try:
            scores = history(self._folder).get("validation/score", [])
        except (ValueError, TypeError, KeyError):
            return  # a row is half written
        for epoch, score in list(enumerate(scores))[self._reported :]:
            self._trial.report(score, epoch)
            self._reported = epoch + 1

    def prune(self) -> None:
        """Stop the training if the pruner asks for it."""
        if self._reported and not self.pruned and self._trial.should_prune():
            (self._folder / STOP).touch()
            self.pruned = True


def _trials(study: Any) -> list[Trial]:  # noqa: ANN401 (an Optuna study)
    """Finished trials of the whole study."""
    return [
        Trial(
            trial.number,
            trial.user_attrs["settings"],
            uar=trial.value,
            problem=trial.user_attrs.get("problem", ""),
            pruned=trial.user_attrs.get("pruned", False),
        )
        for trial in _latest(study).values()
        if trial.state.is_finished() and "settings" in trial.user_attrs
    ]


def _write(out: Path, result: Sequence[Trial]) -> None:
    rows = [
        {
            "trial": t.number,
            "settings": dict(t.settings),
            "uar": t.uar,
            "problem": t.problem,
            "pruned": t.pruned,
        }
        for t in result
    ]
    with atomic_write(out / "trials.json") as file:
        file.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def _plot(path: Path, space: Space, result: Sequence[Trial]) -> None:
    """Draw the score by trial, and by each setting."""
    from matplotlib.figure import Figure

    from avser.visualization.plots import save_figure

    scored = sorted((t for t in result if t.uar is not None), key=lambda t: t.number)
    figure = Figure(figsize=(3.2 * (1 + len(space)), 3), layout="constrained")
    axes = figure.subplots(1, 1 + len(space), sharey=True, squeeze=False)[0]
    scores = [float(t.uar or 0) for t in scored]
    axes[0].plot([t.number for t in scored], scores, "o")
    axes[0].step(
        [t.number for t in scored], [max(scores[: i + 1]) for i in range(len(scores))], where="post"
    )
    axes[0].set(xlabel="trial", ylabel="validation UAR")
    for axis, (name, values) in zip(axes[1:], space.items(), strict=True):
        chosen = [t.settings[name] for t in scored]
        if isinstance(values, Choice):
            chosen = [str(value) for value in chosen]
        axis.plot(chosen, scores, "o")
        axis.set(xlabel=name.rpartition(".")[2])
        if isinstance(values, Range) and values.log:
            axis.set_xscale("log")
    save_figure(figure, path)
