"""Federated learning: clients train on their own recordings, and only weights travel.

Flower carries messages, TLS and the identity of nodes; these rooms bring the network, the guards,
the privacy accounting and the measurements. Flower and Ray report use to their makers unless told
otherwise before they are imported, which is why that is done here.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
