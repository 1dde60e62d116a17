"""Profiles with one mistake each: (name, bytes of the file, what the one line must hold), all of one notebook."""

NOTEBOOK = "20_tolerator_scores"


def _section(text: str) -> bytes:
    return f"{NOTEBOOK}: {{{text}}}\n".encode()


BROKEN = [  # the file itself
    ("not-yaml", b"{items: 3", ("mine.yaml", "not YAML")),
    ("a-list", b"- items\n", ("mine.yaml", "mapping")),
    ("a-word", b"items\n", ("mine.yaml", "mapping")),
    ("a-section-that-is-a-number", f"{NOTEBOOK}: 3\n".encode(), ("mine.yaml", "mapping")),
    ("a-tab", f"{NOTEBOOK}:\n\titems: 3\n".encode(), ("mine.yaml", "not YAML")),
    ("two-documents", b"common: {items: 1}\n---\ncommon: {items: 2}\n", ("mine.yaml", "not YAML")),
    ("a-python-object", b"common: !!python/object:os.system {}\n", ("mine.yaml", "not YAML")),
    ("an-anchor-without-end", f"{NOTEBOOK}: &a {{tasks: [*a]}}\n".encode(), ("mine.yaml", NOTEBOOK, "tasks")),
    ("utf-16", f"{NOTEBOOK}: {{items: 3}}\n".encode("utf-16"), ("mine.yaml", "save it as UTF-8")),
    ("latin-1", "common: {out: Ordnér}\n".encode("latin-1"), ("mine.yaml", "save it as UTF-8")),
    ("nul", b"common: {out: a\0b}\n", ("mine.yaml", "not YAML")),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", ("mine.yaml", "save it as UTF-8")),
    ("a-section-twice", _section("items: 3") + _section("items: 4"), ("mine.yaml", NOTEBOOK, "twice")),
    ("a-key-twice", _section("items: 3, items: 4"), ("mine.yaml", "'items' stands twice")),
    ("an-unknown-section", b"20_tolerator: {items: 3}\n", ("mine.yaml", "'20_tolerator'", NOTEBOOK)),
    ("a-number-as-section", b"20: {items: 3}\n", ("mine.yaml", "20")),
    ("an-unknown-common", b"common: {itms: 3}\n", ("mine.yaml", "itms")),
    ("twenty-digits", _section("items: 12345678901234567890"), ("mine.yaml", "items", "1,000,000,000")),
    ("infinity", _section("items: .inf"), ("mine.yaml", "items", "1,000,000,000")),
    ("not-a-number", _section("items: .nan"), ("mine.yaml", "items")),
    ("a-date", _section("items: 2026-01-01"), ("mine.yaml", "items", "must be a word, a number")),
    ("null", _section("items: null"), ("mine.yaml", "items", "must be a word, a number")),
    ("a-mapping-in-a-list", _section("tasks: [{a: 1}]"), ("mine.yaml", "tasks", "a list of these")),
    ("a-list-in-a-list", _section("tasks: [[math]]"), ("mine.yaml", "tasks", "a list of these")),
    ("binary", _section("tasks: [!!binary aGk=]"), ("mine.yaml", "tasks", "a list of these")),
]
WRONG = [  # a value that the study cannot use
    ("an-unknown-parameter", _section("itms: 3"), ("itms", "it has")),
    ("no-items", _section("items: 0"), ("items must be 1 or more",)),
    ("negative-samples", _section("samples: -1"), ("samples must be 1 or more",)),
    ("a-million-times-a-thousand-items", _section("items: 999999999"), ("items", "1,000,000")),
    ("items-of-text", _section("items: many"), ("items must be a whole number", "'many'")),
    ("half-an-item", _section("items: 2.5"), ("items must be a whole number",)),
    ("items-true", _section("items: true"), ("items must be a whole number",)),
    ("items-as-a-list", _section("items: [3]"), ("items must be a whole number",)),
    ("reuse-of-text", _section("reuse: maybe"), ("reuse must be true or false",)),
    ("one-task-without-brackets", _section("tasks: math"), ("tasks must be a list", "[ ]")),
    ("no-tasks", _section("tasks: []"), ("tasks must name one at least",)),
    ("a-task-twice", _section("tasks: [math, math]"), ("tasks must name 'math' once",)),
    ("a-task-that-is-a-number", _section("tasks: [3]"), ("an entry of tasks must be text",)),
    ("an-unknown-task", _section("tasks: [cooking]"), ("'cooking'", "known")),
    ("an-unknown-model", _section("model: study-dml"), ("'study-dml'", "known")),
    ("an-unknown-reference", _section("reference: gpt"), ("'gpt'", "known")),
    ("a-model-that-is-a-number", _section("model: 7"), ("model must be text",)),
    ("a-model-without-mask", _section("model: study-ar"), ("study-ar has no [MASK]", "study-dlm")),
    ("a-model-with-heads", _section("model: study-ar-autodeco"), ("study-ar-autodeco has heads",)),
    ("an-unknown-device", _section("device: gpu"), ("device must be 'cpu' or 'cuda'",)),
    ("an-accelerator-of-another-kind", _section("device: mps"), ("device must be 'cpu' or 'cuda'",)),
]
OTHERS = [  # of other notebooks
    ("no-gammas", "32_mtad_sweep", b"32_mtad_sweep: {gammas: []}\n", ("gammas must name one at least",)),
    ("a-gamma-of-text", "32_mtad_sweep", b"32_mtad_sweep: {gammas: [a]}\n", ("an entry of gammas",)),
    ("half-a-gamma", "32_mtad_sweep", b"32_mtad_sweep: {gammas: [1.5]}\n", ("an entry of gammas",)),
    ("a-tau-twice", "32_mtad_sweep", b"32_mtad_sweep: {taus: [0.1, 0.1]}\n", ("taus must name 0.1 once",)),
    ("a-tau-above-1", "32_mtad_sweep", b"32_mtad_sweep: {taus: [3]}\n", ("tau", "3")),
    ("a-rho-of-1", "21_tolerator_split", b"21_tolerator_split: {rhos: [1.0]}\n", ("rho", "1.0")),
    ("a-draft-that-is-none", "30_mtad_scores", b"30_mtad_scores: {draft: study}\n", ("'study'", "known")),
    ("an-unknown-method", "30_mtad_scores", b"30_mtad_scores: {methods: [mtad2]}\n", ("mtad2",)),
    ("no-heads", "10_autodeco_scores", b"10_autodeco_scores: {heads: study-ar}\n", ("study-ar has no heads",)),
    ("heads-of-no-model", "10_autodeco_scores", b"10_autodeco_scores: {heads: none}\n", ("'none'", "known")),
    ("an-unknown-budget", "23_tolerator_eot", b"23_tolerator_eot: {budget: half}\n", ("'half'", "middle")),
    ("a-negative-lambda", "23_tolerator_eot", b"23_tolerator_eot: {lambdas: [-1.0]}\n", ("lambda", "-1.0")),
    ("an-unknown-rule", "36_mtad_tau", b"36_mtad_tau: {rule: best}\n", ("rule must be one of",)),
    (
        "no-validation-items",
        "12_autodeco_sweep",
        b"12_autodeco_sweep: {validation_items: 0}\n",
        ("validation_items",),
    ),
]
