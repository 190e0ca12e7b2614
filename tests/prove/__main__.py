"""``python -m tests.prove``: the long run of the proof."""

import sys

from tests.prove.long_run import main

if __name__ == "__main__":
    sys.exit(main())
