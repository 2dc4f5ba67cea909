"""Real clips with a face, where they are, and long videos that are interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from shared_data import DATA, missing

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.media.clip import load_clip
from avser.media.faces import DETECT_HEIGHT, FaceCollector, sample_times
from avser.media.reader import open_media, probe, read_audio
from avser.models.factory import build_net
from avser.testing.faces import head, read_picture
from avser.testing.media import write_video
from avser.testing.nets import tiny_spec
from benchmarks.footage import write_film

pytestmark = pytest.mark.long

FILMS = DATA / "ravdess_video"
CLIPS = sorted(FILMS.rglob("*.mp4"))
HEARD = [path for path in CLIPS if path.stem.startswith("01-")]  # 02: made without sound
EMOTIONS = ("happy", "sad", "angry")

real = pytest.mark.skipif(not HEARD, reason=missing("ravdess_video", DATA, "AVSER_DATA"))
both = pytest.mark.skipif(
    bundle.default() != bundle.DEFAULT_AV_MODEL,
    reason=f"model {bundle.DEFAULT_AV_MODEL} is not installed: the default has no face half",
)

# Runs the command line and tells on stdout how far it is, slowly enough to be caught in the middle
SPY = """
import sys, time

from avser.visualization import annotate

from avser.media import faces


def slow(owner, name, word):
    was = getattr(owner, name)

    def told(*given, **named):
        print(word, flush=True)
        time.sleep(0.02)
        return was(*given, **named)

    setattr(owner, name, told)


slow(faces.FaceCollector, "add", "looked")
slow(annotate._Painter, "paint", "drawn")
from avser.cli import main

sys.exit(main(sys.argv[1:]))
"""


# -- real clips --------------------------------------------------------------------------------


@real
@pytest.mark.parametrize("path", CLIPS, ids=lambda p: p.stem)
def test_real_faces_are_found_and_followed(path: Path) -> None:
    times = sample_times()
    with (
        open_media(path, audio=False, frame_times=times, frame_height=DETECT_HEIGHT) as reader,
        FaceCollector() as collector,
    ):
        for block in reader:
            for frame in block.frames:
                collector.add(frame)
        faces = collector.finish()
    assert faces.sampled >= 12  # three seconds and more, at four a second
    assert faces.detected >= 0.95 * faces.sampled and len(faces.tracks) == 1
    assert faces.main is not None
    x, y, w, h = faces.main.boxes.T  # an actor in the middle of the picture, facing the camera
    assert ((x < 0.5) & (0.5 < x + w) & (h > 0.2) & (y + h < 0.95)).all()


@real
@both
def test_real_clips_are_judged_by_the_streams_they_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["classify", str(FILMS), "--recursive", "--json", "-"]) == 0
    rows = {Path(row["path"]): row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(CLIPS)
    for path, row in rows.items():
        received = ["audio"] if path in HEARD else []
        assert row["modalities"] == [*received, "video"] and row["label"] is not None
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert row["reason"] == (None if received else "the sound is silent")


@real
@pytest.mark.parametrize("path", HEARD, ids=lambda p: p.stem)
def test_a_real_speaker_is_chosen_beside_a_larger_photograph(path: Path, tmp_path: Path) -> None:
    photograph = head(read_picture(Path(__file__).parents[2] / "examples" / "face.jpg"), height=300)
    pictures = []
    with open_media(path, audio=False, frame_times=1 / 15, frame_height=180) as reader:
        for block in reader:
            for frame in block.frames:
                wide = np.full((360, 640, 3), 96, np.uint8)
                wide[90:270, : frame.image.shape[1]] = frame.image
                wide[30:330, 380 : 380 + photograph.shape[1]] = photograph
                pictures.append(wide)
    mixed = write_video(
        tmp_path / "two.mp4", np.stack(pictures), samples=read_audio(path), fps=15.0
    )
    with load_clip(mixed, faces=True) as clip:
        assert clip.faces is not None and len(clip.faces.tracks) == 2
        speaker, other = clip.faces.tracks
    assert speaker.boxes[:, 0].max() < 0.5 < other.boxes[:, 0].min()
    assert speaker.boxes[:, 3].mean() < other.boxes[:, 3].mean()
    assert speaker.speaks is True and other.still and other.speaks is False


@real
def test_annotated_copy_of_a_real_clip_keeps_its_length_and_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = HEARD[0]
    target = tmp_path / "out" / "copy.mp4"
    words = ["classify", str(source), "--annotate", str(target), "--json", "-"]
    assert main(words) == 0
    given, made = probe(source), probe(target)
    assert given.duration_s is not None and made.duration_s is not None
    assert made.duration_s == pytest.approx(given.duration_s, abs=0.1)
    assert made.has_video and (made.width, made.height) == (given.width, given.height)
    before, after = read_audio(source), read_audio(target)
    assert len(after) == pytest.approx(len(before), abs=0.1 * 16_000)
    assert (after**2).mean() == pytest.approx((before**2).mean(), rel=0.1)
    assert list(target.parent.iterdir()) == [target]
    (row,) = json.loads(capsys.readouterr().out)
    assert row["duration_s"] == pytest.approx(given.duration_s, abs=0.1)


# -- interrupted -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny, untrained net for voice and face."""
    face = {"channels": [8, 8], "blocks": [1, 1]}
    spec = {
        **tiny_spec(),
        "video": {"class_path": "avser.models.encoders.face_cnn.FaceCnnEncoder", "init_args": face},
        "fusion": {
            "class_path": "avser.models.fusion.concat.ConcatFusion",
            "init_args": {"width": 8},
        },
    }
    return bundle.save(
        build_net(spec, EMOTIONS),
        tmp_path_factory.mktemp("model") / "both",
        spec=spec,
        name="both",
        provenance=bundle.Provenance(),
    )


class Classify:
    """``avser classify`` of a film in a process of its own, with a folder for what it writes."""

    def __init__(self, folder: Path, film: Path, model: Path) -> None:
        self.temporary, self.out = folder / "tmp", folder / "out"
        self.temporary.mkdir()
        self.out.mkdir()
        outputs = {"json": "rows.json", "annotate": "copy.mp4", "timeline": "steps.csv"}
        words = [w for name, file in outputs.items() for w in (f"--{name}", str(self.out / file))]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SPY, "classify", str(film), "--model", str(model), *words],
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group that can be signalled as a terminal does
            # a runner in the background ignores Ctrl-C, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def until(self, word: str, *, count: int) -> None:
        """Wait until it has told so often that it does something."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            count -= line.strip() == word
            if not count:
                return
        pytest.fail(f"it ended before: {self.process.communicate()}")

    def left(self) -> list[Path]:
        """Temporary files; torch makes an empty folder for its compiler when it is imported."""
        return [path for path in self.temporary.rglob("*") if not path.is_dir()]

    def interrupt(self) -> list[str]:
        """Press Ctrl-C and wait for the end; return the steps that it still told of."""
        os.killpg(self.process.pid, signal.SIGINT)
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 130
        assert err.strip().startswith("avser classify: interrupted; the same command goes on from")
        assert err.strip().count("\n") == 0
        return out.split()


@pytest.fixture
def start(tmp_path: Path, model: Path) -> Iterator[Callable[[float], Classify]]:
    begun: list[Classify] = []

    def begin(seconds: float) -> Classify:
        film = write_film(
            tmp_path / "film.mp4", seconds, size=(180, 320), fps=5, sample_rate=16_000
        )
        begun.append(Classify(tmp_path, film, model))
        return begun[-1]

    yield begin
    for run in begun:
        run.process.kill()  # whatever went wrong
        run.process.communicate()


def test_interrupted_while_reading_it_ends_at_once_and_leaves_nothing(
    start: Callable[[float], Classify],
) -> None:
    run = start(300.0)  # 1,170 looks
    run.until("looked", count=270)  # sound and faces of more than a minute wait on the disk
    after = run.interrupt()
    assert len(after) < 60  # it does not read to the end first
    assert run.left() == []
    assert all(path.name.endswith(".part.jsonl") for path in run.out.iterdir())


def test_interrupted_while_drawing_it_leaves_no_half_copy(
    start: Callable[[float], Classify],
) -> None:
    run = start(15.0)  # 75 pictures
    run.until("drawn", count=20)
    # the copy stands beside its target, under a name of its own, until it is whole
    beside = {path.name for path in run.out.iterdir()} - {"rows.json.part.jsonl", "steps.csv"}
    assert len(beside) == 1 and beside.pop().startswith(".copy")
    after = run.interrupt()
    assert len(after) < 40
    # the timeline was whole before drawing began; rows wait for the same command
    assert {path.name for path in run.out.iterdir()} <= {"rows.json.part.jsonl", "steps.csv"}
    assert run.left() == []
