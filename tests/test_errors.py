"""Errors: one closed list, each crosses the wire as itself, and none carries what it should not."""

import msgspec
import pytest

from fedstats import errors
from fedstats.errors import FedstatsError, Internal, Problem, as_error, as_problem, every_error

EXIT_CODES = {"input": 2, "question": 2, "refused": 3, "unreachable": 4, "aborted": 4, "tampered": 5, "message": 5, "out_of_order": 5,
              "range": 2, "not_converged": 2, "internal": 1}
ORDINARY = [kind for kind in every_error().values() if kind is not Internal]


@pytest.mark.parametrize("kind", ORDINARY, ids=lambda kind: kind.code)
def test_an_error_survives_the_wire(kind):
    """Written, sent and read: the same error, with its text, its hint and who says so."""
    error = kind("something happened", hint="do this", who="lyon")
    read = as_error(msgspec.msgpack.decode(msgspec.msgpack.encode(error.problem()), type=Problem))

    assert type(read) is kind and read == error and str(read) == "lyon: something happened" and read.hint == "do this"
    assert hash(read) == hash(error) and read != kind("something else")


def test_the_list_of_codes_is_closed():
    """A new error is a new line here and in the exit codes of the command line."""
    assert {code: kind.exit_code for code, kind in every_error().items()} == EXIT_CODES


def test_every_error_is_listed_under_its_own_code():
    """No two errors share a code."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind,
                                                                                             FedstatsError) and kind is not FedstatsError]

    assert set(every_error().values()) == set(kinds) and len({kind.code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("code", ["internal", "unknown", "", "input ", "os.system"])
def test_an_unknown_code_reads_as_internal_and_says_nothing(code):
    """What another party calls an error of an unknown kind is not repeated."""
    read = as_error(Problem(code, "lyon", "patient 4711 has EDSS 3.5", "secret"))

    assert type(read) is Internal and read.who == "lyon"
    assert "4711" not in str(read) + read.hint and "secret" not in read.hint


@pytest.mark.parametrize("error",
                         [ValueError("patient 4711"), KeyError("key"), Internal("patient 4711"), KeyboardInterrupt(), MemoryError()],
                         ids=lambda error: type(error).__name__)
def test_an_unexpected_fault_crosses_the_wire_without_its_text(error):
    """Texts of other software may carry data: only "internal" is told."""
    assert as_problem(error, "lyon") == Problem("internal", "lyon", "internal fault")


def test_the_sender_of_an_error_is_kept():
    """A refusal by turin that lyon passes on stays turin's."""
    assert as_problem(errors.Refused("no", who="turin"), "lyon").who == "turin"
    assert as_problem(errors.Refused("no"), "lyon").who == "lyon"
