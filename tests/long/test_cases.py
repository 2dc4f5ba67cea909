"""Odd but ordinary files in one run of ``avser classify``, with the right values; where they are.

All files but a few hold the sound
of ``examples/sample.mp4``, its picture, or both, so that labels are compared with that file's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shared_data import CASES, missing

from avser.cli import main

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CASES.is_dir(), reason=missing("files", CASES, "AVSER_CASES")),
]

#: Name to streams used, duration in seconds, and a part of the reason (None: no reason).
#: The reason about label and timeline is left out, since it depends on the released model.
CLIPS: dict[str, tuple[str, float, str | None]] = {
    "black_video_and_voice.mp4": ("audio", 5.32, "no face found"),
    "chained.ogg": ("audio", 9.37, None),
    "chained.opus": ("audio", 9.34, None),
    "dc_and_dither.wav": ("", 3.0, "no_signal"),
    "dc_offset_voice.wav": ("audio", 4.67, None),
    "dc_only.wav": ("", 3.0, "no_signal"),
    "dither_only.wav": ("", 3.0, "no_signal"),
    "first_track_silent.mp4": ("audio+video", 4.64, None),
    "float64.wav": ("audio", 4.67, None),
    "float_inf.wav": ("audio", 4.67, "1 of 74752 samples"),
    "float_nan.wav": ("audio", 4.67, "10 of 74752 samples"),
    "float_peak3.wav": ("audio", 4.67, "scaled by their peak"),
    "fps1.mp4": ("audio+video", 6.0, None),
    "frame_every_4s.mp4": ("audio+video", 4.67, None),
    "hdr_pq.mp4": ("audio+video", 4.67, None),
    "int32.wav": ("audio", 4.67, None),
    "left_silent.wav": ("audio", 4.67, None),
    "matroska_starts_at_1000s.mkv": ("audio+video", 4.67, None),
    "one_frame_and_sound.mp4": ("audio", 4.67, "the face is still"),
    "phase_inverted.wav": ("audio", 4.67, "channels cancel each other"),
    "picture_0.2s_after_sound.mp4": ("audio+video", 4.84, None),
    "picture_65s_late.mp4": ("audio+video", 69.7, None),
    "rav_clean.wav": ("audio", 4.3, None),
    "rav_dc003.wav": ("audio", 4.3, None),
    "rav_noise20dB.wav": ("audio", 4.3, None),
    "rav_noise30dB.wav": ("audio", 4.3, None),
    "resolution_changes.ts": ("audio+video", 9.27, None),
    "right_silent.wav": ("audio", 4.67, None),
    "sideways_untagged.mp4": ("audio+video", 4.67, "face found in"),
    "sound_65s_late.mp4": ("audio", 70.0, "the face is still"),
    "three_frames_no_sound.mp4": ("video", 0.12, "the file has no sound"),
    "two_ts_joined.ts": ("audio+video", 9.41, "time stamps jump once"),
    "uint8.wav": ("audio", 4.67, None),
    "v.tta": ("audio", 4.67, None),
    "v.wv": ("audio", 4.67, None),
    "vfr_held_20s_then_face.mkv": ("audio+video", 24.67, None),
    "vfr_held_20s_then_face.mp4": ("audio+video", 24.67, None),
    "vfr_held_65s_then_face.mp4": ("audio+video", 69.67, None),
    "webcam_in_screen_share.mp4": ("audio+video", 4.67, None),
    "white_noise.wav": ("audio", 3.0, None),
}
ERRORS = {"html.mp4": "it is no recording", "lfs_pointer.wav": "git-lfs pointer"}

#: Files that hold the same sound, perhaps louder, in other numbers or on one channel.
SAME_SOUND = ("int32.wav", "float_nan.wav", "float_inf.wav", "float_peak3.wav", "v.tta", "v.wv",
              "phase_inverted.wav", "left_silent.wav", "right_silent.wav")  # fmt: skip
#: Files that hold the whole sample once, in other containers and on other clocks.
SAME_CLIP = ("matroska_starts_at_1000s.mkv", "picture_0.2s_after_sound.mp4",
             "first_track_silent.mp4", "hdr_pq.mp4", "webcam_in_screen_share.mp4")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("cases")
    out, copies = folder / "rows.json", folder / "copies"
    words = [str(CASES), "--recursive", "--json", str(out), "--annotate", str(copies), "--quiet"]
    assert main(["classify", *words, "--device", "cpu"]) == 1
    rows = json.loads(out.read_text())
    assert len({row["path"] for row in rows}) == len(rows)
    return {Path(row["path"]).name: row for row in rows}, copies


def test_every_file_has_a_row_and_only_the_right_ones_fail(
    run: tuple[dict[str, dict[str, Any]], Path],
) -> None:
    rows, copies = run
    assert set(rows) == {*CLIPS, *ERRORS}
    failed = {name: row["error"]["message"] for name, row in rows.items() if "error" in row}
    assert set(failed) == set(ERRORS), failed
    for name, words in ERRORS.items():
        assert words in failed[name]
    pictures = {f"{n}.mp4" for n in CLIPS if Path(n).suffix in (".mp4", ".mkv", ".ts")}
    assert {path.name for path in copies.iterdir()} == pictures


@pytest.mark.parametrize("name", CLIPS)
def test_streams_duration_and_reason(
    run: tuple[dict[str, dict[str, Any]], Path], name: str
) -> None:
    row = run[0][name]
    streams, duration_s, reason = CLIPS[name]
    assert "+".join(row["modalities"]) == streams
    assert row["duration_s"] == pytest.approx(duration_s, abs=0.06)
    recorded = [
        p for p in (row["reason"] or "").split("; ") if not p.startswith("the whole clip is")
    ]
    assert (reason in "; ".join(recorded)) if reason else recorded == [""] or recorded == []
    assert (row["label"] is None) == (streams == "")


def test_the_same_sound_and_the_same_clip_have_the_same_label(
    run: tuple[dict[str, dict[str, Any]], Path],
) -> None:
    rows = run[0]
    sound, clip = rows["float64.wav"], rows["fps1.mp4"]
    for name in SAME_SOUND:
        assert rows[name]["label"] == sound["label"], name
        assert rows[name]["probabilities"] == pytest.approx(sound["probabilities"], abs=0.05), name
    for name in SAME_CLIP:
        assert rows[name]["label"] == clip["label"] == "happy", name
    assert rows["rav_dc003.wav"]["probabilities"] == pytest.approx(
        rows["rav_clean.wav"]["probabilities"], abs=0.01
    )
