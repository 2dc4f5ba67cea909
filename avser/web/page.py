"""The page: one clip, many clips, and what the model is."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from avser.errors import AvserError
from avser.inference.writers import emotions_of, write_csv
from avser.web.service import Service, plain_name
from avser.web.widgets import (
    camera,
    card_text,
    download,
    empty_update,
    error_update,
    microphone,
    result_update,
    result_view,
    take_upload,
)

_MOST_ANNOTATED_S = 60.0  # a longer copy would be too large to travel inside the page
_KEPT_S = 900  # for an upload that is never classified


class Page:
    """Handlers of the page's events.

    Args:
        service: that classifies.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    async def clip(self, upload: str | None) -> AsyncIterator[list[Any]]:
        """Classify one clip, then annotate it; see `ResultView.outputs`."""
        if upload is None:
            yield error_update("Bad clip: there is none yet; record or upload one.")
            return
        service, deadline, name = self.service, self.service.deadline(), plain_name(upload)
        try:
            with service.workers.place(), self._taken(upload) as path:
                result = await service.classify(path, name=name, deadline=deadline, plot=True)
                found = result.prediction
                yield result_update(found, plot=result.plot)
                if not found.boxes:
                    return
                if found.duration_s > _MOST_ANNOTATED_S:
                    note = f"Clips over {_MOST_ANNOTATED_S:g} s are not annotated here."
                    yield result_update(found, plot=result.plot, note=note)
                    return
                video = await service.annotate(path, found, deadline=service.deadline())
                yield result_update(found, plot=result.plot, video=video)
        except AvserError as error:
            yield error_update(str(error))

    async def many(self, uploads: Sequence[Any] | None) -> AsyncIterator[tuple[Any, str]]:
        """Classify clips one after another: the table so far, and a link to it as CSV.

        Args:
            uploads: as the page sends them, not as Gradio prepares them: for each file it would
                leave an empty one behind.
        """
        rows: list[dict[str, Any]] = []
        for upload in uploads or ():
            path = upload.get("path") if isinstance(upload, dict) else None
            rows.append(await self._row(str(path)))
            yield table(rows), ""
        text = io.StringIO()
        write_csv(rows, text)
        link = download(text.getvalue(), name="avser.csv", title="Download as CSV")
        yield table(rows), link if rows else ""

    @contextmanager
    def _taken(self, upload: str) -> Iterator[Path]:
        service = self.service
        with (
            service.private() as folder,
            take_upload(upload, folder, within=service.uploads) as path,
        ):
            yield path

    async def _row(self, upload: str) -> dict[str, Any]:
        service, name = self.service, plain_name(upload)
        try:
            with service.workers.place(), self._taken(upload) as path:
                result = await service.classify(path, name=name, deadline=service.deadline())
            return result.prediction.to_dict()
        except AvserError as error:
            return {"path": name, "error": {"type": type(error).__name__, "message": str(error)}}


def table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Headers and cells of the table of several clips."""
    names = emotions_of(rows)
    cells = []
    for row in rows:
        shares = row.get("probabilities") or {}
        why = row["error"]["message"] if "error" in row else row["reason"] or ""
        used = " + ".join(row.get("modalities", ()))
        share = [f"{shares[n]:.2f}" if n in shares else "" for n in names]
        cells.append([row["path"], row.get("label") or "–", *share, used, why])
    return {"headers": ["clip", "label", *names, "streams", "note"], "data": cells}


def build_page(service: Service) -> Any:  # noqa: ANN401 (a gradio.Blocks)
    """Lay the page out.

    Args:
        service: that classifies; its workers are ready.
    """
    page, models = Page(service), service.workers.models
    limits = service.limits
    with gr.Blocks(title="avser", analytics_enabled=False, delete_cache=(60, _KEPT_S)) as blocks:
        gr.Markdown(
            "# avser\nExpressed emotion in clips of people speaking: an estimate, made by "
            f"{' and '.join(m.row['name'] for m in models)} on this server alone. Clips are "
            f"deleted as soon as they are classified. At most {limits.duration_s:g} s and "
            f"{limits.upload_mb:g} MB."
        )
        with gr.Tab("Clip"), gr.Row():
            with gr.Column():
                inputs = []
                for title, make in (("Video", camera), ("Audio", microphone)):
                    with gr.Tab(title):
                        source = make(label=title)
                        button = gr.Button("Classify", variant="primary", interactive=False)
                        inputs.append((source, button))
            with gr.Column():
                found = result_view()
        for source, button in inputs:
            _classifies(page, source, button, found.outputs)
        with gr.Tab("Several clips"):
            files = gr.File(file_count="multiple", label="Clips")
            start = gr.Button("Classify all", variant="primary")
            results = gr.Dataframe(label="Results", interactive=False, wrap=True, elem_id="results")
            link = gr.HTML(elem_id="csv", js_on_load=None)
            start.click(
                page.many,
                files,
                [results, link],
                api_visibility="private",
                concurrency_limit=None,
                preprocess=False,
            )
        with gr.Tab("About the model"):
            gr.Markdown(card_text([m.card for m in models if m.card]))
    return blocks


def _classifies(page: Page, source: Any, button: gr.Button, outputs: list[Any]) -> None:  # noqa: ANN401
    """Let a button classify what a recorder holds, once: the clip is deleted then."""
    source.change(
        lambda clip: [gr.Button(interactive=clip is not None), *empty_update()],
        source,
        [button, *outputs],
        api_visibility="private",
        show_progress="hidden",
        queue=False,
    )
    button.click(page.clip, source, outputs, api_visibility="private", concurrency_limit=None).then(
        lambda: gr.Button(interactive=False),
        None,
        button,
        api_visibility="private",
        show_progress="hidden",
    )
