"""Session: the parts of a federated training on the server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from avser.federated.plan import Plan
from avser.federated.privacy.accounting import Accountant
from avser.federated.server.run_store import RunStore
from avser.federated.settings import FederatedSettings
from avser.federated.weights import Arrays
from avser.models.net import EmotionNet

Measure = Callable[[Arrays], Mapping[str, Any]]


@dataclass(kw_only=True)
class Session:
    """The parts of a federated training on the server.

    Attributes:
        settings: of the training.
        plan: sent to clients.
        net: of the plan, with the weights to begin with.
        constants: statistics of its front ends.
        store: of the run folder.
        measure: evaluates weights on the server's own clips; None where it has none.
        finished: called with each committed round's row.
        reproducible: sampling and noise come from the seed, as in simulations; else from the
            system, as privacy asks.
        stopped: polled between rounds.
        patience: consecutive rounds that may fail; None is any number, as where clients may still
            join.
        secure: computes the mean of a round's updates without single ones; see
            `avser.federated.privacy.secure_aggregation`.
    """

    settings: FederatedSettings
    plan: Plan
    net: EmotionNet
    constants: bytes
    store: RunStore
    measure: Measure | None = None
    finished: Callable[[Mapping[str, Any]], None] = lambda row: None
    reproducible: bool = True
    stopped: Callable[[], bool] = lambda: False
    patience: int | None = 3
    secure: Any = None

    @property
    def accountant(self) -> Accountant | None:
        """Of the privacy loss, where there is noise."""
        chosen = self.settings.noise_and_clip
        if chosen is None:
            return None
        s = self.settings
        return Accountant(noise=chosen[0], sampling=s.fraction, delta=s.delta)
