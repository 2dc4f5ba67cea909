"""Python client of the federation server's HTTP API.

federation = Federation("https://host:9093", ca="ca.pem")
print(federation.status()["round"])
model = federation.model("latest")            # a bundle, verified
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
    """Error reported by the server, or no connection to it."""


class Federation:
    """Client of a federation server's HTTP API.

    Args:
        url: ``https://HOST:PORT``.
        ca: the server's ca.pem; None uses the system's authorities.
        token: bearer token, if the server requires one.
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
                message = str(answer.json()["error"]["message"])
            except (ValueError, KeyError, TypeError):
                message = f"Bad request: the server replied with status {answer.status_code}."
            raise ServerError(message)
        return answer

    def status(self) -> dict[str, Any]:
        """Return round, clients, results over rounds and refusals."""
        status: dict[str, Any] = self._ask("GET", "/v1/status").json()
        return status

    def model(self, out: str | Path, *, arm: str = "A") -> Bundle:
        """Download the latest model into a folder, verify and load it.

        A model that was there before stays where the new one is refused.

        Raises:
            ServerError: the server has no model, or can't be reached.
            BundleError: the download is damaged or unsafe.
        """
        from avser.federated.server.releases import unpack

        return unpack(self._ask("GET", "/v1/model", params={"arm": arm}).content, Path(out))

    def test(self, corpus: str = "test", *, arm: str = "A") -> dict[str, Any]:
        """Evaluate the latest model on one of the server's corpora."""
        results: dict[str, Any] = self._ask(
            "POST", "/v1/test", json={"corpus": corpus, "arm": arm}
        ).json()
        return results

    def predict(
        self,
        clip: str | Path | None = None,
        *,
        mfcc: Sequence[Sequence[float]] | None = None,
    ) -> dict[str, Any]:
        """Predict from a recording, or from MFCC frames if the served model has that front end.

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
        prediction: dict[str, Any] = answer.json()
        return prediction
