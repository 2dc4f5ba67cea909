"""File name suffixes of recordings: the one list for folders, manifests and corpora.

A file that is named is opened whatever its suffix; the list says what to take from a folder, and
whether a path is meant as video. Importing this module loads no decoder.
"""

from pathlib import PurePath

AUDIO_SUFFIXES = frozenset(
    ".wav .mp3 .m4a .m4b .aac .flac .ogg .oga .opus .spx .wma .aif .aiff .aifc .caf .w64 .au .snd "
    ".mka .mp2 .ac3 .eac3 .dts .amr .wv .tta .ape .voc .sph".split()
)
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3gpp .3g2 .webm .mkv .avi .flv .f4v .wmv .asf .mpg .mpeg .m2v .vob "
    ".ts .mts .m2ts .ogv .mxf .dv .gif .rm .nut .ivf".split()
)
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")  # of corpora of pictures
MEDIA_SUFFIXES = AUDIO_SUFFIXES | VIDEO_SUFFIXES


def is_audio_name(path: str | PurePath) -> bool:
    """Whether a file is named as sound without picture; upper and lower case are alike."""
    return PurePath(path).suffix.lower() in AUDIO_SUFFIXES


def is_video_name(path: str | PurePath) -> bool:
    """Whether a file is named as video; upper and lower case are alike."""
    return PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def is_media_name(path: str | PurePath) -> bool:
    """Whether a file is named as a recording; upper and lower case are alike."""
    return PurePath(path).suffix.lower() in MEDIA_SUFFIXES
