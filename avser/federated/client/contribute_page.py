"""The contributor's page: act an emotion, hear it, see what the newest model says, give it or not.

It runs on the contributor's own machine and listens there alone. The newest model is fetched from
the server; recordings stay in the page's process, and of a submitted one only what was chosen is
kept.
"""

import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
import numpy as np

from avser.bundle import serialization as bundle
from avser.errors import AvserError
from avser.federated.client.contributions import Contributions
from avser.federated.client.remote import Federation
from avser.inference.predictor import Predictor
from avser.media.reader import read_audio
from avser.web.widgets import CSS, THEME, microphone, take_upload

NEWER_S = 60.0  # between two looks for a newer model
GOAL_S = 1.0


class LatestModel:
    """The newest model, fetched again when it is old.

    Args:
        federation: the server; None keeps the model of the folder.
        folder: of the bundle.
    """

    def __init__(self, federation: Federation | None, folder: Path) -> None:
        self._federation, self.folder = federation, folder
        self._fetched = 0.0
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Fetch it, if a minute has passed; the old one serves where the server is away.

        Raises:
            AvserError: there is no model at all.
        """
        with self._lock:
            if self._federation is not None and time.monotonic() - self._fetched > NEWER_S:
                try:
                    self._federation.model(self.folder)
                except AvserError:
                    if not (self.folder / "config.yaml").is_file():
                        raise
                self._fetched = time.monotonic()
            loaded = bundle.load(self.folder)
            predictor = Predictor(loaded.net, name=loaded.name, device="cpu")
            self.name, self.spec, self.predictor = (
                loaded.name,
                dict(loaded.config["net"]),
                predictor,
            )


class ContributionSession:
    """Handlers of the page.

    Args:
        newest: model.
        contributions: of the contributor.
        scratch: folder for a recording while it is looked at.
    """

    def __init__(self, newest: LatestModel, contributions: Contributions, scratch: Path) -> None:
        self.newest, self.contributions, self.scratch = newest, contributions, scratch
        self._wave: Any = None
        self._predicted = ""
        self._note = ""  # stays when the recorder empties itself after a submission

    def prompt(self) -> str:
        """The next emotion to act."""
        return self.contributions.prompt(self.newest.predictor.net.emotions)

    def listen(self, clip: str | None) -> tuple[dict[str, float] | None, str, Any]:
        """Judge a recording: shares, words, and whether it may be submitted."""
        self._wave, self._predicted = None, ""
        if clip is None:
            return None, self._note, gr.Button(interactive=False)
        self._note = ""
        try:
            wave = read_audio(Path(clip))
            started = time.perf_counter()
            found = self.newest.predictor(np.asarray(wave, dtype=np.float32), sample_rate=16_000)
            took = time.perf_counter() - started
        except AvserError as error:
            return None, _words(str(error), bad=True), gr.Button(interactive=False)
        if found.label is None or found.probabilities is None:
            return (
                None,
                _words("No voice is in it; record again.", bad=True),
                gr.Button(interactive=False),
            )
        self._wave, self._predicted = wave, found.label
        goal = "" if took < GOAL_S else f" (the goal is {GOAL_S:g} s)"
        text = f"{self.newest.name} hears <b>{found.label}</b>; answered in {took:.2f} s{goal}."
        return dict(found.probabilities), f"<p>{text}</p>", gr.Button(interactive=True)

    def submit(self, clip: str | None, prompted: str) -> tuple[Any, str, Any, str, str]:
        """Keep what was chosen of the recording; the recording itself goes."""
        if self._wave is None or clip is None:
            return (*self._nothing(), _words("Record something first.", bad=True), self.state())
        self.contributions.submit(
            np.asarray(self._wave, dtype=np.float32),
            prompted=prompted,
            predicted=self._predicted,
            net=self.newest.predictor.net,
            model=self.newest.spec,
        )
        self._drop(clip)
        kept = {"features": "Its features are kept", "audio": "It is kept", "nothing": "Counted"}
        self._note = _words(f"{kept[self.contributions.keep]}. Thank you.")
        self.newest.refresh()
        return (*self._nothing(), self._note, self.state())

    def _drop(self, clip: str) -> None:
        try:
            with take_upload(clip, self.scratch, within=self.scratch) as path:
                path.unlink(missing_ok=True)
        except AvserError:
            return

    def _nothing(self) -> tuple[Any, str, Any]:
        self._wave = None
        return None, self.prompt(), gr.Button(interactive=False)

    def delete(self) -> tuple[str, str]:
        """Delete everything that is kept here."""
        count = self.contributions.delete()
        return _words(f"{count} contributions deleted from this machine."), self.state()

    def state(self) -> str:
        """Tally, and what left the machine."""
        tally = self.contributions.tally()
        kept = {
            "features": "features of submitted clips; no recording",
            "audio": "submitted recordings",
            "nothing": "nothing but this count",
        }[self.contributions.keep]
        return (
            '<table class="tally">'
            f"<tr><th>Contributions<td id=submitted>{tally['submitted']}"
            f"<tr><th>Recognised as prompted<td id=recognised>{tally['recognised']}"
            f"<tr><th>Kept on this machine<td>{escape(kept)}"
            f"<tr><th>Left this machine<td>{tally['bytes_sent'] / 1e6:.2f} MB of weights in "
            f"{tally['answers']} answers"
            f"<tr><th>Did not leave it<td>recordings, features, labels</table>"
        )


def _words(text: str, *, bad: bool = False) -> str:
    role = ' class="refused" role="alert"' if bad else ""
    return f"<p{role}>{escape(text)}</p>"


def build_page(desk: ContributionSession) -> Any:  # noqa: ANN401 (a gradio.Blocks)
    """Lay the page out."""
    with gr.Blocks(title="avser: contribute", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# Contribute your voice\nSay any sentence as if you felt what is asked for. Listen, "
            "record again if you like, and submit. Only weights that this machine learns travel."
        )
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(
                    desk.prompt(), label="Please act", interactive=False, elem_id="prompt"
                )
                voice = microphone(label="Your recording")
                with gr.Row():
                    submit = gr.Button(
                        "Submit", variant="primary", interactive=False, elem_id="submit"
                    )
                    other = gr.Button("Another emotion", elem_id="other")
            with gr.Column():
                label = gr.Label(label="The newest model hears", elem_id="label")
                words = gr.HTML(elem_id="words", elem_classes="avser-words", js_on_load=None)
                state = gr.HTML(desk.state(), elem_id="state", js_on_load=None)
                delete = gr.Button("Delete all that is kept here", elem_id="delete")
        quiet: dict[str, Any] = {"api_visibility": "private"}
        voice.change(desk.listen, voice, [label, words, submit], **quiet)
        submit.click(desk.submit, [voice, prompt], [voice, prompt, submit, words, state], **quiet)
        other.click(desk.prompt, None, prompt, **quiet)
        delete.click(desk.delete, None, [words, state], **quiet)
        blocks.load(desk.state, None, state, **quiet)
    return blocks


def serve(desk: ContributionSession, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page on this machine alone, until interrupted."""
    page = build_page(desk)
    _, url, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        theme=THEME,
        css=CSS,
        footer_links=[],
        ssr_mode=False,
        show_error=True,
    )
    ready(url)
    try:
        page.block_thread()
    finally:
        page.close()
