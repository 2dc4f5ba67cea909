"""Formats beside the common ones: each is written, named by its suffix, and read."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import pitch, tone

from avser.media.clip import load_clip
from avser.media.faces import Detection
from avser.media.suffixes import is_audio_name, is_video_name

RATE = 48_000
SOUND = {  # suffix: format, codec
    ".caf": ("caf", "pcm_s16be"),
    ".w64": ("w64", "pcm_s16le"),
    ".au": ("au", "pcm_s16be"),
    ".tta": ("tta", "tta"),
    ".wv": ("wv", "wavpack"),
    ".mka": ("matroska", "flac"),
    ".m4b": ("ipod", "aac"),
    ".mp2": ("mp2", "mp2"),
    ".ac3": ("ac3", "ac3"),
    ".voc": ("voc", "pcm_s16le"),
    ".wma": ("asf", "wmav2"),
    ".aiff": ("aiff", "pcm_s16be"),
}
VIDEO = {  # suffix: format, picture, its pixel format, sound
    ".mxf": ("mxf", "mpeg2video", "yuv420p", "pcm_s16le"),
    ".dv": ("dv", "dvvideo", "yuv420p", None),
    ".gif": ("gif", "gif", "rgb8", None),
    ".wmv": ("asf", "wmv2", "yuv420p", "wmav2"),
    ".mpg": ("mpeg", "mpeg2video", "yuv420p", "mp2"),
    ".vob": ("vob", "mpeg2video", "yuv420p", "ac3"),
    ".3gp": ("3gp", "libx264", "yuv420p", "aac"),
    ".m2ts": ("mpegts", "libx264", "yuv420p", "aac"),
    ".f4v": ("f4v", "libx264", "yuv420p", "aac"),
    ".nut": ("nut", "mpeg4", "yuv420p", "pcm_s16le"),
}


def add_sound(file: av.container.OutputContainer, codec: str, seconds: float) -> list[av.Packet]:
    audio = file.add_stream(codec, rate=RATE, layout="mono")
    audio.bit_rate = 64_000
    audio.codec_context.open()
    size = audio.codec_context.frame_size or 1_024
    resampler = av.AudioResampler(audio.codec_context.format, "mono", RATE, frame_size=size)
    samples = tone(seconds, RATE)[None]
    whole = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    whole.sample_rate, whole.pts, whole.time_base = RATE, 0, Fraction(1, RATE)
    frames = [*resampler.resample(whole), *resampler.resample(None)]
    return [packet for frame in [*frames, None] for packet in audio.encode(frame)]


@pytest.mark.parametrize("suffix", SOUND)
def test_sound_is_read(tmp_path: Path, suffix: str) -> None:
    form, codec = SOUND[suffix]
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format=form) as file:
        file.mux(add_sound(file, codec, 1.0))
    assert is_audio_name(path)
    with load_clip(path) as clip:
        samples = clip.sound.cut(0, clip.sound.count)
        assert clip.warnings == ()
    assert len(samples) == pytest.approx(16_000, abs=2_000)
    assert pitch(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("suffix", VIDEO)
def test_video_is_read(tmp_path: Path, suffix: str) -> None:
    form, codec, pixels, sound = VIDEO[suffix]
    path = tmp_path / f"a{suffix}"
    size = (720, 576) if codec in ("dvvideo", "mpeg2video") else (64, 48)
    with av.open(str(path), "w", format=form) as file:
        video = file.add_stream(codec, rate=25)
        (video.width, video.height), video.pix_fmt = size, pixels
        packets = [] if sound is None else add_sound(file, sound, 1.0)
        for index in range(25):
            level = np.full((size[1], size[0], 3), 40 if index < 12 else 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        file.mux(packets)
    assert is_video_name(path)
    levels: list[float] = []

    def look(image: np.ndarray) -> list[Detection]:  # type: ignore[type-arg]
        levels.append(float(image.mean()))
        return []

    with load_clip(path, faces=True, detector=look) as clip:
        assert clip.warnings == ()
        assert clip.duration_s == pytest.approx(1.0, abs=0.15)
        assert (clip.sound.count > 14_000) == (sound is not None)
    assert [level > 120 for level in levels][:4] == [False, False, True, True]
