"""Released models: config, safetensors weights and a card, one folder each."""
