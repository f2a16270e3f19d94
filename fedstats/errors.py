"""Everything that can go wrong, as one tree of errors and one closed list of codes.

An error crosses the wire as a `Problem` and comes back as itself (`raise_problem`). Texts are lower case, without a full
stop, name what was seen and what is wanted, and never carry a row, a key, a count below the smallest cell or an unreleased total.
"""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An error as it is sent: a code of `every_error()`, who says so, what happened and what to do about it."""

    code: str
    who: str
    what: str
    hint: str = ""


class FedstatsError(Exception):
    """The root of all errors of this package; `code` names it on the wire, `exit_code` ends the command line."""

    code = "internal"
    exit_code = 1

    def __init__(self, what: str, *, hint: str = "", who: str = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.who = what, hint, who
        if hint:
            self.add_note(f"hint: {hint}")      # which Python prints below the error

    def __str__(self) -> str:
        return f"{self.who}: {self.what}" if self.who else self.what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FedstatsError) and self.problem() == other.problem()

    def __hash__(self) -> int:
        return hash(self.problem())

    def problem(self, who: str = "") -> Problem:
        return Problem(self.code, self.who or who, self.what, self.hint)


class InputError(FedstatsError):
    """A file, a table, a dictionary or an argument is not what it should be."""

    code, exit_code = "input", 2


class QuestionError(InputError):
    """The question cannot be asked in this form; the hint says which form can."""

    code = "question"


class Refused(FedstatsError):
    """A registry, or a rule that all registries apply, says no."""

    code, exit_code = "refused", 3


class Unreachable(FedstatsError):
    """Somebody did not answer in time; nothing was released and the question may be asked again.

    final : waiting will not mend it, somebody has to. gone : nobody listens there.
    after : seconds that the other side asked to wait.
    """

    code, exit_code = "unreachable", 4
    final = gone = False
    after = 0.0


class Aborted(Unreachable):
    """A party left the conversation before the end; nothing was released and the question may be asked again."""

    code = "aborted"


class Tampered(FedstatsError):
    """A seal, a signature or a total could not be verified. One text whatever the cause, so that nothing is learnt from it."""

    code, exit_code = "tampered", 5


class MessageError(FedstatsError):
    """Bytes that are not a message of this protocol: refused before anything is done with them."""

    code, exit_code = "message", 5


class OutOfOrder(MessageError):
    """A message that is well formed but not expected now."""

    code = "out_of_order"


class RangeError(FedstatsError):
    """A number cannot be carried exactly; refused before anything is sent."""

    code, exit_code = "range", 2


class NotConverged(FedstatsError):
    """An iteration did not settle; the text names the term that moved and what to change."""

    code, exit_code = "not_converged", 2


class Internal(FedstatsError):
    """A fault of the software at one party. Its text stays there: it could carry data."""

    code = "internal"


def every_error() -> dict[str, type[FedstatsError]]:
    """The closed list: code -> class."""
    found: dict[str, type[FedstatsError]] = {}
    queue = list(FedstatsError.__subclasses__())
    while queue:
        kind = queue.pop()
        found[kind.code] = kind
        queue.extend(kind.__subclasses__())
    return found


def as_error(problem: Problem) -> FedstatsError:
    """The error that a problem stands for; an unknown code reads as `internal`, its text dropped.

    Texts are those of another party, and are shown in terminals and logs: one line, see `readable`.
    """
    kind = every_error().get(problem.code)
    if kind is None or kind is Internal:
        return Internal("internal fault", who=readable(problem.who), hint="the log of that party says more")
    return kind(readable(problem.what), hint=readable(problem.hint), who=readable(problem.who))


def readable(text: str, kept: str = "") -> str:
    """A text without what moves a cursor, changes a colour or begins a line that somebody else seems to have written.

    kept : characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else " " for one in text)


def as_problem(error: BaseException, who: str) -> Problem:
    """What may be told to others about an error: unexpected faults cross the wire as "internal", with no text."""
    if isinstance(error, FedstatsError) and not isinstance(error, Internal):
        return error.problem(who)
    return Problem("internal", who, "internal fault")
