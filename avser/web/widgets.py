"""Building blocks of pages: a recorder, and what shows an answer.

Nothing of an answer becomes a file on the server: pictures, videos and tables travel inside the
page. Only uploads do, and `claim` takes those out of Gradio's folder.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from avser.errors import MediaError
from avser.types import Prediction

#: Fonts of the system: Gradio's usual ones come from another host.
THEME = gr.themes.Soft(
    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "Consolas", "monospace"]
)
CSS = """
.avser-words p { margin: .3em 0 }
.avser-words .refused { color: #b00020; font-weight: 600 }
.avser-picture img { width: 100%; background: #fff; border-radius: 8px }
.avser-video video { width: 100%; border-radius: 8px }
#answers td { white-space: normal; max-width: 22em }
footer { display: none !important }
"""
# a browser plays a blob everywhere, and a data: address not everywhere
_PLAY = """
const show = async () => {
  const video = element.querySelector('video');
  if (video.src) URL.revokeObjectURL(video.src);
  video.hidden = !props.value;
  if (!props.value) { video.removeAttribute('src'); video.load(); return; }
  const bytes = Uint8Array.from(atob(props.value), c => c.charCodeAt(0));
  video.src = URL.createObjectURL(new Blob([bytes], {type: 'video/mp4'}));
};
watch('value', show);
"""


def camera(*, label: str = "Video") -> gr.Video:
    """A video from the webcam or a file, played back; its value is a file for `claim`."""
    return gr.Video(
        sources=["upload", "webcam"],
        include_audio=True,
        webcam_options=gr.WebcamOptions(mirror=True),
        label=label,
        buttons=[],
    )


def microphone(*, label: str = "Voice") -> gr.Audio:
    """A voice from the microphone or a file, played back; its value is a file for `claim`."""
    return gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label=label,
        editable=False,
        buttons=[],
    )


@contextmanager
def claim(upload: str, folder: Path, *, within: Path) -> Iterator[Path]:
    """Take an upload out of Gradio's folder, so that nothing is left of it there.

    Args:
        upload: file that a component gave.
        folder: that it is moved to; whoever made it removes it.
        within: Gradio's folder; nothing is taken from elsewhere, whatever a request says.

    Raises:
        MediaError: it is gone already.
    """
    given, path = Path(upload).resolve(), folder / "clip"
    try:
        if not given.is_relative_to(within.resolve()):
            raise FileNotFoundError(given)
        os.replace(given, path)
    except OSError:
        raise MediaError(
            "Bad clip: it is no longer here, for clips are deleted after their answer; record it "
            "or drop it again."
        ) from None
    with suppress(OSError):  # others of that content may lie beside it
        given.parent.rmdir()
    yield path


@dataclass(frozen=True)
class Result:
    """Components that show an answer: bars, words, timeline and annotated video."""

    label: gr.Label
    words: gr.HTML
    plot: gr.HTML
    video: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """The components, in the order in which updates are given."""
        return [self.label, self.words, self.plot, self.video]


def result() -> Result:
    """Make the components that show an answer."""
    return Result(
        label=gr.Label(label="Expressed emotion", elem_id="label"),
        words=gr.HTML(elem_id="words", elem_classes="avser-words", js_on_load=None),
        plot=gr.HTML(elem_id="plot", elem_classes="avser-picture", js_on_load=None),
        video=gr.HTML(
            elem_id="annotated",
            elem_classes="avser-video",
            html_template="<video controls playsinline hidden></video>",
            js_on_load=_PLAY,
        ),
    )


def shown(
    prediction: Prediction, *, plot: bytes = b"", video: bytes = b"", note: str = ""
) -> list[Any]:
    """Updates of `Result.outputs` for an answer.

    Args:
        prediction: to show.
        plot: of the timeline, PNG.
        video: annotated copy, mp4.
        note: said below.
    """
    shares = dict(prediction.probabilities) if prediction.probabilities else None
    return [shares, words(prediction, note=note), picture(plot), base64.b64encode(video).decode()]


def refused(sentence: str) -> list[Any]:
    """Updates of `Result.outputs` where there is no answer."""
    return [None, f'<p class="refused" role="alert">{escape(sentence)}</p>', "", ""]


def cleared() -> list[Any]:
    """Updates of `Result.outputs` that take an old answer away."""
    return [None, "", "", ""]


def words(prediction: Prediction, *, note: str = "") -> str:
    """Say in HTML what was used, and why not more."""
    if prediction.label is None:
        said = ["No voice and no face to judge."]
    else:
        names = {"audio": "the voice", "video": "the face"}
        used = " and ".join(names[m] for m in prediction.modalities)
        said = [f"Judged by <b>{used}</b>, with {escape(prediction.model)}."]
        if prediction.reason:
            said.append(f"Why not more: {escape(prediction.reason)}.")
    said += [escape(note)] if note else []
    return "".join(f"<p>{sentence}</p>" for sentence in said)


def picture(png: bytes) -> str:
    """A PNG as HTML."""
    if not png:
        return ""
    data = base64.b64encode(png).decode()
    return f'<img alt="Probabilities over time" src="data:image/png;base64,{data}">'


def download(text: str, *, name: str, title: str) -> str:
    """A link in HTML to a text that the page itself holds."""
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="{escape(name)}" href="data:text/csv;base64,{data}">{escape(title)}</a>'


def card_text(cards: Sequence[str]) -> str:
    """Model cards one below the other, Markdown."""
    return "\n\n---\n\n".join(cards) or "This model has no card."
