"""Baselines that describe each class by Gaussians."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from avser.errors import ConfigError
from avser.models.baselines.base import Baseline, log_priors

_LEAST = 1e-9  # a variance; features were scaled to 1


class Gaussians(Baseline):
    """A mixture of n Gaussians a class, and Bayes' rule: what those below have in common.

    Args:
        mixtures: n.
        full: covariances have all their entries, not their diagonal alone.
        balanced: take classes as equally probable beforehand.
        standardise: see `Baseline`.
    """

    centre: Tensor
    factor: Tensor
    offset: Tensor

    def __init__(self, *, mixtures: int, full: bool, balanced: bool, standardise: bool) -> None:
        super().__init__(standardise=standardise)
        self.mixtures, self.full, self.balanced = mixtures, full, balanced

    def allocate(self) -> None:
        """See `Baseline.allocate`."""
        shape = (self.classes, self.mixtures, self.features)
        self.keep("centre", np.zeros(shape))
        one = np.eye(self.features) if self.full else np.ones(self.features)
        self.keep("factor", np.broadcast_to(one, (*shape, *one.shape[1:])))
        self.keep("offset", np.zeros(shape[:2]))

    def take(self, centre: ArrayLike, factor: ArrayLike, offset: ArrayLike) -> None:
        """Keep centres ``[K, n, F]``, factors and offsets ``[K, n]``.

        A factor is a root of the precision, ``[K, n, F, F]`` with precision = factor factor^T, or
        ``[K, n, F]``; an offset is log prior + log weight + log |det factor|.
        """
        self.keep("centre", centre)
        self.keep("factor", factor)
        self.keep("offset", np.asarray(offset) - 0.5 * self.features * math.log(2 * math.pi))

    def scores(self, x: Tensor) -> Tensor:
        """See `Baseline.scores`."""
        apart = x[:, None, None] - self.centre
        if self.full:
            white = torch.einsum("nkmf,kmfg->nkmg", apart, self.factor)
        else:
            white = apart * self.factor
        return (self.offset - 0.5 * white.square().sum(dim=-1)).logsumexp(dim=-1)


class NaiveBayes(Gaussians):
    """Gaussian naive Bayes: features independent within a class.

    Args:
        smoothing: share of the largest variance that is added to all.
        balanced: take classes as equally probable beforehand.
        standardise: see `Baseline`.
    """

    def __init__(
        self, *, smoothing: float = 1e-9, balanced: bool = False, standardise: bool = True
    ) -> None:
        super().__init__(mixtures=1, full=False, balanced=balanced, standardise=standardise)
        self.smoothing = smoothing

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.naive_bayes import GaussianNB

        model = GaussianNB(var_smoothing=self.smoothing).fit(x.astype(np.float64), y)
        # where all features are constant, their largest variance is nothing too
        factor = np.maximum(model.var_, _LEAST) ** -0.5
        offset = log_priors(y, self.classes, balanced=self.balanced) + np.log(factor).sum(axis=1)
        self.take(model.theta_[:, None], factor[:, None], offset[:, None])


class Qda(Gaussians):
    """Quadratic discriminant analysis: a Gaussian a class, each with its own covariance.

    Args:
        regularise: share of the identity in each covariance, 0 to 1; features of which some is a
            sum of others need more than 0.
        balanced: take classes as equally probable beforehand.
        standardise: see `Baseline`.

    Raises:
        ConfigError: regularise is out of its range, or a class has too few vectors for its own
            covariance.
    """

    def __init__(
        self, *, regularise: float = 1e-3, balanced: bool = False, standardise: bool = True
    ) -> None:
        super().__init__(mixtures=1, full=True, balanced=balanced, standardise=standardise)
        if not 0 <= regularise <= 1:
            raise ConfigError(f"Bad regularise {regularise}: legal is 0 to 1.")
        self.regularise = regularise

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.covariance import empirical_covariance

        centres, factors, offsets = [], [], []
        prior = log_priors(y, self.classes, balanced=self.balanced)
        for label in range(self.classes):
            rows = x[y == label].astype(np.float64)
            own = empirical_covariance(rows)
            eye = np.eye(self.features) * self.regularise
            try:
                root = np.linalg.cholesky((1 - self.regularise) * own + eye)
            except np.linalg.LinAlgError as error:
                raise ConfigError(
                    f"Bad regularise {self.regularise}: the covariance of class {label} can't be "
                    f"inverted ({len(rows)} vectors of {self.features} features); raise it."
                ) from error
            factor = np.linalg.inv(root).T
            centres.append(rows.mean(axis=0))
            factors.append(factor)
            offsets.append(prior[label] + np.log(np.diag(factor)).sum())
        self.take(
            np.array(centres)[:, None], np.array(factors)[:, None], np.array(offsets)[:, None]
        )


class GaussianMixtures(Gaussians):
    """A Gaussian mixture model a class, fitted by expectation and maximisation.

    Args:
        mixtures: Gaussians a class.
        covariance: of each Gaussian: ``full``, or its diagonal alone.
        regularise: added to the covariances' diagonals.
        seed: of the k-means that it begins with.
        balanced: take classes as equally probable beforehand.
        standardise: see `Baseline`.

    Raises:
        ConfigError: there is no mixture, or a class has fewer vectors than mixtures.
    """

    def __init__(
        self,
        *,
        mixtures: int = 7,
        covariance: Literal["full", "diag"] = "diag",
        regularise: float = 1e-3,
        seed: int = 0,
        balanced: bool = False,
        standardise: bool = True,
    ) -> None:
        if mixtures < 1:
            raise ConfigError(f"Bad mixtures {mixtures}: legal is 1 or more.")
        full = covariance == "full"
        super().__init__(mixtures=mixtures, full=full, balanced=balanced, standardise=standardise)
        self.covariance, self.regularise, self.seed = covariance, regularise, seed

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.mixture import GaussianMixture

        fewest = int(np.bincount(y).min())
        if fewest < max(2, self.mixtures):
            raise ConfigError(
                f"Bad mixtures {self.mixtures}: a class has only {fewest} vectors; lower it."
            )
        centres, factors, offsets = [], [], []
        prior = log_priors(y, self.classes, balanced=self.balanced)
        for label in range(self.classes):
            model = GaussianMixture(
                self.mixtures,
                covariance_type=self.covariance,
                reg_covar=self.regularise,
                max_iter=200,
                random_state=self.seed,
            ).fit(x[y == label].astype(np.float64))
            factor = model.precisions_cholesky_
            diagonal = np.diagonal(factor, axis1=1, axis2=2) if self.full else factor
            centres.append(model.means_)
            factors.append(factor)
            offsets.append(prior[label] + np.log(model.weights_) + np.log(diagonal).sum(axis=1))
        self.take(np.array(centres), np.array(factors), np.array(offsets))
