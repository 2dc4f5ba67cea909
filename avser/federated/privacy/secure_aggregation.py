"""Secure aggregation: the server learns the mean of a round's updates and no single one.

The protocol is SecAgg+ (Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic
Overhead", 2020) as Flower has it: clients agree on masks that cancel in the sum, and share the
seeds among each other so that the sum survives clients who drop. All clients have equal weights.

The server can no longer check single updates for non-finite values, size or replay. Clients clip
and check their own; the server checks the mean.
"""

import json
from collections.abc import Sequence
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Scalar,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common import recorddict_compat as compat
from flwr.server.client_proxy import ClientProxy
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from avser.federated.client.app import from_record, to_record
from avser.federated.weights import Arrays, difference, norm_of

if TYPE_CHECKING:
    from avser.federated.server.app import Server
    from avser.federated.server.registry import Node

_FEW = 8  # up to so many clients, each shares with all others


def secure_mods() -> list[Any]:
    """Modifiers around a client's training: Flower's protocol, then the conversion of records."""
    return [_mask_if_asked, _convert_records]


def _mask_if_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Apply Flower's protocol to its own messages."""
    if RECORD_KEY_CONFIGS not in message.content.config_records:
        return call_next(message, context)
    return secaggplus_mod(message, context, call_next)


def _convert_records(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Convert the protocol's form of an offer to ours, and our reply to its form."""
    if "fitins.config" not in message.content.config_records:
        return call_next(message, context)
    asked = compat.recorddict_to_fitins(message.content, keep_input=True)
    names = json.loads(str(asked.config["names"]))
    arrays = dict(zip(names, parameters_to_ndarrays(asked.parameters), strict=True))
    message.content = RecordDict(
        {"arrays": to_record(arrays), "config": ConfigRecord(dict(asked.config))}
    )
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    learned = difference(from_record(reply.content.array_records["arrays"]), arrays)
    values = [learned[n] for n in names]
    if not all(np.isfinite(v).all() for v in values):  # the server can't check it
        raise ValueError("the update is not finite; nothing is sent")
    result = FitRes(
        status=Status(Code.OK, ""),
        parameters=ndarrays_to_parameters(values),
        num_examples=1,
        metrics={},
    )
    return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)


class _CollectMean(LegacyFedAvg):
    """Strategy that passes the sampled clients to the protocol and records its result."""

    def __init__(self, pairs: Sequence[tuple[ClientProxy, FitIns]]) -> None:
        super().__init__()
        self.pairs = list(pairs)
        self.mean: list[Any] | None = None
        self.count = 0

    def configure_fit(self, *_: Any, **__: Any) -> list[tuple[ClientProxy, FitIns]]:  # noqa: ANN401
        """See Flower's strategy."""
        return self.pairs

    def aggregate_fit(
        self,
        server_round: int,
        results: list[Any],
        failures: list[Any],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Every result holds the mean."""
        if results:
            self.count = len(results)
            self.mean = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}


class SecureRound:
    """Computes the mean of a round's updates with SecAgg+."""

    def __call__(
        self, server: "Server", asked: Sequence["Node"], update: int
    ) -> tuple[Arrays | None, dict[str, Any]]:
        """Run the protocol; return the step, or None with the reason.

        Under differential privacy there always is a step: a round that is drawn anew would sample
        clients more often than the accountant counts. Where the protocol gives no mean, the step is
        noise alone.
        """
        from avser.federated.server.aggregation import sum_of_mean

        s, model = server.session.settings, server.current.model
        mean, count, reason = self._mean(server, asked, update)
        size = sum(a.nbytes for a in model.values())
        facts: dict[str, Any] = {
            "accepted": count,
            "bytes_up": 2 * size * count,  # masked values are 64-bit
            "bytes_down": size * len(asked) if len(asked) > 1 else 0,
        }
        note = server.session.store.log_event
        if mean is not None:
            note("accepted", round=update, clients=count, secure=True)
        if s.noise_and_clip is None:
            return mean, facts if mean is not None else {"reason": reason}
        if mean is None:
            note("empty", round=update, reason=f"{reason}; the round's step is noise alone")
            total = {n: np.zeros_like(a) for n, a in model.items()}
        else:
            total = sum_of_mean(mean, count, clip=s.noise_and_clip[1])
        return server.privatise(total, update), facts

    def _mean(
        self, server: "Server", asked: Sequence["Node"], update: int
    ) -> tuple[Arrays | None, int, str]:
        """Mean of the updates and their number, or None, 0 and the reason."""
        s, names = server.session.settings, list(server.current.model)
        if len(asked) < 2:
            return None, 0, "a sum of one update is no secret; ask more clients"
        result = self._ask(server, asked, update, names)
        if result.mean is None:
            return None, 0, "too few clients stayed to the end of the protocol"
        pairs = zip(names, result.mean, strict=True)
        mean = {n: np.asarray(a, dtype=np.float32) for n, a in pairs}
        limit = s.noise_and_clip[1] if s.noise_and_clip else s.client_clip
        if not all(np.isfinite(a).all() for a in mean.values()) or norm_of(mean) > 1.01 * limit:
            return None, 0, f"the mean is not finite, or its norm is over {limit:g}"
        return mean, result.count, ""

    @staticmethod
    def _ask(
        server: "Server", asked: Sequence["Node"], update: int, names: list[str]
    ) -> _CollectMean:
        s, model = server.session.settings, server.current.model
        config: dict[str, Scalar] = {
            **server.request(update, ""),
            "names": json.dumps(names),
            **({KEY_CLIPPING_NORM: s.noise_and_clip[1]} if s.noise_and_clip else {}),
        }
        request = FitIns(ndarrays_to_parameters([model[n] for n in names]), config)
        grid = server.grid
        pairs = [(GridClientProxy(node.node, grid, grid.run.run_id), request) for node in asked]
        strategy = _CollectMean(pairs)
        context = LegacyContext(server.context, strategy=strategy)
        context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord(
            {WorkflowKey.CURRENT_ROUND: update}
        )
        context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
            request.parameters, keep_input=True
        )
        count = len(asked)
        shares: int | float = 1.0 if count <= _FEW else 2 * ceil(log2(count)) + 1
        protocol = SecAggPlusWorkflow(
            num_shares=shares,
            reconstruction_threshold=0.6,
            max_weight=1.0,
            clipping_range=s.noise_and_clip[1] if s.noise_and_clip else max(1.0, s.client_clip),
            timeout=s.deadline_s,
        )
        protocol(grid, context)
        return strategy
