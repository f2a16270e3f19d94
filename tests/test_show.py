"""Frames, pictures, text and HTML of results: the numbers are right, the gaps are named, and no label is ever code."""

import builtins
import io
import math

import pytest

import fedstats
from fedstats import InputError, Refused, Rules, show
from fedstats.analyses.crosstab import Cell, Crosstab
from fedstats.errors import Problem
from fedstats.query.analysis import Failed, Size
from fedstats.query.views import Curve, Picture, Table
from fedstats.show import pictures, words

from . import helpers

EVIL = "<script>alert(1)</script>"

PICTURES = {
    "steps": Picture("steps", "Survival", x="days", y="survival", below_at=(0.0, 100.0), below=(("a", (1542, 80)), ("b", (900, None))),
                     curves=(Curve("a", (0.0, 50.0, 100.0), (1.0, 0.8, 0.6), (1.0, 0.7, 0.5), (1.0, 0.9, 0.7)),
                             Curve("b", (0.0, 50.0, 100.0), (1.0, 0.7, None)))),
    "bars": Picture("bars", "Sex", y="patients", labels=("F", "M"), series=(("young", (1542, 30)), ("old", (20, None)))),
    "points": Picture("points", "Hazard ratio", labels=("age", "sex"), series=(("estimate", (1.2, None)), ("low", (1.1, None)),
                                                                                 ("high", (1.3, None)))),
    "heat": Picture("heat", "Correlation", columns=("x", "y"), series=(("x", (1.0, -0.4)), ("y", (-0.4, None)))),
}


def cohort(rules=None):
    return fedstats.pooled(helpers.lung_tables(), dictionary=helpers.lung_dictionary(), rules=rules).cohort()


def hidden_table():
    """A crosstab of which only the totals of the columns may be told."""
    levels = (("F", "M"), ("0", "1"))
    return Crosstab(size=Size(212, 0, 212), variables=("sex", "ecog"), levels=levels, margins=((None, None), (106, 106)), total=212,
                    suppressed=6, registries=4, cells=tuple(Cell((a, b), *(None,) * 5) for a in levels[0] for b in levels[1]),
                    methods="Cross-tabulation with Pearson's test.", rules=Rules().sentence(),
                    notes=("6 numbers are suppressed (rule min_cell 10, with complementary suppression)", "One registry each."))


def named(level):
    """A result with this level in it."""
    return Crosstab(size=Size(30, 0, 30), variables=("arm",), levels=((level, "b"),), margins=(), total=30, suppressed=0,
                    cells=(Cell((level,), 10, None, 1 / 3, 0.2, 0.5), Cell(("b",), 20, None, 2 / 3, 0.5, 0.8)), notes=(f"note {level}",))


def failed():
    return Failed(size=Size(0), question=f"summary({EVIL})", problem=Problem("refused", "turin", "fewer than 10 people", "ask for more"))


# -- frames ----------------------------------------------------------------------------------------------------------------


def test_frame_holds_the_known_values():
    """212 patients of mean age 62.47 years: index and columns are those of the docstring."""
    frame = cohort().summary(["age", "wt.loss"]).frame()

    assert frame.index.name == "column"
    assert list(frame.columns) == ["n", "missing", "mean", "sd", "se", "ci_low", "ci_high", "unit"]
    assert frame.loc["age", "n"] == 212
    assert frame.loc["age", "mean"] == pytest.approx(helpers.lung()["age"].mean(), rel=1e-12)
    assert frame.loc["wt.loss", "sd"] == pytest.approx(helpers.lung()["wt.loss"].std(), rel=1e-12)


def test_several_index_columns_make_a_multiindex():
    """A crosstab is read by its levels."""
    frame = cohort().crosstab("sex", "event").frame()

    assert frame.index.names == ["sex", "event"]
    assert frame.loc[("1", "true"), "n"] == 101


def test_numbers_that_were_not_released_are_nan_in_frames():
    """A suppressed cell is missing, never 0."""
    frame = hidden_table().frame()

    assert frame["n"].isna().all()
    assert frame["n"].dtype == "float64"


def test_frames_are_all_tables_by_title():
    frames = show.frames(cohort().crosstab("sex", "event"))

    assert list(frames) == ["sex x event", "Tests"]
    assert math.isnan(frames["Tests"].loc["Cramer's V", "p"])


def test_a_table_with_two_columns_of_one_name_keeps_both():
    """Levels may be called like other columns."""
    from fedstats.show.frames import frame_of

    frame = frame_of(Table(("n", "n", "n"), (("a", 1, 2),)))

    assert frame.to_numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize("ask", [show.frame, show.frames, show.plot])
def test_a_failed_question_raises_its_error_where_numbers_were_wanted(ask):
    with pytest.raises(Refused, match="fewer than 10 people"):
        ask(failed())


@pytest.mark.parametrize(("module", "ask"), [("pandas", show.frame), ("matplotlib", show.plot)])
def test_a_missing_library_is_a_plain_error_with_a_hint(monkeypatch, module, ask):
    """Whoever installed the small package is told what to install."""
    result, real = cohort().summary("age"), builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(InputError) as caught:
        ask(result)
    assert caught.value.hint == 'pip install "fedstats[show]"'


# -- words -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "text"), [(62.4717, "62.47"), (0.70754, "0.7075"), (12345.6, "12\u202f346"), (-3.5, "−3.5"), (0.0, "0"),
                                             (0.0140231, "0.0140"), (0.00140231, "0.00140"), (2.69e-7, "2.69e−07"), (math.inf, "∞")])
def test_numbers_have_four_digits_and_keep_whole_ones(value, text):
    assert words.number_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.00099, "<0.001"), (0.001, "0.001"), (0.7841, "0.784")])
def test_small_p_values_are_below_one_in_a_thousand(value, text):
    assert words.p_text(value) == text


def test_counts_have_spaces_between_thousands():
    assert words.count_text(1542) == "1\u202f542"


def test_halves_stay_halves_in_a_column_of_halves():
    """EDSS 3.5 is not 3.500."""
    assert words.values_text([3.5, 2.0, None, 10.0]) == ["3.5", "2.0", "–", "10.0"]


def test_limits_stand_in_one_column_beside_the_estimate():
    sheet = words.sheets(cohort().summary("age"))[0]

    assert sheet.heads == ("column", "n", "missing", "mean", "sd", "se", "95% interval", "unit")
    assert sheet.rows[0][6].text == "61.22 to 63.72"


def test_levels_called_low_and_high_are_not_an_interval():
    """Two levels of a risk class are two columns of people."""
    result = cohort().summary("age")
    sheet = words.sheet(result, Table(("sex", "low", "high"), (("F", 20, 30), ("M", None, 12))))

    assert sheet.heads == ("sex", "low", "high")


def test_a_note_that_quotes_a_row_is_the_reason_of_that_row_only():
    result = cohort(Rules(min_cell=100)).summary(["age", "event"])

    assert words.rule_of(result, [("age",), ("event",)], ("event",), "mean") == "rule min_cell 100"
    assert words.rule_of(result, [("age",), ("event",)], ("age",), "mean") == ""


# -- text and terminal -------------------------------------------------------------------------------------------------------


def test_text_says_n_rules_and_research_use():
    text = str(cohort(Rules()).summary("age"))

    assert "n = 212 patients in 4 registries" in text
    assert "cells of at least 10 people" in text
    assert show.RESEARCH in text


def test_how_many_are_suppressed_and_by_which_rule_stands_under_the_table():
    text = str(hidden_table())

    assert "6 of 9 entries of this table are not released (rule min_cell 10, with complementary suppression)" in text


def test_what_does_not_apply_is_not_called_suppressed():
    """Cramer's V has no degrees of freedom: a dash, no mark."""
    text = str(cohort().crosstab("sex", "event"))

    assert words.HIDDEN not in text
    assert words.ABSENT in text


def test_a_failed_question_says_who_and_what_to_do():
    assert str(failed()).splitlines()[1:] == ["turin: fewer than 10 people", "hint: ask for more"]


def test_console_shows_a_level_as_it_is_written():
    """"[red]" is a name, not a colour; terminal codes in a name do nothing."""
    from rich.console import Console

    file = io.StringIO()
    show.console(named("[red]x[/red]\x1b[31m"), Console(file=file, width=120))
    show.console(failed(), Console(file=file, width=120))

    assert "[red]x[/red]\ufffd[31m" in file.getvalue()
    assert "\x1b" not in file.getvalue()
    assert show.RESEARCH in file.getvalue()


def test_a_long_table_keeps_its_head_and_tail():
    """200 time points do not fill the notebook; the frame has them."""
    sheet = words.sheet(cohort().summary("age"), Table(("time", "n"), tuple((float(k), k) for k in range(200))))
    rows = show.terminal.shortened(sheet)

    assert len(rows) == show.terminal.MOST_ROWS + 1
    assert rows[-1][0].text == "199"


# -- HTML ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [named(EVIL), named('"><img src=x onerror=alert(1)>'), failed()], ids=["script", "attribute", "failed"])
def test_html_escapes_every_text(result):
    """A level named <script> is a name."""
    text = result._repr_html_()

    assert "<script" not in text
    assert "<img" not in text


def test_html_marks_a_suppressed_number_and_names_the_rule():
    text = hidden_table()._repr_html_()

    assert '<abbr class="held" title="not released: rule min_cell 10, with complementary suppression"' in text
    assert show.RESEARCH in text
    assert "Cross-tabulation with Pearson" in text
    assert "n = 212 patients in 4 registries" in text


# -- pictures --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_every_kind_of_picture_becomes_an_image(picture):
    from matplotlib.image import imread

    file = io.BytesIO()
    pictures.draw(picture, under="n = 1 542").savefig(file, format="png")
    file.seek(0)
    image = imread(file)

    assert image.shape[0] > 150
    assert image.shape[1] > 400
    assert (image[..., :3].min(axis=2) < 0.5).mean() > 0.003       # something is drawn


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_picture_without_released_numbers_says_so(picture):
    nothing = Picture(picture.kind, picture.title, labels=picture.labels, columns=picture.columns,
                      curves=tuple(Curve(c.label, c.x, (None,) * len(c.x)) for c in picture.curves),
                      series=tuple((name, (None,) * len(values)) for name, values in picture.series))
    figure = pictures.draw(nothing)

    assert any("nothing in this picture may be released" in text.get_text() for text in figure.axes[0].texts)


def test_plotting_leaves_no_global_state():
    """No pyplot, and the settings of the notebook are as they were."""
    import sys

    import matplotlib

    before = dict(matplotlib.rcParams)
    cohort().summary("age").plot()

    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_survival_runs_from_0_to_1_with_numbers_at_risk_beneath():
    figure = pictures.draw(PICTURES["steps"])
    bottom, top = figure.axes[0].get_ylim()

    assert bottom == 0
    assert 1 <= top < 1.05
    assert [text.get_text() for text in figure.axes[1].texts if text.get_text() != "Number at risk"] == ["1\u202f542", "80", "900", "–"]


def test_a_gap_breaks_the_curve():
    line = pictures.draw(PICTURES["steps"]).axes[0].lines[1]

    assert math.isnan(line.get_ydata()[-1])


def test_ratios_lie_on_a_logarithmic_axis_with_a_line_at_1():
    axes = pictures.draw(PICTURES["points"]).axes[0]

    assert axes.get_xscale() == "log"
    assert any(list(line.get_xdata()) == [1.0, 1.0] for line in axes.lines)


def test_svg_has_words_for_the_blind_and_fetches_nothing():
    picture = Picture("bars", f"$x$ {EVIL}", labels=("a & b", EVIL), series=((EVIL, (1, 2)),))
    text = pictures.svg(pictures.draw(picture), alt=pictures.alt(picture), name="q1")

    assert text.startswith('<svg role="img" aria-label="$x$ &lt;script')
    assert "<script" not in text
    assert "href=\"http" not in text
    assert "$x$" in text
    assert "currentColor" in text


def test_two_pictures_on_a_page_share_no_id():
    import re

    ids = [set(re.findall(r'\bid="([^"]+)"', pictures.svg(pictures.draw(PICTURES["steps"]), alt="", name=name))) for name in ("q1", "q2")]
    text = pictures.svg(pictures.draw(PICTURES["steps"]), alt="", name="q1")

    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= ids[0]
