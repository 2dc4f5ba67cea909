"""``avser prepare``: decode a corpus into the cache, with features of frozen encoders."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avser.cli.config import Parser, parse_data, prepare_data
from avser.errors import ConfigError

if TYPE_CHECKING:
    from avser.distributed.engine import Cluster


def run(words: Sequence[str]) -> int:
    """Decode what is not yet in the cache."""
    parser = Parser(
        "prepare",
        "Decode a corpus into the cache. With -c MODEL.yaml whose data.views is set, also compute "
        "the frozen encoder's outputs of all clips and views. Any setting of the data may follow.",
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: spread the decoding over "
        "a cluster; the cache is on a shared disk, the corpus too or in a bucket",
    )  # fmt: skip
    parser.add_argument("--shards", metavar="DIR", help="also write the clips into tar files in "
                        "this folder or bucket, to train with --corpus shards")  # fmt: skip
    parser.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="of a running Ray cluster; without it, one is started on this machine",
    )
    parser.add_argument("--actors", type=int, metavar="N", help="with ray: largest number of "
                        "decoding processes; by default as many as there is room for")  # fmt: skip
    own, rest = parser.split(words)
    from avser.data.audio_cache import Prepared
    from avser.data.content import cache_folder
    from avser.training.data_module import failure_text

    data = parse_data(rest)
    cluster = None
    if own.engine == "ray":
        from avser.distributed.engine import Cluster

        cluster = Cluster(own.address, own.actors)
        _prepare_on_ray(data, cluster, faces=getattr(data, "video", None) == "faces")
    prepare_data(data, strict=False)
    if data.views is not None:
        _prepare_features(rest)
    prepared = data.prepared
    content = f"pictures of {data.corpus.name}"
    if isinstance(prepared, Prepared):
        minutes = sum(prepared.waves.lengths) / 16_000 / 60
        content = f"clips of {data.corpus.name}, {minutes:.1f} minutes,"
    print(f"{len(prepared.clips)} {content} are prepared in {cache_folder()}.")
    if own.shards is not None:
        _write_shards(data, own.shards, cluster)
    for clip, reason in prepared.failed:
        print(f"left out: {failure_text(clip, reason)}")
    return 0


def _prepare_on_ray(data: Any, cluster: "Cluster", *, faces: bool) -> None:  # noqa: ANN401
    """Fill the cache from a cluster; what failed is tried, and listed, by this process after it."""
    from avser.cli.progress import counting
    from avser.distributed.tasks import prepare_on_ray

    with counting("clips") as progress:
        prepare_on_ray(data.rows, cluster=cluster, faces=faces, progress=progress)


def _write_shards(data: Any, place: str, cluster: "Cluster | None") -> None:  # noqa: ANN401
    """Write the shards that are not there, with the audit of the split."""
    from avser.cli.progress import counting
    from avser.data.audit import audit
    from avser.data.content import cache_folder
    from avser.data.face_cache import prepare_faces
    from avser.distributed import shards
    from avser.distributed.folder import Folder
    from avser.distributed.tasks import shards_on_ray
    from avser.stores import is_url

    store = data.prepared
    if not hasattr(store, "waves"):
        raise ConfigError("Bad --shards: only clips with sound have shards; leave it out.")
    about = {
        "corpus": data.corpus.name,
        "licence": data.corpus.licence,
        "languages": list(data.corpus.languages),
        "label_target": data.corpus.label_target,
        "notes": data.notes,
        "split": data.split_description,
        "split_hash": data.parts.hash,
        "audit": audit(data.parts, data.digests, labels=data.labels),
    }
    faces = prepare_faces(store.clips) if data.video == "faces" else None
    folder = Folder(place if is_url(place) else os.path.abspath(place))
    plans = shards.plan_shards(
        store.clips, lengths=store.waves.lengths, digests=data.digests, faces=faces
    )
    run = shards.writer(folder, store.clips, store.waves, faces=cache_folder() / "faces")
    with counting("shards") as progress:
        written = shards.write_shards(
            folder,
            plans,
            about=about,
            face_size=None if faces is None else faces.size,
            run=run if cluster is None else shards_on_ray(cluster, str(folder)),
            progress=progress,
        )
    kept = f", {len(plans) - written} of them from before" if written < len(plans) else ""
    print(f"{len(store.clips)} clips are in {len(plans)} shards in {place}{kept}.")


def _prepare_features(words: Sequence[str]) -> None:
    """Compute the outputs of the audio encoder that the configurations name."""
    from avser.cli.config import parse
    from avser.cli.library_warnings import ignore_library_warnings
    from avser.cli.progress import counting

    with ignore_library_warnings():
        setup = parse(words, trainer_defaults={"logger": False})
    data, audio = setup.data, setup.task.net.audio
    if audio is None:
        return
    with counting("features") as progress:
        data.progress = progress
        count = data.prepare_features(audio, everything=True)
    views = f"{data.views} views of each" if data.views else "without views"
    print(f"{count} outputs of {type(audio).__name__} were computed; clips {views}.")
