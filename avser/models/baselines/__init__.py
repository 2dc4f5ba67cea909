"""Classical models of scikit-learn behind one contract, kept as plain arrays."""
