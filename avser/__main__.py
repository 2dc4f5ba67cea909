"""``python -m avser``."""

import sys

from avser.cli import main

sys.exit(main())
