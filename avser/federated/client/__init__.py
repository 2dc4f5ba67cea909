"""The federation client: local training, its data, contributions."""
