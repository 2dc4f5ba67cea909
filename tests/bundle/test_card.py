from avser.bundle.card import standard_card
from avser.bundle.serialization import Provenance


def test_card_tells_data_licence_figures_and_limits() -> None:
    provenance = Provenance(corpora=["ravdess"], speakers=["ravdess/01"], licence="CC BY-NC-SA 4.0")
    figures = {
        "uar": {"value": 0.61, "low": 0.58, "high": 0.64},
        "n": 1200,
        "split": "speaker_kfold, 5 folds",
        "per_sex": {"female": {"uar": {"value": 0.7}, "n": 600}},
        "command": "avser crossval -c a -c b",
    }
    config = {"name": "m", "emotions": ["happy", "sad"], "parameters": 1234, "figures": figures}
    text = standard_card(config, provenance)
    for part in (
        "# m",
        "happy, sad",
        "1,234 parameters",
        "CC BY-NC-SA 4.0",
        ".610 [.580, .640]",
        "| female | .700 | 600 |",
        "avser crossval -c a -c b",
        "EU AI Act, Art. 5",
        "not of anybody's state of mind",
    ):
        assert part in text
    for unmeasured in ({}, {"about": "Trained on pairs."}):
        card = standard_card({**config, "figures": unmeasured}, provenance)
        assert "trained without a test part" in card
        assert "None," not in card


def test_card_states_the_speakers_languages_and_labels_of_its_training() -> None:
    config = {"name": "m", "emotions": ["a", "b"], "parameters": 1, "temperatures": {"audio": 1.0}}
    known = Provenance(
        corpora=["emodb"],
        speakers=["emodb/03", "emodb/08", "emodb/09"],
        sexes={"female": 2, "male": 1},
        languages=["German"],
    )
    text = standard_card(config, known)
    assert "emodb (3 speakers: 2 female, 1 male; languages: German; labels: acted)" in text
    assert "Emotions of the training data are acted" in text and "culture" not in text
    text = standard_card(config, Provenance(corpora=["own"], label_target="given"))
    assert "own (speakers unknown; languages: unknown; labels: given)" in text
    assert "acted" not in text.split("## Limits")[1]
