"""The federation server: rounds, aggregation, update checks, releases, HTTP API."""
