"""Latest release of a run: saved after each round and evaluated on the server's corpora."""

import hashlib
import hmac
import io
import json
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Provenance
from avser.bundle.swap import read_unchanged, replace_folder
from avser.errors import BundleError, ConfigError, unknown
from avser.evaluation.predict import predict
from avser.federated.deployment.apps import read_session
from avser.federated.server.run_store import RunStore
from avser.federated.simulation.run import figures_of
from avser.federated.weights import load_arrays, refresh_statistics
from avser.files import atomic_write

_MOST_BYTES = 1 << 30
_NAMES = ("config.yaml", "trained_on.yaml", "digests.txt", "README.md")


@dataclass(kw_only=True)
class LatestRelease:
    """Releases and evaluates the models of a run folder.

    Args:
        folder: of the run.
        tests: data modules by name, each with a test part.
        before: provenance of the base model.
        arm: a second base model, for comparisons: a name, bundle or run folder; None is none.
        show_names: publish contributors' names; else a pseudonym stands for each.
    """

    folder: Path
    tests: Mapping[str, Any]
    before: Provenance = field(default_factory=Provenance)
    arm: str | None = None
    show_names: bool = False

    def __post_init__(self) -> None:
        self.store = RunStore(self.folder)
        self._secret = b"" if self.show_names else read_secret(self.folder / "pseudonyms.key")
        for left in self.folder.glob(".bundle-*"):  # of a server that was killed
            shutil.rmtree(left, ignore_errors=True)
        self.settings, self.learner = read_session(self.folder)
        self.update = -1
        self._rows: dict[str, Any] = self._read()

    # -- after each round --------------------------------------------------------------------

    def refresh(self) -> bool:
        """Release and evaluate the last round; return False if that was done before."""
        stored = self.store.latest()
        if stored is None or stored.update == self.update:
            return False
        net = self.learner.net
        load_arrays(net, stored.average)
        first = next(iter(self.tests.values()), None)
        if first is not None and first.parts.validation:
            refresh_statistics(net, first.loader(first.parts.validation))
        net.eval()
        bundle.save(
            net,
            self.folder / "bundle",
            spec=self.learner.plan.spec,
            name=f"{self.folder.name}-{stored.update}",
            provenance=self._provenance(stored.update),
        )
        self.update = stored.update
        every = max(1, self.settings.evaluate_every)
        if self.tests and stored.update % every == 0 and str(stored.update) not in self._rows:
            self._rows[str(stored.update)] = {n: self._figures(d) for n, d in self.tests.items()}
            with atomic_write(self.folder / "measured.json") as file:
                file.write(json.dumps(self._rows) + "\n")
        return True

    def _figures(self, data: Any) -> dict[str, float]:  # noqa: ANN401
        test = data.parts.test
        net = self.learner.net
        return figures_of(predict(net, data.loader(test), test, seen=set(), classes=data.classes))

    def _read(self) -> dict[str, Any]:
        try:
            rows: dict[str, Any] = json.loads((self.folder / "measured.json").read_text("utf-8"))
            return rows
        except (OSError, ValueError):
            return {}

    def _provenance(self, update: int) -> Provenance:
        """The server knows who contributed, by the names that clients gave, and no recording.

        Under secure aggregation it does not know whose updates a round held: all who joined count.
        """
        what = "joined" if self.settings.secure_aggregation else "accepted"
        events = [x for x in self.store.events() if x["event"] == what]
        names = {self.public_name(str(x["client"])) for x in events}
        return Provenance(
            corpora=sorted({"federation", *self.before.corpora}),
            speakers=sorted({f"federation/{n}" for n in names} | set(self.before.speakers)),
            digests=self.before.digests,
            label_target="as contributors labelled",
            licence=self.before.licence or "as contributors say",
            split=f"federated, {self.settings.strategy}",
            merge=dict(self.learner.plan.merge),
            epochs=update,
        )

    def public_name(self, client: str) -> str:
        """The name of a client that others may read: a pseudonym, the same for the whole run."""
        if self.show_names:
            return client
        code = hmac.new(self._secret, client.encode(), hashlib.sha256).hexdigest()
        return f"contributor-{code[:10]}"

    def _public(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An event without what only the operator may know: names, nodes and clients' errors."""
        public = {k: v for k, v in event.items() if k not in ("node", "detail")}
        if "client" in event:
            public["client"] = self.public_name(str(event["client"]))
        return public

    # -- requests ----------------------------------------------------------------------------

    def folder_of(self, arm: str) -> Path:
        """Return the bundle folder of an arm.

        Raises:
            ConfigError: there is no such arm.
            BundleError: no model has been released yet.
        """
        if arm not in ("A", "B"):
            raise ConfigError(unknown("arm", arm, ("A", "B")))
        if arm == "B":
            if self.arm is None:
                raise ConfigError("Bad arm B: this server compares no second model; take A.")
            return bundle.find(self.arm)
        if not (self.folder / "bundle" / "config.yaml").is_file():
            raise BundleError("No model has been released yet; retry in a minute.")
        return self.folder / "bundle"

    def evaluate(self, name: str, arm: str) -> dict[str, Any]:
        """Evaluate a model on one of the server's corpora.

        Raises:
            ConfigError: there is no such corpus or arm.
        """
        if name not in self.tests:
            raise ConfigError(unknown("corpus", name, self.tests))
        data, loaded = self.tests[name], bundle.load(self.folder_of(arm))
        test = data.parts.test
        seen = set(loaded.provenance.speakers)
        predictions = predict(loaded.net, data.loader(test), test, seen=seen, classes=data.classes)
        about = {"corpus": name, "arm": arm, "model": loaded.name, "n": len(test)}
        return {**about, **figures_of(predictions)}

    def status(self) -> dict[str, Any]:
        """Return round, clients, results over rounds and refusals."""
        events = list(self.store.events())
        clients: dict[str, dict[str, Any]] = {}
        for line in events:
            name = str(line.get("client", ""))
            if line["event"] == "joined":
                shown = self.public_name(name)
                clients[name] = {"client": shown, "accepted": 0, "refused": 0, "here": True}
            elif name in clients and line["event"] in ("accepted", "refused"):
                clients[name][line["event"]] += 1
            elif name in clients and line["event"] == "left":
                clients[name]["here"] = False
        rows = self.store.rows()
        problems = ("refused", "capped", "late", "abandoned", "empty")
        return {
            "round": self.update if self.update >= 0 else 0,
            "rounds": self.settings.rounds,
            "done": (self.folder / "DONE").exists(),
            "strategy": self.settings.strategy,
            "classes": list(self.learner.plan.emotions),
            "clients": list(clients.values()),
            "contributions": sum(line["event"] == "accepted" for line in events),
            "measured": self._rows,
            "epsilon": rows[-1].get("epsilon") if rows else None,
            "refusals": [self._public(line) for line in events if line["event"] in problems][-50:],
            "arms": ["A"] + (["B"] if self.arm is not None else []),
        }


def read_secret(path: Path) -> bytes:
    """The secret that a run's pseudonyms are made from; it is drawn at the first call."""
    if not path.is_file():
        with atomic_write(path, mode="wb") as file:
            file.write(secrets.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()


# -- transfer of bundles -------------------------------------------------------------------------


def pack(folder: Path) -> bytes:
    """Return a bundle as a zip file of its plain files, all of one release."""
    return read_unchanged(lambda: folder, _pack, mark="config.yaml")


def _pack(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(folder.iterdir()):
            if path.is_file() and _is_part(path.name):
                packed.write(path, path.name)
    return out.getvalue()


def unpack(content: bytes, folder: Path) -> bundle.Bundle:
    """Unpack a bundle beside a folder, verify it by loading it, and replace the folder.

    The folder stays as it was where the new bundle is refused.

    Raises:
        BundleError: the content is no bundle, or the folder holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "trained_on.yaml").is_file():
        raise BundleError(f"Bad folder {folder}: it holds no bundle to replace; choose another.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            parts = packed.infolist()
            size = sum(i.file_size for i in parts)
            if size > _MOST_BYTES or not all(_is_part(i.filename) for i in parts):
                raise BundleError("Bad model of the server: it holds other files than a bundle's.")
            files = {i.filename: packed.read(i) for i in parts}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BundleError(f"Bad model of the server: {error}.") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, data in files.items():
            with atomic_write(new / name, mode="wb") as file:
                file.write(data)
        if not all((new / name).is_file() for name in ("config.yaml", "trained_on.yaml")):
            raise BundleError("Bad model of the server: config.yaml or trained_on.yaml is missing.")
        loaded = bundle.load(new)
        new.chmod(0o755)
        replace_folder(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return replace(loaded, folder=folder)


def _is_part(name: str) -> bool:
    weights = name.startswith("model-") and name.endswith(".safetensors")
    return name in _NAMES or (weights and "/" not in name and "\\" not in name)
