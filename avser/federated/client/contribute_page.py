"""Contributor's page: record an acted emotion, play it back, see the prediction, submit it.

The page is served on the contributor's own machine, to that machine alone. The latest model is
downloaded from the server. Recordings stay in the page's process; of a submitted one only the
chosen part is stored.
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

REFRESH_S = 60.0  # shortest time between two downloads of the model
GOAL_S = 1.0  # longest time for a prediction


class LatestModel:
    """Latest model of the server, downloaded again when it is old.

    Args:
        federation: the server; None uses the model in the folder.
        folder: of the bundle.
    """

    def __init__(self, federation: Federation | None, folder: Path) -> None:
        self._federation, self.folder = federation, folder
        self._fetched = 0.0
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Download the model if a minute has passed; without a connection the old one stays in use.

        Raises:
            AvserError: there is neither an old nor a new model.
        """
        with self._lock:
            if self._federation is not None and time.monotonic() - self._fetched > REFRESH_S:
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
        model: latest model.
        contributions: of the contributor.
        scratch: folder for recordings until they are submitted.
    """

    def __init__(self, model: LatestModel, contributions: Contributions, scratch: Path) -> None:
        self.model, self.contributions, self.scratch = model, contributions, scratch
        self._wave: Any = None
        self._predicted = ""
        self._note = ""  # stays when the recorder clears itself after a submission

    def prompt(self) -> str:
        """The next emotion to act."""
        return self.contributions.prompt(self.model.predictor.net.emotions)

    def predict(self, clip: str | None) -> tuple[dict[str, float] | None, str, Any]:
        """Predict from a recording; return probabilities, text and the submit button."""
        self._wave, self._predicted = None, ""
        if clip is None:
            return None, self._note, gr.Button(interactive=False)
        self._note = ""
        try:
            wave = read_audio(Path(clip))
            started = time.perf_counter()
            samples = np.asarray(wave, dtype=np.float32)
            prediction = self.model.predictor(samples, sample_rate=16_000)
            took = time.perf_counter() - started
        except AvserError as error:
            return None, _words(str(error), bad=True), gr.Button(interactive=False)
        if prediction.label is None or prediction.probabilities is None:
            return (
                None,
                _words("The recording has no speech; record again.", bad=True),
                gr.Button(interactive=False),
            )
        self._wave, self._predicted = wave, prediction.label
        goal = "" if took < GOAL_S else f" (the goal is {GOAL_S:g} s)"
        text = f"{self.model.name}: <b>{prediction.label}</b>, predicted in {took:.2f} s{goal}."
        return dict(prediction.probabilities), f"<p>{text}</p>", gr.Button(interactive=True)

    def submit(self, clip: str | None, prompted: str) -> tuple[Any, str, Any, str, str]:
        """Store the chosen part of a recording and delete the recording."""
        if self._wave is None or clip is None:
            return (*self._nothing(), _words("Record something first.", bad=True), self.state())
        self.contributions.submit(
            np.asarray(self._wave, dtype=np.float32),
            prompted=prompted,
            predicted=self._predicted,
            net=self.model.predictor.net,
            model=self.model.spec,
        )
        self._drop(clip)
        stored = {"features": "Features stored", "audio": "Recording stored", "nothing": "Counted"}
        self._note = _words(f"{stored[self.contributions.keep]}. Thank you.")
        self.model.refresh()
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
        """Delete all contributions on this machine."""
        count = self.contributions.delete()
        return _words(f"{count} contributions deleted from this machine."), self.state()

    def state(self) -> str:
        """Number of contributions, and the bytes that were sent."""
        tally = self.contributions.tally()
        stored = {
            "features": "features of submitted clips; no recording",
            "audio": "submitted recordings",
            "nothing": "this count alone",
        }[self.contributions.keep]
        return (
            '<table class="tally">'
            f"<tr><th>Contributions<td id=submitted>{tally['submitted']}"
            f"<tr><th>Recognised as prompted<td id=recognised>{tally['recognised']}"
            f"<tr><th>Stored on this machine<td>{escape(stored)}"
            f"<tr><th>Sent<td>{tally['bytes_sent'] / 1e6:.2f} MB of weights in "
            f"{tally['replies']} replies"
            f"<tr><th>Never sent<td>recordings, features, labels</table>"
        )


def _words(text: str, *, bad: bool = False) -> str:
    role = ' class="refused" role="alert"' if bad else ""
    return f"<p{role}>{escape(text)}</p>"


def build_page(session: ContributionSession) -> Any:  # noqa: ANN401 (a gradio.Blocks)
    """Lay the page out."""
    with gr.Blocks(title="avser: contribute", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# Contribute your voice\nSay any sentence with the emotion that is shown. Play it "
            "back, record again if you like, and submit. Only weights trained here are sent."
        )
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(
                    session.prompt(), label="Please act", interactive=False, elem_id="prompt"
                )
                voice = microphone(label="Your recording")
                with gr.Row():
                    submit = gr.Button(
                        "Submit", variant="primary", interactive=False, elem_id="submit"
                    )
                    other = gr.Button("Another emotion", elem_id="other")
            with gr.Column():
                label = gr.Label(label="Prediction of the latest model", elem_id="label")
                words = gr.HTML(elem_id="words", elem_classes="avser-words", js_on_load=None)
                state = gr.HTML(session.state(), elem_id="state", js_on_load=None)
                delete = gr.Button("Delete all contributions", elem_id="delete")
        quiet: dict[str, Any] = {"api_visibility": "private"}
        voice.change(session.predict, voice, [label, words, submit], **quiet)
        submit.click(
            session.submit, [voice, prompt], [voice, prompt, submit, words, state], **quiet
        )
        other.click(session.prompt, None, prompt, **quiet)
        delete.click(session.delete, None, [words, state], **quiet)
        blocks.load(session.state, None, state, **quiet)
    return blocks


def serve(session: ContributionSession, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page on this machine alone, until interrupted."""
    page = build_page(session)
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
