"""Ways to join the two streams."""
