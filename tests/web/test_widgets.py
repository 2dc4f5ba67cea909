from pathlib import Path

import pytest

from avser.errors import MediaError
from avser.web.widgets import THEME, microphone, take_upload


def test_recorder_offers_file_and_device_and_leaves_decoding_to_us() -> None:
    assert microphone().sources == ["upload", "microphone"]
    assert microphone().format is None  # Gradio would ask an ffmpeg command to convert


def test_fonts_are_those_of_the_system() -> None:
    assert "@import" not in THEME._get_theme_css() and not THEME._stylesheets


def test_upload_is_taken_out_of_its_folder_once(tmp_path: Path) -> None:
    given, mine = tmp_path / "up" / "hash" / "a.wav", tmp_path / "mine"
    given.parent.mkdir(parents=True)
    mine.mkdir()
    given.write_text("sound")
    with take_upload(str(given), mine, within=tmp_path / "up") as path:
        assert path.read_text() == "sound" and not given.parent.exists()
    again = take_upload(str(given), mine, within=tmp_path / "up")
    with pytest.raises(MediaError, match="has been deleted"), again:
        pass


def test_nothing_is_taken_from_elsewhere(tmp_path: Path) -> None:
    for name in ("up", "mine"):
        (tmp_path / name).mkdir()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    for path in (secret, tmp_path / "up" / ".." / "secret"):
        taken = take_upload(str(path), tmp_path / "mine", within=tmp_path / "up")
        with pytest.raises(MediaError), taken:
            pass
    assert secret.read_text() == "mine"
