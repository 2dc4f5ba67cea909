"""``python -m avser``."""

import sys

from avser.cli import main

if __name__ == "__main__":
    sys.exit(main())
