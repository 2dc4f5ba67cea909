"""A folder that is a Space (Docker): the page with one model, ready to be pushed or run here."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import avser
from avser.bundle.serialization import Bundle
from avser.bundle.swap import replace_folder
from avser.errors import ConfigError

_APP = '''\
"""The page of one model. Here: pip install -r requirements.txt, then python app.py."""

import os
from pathlib import Path

from avser.web.limits import Limits
from avser.web.server import listen_at, open_service, serve

if __name__ == "__main__":  # worker processes read this file too
    host = os.environ.get("HOST", "127.0.0.1")
    port = int(os.environ.get("PORT", "7860"))
    with listen_at(host, port) as at:
        bundle = Path(__file__).resolve().parent / "bundle"
        service = open_service(model=str(bundle), device="cpu", limits=Limits(duration_s=60.0))
        print(f"at http://{host}:{at.getsockname()[1]}", flush=True)
        serve(service, at, token=os.environ.get("AVSER_TOKEN"))
'''
_HEAD = """\
---
title: {title}
sdk: docker
app_port: 7860
license: other
---

"""
_DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
# flags of pip, such as an index of torch's CPU builds, which are gigabytes smaller than the default
ARG PIP_EXTRA=""
RUN pip install --no-cache-dir ${PIP_EXTRA} -r requirements.txt
COPY . .
RUN useradd --create-home --uid 1000 user
USER user
# inside a container 0.0.0.0 is the container's own network
ENV HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 7860
CMD ["python", "app.py"]
"""
_NOT_NEEDED = ("__pycache__", "datamodules", "configs", "checkpoints")


def write_space(bundle: Bundle, folder: str | Path) -> Path:
    """Write ``app.py``, what it needs, a ``Dockerfile``, and ``README.md``, the card.

    Args:
        bundle: the model.
        folder: new, empty, or written by this before; it is replaced as a whole.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder holds something else.
    """
    folder = Path(folder)
    ours = (folder / "app.py").is_file() and (folder / "bundle").is_dir()
    if folder.exists() and not ours and (folder.is_file() or any(folder.iterdir())):
        raise ConfigError(f"Bad folder {folder}: it holds something else; choose a new one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(bundle, new)
        new.chmod(0o755)
        replace_folder(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _fill(bundle: Bundle, folder: Path) -> None:
    package = Path(avser.__file__).parent
    shutil.copytree(package, folder / "avser", ignore=shutil.ignore_patterns(*_NOT_NEEDED))
    shutil.copytree(bundle.folder, folder / "bundle")
    for file in distribution("avser").files or ():
        if file.name == "LICENSE":
            shutil.copy(Path(str(file.locate())), folder / "LICENSE")
    head = _HEAD.format(title=bundle.name)
    texts = {
        "app.py": _APP,
        "Dockerfile": _DOCKERFILE,
        "requirements.txt": "\n".join([*requirements(), ""]),
        "README.md": head + (bundle.card or f"# {bundle.name}\n"),
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def requirements() -> list[str]:
    """Requirements of avser and its extra ``[web]``, in the format of pip."""
    result = []
    for line in distribution("avser").requires or ():
        need, _, marker = (part.strip() for part in line.partition(";"))
        if not marker or marker.replace("'", '"') == 'extra == "web"':
            result.append(need)
    return result
