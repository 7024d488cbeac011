"""`python -m moesaic` is the command `moesaic`."""

import sys

from moesaic.cli import main

if __name__ == "__main__":
    sys.exit(main())
