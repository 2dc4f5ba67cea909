"""``avser features``: compute visual features of videos into a table."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from avser.cli.inputs import expand
from avser.errors import ConfigError

KINDS = ("blendshapes", "action_units")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    own = argparse.ArgumentParser(
        prog="avser features",
        description="Compute visual features of videos into a table, which stands wherever a table "
        "of OpenFace's action units does: 52 blendshapes a step of 0.512 s, by MediaPipe's face "
        "landmarker.",
    )
    own.add_argument("paths", nargs="+", metavar="DIR|VIDEO")
    own.add_argument(
        "--with",
        dest="kind",
        choices=KINDS,
        default=KINDS[0],
        help="action_units: 15 of the blendshapes, under the names of their action units",
    )
    own.add_argument("--out", required=True, type=Path, metavar="TABLE.npz")
    own.add_argument(
        "--landmarker",
        required=True,
        type=Path,
        metavar="face_landmarker.task",
        help="MediaPipe's model file",
    )
    return own


def run(words: Sequence[str]) -> int:
    """Write the table; list files without features, and return 1 if there are any."""
    own = parser().parse_args(list(words))
    if own.out.suffix != ".npz":
        raise ConfigError(f"Bad --out {own.out}: expected a name that ends in .npz.")
    from avser.cli.progress import counting
    from avser.media import blendshapes

    paths = [Path(name) for name in expand(own.paths, recursive=True)]
    keys = [path.stem for path in paths]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(
            f"Bad names: {twice[0]} is the name of several files, and rows are named by it; give "
            "folders in which every name is there once."
        )
    landmarker = blendshapes.MediaPipeLandmarker(own.landmarker)
    rows, failed = {}, []
    with counting("clips") as progress:
        results = blendshapes.extracted(paths, landmarker)
        for count, (path, result) in enumerate(results, start=1):
            progress(count, len(paths))
            if isinstance(result, Exception):
                failed.append(str(result))
            else:
                rows[path.stem] = result
    landmarker.close()
    table = blendshapes.FeatureTable(tuple(landmarker.names), rows)
    if own.kind == "action_units":
        table = blendshapes.action_units(table)
    table.save(own.out)
    steps = sum(len(row.values) for row in rows.values())
    print(f"{own.out}: {len(table.names)} values of {steps} steps in {len(rows)} clips")
    for reason in failed:
        print(f"left out: {reason}")
    return 1 if failed else 0
