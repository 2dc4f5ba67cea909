"""Components of the pages: recorders, and the view of a result.

No result becomes a file on the server: pictures, videos and tables travel inside the
page. Only uploads do, and `take_upload` takes those out of Gradio's folder.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import route_utils

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
#results td { white-space: normal; max-width: 22em }
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
    """A video from the webcam or a file, played back; its value is a file for `take_upload`."""
    return gr.Video(
        sources=["upload", "webcam"],
        include_audio=True,
        webcam_options=gr.WebcamOptions(mirror=True),
        label=label,
        buttons=[],
    )


def microphone(*, label: str = "Audio") -> gr.Audio:
    """Audio from the microphone or a file, played back; its value is a file for `take_upload`."""
    return gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label=label,
        editable=False,
        buttons=[],
    )


class SeparateUpload(route_utils.GradioUploadFile):
    """An upload whose folder is named by chance, and not after its content.

    Otherwise two visitors who send the same file share a path, and the first one's request takes
    the file away from the second.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 (what Gradio gives)
        super().__init__(*args, **settings)
        self.sha.update(secrets.token_bytes(32))


def separate_uploads() -> None:
    """Give each upload to Gradio a folder of its own."""
    vars(route_utils)["GradioUploadFile"] = SeparateUpload


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


@dataclass(frozen=True)
class ResultView:
    """Components of a result: bars, text, timeline and annotated video."""

    label: gr.Label
    text: gr.HTML
    plot: gr.HTML
    video: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """The components, in the order in which updates are given."""
        return [self.label, self.text, self.plot, self.video]


def result_view() -> ResultView:
    """Make the components of a result."""
    return ResultView(
        label=gr.Label(label="Expressed emotion", elem_id="label"),
        text=gr.HTML(elem_id="words", elem_classes="avser-words", js_on_load=None),
        plot=gr.HTML(elem_id="plot", elem_classes="avser-picture", js_on_load=None),
        video=gr.HTML(
            elem_id="annotated",
            elem_classes="avser-video",
            html_template="<video controls playsinline hidden></video>",
            js_on_load=_PLAY,
        ),
    )


def result_update(
    prediction: Prediction, *, plot: bytes = b"", video: bytes = b"", note: str = ""
) -> list[Any]:
    """Updates of `ResultView.outputs` for a prediction.

    Args:
        prediction: to show.
        plot: of the timeline, PNG.
        video: annotated copy, mp4.
        note: a sentence below.
    """
    shares = dict(prediction.probabilities) if prediction.probabilities else None
    return [shares, summary(prediction, note=note), picture(plot), base64.b64encode(video).decode()]


def error_update(sentence: str) -> list[Any]:
    """Updates of `ResultView.outputs` where there is no prediction."""
    return [None, f'<p class="refused" role="alert">{escape(sentence)}</p>', "", ""]


def empty_update() -> list[Any]:
    """Updates of `ResultView.outputs` that remove the last result."""
    return [None, "", "", ""]


def summary(prediction: Prediction, *, note: str = "") -> str:
    """Return HTML that names the streams used and the reason why one was not."""
    if prediction.label is None:
        sentences = ["No voice and no face were found in this clip."]
    else:
        names = {"audio": "the voice", "video": "the face"}
        used = " and ".join(names[m] for m in prediction.modalities)
        sentences = [f"Based on <b>{used}</b>; model: {escape(prediction.model)}."]
        if prediction.reason:
            sentences.append(f"Note: {escape(prediction.reason)}.")
    sentences += [escape(note)] if note else []
    return "".join(f"<p>{sentence}</p>" for sentence in sentences)


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
