"""``python -m hybridllm`` is the command line."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line; Ctrl-C before a command has begun ends it as quietly as later."""
    try:
        from hybridllm.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("hybridllm: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
