"""Fake of FER2013."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from avser.testing.images import FOLDERS, encoded, face_rows

_USAGE = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}


def fake_fer2013(
    root: Path,
    *,
    per_emotion: int = 2,
    parts: Sequence[str] = ("train", "validation", "test"),
    form: Literal["folders", "tar", "csv"] = "folders",
) -> Path:
    """FER2013 as folders, as ``root/fer2013.tar``, or as Kaggle's ``root/fer2013.csv``."""
    root.mkdir(parents=True, exist_ok=True)
    rows = list(face_rows(parts, per_emotion))
    if form == "csv":
        with (root / "fer2013.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("emotion", "pixels", "Usage"))
            for part, folder, _, picture in rows:
                pixels = " ".join(map(str, picture.flatten().tolist()))
                writer.writerow((list(FOLDERS).index(folder), pixels, _USAGE[part]))
    elif form == "tar":
        with tarfile.open(root / "fer2013.tar", "w") as archive:
            for part, folder, n, picture in rows:
                raw = encoded(picture)
                member = tarfile.TarInfo(f"fer2013/{part}/{folder}/{n}.png")
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    else:
        for part, folder, n, picture in rows:
            path = root / part / folder / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture))
    return root
