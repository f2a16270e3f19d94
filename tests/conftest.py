"""What several files of tests share."""

import pytest

from fedstats.cli import main


@pytest.fixture
def type_(capsys):
    """Type a command: (exit code, stdout, stderr)."""
    def typed(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return typed
