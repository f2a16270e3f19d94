"""The consortium file: trust comes from it, so everything wrong with it is said before it is used."""

import msgspec
import pytest

from fedstats import Dictionary, Rules
from fedstats.crypto.identity import Identity
from fedstats.errors import InputError, Tampered
from fedstats.wire.roster import FEWEST_REGISTRIES, Consortium, accept, check_pin, member_of, pin_path

from . import every
from .parcels import PEOPLE, REGISTRIES, ROSTER

DICTIONARY = Dictionary.from_dict(every.DICTIONARY)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "consortium.toml"
    ROSTER.save(path)
    return path


def test_a_roster_comes_back_as_itself(file):
    """Saved and loaded: the same members, rules and hash."""
    found = Consortium.load(file)

    assert found == ROSTER and found.digest == ROSTER.digest and found.fingerprint == ROSTER.fingerprint
    assert found.names("registry") == REGISTRIES and found.role("ann") == "analyst"
    assert found.public("lyon") == PEOPLE["lyon"].public


@pytest.mark.parametrize("change", [{"name": "other"}, {"epoch": 2}, {"dictionary_sha256": "1" * 64}, {"rules": Rules(min_cell=11)},
                                    {"max_patients_per_registry": 5}, {"members": ROSTER.members[:-1]}, {"members": ROSTER.members[::-1]}],
                         ids=lambda change: next(iter(change)))
def test_everything_that_parties_must_agree_on_is_in_the_hash(change):
    """Another name, epoch, rule, member or order of members is another roster."""
    assert msgspec.structs.replace(ROSTER, **change).digest != ROSTER.digest


def test_the_place_of_the_dictionary_is_each_partys_own_affair():
    """Two hospitals may keep the codebook in different folders."""
    assert msgspec.structs.replace(ROSTER, dictionary="/elsewhere/d.json").digest == ROSTER.digest


def test_a_name_outside_the_roster_is_nobody():
    """Keys and roles are looked up in the roster only."""
    for ask in (ROSTER.public, ROSTER.role):
        with pytest.raises(Tampered):
            ask("mallory")


def forged(name):
    """lyon's line with another party's agreement key, whose proof does not hold."""
    kind, who, _ = member_of(PEOPLE["lyon"], "registry").identity.split(" ")
    return f"{kind} {who} {member_of(PEOPLE[name], 'registry').identity.split(' ')[2]}"


@pytest.mark.parametrize(("members", "words"), [
    ((*ROSTER.members, ROSTER.members[0]), "member twice"),
    ((*ROSTER.members, member_of(Identity.generate("lyon"), "registry")), "member twice"),
    ((*ROSTER.members, member_of(Identity("copy", PEOPLE["lyon"].sign_secret, PEOPLE["lyon"].agree_secret), "registry")),
     "key of another member"),
    ((*ROSTER.members, member_of(Identity("copy", Identity.generate("x").sign_secret, PEOPLE["turin"].agree_secret), "analyst")),
     "key of another member"),
    ((msgspec.structs.replace(ROSTER.members[0], identity=forged("turin")), *ROSTER.members[1:]), "cannot be verified"),
    ((msgspec.structs.replace(ROSTER.members[0], identity="nonsense"), *ROSTER.members[1:]), "cannot be verified"),
], ids=["the same member twice", "a name twice", "both keys shared", "one key shared", "a key without its proof", "no identity"])
def test_members_are_different_people_with_keys_of_their_own(file, members, words):
    """Repeated names, shared keys and keys without proof are refused, naming file and member."""
    msgspec.structs.replace(ROSTER, members=members).save(file)
    with pytest.raises(InputError, match=words) as caught:
        Consortium.load(file)

    assert str(file) in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [
    ('name = "three registries"', ""), ("epoch = 1", 'epoch = "one"'), ("epoch = 1", "epoch = 0"), ("epoch = 1", "epoch = 1\ncolour = 3"),
    ('role = "analyst"', 'role = "boss"'), ("[[members]]", "[[members"), ('role = "analyst"', "")],
    ids=["no name", "epoch in words", "epoch 0", "unknown field", "unknown role", "not TOML", "no role"])
def test_a_roster_with_a_mistake_is_refused_by_name(file, old, new):
    """The sentence names the file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match="consortium file"):
        Consortium.load(file)


@pytest.mark.parametrize("rules",
                         [{"min_cell": 0}, {"min_cell": -3}, {"min_registries": 2.5}, {"min_cohort": "many"}, {"show_zeros": 1},
                          {"min_cell": True}])
def test_rules_are_whole_numbers_of_at_least_one(file, rules):
    """Nonsense in the rules is refused when the file is read."""
    file.write_text(file.read_text() + "\n[rules]\n" + "".join(f"{name} = {'true' if value is True else repr(value)}\n"
                                                                for name, value in rules.items()))
    with pytest.raises(InputError):
        Consortium.load(file)


def test_a_roster_cannot_go_below_the_floors():
    """Cells of 5, cohorts of 50, three registries: whatever the file says."""
    lax = msgspec.structs.replace(ROSTER, rules=Rules(min_cell=1, min_cohort=1, min_registries=1, show_zeros=True, rounding=False))

    assert lax.effective_rules == Rules(min_cell=5, min_cohort=50, min_registries=3, show_zeros=True, rounding=False)
    assert lax.fewest_registries == FEWEST_REGISTRIES == 3
    assert msgspec.structs.replace(ROSTER, rules=Rules(min_registries=5)).fewest_registries == 5


def test_a_file_that_is_not_there_is_named(tmp_path):
    """No traceback for a wrong path."""
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read"):
        Consortium.load(tmp_path / "nowhere.toml")


# -- pins --------------------------------------------------------------------------------------------------------------------


def test_a_roster_counts_once_it_has_been_accepted(file, tmp_path):
    """Before: refused, with the command that accepts it. After: this very roster, and no other."""
    key = tmp_path / "lyon.key"
    with pytest.raises(InputError, match="not been accepted yet") as caught:
        check_pin(ROSTER, key, file)
    assert f"fedstats consortium accept {file} --key {key}" in caught.value.hint

    accept(ROSTER, key)
    check_pin(ROSTER, key, file)
    assert pin_path(key).read_text().split()[0] == ROSTER.digest.hex()
    with pytest.raises(InputError, match="it has changed"):
        check_pin(msgspec.structs.replace(ROSTER, epoch=2), key, file)


def test_a_new_epoch_needs_a_new_yes(file, tmp_path):
    """Accepting another roster replaces the pin; the old one is refused from then on."""
    key, later = tmp_path / "lyon.key", msgspec.structs.replace(ROSTER, epoch=2)
    accept(ROSTER, key)
    accept(later, key)
    check_pin(later, key, file)

    with pytest.raises(InputError):
        check_pin(ROSTER, key, file)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0" * 64, b" "])
def test_a_damaged_pin_accepts_nothing(file, tmp_path, content):
    """An unreadable pin is as good as none."""
    key = tmp_path / "lyon.key"
    pin_path(key).write_bytes(content)
    with pytest.raises(InputError):
        check_pin(ROSTER, key, file)


# -- dictionary --------------------------------------------------------------------------------------------------------------


def test_the_dictionary_is_the_one_whose_hash_the_roster_names(tmp_path):
    """A changed codebook is refused; it needs a new epoch."""
    import json

    path = tmp_path / "consortium.toml"
    roster = msgspec.structs.replace(ROSTER, dictionary="d.json", dictionary_sha256=DICTIONARY.digest)
    (tmp_path / "d.json").write_text(json.dumps(every.DICTIONARY))
    assert roster.load_dictionary(path).digest == DICTIONARY.digest

    changed = json.loads(json.dumps(every.DICTIONARY))
    changed["variables"][0]["range"] = [0, 120]
    (tmp_path / "d.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="hash differs") as caught:
        roster.load_dictionary(path)
    assert "new epoch" in caught.value.hint
