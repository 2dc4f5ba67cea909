"""Degradations of recorded speech: noise, rooms, telephones, codecs, hum, clipping, level, offset.

Written on numpy and scipy: audiomentations and torch-audiomentations cover noise and filters but
draw from global random states, and pyroomacoustics simulates geometries that no measure here needs.
Every function takes samples ``[S]`` at 16 kHz and returns as many; none clips to -1..1, as an
analogue path would not. Randomness comes from the generator that is passed in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.files import expand_home
from avser.types import SAMPLE_RATE

Samples = NDArray[np.float32]
Colour = Literal["white", "pink", "brown"]
Codec = Literal["opus", "mp3"]

_SLOPE_DB = {"white": 0.0, "pink": -10 / np.log2(10), "brown": -20 / np.log2(10)}  # an octave
_TELEPHONE_HZ = (300.0, 3400.0)
_CODEC_RATES = {"opus": 48_000, "mp3": 16_000}
_CODEC_NAMES = {"opus": ("libopus", "ogg"), "mp3": ("libmp3lame", "mp3")}
_VOICES = 5  # of babble


def add_noise(
    samples: Samples,
    rng: np.random.Generator,
    *,
    snr_db: float,
    colour: Colour | Samples = "white",
) -> Samples:
    """Add noise at a ratio to the clip's mean power.

    Args:
        samples: ``[S]``.
        rng: of the noise.
        snr_db: signal-to-noise ratio over the whole clip.
        colour: power by frequency: white (flat), pink (1/f), brown (1/f²); or noise ``[N]`` of
            one's own, of which a part is taken, repeated if it is shorter than the clip.
    """
    if not len(samples):
        return samples
    if isinstance(colour, str):
        noise = _coloured(len(samples), rng, colour)
    else:
        start = int(rng.integers(len(colour)))
        noise = np.resize(np.roll(colour, -start), len(samples))
    loud = float(np.mean(np.square(noise, dtype=np.float64)))
    power = float(np.mean(np.square(samples - samples.mean(), dtype=np.float64)))
    if loud <= 0:
        return samples
    gain = np.sqrt(power / loud / 10 ** (snr_db / 10))
    return _single(samples + gain * noise)


def _coloured(count: int, rng: np.random.Generator, colour: Colour) -> NDArray[np.float64]:
    if colour == "white":
        return rng.standard_normal(count)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 20.0)
    octaves = np.log2(hz / 1000.0)
    return np.fft.irfft(spectrum * 10 ** (_SLOPE_DB[colour] * octaves / 20), count)


def babble(clips: Sequence[Samples], rng: np.random.Generator, *, count: int) -> Samples:
    """Mix voices of other clips, each played at another rate, at equal power.

    Args:
        clips: to choose from; at least one.
        rng: of the choice.
        count: samples of the result.

    Raises:
        ConfigError: there is no clip.
    """
    if not clips:
        raise ConfigError("Bad babble: it needs clips of other speech; give some.")
    mixed = np.zeros(count)
    for _ in range(_VOICES):
        clip = clips[int(rng.integers(len(clips)))]
        if not len(clip):
            continue
        rate = float(rng.uniform(0.85, 1.2))
        voice = np.interp(np.arange(0, len(clip) - 1, rate), np.arange(len(clip)), clip)
        if not len(voice) or not np.any(voice):
            continue
        voice = np.resize(np.roll(voice, int(rng.integers(len(voice)))), count)
        mixed += voice / np.sqrt(np.mean(np.square(voice)))
    return _single(mixed)


def reverberate(samples: Samples, rng: np.random.Generator, *, rt60_s: float) -> Samples:
    """Convolve with a synthetic room: noise that decays by 60 dB in ``rt60_s`` after direct sound.

    The reflections have the direct sound's energy, as about the critical distance of a room; the
    first comes after 2 ms. Source of the model: Polack, "La transmission de l'énergie sonore dans
    les salles", 1988.
    """
    from scipy.signal import fftconvolve

    time_s = np.arange(int(1.2 * rt60_s * SAMPLE_RATE) + 1) / SAMPLE_RATE
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s) * (time_s >= 0.002)
    energy = float(np.sum(np.square(tail)))
    if energy > 0:
        tail /= np.sqrt(energy)
    tail[0] = 1.0
    wet = fftconvolve(samples, tail)[: len(samples)]
    return _single(wet * _gain_between(wet, samples))


def telephone(samples: Samples) -> Samples:
    """Keep 300 to 3,400 Hz at 8 kHz, in the 8 bits of µ-law (ITU-T G.711)."""
    from scipy.signal import butter, resample_poly, sosfilt

    if not len(samples):
        return samples
    narrow = resample_poly(samples, 1, 2)
    narrow = sosfilt(butter(4, _TELEPHONE_HZ, "bandpass", fs=8000, output="sos"), narrow)
    peak = max(1.0, float(np.abs(narrow).max()))
    curve = np.sign(narrow) * np.log1p(255 * np.abs(narrow) / peak) / np.log(256)
    level = np.rint(curve * 127) / 127
    back = np.sign(level) * (256 ** np.abs(level) - 1) / 255 * peak
    return _single(resample_poly(back, 2, 1)[: len(samples)])


def through_codec(samples: Samples, *, codec: Codec, kbit_s: float) -> Samples:
    """Encode and decode at a low rate; the codec's delay is taken out.

    Args:
        samples: ``[S]``.
        codec: Opus (voice mode) or MP3.
        kbit_s: bit rate; Opus takes 6 and more, MP3 at 16 kHz takes 8 and more.
    """
    import av
    from scipy.signal import resample_poly

    if not len(samples):
        return samples
    name, container = _CODEC_NAMES[codec]
    rate = _CODEC_RATES[codec]
    factor = rate // SAMPLE_RATE
    peak = max(1.0, float(np.abs(samples).max()))
    sound = resample_poly(samples / peak, factor, 1) if factor > 1 else samples / peak
    padded = np.concatenate([sound, np.zeros(rate // 10)])  # what the delay pushes out
    memory = BytesIO()
    with av.open(memory, "w", format=container) as output:
        options = {"application": "voip"} if codec == "opus" else {}
        stream: Any = output.add_stream(name, rate=rate, options=options)
        stream.bit_rate = int(1000 * kbit_s)
        stream.layout = "mono"
        pcm = np.rint(padded.clip(-1, 1) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format.name, "mono", rate, stream.frame_size or 1152)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    decoded = _decoded(memory, rate=rate)
    narrow = resample_poly(decoded, 1, factor) if factor > 1 else decoded
    return _single(peak * _aligned(narrow, samples / peak))


def _decoded(memory: BytesIO, *, rate: int) -> NDArray[np.float64]:
    import av

    memory.seek(0)
    with av.open(memory, "r") as file:
        resampler = av.AudioResampler("flt", "mono", rate)
        frames = [f for frame in file.decode(audio=0) for f in resampler.resample(frame)]
    return np.concatenate([f.to_ndarray()[0] for f in frames]).astype(np.float64)


def _aligned(late: NDArray[Any], samples: NDArray[Any]) -> NDArray[Any]:
    """Shift what a codec gave so that it lies on what it was given."""
    from scipy.signal import correlate

    late = np.pad(late, (0, max(0, len(samples) - len(late))))
    most = min(len(late) - 1, SAMPLE_RATE // 10)
    likeness = correlate(late, samples, mode="full", method="fft")
    around = likeness[len(samples) - 1 : len(samples) + most]  # delays of 0 to `most`
    delay = int(np.argmax(around)) if len(around) else 0
    return np.pad(late[delay:], (0, delay))[: len(samples)]


def add_hum(
    samples: Samples, rng: np.random.Generator, *, level_dbfs: float, mains_hz: float = 50.0
) -> Samples:
    """Add mains hum with two harmonics; the level is its root mean square."""
    time_s = np.arange(len(samples)) / SAMPLE_RATE
    phases = rng.uniform(0, 2 * np.pi, 3)
    waves = [np.sin(2 * np.pi * mains_hz * (k + 1) * time_s + phases[k]) / 4**k for k in range(3)]
    total = np.sum(waves, axis=0)
    scale = 10 ** (level_dbfs / 20) / np.sqrt(0.5 * (1 + 1 / 16 + 1 / 256))
    return _single(samples + scale * total)


def clip_peaks(samples: Samples, *, over_db: float) -> Samples:
    """Cut off peaks as an overdriven input does: ``over_db`` of the clip's peak are lost."""
    if not len(samples):
        return samples
    limit = float(np.abs(samples).max()) * 10 ** (-over_db / 20)
    return _single(samples.clip(-limit, limit))


def change_level(samples: Samples, *, gain_db: float) -> Samples:
    """Change the level, and round to 16 bits as a recording of that level would be."""
    scaled = samples * 10 ** (gain_db / 20)
    return _single(np.rint(scaled * 32768) / 32768)


def add_offset(samples: Samples, *, offset: float) -> Samples:
    """Add a constant, as cheap converters do; full scale is 1."""
    return _single(samples + offset)


def _gain_between(wet: NDArray[Any], dry: NDArray[Any]) -> float:
    power = float(np.mean(np.square(wet))) if len(wet) else 0.0
    return float(np.sqrt(np.mean(np.square(dry)) / power)) if power > 0 else 1.0


def _single(samples: NDArray[Any]) -> Samples:
    return np.asarray(samples, dtype=np.float32)


# -- conditions of the stress table ----------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """One row of a stress table: a name, and what it does to a clip.

    Attributes:
        name: as tables print it.
        apply: from samples ``[S]``, generator and other clips to samples ``[S]``.
    """

    name: str
    apply: Callable[[Samples, np.random.Generator, Sequence[Samples]], Samples]


def _noise(snr_db: float, colour: Colour = "white") -> Condition:
    return Condition(
        f"{colour} noise {snr_db:g} dB",
        lambda x, rng, _: add_noise(x, rng, snr_db=snr_db, colour=colour),
    )


def _with_babble(
    samples: Samples, rng: np.random.Generator, others: Sequence[Samples], *, snr_db: float
) -> Samples:
    noise = babble(others, rng, count=max(1, len(samples)))
    return add_noise(samples, rng, snr_db=snr_db, colour=noise)


#: Conditions of `avser evaluate --stress`, by name; the clean clips come first.
CONDITIONS: Mapping[str, Condition] = {
    condition.name: condition
    for condition in (
        _noise(30),
        _noise(20),
        _noise(10),
        _noise(20, "pink"),
        Condition("babble 20 dB", lambda x, rng, others: _with_babble(x, rng, others, snr_db=20)),
        Condition("babble 10 dB", lambda x, rng, others: _with_babble(x, rng, others, snr_db=10)),
        Condition("telephone", lambda x, _, __: telephone(x)),
        Condition("Opus 8 kbit/s", lambda x, _, __: through_codec(x, codec="opus", kbit_s=8)),
        Condition("MP3 16 kbit/s", lambda x, _, __: through_codec(x, codec="mp3", kbit_s=16)),
        Condition("room 0.5 s", lambda x, rng, _: reverberate(x, rng, rt60_s=0.5)),
        Condition("hum -40 dBFS", lambda x, rng, _: add_hum(x, rng, level_dbfs=-40)),
        Condition("clipping 12 dB", lambda x, _, __: clip_peaks(x, over_db=12)),
        Condition("level -20 dB", lambda x, _, __: change_level(x, gain_db=-20)),
        Condition("offset 0.005", lambda x, _, __: add_offset(x, offset=0.005)),
    )
}


# -- random draws for training ---------------------------------------------------------------------


class Degrade:
    """Degrades a clip at random: what training sees so that strangers' recordings are no surprise.

    Each kind is drawn by itself with its probability, in the order in which sound meets them: a
    room, noise, the microphone's level, hum and offset, clipping, then a telephone or a codec.

    Args:
        room, noise, level, hum, offset, clipping, telephone, codec: probabilities.
        snr_db: range of the ratio of noise, which is white, pink, brown or babble.
        rt60_s: range of reverberation times.
        gain_db: range of the change of level.
        noise_folder: folder of one's own noise recordings, which take the place of half of the
            noise; null for none.

    Raises:
        ConfigError: a probability is not from 0 to 1, a range is upside down, or the folder holds
            no sound.
    """

    def __init__(
        self,
        *,
        room: float = 0.45,
        noise: float = 0.5,
        level: float = 0.3,
        hum: float = 0.15,
        offset: float = 0.1,
        clipping: float = 0.1,
        telephone: float = 0.15,
        codec: float = 0.1,
        snr_db: tuple[float, float] = (5.0, 35.0),
        rt60_s: tuple[float, float] = (0.15, 0.8),
        gain_db: tuple[float, float] = (-25.0, 3.0),
        noise_folder: str | None = None,
    ) -> None:
        self.shares = {
            "room": room,
            "noise": noise,
            "level": level,
            "hum": hum,
            "offset": offset,
            "clipping": clipping,
            "telephone": telephone,
            "codec": codec,
        }
        for name, share in self.shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"Bad {name} {share:g}: legal is a probability of 0 to 1.")
        for name, (low, high) in {"snr_db": snr_db, "rt60_s": rt60_s, "gain_db": gain_db}.items():
            if low > high or (name == "rt60_s" and low <= 0):
                raise ConfigError(
                    f"Bad {name} {low:g} to {high:g}: legal is a lower end, then a higher one"
                    f"{', both over 0' if name == 'rt60_s' else ''}."
                )
        self.snr_db, self.rt60_s, self.gain_db = snr_db, rt60_s, gain_db
        self.noise_folder = noise_folder
        self._own: list[Samples] | None = None

    @property
    def settings(self) -> str:
        """All that decides the result, for keys of what is prepared."""
        ranges = (self.snr_db, self.rt60_s, self.gain_db)
        return f"layout 1 {sorted(self.shares.items())} {ranges} {self.noise_folder}"

    def __call__(
        self, samples: Samples, rng: np.random.Generator, others: Sequence[Samples] = ()
    ) -> Samples:
        """Degrade ``[S]``; babble is made of ``others``, and left out where there are none."""
        drawn = {name: rng.random() < share for name, share in self.shares.items()}
        if drawn["room"]:
            samples = reverberate(samples, rng, rt60_s=float(rng.uniform(*self.rt60_s)))
        if drawn["noise"]:
            samples = self._noisy(samples, rng, others)
        if drawn["level"]:
            samples = change_level(samples, gain_db=float(rng.uniform(*self.gain_db)))
        if drawn["hum"]:
            mains = float(rng.choice([50.0, 60.0]))
            level = float(rng.uniform(-55, -35))
            samples = add_hum(samples, rng, level_dbfs=level, mains_hz=mains)
        if drawn["offset"]:
            samples = add_offset(samples, offset=float(rng.uniform(-0.01, 0.01)))
        if drawn["clipping"]:
            samples = clip_peaks(samples, over_db=float(rng.uniform(3, 15)))
        if drawn["telephone"]:
            return telephone(samples)
        if drawn["codec"]:
            codec: Codec = "opus" if rng.random() < 0.5 else "mp3"
            return through_codec(samples, codec=codec, kbit_s=float(rng.choice([8, 16, 24])))
        return samples

    def _noisy(
        self, samples: Samples, rng: np.random.Generator, others: Sequence[Samples]
    ) -> Samples:
        snr = float(rng.uniform(*self.snr_db))
        own = self._recorded()
        if own and rng.random() < 0.5:
            return add_noise(samples, rng, snr_db=snr, colour=own[int(rng.integers(len(own)))])
        kinds: list[Colour] = ["white", "pink", "brown"]
        kind = int(rng.integers(4 if others else 3))
        if kind < len(kinds):
            return add_noise(samples, rng, snr_db=snr, colour=kinds[kind])
        return _with_babble(samples, rng, others, snr_db=snr)

    def _recorded(self) -> list[Samples]:
        """One's own noise, decoded at the first use."""
        if self.noise_folder is None:
            return []
        if self._own is None:
            from avser.media.reader import read_audio
            from avser.media.suffixes import AUDIO_SUFFIXES

            folder = expand_home(self.noise_folder)
            files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
            if not files:
                raise ConfigError(
                    f"Bad noise_folder {self.noise_folder!r}: it holds no sound; name a folder of "
                    "recordings, or set it to null."
                )
            self._own = [np.asarray(read_audio(path), dtype=np.float32) for path in files]
        return self._own
