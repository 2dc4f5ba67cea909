"""Networks: front ends, encoders, fusions, heads, classical baselines, and their factory."""
