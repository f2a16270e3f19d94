"""A consortium of three registries under attack: whoever carries the bytes may change them, and everything that is opened is noted.

`Stage` is a `MemoryNetwork` whose wire is given by the test. After a query `check` states what must hold however the query ended.
"""

import itertools

import numpy as np

from fedstats import Dictionary, Rules
from fedstats.client.memory import COORDINATOR, MemoryNetwork
from fedstats.crypto import seal
from fedstats.data.filters import normal_filter
from fedstats.data.rows import load
from fedstats.errors import FedstatsError, Unreachable
from fedstats.query import rounds
from fedstats.query.analysis import question_of
from fedstats.query.population import Codebook, Household
from fedstats.wire import messages
from fedstats.wire.conversation import ENDED, RELEASED
from fedstats.wire.messages import Abort, Total, digest_of

from .. import every

NAMES = ("alpha", "beta", "gamma")
SIZES = (41, 52, 67)        # patients: no two sums of registries are alike
RULES = Rules(min_cell=3, min_cohort=10, min_registries=3, show_zeros=True)
DEADLINE_SECONDS = 100_000.0


def nothing(sender, receiver, parcel):
    """A wire that delivers everything as it is: change(sender, receiver, parcel) -> None, or the bytes that arrive instead."""
    return None


class Stage:
    """One consortium and what happened in it. change : see `nothing`. watch : pytest's monkeypatch."""

    def __init__(self, watch, change=nothing, rules=RULES, seed=0):
        dictionary = Dictionary.from_dict(every.DICTIONARY)
        rng = np.random.default_rng(3)
        self.rows = {name: load(every.random_rows(n, rng), dictionary)[0] for name, n in zip(NAMES, SIZES)}
        self.change, self.opened, self.plain, self.keys, self.seen = change, [], [], [], []
        data = {name: Household(rows) for name, rows in self.rows.items()}
        self.network = MemoryNetwork(Codebook(dictionary), data, rules, wire=self._wire, seed=seed)
        self.questions = [question_of("summary", ["age", "edss", "years"]), question_of("crosstab", "sex", "female")]
        self._watch(watch)

    def _watch(self, watch):
        open_total, values, keys = seal.open_total, rounds.values, seal.SealKeys

        def open_and_note(total, plan, mine, context):
            found = open_total(total, plan, mine, context)
            self.opened.append((NAMES[mine.index], plan, found[0]))
            return found

        def compute_and_note(asks, rows):
            found = values(asks, rows)
            self.plain.append((next((name for name, one in self.rows.items() if one is rows), "?"), found))
            return found

        def make_and_note(*args, **kwargs):
            made = keys(*args, **kwargs)
            self.keys.append(made)
            return made

        watch.setattr(seal, "open_total", open_and_note)
        watch.setattr(rounds, "values", compute_and_note)
        watch.setattr(seal, "SealKeys", make_and_note)

    def _wire(self, sender, receiver, raw):
        try:
            parcel = messages.read(raw, self.network.roster.public)
        except FedstatsError:
            return [raw]
        self.seen.append((sender, receiver, parcel))
        changed = self.change(sender, receiver, parcel)
        return [raw] if changed is None else changed

    def sign(self, message, payload=b""):
        """A parcel by a party that breaks the rules with its own key."""
        return bytes(messages.sign(message, self.network.people[messages.sender_of(message)], payload))

    def ask(self):
        """One query, driven to its end: where nobody has anything to say any more, the deadline comes."""
        analyst = self.analyst = self.network.run(self.questions, normal_filter(None))
        self.network.room.tick(self.network.now + DEADLINE_SECONDS)
        for box in list(self.network.room.boxes):
            for _, raw in self.network.room.mail(box, 0):
                if isinstance(messages.read(raw, self.network.roster.public).message, Abort):
                    self.network._deliver(self.network.room, box.partition("/")[0], raw, analyst)
        for registry in self.network.registries.values():       # what a node does when nothing reaches it any more
            registry.fail(Unreachable("waited in vain for the others"))
        analyst.fail(Unreachable("no answer in time"))
        return self

    # -- what must hold ---------------------------------------------------------------------------------------------------------

    def check(self, malicious=()):
        """Keys are burnt; nobody released without all verdicts; no honest registry's numbers were opened alone."""
        assert all(keys.burnt for keys in self.keys)
        for registry in self.network.registries.values():
            assert registry.state in (RELEASED, ENDED)
            assert registry.keys is None and registry.onetime is None
            if registry.state == RELEASED:
                assert set(registry.verdicts) == set(NAMES) and all(one.release for one in registry.verdicts.values())
        for _, plan, integers in self.opened:
            for own in self.alone(plan, malicious):
                assert not same(integers, own)

    def refused(self, kind, malicious=()):
        """The query failed with an error of this kind, nothing reached the analyst, and `check` holds."""
        self.check(malicious)
        assert self.analyst.results is None
        assert isinstance(self.analyst.problem, kind), repr(self.analyst.problem)
        return self.analyst.problem

    def answered(self):
        self.check()
        assert self.analyst.problem is None and self.analyst.results is not None
        return self.analyst.results

    def alone(self, plan, malicious=()):
        """What one honest registry computed for this plan, by itself and with what malicious ones know."""
        names = {segment.name for segment in plan.segments}
        computed = [(who, flat) for who, flat in self.plain if set(flat) == names]
        for who, flat in computed:
            if who in malicious:
                continue
            known = [one for name, one in computed if name in malicious]
            for count in range(len(known) + 1):
                for others in itertools.combinations(known, count):
                    yield seal.plain_total([flat, *others], plan)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def totals(change, receivers=NAMES, round=None):
    """A wire that changes totals on their way to some: change(stage, parcel) -> (message fields, payload)."""

    def wire(stage):
        def on(sender, receiver, parcel):
            if sender != COORDINATOR or receiver not in receivers or not isinstance(parcel.message, Total):
                return None
            if round is not None and parcel.message.round != round:
                return None
            fields, payload = change(stage, parcel)
            message = {name: getattr(parcel.message, name) for name in parcel.message.__struct_fields__} | {"digest": digest_of(payload)}
            return [stage.sign(Total(**message | fields), payload)]

        return on

    return wire


def chunks_of(parcel):
    """Ciphertexts per prime of a total, read from a contribution in it."""
    return messages.decode(messages._strict(parcel.message.contributions[0], messages.Signed).body).chunks
