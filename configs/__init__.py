"""Choices: data, models and systems, one YAML each."""
