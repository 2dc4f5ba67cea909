"""Keys, what a node runs, who may give orders, and Flower's own commands."""

import asyncio
import os
import ssl
import stat
import sys
import zipfile
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListNodesResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supernode import fleet_http_connection as connection
from test_architecture import loaded_by

import avser.federated
from avser.cli import main
from avser.errors import AvserError, ConfigError
from avser.federated.client import node
from avser.federated.deployment import keys
from avser.federated.deployment.app_bundle import app_bundle, check_app
from avser.federated.deployment.flower_commands import prepare
from avser.federated.server.link import Link, restrict_to_fleet, unavailable_until


def test_telemetry_is_off_before_flower_is_imported() -> None:
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert avser.federated.__doc__ is not None


def test_the_authority_vouches_for_the_server(tmp_path: Path) -> None:
    assert main(["federate", "keys", "server", "--out", str(tmp_path), "--host", "10.1.2.3"]) == 0
    result = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = result.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(n) for n in names.get_values_for_type(x509.IPAddress)} == {
        "10.1.2.3",
        "127.0.0.1",
        "::1",
    }
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    result.verify_directly_issued_by(ca)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    assert context.cert_store_stats()["x509_ca"] == 1
    for secret in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="it holds keys"):
        keys.make_server_keys(tmp_path, hosts=[])


def test_a_contributors_key_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["federate", "keys", "client", "--out", str(tmp_path), "--name", "anna"]) == 0
    assert "never give it away" in capsys.readouterr().out
    assert stat.S_IMODE((tmp_path / "anna.key").stat().st_mode) == 0o600
    assert b"BEGIN PUBLIC KEY" in keys.read_public(tmp_path / "anna.pub")
    with pytest.raises(ConfigError, match="such a key"):
        keys.make_client_keys(tmp_path, name="anna")
    with pytest.raises(ConfigError, match="legal are letters"):
        keys.make_client_keys(tmp_path, name="../x")
    (tmp_path / "bad.pub").write_text("no key")
    with pytest.raises(ConfigError, match="Bad public key"):
        keys.read_public(tmp_path / "bad.pub")


def test_a_node_runs_this_avsers_app_and_no_other_code() -> None:
    digest, content = app_bundle()
    assert app_bundle() == (digest, content)
    check_app(content)
    with zipfile.ZipFile(BytesIO(content)) as packed:
        names = packed.namelist()
        assert not [n for n in names if n.endswith(".py")]  # it names functions, it holds none
        files = {n: packed.read(n) for n in names}
    for change in (
        {"avser/__init__.py": b"import os"},
        {"pyproject.toml": files["pyproject.toml"].replace(b"avser.federated", b"evil.federated")},
    ):
        other = BytesIO()
        with zipfile.ZipFile(other, "w") as packed:
            for name, data in {**files, **change}.items():
                packed.writestr(name, data)
        with pytest.raises(ConfigError, match="nothing of it was run"):
            check_app(other.getvalue())
    with pytest.raises(ConfigError, match="nothing of it was run"):
        check_app(b"no zip at all")


@pytest.mark.parametrize(
    ("address", "path", "taken"),
    [
        ("10.0.0.5", "/v1/fleet/activate-node", True),
        ("10.0.0.5", "/v1/control/start-run", False),
        ("10.0.0.5", "/v1/control/register-node", False),
        ("10.0.0.5", "/docs", False),
        ("127.0.0.1", "/v1/control/start-run", True),
    ],
)
def test_orders_are_taken_from_this_machine_alone(address: str, path: str, taken: bool) -> None:
    sent: list[Any] = []
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    async def send(message: Any) -> None:
        sent.append(message.get("status"))

    async def receive() -> Any:
        return {}

    scope = {"type": "http", "client": (address, 1), "path": path}
    asyncio.run(restrict_to_fleet(app)(scope, receive, send))
    assert (seen == [path]) is taken and (403 in sent) is not taken


@pytest.mark.parametrize("opened", [False, True])
def test_nodes_come_again_until_their_keys_are_known(opened: bool) -> None:
    taken: list[str] = []
    answered: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        taken.append(scope["path"])

    async def send(message: Any) -> None:
        answered.append(message.get("status"))

    joining = "/v1/fleet/activate-node"
    guarded = unavailable_until(app, lambda: opened, lambda: taken.append("keys are looked at"))
    for path in (joining, "/v1/fleet/pull-messages", "/v1/control/register-node"):
        asyncio.run(guarded({"type": "http", "path": path}, None, send))  # type: ignore[arg-type]
    theirs = ["keys are looked at", joining, "/v1/fleet/pull-messages"] if opened else []
    assert taken == [*theirs, "/v1/control/register-node"]  # the server itself registers them
    assert (503 in answered) is not opened

    def busy() -> None:
        raise AvserError("Busy server.")

    taken.clear()
    asyncio.run(
        unavailable_until(app, lambda: True, busy)({"type": "http", "path": joining}, None, send)
    )  # type: ignore[arg-type]
    assert not taken and answered[-2:] == [503, None]


class Control:
    """Flower's register of nodes: a removed key is never registered again."""

    def __init__(self) -> None:
        self.nodes: list[NodeInfo] = []
        self.busy = False

    def ListNodes(self, request: ListNodesRequest) -> ListNodesResponse:  # noqa: N802
        if self.busy:
            raise httpx.ReadTimeout("timed out")
        return ListNodesResponse(nodes_info=self.nodes)

    def RegisterNode(self, request: RegisterNodeRequest) -> RegisterNodeResponse:  # noqa: N802
        assert request.public_key not in {n.public_key for n in self.nodes}
        number = len(self.nodes) + 1
        self.nodes.append(NodeInfo(node_id=number, public_key=request.public_key, status="online"))
        return RegisterNodeResponse(node_id=number)

    def UnregisterNode(self, request: UnregisterNodeRequest) -> None:  # noqa: N802
        self.nodes[request.node_id - 1].status = "unregistered"


def test_keys_are_registered_and_unregistered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys.make_server_keys(tmp_path / "keys", hosts=[])
    keys.make_client_keys(tmp_path / "anna", name="anna")
    source, there = tmp_path / "anna" / "anna.pub", tmp_path / "keys" / "clients" / "anna.pub"
    control, registered = Control(), list[str]()

    def opened() -> Link:
        words = {"host": "127.0.0.1", "port": 1, "secrets": tmp_path / "keys"}
        link = Link(tmp_path, **words, registered=registered.append)  # type: ignore[arg-type]
        vars(link)["_client"] = control
        return link

    link = opened()
    there.write_bytes(source.read_bytes()[:20])  # a copy that is under way
    link.register_keys()
    link.register_keys()
    assert not registered
    assert sum("Bad public key" in r.message for r in caplog.records) == 1
    there.write_bytes(source.read_bytes())
    control.busy = True
    with pytest.raises(AvserError, match="sent again"):
        link.register_keys()
    control.busy = False
    link.register_keys()
    link.register_keys()
    assert registered == ["anna"]
    link = opened()  # the server is started again
    link.register_keys()
    assert registered == ["anna", "anna"]
    assert len(control.nodes) == 1
    there.unlink()
    link.register_keys()
    assert control.nodes[0].status == "unregistered"
    there.write_bytes(source.read_bytes())
    link.register_keys()
    link.register_keys()
    there.unlink()
    link.register_keys()
    assert registered == ["anna", "anna"]
    assert sum("stays refused" in r.message for r in caplog.records) == 1


def test_a_node_outlives_a_slow_or_restarted_server(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "make_simple_http_retry_invoker"
    monkeypatch.setattr(connection, name, vars(connection)[name])  # put back after the test
    node._retry_transient_errors()
    patient = vars(connection)[name]().should_giveup
    for error in (
        httpx.ConnectTimeout("_ssl.c:989: The handshake operation timed out"),
        httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of it"),
        httpx.ConnectError("[Errno 111] Connection refused"),
    ):
        assert not patient(error)
    for lasting in (
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
        httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number"),
    ):
        assert patient(lasting)


def test_a_node_that_is_refused_after_it_joined_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker\n")
    asked: list[list[str]] = []
    monkeypatch.setattr(os, "environ", os.environ.copy())  # joining sets Flower's variables
    monkeypatch.setattr(sys, "argv", ["avser"])
    monkeypatch.setattr(node, "_check_apps", lambda: None)
    monkeypatch.setattr(node, "_retry_transient_errors", lambda: None)
    flower = import_module("flwr.supernode.cli.flower_supernode")
    monkeypatch.setattr(flower, "flower_supernode", lambda: asked.append(sys.argv))
    words = ["federate", "client", "--server", "host:1", "--data", str(tmp_path), "--insecure"]
    assert main([*words, "--home", str(tmp_path / "home")]) == 1
    assert asked[0][:3] == ["flower-supernode", "--superlink", "host:1"]
    assert "Lost the federation at host:1" in capsys.readouterr().err


def test_flowers_commands_are_found_and_nothing_is_installed(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin"}
    prepare(tmp_path, environment)
    first = Path(environment["PATH"].split(os.pathsep)[0])
    assert {p.name for p in first.iterdir()} == {
        "flower-superexec",
        "flwr-serverapp",
        "flwr-clientapp",
    }
    assert all(os.access(p, os.X_OK) for p in first.iterdir())
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["server", "--out", "x", "-c", "configs/data/ravdess.yaml"], "or --insecure"),
        (["client", "--server", "h:1", "--data", "x"], "or give --insecure"),
        (["client", "--server", "h:1", "--data", "x", "--insecure", "--ca", "y"], "Bad pair"),
        (["client", "--server", "h:1", "--data", "nowhere", "--insecure"], "no manifest.csv"),
        (["test", "--server", "https://h"], "either -c DATA"),
        (["simulate", "--out", "x", "--compare", "all"], "Bad compare"),
    ],
)
def test_bad_words_are_one_sentence(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["federate", *words]) == 1
    result = capsys.readouterr().err.strip()
    assert message in result and result.count("\n") == 0


def test_a_server_without_its_certificate_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="avser federate keys server"):
        Link(tmp_path, host="127.0.0.1", port=1, secrets=tmp_path)


def test_a_node_is_light() -> None:
    """Its process only carries messages; the app's own process trains."""
    assert loaded_by("import avser.federated.client.node", "torch", "pytorch_lightning") == []


def test_help_needs_no_torch() -> None:

    for command in ("[]", "['simulate', '--help']", "['server', '--help']"):
        code = (
            "import contextlib\nfrom avser.cli import federate\n"
            f"with contextlib.suppress(SystemExit): federate.run({command})"
        )
        assert loaded_by(code, "torch", "pytorch_lightning", "flwr") == []
