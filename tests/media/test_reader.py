from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import AAC_TAIL, SAMPLE, joined, pitch, step_of, tone, write_clip, write_wav
from numpy.typing import NDArray

from avser.errors import MediaError
from avser.media import decoders as decode
from avser.media.clip import load_clip
from avser.media.reader import open_media, probe, read_audio
from avser.media.samples import CANCELLED
from avser.media.suffixes import MEDIA_SUFFIXES
from avser.types import SAMPLE_RATE


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("media") / "clip.mp4", options={"movflags": "faststart"}
    )


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 96_000])
def test_every_rate_becomes_16_khz_and_keeps_length_and_pitch(tmp_path: Path, rate: int) -> None:
    samples = read_audio(write_wav(tmp_path / "a.wav", tone(1.5, rate), rate))
    assert samples.dtype == np.float32
    assert abs(len(samples) - 24_000) <= 2
    assert pitch(samples) == pytest.approx(440, abs=1)
    assert np.abs(samples[1_000:-1_000]).max() == pytest.approx(0.5, abs=0.01)


def test_16_khz_mono_is_given_as_it_is(tmp_path: Path) -> None:
    samples = tone(0.5, SAMPLE_RATE)
    read = read_audio(write_wav(tmp_path / "a.wav", samples))
    np.testing.assert_allclose(read, samples, atol=1e-4)


def test_stereo_becomes_the_mean(tmp_path: Path) -> None:
    left, right = tone(0.5, SAMPLE_RATE), tone(0.5, SAMPLE_RATE, hz=1_000)
    read = read_audio(write_wav(tmp_path / "a.wav", np.stack([left, right], axis=1)))
    np.testing.assert_allclose(read, (left + right) / 2, atol=1e-4)


def test_five_point_one_keeps_the_centre_and_never_clips(tmp_path: Path) -> None:
    full = np.ones((8_000, 6), np.float32) * tone(0.5, SAMPLE_RATE)[:, None] * 2
    assert np.abs(read_audio(write_wav(tmp_path / "full.wav", full))).max() <= 1
    centre = np.zeros_like(full)
    centre[:, 2] = tone(0.5, SAMPLE_RATE)
    left = np.roll(centre, -2, axis=1)
    received = [np.abs(read_audio(write_wav(tmp_path / "a.wav", x))).max() for x in (centre, left)]
    assert received[0] > 0.1
    assert received[0] > received[1] > 0


def write_floats(path: Path, samples: NDArray[np.float32], codec: str = "pcm_f32le") -> Path:
    """`samples` is [channels, n] at 48 kHz."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as file:
        audio = file.add_stream(codec, rate=48_000, layout=layout)
        form = "flt" if codec == "pcm_f32le" else "fltp"
        for start in range(0, samples.shape[1], 1_024):
            piece = np.ascontiguousarray(samples[:, start : start + 1_024])
            piece = piece.T.reshape(1, -1) if form == "flt" else piece
            frame = av.AudioFrame.from_ndarray(piece, format=form, layout=layout)
            frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
            frame.pts = start
            file.mux(audio.encode(frame))
        file.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("scale", [6.0, 2.0**15])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_floats_over_full_scale_are_scaled_and_not_clipped(
    tmp_path: Path, channels: int, scale: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_floats(tmp_path / "a.wav", np.stack([scale * tone(1, 48_000)] * channels))
    samples = read_audio(path)
    np.testing.assert_allclose(samples[500:-500], 2 * tone(1, SAMPLE_RATE)[500:-500], atol=0.02)
    assert f"reach {scale / 2:.4g}" in caplog.text
    with load_clip(path) as clip:
        np.testing.assert_array_equal(clip.sound.cut(0, clip.sound.count), samples)
        assert len(clip.warnings) == 1 and "scaled by their peak" in clip.warnings[0]


def test_a_lossy_copy_of_loud_sound_is_scaled_too(tmp_path: Path) -> None:
    loud = write_floats(tmp_path / "a.m4a", np.stack([6 * tone(1, 48_000)] * 2), "aac")
    samples = read_audio(loud)[2_000:14_000]
    assert pitch(samples) == pytest.approx(440, abs=2)
    power = np.abs(np.fft.rfft(samples)) ** 2
    assert power[980:1_000].sum() < 0.01 * power.sum()  # no third harmonic: nothing was clipped
    full = write_floats(tmp_path / "b.m4a", np.stack([2 * tone(1, 48_000)] * 2), "aac")
    with open_media(full) as reader:
        list(reader)
    assert reader.gain == 1 and reader.warnings == ()  # an overshoot is no scale of its own


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_bad_floats_of_a_file_are_zero(tmp_path: Path, bad: float) -> None:
    sound = tone(1, 48_000)
    spoilt = sound.copy()
    spoilt[24_000:24_100:5] = bad
    with open_media(write_floats(tmp_path / "a.wav", spoilt[None])) as reader:
        samples = joined(list(reader))
    whole = read_audio(write_floats(tmp_path / "b.wav", sound[None]))
    assert reader.warnings == ("20 of 48000 samples are NaN, infinite or out of all range "
                               "and count as 0",)  # fmt: skip
    np.testing.assert_allclose(samples[:7_950], whole[:7_950], atol=1e-6)
    np.testing.assert_allclose(samples[8_090:], whole[8_090:], atol=1e-6)
    spoilt[:30_000] = bad
    with pytest.raises(MediaError, match="30000 of 48000 samples are NaN"):
        read_audio(write_floats(tmp_path / "c.wav", spoilt[None]))


@pytest.mark.parametrize("suffix", [".wav", ".m4a", ".flac"])
def test_inverted_stereo_does_not_cancel(tmp_path: Path, suffix: str) -> None:
    sound = tone(1, 48_000)
    stereo = np.stack([sound, -sound], axis=1)
    path = write_wav(tmp_path / "a.wav", stereo, 48_000)
    if suffix == ".m4a":
        path = write_floats(tmp_path / "a.m4a", stereo.T, "aac")
    elif suffix == ".flac":
        path = recoded(path, tmp_path / "a.flac")
    with load_clip(path) as clip:
        samples = clip.sound.cut(0, clip.sound.count)
        assert clip.warnings == (CANCELLED,)
    assert np.abs(samples[2_000:-2_000]).max() == pytest.approx(0.5, abs=0.02)
    assert pitch(samples) == pytest.approx(440, abs=2)


def recoded(path: Path, target: Path) -> Path:
    with av.open(str(path)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream("flac", rate=48_000, layout="stereo")
        for frame in given.decode(audio=0):
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return target


@pytest.mark.parametrize("channels", [3, 10, 16, 32])
def test_any_number_of_channels_is_mixed(tmp_path: Path, channels: int) -> None:
    samples = np.zeros((SAMPLE_RATE, channels), np.float32)
    samples[:, -1] = tone(1, SAMPLE_RATE)
    read = read_audio(write_wav(tmp_path / "a.wav", samples))
    assert len(read) == SAMPLE_RATE and pitch(read) == pytest.approx(440, abs=1)
    if channels != 6:
        np.testing.assert_allclose(read, samples.mean(axis=1), atol=1e-4)


def test_silence_is_zeros(tmp_path: Path) -> None:
    read = read_audio(write_wav(tmp_path / "a.wav", np.zeros(8_000, np.float32)))
    assert len(read) == 8_000
    assert not read.any()


def test_a_cut_of_sound_is_the_same_as_slicing(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 6 * SAMPLE_RATE, dtype=np.float32)
    path = write_wav(tmp_path / "a.wav", ramp)
    for start_s, end_s in ((0.5, 1.0), (3.0, 3.25), (5.5, 9.0), (0.0, 6.0)):
        read = read_audio(path, start_s=start_s, end_s=end_s)
        wanted = ramp[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
        assert len(read) == len(wanted)
        np.testing.assert_allclose(read, wanted, atol=1e-4)


def test_a_cut_after_the_end_is_empty(clip: Path) -> None:
    assert len(read_audio(clip, start_s=50)) == 0


# picture


def test_frames_are_what_is_shown_at_each_time(clip: Path) -> None:
    with open_media(clip, frame_times=[0.0, 0.03, 0.5, 0.5, 1.0395, 99]) as reader:
        frames = [frame for block in reader for frame in block.frames]
    assert [frame.time_s for frame in frames] == [0.0, 0.03, 0.5, 1.0395]
    assert [step_of(frame.image) for frame in frames] == pytest.approx([0, 0, 12, 26], abs=0.4)
    assert frames[0].image is frames[1].image


def test_an_interval_is_a_grid_and_times_need_not_end(clip: Path) -> None:
    grid = [f.time_s for block in open_media(clip, frame_times=0.512) for f in block.frames]
    times = (0.512 * index for index in count())
    drawn = [f.time_s for block in open_media(clip, frame_times=times) for f in block.frames]
    assert grid == drawn
    assert grid == [0.512 * index for index in range(8)]


def test_frames_lie_in_the_block_that_holds_their_time(clip: Path) -> None:
    blocks = list(open_media(clip, frame_times=0.2, block_s=0.512))
    assert len(blocks) == 8
    for block in blocks:
        start_s = block.start_sample / SAMPLE_RATE
        assert all(start_s <= frame.time_s < start_s + 0.512 for frame in block.frames)
    times = [frame.time_s for block in blocks for frame in block.frames]
    assert times == sorted(set(times))


def test_all_frames_are_given_up_to_the_last(clip: Path) -> None:
    frames = [f for block in open_media(clip, frame_times=0.04) for f in block.frames]
    assert len(frames) == 101  # the sound ends 5 ms after the picture: the last one is held
    steps = [step_of(frame.image) for frame in frames]
    assert steps[:100] == pytest.approx(range(100), abs=0.6)
    assert frames[-1].image is frames[-2].image


def test_a_cut_counts_from_its_start(clip: Path) -> None:
    with open_media(clip, frame_times=0.5, start_s=2.4, end_s=3.4) as reader:
        blocks = list(reader)
    frames = [frame for block in blocks for frame in block.frames]
    assert [frame.time_s for frame in frames] == [0.0, 0.5]
    assert [step_of(frame.image) for frame in frames] == pytest.approx([60, 72], abs=0.6)
    assert len(joined(blocks)) == SAMPLE_RATE
    assert pitch(joined(blocks)) == pytest.approx(440, abs=1)
    assert reader.duration_s == pytest.approx(1.0, abs=0.05)


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV can't write rotation"
)
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_phone_video_stands_upright(tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=0.2, sound=False, rotation=rotation)
    frame = next(open_media(path, frame_times=[0.0])).frames[0]
    sides = {90: (160, 120), -90: (160, 120), 180: (120, 160)}[rotation]
    assert frame.image.shape == (*sides, 3)
    info = probe(path)
    assert (info.height, info.width) == sides
    red = (frame.image[..., 0] > 128) & (frame.image[..., 1] < 128)
    corner = {90: (-1, 0), -90: (0, -1), 180: (-1, -1)}[rotation]  # where the red one went
    assert red[corner]
    assert red.sum() == pytest.approx(60 * 80, rel=0.05)


def write_uneven(path: Path, codec: str, gaps_ms: list[int], **options: str) -> Path:
    """150 small moving pictures, with gaps between them that come again and again."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        time_ms = 0
        for number in range(150):
            image = np.full((48, 64, 3), number, np.uint8)
            image[:, : number % 64] = 255 - number
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            time_ms += gaps_ms[number % len(gaps_ms)]
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("part", [{}, {"start_s": 2.3, "end_s": 4.0}])
@pytest.mark.parametrize("gaps_ms", [[33], [17, 33, 120, 50, 33, 33, 250]])
@pytest.mark.parametrize(
    ("codec", "ending", "options"),
    [
        ("libx264", "mp4", {"bf": "3", "b_strategy": "0", "sc_threshold": "0"}),
        ("libx264", "mkv", {"bf": "8", "b_strategy": "0", "sc_threshold": "0"}),
        ("libx264", "mp4", {"tune": "zerolatency"}),
        ("libvpx-vp9", "webm", {"deadline": "realtime"}),
    ],
)
def test_leaving_pictures_out_leaves_the_frames_asked_for_as_they_are(
    codec: str,
    ending: str,
    options: dict[str, str],
    gaps_ms: list[int],
    part: dict[str, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_uneven(tmp_path / f"a.{ending}", codec, gaps_ms, **options)
    decoded = []
    take = decode.VideoDecoder._take

    def counted(self: decode.VideoDecoder, frame: av.VideoFrame) -> None:
        decoded.append(frame.pts)
        take(self, frame)

    def read() -> tuple[list[float], list[bytes], float, int]:
        decoded.clear()
        with open_media(path, frame_times=0.512, **part) as reader:
            frames = [frame for block in reader for frame in block.frames]
        images = [frame.image.tobytes() for frame in frames]
        return [f.time_s for f in frames], images, reader.duration_s, len(decoded)

    monkeypatch.setattr(decode.VideoDecoder, "_take", counted)
    *result, few = read()
    monkeypatch.setattr(decode.VideoDecoder, "_choose", lambda self, packet: None)
    *whole, every = read()
    assert result[:2] == whole[:2]
    assert result[0]
    assert result[2] == pytest.approx(whole[2], abs=0.04)
    assert few < 0.8 * every if ending == "mp4" and "bf" in options else few == every


def test_frames_shrink_to_a_height_and_never_grow(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=0.2, sound=False)
    shapes = [
        next(open_media(path, frame_times=[0.0], frame_height=height)).frames[0].image.shape
        for height in (80, 500)
    ]
    assert shapes == [(80, 107, 3), (120, 160, 3)]


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(16, 15), 77), (Fraction(1, 2), 36)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_pixels_become_square(tmp_path: Path, suffix: str, aspect: Fraction, width: int) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 72, 48, "yuv420p"
        video.codec_context.sample_aspect_ratio = aspect
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 72, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    assert next(open_media(path, frame_times=[0.0])).frames[0].image.shape == (48, width, 3)
    assert (probe(path).width, probe(path).height) == (width, 48)
    small = next(open_media(path, frame_times=[0.0], frame_height=24)).frames[0].image
    assert small.shape == (24, round(72 * aspect / 2), 3)


# both


def test_sound_that_begins_later_is_preceded_by_silence(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", seconds=1.5, delay_s=0.5)
    samples = joined(list(open_media(path, frame_times=0.5)))
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=AAC_TAIL)
    assert np.abs(samples[:7_600]).max() < 1e-3
    assert pitch(samples[8_400:24_000]) == pytest.approx(440, abs=2)
    np.testing.assert_array_equal(read_audio(path), samples)


def test_sound_only(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.m4a", picture=False)
    with open_media(path, frame_times=0.5) as reader:
        blocks = list(reader)
        assert (reader.has_audio, reader.has_video) == (True, False)
        assert reader.warnings == ()
    assert not any(block.frames for block in blocks)
    assert len(joined(blocks)) == pytest.approx(4 * SAMPLE_RATE, abs=AAC_TAIL)


def test_picture_only_has_empty_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", sound=False)
    assert read_audio(path).shape == (0,)
    with open_media(path, frame_times=0.5) as reader:
        frames = [frame for block in reader for frame in block.frames]
    assert len(frames) == 8
    assert reader.duration_s == pytest.approx(4.0)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts"])
def test_containers(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"a{suffix}", seconds=1.0)
    with open_media(path, frame_times=0.25) as reader:
        blocks = list(reader)
    assert reader.warnings == ()
    assert len(joined(blocks)) == pytest.approx(SAMPLE_RATE, abs=2 * AAC_TAIL)
    assert sum(len(block.frames) for block in blocks) in (4, 5)  # avi delays by a frame
    assert suffix in MEDIA_SUFFIXES


def test_probe(clip: Path) -> None:
    info = probe(clip)
    assert info.duration_s == pytest.approx(4.0, abs=0.05)
    assert (info.has_audio, info.sample_rate, info.channels) == (True, 48_000, 2)
    assert (info.has_video, info.width, info.height, info.fps) == (True, 160, 120, 25)
    assert info.rotation == 0


def test_the_sample_has_a_voice_and_pictures() -> None:
    with open_media(SAMPLE, frame_times=0.512) as reader:
        blocks = list(reader)
    assert reader.warnings == ()
    assert np.sqrt((joined(blocks) ** 2).mean()) > 0.05
    assert len([frame for block in blocks for frame in block.frames]) == 10


# memory


def test_a_long_file_comes_in_bounded_blocks(tmp_path: Path) -> None:
    minute = tone(60, 8_000)
    path = write_wav(tmp_path / "a.wav", np.tile(minute, 6), 8_000)
    end = 0
    for block in open_media(path):
        assert block.start_sample == end
        assert len(block.samples) <= 32_768
        assert block.samples.base is None  # does not keep a larger array alive
        end += len(block.samples)
    assert end == 360 * SAMPLE_RATE


def test_frames_of_a_long_video_do_not_gather(tmp_path: Path) -> None:
    # the picture is written first, so that the file holds it up to 10 s before the sound
    path = write_clip(tmp_path / "a.mkv", seconds=40)
    with open_media(path, frame_times=0.2) as reader:
        blocks = list(reader)
    times = [frame.time_s for block in blocks for frame in block.frames]
    assert len(times) == 200
    assert times == sorted(times)
    assert max(len(block.frames) for block in blocks) <= (2.048 + 2.0) / 0.2 + 1
    assert max(len(block.samples) for block in blocks) <= 32_768
    received = [block for block in blocks if len(block.samples)]
    assert all(a.start_sample + len(a.samples) == b.start_sample for a, b in pairwise(received))


# odd files
