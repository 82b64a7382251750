"""`python -m fleetaudit`."""

import sys

from fleetaudit.cli import main

if __name__ == "__main__":
    sys.exit(main())
