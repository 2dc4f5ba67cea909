import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import avser.models.baselines
from avser.bundle import serialization as bundle
from avser.errors import ConfigError
from avser.models.baselines.base import Baseline
from avser.models.baselines.forest import Forest
from avser.models.baselines.gaussian import GaussianMixtures, NaiveBayes, Qda
from avser.models.baselines.head import BaselineHead
from avser.models.baselines.linear import Lda, Softmax
from avser.models.baselines.mlp import DropoutMlp, Mlp
from avser.models.baselines.svm import Svm
from avser.models.net import EmotionNet
from avser.testing.nets import tiny_spec

FEATURES = 5

MODELS: dict[str, Callable[[], Baseline]] = {
    "svm": lambda: Svm(cost=2.0),
    "svm balanced": lambda: Svm(balanced=True, gamma=0.3),
    "svm linear": lambda: Svm(kernel="linear"),
    "softmax": lambda: Softmax(cost=0.5),
    "lda": lambda: Lda(balanced=True),
    "naive bayes": lambda: NaiveBayes(),
    "qda": lambda: Qda(),
    "gmm": lambda: GaussianMixtures(mixtures=3),
    "gmm full": lambda: GaussianMixtures(mixtures=2, covariance="full", balanced=True),
    "forest": lambda: Forest(trees=9),
    "mlp": lambda: Mlp(hidden=(16,), lr=1e-2),
    "mlp under dropout": lambda: DropoutMlp(hidden=(16,), lr=1e-2, batch=32),
    "mlp of two layers": lambda: Mlp(hidden=(16, 8), lr=1e-2, patience=None, iterations=40),
}
every_model = pytest.mark.parametrize("name", MODELS)


def blobs(classes: int = 4, each: int = 40) -> tuple[Tensor, Tensor]:
    """Overlapping clouds of unequal number, scaled unlike each other."""
    y = torch.cat([torch.full((each + 10 * k,), k) for k in range(classes)])
    centres = 1.5 * torch.randn(classes, FEATURES)
    x = centres[y] + torch.randn(len(y), FEATURES)
    return x * torch.tensor([1.0, 10.0, 0.1, 1.0, 100.0]) + 3.0, y


def fitted(name: str, classes: int = 4) -> tuple[Baseline, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = blobs(classes)
    return MODELS[name]().build(FEATURES, classes).fit(x, y), x, y


def test_every_baseline_is_tested() -> None:
    made = {type(make()) for make in MODELS.values()}
    for module in pkgutil.walk_packages(avser.models.baselines.__path__, "avser.models.baselines."):
        for result in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(result) and issubclass(result, Baseline):
                assert result in made or inspect.isabstract(result), result
    assert made


@every_model
@pytest.mark.parametrize("classes", [2, 4])
def test_a_baseline_separates_classes(name: str, classes: int) -> None:
    model, x, y = fitted(name, classes)
    shares = model.probabilities(x)
    assert shares.shape == (len(x), classes)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(len(x)))
    assert float((shares.argmax(dim=1) == y).float().mean()) > 0.8
    grid = x[:6].reshape(2, 3, FEATURES)
    assert torch.equal(model.probabilities(grid).reshape(6, -1), model.probabilities(x[:6]))


@every_model
def test_a_reloaded_baseline_says_the_same(name: str, tmp_path: Path) -> None:
    model, x, _ = fitted(name)
    head = BaselineHead(baseline=model)
    names = ("a", "b", "c", "d")
    net = EmotionNet(audio=_plain_encoder(), head=head, emotions=names).eval()
    net.heads["audio"] = BaselineHead(baseline=model)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    kept = {k: v for k, v in vars(model).items() if k in inspect.signature(type(model)).parameters}
    spec = {
        "audio": tiny_spec()["audio"] | _PLAIN,
        "head": {
            "class_path": "avser.models.baselines.head.BaselineHead",
            "init_args": {"baseline": {"class_path": kind, "init_args": kept}},
        },
    }
    bundle.save(net, tmp_path / "b", spec=spec, name="b", provenance=bundle.Provenance())
    loaded = bundle.load(tmp_path / "b").net.heads["audio"]
    assert isinstance(loaded, BaselineHead)
    assert torch.equal(loaded.baseline.probabilities(x), model.probabilities(x))
    files = {p.suffix for p in (tmp_path / "b").iterdir()}
    assert files == {".yaml", ".safetensors", ".md", ".txt"}


_PLAIN: dict[str, Any] = {
    "class_path": "avser.models.encoders.pooled.PooledEncoder",
    "init_args": {
        "frontend": {
            "class_path": "avser.models.frontends.mfcc.Mfcc",
            "init_args": {"coefficients": FEATURES},
        }
    },
}


def _plain_encoder() -> Any:
    from avser.models.encoders.base import AudioEncoder
    from avser.models.factory import build

    return build(_PLAIN, AudioEncoder)


# -- what scikit-learn's own objects say ----------------------------------------------------------


def sklearn_of(name: str, x: Any, y: Any) -> Any:
    """Probabilities, or scores, of scikit-learn's own estimator on standardised vectors."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.svm import SVC

    classes = len(set(y.tolist()))
    if name == "svm":
        return SVC(C=2.0, gamma="scale", break_ties=True).fit(x, y).decision_function(x)
    if name == "svm balanced":
        return SVC(class_weight="balanced", gamma=0.3).fit(x, y).decision_function(x)
    if name == "svm linear":
        return SVC(kernel="linear").fit(x, y).decision_function(x)
    made = {
        "softmax": lambda: LogisticRegression(C=0.5, max_iter=1000),
        "lda": lambda: LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes)
        ),
        "naive bayes": lambda: GaussianNB(),
        "forest": lambda: RandomForestClassifier(9, min_samples_leaf=2, random_state=0),
    }
    return made[name]().fit(x, y).predict_proba(x)


@pytest.mark.parametrize(
    "name", ["svm", "svm balanced", "svm linear", "softmax", "lda", "naive bayes", "forest"]
)
@pytest.mark.parametrize("classes", [2, 4])
def test_arrays_say_what_the_estimator_says(name: str, classes: int) -> None:
    model, x, y = fitted(name, classes)
    rows = model.scaled(x)
    if name == "forest":
        rows = x
    theirs = sklearn_of(name, rows.numpy(), y.numpy())
    if not name.startswith("svm"):
        ours = model.probabilities(x)
    elif classes == 2:  # one column there: the margin of the second
        assert np.array_equal(model.scores(rows).argmax(1).numpy(), (theirs > 0).astype(int))
        return
    else:
        ours = model.scores(rows)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-4)


def test_a_gaussian_a_class_is_bayes_rule() -> None:
    model, x, y = fitted("qda")
    rows = model.scaled(x).double()
    expected = []
    for k in range(4):
        own = rows[y == k]
        covariance = 0.999 * torch.cov(own.T, correction=0) + 1e-3 * torch.eye(FEATURES)
        law = torch.distributions.MultivariateNormal(own.mean(dim=0), covariance)
        expected.append(law.log_prob(rows) + np.log(len(own) / len(rows)))
    torch.testing.assert_close(
        model.log_probabilities(x),
        torch.stack(expected, dim=1).log_softmax(dim=1).float(),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("name", ["gmm", "gmm full"])
def test_mixtures_are_scikit_learns(name: str) -> None:
    from sklearn.mixture import GaussianMixture

    model, x, y = fitted(name)
    assert isinstance(model, GaussianMixtures)
    rows = model.scaled(x).numpy()
    columns = []
    for k in range(4):
        mixture = GaussianMixture(
            model.mixtures, covariance_type=model.covariance, reg_covar=1e-3, random_state=0
        ).fit(rows[y == k].astype(float))
        prior = 0.25 if model.balanced else float((y == k).float().mean())
        columns.append(mixture.score_samples(rows) + np.log(prior))
    expected = torch.tensor(np.stack(columns, axis=1)).log_softmax(dim=1)
    torch.testing.assert_close(model.log_probabilities(x).double(), expected, atol=1e-3, rtol=1e-3)


# -- refusals -------------------------------------------------------------------------------------


def test_what_can_not_be_fitted_is_told_in_one_sentence() -> None:
    x, y = blobs()
    with pytest.raises(ConfigError, match="every class"):
        Svm().build(FEATURES, 4).fit(x[y != 2], y[y != 2])
    with pytest.raises(ConfigError, match="not finite"):
        Svm().build(FEATURES, 4).fit(torch.full_like(x, torch.nan), y)
    with pytest.raises(ConfigError, match="expected one row of 5"):
        Svm().build(FEATURES, 4).fit(x[:, :3], y)
    with pytest.raises(ConfigError, match="only 40 vectors"):
        GaussianMixtures(mixtures=50).build(FEATURES, 4).fit(x, y)
    with pytest.raises(ConfigError, match="raise it"):
        Qda(regularise=0.0).build(FEATURES, 4).fit(x[:, :1].expand(-1, 5), y)
    for make in (
        lambda: Svm(cost=0),
        lambda: Softmax(cost=-1),
        lambda: Lda(shrinkage=2),
        lambda: Qda(regularise=-1),
        lambda: GaussianMixtures(mixtures=0),
        lambda: Forest(trees=0),
        lambda: Mlp(hidden=()),
        lambda: DropoutMlp(dropout=1.0),
        lambda: DropoutMlp(epochs=0),
    ):
        with pytest.raises(ConfigError, match="Bad "):
            make()


def test_a_constant_feature_does_no_harm() -> None:
    x, y = blobs()
    x[:, 0] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Svm().build(FEATURES, 4).fit(x, y)
    assert bool(model.probabilities(x).isfinite().all())


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@every_model
def test_features_of_a_network_that_learnt_nothing_do_no_harm(name: str) -> None:
    _, y = blobs()
    x = torch.full((len(y), FEATURES), 0.25)
    model = MODELS[name]().build(FEATURES, 4).fit(x, y)
    shares = model.probabilities(x[:3] + 1e-6)
    assert bool(shares.isfinite().all())
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(3))


# -- the head -------------------------------------------------------------------------------------


def head_of(name: str, unit: Any) -> BaselineHead:
    head = BaselineHead(baseline=MODELS[name](), unit=unit).build(FEATURES, 4)
    torch.manual_seed(0)
    head.baseline.fit(*blobs())
    return head


@pytest.mark.parametrize("unit", ["clip", "step"])
@every_model
def test_invalid_steps_do_not_matter_and_pieces_are_the_whole(name: str, unit: Any) -> None:
    head = head_of(name, unit)
    x, mask = blobs()[0][:42].reshape(3, 14, FEATURES), torch.ones(3, 14, dtype=torch.bool)
    mask[0, :3] = mask[1, 5:9] = mask[2, -1] = False
    logits, steps = head(x, mask)
    wild = x.masked_fill(~mask.unsqueeze(-1), 1e4)
    other, other_steps = head(wild, mask)
    assert torch.equal(other, logits) and torch.equal(other_steps[mask], steps[mask])
    for row in range(3):
        cut = x[row][mask[row]].unsqueeze(0)
        alone, _ = head(cut, torch.ones(cut.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(alone[0], logits[row], atol=1e-4, rtol=1e-4)
    state = head.initial_state(3)
    for piece in ([0], [1, 2, 3, 4], list(range(5, 14))):
        so_far, _, state = head.advance(x[:, piece], mask[:, piece], state)
    torch.testing.assert_close(so_far, logits, atol=1e-4, rtol=1e-4)


def test_a_clip_is_the_mean_of_its_steps_probabilities_or_of_its_vectors() -> None:
    x, mask = blobs()[0][:10].reshape(2, 5, FEATURES), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    by_step, by_clip = head_of("lda", "step"), head_of("lda", "clip")
    shares = by_step.baseline.probabilities(x[1, :3]).mean(dim=0)
    torch.testing.assert_close(by_step(x, mask)[0][1].softmax(dim=0), shares)
    whole = by_clip.baseline.probabilities(x[1, :3].mean(dim=0))
    torch.testing.assert_close(by_clip(x, mask)[0][1].softmax(dim=0), whole)


def test_a_silent_clip_is_no_sample() -> None:
    x, mask = torch.randn(3, 4, FEATURES), torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 1:], mask[2, 0] = True, True
    rows, clip = head_of("lda", "clip").vectors(x, mask)
    assert clip.tolist() == [0, 2]
    torch.testing.assert_close(rows, torch.stack([x[0, 1:].mean(dim=0), x[2, 0]]))
    rows, clip = head_of("lda", "step").vectors(x, mask)
    assert clip.tolist() == [0, 0, 0, 2] and torch.equal(rows, x[mask])
