"""Public fakes for tests: clips, corpora, tiny networks."""
