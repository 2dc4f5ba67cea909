"""Aggregation of a round's updates with Flower's strategies.

Strategies receive updates instead of weights: means, trimmed means and Krum's distances are the
same but for a shift by the global model, and keep more digits.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.serverapp.strategy import FedAdam, FedAvg, FedTrimmedAvg, Krum
from flwr.supercore.differential_privacy import compute_stdv

from avser.errors import ConfigError
from avser.federated.server.update_checks import ClientUpdate
from avser.federated.settings import FederatedSettings
from avser.federated.weights import Arrays, norm_of

_KEY = "num-examples"


def mean_of(updates: Sequence[ClientUpdate], settings: FederatedSettings) -> Arrays:
    """Aggregate updates by the settings' strategy, branch by branch.

    Parameters that only some clients sent, as those of pictures, are aggregated over these.
    """
    owners: dict[str, list[ClientUpdate]] = defaultdict(list)
    for update in updates:
        for name in update.delta:
            owners[name].append(update)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, members in owners.items():
        groups[tuple(u.offer.client for u in members)].append(name)
    aggregated: Arrays = {}
    for clients, names in groups.items():
        members = [u for u in updates if u.offer.client in set(clients)]
        aggregated |= _group(members, names, settings)
    return aggregated


def _group(
    updates: Sequence[ClientUpdate], names: list[str], settings: FederatedSettings
) -> Arrays:
    strategy = _strategy(settings, len(updates))
    replies = [_reply(u, names) for u in updates]
    arrays, _ = strategy.aggregate_train(1, replies)
    if arrays is None:
        raise ConfigError("Bad round: nothing was aggregated.")
    return {n: np.asarray(a.numpy(), dtype=np.float32) for n, a in arrays.items()}


def _strategy(settings: FederatedSettings, count: int) -> FedAvg:
    settled: dict[str, Any] = {"fraction_evaluate": 1.0}
    if settings.kind == "trimmed_mean":
        return FedTrimmedAvg(beta=trimmed_share(settings.trim, count), **settled)
    if settings.kind == "krum":
        if count < 2 * settings.malicious + 3:
            raise ConfigError(
                f"Bad malicious {settings.malicious}: Krum tolerates that many among "
                f"{2 * settings.malicious + 3} or more updates, there are {count}; ask more "
                "clients, or lower federated.malicious."
            )
        return Krum(num_malicious_nodes=settings.malicious, **settled)
    return FedAvg(**settled)


def trimmed_share(trim: float, count: int) -> float:
    """Share of ``count`` updates that Flower leaves out at either end, at least one update.

    Args:
        trim: share that the settings ask for.
        count: updates of the round.

    Raises:
        ConfigError: fewer than 3 updates, of which nothing would remain.
    """
    if count < 3:
        raise ConfigError(
            f"Bad number of updates {count}: the trimmed mean leaves out one at either end and "
            "needs 3 or more; ask more clients, or take another strategy."
        )
    dropped = min(max(1, int(trim * count)), (count - 1) // 2)
    return (dropped + 0.25) / count  # Flower rounds down; a bare quotient may fall below


def _reply(update: ClientUpdate, names: Sequence[str]) -> Message:
    """Wrap an update in the message that strategies expect."""
    content = RecordDict(
        {
            "arrays": ArrayRecord({n: Array(update.delta[n]) for n in names}),
            "metrics": MetricRecord({_KEY: update.examples}),
        }
    )
    return _message(content)


def _message(content: RecordDict) -> Message:
    """Make a reply that is never sent; strategies read its content alone."""
    metadata = Metadata(
        run_id=0,
        message_id="",
        src_node_id=0,
        dst_node_id=0,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=1.0,
        message_type="train",
    )
    return make_message(metadata=metadata, content=content)


def clipped_sum(updates: Sequence[ClientUpdate], shapes: Arrays, *, clip: float) -> Arrays:
    """Sum of updates, each scaled to a norm of at most ``clip``.

    Each client counts the same, and nothing about one update depends on another: adding or removing
    a client moves the sum by at most ``clip``.
    Source: McMahan et al., "Learning Differentially Private Recurrent Language Models", 2018.

    Args:
        updates: of a round, one a client. Clients clip too; the server trusts none of them to.
        shapes: arrays of the expected shapes; the sum is zero for parts that no client sent.
        clip: norm C.
    """
    total = {n: np.zeros_like(a) for n, a in shapes.items()}
    for update in updates:
        scale = np.float32(min(1.0, clip / max(update.norm, 1e-12)))
        for n, a in update.delta.items():
            total[n] += scale * a
    return total


def sum_of_mean(mean: Arrays, count: int, *, clip: float) -> Arrays:
    """Bounded sum of clipped updates of which the server knows the mean alone.

    The mean counts one time less than there were clients. A single client, whose sum would be no
    secret, then counts as nobody, and adding or removing a client still moves the result by at most
    ``clip``: with ``k`` clients it moves by ``(k-1)/k`` of its own update and by ``1/(k(k-1))`` of
    the others' sum, whose norm is at most ``(k-1) * clip``.

    Args:
        mean: of ``count`` updates whose norms are at most ``clip``.
        count: clients in it, 1 or more.
        clip: norm C; a longer mean (rounding, or a client that did not clip) is scaled to it.
    """
    scale = np.float32((count - 1) * min(1.0, clip / max(norm_of(mean), 1e-12)))
    return {n: np.asarray(scale * a, dtype=np.float32) for n, a in mean.items()}


def noisy_mean(
    total: Arrays,
    *,
    noise: float,
    clip: float,
    expected: float,
    rng: np.random.Generator | None = None,
) -> Arrays:
    """Add Gaussian noise to a sum of clipped updates and divide it by the expected clients.

    Args:
        total: the sum, which one client moves by at most ``clip``.
        noise: multiplier Z; the deviation of the noise is Z times C.
        clip: norm C.
        expected: clients that a round draws on average; it does not depend on who was drawn.
        rng: of the noise; None takes the system's entropy.
    """
    deviation = compute_stdv(noise, clip, 1)
    source = np.random.default_rng() if rng is None else rng
    return {
        n: np.asarray((a + source.normal(0, deviation, a.shape)) / expected, dtype=np.float32)
        for n, a in total.items()
    }


class AdamServer:
    """FedAdam's moments between rounds (Reddi et al. 2021), by Flower's own class."""

    def __init__(self, *, lr: float) -> None:
        self._adam = FedAdam(eta=lr, tau=1e-3)

    def step(self, mean: Arrays, update: int) -> Arrays:
        """Return the step for a mean update."""
        self._adam.current_arrays = {n: np.zeros_like(a) for n, a in mean.items()}
        content = RecordDict(
            {
                "arrays": ArrayRecord({n: Array(a) for n, a in mean.items()}),
                "metrics": MetricRecord({_KEY: 1}),
            }
        )
        arrays, _ = self._adam.aggregate_train(update, [_message(content)])
        if arrays is None:
            raise ConfigError("Bad round: FedAdam made no step.")
        return {n: np.asarray(a.numpy(), dtype=np.float32) for n, a in arrays.items()}

    def state(self) -> Arrays:
        """Return the moments, to be saved."""
        pairs = (("m", self._adam.m_t), ("v", self._adam.v_t))
        return {
            f"{k}.{n}": np.asarray(a) for k, moments in pairs for n, a in (moments or {}).items()
        }

    def load(self, state: Arrays) -> None:
        """Restore the result of `state`."""
        for key in ("m", "v"):
            moments = {n[2:]: a for n, a in state.items() if n.startswith(f"{key}.")}
            if moments:
                setattr(self._adam, f"{key}_t", moments)
