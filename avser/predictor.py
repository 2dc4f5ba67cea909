"""From a media file, or samples, to a prediction. Loads no Lightning.

Clips of up to a minute are answered whole, several at a time; longer ones window by window as
they are decoded, so that memory does not grow with length.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray

from avser import bundle
from avser.batch import audio_batch
from avser.errors import AvserError, ConfigError, SignalError, unknown
from avser.media import MediaReader, open_media, probe
from avser.net import HEADS, EmotionNet
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Prediction, steps_of
from avser.windows import WINDOW_STEPS, Piece, named, timeline, windows

Modality = Literal["auto", "audio", "video", "both"]
Samples = NDArray[np.float32]

MODALITIES = ("auto", "audio", "video", "both")
_BATCH_STEPS = 2 * WINDOW_STEPS  # of one forward pass, padding included: bounds memory
_BATCH_CLIPS = 16


@dataclass(frozen=True)
class Failure:
    """A file that could not be classified, and why."""

    path: str
    error: AvserError

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object of a failed input."""
        return {
            "path": self.path,
            "error": {"type": type(self.error).__name__, "message": str(self.error)},
        }


@dataclass(frozen=True)
class _Sound:
    """A clip that fits in one window."""

    samples: Samples
    duration_s: float
    note: str | None


class Predictor:
    """Classifies clips with one model.

    Args:
        net: the network.
        name: of the model, given in every answer.
        device: "auto" takes a GPU if there is one.
    """

    def __init__(self, net: EmotionNet, *, name: str = "model", device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            self.net = net.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"Bad device {device!r}: {str(error).splitlines()[0]}; use auto or cpu."
            ) from error
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        allow: Sequence[str] = (),
    ) -> Self:
        """Load a released model by name, or a bundle or run folder; None is the default model.

        Raises:
            BundleError: there is no such model, or it is damaged or unsafe.
        """
        loaded = bundle.load(model, allow=allow)
        return cls(loaded.net, name=loaded.name, device=device)

    @overload
    def __call__(
        self,
        source: str | Path | NDArray[np.floating],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        source: list[Any],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> list[Prediction]: ...

    def __call__(
        self,
        source: str | Path | NDArray[np.floating] | list[Any],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> Prediction | list[Prediction]:
        """Classify a file, samples, or a list of either.

        Args:
            source: path; ``[S]`` or ``[channels, S]`` samples in -1..1; or a list.
            sample_rate: of samples, in Hz.
            modality: which streams to use; "auto" uses what there is.

        Raises:
            AvserError: a clip can't be read or lacks the stream that was asked for.
        """
        sources = source if isinstance(source, list) else [source]
        waves = [self._wave(s, sample_rate) for s in sources if isinstance(s, np.ndarray)]
        paths = [s for s in sources if isinstance(s, (str, Path))]
        if len(waves) + len(paths) != len(sources):
            raise ConfigError("Bad source: expected paths or arrays of samples.")
        self._check(modality)
        of_arrays = iter([self._whole(w) for w in waves])
        of_files = self.classify(paths, modality=modality)
        found: list[Prediction] = []
        for item in sources:
            answer = next(of_arrays) if isinstance(item, np.ndarray) else next(of_files)
            if isinstance(answer, Failure):
                raise answer.error
            found.append(answer)
        return found if isinstance(source, list) else found[0]

    def classify(
        self,
        paths: Iterable[str | Path],
        *,
        modality: Modality = "auto",
        workers: int = 2,
    ) -> Iterator[Prediction | Failure]:
        """Classify files in order; a bad one gives a `Failure` and the rest go on.

        Args:
            paths: media files.
            modality: which streams to use.
            workers: decoding threads.
        """
        self._check(modality)
        with ThreadPoolExecutor(max(1, workers)) as pool:
            ahead: list[tuple[str, Future[_Sound | Failure | None]]] = []
            for path in paths:
                ahead.append((str(path), pool.submit(self._read, str(path), modality)))
                if len(ahead) == 2 * _BATCH_CLIPS:
                    yield from self._answer(ahead[:_BATCH_CLIPS], modality)
                    del ahead[:_BATCH_CLIPS]
            yield from self._answer(ahead, modality)

    # -- reading ---------------------------------------------------------------------------

    def _check(self, modality: str) -> None:
        if modality not in MODALITIES:
            raise ConfigError(unknown("modality", modality, MODALITIES))
        if modality in ("video", "both") and self.net.video is None:
            raise ConfigError(
                f"Bad modality {modality!r}: model {self.name} has no face half; use auto or audio."
            )

    @staticmethod
    def _wave(samples: NDArray[np.floating], sample_rate: int | None) -> Samples:
        if sample_rate is None or sample_rate < 1:
            raise ConfigError("Bad samples: their rate is not given; pass sample_rate in Hz.")
        if not np.issubdtype(samples.dtype, np.floating):
            raise ConfigError(
                f"Bad samples of type {samples.dtype}: expected floats in -1..1; divide 16-bit "
                "samples by 32768."
            )
        mono = np.asarray(samples, np.float32)
        if mono.ndim == 2 and len(mono) > mono.shape[1]:
            raise ConfigError(
                f"Bad samples of shape {samples.shape}: expected [channels, S]; transpose them."
            )
        if mono.ndim == 2:
            mono = mono.mean(axis=0)
        if mono.ndim != 1 or not np.isfinite(mono).all():
            raise ConfigError(
                f"Bad samples of shape {samples.shape}: expected finite [S] or [channels, S]."
            )
        if sample_rate == SAMPLE_RATE or not len(mono):
            return mono
        from torchaudio.functional import resample

        return np.asarray(resample(torch.from_numpy(mono), sample_rate, SAMPLE_RATE).numpy())

    def _require(self, reader: MediaReader, modality: Modality) -> None:
        for stream, there in (("audio", reader.has_audio), ("video", reader.has_video)):
            if modality in (stream, "both") and not there:
                raise SignalError(
                    f"Bad clip {reader.path}: it has no {stream} stream; use --modality auto."
                )

    def _read(self, path: str, modality: Modality) -> _Sound | Failure | None:
        """Decode a short clip; None if it is longer than a window."""
        try:
            with open_media(path) as reader:
                self._require(reader, modality)
                parts, count = [], 0
                for block in reader:
                    parts.append(block.samples)
                    count += len(block.samples)
                    if count > WINDOW_STEPS * STEP_SAMPLES:
                        return None
                samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
                # of a file without sound nothing is decoded, and only its header tells the length
                length = reader.duration_s if count else probe(path).duration_s or 0.0
                return _Sound(samples, max(length, count / SAMPLE_RATE), reader.warning)
        except AvserError as error:
            return Failure(path, error)

    # -- answering -------------------------------------------------------------------------

    def _answer(
        self, ahead: Sequence[tuple[str, Future[_Sound | Failure | None]]], modality: Modality
    ) -> Iterator[Prediction | Failure]:
        read = [(path, future.result()) for path, future in ahead]
        sounds = [r for _, r in read if isinstance(r, _Sound)]
        pieces = iter(self._run([s.samples for s in sounds]))
        for path, result in read:
            if isinstance(result, Failure):
                yield result
            elif result is None:
                yield self._long_file(path, modality)
            else:
                yield self._prediction(
                    [next(pieces)], result.duration_s, path=path, note=result.note
                )

    def _long_file(self, path: str, modality: Modality) -> Prediction | Failure:
        try:
            with open_media(path) as reader:
                self._require(reader, modality)
                pieces = list(windows(self._run, (block.samples for block in reader)))
                return self._prediction(pieces, reader.duration_s, path=path, note=reader.warning)
        except AvserError as error:
            return Failure(path, error)

    def _whole(self, wave: Samples) -> Prediction:
        return self._prediction(list(windows(self._run, [wave])), len(wave) / SAMPLE_RATE)

    @torch.inference_mode()
    def _run(self, waves: Sequence[Samples]) -> list[Piece]:
        """Answer waves of at most a window each, in batches of like length."""
        order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
        pieces: dict[int, Piece] = {}
        while order:
            longest = steps_of(len(waves[order[-1]])) or 1
            size = min(_BATCH_CLIPS, max(1, _BATCH_STEPS // longest))
            part, order = order[-size:], order[:-size]
            lengths = torch.tensor([len(waves[i]) for i in part])
            waveform = torch.zeros(len(part), max(1, int(lengths.max())))
            for row, i in zip(waveform, part, strict=True):
                row[: len(waves[i])] = torch.from_numpy(np.ascontiguousarray(waves[i]))
            answer = self.net.answer(
                self.net(audio_batch(waveform.to(self.device), lengths.to(self.device)))
            )
            for row_index, i in enumerate(part):
                steps = steps_of(len(waves[i]))
                pieces[i] = Piece(
                    answer.probabilities[row_index].cpu(),
                    answer.step_probabilities[row_index, :steps].cpu(),
                    answer.mask[row_index, :steps].cpu(),
                    int(answer.used[row_index]),
                )
        return [pieces[i] for i in range(len(waves))]

    def _prediction(
        self,
        pieces: Sequence[Piece],
        duration_s: float,
        *,
        path: str | None = None,
        note: str | None = None,
    ) -> Prediction:
        names = self.net.emotions
        steps = torch.cat([p.steps for p in pieces])
        mask = torch.cat([p.mask for p in pieces])
        heads = {HEADS[p.used] for p in pieces if p.used >= 0}
        common = {"duration_s": duration_s, "model": self.name, "path": path}
        if not heads:
            return Prediction(
                label=None,
                probabilities=None,
                modalities=(),
                reason="no_signal",
                timeline=(),
                **common,  # type: ignore[arg-type]
            )
        if len(pieces) == 1:
            clip = pieces[0].probabilities
        else:
            clip = steps[mask].mean(dim=0)
        streams = {s for h in heads for s in (("audio", "video") if h == "fused" else (h,))}
        return Prediction(
            label=names[int(clip.argmax())],
            probabilities=named(names, clip),
            modalities=tuple(sorted(streams)),
            reason=note,
            timeline=tuple(timeline(names, steps, mask, duration_s)),
            **common,  # type: ignore[arg-type]
        )
