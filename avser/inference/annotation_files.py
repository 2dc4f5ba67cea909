"""Timelines as files of annotation programs: ELAN and Label Studio.

ELAN: format 3.0 of its annotation documents (EAF), one tier "emotion", and a tier for each face
where faces were classified alone. Label Studio: a list with one pre-annotated task, for this
labelling configuration::

    <View>
      <Labels name="emotion" toName="clip"> <Label value="happy"/> ... </Labels>
      <Choices name="label" toName="clip"> <Choice value="happy"/> ... </Choices>
      <Audio name="clip" value="$clip"/>
    </View>
"""

import json
import mimetypes
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from xml.etree import ElementTree

from avser.inference.spans import Span, merged
from avser.types import Prediction, TimelineEntry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # the same prediction gives the same file


def eaf(prediction: Prediction) -> str:
    """Return an ELAN annotation document; steps without a label have no annotation."""
    tiers = {"emotion": prediction.timeline}
    tiers |= {f"face {f.face_id + 1}": f.timeline for f in prediction.faces or ()}
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": prediction.model,
            "DATE": _EPOCH.isoformat(),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if prediction.path:
        name = PurePath(prediction.path).name
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        media = {"MEDIA_URL": name, "MIME_TYPE": kind, "RELATIVE_MEDIA_URL": f"./{name}"}
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    count = 0
    for name, timeline in tiers.items():
        tier = ElementTree.SubElement(
            root, "TIER", LINGUISTIC_TYPE_REF="emotion-lt", TIER_ID=name, ANNOTATOR=prediction.model
        )
        for span in _labelled(timeline):
            count += 1
            _add_annotation(order, tier, span, count)
    ElementTree.SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="emotion-lt",
        TIME_ALIGNABLE="true",
    )
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def label_studio(prediction: Prediction) -> str:
    """Return a Label Studio import, JSON: the spans of the timeline, and the clip's label."""
    regions = [
        {
            "id": f"step{number}",
            "from_name": "emotion",
            "to_name": "clip",
            "type": "labels",
            "value": {
                "start": round(span.start_s, 3),
                "end": round(span.end_s, 3),
                "channel": 0,
                "labels": [span.label],
            },
        }
        for number, span in enumerate(_labelled(prediction.timeline), 1)
    ]
    if prediction.label is not None:
        choice = {"from_name": "label", "to_name": "clip", "type": "choices"}
        regions.append({"id": "clip", **choice, "value": {"choices": [prediction.label]}})
    shares = prediction.probabilities or {}
    name = PurePath(prediction.path).name if prediction.path else ""
    prediction_entry = {
        "model_version": prediction.model,
        "score": round(shares.get(prediction.label or "", 0.0), 4),
        "result": regions,
    }
    return (
        json.dumps([{"data": {"clip": name}, "predictions": [prediction_entry]}], indent=2) + "\n"
    )


def _labelled(timeline: Sequence[TimelineEntry]) -> list[Span]:
    return [span for span in merged(timeline) if span.label is not None]


def _add_annotation(
    order: ElementTree.Element, tier: ElementTree.Element, span: Span, number: int
) -> None:
    """Add an annotation and its two time slots, whose names end in its number."""
    for side, seconds in (("a", span.start_s), ("b", span.end_s)):
        slot = {"TIME_SLOT_ID": f"ts{number}{side}", "TIME_VALUE": str(round(seconds * 1000))}
        ElementTree.SubElement(order, "TIME_SLOT", slot)
    frame = ElementTree.SubElement(tier, "ANNOTATION")
    annotation = ElementTree.SubElement(
        frame,
        "ALIGNABLE_ANNOTATION",
        ANNOTATION_ID=f"a{number}",
        TIME_SLOT_REF1=f"ts{number}a",
        TIME_SLOT_REF2=f"ts{number}b",
    )
    ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = span.label
