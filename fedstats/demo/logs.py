"""Where the logs of the demonstration are, and whether they stay: only when something failed."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from ..errors import FedstatsError, InputError

LOGS = "logs"                   # beside the report
PROBE = "report.part"           # a file that the output folder must take
# of errors of the system that speak of a place for files, not of a line or a process
NO_PLACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS,
                      errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG})


@contextlib.contextmanager
def keeping(out: Path, keep: Path | None) -> Iterator[Path]:
    """The folder of logs: that of everything else, or one in `out` that only a failure leaves.

    An error of this package names it. Raises InputError where a file cannot be written.
    """
    logs = keep or out / LOGS
    try:
        _prepare(out, logs)
        yield logs
    except FedstatsError as error:
        if str(logs) not in error.hint and any(logs.glob("*.log")):
            error.hint = "; ".join(filter(None, (error.hint, f"logs: {logs}")))
        raise
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise InputError(f"{error.filename or out} cannot be written: {error.strerror}",
                         hint="is there space, and may you write there?") from None
    except KeyboardInterrupt:
        _forget(logs, keep)
        raise
    _forget(logs, keep)


def _prepare(out: Path, logs: Path) -> None:
    """Said before the work begins, not after: whether the folder takes a file."""
    out.mkdir(parents=True, exist_ok=True)
    (out / PROBE).touch()
    (out / PROBE).unlink()
    logs.mkdir(parents=True, exist_ok=True)


def _forget(logs: Path, keep: Path | None) -> None:
    """Remove the logs, unless everything is kept."""
    if keep is None:
        for path in logs.glob("*.log"):
            path.unlink()
        with contextlib.suppress(OSError):
            logs.rmdir()
