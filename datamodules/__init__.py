"""Lightning data modules, and knowledge of particular corpora."""
