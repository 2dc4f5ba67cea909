"""Make ``sample.mp4``, a face and a voice, and ``sample_voice.mp3``, a voice alone.

They are for ``make demo``, the tests, and the web page, which has copies of both.

The face is ``face.jpg`` beside this file, moved gently; the voice is speech by espeak-ng
(``apt-get install espeak-ng``), which is run as in `speak`. With the same versions of espeak-ng
and PyAV the file comes out the same.

    python examples/make_sample.py
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
WORDS = (
    '<speak><prosody pitch="+30%" range="+80%" rate="115%" volume="+20%">Oh, wow! '
    '<prosody pitch="+55%">We did it!</prosody> '
    '<prosody pitch="+45%" range="+100%">This is the happiest day of my life!</prosody>'
    "</prosody></speak>"
)
VOICE = "en-us+f2"
ANGRY_WORDS = (
    '<speak><prosody pitch="-5%" range="+120%" rate="120%" volume="+60%">No! '
    '<prosody pitch="+30%" range="+160%">I told you not to touch it!</prosody> '
    '<prosody pitch="+20%">Get out! Right now!</prosody></prosody></speak>'
)
ANGRY_VOICE = "en-us+m3"
FPS = 25
WIDTH, HEIGHT = 640, 480
LEAD_S = 0.2  # silence before and after the words
VOICE_RATE = 48_000  # Hz; what phones record, so that the demo resamples as usual


def speak(words: str, *, voice: str = VOICE) -> tuple[NDArray[np.int16], int]:
    """Speak marked-up text: samples ``[n]`` and their rate in Hz.

    Raises:
        FileNotFoundError: espeak-ng is not installed.
    """
    command = ["espeak-ng", "-v", voice, "-p", "60", "-s", "165", "-m", "--stdout", words]
    message = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(message)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples, file.getframerate()


def look(face: NDArray[np.uint8], time_s: float) -> NDArray[np.uint8]:
    """Draw the face at a time: slow zoom and pan, a nod, and light that changes a little.

    Args:
        face: ``[H, W, 3]`` picture.
        time_s: seconds from the beginning.
    """
    height, width = face.shape[:2]
    turn = 2 * np.pi * time_s
    zoom = WIDTH / width * (1.10 + 0.06 * np.sin(turn / 5))
    angle = 1.5 * np.sin(turn / 2.5)  # degrees
    shift_x, shift_y = 6 * np.sin(turn / 3.1), 4 * np.sin(turn / 1.7)  # pixels
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    matrix[:, 2] += (WIDTH / 2 - width / 2 + shift_x, HEIGHT / 2 - height / 2 + shift_y)
    moved = cv2.warpAffine(
        face, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    light = 1 + 0.05 * np.sin(turn / 2.2)
    return np.clip(moved * light, 0, 255).astype(np.uint8)


def write(path: Path, face: NDArray[np.uint8], samples: NDArray[np.int16], rate: int) -> float:
    """Write H.264 and AAC; return the length in seconds."""
    silence = np.zeros(round(LEAD_S * rate), np.int16)
    sound = np.concatenate([silence, samples, silence])
    frames = round(len(sound) / rate * FPS)
    # one thread: the encoders then give the same bytes on every machine
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        picture = file.add_stream("libx264", rate=FPS, options={"crf": "24", "threads": "1"})
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        voice = file.add_stream("aac", rate=VOICE_RATE, layout="mono", bit_rate=64_000)
        for index in range(frames):
            image = av.VideoFrame.from_ndarray(look(face, index / FPS), format="rgb24")
            image.pts, image.time_base = index, Fraction(1, FPS)
            file.mux(picture.encode(image))
        file.mux(picture.encode())
        message = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        message.sample_rate = rate
        resampler = av.AudioResampler("fltp", "mono", VOICE_RATE, frame_size=1_024)
        for piece in [*resampler.resample(message), *resampler.resample(None)]:
            file.mux(voice.encode(piece))
        file.mux(voice.encode())
    return frames / FPS


def write_voice(path: Path, samples: NDArray[np.int16], rate: int) -> float:
    """Write MP3; return the length in seconds."""
    silence = np.zeros(round(LEAD_S * rate), np.int16)
    sound = np.concatenate([silence, samples, silence])
    with av.open(str(path), "w") as file:
        voice = file.add_stream("libmp3lame", rate=rate, layout="mono", bit_rate=48_000)
        spoken = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        spoken.sample_rate = rate
        resampler = av.AudioResampler("s16p", "mono", rate, frame_size=1_152)
        for piece in [*resampler.resample(spoken), *resampler.resample(None)]:
            file.mux(voice.encode(piece))
        file.mux(voice.encode())
    return len(sound) / rate


def main() -> int:
    """Make the files; 1 where espeak-ng or the face is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=FOLDER / "sample.mp4")
    out = parser.parse_args().out
    face = cv2.imread(str(FOLDER / "face.jpg"))
    if face is None:
        print(f"Bad face {FOLDER / 'face.jpg'}: it can't be read; restore it.", file=sys.stderr)
        return 1
    try:
        samples, rate = speak(WORDS)
    except FileNotFoundError:
        print("No espeak-ng: install it, for instance with apt-get.", file=sys.stderr)
        return 1
    seconds = write(out, cv2.cvtColor(face, cv2.COLOR_BGR2RGB), samples, rate)
    print(f"{out}: {seconds:.2f} s, {out.stat().st_size / 1024:.0f} KiB")
    out = out.with_name(f"{out.stem}_voice.mp3")
    seconds = write_voice(out, *speak(ANGRY_WORDS, voice=ANGRY_VOICE))
    print(f"{out}: {seconds:.2f} s, {out.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
