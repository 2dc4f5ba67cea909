from pathlib import Path

from avser.bundle.listing import listed
from avser.bundle.serialization import released
from avser.testing.nets import tiny_bundle
from avser.web.schema import ModelRow


def test_tiny_bundle(tmp_path: Path) -> None:
    row = listed(tiny_bundle(tmp_path / "tiny"))
    assert row["name"] == "tiny" and row["emotions"] == ["happy", "sad", "angry"]
    assert row["modalities"] == ["audio"] and row["uar"] is None
    assert 100 < row["parameters"] < 20_000


def test_every_released_model_is_listed_as_the_interface_says() -> None:
    rows = {name: listed(folder) for name, folder in released().items()}
    for row in rows.values():
        ModelRow.model_validate(row)
    assert rows["audio_small.multi"]["uar"]["value"] > 0.4
    assert rows["av_jca.ravdess_fer2013"]["modalities"] == ["audio", "video"]
    assert rows["face_cnn.fer2013"]["modalities"] == ["video"]
