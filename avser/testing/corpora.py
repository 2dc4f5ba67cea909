"""Small fake corpora in the layouts of their owners, oddities included.

Each function writes real, tiny media below ``root`` and returns it. They take the number of
``speakers`` (or the speakers' own names) and how many takes ``per_emotion`` each speaker gives.
What they write is the same every time.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from avser.emotions import VOCABULARY
from avser.errors import ConfigError
from avser.testing.media import (
    Sound,
    face_frames,
    seed_of,
    voice,
    write_flac,
    write_video,
    write_wav,
)

Speakers = int | Sequence[str]


def _take(emotion: str, *, speaker: str, seed: int, sample_rate: int) -> Sound:
    seconds = 0.6 + seed_of(emotion, speaker, seed) % 7 * 0.1  # 0.6 to 1.2 s
    return voice(emotion, speaker=speaker, seconds=seconds, sample_rate=sample_rate, seed=seed)


def _film(
    path: Path, emotion: str, *, speaker: str, seed: int, sample_rate: int, sound: bool = True
) -> None:
    samples = _take(emotion, speaker=speaker, seed=seed, sample_rate=sample_rate)
    count = round(10 * len(samples) / sample_rate)
    frames = face_frames(emotion, speaker=speaker, count=count, seed=seed)
    write_video(path, frames, samples=samples if sound else None, sample_rate=sample_rate)


def _names(speakers: Speakers, pool: Sequence[str]) -> list[str]:
    if isinstance(speakers, int):
        if not 0 < speakers <= len(pool):
            raise ConfigError(f"Bad speakers {speakers}: expected 1 to {len(pool)}.")
        return list(pool[:speakers])
    return list(speakers)


def _text(path: Path, lines: Iterable[str] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _junk(folder: Path, like: str) -> None:
    """Write what file managers leave behind: it must not be taken for a clip."""
    _text(folder / ".DS_Store")
    _text(folder / f"._{like}", ["not a sound"])


#: Columns of OpenFace 2: 17 intensities, and presences of the same and of lip suck.
_UNITS = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45".split()
ACTION_UNITS = [f"AU{u}_r" for u in _UNITS] + [f"AU{u}_c" for u in sorted([*_UNITS, "28"])]


def fake_ravdess(
    root: Path, *, speakers: Speakers = 4, per_emotion: int = 2, video: bool = False
) -> Path:
    """RAVDESS: one stereo file, one song, a doubled recording of actor 07, a table of action units.

    The table ``<root>_openface_aus.csv`` has a row a take. With ``video``, AV files stand in the
    folders of the owners' video archives (one as video-only file too).
    """
    codes = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    table: list[list[object]] = [[*ACTION_UNITS, "name"]]
    actors = _names(speakers, [f"{n:02d}" for n in range(1, 25)])
    for actor in actors:
        folder = root / f"Actor_{actor}"
        films = root / f"Video_Speech_Actor_{actor}" / f"Actor_{actor}"
        for code, emotion in enumerate(codes, start=1):
            takes = list(product(("01", "02"), ("01", "02"), ("01", "02")))  # strength, rep., text
            for strength, repetition, text in takes[: min(per_emotion, 4 if code == 1 else 8)]:
                tail = f"01-{code:02d}-{strength}-{text}-{repetition}-{actor}"
                seed = int(strength + repetition + text)
                who = f"ravdess/{actor}"
                sound = _take(emotion, speaker=who, seed=seed, sample_rate=48_000)
                stereo = actor == "01" and (code, seed) == (2, 10101)
                shaped = np.stack([sound, sound]) if stereo else sound
                write_wav(folder / f"03-{tail}.wav", shaped, sample_rate=48_000)
                shares = [code / 8, seed / 20_202, *[0.5] * (len(ACTION_UNITS) - 2)]
                table.append([*(f"{share:.3f}" for share in shares), f"01-{tail}"])
                if video:
                    film = films / f"01-{tail}.mp4"
                    _film(film, emotion, speaker=who, seed=seed, sample_rate=48_000)
                    if len(table) == 2:
                        film = films / f"02-{tail}.mp4"
                        _film(
                            film, emotion, speaker=who, seed=seed, sample_rate=48_000, sound=False
                        )
        _junk(folder, "03-01-01-01-01-01-01.wav")
    song = _take("sad", speaker=f"ravdess/{actors[0]}", seed=9, sample_rate=48_000)
    path = root / f"Actor_{actors[0]}" / f"03-02-04-01-01-01-{actors[0]}.wav"
    write_wav(path, song, sample_rate=48_000)
    doubled = root / "Actor_07" / "03-01-03-01-02-02-07.wav"
    if doubled.exists():
        shutil.copyfile(doubled.with_name("03-01-03-01-02-01-07.wav"), doubled)
    _csv(root.with_name(f"{root.name}_openface_aus.csv"), table)
    return root


def fake_savee(
    root: Path, *, speakers: Speakers = 4, per_emotion: int = 2, video: bool = False
) -> Path:
    """Write SAVEE: ``AudioData/DC/a01.wav`` and, with ``video``, ``AudioVisualClip/DC/a1.avi``."""
    codes = {
        "a": "angry",
        "d": "disgust",
        "f": "fearful",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprised",
    }
    for speaker in _names(speakers, ("DC", "JE", "JK", "KL")):
        who = f"savee/{speaker}"
        for (code, emotion), number in product(codes.items(), range(1, per_emotion + 1)):
            sound = _take(emotion, speaker=who, seed=number, sample_rate=44_100)
            path = root / "AudioData" / speaker / f"{code}{number:02d}.wav"
            write_wav(path, sound, sample_rate=44_100)
            if video:
                film = root / "AudioVisualClip" / speaker / f"{code}{number}.avi"
                _film(film, emotion, speaker=who, seed=number, sample_rate=44_100)
    _text(root / "AudioData" / "Info.txt", ["SAVEE"])
    return root


def fake_emodb(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """EMO-DB: ``wav/03a01Fa.wav``, beside folders of label files."""
    codes = {
        "W": "angry",
        "L": "bored",
        "E": "disgust",
        "A": "fearful",
        "F": "happy",
        "T": "sad",
        "N": "neutral",
    }
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
    pool = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    for speaker, (code, emotion) in product(_names(speakers, pool), codes.items()):
        for seed, text in enumerate(texts[:per_emotion]):
            sound = _take(emotion, speaker=f"emodb/{speaker}", seed=seed, sample_rate=16_000)
            write_wav(root / "wav" / f"{speaker}{text}{code}a.wav", sound)
    _text(root / "silb" / "03a01Fa.silb", ["0.1 a"])
    _text(root / "erkennung.txt", ["03a01Fa 95"])
    return root


def fake_tess(root: Path, *, speakers: Speakers = 2, per_emotion: int = 2) -> Path:
    """TESS: folders spelt in many ways, and one file of OAF that is called ``OA_bite_neutral``."""
    folders = {
        "OAF": ("angry", "disgust", "Fear", "happy", "neutral", "Pleasant_surprise", "Sad"),
        "YAF": ("angry", "disgust", "fear", "happy", "neutral", "pleasant_surprised", "sad"),
    }
    codes = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    words = ("bite", "back", "bar", "base", "bath", "bean", "beg", "boat", "bone", "book")
    spelt = {"fear": "fearful", "ps": "surprised"}
    for speaker in _names(speakers, ("OAF", "YAF")):
        for folder, code in zip(folders[speaker], codes, strict=True):
            for seed, word in enumerate(words[:per_emotion]):
                odd = (speaker, word, code) == ("OAF", "bite", "neutral")
                stem = "OA_bite_neutral" if odd else f"{speaker}_{word}_{code}"
                emotion = spelt.get(code, code)
                who = f"tess/{speaker}"
                sound = _take(emotion, speaker=who, seed=seed, sample_rate=24_414)
                path = root / f"{speaker}_{folder}" / f"{stem}.wav"
                write_wav(path, sound, sample_rate=24_414)
    return root


def fake_crema_d(
    root: Path, *, speakers: Speakers = 4, per_emotion: int = 2, video: bool = False
) -> Path:
    """CREMA-D: a soundless file of 1076, a file of 1040 that lacks an X, votes with a tie.

    The crowd says what was acted, except that it is torn (``A:D``) over the voice of the first
    angry clip, and takes the face of the first speaker's disgusted clips for angry.
    """
    actors = _names(speakers, ("1001", "1002", "1040", "1076", *map(str, range(1003, 1040))))
    first = {"1040": ("ITH", "XX"), "1076": ("MTI", "XX")}
    targets = ("Voice", "Face", "MultiModal")
    votes: list[list[object]] = [
        ["", "FileName", *(f"{t}{what}" for t in targets for what in ("Vote", "Level"))]
    ]
    emotions = ("angry", "disgust", "fearful", "happy", "neutral", "sad")
    others = (("IEO", "HI"), ("IEO", "LO"), ("IEO", "MD"), ("TIE", "XX"), ("WSI", "XX"))
    for actor, emotion in product(actors, emotions):
        code = emotion[:3].upper()
        takes = (first.get(actor, ("DFA", "XX")), *others)[:per_emotion]
        for seed, (text, strength) in enumerate(takes):
            name = f"{actor}_{text}_{code}_{strength}"
            sound = _take(emotion, speaker=f"crema_d/{actor}", seed=seed, sample_rate=16_000)
            if name == "1076_MTI_SAD_XX":
                sound = np.zeros_like(sound)
            stem = name[:-1] if name == "1040_ITH_SAD_XX" else name
            write_wav(root / "AudioWAV" / f"{stem}.wav", sound)
            if video:
                film = root / "VideoFlash" / f"{name}.flv"
                who = f"crema_d/{actor}"
                _film(film, emotion, speaker=who, seed=seed, sample_rate=44_100)
            letter = code[0]
            torn = "A:D" if len(votes) == 1 else letter
            face = "A" if (actor, code) == (actors[0], "DIS") else letter
            votes.append([len(votes), name, torn, "70", face, "65", letter, "80"])
    votes.append([len(votes), "1006_TIE_NEU_XX", "N", "70", "N", "65", "N", "80"])  # has no file
    _csv(root / "processedResults" / "summaryTable.csv", votes)
    people = [[actor, 30 + n, ("Male", "Female")[n % 2]] for n, actor in enumerate(actors)]
    demographics = [[*row, "Caucasian", "Not Hispanic"] for row in people]
    header = ["ActorID", "Age", "Sex", "Race", "Ethnicity"]
    _csv(root / "VideoDemographics.csv", [header, *demographics])
    return root


def fake_enterface(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """eNTERFACE'05: subject 6 lacks the sentence folders, subject 11's files are called s12."""
    folders = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    emotions = ("angry", "disgust", "fearful", "happy", "sad", "surprised")
    for subject in _names(speakers, ("1", "6", "11", "3", *map(str, range(12, 45)))):
        named = {"11": "s12", "3": "s_3"}.get(subject, f"s{subject}")
        for folder, emotion in zip(folders, emotions, strict=True):
            for number in range(1, per_emotion + 1):
                below = () if subject == "6" else (f"sentence {number}",)
                stem = f"{named}_{folder[:2]}_{number}"
                path = root.joinpath(
                    "enterface database", f"subject {subject}", folder, *below, f"{stem}.avi"
                )
                who = f"enterface/{subject}"
                _film(path, emotion, speaker=who, seed=number, sample_rate=48_000)
        _text(root / "enterface database" / f"subject {subject}" / "Thumbs.db")
    return root


def _iemocap_lines(name: str, labels: Mapping[str, str]) -> Iterator[str]:
    yield "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    yield ""
    for n, (utterance, label) in enumerate(labels.items()):
        times, degrees = f"[{6 + n}.2901 - {7 + n}.2357]", "[2.5000, 2.5000, 2.5000]"
        yield f"{times}\t{name}_{utterance}\t{label}\t{degrees}"
        yield "C-E2:\tNeutral;\t()"
        yield ""


def fake_iemocap(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """IEMOCAP: both speakers in one dialog, labels xxx and oth, files of single annotators.

    Speakers are called ``Ses01F``, ``Ses01M``, ``Ses02F``, ...
    """
    codes = {
        "ang": "angry",
        "hap": "happy",
        "exc": "excited",
        "sad": "sad",
        "fru": "frustrated",
        "neu": "neutral",
        "xxx": "calm",
        "oth": "bored",
    }
    pool = [f"Ses{n:02d}{letter}" for n, letter in product(range(1, 6), "FM")]
    sessions: dict[str, dict[str, str]] = {}
    for speaker in _names(speakers, pool):
        name = f"{speaker[:5]}F_impro01"  # the woman wears the markers, both speak
        folder = root / f"Session{int(speaker[3:5])}"
        labels = sessions.setdefault(speaker[:5], {})
        for n, (code, seed) in enumerate(product(codes, range(per_emotion))):
            utterance = f"{speaker[5]}{n:03d}"
            labels[utterance] = code
            who = f"iemocap/{speaker}"
            sound = _take(codes[code], speaker=who, seed=seed, sample_rate=16_000)
            write_wav(folder / "sentences" / "wav" / name / f"{name}_{utterance}.wav", sound)
        _junk(folder / "sentences" / "wav" / name, f"{name}_F000.wav")
        evaluation = folder / "dialog" / "EmoEvaluation"
        _text(evaluation / f"{name}.txt", _iemocap_lines(name, labels))
        _text(evaluation / "Categorical" / f"{name}_e1_cat.txt", [f"{name}_F000 :neutral; ()"])
        _junk(evaluation, f"{name}.txt")
    return root


def fake_urdu(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """URDU: ``Angry/SM1_F1_A01.wav``, numbered by speaker and within the emotion."""
    emotions = {"Angry": "angry", "Happy": "happy", "Neutral": "neutral", "Sad": "sad"}
    names = _names(speakers, ("SM1", "SF1", "SM2", "SF2", *(f"SM{n}" for n in range(3, 28))))
    for folder, emotion in emotions.items():
        for n, (speaker, seed) in enumerate(product(names, range(1, per_emotion + 1)), start=1):
            sound = _take(emotion, speaker=f"urdu/{speaker}", seed=seed, sample_rate=44_100)
            path = root / folder / f"{speaker}_F{seed}_{folder[0]}0{n}.wav"
            write_wav(path, sound, sample_rate=44_100)
    return root


def fake_manifest(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write ``manifest.csv`` beside a folder of FLAC files, with every optional column."""
    parts = ("train", "train", "validation", "test")
    table: list[Sequence[Any]] = [
        ("path", "emotion", "speaker", "start", "end", "part", "sex", "sentence", "room")
    ]
    for n, speaker in enumerate(_names(speakers, ("anna", "ben", "cleo", "dan", "eva", "finn"))):
        for emotion, seed in product(VOCABULARY[:5], range(per_emotion)):
            path = f"sound/{speaker}/{emotion}{seed}.flac"
            who = f"manifest/{speaker}"
            write_flac(root / path, _take(emotion, speaker=who, seed=seed, sample_rate=16_000))
            sex = ("female", "male")[n % 2]
            table.append((path, emotion, speaker, "0.05", "", parts[n % 4], sex, seed, "hall"))
    _csv(root / "manifest.csv", table)
    return root


def fake_folders(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Folders named after speakers and emotions: ``anna/Anger/0.wav``."""
    for speaker in _names(speakers, ("anna", "ben", "cleo", "dan", "eva", "finn")):
        for emotion, seed in product(VOCABULARY[:5], range(per_emotion)):
            sound = _take(emotion, speaker=f"folders/{speaker}", seed=seed, sample_rate=16_000)
            write_wav(root / speaker / emotion.title() / f"{seed}.wav", sound)
        _junk(root / speaker, "0.wav")
    return root


#: Name of a corpus to what writes a fake of it.
FAKES: Mapping[str, Callable[..., Path]] = {
    "crema_d": fake_crema_d,
    "emodb": fake_emodb,
    "enterface": fake_enterface,
    "folders": fake_folders,
    "iemocap": fake_iemocap,
    "manifest": fake_manifest,
    "ravdess": fake_ravdess,
    "savee": fake_savee,
    "tess": fake_tess,
    "urdu": fake_urdu,
}
