"""`make check` names every committed file that changed, went or came, and every number that is not of the results."""

import json
import shutil

import pytest

from lib.bench.reliability import changes
from lib.errors import UserError
from lib.paths import RESULTS, ROOT
from lib.reporting import collect
from lib.reporting.check import stale, uncollected
from lib.running import index
from lib.studies import study_of

PROFILE, NAME = "laptop", "00_study_models"
README = """# Title
## What we found
<!-- found -->
<!-- /found -->
It takes 23 minutes.
"""
LOCK = '[[package]]\nname = "torch"\nversion = "2.15.0"\n'


@pytest.fixture
def site(tmp_path):
    """One committed result, a checkpoint without weights, a README: collected and indexed. Gives the arguments."""
    results = tmp_path / "results"
    shutil.copytree(RESULTS / PROFILE / NAME, results / PROFILE / NAME)
    (results / "checkpoints" / "study-ar").mkdir(parents=True)
    for file in ("config.json", "curve.jsonl", "recipe.json"):
        shutil.copy(RESULTS / "checkpoints" / "study-ar" / file, results / "checkpoints" / "study-ar" / file)
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "uv.lock").write_text(LOCK)
    for path, text in collect.collected(results, tmp_path / "README.md").items():
        path.write_text(text)
    given = {"results": results, "readme": tmp_path / "README.md", "lock": tmp_path / "uv.lock"}
    index.write(**given)
    return given


def test_nothing_is_said_where_nothing_changed(site):
    assert uncollected(**site) == []
    (site["results"] / PROFILE / ".00_study_models.new").mkdir()
    (site["results"] / PROFILE / ".00_study_models.new" / "claims.json").write_text("[")
    (site["results"] / "smoke").mkdir()
    (site["results"] / "smoke" / "x.csv").write_text("rehearsed")
    (site["results"] / PROFILE / NAME / "manifest.tmp").write_text("half-written")
    assert uncollected(**site) == [], "what git would not have is no committed result"


def files():
    folder = RESULTS / PROFILE / NAME
    kinds = {path.suffix: f"{PROFILE}/{NAME}/{path.name}" for path in sorted(folder.iterdir())}
    made = ["headline.json", "claims.json", "claims.md", "README.md"]
    trained = [f"checkpoints/study-ar/{name}" for name in ("config.json", "curve.jsonl", "recipe.json")]
    return [*kinds.values(), f"{PROFILE}/{NAME}/manifest.json", *made, *trained]


@pytest.mark.parametrize("name", files())
def test_a_file_that_changed_or_went_is_named(site, name):
    path = site["results"] / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert f"results/{name}: changed since the last make report" in uncollected(**site)
    path.unlink()
    assert f"results/{name}: missing since the last make report" in uncollected(**site)


def test_a_file_that_came_is_named(site):
    (site["results"] / "bench").mkdir()
    (site["results"] / "bench" / "engine.json").write_text("{}")
    assert uncollected(**site) == ["results/bench/engine.json: new since the last make report"]


def test_what_the_readme_says_was_found_is_named(site):
    text = site["readme"].read_text()
    site["readme"].write_text(text.replace("| MTAD | 0", "| MTAD | 9", 1))
    assert "README.md: what was found changed since the last make report" in uncollected(**site)
    site["readme"].write_text(text.replace("23 minutes", "24 minutes"))
    assert uncollected(**site) == [], "other words, and numbers that are no result, are free"


def test_a_number_of_the_index_of_results_is_named(site):
    path = site["results"] / "README.md"
    path.write_text(path.read_text().replace("] % | ", "] % | 9", 1))
    assert "results/README.md: changed since the last make report" in uncollected(**site)


def test_a_readme_without_its_marks_is_named(site):
    site["readme"].write_text(site["readme"].read_text().replace("<!-- found -->", ""))
    assert any("must hold <!-- found -->" in line for line in uncollected(**site))
    with pytest.raises(UserError, match="must hold"):
        collect.collected(site["results"], site["readme"])


def test_what_the_results_give_now_waits_for_the_report(site):
    path = site["results"] / PROFILE / NAME / "headline.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({name: entry | {"value": 1.0} for name, entry in entries.items()}))
    index.write(**site)
    assert uncollected(**site) == [
        f"{name}: waits for make report, for it is not what the results give"
        for name in ("headline.json", "README.md")
    ]


def test_another_package_waits(site):
    site["lock"].write_text(LOCK.replace("2.15.0", "2.16.0") + '[[package]]\nname = "new"\nversion = "1"\n')
    assert uncollected(**site) == [
        "uv.lock: waits for make report, for new was none, is 1",
        "uv.lock: waits for make report, for torch was 2.15.0, is 2.16.0",
    ]


def test_without_an_index_it_waits_and_a_damaged_one_is_an_error(site):
    path = site["results"] / "index.json"
    whole = path.read_text()
    for text in ("", "{", "[]", "{}", whole[: len(whole) // 2], whole.replace('"readme"', '"raedme"')):
        path.write_text(text)
        (line,) = uncollected(**site)
        assert "index.json" in line and "`make report`" in line and ": waits " not in line
    path.unlink()
    (line,) = uncollected(**site)
    assert line.startswith("index.json: waits for make report")


def test_the_report_writes_the_index_and_a_replay_keeps_it(site, monkeypatch):
    monkeypatch.setattr(index.write, "__defaults__", (site["results"], site["readme"], site["lock"]))
    (site["results"] / "claims.md").write_text("damaged")
    collect.write_all(site["results"], site["readme"])
    assert uncollected(**site) == []
    manifest = site["results"] / PROFILE / NAME / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    index.note(manifest, site["results"])
    assert uncollected(**site) == []
    index.note(ROOT / "README.md", site["results"])
    assert uncollected(**site) == [], "of results alone"


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "manifest.json is missing"),
        ("", "manifest.json is not JSON"),
        ("\0" * 50, "manifest.json is not JSON"),
        ("[]", "must be"),
        ("{}", "parameters is missing"),
        ('{"parameters": {}, "runs": {"a": {}}, "measured": {}, "files": {}, "sources": "", "versions": {}, '
         '"device": "cpu"}', "runs.a.run is missing"),
    ],
)  # fmt: skip
def test_a_manifest_that_went_or_is_damaged_is_named_with_the_cure(site, text, words):
    path = site["results"] / PROFILE / NAME / "manifest.json"
    path.unlink() if text is None else path.write_text(text)
    (line,) = stale(study_of, site["results"])
    assert line.startswith(f"{PROFILE}/{NAME}: ") and words in line and "git checkout" in line
    assert ": waits " not in line


def test_a_folder_that_no_notebook_made_is_named(site):
    (site["results"] / PROFILE / NAME).rename(site["results"] / PROFILE / "99_unknown")
    (line,) = stale(study_of, site["results"])
    assert line.startswith(f"{PROFILE}/99_unknown: ")


@pytest.mark.slow
def test_the_changes_of_the_reliability_harness_are_many_and_each_is_noticed(tmp_path):
    """A few of each kind here, and one that ended in a raw error; `make torture` makes all of them."""
    cases = list(changes.cases())
    assert len({case.name for case in cases}) == len(cases) >= 40
    torch = [case for case in cases if case.name == "a result of another torch"]
    for number, case in enumerate([*cases[::25], cases[-1], *torch]):
        (tmp_path / str(number)).mkdir()
        case.check(tmp_path / str(number))


def test_a_change_that_is_not_noticed_fails_its_case(tmp_path, monkeypatch):
    (case,) = [case for case in changes.cases() if case.name == "README: a count of claims"]
    monkeypatch.setattr(index, "_parts", lambda text: {})
    with pytest.raises(AssertionError, match="no line holds"):
        case.check(tmp_path)
