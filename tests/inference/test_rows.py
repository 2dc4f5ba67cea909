import io

from avser.inference.rows import emotions_of, write_csv

GOOD = {
    "path": "a, b.wav",
    "label": "happy",
    "probabilities": {"happy": 0.75, "sad": 0.25},
    "modalities": ["audio", "video"],
    "reason": None,
    "duration_s": 1.5,
    "timeline": [],
    "model": "m",
}
SILENT = {**GOOD, "path": "b", "label": None, "probabilities": None, "modalities": [],
          "reason": "no_signal"}  # fmt: skip
BAD = {"path": "c", "error": {"type": "MediaError", "message": "Can't read c."}}


def test_a_clip_is_a_row_whatever_became_of_it() -> None:
    text = io.StringIO()
    write_csv([BAD, GOOD, SILENT], text)
    assert text.getvalue().splitlines() == [
        "path,label,happy,sad,modalities,reason,duration_s,model,error",
        "c,,,,,,,,Can't read c.",
        '"a, b.wav",happy,0.75,0.25,audio+video,,1.5,m,',
        "b,,,,,no_signal,1.5,m,",
    ]


def test_emotions_of_several_models_are_joined_in_order() -> None:
    other = {**GOOD, "probabilities": {"calm": 1.0, "happy": 0.0}}
    assert emotions_of([BAD, GOOD, other]) == ["happy", "sad", "calm"]
