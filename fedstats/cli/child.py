"""python -m fedstats.cli.child: the command line as a child process, which ends when its parent does."""

from __future__ import annotations

import os
import signal
import sys
import threading

from . import main


def _until_parent_ends() -> None:
    """End this process when its parent is gone: standard input, a pipe that only the parent holds, closes then."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_until_parent_ends, daemon=True).start()
    sys.exit(main())
