"""Privacy accounting: epsilon of a run's rounds at a given delta.

The unit is a client with all its clips; neighbouring populations differ by one client that is added
or removed. Each round samples every client independently with the same probability (Poisson) and
adds Gaussian noise to a sum that one client moves by at most the clip. Every round that is drawn is
a round of the run. Epsilon covers the released weights of all rounds. It does not cover the number
of registered clients, or the losses and numbers of clips that clients report to the server.
"""

import logging
import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

from avser.errors import ConfigError

WEAK = 10.0  # above it the guarantee is weak


@dataclass(frozen=True, kw_only=True)
class Accountant:
    """Accounts for rounds of the sampled Gaussian mechanism (Mironov et al. 2019).

    Args:
        noise: multiplier Z of the clipping norm.
        sampling: probability that a client is asked in a round.
        delta: at which epsilon is stated.
    """

    noise: float
    sampling: float
    delta: float

    def epsilon(self, rounds: int) -> float:
        """Privacy loss of so many rounds; infinite without noise."""
        if rounds < 1:
            return 0.0
        return math.inf if self.noise <= 0 else _epsilon(self, rounds)

    def warning(self, rounds: int) -> str:
        """Warning after this round, or "".

        Epsilon is reported when it passes 1, 2, 5 and 10, and at each doubling after that.
        """
        now, before = self.epsilon(rounds), self.epsilon(rounds - 1)
        marks = [1.0, 2.0, 5.0, WEAK, *(WEAK * 2.0**k for k in range(1, 12))]
        passed = [m for m in marks if before <= m < now]
        if not passed:
            return ""
        text = f"epsilon is {now:.2f} at delta {self.delta:g} after {rounds} rounds"
        if now > WEAK:
            return f"{text}: over {WEAK:g} this is weak; stop here, or use more noise or clients."
        return f"{text}; each further round adds to it."

    def describe(self, rounds: int) -> str:
        """Summarise in one line, for tables."""
        epsilon = self.epsilon(rounds)
        weak = ", weak" if epsilon > WEAK else ""
        return (
            f"epsilon {epsilon:.2f}{weak} at delta {self.delta:g}: {rounds} rounds, noise "
            f"{self.noise:g}, sampling rate {self.sampling:g}, unit one client"
        )


@lru_cache(maxsize=64)  # a round needs the sum before it and after it, at 0.3 s each
def _epsilon(accountant: Accountant, rounds: int) -> float:
    try:
        from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
        from dp_accounting.rdp import RdpAccountant
    except ImportError as error:
        raise ConfigError(
            "Bad installation: the accountant needs dp-accounting; pip install 'avser[federated]'."
        ) from error
    event = GaussianDpEvent(accountant.noise)
    if accountant.sampling < 1:
        event = PoissonSampledDpEvent(accountant.sampling, event)
    composed = RdpAccountant()
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of orders that are left out; others give the minimum
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            composed.compose(event, rounds)
            return float(composed.get_epsilon(accountant.delta))
    finally:
        log.setLevel(level)
