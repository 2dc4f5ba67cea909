"""``avser prepare``: decode a corpus into the cache."""

from collections.abc import Sequence

from avser.cli.config import Parser, is_of_images, parse_data, prepare_data


def run(words: Sequence[str]) -> int:
    """Decode what is not yet in the cache."""
    parser = Parser("prepare", "Decode a corpus into the cache. Settings may follow as --data.*")
    _, rest = parser.split(words)
    from avser.data.content import cache_folder
    from avser.training.data_module import failure_text

    data = parse_data(rest)
    prepare_data(data, strict=False)
    prepared = data.prepared
    what = f"pictures of {data.corpus.name}"
    if not is_of_images(rest):
        minutes = sum(prepared.waves.lengths) / 16_000 / 60
        what = f"clips of {data.corpus.name}, {minutes:.1f} minutes,"
    print(f"{len(prepared.clips)} {what} are prepared in {cache_folder()}.")
    for clip, reason in prepared.failed:
        print(f"left out: {failure_text(clip, reason)}")
    return 0
