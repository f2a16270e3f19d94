"""The one rule, for every statistic: numbers that add up over patients. And for every analysis: three worlds, the same digits."""

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.crypto import he, seal
from fedstats.data.rows import Rows, load
from fedstats.errors import FedstatsError
from fedstats.query import rounds
from fedstats.query.analysis import ANALYSES, Failed
from fedstats.sums.statistic import INDICATORS, STATISTICS, Ask, add, answer

from . import every
from .questions import calls

DICTIONARY = Dictionary.from_dict(every.DICTIONARY)
CLOSE = 1e-12       # relative: sums of doubles in another order
EVERY = pytest.mark.parametrize("ask", every.EXAMPLES, ids=str)
REGISTRIES = 4
FIRST = list({call[0]: call for call in reversed(calls())}.values())       # one example of each analysis
RULES = Rules(min_cell=5, min_cohort=20, min_registries=2)


def rows_of(n, seed, lacking=()):
    table = {name: column for name, column in every.random_rows(n, np.random.default_rng(seed)).items() if name not in lacking}
    return load(table, DICTIONARY)[0]


@pytest.fixture(scope="module")
def rows():
    return rows_of(300, 1)


def several():
    """Registries of different sizes: one empty, one that lacks two columns."""
    return [rows_of(60, 2), rows_of(75, 3), Rows(DICTIONARY, 0, {}), rows_of(50, 4, lacking=("edss", "sex"))]


def unfinished(ask, rows):
    """The local half's own numbers, before a registry finishes them."""
    return {name: np.asarray(block) for name, block in STATISTICS[ask.statistic].local(rows, **ask.params).items()}


def weighed_by_registry(ask):
    """Whether its rows have weights from a propensity model with an intercept per registry, which looks at all rows of a registry."""
    model = ask.params.get("model")
    weights = (model if isinstance(model, dict) else ask.params).get("weights")
    return isinstance(weights, dict) and weights.get("by_registry", False)


def assert_close(a, b):
    assert a.keys() == b.keys()
    for name, block in a.items():
        if np.asarray(block).dtype.kind in "iub":
            assert np.array_equal(block, b[name]), name
        else:
            scale = max(1.0, float(np.abs(block).max(initial=0)))
            assert np.allclose(block, b[name], rtol=CLOSE, atol=CLOSE * scale), name


def test_every_registered_statistic_has_an_example():
    """A new statistic brings an example, and is tested here from then on."""
    assert {ask.statistic for ask in every.EXAMPLES} == set(STATISTICS)


def test_every_analysis_has_an_example():
    """A new analysis brings an example question."""
    assert {name for name, _, _ in calls()} == {name.partition("/")[0] for name in ANALYSES}


@EVERY
@pytest.mark.parametrize("share", [0.5, 0.03, 0.0])
def test_answers_add_up_over_patients(ask, rows, share):
    """Splitting the patients between two hospitals, also very unevenly, never changes the total."""
    if STATISTICS[ask.statistic].alone or weighed_by_registry(ask):
        pytest.skip("each registry is a stratum of its own: answers add up over registries")
    some = np.random.default_rng(7).random(rows.n) < share

    assert_close(add([unfinished(ask, rows.where(some)), unfinished(ask, rows.where(~some))]), unfinished(ask, rows))


@EVERY
def test_finished_answers_add_up_over_registries(ask):
    """What leaves the registries, added in the clear, is what comes out of the round."""
    many = several()
    patients = sum(one.n for one in many)
    (found,) = rounds.pooled([ask], many, DICTIONARY, patients)

    assert_close(add(answer(ask, one) for one in many), found)


@EVERY
def test_a_registry_without_patients_answers_zeros(ask, rows):
    """An empty registry answers, in the right shape, and says nothing."""
    layout, empty = ask.layout(DICTIONARY), answer(ask, Rows(DICTIONARY, 0, {}))

    assert list(empty) == list(layout) == list(answer(ask, rows))
    for name, block in layout.items():
        assert empty[name].shape == block.shape and not empty[name].any()
        assert empty[name].dtype == (np.int64 if block.exact else np.float64)


@EVERY
def test_a_registry_that_lacks_every_column_answers(ask):
    """Patients about whom nothing is recorded are no complete cases; nothing breaks."""
    bare = Rows(DICTIONARY, 25, {})
    found = answer(ask, bare)

    assert {name: block.shape for name, block in found.items()} == {name: block.shape for name, block in ask.layout(DICTIONARY).items()}


@EVERY
def test_the_layout_is_known_before_any_row_is_seen(ask):
    """Shapes and bounds follow from question and dictionary: a registry's data cannot change what it sends."""
    before = ask.layout(DICTIONARY)
    for one in several():
        found = answer(ask, one)
        assert {name: (block.shape, block.size) for name, block in found.items()} == {name: (b.shape, b.size) for name, b in before.items()}

    assert ask.layout(DICTIONARY) == before


@EVERY
def test_one_patient_adds_at_most_the_bound(ask, rows):
    """The largest share of one patient in any entry is what the layout declares; it sets the scale of the seal."""
    layout = STATISTICS[ask.statistic].layout(DICTIONARY, **ask.params)
    for k in range(40):
        one = rows.where(np.arange(rows.n) == k)
        for name, block in answer(ask, one).items():
            if not name.endswith(INDICATORS):
                assert np.abs(block).max(initial=0) <= layout[name].bound * (1 + CLOSE), name


@EVERY
def test_counts_count_people_and_indicators_registries(ask):
    """A block that counts people holds 0..n; beside it stands whether this registry has anybody there."""
    for one in several():
        found = answer(ask, one)
        for name, block in ask.layout(DICTIONARY).items():
            if block.counts:
                assert ((found[name] >= 0) & (found[name] <= one.n)).all()
                assert np.array_equal(found[name + INDICATORS], (found[name] > 0).astype(int))


@EVERY
def test_the_order_of_registries_and_of_patients_is_irrelevant(ask, rows):
    """Any order gives the same total: bit for bit over registries, up to rounding over patients."""
    many = several()
    patients = sum(one.n for one in many)
    (there,), (back,) = (rounds.pooled([ask], order, DICTIONARY, patients) for order in (many, many[::-1]))
    shuffled = np.random.default_rng(5).permutation(rows.n)
    mixed = Rows(DICTIONARY, rows.n, {name: column[shuffled] for name, column in rows.held.items()}, rows.ids[shuffled])

    assert all(np.array_equal(there[name], back[name]) for name in there)
    assert_close(answer(ask, mixed), answer(ask, rows))


@EVERY
def test_an_ask_is_the_same_after_a_journey(ask):
    """Sent as JSON and read again, an ask has the same digest."""
    import msgspec

    again = msgspec.json.decode(msgspec.json.encode(ask), type=Ask)

    assert again.digest == ask.digest and again.layout(DICTIONARY) == ask.layout(DICTIONARY)


@pytest.fixture(scope="module")
def pair():
    return he.generate()


@EVERY
def test_every_answer_survives_the_seal(ask, pair):
    """Closed at four registries, added without a key, opened by one: the total is the plain one, bit for bit."""
    rng, many = np.random.default_rng(9), several()
    shared = {frozenset((i, j)): rng.bytes(32) for i in range(REGISTRIES) for j in range(i)}
    K, context, patients = rng.bytes(32), rng.bytes(32), sum(one.n for one in many)
    keys = [seal.SealKeys(he.load(pair), K, {j: shared[frozenset((i, j))] for j in range(REGISTRIES) if j != i}, i, REGISTRIES)
            for i in range(REGISTRIES)]
    plan = rounds.plan([ask], DICTIONARY, patients, REGISTRIES)
    total = seal.Adding(plan.chunks)
    for one, mine in zip(many, keys):
        total.add(seal.close(rounds.values([ask], one), plan, mine, context))
    integers, _ = seal.open_total(total.total(), plan, keys[0], context)
    (opened,) = rounds.totals(integers, [ask], plan, DICTIONARY, patients, REGISTRIES)
    (plain,) = rounds.pooled([ask], many, DICTIONARY, patients)

    assert all(np.array_equal(opened[name], plain[name]) for name in plain)


# -- analyses: three worlds, the same digits ---------------------------------------------------------------------------------


def tables(registries, seed):
    """Random registries with gaps: the second is empty if there are five, the last lacks two columns."""
    rng = np.random.default_rng(seed)
    found = {f"r{k}": every.random_rows(0 if registries == 5 and k == 1 else int(rng.integers(50, 90)), rng) for k in range(registries)}
    for name in ("years", "ecog"):
        del found[f"r{registries - 1}"][name]
    return found


def content(result):
    return {name: one for name, one in result.to_dict().items() if name not in ("query", "released")}


@pytest.mark.parametrize("rules", [None, RULES], ids=["without rules", "with rules"])
@pytest.mark.parametrize("registries", [3, 5])
def test_pooled_and_simulated_answers_have_the_same_digits(registries, rules):
    """All example questions of all analyses in one query, once pooled and once under the seal: equal to the last digit."""
    found = []
    for world in (fedstats.pooled, fedstats.simulate):
        fed = world(tables(registries, registries), dictionary=DICTIONARY, rules=rules or fedstats.disclosure.NO_RULES)
        cohort = fed.cohort()
        found.append(fed.ask(*(getattr(cohort.question, name)(*args, **kwargs) for name, args, kwargs in calls())))

    for (name, _, _), here, there in zip(calls(), *found):
        assert content(here) == content(there), name
        assert rules or not isinstance(here, Failed), (name, here.problem)


@pytest.mark.parametrize(("name", "args", "kwargs"), FIRST, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_every_analysis_is_the_same_alone_as_beside_others(name, args, kwargs):
    """One question by itself, under rules, in a filtered cohort of five registries: pooled and simulated agree, or fail alike."""
    where, found = [("age", ">=", 30)], []
    for world in (fedstats.pooled, fedstats.simulate):
        fed = world(tables(5, 11), dictionary=DICTIONARY, rules=RULES)
        try:
            found.append(content(getattr(fed.cohort(where), name)(*args, **kwargs)))
        except FedstatsError as error:
            found.append(type(error))

    assert found[0] == found[1]


@pytest.mark.parametrize(("name", "args", "kwargs"), calls(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_the_split_into_registries_does_not_change_an_answer(name, args, kwargs):
    """The same patients in three registries or in six: the same digits, without rules (strata of registries aside)."""
    if kwargs.get("strata") == "registry":
        pytest.skip("registries are the strata of this question")
    whole = every.random_rows(240, np.random.default_rng(3))
    found = []
    for parts in (3, 6):
        fed = fedstats.pooled({f"r{k}": {column: values[k::parts] for column, values in whole.items()} for k in range(parts)},
                              dictionary=DICTIONARY)
        found.append(content(getattr(fed.cohort(), name)(*args, **kwargs)))
    three, six = ({key: one for key, one in result.items() if key not in ("registries", "methods", "cost")} for result in found)

    assert close(three, six)


def close(a, b):
    """Equal, doubles up to rounding of sums in another grouping (each registry's sum is rounded once)."""
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-8, abs=1e-10)
    if isinstance(a, dict):
        # the spread between registries and their sizes are meant to depend on the split
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a if key not in ("spread", "sizes"))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b
