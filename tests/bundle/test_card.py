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
