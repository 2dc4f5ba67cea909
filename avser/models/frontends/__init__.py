"""Front ends: waveforms to features, differentiable and exportable."""
