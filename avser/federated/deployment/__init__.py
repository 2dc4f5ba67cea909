"""Keys, Flower apps and processes of a deployed federation."""
