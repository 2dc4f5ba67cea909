"""Federated training simulated on one machine or a Ray cluster."""
