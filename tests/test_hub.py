"""Folders of custom_generate where there is no `lib`: the tokens of the library's own `decode`, or one clear line."""

import ast
import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace

import hub_child
import pytest
import torch
from conftest import heads
from hub_child import llada, llama, opt, prompts
from listeners import Streamer
from transformers import GenerationConfig
from transformers.dynamic_module_utils import check_imports

from lib.autodeco import AutoDecoForCausalLM
from lib.autodeco.decode import AutoDeco
from lib.decoders import DECODERS, decode
from lib.decoding.family import Family
from lib.errors import UserError
from lib.integrations import arguments, card, hub
from lib.integrations.heads import KEPT, with_heads
from lib.models.registry import FAMILIES
from lib.mtad import Mtad, Speculative
from lib.paths import ROOT
from lib.tolerator import Tolerator, Vanilla

AR = Family("model", eot_ids=(0,))
DREAM = Family("model", eot_ids=(0,), mask_id=1, shift=True, wide_mask=True)
LLADA = Family("model", eot_ids=(0,), mask_id=1, shift=False)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Every folder in `local`, two of them as the hub's cache has a repository, heads, and heads with an adapter."""
    place = tmp_path_factory.mktemp("hub")
    hub.main(["--into", str(place / "local")])
    for name in ("mtad", "autodeco"):
        repository = place / "cache" / f"models--someone--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(COMMIT)
        shutil.copytree(place / "local" / name, repository / "snapshots" / COMMIT)
    AutoDecoForCausalLM.from_base(llama(), heads()).save_pretrained(place / "heads")
    shutil.copytree(place / "heads", place / "adapter")
    (place / "adapter" / "adapter_config.json").write_text("{}")
    (place / "empty").mkdir()
    return place


@pytest.fixture(scope="module")
def said(place) -> dict:
    """What the child says of each case."""
    own = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "cache"), "HF_MODULES_CACHE": str(place / "modules")}
    done = subprocess.run(
        [sys.executable, "-I", hub_child.__file__, str(place / "local"), str(place / "heads")],
        cwd=place / "empty",
        env=os.environ | own | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ours(model, options, family=AR, repeat=1, **given) -> list:
    """The library's own tokens behind the prompts."""
    ids, mask = (x.repeat_interleave(repeat, 0) for x in prompts())
    out = decode(model, ids, options, generator=3, family=family, attention_mask=mask, **given)
    return torch.cat([ids, out.responses], -1).tolist()


@pytest.mark.slow
def test_there_is_no_library_in_the_child(said):
    assert said["lib"] is None and said["modules"] == []


@pytest.mark.slow
def test_folders_decode_as_the_library_does(said):
    pair = {"draft": llama(seed=1, layers=1)}
    mtad = ours(llama(), Mtad(12, tau=0.3), **pair)
    assert len(set(map(tuple, mtad))) == 4
    for case in ("mtad", "mtad from the hub", "a dict", "ids by name"):
        assert said[case] == mtad, case
    assert said["speculative"] == ours(opt(), Speculative(12, gamma=3), draft=opt(1))
    autodeco = ours(AutoDecoForCausalLM.from_base(llama(), heads()), AutoDeco(8))
    assert said["autodeco"] == said["heads of another package"] == autodeco
    vanilla = ours(llama(seed=4), Vanilla(canvas=8, steps=4), DREAM)
    assert said["vanilla"] == said["max_length"] == vanilla
    assert said["tolerator"] == ours(llada(), Tolerator(canvas=8, forwards=4), LLADA)
    assert said["greedy"] == ours(llama(), Mtad(8, tau=0.3, temperature=0.0), **pair)
    assert said["several"] == ours(llama(), Mtad(6, tau=0.3), repeat=2, **pair)


@pytest.mark.slow
def test_a_generation_config_is_read(said):
    options = Mtad(6, tau=0.3, temperature=0.7, top_k=5)
    ids, mask = prompts()
    family = replace(AR, eot_ids=(0, 5))
    given = {"draft": llama(seed=1, layers=1), "attention_mask": mask}
    own = decode(llama(), ids, options, generator=3, family=family, **given)
    places = torch.arange(6)
    sequences = torch.where(places == own.lengths[:, None], own.ends[:, None], own.responses)
    wanted = sequences.masked_fill(places > own.lengths[:, None], 2)
    assert [row[7:] for row in said["a config"]] == wanted.tolist()


@pytest.mark.slow
def test_without_a_seed_the_draws_are_torchs(said):
    again, moved = said["torch's generator"]
    assert again and not moved


@pytest.mark.slow
def test_a_streamer_is_given_the_text(said):
    streamed, row, ended = said["streamed"]
    assert ended and streamed[: len(row)] == row


@pytest.mark.slow
def test_a_model_stays_as_it_was(said):
    training, learning, has_heads = said["as it was"]
    assert training and learning and not has_heads


@pytest.mark.parametrize(
    ("case", "line"),
    {
        "taau": "Mtad has no argument 'taau': did you mean tau?",
        "frobnicate": "Mtad has no argument 'frobnicate': it has max_new_tokens, .*, seed, generator, and those",
        "tau=2": r"Mtad.tau must be in \[0, 1\], not 2.0",
        "no draft": "give assistant_model",
        "a draft": "Vanilla does nothing with assistant_model of generate: leave it out",
        "no heads": "give heads, a folder or a hub id",
        "other base": "of another base .* pass check_base=False",
        "adapter": "came with an adapter",
        "no mask": "give mask_id",
        "no shift": r"give shift=True .*\(Dream\), or shift=False .*\(LLaDA\)",
        "two sources": "seed and generator",
        "greedy and hot": "do_sample=False takes the likeliest, and temperature=0.7 draws: leave one out",
        "drawn and cold": "do_sample=True draws, and temperature=0",
        "two lengths": "max_length and max_new_tokens",
        "two canvases": "canvas=8 and 9 new tokens",
        "no room": "max_length=7 leaves no room behind a prompt of 7 tokens",
        "no end": "give eos_token_id",
        "penalty": "pass repetition_penalty=1.0",
        "processor": "RepetitionPenaltyLogitsProcessor",
        "prefix": "prefix_allowed_tokens_fn of generate: leave it out",
        "two tokenizers": "assistant_tokenizer of generate: .* assisted generation of transformers",
        "config": "must be a GenerationConfig",
    }.items(),
    ids=str,
)
@pytest.mark.slow
def test_what_cannot_be_done_is_one_line(said, case, line):
    found = said[f"bad: {case}"]
    assert re.match(rf"UserError: .*{line}", found) and "\n" not in found, found


@pytest.mark.slow
@pytest.mark.parametrize("name", hub.METHODS)
def test_the_example_of_a_card_runs(said, name):
    found = said[f"example: {name}"]
    assert isinstance(found, list) and len(found) in (8, 48), found


@pytest.mark.parametrize("name", hub.METHODS)
def test_a_folder_stands_by_itself(place, name):
    code = place / "local" / name / "custom_generate"
    for path in code.glob("*.py"):
        check_imports(path)
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Import) or not any(a.name.split(".")[0] == "lib" for a in node.names), (
                path
            )
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or node.level == 0 and node.module.split(".")[0] != "lib", path
                assert node.level == 0 or (code / f"{node.module}.py").exists(), path
    assert {path.name for path in code.parent.iterdir()} == {"custom_generate", "README.md", "LICENSE"}
    assert len(list(code.glob("*.py"))) < 40 and len((code / "generate.py").read_text().splitlines()) < 80


@pytest.mark.parametrize("name", hub.METHODS)
def test_a_card_has_every_argument(place, name):
    text = (place / "local" / name / "README.md").read_text()
    assert re.match(
        r"---\n(.*\n)*library_name: transformers\n(.*\n)*license: mit\n(.*\n)*- custom_generate\n---\n", text
    )
    for field in fields(DECODERS[name].options):
        (row,) = re.findall(rf"^\| `{field.name}` \| `(.*)` \| (.+) \|$", text, re.M)
        assert row[0] == repr(field.default) and len(row[1]) > 5
    besides = {"seed", "generator"} | {"mtad": {"assistant_model"}, "speculative": {"assistant_model"}, "autodeco":
               {"heads", "check_base"}}.get(name, set(arguments.MASK))  # fmt: skip
    assert (
        set(re.findall(r"^\| `(\w+)` \| [^`\n]*(?:`[^`\n]*`[^`\n]*)*\|", text.split("| besides |")[1], re.M))
        == besides
    )
    for paper in hub.METHODS[name].papers:
        assert f"https://arxiv.org/abs/{paper}" in text
    for report in re.findall(r"`(results/[^`]+)`", text):
        assert (ROOT / report).exists()


def test_an_option_that_no_docstring_explains_is_refused():
    @dataclass(frozen=True)
    class Bare(Mtad):
        """Nothing of it."""

        frobnicated: int = 1

    with pytest.raises(UserError, match="Bare does not say what frobnicated is"):
        list(card._option_rows(Bare))


def test_meanings_are_read_off_docstrings():
    text = (
        "A head line.\n\none: of Miao et al. 2024. More\n    of it.\ntwo, three: of both. four is seen.\n\nAll else."
    )
    entries, mentions = card.sentences(text, ["one", "two", "three", "four"])
    assert entries == {
        "one": "of Miao et al. 2024. More of it.",
        "two": "of both. four is seen.",
        "three": "of both. four is seen.",
    }
    assert mentions == {"four": "four is seen."}


def test_any_decoder_is_a_line(tmp_path, monkeypatch):
    method = card.Method("autoregressive", "Sampling", "One token after another.", ("1904.09751",))
    monkeypatch.setitem(hub.METHODS, method.name, method)
    folder = hub.build(method.name, tmp_path / "sampling")
    assert "run(Autoregressive, model" in (folder / "custom_generate" / "generate.py").read_text()
    with pytest.raises(UserError, match="no method for the hub 'mtda'"):
        hub.main(["mtda", "--into", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["sampling"]


def test_what_a_user_has_in_a_folder_stays(tmp_path):
    folder = tmp_path / "mtad"
    for file in (".git/HEAD", "notes/mine.txt", "README.md", "custom_generate/old.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("mine")
    hub.main(["mtad", "--into", str(tmp_path)])
    assert (folder / ".git" / "HEAD").read_text() == (folder / "notes" / "mine.txt").read_text() == "mine"
    assert "MTAD" in (folder / "README.md").read_text() and not (folder / "custom_generate" / "old.py").exists()
    hub.check(folder / "custom_generate")
    assert [path.name for path in tmp_path.iterdir()] == ["mtad"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `apart` of modules by name, as if it were the library."""

    def write(**modules):
        folder = tmp_path / "apart"
        folder.mkdir(exist_ok=True)
        for name, text in ({"__init__": ""} | modules).items():
            (folder / f"{name}.py").write_text(text)
        return folder

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hub, "PACKAGE", "apart")
    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "apart"]:
        del sys.modules[name]


def test_a_closure_is_read_off_the_imports(package):
    folder = package(
        a='"""from apart.nowhere import x"""\nfrom apart.b import (\n    one,\n    two,\n)\n',
        b="def one():\n    from apart.c import three\n    import peft\n    from torch import nn\ntwo = 2\n",
        c="three = 3\n",
        d="",
    )
    found = hub.closure(["apart.a"])
    assert list(found) == ["apart.a", "apart.b", "apart.c"]
    assert hub.rewritten(folder / "a.py", set()).startswith(
        '"""from apart.nowhere import x"""\nfrom .b import (\n    one'
    )
    text = hub.rewritten(folder / "b.py", {"torch"})
    assert (
        "    from .c import three\n    try:\n        import peft\n    finally:" in text
        and "try" not in text.split("nn")[1]
    )
    assert ast.unparse(ast.parse(text).body[0].body[2]) == "from torch import nn"
    assert set(hub.packages(found, ["torch>=2", "numpy>=2.0,<3", "transformers>=5.1,<5.9", "peft>=1"]).values()) == {
        "torch>=2", "numpy>=2.0", "transformers>=5.1\ntransformers<5.9"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [("import apart.b\n", "write `from apart.x import y`"), ("from apart import b\n", "import what is used from b")],
)
def test_an_import_that_transformers_would_not_follow_is_refused(package, text, line):
    package(a=text, b="")
    with pytest.raises(UserError, match=line):
        hub.closure(["apart.a"])


def test_a_package_that_nobody_names_is_refused(package):
    package(a="import pandas\nimport huggingface_hub\n")
    with pytest.raises(UserError, match="would import pandas, which"):
        hub.packages(hub.closure(["apart.a"]), ["torch>=2", "numpy>=2", "transformers>=5"])


def test_a_folder_that_transformers_would_not_fetch_whole_is_refused(place, tmp_path):
    code = shutil.copytree(place / "local" / "vanilla" / "custom_generate", tmp_path / "code")
    (code / "stray.py").write_text("")
    with pytest.raises(UserError, match="stray.py"):
        hub.check(code)
    (code / "stray.py").unlink()
    with (code / "errors.py").open("a") as file:
        file.write("import pandas\nimport safetensors\n")
    with pytest.raises(UserError, match="errors.py imports pandas, which"):
        hub.check(code)


@pytest.mark.parametrize("name", arguments.KNOWN)
def test_what_is_known_of_a_model_type_is_the_registrys(name):
    known = FAMILIES[name]
    config = SimpleNamespace(model_type=name.title(), mask_token_id=known.mask_id, eos_token_id=known.eot_ids[0])

    class Model:
        def __init__(self):
            self.config, self.generation_config = config, GenerationConfig()

        def forward(self, input_ids, position_ids):
            pass

    def family(**given):
        return arguments._family(Model(), GenerationConfig(**given), dict.fromkeys(arguments.MASK), masked=True)

    assert family() == replace(known, name="model") and family(eos_token_id=7).eot_ids == (7,)
    assert family(eos_token_id=known.eot_ids[1]).eot_ids == known.eot_ids[1:]
    config.eos_token_id = 9  # of another vocabulary
    assert family().eot_ids == (9,)


def test_a_config_counts_whole_and_of_the_models_own_the_length(place, monkeypatch):
    """As a model of the hub ships them: what it says of drawing is not the method's."""
    made, run = [], arguments.custom_generate

    def custom_generate(options, *given, **more):
        made.append(options)
        return run(options, *given, **more)

    monkeypatch.setattr(arguments, "custom_generate", custom_generate)
    ids, mask = prompts()
    own = {"do_sample": True, "temperature": 0.6, "top_k": 5}

    def options(kind=Mtad, lengths={"max_new_tokens": 9}, **given):  # noqa: B006
        model = llama(mask_token_id=1, max_position_embeddings=128)
        model.generation_config.update(**own | lengths)
        more = {"shift": True, "steps": 4}
        if kind is Mtad:
            more = {"assistant_model": llama(seed=1, max_position_embeddings=128)}
        arguments.run(kind, model, ids, {"attention_mask": mask, "seed": 3} | more | given)
        return made[-1]

    assert options() == Mtad(9)
    assert options(lengths={"max_length": 15}) == Mtad(8)
    assert options(lengths={"max_new_tokens": 4, "max_length": 15}) == Mtad(4)
    assert options(lengths={"max_length": 20}).max_new_tokens == Mtad().max_new_tokens, "as `generate` reads it"
    for given in ({"max_new_tokens": 5}, {"max_length": 12}, {"generation_config": GenerationConfig(max_length=12)}):
        assert options(**given) == Mtad(5)
    explicit = GenerationConfig(max_new_tokens=9, **own)
    assert options(generation_config=explicit) == Mtad(9, temperature=0.6, top_k=5)
    assert options(generation_config=GenerationConfig(do_sample=False)) == Mtad(9, temperature=0.0)
    assert options(Vanilla).canvas == 9 and options(Vanilla, canvas=8).canvas == 8
    assert options(Vanilla, {"max_length": 15}).canvas == Vanilla().canvas


@pytest.mark.parametrize("given", [{"taau": 1}, {"tau": 2.0}, {"seed": 3, "generator": 4}, {"max_length": 2}])
def test_a_streamer_is_ended_once_whatever_is_refused(given):
    ids, mask = prompts()
    more = {"assistant_model": llama(seed=1, layers=1), "attention_mask": mask[:1], "max_new_tokens": 4}
    if "max_length" in given:
        more.pop("max_new_tokens")
    streamer = Streamer()
    with pytest.raises(UserError):
        arguments.run(Mtad, llama(), ids[:1], more | given | {"streamer": streamer})
    assert streamer.ended == 1
    streamer = Streamer()
    arguments.run(Mtad, llama(), ids[:1], {"max_new_tokens": 4} | more | {"streamer": streamer})
    assert streamer.ended == 1


def test_a_model_keeps_what_was_made_of_it_while_the_files_are_the_same(place, tmp_path):
    """A compiled step is that of one network: another at each call would be compiled at each call."""
    folder, model = shutil.copytree(place / "heads", tmp_path / "heads"), llama()
    first = with_heads(model, str(folder))
    assert with_heads(model, str(folder)) is first and first.heads.temp_head is not None
    assert not copy.deepcopy(model).__dict__[KEPT]
    model.bfloat16()
    assert {p.dtype for p in with_heads(model, str(folder)).heads.parameters()} == {torch.bfloat16}
    os.utime(folder / "config.json", ns=(1, 1))
    assert with_heads(model, str(folder)) is not first and KEPT not in vars(with_heads(model, str(folder)))


def test_two_pairs_of_heads_are_refused():
    model = AutoDecoForCausalLM.from_base(llama(), heads())
    assert with_heads(model) is model
    with pytest.raises(UserError, match="has heads already"):
        with_heads(model, "somewhere")
    model = llama()
    model.heads = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="are not AutoDeco's"):
        with_heads(model)


@pytest.mark.parametrize(
    ("given", "line"), [("/nowhere/at/all", "is no folder here, and no id of the hub"), (3, "must be a folder")]
)
def test_heads_that_are_nowhere_are_a_line(given, line):
    with pytest.raises(UserError, match=line) as error:
        with_heads(llama(), given)
    assert "\n" not in str(error.value)
