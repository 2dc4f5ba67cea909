"""``avser prepare``: decode a corpus into the cache, and compute a frozen encoder's outputs."""

from collections.abc import Sequence

from avser.cli.config import Parser, is_of_images, parse_data, prepare_data


def run(words: Sequence[str]) -> int:
    """Decode what is not yet in the cache."""
    parser = Parser(
        "prepare",
        "Decode a corpus into the cache. Settings may follow as --data.* With -c MODEL.yaml whose "
        "data.views is set, also compute the frozen encoder's outputs of all clips and views.",
    )
    _, rest = parser.split(words)
    from avser.data.content import cache_folder
    from avser.training.data_module import failure_text

    data = parse_data(rest)
    prepare_data(data, strict=False)
    if getattr(data, "views", None) is not None:
        _prepare_features(rest)
    prepared = data.prepared
    what = f"pictures of {data.corpus.name}"
    if not is_of_images(rest):
        minutes = sum(prepared.waves.lengths) / 16_000 / 60
        what = f"clips of {data.corpus.name}, {minutes:.1f} minutes,"
    print(f"{len(prepared.clips)} {what} are prepared in {cache_folder()}.")
    for clip, reason in prepared.failed:
        print(f"left out: {failure_text(clip, reason)}")
    return 0


def _prepare_features(words: Sequence[str]) -> None:
    """Compute the outputs of the audio encoder that the configurations name."""
    from avser.cli.config import parse
    from avser.cli.progress import counting
    from avser.cli.quiet import quiet

    with quiet():
        cli = parse(words, trainer_defaults={"logger": False})
    data, audio = cli.datamodule, cli.model.net.audio
    if audio is None:
        return
    with counting("features") as progress:
        data.progress = progress
        count = data.prepare_features(audio, everything=True)
    views = f"{data.views} views of each" if data.views else "without views"
    print(f"{count} outputs of {type(audio).__name__} were computed; clips {views}.")
