"""The report: one file that holds everything, harmless whatever a label says, and its numbers as JSON that read back."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import msgspec
import pytest

import fedstats
from fedstats import InputError, Rules
from fedstats.client.report import read_results, write_report, write_results
from fedstats.errors import Problem
from fedstats.query.analysis import Failed, Size

from . import helpers
from .test_show import hidden_table

EVIL = "</pre><script>document.title='owned'</script><img src=http://example.org/x.png onerror=alert(1)>"
FETCHING = {"img", "script", "link", "iframe", "object", "embed", "video", "audio", "source", "base", "form", "image", "input"}


def results(rules=None, sex=(1, 2)):
    tables = helpers.lung_tables()
    for table in tables.values():
        table["sex"] = table["sex"].map({1: sex[0], 2: sex[1]})
    dictionary = helpers.lung_dictionary(sex={"levels": list(sex)})
    c = fedstats.pooled(tables, dictionary=dictionary, rules=rules).cohort()
    return [("Age and weight loss", c.summary(["age", "wt.loss"])), ("Sex by status", c.crosstab("sex", "ph.ecog")),
            ("Sex by death", c.crosstab("sex", "event")),
            ("Refused", Failed(size=Size(0), question="quantiles(x)", problem=Problem("refused", "turin", "too few people", "widen")))]


def content(found, **changes):
    return {"title": "Lung cancer in four registries", "results": found, "purpose": "method work", "cohort": "all patients",
            "registries": ["r0", "r1", "r2", "r3"], "seen": [("the coordinator", "sizes and times; never a number")],
            "flow": [("in the registries", 1228), ("all columns known", 1212), ("with visits", None)],
            "differences": {"Age and weight loss": 2.2e-16, "Sex by death": 3e-4},
            "checks": [("one byte flipped on the wire", "caught, nothing released")],
            "facts": {"rounds": 2, "bytes": 123456, "seconds": 1.5, "date": "2025-06-01"}} | changes


def evil():
    return content(results(sex=(EVIL, "b")), title=EVIL, purpose=EVIL, cohort=EVIL, registries=[EVIL], seen=[(EVIL, EVIL)],
                   flow=[(EVIL, 10)], differences={}, checks=[(EVIL, EVIL)], facts={EVIL: EVIL, "date": EVIL})


class Page(HTMLParser):
    """Tags, ids and what would be fetched."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.fetched, self.headings, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.open.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        links = [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action", "data")]
        self.fetched += [value for value in links if not value.startswith("#")]
        assert not any(name.startswith("on") for name in found), found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = write_report(tmp_path_factory.mktemp("report") / "report.html", **content([*results(Rules()), ("Held back", hidden_table())]))
    return path.read_text(encoding="utf-8")


def test_report_says_what_a_reader_needs(report):
    """Summary, banner, flow, methods, who saw what, checks, facts and how to cite stand on the page."""
    for words in ("4 registries (r0, r1, r2, r3) were asked", "Research use only; not a medical device", "n = 1\u202f228", "16 left out",
                  "not released", "Means with standard deviations", "equals the pooled computation", "differs from the pooled computation",
                  "sizes and times; never a number", "caught, nothing released", "123\u202f456", "How to cite", "2025-06-01",
                  "not released: rule min_cell 10", "too few people", "The numbers were computed in one process, without a seal"):
        assert words in report, words


def test_report_fetches_nothing(report):
    """The file opens on a ship."""
    page = Page(report)

    assert page.fetched == []
    assert not set(page.tags) & FETCHING
    assert "@import" not in report
    assert "default-src 'none'" in report


def test_report_is_accessible(report):
    """Headings in order, captions on tables, words for pictures, no id twice."""
    page = Page(report)

    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:]))
    assert report.count("<caption>") == page.tags.count("table")
    assert report.count("<svg") == len(re.findall(r'<svg role="img" aria-label="[^"]+"', report)) >= 2
    assert len(page.ids) == len(set(page.ids))
    assert '<html lang="en">' in report


def test_a_picture_with_nothing_released_is_a_sentence(report):
    assert "no picture: nothing in it may be released" in report


def test_a_level_named_script_is_harmless(tmp_path):
    """Whatever a title, a level or a fact says, it is text."""
    text = write_report(tmp_path / "evil.html", **evil()).read_text(encoding="utf-8")
    page = Page(text)

    assert not set(page.tags) & FETCHING
    assert page.fetched == []
    assert text.count("</pre>") == 1


def test_report_without_pictures_still_has_its_numbers(tmp_path, monkeypatch):
    """Without matplotlib a sentence says what to install."""
    import builtins
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    text = write_report(tmp_path / "report.html", **content(results())).read_text(encoding="utf-8")

    assert "<svg" not in text
    assert "pip install &quot;fedstats[show]&quot;" in text
    assert "62.47" in text


def test_results_read_back_as_they_were(tmp_path):
    """results.json loses no digit."""
    found = results()
    path = write_results(tmp_path / "results.json", **content(found))

    assert read_results(path) == found
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 1


def test_a_results_file_of_another_version_is_refused(tmp_path):
    path = write_results(tmp_path / "results.json", **content(results()))
    path.write_text(path.read_text(encoding="utf-8").replace('"version": 1', '"version": 2'), encoding="utf-8")

    with pytest.raises(InputError, match="not a results file"):
        read_results(path)


def test_two_results_of_one_name_are_refused(tmp_path):
    found = results()

    with pytest.raises(InputError, match="same name"):
        write_report(tmp_path / "report.html", **content([found[0], found[0]]))


def test_a_folder_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_results(tmp_path / "nowhere" / "results.json", **content(results()))


def test_sealed_results_are_called_sealed(tmp_path):
    """What the summary says about the seal follows from the results."""
    found = [(name, msgspec.structs.replace(result, released="sealed")) for name, result in results()]
    text = write_report(tmp_path / "report.html", **content(found)).read_text(encoding="utf-8")

    assert "only totals over all registries were opened" in text
    assert "without a seal" not in text


# -- in a browser ------------------------------------------------------------------------------------------------------------


def chromium(*args):
    """Run headless Chromium, or skip with a sentence."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here: the report is not opened in a browser")
    return subprocess.run([program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *args], check=True,
                          capture_output=True, timeout=120)


@pytest.mark.browser
def test_report_opens_in_a_browser(tmp_path, report):
    """The picture on the screen is not empty, in light and in dark."""
    from matplotlib.image import imread

    (tmp_path / "report.html").write_text(report, encoding="utf-8")
    for name, option in (("light", "--window-size=900,1400"), ("dark", "--blink-settings=preferredColorScheme=0")):
        chromium(option, f"--screenshot={tmp_path}/{name}.png", f"--user-data-dir={tmp_path}/{name}", f"file://{tmp_path}/report.html")
        image = imread(tmp_path / f"{name}.png")[..., :3]

        assert image.std() > 0.02


@pytest.mark.browser
def test_no_script_runs_and_no_request_leaves(tmp_path):
    """A page full of attacks keeps its title and contacts nobody."""
    path = write_report(tmp_path / "evil.html", **evil())
    log = tmp_path / "net.json"
    done = chromium("--dump-dom", f"--user-data-dir={tmp_path}/profile", f"--log-net-log={log}", "--disable-background-networking",
                    "--disable-component-update", f"file://{path}")
    dom = done.stdout.decode()

    assert "<title>owned" not in dom
    assert not set(Page(dom).tags) & FETCHING
    assert "example.org" not in log.read_text(encoding="utf-8")
