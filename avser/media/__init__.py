"""Media files: containers, decoding, one pass over a clip, faces, precomputed visual features."""
