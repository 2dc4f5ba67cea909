import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from avser.errors import ConfigError
from avser.evaluation import metrics

LABELS = [0, 0, 0, 0, 1, 1, 2, 2]
GUESSES = [0, 0, 0, 1, 1, 2, 2, 2]  # recalls 3/4, 1/2, 1


def draw(size: int, *, classes: int = 5, seed: int = 0) -> tuple[NDArray[np.int64], ...]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size)
    return labels, np.where(rng.random(size) < 0.6, labels, rng.integers(0, classes, size))


def pairs() -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def test_figures_worked_by_hand() -> None:
    assert metrics.uar(LABELS, GUESSES, 3) == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert metrics.accuracy(LABELS, GUESSES, 3) == pytest.approx(6 / 8)
    # F1 = 2 * right / (labelled + predicted): 6/7, 2/4, 4/5
    assert metrics.macro_f1(LABELS, GUESSES, 3) == pytest.approx((6 / 7 + 2 / 4 + 4 / 5) / 3)
    assert metrics.confusion_matrix(LABELS, GUESSES, 3).tolist() == [
        [3, 1, 0],
        [0, 1, 1],
        [0, 0, 2],
    ]


def test_absent_classes_do_not_count() -> None:
    assert metrics.uar(LABELS, GUESSES, 5) == metrics.uar(LABELS, GUESSES, 3)
    recall = metrics.recall_per_class(LABELS, GUESSES, 4)
    assert recall[:3].tolist() == [0.75, 0.5, 1.0]
    assert np.isnan(recall[3])


def test_always_the_largest_class_is_accurate_but_not_balanced() -> None:
    labels = [0] * 90 + [1] * 10
    assert metrics.accuracy(labels, [0] * 100, 2) == 0.9
    assert metrics.uar(labels, [0] * 100, 2) == 0.5


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_as_sklearn(rows: list[tuple[int, int]]) -> None:
    labels, guesses = (list(column) for column in zip(*rows, strict=True))
    present = sorted(set(labels))
    expected = recall_score(labels, guesses, labels=present, average="macro")
    assert metrics.uar(labels, guesses, 4) == pytest.approx(expected)
    expected = f1_score(labels, guesses, average="macro", zero_division=0)
    assert metrics.macro_f1(labels, guesses, 4) == pytest.approx(expected)
    expected = sklearn_confusion(labels, guesses, labels=range(4))
    assert metrics.confusion_matrix(labels, guesses, 4).tolist() == expected.tolist()


def test_statistics_work_on_many_matrices_at_once() -> None:
    many = np.random.default_rng(0).integers(0, 9, (6, 2, 4, 4))
    for statistic in (metrics.uar_of, metrics.accuracy_of, metrics.macro_f1_of):
        assert statistic(many).shape == (6, 2)
        assert statistic(many)[3, 1] == statistic(many[3, 1])


def test_calibration_worked_by_hand() -> None:
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]]
    labels = [0, 1, 0, 1]  # at 0.9: half right; at 0.6: all right
    curve = metrics.reliability(probabilities, labels, bins=2)
    assert [b.count for b in curve] == [0, 4]
    assert curve[0].accuracy is None
    assert curve[1].accuracy == pytest.approx(3 / 4)
    assert curve[1].confidence == pytest.approx(3 / 4)
    error = metrics.expected_calibration_error(probabilities, labels, bins=10)
    assert error == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_calibration_as_torchmetrics() -> None:
    logits = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).double() * 2
    probabilities = logits.softmax(1)
    labels = torch.randint(0, 6, (500,), generator=torch.Generator().manual_seed(1))
    expected = multiclass_calibration_error(probabilities, labels, num_classes=6, n_bins=15)
    result = metrics.expected_calibration_error(probabilities.numpy(), labels.numpy())
    assert result == pytest.approx(float(expected), abs=1e-6)


def test_one_hot_answers_that_are_right_are_calibrated() -> None:
    assert metrics.expected_calibration_error(np.eye(4), range(4)) == 0.0


def test_interval_holds_the_value_and_is_repeatable() -> None:
    labels, guesses = draw(400)
    speakers = [f"s{i % 20}" for i in range(400)]
    one = metrics.bootstrap_interval(metrics.uar_of, labels, guesses, speakers, classes=5)
    two = metrics.bootstrap_interval(metrics.uar_of, labels, guesses, speakers, classes=5)
    assert one == two
    assert one.value == pytest.approx(metrics.uar(labels, guesses, 5))
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low < one.value < one.high <= 1


def test_interval_as_a_plain_loop_over_speakers() -> None:
    labels, guesses = draw(300, classes=3)
    group = np.arange(300) % 12
    guesses[group < 4] = labels[group < 4]  # some speakers are easy
    rng = np.random.default_rng(5)
    values = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(group == g) for g in rng.integers(0, 12, 12)])
        values.append(metrics.accuracy(labels[rows], guesses[rows], 3))
    low, high = np.quantile(values, [0.025, 0.975])
    result = metrics.bootstrap_interval(
        metrics.accuracy_of, labels, guesses, group.astype(str).tolist(), classes=3, samples=2000
    )
    assert result.low == pytest.approx(low, abs=0.01)
    assert result.high == pytest.approx(high, abs=0.01)


def test_interval_by_speaker_is_wider_than_by_clip_where_speakers_differ() -> None:
    labels = np.arange(400) % 2
    speakers = [f"s{i // 40}" for i in range(400)]
    guesses = np.where(np.arange(400) // 40 < 5, labels, 1 - labels)
    clips = [f"c{i}" for i in range(400)]
    wide, narrow = (
        metrics.bootstrap_interval(metrics.uar_of, labels, guesses, groups, classes=2)
        for groups in (speakers, clips)
    )
    assert wide.high is not None
    assert wide.low is not None
    assert narrow.high is not None
    assert narrow.low is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


@pytest.mark.parametrize(
    ("speakers", "has_interval"), [(1, False), (2, False), (4, False), (5, True)]
)
def test_few_speakers_have_no_interval(speakers: int, has_interval: bool) -> None:
    groups = [f"s{n % speakers}" for n in range(8)]
    figure = metrics.bootstrap_interval(metrics.uar_of, LABELS, GUESSES, groups, classes=3)
    assert (figure.low is not None, figure.high is not None) == (has_interval, has_interval)
    assert figure.value == pytest.approx(0.75)


def test_drawn_sets_that_miss_a_class_are_judged_over_those_they_have() -> None:
    result = metrics.bootstrap_interval(
        metrics.uar_of, [0, 1] * 3, [0, 1] * 3, [*"abcdef"], classes=2
    )
    assert result == metrics.Figure(1.0, 1.0, 1.0)


def test_value_over_runs_is_the_mean_of_each_runs_figure() -> None:
    labels, guesses = draw(90, classes=3)
    runs = np.repeat([7, 3, 5], [20, 30, 40])
    result = metrics.bootstrap_interval(
        metrics.uar_of, labels, guesses, [f"s{i % 6}" for i in range(90)], classes=3, runs=runs
    )
    each = [metrics.uar(labels[runs == r], guesses[runs == r], 3) for r in (3, 5, 7)]
    assert result.value == pytest.approx(np.mean(each))


@given(pairs(), st.integers(2, 9))
@settings(max_examples=50, deadline=None)
def test_interval_is_ordered_and_within_bounds(rows: list[tuple[int, int]], groups: int) -> None:
    labels, guesses = (list(column) for column in zip(*rows, strict=True))
    names = [f"g{i % groups}" for i in range(len(rows))]
    result = metrics.bootstrap_interval(
        metrics.uar_of, labels, guesses, names, classes=4, samples=100
    )
    assert 0 <= result.value <= 1
    if len(set(names)) >= metrics.MIN_GROUPS:
        assert result.low is not None
        assert result.high is not None
        assert 0 <= result.low <= result.high <= 1


def test_thousand_draws_of_many_clips_take_less_than_a_second() -> None:
    labels, guesses = draw(20_000, classes=8)
    begin = time.process_time()
    names = [f"c{i}" for i in range(20_000)]
    metrics.bootstrap_interval(metrics.uar_of, labels, guesses, names, classes=8)
    assert time.process_time() - begin < 1.0


def test_refusals_name_the_value() -> None:
    with pytest.raises(ConfigError, match=r"\(2,\).*\(3,\)"):
        metrics.uar([0, 1], [0, 1, 1], 2)
    with pytest.raises(ConfigError, match="Bad class -1"):
        metrics.uar([0, -1], [0, 1], 2)
    with pytest.raises(ConfigError, match="Bad class 2"):
        metrics.uar([0, 1], [0, 2], 2)
    with pytest.raises(ConfigError, match="0 bins"):
        metrics.reliability([[1.0]], [0], bins=0)
    with pytest.raises(ConfigError, match="level 95"):
        metrics.bootstrap_interval(metrics.uar_of, [0], [0], ["a"], classes=1, level=95)
    with pytest.raises(ConfigError, match="at least one clip"):
        metrics.bootstrap_interval(metrics.uar_of, [], [], [], classes=1)
    with pytest.raises(ConfigError, match="1 groups"):
        metrics.bootstrap_interval(metrics.uar_of, [0, 0], [0, 0], ["a"], classes=1)


def test_precision_and_f1_are_scikit_learns() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(4, size=60), rng.integers(4, size=60)
    confusion = metrics.confusion_matrix(labels, predicted, 4)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted)
    np.testing.assert_allclose(metrics.precisions_of(confusion), precision)
    np.testing.assert_allclose(metrics.recalls_of(confusion), recall)
    np.testing.assert_allclose(metrics.f1s_of(confusion), f1)
    assert float(metrics.macro_precision_of(confusion)) == pytest.approx(precision.mean())
    never = np.array([[2, 0], [3, 0]])
    assert np.isnan(metrics.precisions_of(never)[1])
    assert float(metrics.macro_precision_of(never)) == pytest.approx(0.4)
