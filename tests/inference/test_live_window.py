from pathlib import Path

import numpy as np
import pytest

from avser.inference.live_window import LiveBuffer, LiveFrame, predict_live
from avser.inference.predictor import Predictor
from avser.testing.media import voice
from avser.testing.nets import tiny_bundle
from avser.types import STEP_S, STEP_SAMPLES


def test_buffer_gives_a_sliding_window_for_each_step() -> None:
    buffer = LiveBuffer(steps=3)
    sound = np.arange(5 * STEP_SAMPLES, dtype=np.float32)
    windows = [w for start in range(0, len(sound), 700) for w in buffer.push(sound[start:][:700])]
    assert [len(w.samples) // STEP_SAMPLES for w in windows] == [1, 2, 3, 3, 3]
    assert [w.step_start_s for w in windows] == pytest.approx([i * STEP_S for i in range(5)])
    assert windows[-1].samples[0] == 2 * STEP_SAMPLES and windows[-1].samples[-1] == sound[-1]


def test_pictures_belong_to_the_sound_before_them_and_keep_their_faces() -> None:
    buffer = LiveBuffer(steps=2)
    silence = np.zeros(STEP_SAMPLES, np.float32)
    for picture in (b"first", b"second"):
        buffer.add_frame(picture)
        (window,) = buffer.push(silence)
    assert [(f.time_s, f.image) for f in window.frames] == [(0.0, b"first"), (STEP_S, b"second")]
    buffer.keep_detections([LiveFrame(STEP_S, b"second", ())])
    (window,) = buffer.push(silence)
    assert [(f.image, f.detections) for f in window.frames] == [(b"second", ())]
    for _ in range(50):
        buffer.add_frame(b"flood")
    (window,) = buffer.push(silence)
    assert len(window.frames) <= 5, "a fast camera does not fill the memory"


def test_step_is_labelled_as_the_clip_of_its_window(tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(tiny_bundle(tmp_path / "tiny"), device="cpu")
    sound = voice("angry", seconds=3 * STEP_S)[: 3 * STEP_SAMPLES].astype(np.float32)
    *_, window = LiveBuffer(steps=3).push(sound)
    step = predict_live(predictor, window)
    last = predictor(sound, sample_rate=16_000).timeline[-1]
    assert (step.entry.label, step.modalities, step.model) == (last.label, ("audio",), "tiny")
    assert step.entry.probabilities == pytest.approx(last.probabilities)
    assert (step.entry.start_s, step.silent, step.box) == (pytest.approx(2 * STEP_S), False, None)
    silent = predict_live(predictor, *LiveBuffer().push(np.zeros(STEP_SAMPLES, np.float32)))
    assert silent.silent and silent.entry.label is None
