"""Training and testing over folds and seeds, resumable, on one machine or several.

Every fold is an ``avser fit`` into its own folder, ``RUN/seed<S>/fold<K>``. Finished folds are
skipped, unfinished ones resumed. To merge folds that were run on other machines, collect their
folders and run the command again.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from avser.errors import AvserError, ConfigError
from avser.evaluation.predictions import Predictions, file_name
from avser.evaluation.summary import SEEN_SPEAKERS, stream_figures, summarise
from avser.training.fit_processes import FitProcesses, cancelled_early


@dataclass(frozen=True)
class Fold:
    """One training: its seed, its fold, and its run folder."""

    seed: int
    fold: int
    folder: Path

    @property
    def done(self) -> bool:
        """Whether its test predictions are saved."""
        return (self.folder / "DONE").exists() and (self.folder / "predictions/test.json").exists()


def plan(out: Path, *, folds: int, seeds: Sequence[int], only: int | None = None) -> list[Fold]:
    """List the trainings of a cross-validation.

    Raises:
        ConfigError: ``only`` is no fold.
    """
    if only is not None and not 0 <= only < folds:
        raise ConfigError(f"Bad fold {only}: there are {folds}, from 0.")
    chosen = range(folds) if only is None else [only]
    return [Fold(s, k, out / f"seed{s}" / f"fold{k}") for s in seeds for k in chosen]


@dataclass(frozen=True)
class FitJob:
    """An ``avser fit``: its command line without ``--out``, and its folder."""

    words: tuple[str, ...]
    folder: Path


#: Runs trainings; yields the index of each as it ends, and why it failed, or None.
RunJobs = Callable[[Sequence[FitJob]], Iterator[tuple[int, str | None]]]


def run_here(jobs: Sequence[FitJob], *, at_once: int) -> Iterator[tuple[int, str | None]]:
    """Run trainings on this machine, each with its share of the cores; see `RunJobs`."""
    threads = max(1, (os.cpu_count() or 1) // max(1, at_once))
    processes = FitProcesses(count=max(1, at_once), threads=threads)
    with ThreadPoolExecutor(max(1, at_once)) as pool, processes, cancelled_early(pool):
        waiting = {
            pool.submit(processes.fit, job.words, job.folder): place
            for place, job in enumerate(jobs)
        }
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def run(
    folds: Sequence[Fold],
    *,
    words: Sequence[str],
    has_folds: bool,
    run_jobs: RunJobs,
    finished: Callable[[Fold, Mapping[str, Any]], None],
) -> None:
    """Run the trainings that are not done.

    Args:
        folds: of `plan`.
        words: command-line words of the configuration.
        has_folds: whether the split takes a fold number.
        run_jobs: on this machine or on several.
        finished: called after each fold, in order of finishing, with its summary; also for folds
            that were done before.

    Raises:
        AvserError: a fold failed; the others are not lost.
    """
    todo = [f for f in folds if not f.done]
    for fold in folds:
        if fold.done:
            finished(fold, _summary_of(fold))
    jobs = [_fit_job(fold, words, has_folds=has_folds) for fold in todo]
    problems = []
    for place, problem in run_jobs(jobs):
        if problem:
            problems.append((todo[place], problem))
        else:
            finished(todo[place], _summary_of(todo[place]))
    if problems:
        fold, problem = problems[0]
        raise AvserError(
            f"Bad fold {fold.folder} ({len(problems)} of {len(todo)} failed): {problem}; mend it "
            "and run the same command again."
        )


def _fit_job(fold: Fold, words: Sequence[str], *, has_folds: bool) -> FitJob:
    # "{seed}" and "{fold}" in a word let a fold start from another run's model of that fold
    own = [w.replace("{seed}", str(fold.seed)).replace("{fold}", str(fold.fold)) for w in words]
    own += ["--seed_everything", str(fold.seed), f"--data.seed={fold.seed}"]
    if has_folds:
        own += [f"--data.split.init_args.fold={fold.fold}"]
    return FitJob(tuple(own), fold.folder)


def _summary_of(fold: Fold) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((fold.folder / "results.json").read_text())
    return content


def merge(
    folds: Sequence[Fold], *, expected: int, split: str
) -> tuple[list[Predictions], dict[str, Any]]:
    """Join the finished folds of every seed.

    Args:
        folds: all trainings; those that are not done are left out, seed by seed.
        expected: folds of a whole cross-validation.
        split: description of the whole split.

    Returns:
        One `Predictions` a seed, and the summary over seeds.

    Raises:
        ConfigError: no fold is finished.
    """
    seeds = sorted({f.seed for f in folds})
    done = {s: [f for f in folds if f.seed == s and f.done] for s in seeds}
    done = {s: rows for s, rows in done.items() if rows}
    if not done:
        raise ConfigError("Bad cross-validation: no fold is finished; run some first.")
    runs = [_predictions(rows, "test.json") for rows in done.values()]
    all_rows = [f for rows in done.values() for f in rows]
    summaries = [_summary_of(f) for f in all_rows]
    first = summaries[0]
    notes = {n for s in summaries for n in s["notes"]}
    short = {len(rows) for rows in done.values() if len(rows) < expected}
    if short:
        finished = f"{len(all_rows)} of {expected * len(seeds)}"
        notes.add(f"UNFINISHED: {finished} folds")
        split += f", {finished} trained"
    hashes = sorted({s["split_hash"] for s in summaries})
    summary = summarise(
        runs,
        split=split,
        corpus=first["corpus"],
        label_target=first["label_target"],
        split_hash=sha256("".join(hashes).encode()).hexdigest()[:8],
        model=first["model"],
        parameters=first["parameters"],
        seeds=list(done),
        epochs=sorted({e for s in summaries for e in s["epochs"]}),
        commit=first["commit"],
        notes=sorted(notes),
        marks=[mark for mark in first["marks"] if mark != SEEN_SPEAKERS],
    )
    if all("cost" in s for s in summaries):
        summary["cost"] = _cost([s["cost"] for s in summaries])
    for kind in ("streams", "levels", "stress"):
        rows = {
            name: [_predictions(rows, f"test.{file_name(name)}.json") for rows in done.values()]
            for name in first.get(kind, {})
        }
        if rows:
            summary[kind] = stream_figures(rows, seeds=list(done))
    return runs, summary


def _predictions(folds: Sequence[Fold], name: str) -> Predictions:
    return Predictions.merge([Predictions.load(f.folder / "predictions" / name) for f in folds])


def _cost(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Minutes of all trainings, mean speed, and the rest as of the first."""
    speed = sum(c["clips_per_second"] for c in each) / len(each)
    minutes = sum(c["minutes"] for c in each)
    return {**each[0], "minutes": round(minutes, 2), "clips_per_second": round(speed, 1)}
