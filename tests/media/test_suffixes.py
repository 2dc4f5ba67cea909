import subprocess
import sys

import pytest

from avser.media.suffixes import (
    AUDIO_SUFFIXES,
    MEDIA_SUFFIXES,
    VIDEO_SUFFIXES,
    is_audio_name,
    is_media_name,
    is_video_name,
)


@pytest.mark.parametrize(
    "suffix",
    ".webm .m4v .3gp .3gpp .mpg .ts .wmv .m2ts .vob .asf .qt .f4v .mxf .dv .gif .mp4 .mov .mkv "
    ".avi .flv .ogv".split(),
)
def test_videos_are_named_so(suffix: str) -> None:
    assert is_video_name(f"a/b{suffix}") and is_video_name(f"B{suffix.upper()}")
    assert is_media_name(f"b{suffix}") and not is_audio_name(f"b{suffix}")


@pytest.mark.parametrize(
    "suffix",
    ".caf .w64 .m4b .mka .mp2 .spx .au .ac3 .amr .wv .tta .wav .mp3 .m4a .flac .ogg .opus".split(),
)
def test_sound_is_named_so(suffix: str) -> None:
    assert is_audio_name(f"a{suffix}") and not is_video_name(f"a{suffix}")
    assert is_media_name(f"a{suffix}")


def test_other_files_are_no_media() -> None:
    assert AUDIO_SUFFIXES.isdisjoint(VIDEO_SUFFIXES)
    assert len(MEDIA_SUFFIXES) == len(AUDIO_SUFFIXES) + len(VIDEO_SUFFIXES)
    assert not any(map(is_media_name, ("a.csv", "a.txt", "wav", "a.png", "a.mp4.part", "")))


def test_the_list_loads_no_decoder() -> None:
    code = "import avser.media.suffixes, sys; print({'av', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
