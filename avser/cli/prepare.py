"""``avser prepare``: decode a corpus into the cache."""

from collections.abc import Sequence

from avser.cli.training import Parser, parse_data


def run(words: Sequence[str]) -> int:
    """Decode what is not yet in the cache."""
    parser = Parser("prepare", "Decode a corpus into the cache. Settings may follow as --data.*")
    _, rest = parser.split(words)
    from avser.cache import cache_folder
    from avser.cli.progress import decoding

    data = parse_data(rest)
    with decoding() as progress:
        data.progress = progress
        prepared = data.prepared
    seconds = sum(prepared.waves.lengths) / 16_000
    print(
        f"{len(prepared.clips)} clips of {data.corpus.name}, {seconds / 60:.1f} minutes, are "
        f"prepared in {cache_folder()}."
    )
    for clip, reason in prepared.failed:
        print(f"left out: {clip.path}: {reason}")
    return 0
