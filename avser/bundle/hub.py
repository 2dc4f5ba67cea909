"""Bundles on the Hugging Face Hub: ``hf://OWNER/NAME``, or ``hf://OWNER/NAME@REVISION``.

A download is a bundle like any other: nothing in it is executed, and the hash of the weights is
verified before they are used.
"""

from __future__ import annotations

import re
from pathlib import Path

from avser.bundle.listing import listed
from avser.data.content import cache_folder
from avser.errors import BundleError
from avser.extras import require

PREFIX = "hf://"
_NAME = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
#: Files of a bundle; others of a repository are not downloaded.
FILES = ("config.yaml", "trained_on.yaml", "digests.txt", "README.md", "model-*.safetensors")


def is_hub_name(model: str | Path) -> bool:
    """Whether a model's name is one of the Hub (``hf://...``)."""
    return str(model).startswith(PREFIX)


def download(model: str) -> Path:
    """Download a bundle into the cache folder, except files that are there.

    Args:
        model: ``hf://OWNER/NAME``, perhaps with ``@REVISION`` (a branch, tag or commit).

    Returns:
        The folder of the bundle.

    Raises:
        BundleError: the name is malformed, or the bundle can't be downloaded.
        ConfigError: huggingface_hub is not installed.
    """
    match = _NAME.fullmatch(model)
    if match is None:
        raise BundleError(f"Bad model {model!r}: expected hf://OWNER/NAME or hf://OWNER/NAME@TAG.")
    require("hub", "huggingface_hub")
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            match["repo"],
            revision=match["revision"],
            allow_patterns=list(FILES),
            # files, not links into another folder, which no bundle may have
            local_dir=cache_folder() / "hub" / match["repo"] / (match["revision"] or "latest"),
        )
    except Exception as error:  # of its HTTP library, its own, and of the disk
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BundleError(
            f"Can't download {model}: {reason[0].rstrip('.')}; check the name, the network, and "
            "for a private model the token."
        ) from error
    return Path(folder)


def push_to_hub(
    folder: str | Path, repo: str, *, private: bool = False, message: str = "Upload avser bundle"
) -> str:
    """Upload a bundle; a missing repository is created.

    Args:
        folder: of the bundle, or of a run.
        repo: OWNER/NAME.
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        Address of the repository.

    Raises:
        BundleError: it is no bundle, or it can't be uploaded.
        ConfigError: huggingface_hub is not installed.
    """
    place = Path(folder)
    place = (
        place
        if (place / "config.yaml").is_file() and list(place.glob("*.safetensors"))
        else (place / "bundle")
    )
    listed(place)  # raises where it is no bundle
    if _NAME.fullmatch(PREFIX + repo) is None:
        raise BundleError(f"Bad repository {repo!r}: expected OWNER/NAME.")
    require("hub", "huggingface_hub")
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=place, commit_message=message, allow_patterns=list(FILES)
        )
    except Exception as error:  # see `download`
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BundleError(
            f"Can't upload to {repo}: {reason[0].rstrip('.')}; log in with hf auth login, and "
            "check the name."
        ) from error
    return str(address)
