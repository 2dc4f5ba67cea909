"""Released models: reading, writing, listing, model cards."""
