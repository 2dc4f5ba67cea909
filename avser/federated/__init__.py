"""Federated learning: clients train on their own recordings, and only weights travel.

Flower carries messages, TLS and the identity of nodes; this package adds the network, checks
of updates, privacy accounting and evaluation. Telemetry of Flower and Ray is on by default and must
be switched off before their import, hence here.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
