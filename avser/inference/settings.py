"""Settings of a classification, and the predictor that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.errors import ConfigError

if TYPE_CHECKING:
    from avser.inference.classifier import Failure, Progress
    from avser.inference.ensemble import Ensemble
    from avser.inference.predictor import Predictor
    from avser.types import Prediction


@dataclass(frozen=True, kw_only=True)
class ClassifySettings:
    """Settings of a classification, as plain values that can be sent to another process.

    Attributes:
        models: names, bundles or run folders; several are an ensemble, none the default.
        modality: see `avser.inference.predictor.Predictor`.
        faces: "all" predicts every face alone, too.
        detector: path of a YuNet, or None for MTCNN.
        features: table of precomputed video features, or None.
        enrol: unlabelled clips of the speaker.
        enrol_self: those are the clips that are classified.
        centre_running: centre each face on its own mean so far.
        device: auto, cpu, cuda, ...
        workers: loading threads.
    """

    models: tuple[str, ...] = ()
    modality: str = "auto"
    faces: str = "main"
    detector: str | None = None
    features: str | None = None
    enrol: tuple[str, ...] = ()
    enrol_self: bool = False
    centre_running: bool = False
    device: str = "auto"
    workers: int = 2

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifySettings:
        """Return the settings of the values of `to_dict`."""
        known: dict[str, Any] = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        known |= {name: tuple(known[name]) for name in ("models", "enrol") if name in known}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def predictor(self) -> Predictor | Ensemble:
        """Load the models.

        Raises:
            AvserError: a model can't be loaded, or a setting does not fit it.
        """
        from avser.inference.ensemble import Ensemble
        from avser.inference.predictor import Predictor

        detector = None
        if self.detector is not None:
            from avser.media.faces import YuNetDetector

            detector = YuNetDetector(Path(self.detector))
        models = [
            Predictor.from_pretrained(
                model, device=self.device, detector=detector, features=self.features
            )
            for model in self.models or [None]
        ]
        self._check_faces(models)
        predictor = models[0] if len(models) == 1 else Ensemble(models)
        if self.enrol:
            predictor.enrol(list(self.enrol), own=self.enrol_self)
        for member in models if self.centre_running else ():
            member.centre_faces()
        return predictor

    def _check_faces(self, models: Sequence[Predictor]) -> None:
        """Refuse "all" faces of models that judge none.

        Raises:
            ConfigError: no model judges faces.
        """
        from avser.inference.classifier import Request

        request = Request(modality=self.modality)  # type: ignore[arg-type]  # checked in classify
        if self.faces == "all" and not any(m.looks_for_faces(request) for m in models):
            by = " with --modality audio" if self.modality == "audio" else ""
            raise ConfigError(
                f"Bad --faces all: {', '.join(m.name for m in models)} judges no faces{by}; leave "
                "--faces out, or name a model that does, such as av.multi."
            )

    def classify(
        self,
        predictor: Predictor | Ensemble,
        paths: Iterable[str],
        *,
        progress: Progress | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Classify files in order; see `avser.inference.classifier.ClipClassifier.classify`."""
        return predictor.classify(
            paths,
            modality=self.modality,  # type: ignore[arg-type]  # checked there
            faces=self.faces,  # type: ignore[arg-type]
            workers=self.workers,
            progress=progress,
        )
