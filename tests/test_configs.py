"""Every configuration that lies in the folder works through the real command line."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.cli.config import locate, parse, parse_data
from avser.cli.library_warnings import ignore_library_warnings
from avser.data.splits import PARTS
from avser.errors import ConfigError, SplitError
from avser.models.baselines.head import BaselineHead
from avser.models.factory import SLOTS, build_net
from avser.testing.corpora import FAKES
from avser.testing.pictures import IMAGE_FAKES
from avser.types import audio_batch

CONFIGS = Path(__file__).parents[1] / "configs"
DATA = sorted(CONFIGS.glob("data/*.yaml"))
MODELS = sorted(CONFIGS.glob("model/*.yaml"))
FUSIONS = sorted(CONFIGS.glob("fusion/*.yaml"))
SYSTEMS = sorted(CONFIGS.glob("systems/*/*.yaml"))
BASELINES = sorted(CONFIGS.glob("baseline/*.yaml"))
# models that RAVDESS's sound alone does not serve
DATA_OF = {"video_aus": "ravdess_aus", "video_aus_linear": "ravdess_aus"}
DATA_OF |= {"face_cnn": "fer2013", "face_movement": "fer2013"} | {
    path.stem: "ravdess_fer2013_pairs" for path in MODELS if path.stem.startswith("av_")
}
# there are no more; of the others six make five folds
SPEAKERS = {"tess": 2, "savee": 4, "jl_corpus": 4}
BRIEF = (
    "--trainer.accelerator=cpu --trainer.max_epochs=1 --trainer.limit_train_batches=1 "
    "--trainer.limit_val_batches=1 --trainer.enable_progress_bar=false --data.batch_size=4"
).split()


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as AVSER_DATA names, with a small fake of every corpus."""
    root = tmp_path_factory.mktemp("data")
    for name, write in FAKES.items():
        write(root / name, speakers=SPEAKERS.get(name, 6), per_emotion=2)
    for name, write in IMAGE_FAKES.items():
        write(root / name, per_emotion=10)  # a tenth of them chooses the epoch
    prepare = ["prepare", "--corpus", "ravdess", "--root", str(root / "ravdess")]
    assert main([*prepare, "--shards", str(root / "shards")]) == 0
    return root


@pytest.fixture(autouse=True)
def data_folder(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSER_DATA", str(trees))


def class_paths(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "class_path" in node:
            yield node["class_path"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from class_paths(value)


def built(*words: str) -> Any:
    with ignore_library_warnings():
        return parse(words, trainer_defaults={"accelerator": "cpu", "logger": False})


def of_tests(path: Path) -> list[str]:
    """Words without which a model's configuration needs the hub, or minutes."""
    result = yaml.safe_load(path.read_text())
    words = [
        f"--model.{stream}.init_args.pretrained=false"
        for stream in ("audio", "video")
        if (result["model"].get(stream) or {}).get("init_args", {}).get("pretrained")
    ]
    return [*words, *(["--data.views=1"] if result.get("data", {}).get("views") else [])]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_model_config_trains_to_a_bundle(path: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    data = f"configs/data/{DATA_OF.get(path.stem, 'ravdess')}.yaml"
    words = ["fit", "-c", data, "-c", str(path), *BRIEF, *of_tests(path)]
    assert main([*words, "--out", str(run)]) == 0
    assert (run / "DONE").read_text() == "1 epochs\n"
    loaded = bundle.load(run)
    assert loaded.name == "run" and len(loaded.net.emotions) >= 7
    named = list(class_paths(loaded.config["net"]))
    assert len(named) >= 2 and all(name.startswith("avser.") for name in named)
    batch = audio_batch(0.1 * torch.randn(1, 20_000), torch.tensor([20_000]))
    batch["video_features"] = torch.randn(1, 3, 35)
    batch["faces"] = torch.randint(256, (1, 3, 2, 3, 60, 50), dtype=torch.uint8)
    batch["face_mask"] = torch.ones(1, 3, 2, dtype=torch.bool)
    with torch.inference_mode():
        shares = loaded.net.predict(loaded.net(batch)).probabilities
    assert float(shares.sum()) == pytest.approx(1, abs=1e-4)
    again = yaml.safe_load((run / "config.yaml").read_text())
    if not path.stem.startswith("av_"):  # pairs name the classes that both corpora have
        # nulls are kept: a default may be another
        assert again["data"]["init_args"]["emotions"] is None
    assert again["trainer"]["max_epochs"] == 1 and again["data"]["init_args"]["batch_size"] == 4
    assert all(name.startswith("avser.") for name in class_paths([again["model"], again["data"]]))
    same = built("-c", str(run / "config.yaml"))  # what a run keeps is a configuration again
    assert same.task.net.state_dict().keys() == loaded.net.state_dict().keys()


@pytest.mark.parametrize("path", FUSIONS, ids=lambda path: path.stem)
def test_fusion_config_joins_a_voice_and_a_face(path: Path, tmp_path: Path) -> None:
    names = ("data/ravdess_aus", "model/audio_crnn", "model/video_aus", f"fusion/{path.stem}")
    words = [w for name in names for w in ("-c", f"configs/{name}.yaml")]
    assert main(["fit", *words, *BRIEF, "--out", str(tmp_path / "run")]) == 0
    net = bundle.load(tmp_path / "run").net
    assert list(net.heads) == ["fused", "audio", "video"]
    batch = audio_batch(0.1 * torch.randn(1, 20_000), torch.tensor([20_000]))
    with torch.inference_mode():
        assert net.predict(net(batch)).used.tolist() == [1]  # no face: the voice answers
        batch["video_features"] = torch.randn(1, 3, 35)
        assert net.predict(net(batch)).used.tolist() == [0]


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_baseline_config_takes_the_place_of_a_head(path: Path) -> None:
    names = ("data/ravdess", "model/audio_crnn", f"baseline/{path.stem}")
    words = [w for name in names for w in ("-c", locate(f"configs/{name}.yaml"))]
    task = built(*words, "--model.head.init_args.unit=step").task
    head = task.net.heads["audio"]
    assert isinstance(head, BaselineHead) and head.unit == "step"
    assert head.baseline.classes == 8 and task.augment is None


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_data_config_goes_with_a_model(path: Path) -> None:
    images = "ImageDataModule" in yaml.safe_load(path.read_text())["data"].get("class_path", "")
    model = "face_cnn" if images else "audio_crnn"
    setup = built("-c", str(path), "-c", str(CONFIGS / "model" / f"{model}.yaml"))
    data = setup.data
    assert setup.task.net.emotions == tuple(data.classes)
    assert len(data.classes) >= 2 and data.rows
    if not any(clip.speaker or clip.part for clip in data.rows):
        with pytest.raises(SplitError, match="RANDOM SPLIT"):
            data.split.split(data.rows)
        return
    parts = data.split.split(data.rows)
    assert all(getattr(parts, part) for part in PARTS)
    assert not data.split.mark  # no configuration is speaker-dependent unasked


def is_of_data(path: Path) -> bool:
    return "corpus" in yaml.safe_load(path.read_text()).get("data", {})


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", [p for p in SYSTEMS if is_of_data(p)], ids=named)
def test_system_data_is_marked_where_speakers_are_on_both_sides(path: Path) -> None:
    data = parse_data(["-c", str(path)])
    parts = data.split.split(data.rows)
    assert all(getattr(parts, part) for part in PARTS) and len(data.classes) >= 5
    own = path.stem.startswith(("random", "resubstitution"))
    assert bool(data.split.mark) == own, "speaker-dependent splits are named so"


@pytest.mark.parametrize("path", [p for p in SYSTEMS if not is_of_data(p)], ids=named)
def test_system_model_is_built_and_comes_back_as_a_bundle(path: Path) -> None:
    data = next(p for p in SYSTEMS if p.parent == path.parent and is_of_data(p))
    model = yaml.safe_load(path.read_text())["model"]
    own = [stream for stream in ("audio", "video") if model.get(stream)]
    base = path if own else path.parent / "resnet34.yaml"  # or it adds to another
    words = [w for p in (data, base, path) for w in ("-c", str(p))]
    for stream in own:
        if "pretrained" in model[stream]["init_args"]:  # those weights come from the hub
            words.append(f"--model.{stream}.init_args.pretrained=false")
    if path.stem == "ssl":
        words.append("--model.audio.init_args.size=tiny")
    setup = built(*words)
    net = setup.task.net.eval()
    spec = {slot: yaml.safe_load(setup.text)["model"].get(slot) for slot in SLOTS}
    assert build_net(spec, net.emotions).state_dict().keys() == net.state_dict().keys()
    wave = 0.1 * torch.randn(2, 30_000)
    batch = audio_batch(wave, torch.tensor([30_000, 9_000]))
    batch["faces"] = torch.randint(256, (2, 4, 1, 3, 60, 50), dtype=torch.uint8)
    batch["face_mask"] = torch.ones(2, 4, 1, dtype=torch.bool)
    with torch.inference_mode():
        answer = net.predict(net(batch))
    assert answer.probabilities.sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_all_augmentation_is_off_by_one_flag() -> None:
    words = ["-c", "configs/data/savee.yaml", "-c", "configs/model/audio_crnn.yaml"]
    words = [locate(word) if word != "-c" else word for word in words]
    assert built(*words).task.augment.enabled
    assert built(*words, "--model.augment=null").task.augment is None
    off = built(*words, "--model.augment.init_args.enabled=false").task
    assert not off.augment.enabled
    wave, lengths = torch.randn(2, 3000), torch.tensor([3000, 2000])
    changed, same = off.augment.waveform(wave, lengths)
    assert torch.equal(changed, wave) and torch.equal(same, lengths)


def test_print_config_is_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-c", "configs/data/savee.yaml", "-c", "configs/model/audio_crnn.yaml"]
    with pytest.raises(SystemExit) as end:
        main(["fit", *words, "--data.crop_s=null", "--print_config"])
    assert not end.value.code
    result = capsys.readouterr()
    assert result.err == ""
    config = yaml.safe_load(result.out)
    assert config["data"]["class_path"] == "avser.datamodules.clips.ClipDataModule"
    settings = config["data"]["init_args"]
    assert settings["corpus"]["class_path"].endswith("Savee") and settings["crop_s"] is None


def test_configs_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    installed = Path(str(files("avser.configs")))
    assert Path(locate("configs/data/ravdess.yaml")) == installed / "data" / "ravdess.yaml"
    (tmp_path / "own.yaml").write_text("data: {}")
    assert locate("own.yaml") == "own.yaml"
    with pytest.raises(ConfigError, match=r"did you mean 'configs/data/ravdess\.yaml'"):
        locate("configs/data/ravdes.yaml")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.head=avser.models.heads.AttentivHead", "AttentiveHead"),
        ("--model.audio=os.system", "AudioEncoder"),
        ("--model.lr=fast", "fast"),
        ("--model.learning_rate=1", "learning_rate"),
        ("--data.split.init_args.fold=7", "fold 7 of 5"),
        ("--model.audio.init_args.hidden=none", "hidden"),
    ],
)
def test_wrong_setting_is_one_sentence(
    flag: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "-c", "configs/data/ravdess.yaml", "-c", "configs/model/audio_crnn.yaml"]
    assert main([*words, flag, "--out", str(tmp_path / "run")]) == 1
    result = capsys.readouterr().err
    assert result.count("\n") == 1 and result.startswith("avser fit: Bad ")
    assert message in result
