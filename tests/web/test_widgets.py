from dataclasses import replace
from pathlib import Path

import pytest
from job_handlers import predicted

from avser.errors import MediaError
from avser.web.widgets import (
    THEME,
    camera,
    download,
    empty_update,
    error_update,
    microphone,
    result_update,
    result_view,
    take_upload,
)


def test_recorders_offer_file_and_device_and_leave_decoding_to_us() -> None:
    assert camera().sources == ["upload", "webcam"] and camera().include_audio
    assert microphone().sources == ["upload", "microphone"]
    for made in (camera(), microphone()):
        assert made.format is None  # Gradio would ask an ffmpeg command to convert


def test_fonts_are_those_of_the_system() -> None:
    assert "@import" not in THEME._get_theme_css() and not THEME._stylesheets


def test_updates_fit_the_components() -> None:
    outputs = result_view().outputs
    assert (
        len(result_update(predicted("a.wav")))
        == len(error_update("Bad."))
        == len(empty_update())
        == len(outputs)
    )


def test_silence_is_said() -> None:
    silent = replace(
        predicted("a"), label=None, probabilities=None, modalities=(), reason="no_signal"
    )
    label, words, _, _ = result_update(silent)
    assert label is None and words == "<p>No voice and no face were found in this clip.</p>"


def test_both_streams_and_a_note_are_named() -> None:
    both = replace(predicted("a"), modalities=("audio", "video"), reason=None)
    words = result_update(both, note="5 < 6")[1]
    assert "<b>the voice and the face</b>" in words and "Note" not in words and "5 &lt; 6" in words


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


def test_download_holds_the_text() -> None:
    assert 'href="data:text/csv;base64,YSxiCg=="' in download("a,b\n", name="x.csv", title="CSV")
