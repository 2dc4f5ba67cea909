import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from avser.inference.writers import timeline_format, write_timeline
from avser.types import FaceResult, Prediction, TimelineEntry

SHARES = {"angry": 0.75, "sad": 0.25}


def entries(*labels: str | None) -> tuple[TimelineEntry, ...]:
    return tuple(
        TimelineEntry(
            start_s=0.512 * i,
            end_s=0.512 * (i + 1),
            label=label,
            probabilities=SHARES if label else None,
        )
        for i, label in enumerate(labels)
    )


PREDICTION = Prediction(
    label="angry",
    probabilities=SHARES,
    modalities=("audio", "video"),
    reason=None,
    duration_s=2.56,
    timeline=entries("angry", "angry", None, "sad", "angry"),
    model="tiny",
    path="folder/take <1> & more.mp4",
    faces=(
        FaceResult(
            face_id=0, label="sad", probabilities=SHARES, timeline=entries("sad", "sad"), boxes=()
        ),
    ),
)


def test_elan_file_has_a_tier_of_merged_labels_and_one_for_each_face(tmp_path: Path) -> None:
    write_timeline(PREDICTION, tmp_path / "clip.eaf")
    root = ElementTree.parse(tmp_path / "clip.eaf").getroot()
    times = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE", "")) for s in root.iter("TIME_SLOT")}
    tiers = {
        tier.get("TIER_ID"): [
            (times[a.get("TIME_SLOT_REF1")], times[a.get("TIME_SLOT_REF2")], a[0].text)
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iter("TIER")
    }
    assert tiers == {
        "emotion": [(0, 1024, "angry"), (1536, 2048, "sad"), (2048, 2560, "angry")],
        "face 1": [(0, 1024, "sad")],
    }
    (media,) = root.iter("MEDIA_DESCRIPTOR")
    assert media.get("MEDIA_URL") == "take <1> & more.mp4"
    assert media.get("MIME_TYPE") == "video/mp4"
    types = {t.get("LINGUISTIC_TYPE_ID") for t in root.iter("LINGUISTIC_TYPE")}
    assert {t.get("LINGUISTIC_TYPE_REF") for t in root.iter("TIER")} == types
    order = [child.tag for child in root]  # the schema's sequence
    assert order == ["HEADER", "TIME_ORDER", "TIER", "TIER", "LINGUISTIC_TYPE"]


def test_label_studio_file_is_a_pre_annotated_task(tmp_path: Path) -> None:
    write_timeline(PREDICTION, tmp_path / "clip.labelstudio.json")
    (task,) = json.loads((tmp_path / "clip.labelstudio.json").read_text())
    assert task["data"] == {"clip": "take <1> & more.mp4"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("tiny", 0.75)
    *regions, choice = prediction["result"]
    spans = [(r["value"]["start"], r["value"]["end"], *r["value"]["labels"]) for r in regions]
    assert spans == [(0, 1.024, "angry"), (1.536, 2.048, "sad"), (2.048, 2.56, "angry")]
    assert choice["value"] == {"choices": ["angry"]}
    assert {r["to_name"] for r in prediction["result"]} == {"clip"}
    assert len({r["id"] for r in prediction["result"]}) == 4


@pytest.mark.parametrize("name", ["clip.eaf", "clip.labelstudio.json"])
def test_clip_without_signal_has_no_annotation(tmp_path: Path, name: str) -> None:
    silent = replace(
        PREDICTION, label=None, probabilities=None, timeline=entries(None, None), faces=None
    )
    write_timeline(silent, tmp_path / name)
    text = (tmp_path / name).read_text()
    assert "angry" not in text and "ALIGNABLE_ANNOTATION" not in text and '"labels"' not in text


def test_format_of_a_name_is_the_longest_that_it_ends_in() -> None:
    names = ("a.labelstudio.json", "a.json", "a.EAF", "a.textgrid", "a.doc")
    formats = ["labelstudio.json", "json", "eaf", "TextGrid", "doc"]
    assert [timeline_format(name) for name in names] == formats
