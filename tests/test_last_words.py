"""Who ends a query says why, however bad the moment: the coordinator is busy, a line is cut, somebody lies."""

import pytest

import nodes.service
from fedstats.errors import FedstatsError, Refused, Unreachable
from fedstats.transport import causes
from fedstats.transport.http import Link
from fedstats.wire import messages
from fedstats.wire.messages import Abort, Admission, Verdict

from .hub import World

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Loopback without a proxy, and short long-polls, so that threads end soon."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        patch.setattr(nodes.service, "POLL_SECONDS", 2.0)
        yield


@pytest.fixture(scope="module")
def world():
    with World() as world:
        world.right = world.pooled()["age"]
        yield world


class Hesitant(Link):
    """A link whose first posting of a bad word does not get through: the line is cut, or the coordinator is busy."""

    def __init__(self, *args, fault, **options):
        super().__init__(*args, **options)
        self.fault, self.held = fault, 0

    def post(self, parcel, *more):
        message = messages.decode(messages._strict(messages.split(parcel)[0], messages.Signed).body)
        if is_no(message) and not self.held:
            self.held += 1
            raise self.fault()
        super().post(parcel, *more)


def is_no(message):
    if isinstance(message, (Admission, Verdict)):
        return not getattr(message, "accept", getattr(message, "release", True))
    return isinstance(message, Abort)


def no(*_):
    raise Refused("not while Dr Roux is away", hint="ask in September")


def fault(*_):
    raise Refused("the table has changed since the node was started", hint="start it again")


ENDS = {"admit": no, "rows": fault, "approve": no}
FAULTS = {"cut": lambda: Unreachable("the line was cut"), "busy": lambda: causes.busy("1")}


@pytest.mark.parametrize("moment", ENDS)
@pytest.mark.parametrize("why", FAULTS)
def test_a_refusal_that_does_not_get_through_at_once_is_said_again(world, monkeypatch, moment, why):
    """At admission, while it computes, before the release: everybody hears it long before a deadline."""
    name = list(world.tables)[1]
    world.stop_node(name)
    link = Hesitant(world.people[name], "hub0", (world.hubs[0].url,), fault=FAULTS[why])
    node = world.run_node(name, links=[link])
    world.settle()
    monkeypatch.setattr(node.house, moment, ENDS[moment])
    try:
        with pytest.raises(FedstatsError) as caught:
            world.ask(timeout=10.0)
        assert link.held and isinstance(caught.value, Refused), caught.value
    finally:
        monkeypatch.undo()
    assert world.ask()["age"] == world.right
