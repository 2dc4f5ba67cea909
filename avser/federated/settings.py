"""Settings of a federated training, their ranges and forbidden combinations."""

import re
from dataclasses import dataclass
from typing import Literal

from avser.errors import ConfigError, unknown

STRATEGIES = ("fedavg", "fedprox", "fedadam", "trimmed_mean", "krum", "buffered:N")
PARTITIONS = ("iid", "speaker", "balanced", "dirichlet:A")
ATTACKS = ("label_flip:N", "scaled:N")


@dataclass(frozen=True, kw_only=True)
class FederatedSettings:
    """Settings of clients and server.

    Args:
        rounds: updates of the global model.
        clients: "speaker" for one client a speaker, or their number.
        partition: assignment of clips to clients: "speaker", "iid", "balanced" (as many of each
            emotion everywhere) or "dirichlet:A" (each emotion's clips by a Dirichlet draw; a small
            A gives uneven clients).
        strategy: "fedavg", "fedprox", "fedadam", "trimmed_mean", "krum", or "buffered:N", which
            updates the model at every N-th contribution, as it comes.
        fraction: share of the clients that a round samples.
        base: "empty", or the released model, bundle or run folder to begin with.
        dp: client-level differential privacy, "noise:Z,clip:C": updates clipped to norm C, Gaussian
            noise of Z times C on their sum; "" is none.
        delta: of the stated epsilon.
        secure_aggregation: the server learns the sum of the updates alone (SecAgg+).
        keep_updates: save every client's update, for `avser federate audit-leakage`.
        local_epochs: passes of a client over its clips in a round.
        batch_size: clips a local batch.
        warm_up: share of the rounds in which the learning rate rises; it then falls by a cosine.
        proximal: weight of FedProx's term.
        server_lr: step of FedAdam.
        average: decay of the average of the global models of the rounds, which is evaluated and
            released; 0 is the last round's own model.
        trim: share that the trimmed mean leaves out at either end, one update at least.
        malicious: number of malicious clients that Krum tolerates.
        holdout_share: share of each client's clips that it holds out for evaluation.
        norm_limit: an update is refused whose norm is over so many times the round's median;
            null accepts any, "auto" is 4, and null under secure aggregation or differential
            privacy.
        client_clip: norm to which clients clip their own updates under secure aggregation, where
            the server can't check single updates.
        max_examples: clips that a client's weight counts at most.
        weight_limit: a client's weight counts at most so many times the median of the round's
            clients; 0 gives all clients the same weight, null lets clips count as claimed.
        quorum: share of the sampled clients whose updates a round needs.
        min_clients: registered clients that the first round needs.
        deadline_s: longest duration of a round, in seconds.
        evaluate_every: rounds between evaluations of the global model; 0 evaluates the last alone.
        batch_norm: "refuse" networks with batch norm, or keep its statistics "local": they are
            never sent, and the released model's are taken from the validation part.
        attack: malicious clients of an experiment, "label_flip:N" or "scaled:N"; "" is none.
        audio_only: number of clients without picture.
        seed: of partition, sampling and local training.

    Raises:
        ConfigError: a value is out of its range, or two exclude each other.
    """

    rounds: int = 30
    clients: str = "speaker"
    partition: str = "speaker"
    strategy: str = "fedavg"
    fraction: float = 1.0
    base: str = "empty"
    dp: str = ""
    delta: float = 1e-5
    secure_aggregation: bool = False
    keep_updates: bool = False
    local_epochs: int = 2
    batch_size: int = 16
    warm_up: float = 0.1
    proximal: float = 0.01
    server_lr: float = 0.003
    average: float = 0.5
    trim: float = 0.2
    malicious: int = 1
    holdout_share: float = 0.125
    norm_limit: float | Literal["auto"] | None = "auto"
    client_clip: float = 10.0
    max_examples: int = 10_000
    weight_limit: float | None = 2.0
    quorum: float = 0.5
    min_clients: int = 2
    deadline_s: float = 3600.0
    evaluate_every: int = 0
    batch_norm: Literal["refuse", "local"] = "refuse"
    attack: str = ""
    audio_only: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_ranges()
        _ = (
            self.buffer,
            self.noise_and_clip,
            self.dirichlet,
            self.attackers,
        )  # each raises where its setting is malformed
        self._check_pairs()

    def _check_ranges(self) -> None:
        if self.clients != "speaker" and not (self.clients.isdigit() and int(self.clients) >= 2):
            raise ConfigError(f"Bad clients {self.clients!r}: legal is speaker, or 2 and more.")
        for name, low, high in (
            ("rounds", 1, 100_000),
            ("fraction", 1e-6, 1),
            ("delta", 1e-12, 0.1),
            ("local_epochs", 1, 1000),
            ("batch_size", 1, 100_000),
            ("warm_up", 0, 1),
            ("average", 0, 0.999),
            ("trim", 0, 0.49),
            ("holdout_share", 0, 0.9),
            ("quorum", 0, 1),
            ("max_examples", 1, 10**9),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"Bad {name} {value}: legal is {low:g} to {high:g}.")
        if self.weight_limit is not None and not (self.weight_limit == 0 or self.weight_limit >= 1):
            raise ConfigError(
                f"Bad weight_limit {self.weight_limit:g}: legal are 1 and more, null, and 0 for "
                "equal weights."
            )

    def _check_pairs(self) -> None:
        kind, secure = self.kind, self.secure_aggregation
        if secure and kind in ("krum", "trimmed_mean"):
            raise ConfigError(
                f"Bad pair --secure-aggregation and --strategy {kind}: the server sees no single "
                "update to compare; use fedavg, fedprox or fedadam."
            )
        if secure and kind == "buffered":
            raise ConfigError(
                "Bad pair --secure-aggregation and --strategy buffered: masks cancel among the "
                "clients of one round; use fedavg, fedprox or fedadam."
            )
        if self.dp and isinstance(self.norm_limit, int | float):
            raise ConfigError(
                "Bad pair --dp and --norm-limit: a median depends on all clients, the noise covers "
                "one; leave the limit out, updates are clipped."
            )
        if secure and isinstance(self.norm_limit, int | float):
            raise ConfigError(
                "Bad pair --secure-aggregation and --norm-limit: the server sees no single update, "
                "their sum alone; leave the limit out, and clients clip and check themselves."
            )
        if secure and self.keep_updates:
            raise ConfigError(
                "Bad pair --secure-aggregation and --keep-updates: the server sees their sum "
                "alone; leave one out."
            )
        if secure and self.audio_only:
            raise ConfigError(
                "Bad pair --secure-aggregation and clients without picture: all masked vectors "
                "must be of one length; leave one out."
            )
        if self.dp and kind not in ("fedavg", "fedprox", "fedadam"):
            raise ConfigError(
                f"Bad pair --dp and --strategy {kind}: noise is measured for a sum in which each "
                "client has one bounded part; use fedavg, fedprox or fedadam."
            )

    @property
    def kind(self) -> str:
        """The strategy without its number."""
        return self.strategy.partition(":")[0]

    @property
    def limit(self) -> float | None:
        """Largest norm as a multiple of the median; None for no limit."""
        if self.norm_limit == "auto":
            return None if self.secure_aggregation or self.dp else 4.0
        return self.norm_limit

    @property
    def buffer(self) -> int | None:
        """N of ``buffered:N``."""
        if self.strategy in STRATEGIES[:-1]:
            return None
        match = re.fullmatch(r"buffered:([1-9]\d{0,5})", self.strategy)
        if match is None:
            raise ConfigError(unknown("strategy", self.strategy, STRATEGIES))
        return int(match[1])

    @property
    def noise_and_clip(self) -> tuple[float, float] | None:
        """Z and C of ``noise:Z,clip:C``."""
        if not self.dp:
            return None
        number = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
        match = re.fullmatch(rf"noise:{number},clip:{number}", self.dp)
        if match is None or float(match[2]) <= 0:
            raise ConfigError(
                f"Bad dp {self.dp!r}: expected noise:Z,clip:C with a noise multiplier Z and a norm "
                "C over 0, such as noise:1,clip:0.5."
            )
        return float(match[1]), float(match[2])

    @property
    def dirichlet(self) -> float | None:
        """A of ``dirichlet:A``."""
        if self.partition in PARTITIONS[:-1]:
            return None
        match = re.fullmatch(r"dirichlet:(\d+(?:\.\d+)?)", self.partition)
        if match is None or float(match[1]) <= 0:
            raise ConfigError(unknown("partition", self.partition, PARTITIONS))
        return float(match[1])

    @property
    def attackers(self) -> tuple[str, int]:
        """Kind and number of malicious clients."""
        if not self.attack:
            return "", 0
        match = re.fullmatch(r"(label_flip|scaled):([1-9]\d*)", self.attack)
        if match is None:
            raise ConfigError(unknown("attack", self.attack, ATTACKS))
        return match[1], int(match[2])

    def lr_scale(self, update: int) -> float:
        """Factor on the learning rate in round ``update`` (from 1): rises, then falls by a cosine.

        It ends at a fiftieth: the last round must learn too.
        """
        import math

        warm = max(1, round(self.warm_up * self.rounds)) if self.warm_up else 0
        if update <= warm:
            return update / max(warm, 1)
        place = (update - warm) / max(1, self.rounds - warm)
        return max(0.02, 0.5 * (1 + math.cos(math.pi * min(place, 1.0))))
