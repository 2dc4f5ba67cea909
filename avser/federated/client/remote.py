"""A federation from other programs, in a few lines.

federation = Federation("https://host:9093", ca="ca.pem")
print(federation.status()["round"])
model = federation.model("newest")            # a bundle, verified
print(federation.predict("clip.wav")["label"])
federation.close()                            # or use it in a with statement
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from avser.bundle.serialization import Bundle
from avser.errors import AvserError, ConfigError


class ServerError(AvserError):
    """What a server says of a request."""


class Federation:
    """The HTTP interface of a federation's server.

    Args:
        url: ``https://HOST:PORT``.
        ca: the server's ca.pem; None trusts what the system trusts.
        token: bearer token, if the server asks for one.
    """

    def __init__(self, url: str, *, ca: str | Path | None = None, token: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            url = f"https://{url}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if ca is not None and not Path(ca).is_file():
            raise ConfigError(f"Bad certificate {ca}: there is no such file.")
        import ssl

        verify: Any = True if ca is None else ssl.create_default_context(cafile=str(ca))
        self._http = httpx.Client(base_url=url, headers=headers, verify=verify, timeout=60.0)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise ServerError(
                f"Bad server {self._http.base_url}: {error}; check address, port and --ca."
            ) from error
        if answer.status_code >= 400:
            try:
                said = str(answer.json()["error"]["message"])
            except (ValueError, KeyError, TypeError):
                said = f"it answered {answer.status_code}."
            raise ServerError(said)
        return answer

    def status(self) -> dict[str, Any]:
        """Round, clients, figures over rounds, refusals."""
        found: dict[str, Any] = self._ask("GET", "/v1/status").json()
        return found

    def model(self, out: str | Path, *, arm: str = "A") -> Bundle:
        """Fetch the newest model into a folder, and load it.

        Raises:
            ServerError: the server has none, or can't be reached.
            BundleError: what it sent is damaged or unsafe.
        """
        from avser.federated.server.releases import unpack

        return unpack(self._ask("GET", "/v1/model", params={"arm": arm}).content, Path(out))

    def test(self, corpus: str = "test", *, arm: str = "A") -> dict[str, Any]:
        """Measure the newest model on one of the server's corpora."""
        found: dict[str, Any] = self._ask(
            "POST", "/v1/test", json={"corpus": corpus, "arm": arm}
        ).json()
        return found

    def predict(
        self,
        clip: str | Path | None = None,
        *,
        mfcc: Sequence[Sequence[float]] | None = None,
    ) -> dict[str, Any]:
        """Label a recording, or MFCC frames where the served model hears those.

        Args:
            clip: path of a recording.
            mfcc: ``[F, M]``, a row a frame.
        """
        if (clip is None) == (mfcc is None):
            raise ConfigError("Bad input: give a clip or mfcc, one of them.")
        if clip is None:
            rows = [[float(v) for v in row] for row in mfcc or ()]
            answer = self._ask("POST", "/v1/predict", json={"mfcc": rows})
        else:
            with Path(clip).open("rb") as file:
                answer = self._ask("POST", "/v1/predict", files={"file": (Path(clip).name, file)})
        found: dict[str, Any] = answer.json()
        return found
