"""Certificates of the server and key pairs of clients.

The coordinator makes a certificate authority and a certificate for the server's names. Each
contributor makes a key pair and sends the public key to the coordinator, who puts it into
``clients/``. The authority's certificate goes to the contributor. Private keys are never sent.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from avser.errors import ConfigError

_DAYS = 825  # the longest that all clients accept

CA, CA_KEY = "ca.pem", "ca.key"
CERTIFICATE, KEY = "server.pem", "server.key"
CLIENTS = "clients"


def make_server_keys(folder: Path, *, hosts: Sequence[str]) -> None:
    """Make an authority and the server's certificate; existing ones are not replaced.

    Args:
        folder: of the server's keys.
        hosts: names and addresses by which clients reach the server; this machine is added.

    Raises:
        ConfigError: the folder holds keys.
    """
    if (folder / CERTIFICATE).exists() or (folder / CA).exists():
        raise ConfigError(f"Bad folder {folder}: it holds keys; choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLIENTS).mkdir(exist_ok=True)
    authority, own = _new(), _new()
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "avser federation")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "avser federation server")])
    ca = (
        _builder(ca_name, ca_name, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False
        )
        .sign(authority, hashes.SHA256())
    )
    certificate = (
        _builder(name, ca_name, own.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, hashes.SHA256())
    )
    _write(folder / CA, ca.public_bytes(serialization.Encoding.PEM))
    _write(folder / CA_KEY, _pem(authority), private=True)
    _write(folder / CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
    _write(folder / KEY, _pem(own), private=True)


def make_client_keys(folder: Path, *, name: str) -> tuple[Path, Path]:
    """Make a client's key pair; return the private and the public file.

    Args:
        folder: of both files.
        name: of the client, in file names and on the server.

    Raises:
        ConfigError: the name has other characters, or the key exists.
    """
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise ConfigError(f"Bad name {name!r}: legal are letters, digits, - and _.")
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    if private.exists() or public.exists():
        raise ConfigError(f"Bad name {name!r}: {folder} holds such a key; choose another.")
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())  # the curve of Flower's nodes
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    _write(private, secret, private=True)
    shown = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    _write(public, shown + f" {name}\n".encode())
    return private, public


def read_public(path: Path) -> bytes:
    """A client's public key, as Flower registers it.

    Raises:
        ConfigError: the file holds no such key.
    """
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("it is no elliptic curve key")
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"Bad public key {path}: {error}; make it with avser federate keys client."
        ) from error
    return public_key_to_bytes(key)


def _new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"]):
        with suppress(ValueError):
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
            continue
        names.append(x509.DNSName(host))
    return names


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, private: bool = False) -> None:
    mode = 0o600 if private else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
