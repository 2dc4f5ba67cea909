"""The speaker in a video: lips that move with the sound, photographs, still pictures."""

from pathlib import Path

import numpy as np
import pytest

from avser.media.clip import AudioBuffer, load_clip
from avser.media.faces import Faces, MtcnnDetector, SoundLevels
from avser.media.faces.motion import MOVING, STILL, FaceMotion, lip_movement, main_person
from avser.testing.faces import Person, head, read_picture, scene, speaking
from avser.testing.media import Picture, voice, write_video

SECONDS, FPS = 3.0, 12.0
COUNT = int(SECONDS * FPS)
OPENINGS = np.abs(np.sin(np.arange(COUNT) * 1.7))


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return MtcnnDetector()


@pytest.fixture(scope="module")
def woman() -> Picture:
    face = read_picture(Path(__file__).parents[2] / "examples" / "face.jpg")
    return head(face, height=90)


@pytest.fixture(scope="module")
def man() -> Picture:
    """A larger face that looks different: mirrored and darker."""
    face = read_picture(Path(__file__).parents[2] / "examples" / "face.jpg")
    return head(face, height=125, mirrored=True, tint=(0.75, 0.6, 0.5))


def faces_of(
    path: Path, people: list[Person], detector: MtcnnDetector, *, sound: bool = True
) -> Faces:
    pictures = np.stack([scene(people, index=i) for i in range(COUNT)])
    samples = voice("happy", seconds=SECONDS) if sound else None
    write_video(path, pictures, samples=samples, fps=FPS)
    with load_clip(path, detector=detector, faces=True) as clip:
        assert clip.faces is not None
        return clip.faces


def centre(faces: Faces) -> float:
    assert faces.main is not None
    return float(np.median(faces.main.boxes[:, 0] + faces.main.boxes[:, 2] / 2))


@pytest.mark.parametrize("sound", [True, False])
def test_a_larger_photograph_beside_the_speaker_loses(
    tmp_path: Path, detector: MtcnnDetector, woman: Picture, man: Picture, sound: bool
) -> None:
    speaker = Person(speaking(woman, OPENINGS), [(0.25, 0.5)] * COUNT)
    photograph = Person(man, [(0.7, 0.5)] * COUNT)
    faces = faces_of(tmp_path / "a.mp4", [photograph, speaker], detector, sound=sound)
    assert centre(faces) == pytest.approx(0.25, abs=0.04)
    first, second = faces.tracks
    assert (first.still, second.still) == (False, True)
    assert (first.speaks, second.speaks) == ((True, False) if sound else (None, None))


def test_of_two_living_faces_the_lips_that_move_with_the_sound_are_the_speakers(
    tmp_path: Path, detector: MtcnnDetector, woman: Picture, man: Picture
) -> None:
    nods = [(0.7, 0.5 + 0.004 * np.sin(i)) for i in range(COUNT)]  # the larger one only nods
    listener = Person(speaking(man, 0.1 + 0.02 * np.cos(np.arange(COUNT))), nods)
    speaker = Person(speaking(woman, OPENINGS), [(0.25, 0.5)] * COUNT)
    faces = faces_of(tmp_path / "a.mp4", [listener, speaker], detector)
    assert centre(faces) == pytest.approx(0.25, abs=0.04)
    assert faces.main is not None and faces.main.speaks is True


def test_a_face_that_is_held_does_not_speak(
    tmp_path: Path, detector: MtcnnDetector, woman: Picture
) -> None:
    with_voice = faces_of(tmp_path / "a.mp4", [Person(woman, [(0.5, 0.5)] * COUNT)], detector).main
    assert with_voice is not None and (with_voice.still, with_voice.speaks) == (True, False)
    mute = faces_of(
        tmp_path / "b.mp4", [Person(woman, [(0.5, 0.5)] * COUNT)], detector, sound=False
    ).main
    assert mute is not None and (mute.still, mute.speaks) == (True, None)


# -- the parts -----------------------------------------------------------------------------------


def test_movement_of_lips_knows_no_light_and_no_jitter(woman: Picture) -> None:
    closed, opened = (speaking(woman, [opening])[0] for opening in (0.0, 1.0))
    crop = scene([Person(closed, [(0.5, 0.5)])], index=0, size=(112, 112))
    other = scene([Person(opened, [(0.5, 0.5)])], index=0, size=(112, 112))
    assert lip_movement(crop, crop) == pytest.approx(0.0, abs=1e-5)
    darker = (crop * 0.6).astype(np.uint8)
    assert lip_movement(crop, darker) < STILL
    assert lip_movement(crop, np.roll(crop, (2, -3), axis=(0, 1))) < STILL
    assert lip_movement(crop, other) > 2 * MOVING
    assert lip_movement(np.zeros_like(crop), crop) == 0.0  # nothing to compare


def test_levels_do_not_depend_on_how_the_samples_come() -> None:
    samples = np.concatenate([np.zeros(8192), 0.5 * np.ones(8192)]).astype(np.float32)
    whole, pieces = AudioBuffer(), AudioBuffer()
    whole.add(samples)
    for start in range(0, len(samples), 1000):
        pieces.add(samples[start : start + 1000])
    assert whole.levels is not None and pieces.levels is not None
    np.testing.assert_allclose(whole.levels.dbfs, pieces.levels.dbfs)
    assert whole.levels.dbfs[:16] == pytest.approx(-120)
    assert whole.levels.dbfs[16:] == pytest.approx(20 * np.log10(0.5))
    assert not whole.levels.voiced(0.0, 0.5) and whole.levels.voiced(0.6, 0.9)
    assert AudioBuffer().levels is None


def motion(lips: list[float]) -> FaceMotion:
    times = np.arange(len(lips) + 1) * 0.25
    return FaceMotion(times[:-1], times[1:], np.array(lips))


LOUD = SoundLevels(np.full(100, -20.0), 0.032)


@pytest.mark.parametrize(
    ("lips", "speaks"),
    [
        ([0.1] * 6, True),
        ([0.001] * 6, False),
        ([np.nan] * 6, False),  # one held picture
        ([0.03] * 6, None),  # a photograph that moves, or quiet speech in a small picture
        ([0.1, 0.1], None),  # too short to know
        ([np.nan] * 5 + [0.1], None),
    ],
)
def test_who_speaks_is_known_or_not(lips: list[float], speaks: bool | None) -> None:
    assert motion(lips).speaks(LOUD) is speaks
    assert motion(lips).speaks(None) is None
    assert motion(lips).speaks(SoundLevels(np.full(100, -90.0), 0.032)) is None


def test_pauses_do_not_count_as_speech() -> None:
    half = SoundLevels(np.repeat([-20.0, -70.0], 50), 0.032)  # 1.6 s of voice, then a pause
    chews = motion([0.001] * 6 + [0.4] * 6)
    assert chews.speaks(half) is False


def test_the_heaviest_moving_person_is_the_main_one_unless_another_speaks() -> None:
    moving, still, speaker = motion([0.06] * 8), motion([0.001] * 8), motion([0.2] * 8)
    assert main_person([], [], LOUD) is None
    assert main_person([1.0, 3.0], [moving, still], None) == 0
    assert main_person([1.0, 3.0], [still, still], None) == 1
    assert main_person([1.0, 3.0], [speaker, moving], None) == 1
    assert main_person([1.0, 3.0], [speaker, moving], LOUD) == 0
    glimpse = motion([0.9] * 3)
    assert main_person([1.0, 3.0], [glimpse, moving], LOUD) == 1  # seen too seldom
