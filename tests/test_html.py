"""What a model wrote is inert in notebook, page, Markdown and CSV; a page loads nothing; every figure has a text."""

import base64
import inspect
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.errors import redacted
from lib.reporting.html import POLICY, TAGS, clean, page_of, prepared
from lib.reporting.inert import csv_cell, csv_table, inert, label_text, markdown, markdown_cell
from lib.studies import STUDIES, study_of
from lib.studies.tolerator.frames import frames_of, rows_of, scrolled, spread, strip

DOT = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 40).decode()
HOSTILE = {
    "a script": "<script>fetch('https://evil.example')</script>",
    "a picture that runs code": '<img src=x onerror="alert(1)">',
    "a picture from the network": '<img src="https://evil.example/x.png">',
    "a frame": '<iframe src="https://evil.example"></iframe>',
    "a style sheet": "<style>@import url(https://evil.example/x.css); body { display: none }</style>",
    "an SVG": '<svg onload="alert(1)"><script>alert(1)</script></svg>',
    "a link that runs code": '<a href="javascript:alert(1)">x</a> <a href="data:text/html,<script>1</script>">y</a>',
    "a form": '<form action="https://evil.example"><input name=a><button>go</button></form>',
    "a redirection": '<meta http-equiv="refresh" content="0;url=https://evil.example"><base href="https://evil.example">',
    "an overlay": '<div style="position:fixed;top:0;background:url(https://evil.example/x)">x</div>',
    "an open tag": "<table><td><textarea><xmp><!-- <noscript><plaintext>",
    "terminal escapes": "\x1b[31mred\x1b]8;;https://evil.example\x07link\x9b2J",
    "NUL": "a\0b",
    "writing turned round": "price \u202e100\u202c and \u2066x\u2069 \u200f",
    "halves of a surrogate pair": "\ud800 and \udfff",
    "entities": "&#27;[31m &#x202e; &#0; &lt;script&gt;alert(1)&lt;/script&gt;",
    "a line of a megabyte": "x" * 1_000_000,
    "tags that no font shows": "hi\U000e0041\U000e0042",
}
ACTS = ("\x1b", "\0", "\x9b", "\x07", "\u202e", "\u202c", "\u2066", "\u200f", "\ud800", "\udfff", "\U000e0041")


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def notebook(text, kinds=("stream", "text/plain", "text/html", "text/markdown", "error", "javascript", "svg")):
    """One notebook that shows `text` in every way."""
    made = {
        "stream": new_output("stream", name="stdout", text=text),
        "error": new_output("error", ename="E", evalue=text, traceback=[text]),
        "javascript": new_output("display_data", data={"application/javascript": text, "text/plain": text}),
        "svg": new_output("display_data", data={"image/svg+xml": f"<svg>{text}</svg>"}),
    } | {kind: new_output("execute_result", data={kind: text}) for kind in kinds if kind.startswith("text/")}
    cells = [new_markdown_cell("# A title"), new_code_cell("1", outputs=[made[kind] for kind in kinds])]
    return new_notebook(cells=cells)


def assert_inert_page(page):
    """No tag that acts, no address that would be loaded, no character that acts."""
    assert not [char for char in ACTS if char in page]
    page.encode("utf-8")
    allowed = {"html", "head", "meta", "title", "link", "style", "body", "main"}
    tags = Tags(page).found
    head, body = page.split("<body>")
    assert "url(" not in head and "@import" not in head
    for tag, attributes in Tags(body).found:
        assert tag not in allowed - {"main"} and tag not in ("script", "iframe", "form", "input", "svg", "object"), (
            tag
        )
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "srcset", "data", "poster", "background", "action"):
            assert attributes.get(name, "data:image/").startswith("data:image/"), (tag, attributes)
        assert attributes.get("href", "#").startswith(("http", "#", "mailto:", "..")), (tag, attributes)
        assert "url" not in attributes.get("style", "") and "position" not in attributes.get("style", "")
        assert tag != "img" or attributes["alt"].strip(), attributes
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in tags
    assert [value["href"] for tag, value in tags if tag == "link"] == ["data:,"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_model_wrote_is_inert_in_notebook_and_page(name, tmp_path):
    node = prepared(notebook(HOSTILE[name]), "none")
    nbformat.validate(node)
    nbformat.write(node, tmp_path / "made.ipynb")  # a surrogate would end it here
    assert prepared(node, "none") == node
    text = (tmp_path / "made.ipynb").read_text()
    assert len(text) < 30_000 or name != "a line of a megabyte" or "text/html" in text
    stored = json.loads(text)["cells"][1]["outputs"]
    for output in stored:
        assert "application/javascript" not in output.get("data", {})
        shown = "".join(output.get("data", {}).get("text/html", ""))
        for tag, attributes in Tags(shown).found:
            assert tag in TAGS and not [key for key in attributes if key.startswith("on")], shown
        assert not re.search(r"<[A-Za-z/!?]", "".join(output.get("data", {}).get("text/markdown", "")))
        assert not [char for char in ACTS if char in json.dumps(output, ensure_ascii=False)]
    page = page_of(node, "none")
    assert_inert_page(page)
    assert page_of(notebook(HOSTILE[name]), "none") == page, "a page alone does not rely on what came before"


def test_a_markdown_cell_is_inert_in_the_page_too():
    cells = [new_markdown_cell(f"# T\n{text}\n\n[x](javascript:alert(1))") for text in HOSTILE.values()]
    assert_inert_page(page_of(new_notebook(cells=cells), "none"))


def test_a_page_keeps_what_reports_show():
    table = pd.DataFrame({"task": ["qa"], "cell": ["1 < 2 & <b>"]}).to_html()
    cells = [
        new_markdown_cell(
            "# Title\nSome *words*, a [link](https://arxiv.org/abs/1) and `code`.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        ),
        new_code_cell("1", outputs=[new_output("execute_result", data={"text/html": table, "text/plain": "t"})]),
        new_code_cell("2", outputs=[new_output("display_data", data={"image/png": DOT, "text/plain": "f"})]),
        new_code_cell("secret_code", outputs=[new_output("stream", name="stdout", text="1 < 2\n")]),
    ]
    page = page_of(new_notebook(cells=cells), "none")
    assert_inert_page(page)
    assert "<title>Title</title>" in page and "<em>words</em>" in page and 'href="https://arxiv.org/abs/1"' in page
    assert page.count("<table") == 2 and "1 &lt; 2 &amp; &lt;b&gt;" in page and "<style scoped" not in page
    assert f"data:image/png;base64,{DOT}" in page and "secret_code" not in page
    assert "cdnjs" not in page and "require" not in page and "mathjax" not in page.lower()
    assert len(page) < 10_000, "the page carries no library"


def test_every_figure_has_a_text_that_says_what_it_shows():
    pictures = [new_output("display_data", data={"image/png": DOT}) for _ in range(3)]
    cells = [
        new_markdown_cell("# T\n## Quality"),
        new_code_cell("study.figure_quality();", outputs=pictures[:1]),
        new_code_cell("other()", outputs=pictures[1:]),
    ]
    page = page_of(new_notebook(cells=cells), "20_tolerator_scores")
    alts = [attributes["alt"] for tag, attributes in Tags(page).found if tag == "img"]
    assert alts == [
        "Accuracy against forwards, a panel a task; bands are 95 % intervals.",
        "Figure on Quality (1 of 2)",
        "Figure on Quality (2 of 2)",
    ]
    assert "No description has been provided" not in page


@pytest.mark.parametrize("stem", STUDIES)
def test_every_method_that_draws_says_what(stem):
    for name, method in inspect.getmembers(study_of(stem), inspect.isfunction):
        if name.startswith("figure_"):
            assert method.__doc__ and len(method.__doc__.split()) > 3, f"{stem}: {name}"


def test_text_is_as_it_was_where_nothing_in_it_acts():
    for text in (
        "plain\ttext\nof two lines",
        "e\u0301 \u4e2d\u6587 \U0001f469\u200d\U0001f680 \u05d0",
        "1 < 2 | 3",
        "",
    ):
        assert inert(text) == text
    assert inert("a\r\nb") == "a\nb" and inert("a\rb\x1b") == "a\\rb\\x1b" and inert("\ud800") == "\\ud800"
    assert inert("x" * 3000 + "\ny") == "x" * 1960 + "… [1040 characters more]\ny"
    assert inert(inert("\x1b" * 5000)) == inert("\x1b" * 5000)


def test_a_label_is_no_mathematics_and_a_strip_of_hostile_tokens_is_drawn(tmp_path):
    frame = {"label": "fill 1", "texts": ["$x_$", inert("\0"), inert("\ud800")], "states": ["kept"] * 3}
    figure = strip([frame])
    axis = figure.axes[0]
    axis.axis("on")
    axis.set_xticks(range(3), [label_text(text) for text in ("$\\frac{$", "\x1b[31m", "\ud800")])
    figure.savefig(tmp_path / "f.png")
    figure.savefig(tmp_path / "f.svg")
    assert not [char for char in ACTS if char in (tmp_path / "f.svg").read_text()]
    plt.close(figure)


def test_a_frame_says_what_happened_to_each_position():
    """[MASK] is 9 and the end 8; by hand: first kept 3, then 3 again, 4 for 3, and the rest as it was."""
    family = SimpleNamespace(mask_id=9, eot_ids=(8,))
    model = SimpleNamespace(family=family, tokenizer=SimpleNamespace(decode=lambda ids: f"<{ids[0]}>"))
    canvases = [[3, 3, 9, 8], [3, 4, 9, 8]]
    redrawn = [[True, True, False, True], [True, True, False, False]]
    events = [
        {"stage": stage, "tokens": torch.tensor([tokens]), "changed": torch.tensor([drawn])}
        for stage, tokens, drawn in zip(("fill", "refine"), canvases, redrawn, strict=True)
    ]
    frames = frames_of(model, events, 0)
    assert [frame["label"] for frame in frames] == ["fill 1", "refine 2"]
    assert frames[0]["states"] == ["changed", "changed", "masked", "changed"]
    assert frames[1]["states"] == ["redrawn", "changed", "masked", "kept"]
    assert frames[1]["texts"] == ["<3>", "<4>", "", "\u25a0"]
    assert "&lt;3&gt;<strong>&lt;4&gt;</strong>_\u25a0" in scrolled(frames)
    long = [{"label": "fill 1", "texts": ["\\x1b"] * 150, "states": ["redrawn"] * 150}]
    table = csv_table(pd.DataFrame(rows_of(long)))
    assert [len(json.loads(cell)) for cell in table.texts] == [64, 64, 22], "no cell is cut"
    assert sum((json.loads(cell) for cell in table.states), []) == ["redrawn"] * 150


def test_markdown_holds_no_html_and_a_cell_stays_a_cell():
    assert markdown("p < 0.05, <script>, </b>, <!--") == "p < 0.05, &lt;script>, &lt;/b>, &lt;!--"
    assert "javascript:" not in markdown("[x](javascript:alert(1))\n\n[y]: JavaScript:alert(1)")
    assert markdown_cell("a | b\nc \\| d\x1b") == "a \\| b c \\| d\\x1b"


@pytest.mark.parametrize("text", ["=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_a_spreadsheet_computes_no_cell(text, tmp_path):
    assert not csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "＝"))
    table = pd.DataFrame({"said": [text, "plain"], text: [1.5, -2.0]})
    csv_table(table).to_csv(tmp_path / "t.csv", index=False)
    for cell in pd.read_csv(tmp_path / "t.csv", dtype=str).said.tolist() + [
        pd.read_csv(tmp_path / "t.csv").columns[1]
    ]:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝")), cell


def test_a_table_of_numbers_and_words_is_written_as_before():
    table = pd.DataFrame(
        {"a": [1.25, None], "b": ["-1.5", "vanilla"], "c": [True, False], "d": [1, -2], "e": [None, "x"]}
    )
    table["f"] = pd.Categorical(["u", "v"])
    assert csv_table(table).to_csv(index=False) == table.to_csv(index=False)
    assert csv_table(pd.DataFrame()).empty


def test_hostile_text_in_a_csv_file_is_plain(tmp_path):
    csv_table(pd.DataFrame({"said": list(HOSTILE.values())}, dtype=object)).to_csv(tmp_path / "t.csv", index=False)
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert not [char for char in ACTS if char in text] and len(text) < 20_000
    assert len(pd.read_csv(tmp_path / "t.csv")) == len(HOSTILE)


def test_a_secret_of_the_environment_reaches_no_output(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-value-of-my-own")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
    form = "hf_" + "a1B2" * 9
    text = f"token a-value-of-my-own, {form}, falsehood"
    assert redacted(text) == "token [HF_TOKEN], [secret], falsehood"
    node = prepared(notebook(text), "none")
    for made in (nbformat.writes(node), page_of(node, "none"), page_of(notebook(text), "none"), csv_cell(text)):
        assert "a-value-of-my-own" not in made and form not in made


def test_cleaning_twice_is_the_same_as_once():
    for text in HOSTILE.values():
        assert clean(clean(text)) == clean(text)


def test_a_strip_marks_what_differs_from_the_row_above():
    """Of three steps the second is not shown: what it changed is red in the third, and what the third changed back
    is not."""
    first = {"label": "fill 1", "texts": ["a", "b", "", "d"], "states": ["kept", "kept", "masked", "changed"]}
    second = {"label": "refine 2", "texts": ["x", "y", "", "d"], "states": ["changed", "changed", "masked", "kept"]}
    third = {"label": "refine 3", "texts": ["x", "b", "c", "d"], "states": ["kept", "changed", "changed", "redrawn"]}
    rows = spread([first, second, third], 2)
    assert [row["states"] for row in rows] == [first["states"], ["changed", "redrawn", "changed", "redrawn"]]
    assert spread([first, second, third], 3)[1]["states"] == second["states"]
