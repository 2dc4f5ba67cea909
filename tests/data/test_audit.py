from pathlib import Path

from avser.data.audit import audit
from avser.data.splits import SplitParts
from avser.emotions import Labels
from avser.types import Clip


def clip(name: str, speaker: str, emotion: str) -> Clip:
    return Clip(
        path=Path(f"{name}.wav"), clip_id=name, emotion=emotion, speaker=speaker, corpus="c"
    )


def test_audit_counts_parts_classes_and_copies() -> None:
    parts = SplitParts(
        train=[clip("a", "c/1", "calm"), clip("b", "c/1", "happy")],
        validation=[clip("d", "c/2", "happy")],
        test=[],
        notes=("a note",),
    )
    result = audit(
        parts, {"c/a": "x", "c/b": "x", "c/d": "y"}, labels=Labels(merge={"calm": "neutral"})
    )
    assert result["parts"]["train"] == {
        "clips": 2,
        "speakers": ["c/1"],
        "classes": {"happy": 1, "neutral": 1},
    }
    assert result["parts"]["test"]["clips"] == 0
    assert result["duplicates"] == [["c/a", "c/b"]]
    assert result["split_hash"] == parts.hash and result["notes"] == ["a note"]
