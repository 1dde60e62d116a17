"""The site: what opens a page, what a choice hides, pictures that shrink, and that broken links are seen."""

import base64
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import axe_core_python
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.paths import RESULTS
from lib.reporting.claims import CLAIM, CONTROL, HOLDS, OPEN, VERDICTS
from lib.reporting.site import claims as ledger_page
from lib.reporting.site import tokens
from lib.reporting.site.build import build, in_short, inspected
from lib.reporting.site.look import framed
from lib.reporting.site.page import body, parts, smaller

ROW = {
    "paper": "MTAD",
    "says": "a < b",
    "where": "Table 1",
    "printed": "",
    "value": 1.0,
    "low": 0.5,
    "high": 1.5,
    "n": 9,
}
ROW |= {"unit": "points", "verdict": HOLDS, "size": "", "kind": CLAIM, "from": "30_mtad_scores", "needed": 1200}


def picture(size=(300, 200)) -> str:
    image = Image.effect_noise(size, 90).convert("RGB")
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture
def notebook():
    """A page as they are: title, parameters, a table, a figure, the reading, the manifest."""
    new = nbformat.v4
    drawn = new.new_output("display_data", {"image/png": picture(), "text/plain": "<Figure>"})
    cells = [
        new.new_markdown_cell("# One\n**Claim:** it holds."),
        new.new_code_cell("items = 3", metadata={"tags": ["parameters"]}),
        new.new_markdown_cell("## The table\nNumbers."),
        new.new_code_cell(
            "table", outputs=[new.new_output("display_data", {"text/html": "<table><tr><td>7</td></tr></table>"})]
        ),
        new.new_code_cell("study.figure()", outputs=[drawn]),
        new.new_markdown_cell("## Reading"),
        new.new_code_cell("words", outputs=[new.new_output("display_data", {"text/markdown": "- it **gains**"})]),
        new.new_markdown_cell("## Manifest"),
        new.new_code_cell("save", outputs=[new.new_output("display_data", {"text/plain": "{'items': 3}"})]),
    ]
    return new.new_notebook(cells=cells)


def test_a_page_opens_with_question_answer_and_figure(notebook):
    text = body(notebook, "30_mtad_scores")
    order = [
        text.index(words)
        for words in (
            "it holds",
            "gains",
            "<img",
            ">7<",
            "<summary>",
            "&#x27;items" if "&#x27;items" in text else "'items",
        )
    ]
    assert order == sorted(order), "question, answer, figure, tables, and folded the manifest"
    shown = {name: len(cells) for name, cells in parts(notebook).items()}
    assert shown == {"title": 1, "answer": 1, "figure": 1, "rest": 2, "folded": 2}


def test_pictures_shrink_and_keep_their_size_and_look():
    before = picture()
    after = smaller(f'<img src="data:image/png;base64,{before}" alt="x">')
    small = Image.open(io.BytesIO(base64.b64decode(after.split("base64,")[1].split('"')[0])))
    assert small.size == (300, 200) and len(after) < 0.8 * len(before)
    whole = Image.open(io.BytesIO(base64.b64decode(before))).convert("L")
    changes = [abs(a - b) for a, b in zip(small.convert("L").tobytes(), whole.tobytes(), strict=True)]
    assert sum(changes) / len(changes) < 8


def test_a_choice_hides_the_rows_of_the_others():
    rows = [ROW, ROW | {"paper": "AutoDeco", "verdict": OPEN, "kind": CONTROL}]
    choices, style = ledger_page.filters(rows)
    table = ledger_page.table(rows)
    assert table.count("<tr data-paper") == 2 and "a &lt; b" in table and "needs 1,200" in table
    for name, values in {
        "paper": ("mtad", "autodeco"),
        "verdict": map(ledger_page.slug, VERDICTS),
        "kind": (CLAIM, CONTROL),
    }.items():
        for value in values:
            assert f'id="{name}-{value}"' in choices
            assert f"body:has(#{name}-{value}:checked) tr[data-{name}]:not([data-{name}={value}])" in style
    assert 'id="kind-claim" checked' in choices, "controls are not counted, and hidden at first"


def test_what_is_wrong_with_a_site_is_seen(tmp_path):
    good = '<a href="b.html#x">b</a> <a href="https://arxiv.org">out</a> <img src="data:," alt="words">'
    (tmp_path / "a.html").write_text(framed("a", good, {}))
    (tmp_path / "b.html").write_text(framed("b", "", {}))
    assert inspected(tmp_path) == (2, 0, [])
    bad = '<a href="gone.html">c</a><img src="https://x.org/p.png"><script src="s.js"></script>'
    (tmp_path / "c.html").write_text(framed("c", bad, {}))
    assert inspected(tmp_path) == (3, 2, ["c.html: no gone.html", "c.html: 1 pictures without words"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The committed results as a site, in a folder where they lie beside it."""
    root = tmp_path_factory.mktemp("repository")
    (root / "results").symlink_to(RESULTS)
    found = build(root / "results", root / "site")
    return root / "site", found


@pytest.mark.slow
def test_the_site_of_the_committed_results_is_whole_and_light(site):
    folder, (pages, requests, errors) = site
    assert pages >= 15 and requests == 0 and errors == []
    assert sum(path.stat().st_size for path in folder.rglob("*.html")) < 1.1e5 * pages, "a hundred kilobytes a page"


def test_tokens_say_their_setting_and_hostile_text_stays_text(tmp_path):
    """Shades hold as many tokens each; what a model wrote is text in all three sections."""
    bad, folder = "<img src=x onerror=alert(1)>", tmp_path
    settings = pd.DataFrame(
        {"task": "math", "item": bad, "step": range(12), "text": [json.dumps(bad)] * 12,
         "temperature": np.linspace(0, 1, 12), "top_p": np.linspace(1, 0, 12)}
    )  # fmt: skip
    html = tokens.settings(settings)
    assert [html.count(f'class="tok t{i} p{5 - i}"') for i in range(tokens.SHADES)] == [2] * tokens.SHADES
    frames = pd.DataFrame(
        {"task": ["math"] * 3, "method": "mild", "frame": ["fill 1", bad, bad],
         "texts": json.dumps([bad, "\n", ""]), "states": json.dumps(["changed", "kept", f'">{bad}'])}
    )  # fmt: skip
    film = tokens.film(frames)
    assert film.count('type="radio"') == 2 and film.count(" checked") == 1 and "\u21b5" in film
    assert film.count('class="tok changed">') == 1 + 3, "the key, and a position in each of three parts of two frames"
    taken = pd.DataFrame(
        {"task": "math", "item": "a", "way": "MTAD", "taken": ['["a"]', "[]"], "own": [json.dumps([bad]), '["b"]'],
         "refused": ["[]", '["c", "d"]']}
    )  # fmt: skip
    drafts = tokens.passes(taken)
    assert "3 tokens in 2 passes" in drafts and drafts.count('class="tok own">') == 2
    assert drafts.count('class="tok draft">') == 1 and drafts.count('class="tok refused">') == 2
    ties = settings.assign(top_p=[0.5, 0.7] + [1.0] * 10)
    assert tokens.settings(ties).count(' p5"') == 10, "equal values have one shade, and the highest the darkest"
    assert all("<img" not in text for text in (html, film, drafts))
    for stem, name, _ in tokens.SECTIONS:
        (folder / stem).mkdir()
        {"tokens": settings, "frames": frames, "passes": taken}[name].to_csv(
            folder / stem / f"{name}.csv", index=False
        )
    page = tokens.body([folder / stem / "manifest.json" for stem, *_ in tokens.SECTIONS])
    assert page.count("<h2>") == 3 and tokens.body([]) == ""


AXE = "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'best-practice']})"


def _complaints(path, folder, dark: bool) -> list:
    """What axe says of a page in Chromium, by id and first element; the page's policy is taken off for that."""
    script = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    asked = (
        f"<script>{script}</script><script>{AXE}.then(r => {{ const p = document.createElement('pre'); "
        "p.id = 'found'; "
        "p.textContent = btoa(JSON.stringify([matchMedia('(prefers-color-scheme: dark)').matches, "
        "r.passes.length, r.violations.map(v => [v.id, v.nodes[0].target[0]])])); document.body.append(p) })</script>"
    )
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    copy = folder / f"{path.stem}.{dark}.html"
    copy.write_text(html.replace("</body>", f"{asked}</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(["chromium", *flags, copy.as_uri()], capture_output=True, text=True, timeout=240)
    found = re.search(r'<pre id="found">([^<]*)</pre>', done.stdout)
    is_dark, passes, violations = json.loads(base64.b64decode(found[1]))
    assert is_dark == dark and passes > 5, "the rules ran, in the scheme that was asked for"
    return violations


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_no_page_has_an_accessibility_fault(site, tmp_path):
    """axe of Deque on every kind of page, light and dark; on a page with faults it finds them."""
    folder, _ = site
    pages = [folder / f"{name}.html" for name in ("index", "claims", "papers")] + sorted(
        folder.rglob("pages/*.html")
    )[:2]
    token_page = tmp_path / "tokens.html"
    row = {"task": ["math"], "item": "a", "way": "MTAD", "taken": '["a"]', "own": '["b"]', "refused": '["c"]'}
    part = tokens.passes(pd.DataFrame(row))
    token_page.write_text(framed("Tokens", f"<h1>Tokens</h1>{part}", {}, tokens.STYLE), encoding="utf-8")
    for path in (*pages, token_page):
        for dark in (False, True):
            assert _complaints(path, tmp_path, dark) == [], (path.name, dark)
    faulty = tmp_path / "faulty.html"
    text = "<h1>x</h1><p style='color: #ccc; background: #fff'>pale</p><img src='data:,'>"
    faulty.write_text(framed("Faulty", text, {}), encoding="utf-8")
    assert {"color-contrast", "image-alt"} <= {name for name, _ in _complaints(faulty, tmp_path, False)}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_browser_shows_it_without_a_complaint(site):
    """Headless Chromium: nothing on its console, and the choice of a verdict hides the other rows by style alone."""
    folder, _ = site
    for path in (folder / "index.html", folder / "claims.html", folder / "glossary.html"):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
        done = subprocess.run(["chromium", *flags, path.as_uri()], capture_output=True, text=True, timeout=120)
        assert "</html>" in done.stdout and "CONSOLE" not in done.stderr, done.stderr[-500:]


def test_a_papers_verdicts_in_a_sentence():
    count = Counter({HOLDS: 3, OPEN: 9, "not measured": 13})
    assert in_short(count) == "Of 12 claims that could be judged here: 3 hold, 9 undecided."
    assert in_short(Counter({"not measured": 2})) == "Nothing is judged yet."
