"""Parts of the contributor's page, which Gradio serves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import gradio as gr

from avser.errors import MediaError

#: Fonts of the system: Gradio's usual ones come from another host.
THEME = gr.themes.Soft(
    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "Consolas", "monospace"]
)
CSS = """
.avser-words p { margin: .3em 0 }
.avser-words .refused { color: #b00020; font-weight: 600 }
footer { display: none !important }
"""


def microphone(*, label: str = "Audio") -> gr.Audio:
    """Audio from the microphone or a file, played back; its value is a file for `take_upload`."""
    return gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label=label,
        editable=False,
        buttons=[],
    )


@contextmanager
def take_upload(upload: str, folder: Path, *, within: Path) -> Iterator[Path]:
    """Take an upload out of Gradio's folder, so that nothing is left of it there.

    Args:
        upload: path of a component's file.
        folder: that it is moved to; whoever made it removes it.
        within: Gradio's folder; nothing is taken from elsewhere, whatever a request says.

    Raises:
        MediaError: it is gone already.
    """
    source, path = Path(upload).resolve(), folder / "clip"
    try:
        if not source.is_relative_to(within.resolve()):
            raise FileNotFoundError(source)
        os.replace(source, path)
    except OSError:
        raise MediaError(
            "Bad clip: it has been deleted, as every clip is once it is classified; record or "
            "upload it again."
        ) from None
    with suppress(OSError):  # others of that content may lie beside it
        source.parent.rmdir()
    yield path
