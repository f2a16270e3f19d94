"""Treatments: what people write, what it means, and a list of one's own."""

import json

import pytest

from fedstats.errors import InputError
from fedstats.ms.tables import dictionary, dmt
from fedstats.ms.tables.dmt import NOT_DMT, UNKNOWN, Treatments, plain, shipped

# The table of codes and classes of shared/design/MS.md, section 2.2: generic name, codes (earlier and current), class
TABLE = [
    ("interferon beta-1a", ["L03AB07"], "low"),
    ("interferon beta-1b", ["L03AB08"], "low"),
    ("peginterferon beta-1a", ["L03AB13"], "low"),
    ("glatiramer acetate", ["L03AX13"], "low"),
    ("teriflunomide", ["L04AA31", "L04AK02"], "low"),
    ("dimethyl fumarate", ["N07XX09", "L04AX07"], "moderate"),
    ("diroximel fumarate", ["L04AX09"], "moderate"),
    ("fingolimod", ["L04AA27", "L04AE01"], "moderate"),
    ("ozanimod", ["L04AA38", "L04AE02"], "moderate"),
    ("siponimod", ["L04AA42", "L04AE03"], "moderate"),
    ("ponesimod", ["L04AA50", "L04AE04"], "moderate"),
    ("cladribine", ["L04AA40"], "moderate"),
    ("natalizumab", ["L04AA23", "L04AG03"], "high"),
    ("alemtuzumab", ["L04AA34", "L04AG06"], "high"),
    ("ocrelizumab", ["L04AA36", "L04AG08"], "high"),
    ("ofatumumab", ["L04AA52", "L04AG12"], "high"),
    ("ublituximab", ["L04AG14"], "high"),
    ("rituximab", ["L01XC02", "L01FA01"], "high"),
    ("mitoxantrone", ["L01DB07"], "high"),
]
OWN = {
    "name": "mine",
    "treatments": [
        {"name": "drug a", "efficacy": "high", "atc": ["L04AA01"], "brands": ["Alpha"]},
        {"name": "drug b", "efficacy": "low", "spellings": ["bee"]},
    ],
    "not_dmt": [{"name": "salt"}],
}


def name_of(text, treatments=None):
    found = treatments or shipped()
    code = found.find(text)
    return found.names[code] if code >= 0 else code


@pytest.mark.parametrize(("name", "codes", "efficacy"), TABLE, ids=[line[0] for line in TABLE])
def test_generic_names_and_both_generations_of_codes_find_the_drug_and_its_class(name, codes, efficacy):
    """ATC codes changed in 2024: a registry may write either."""
    found = shipped()

    assert {name_of(name), *(found.names[found.find_atc(code)] for code in codes), *(name_of(code.lower()) for code in codes)} == {name}
    assert dmt.EFFICACY[found.efficacy(found.find(name))] == efficacy


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Tysabri", "natalizumab"),
        ("COPAXONE", "glatiramer acetate"),
        ("  gilenya ", "fingolimod"),
        ("Gilenya 0.5 mg", "fingolimod"),
        ("Rébif® 44 µg", "interferon beta-1a"),
        ("Avonex 30mcg i.m.", "interferon beta-1a"),
        ("IFN β-1a", "interferon beta-1a"),
        ("Interferon beta 1a 44 mcg", "interferon beta-1a"),
        ("interferon-beta-1b", "interferon beta-1b"),
        ("tecfidera 240 mg bid", "dimethyl fumarate"),
        ("DMF", "dimethyl fumarate"),
        ("glatiramer acetate (Copaxone)", "glatiramer acetate"),
        ("natalizumab (300 mg)", "natalizumab"),
        ("BG-12", "dimethyl fumarate"),
        ("FTY720", "fingolimod"),
        ("Ocrevus\u2122", "ocrelizumab"),
        ("MabThera", "rituximab"),
        ("L04AA36", "ocrelizumab"),
        ("teriflunomid", "teriflunomide"),
        ("capaxone", "glatiramer acetate"),
    ],
)
def test_brands_spellings_doses_and_marks_are_understood(text, name):
    """Free text as registries have it."""
    assert name_of(text) == name


@pytest.mark.parametrize("text", ["solu-medrol", "Vitamin D", "placebo", "Fampyra 10 mg", "no treatment", "H02AB04"])
def test_what_modifies_no_disease_is_known_as_such(text):
    """Steroids, vitamins and trial drugs are neither unknown nor a treatment."""
    assert name_of(text) == NOT_DMT


@pytest.mark.parametrize(
    "text", ["", " ", "(", "()", "aspirin", "Copaxone (Rebif)", "Rebif/Copaxone", "interferon", "44", "L04AA", "tysabril", "\0"]
)
def test_nothing_is_guessed(text):
    """Near names, two names at once and half names are unknown."""
    assert name_of(text) == UNKNOWN


def test_every_name_of_the_list_finds_its_own_treatment():
    """Names, brands and spellings, in capitals too."""
    for one in shipped().treatments:
        assert {name_of(text.upper()) for text in (one.name, *one.brands, *one.spellings)} == {one.name}


def test_what_was_not_verified_says_so():
    """Codes that are not from the WHO list of alterations are tagged; the tags name fields or codes."""
    for one in shipped().treatments:
        assert not one.atc or one.atc_source.startswith("WHOCC") or "atc" in one.unverified
        assert set(one.unverified) <= {"name", "atc", "efficacy", "brands", *one.old_atc}


def test_the_dictionary_has_the_names_of_the_list():
    """A covariate "dmt" can take every generic name."""
    assert dictionary()["dmt"].labels == ("none", *shipped().names)
    assert dictionary()["dmt_class"].labels == ("none", *dmt.EFFICACY)


def test_a_study_brings_its_own_list(tmp_path):
    """The file replaces the shipped one; nothing of that one shines through."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(OWN), encoding="utf-8")
    mine = Treatments.load(path)

    assert [mine.find(text) for text in ("ALPHA", "bee", "salt", "Tysabri")] == [0, 1, NOT_DMT, UNKNOWN]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"treatments": []}, "empty"),
        ({"treatments": [{"name": "a", "efficacy": "best"}]}, "efficacy"),
        ({"treatments": [{"name": "a"}]}, "efficacy"),
        (
            {"treatments": [{"name": "a", "efficacy": "low", "brands": ["X"]}, {"name": "b", "efficacy": "low", "brands": ["x"]}]},
            "stands for two",
        ),
        ({"treatments": [{"name": "a", "efficacy": "low"}], "not_dmt": [{"name": "A"}]}, "stands for two"),
        (
            {
                "treatments": [
                    {"name": "a", "efficacy": "low", "atc": ["L04AA01"]},
                    {"name": "b", "efficacy": "low", "old_atc": ["L04AA01"]},
                ]
            },
            "stands for two",
        ),
        ({"treatments": [{"name": "a", "efficacy": "low", "atc": ["L04"]}]}, "not an ATC code"),
        ({"treatments": [{"name": "a", "efficacy": "low"}, {"name": "a", "efficacy": "low"}]}, "two treatments"),
        ({"treatments": [{"name": "!", "efficacy": "low"}]}, "empty name"),
        ({"colour": 1}, "colour"),
    ],
    ids=["empty", "class", "no class", "brand twice", "both lists", "code twice", "no code", "twice", "no letters", "field"],
)
def test_a_list_that_says_two_things_is_refused(change, words):
    """One name, one treatment."""
    with pytest.raises(InputError, match=words):
        Treatments.from_dict({"name": "mine"} | change if "treatments" in change else OWN | change)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", "é".encode("latin-1"), b"null", b"[" * 100_000], ids=["empty", "list", "half", "latin-1", "null", "deep"]
)
def test_a_file_that_is_no_list_is_an_input_error(tmp_path, content):
    """No traceback."""
    (tmp_path / "list.json").write_bytes(content)
    with pytest.raises(InputError, match=r"list\.json"):
        Treatments.load(tmp_path / "list.json")
    with pytest.raises(InputError, match=r"absent\.json"):
        Treatments.load(tmp_path / "absent.json")


def test_plain_text_keeps_what_tells_names_apart():
    """1a and 1b stay, capitals and accents go."""
    assert plain("Interféron  Bêta-1A®") == "interferon beta 1a" and plain("0,5 mg") == "0.5 mg"
