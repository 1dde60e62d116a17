"""Models whose weights are not committed: what is known of them without, and what their training writes."""

import json
from dataclasses import replace

import pytest
import torch

from lib.errors import UserError
from lib.models import registry, trend
from lib.models.fingerprints import own_fingerprint
from lib.models.registry import MODELS, describe, load
from lib.models.study import build_model, build_tokenizer
from lib.reporting.cards import card_texts
from lib.reporting.effort import size_of
from lib.training.study import __main__ as command
from lib.training.study.loop import save_weights
from lib.training.study.recipe import TREND

NAME, KEPT = "dlm-2m", ("dlm-2m@300", "dlm-2m@1000", "dlm-2m@3000")


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A training of the trend with the smallest network, exported: its folder, and the networks by name."""
    checkpoints, training = tmp_path / "results" / "checkpoints", tmp_path / "training"
    monkeypatch.setattr(registry, "CHECKPOINTS", checkpoints)
    monkeypatch.setattr(command, "CHECKPOINTS", checkpoints)
    monkeypatch.setattr(command, "TRAINING", training)
    monkeypatch.setattr(trend, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setitem(command.TREND, NAME, replace(TREND[NAME], shape="draft"))
    build_tokenizer(["What is 12 + 3?\n", "def f(x):\n"]).save_pretrained(checkpoints / "tokenizer")
    (training / NAME).mkdir(parents=True)
    (training / NAME / "curve.jsonl").write_text('{"step": 10, "loss": 2.5, "learning_rate": 0.1}\n')
    networks = {}
    for seed, name in enumerate((*KEPT, NAME)):
        torch.manual_seed(seed)
        networks[name] = build_model("draft")
        file = f"step-{name.partition('@')[2]}" if "@" in name else "model"
        save_weights(networks[name], training / NAME / f"{file}.safetensors")
    assert command.main(["--export", NAME]) == 0
    return checkpoints, networks


def test_the_registry_has_every_training_of_the_recipes_and_what_it_keeps():
    named = {run: recipe.kept for run, recipe in TREND.items()}
    assert named == {run: steps for run, (_, steps) in trend.TRAININGS.items()}
    objectives = {"study-ar": "next_token", "study-dlm": "masked_diffusion"}
    assert all(TREND[run].objective == objectives[family] for run, (family, _) in trend.TRAININGS.items())
    assert {"dlm-20m", "dlm-20m@300"} <= {entry.name for entry in MODELS.values() if entry.tier == "trend"}
    assert size_of("dlm-20m@300") == size_of("dlm-20m")
    for name in ("dlm-2m", "dlm-6m-1", "dlm-20m"):
        assert size_of(name).parameters == sum(p.numel() for p in build_model(TREND[name].shape).parameters())


def test_each_kept_step_loads_as_a_model_of_its_own(exported):
    _, networks = exported
    prints = {describe(name)[1] for name in networks}
    assert len(prints) == 4
    for name, network in networks.items():
        wanted = network.model.embed_tokens.weight.detach().bfloat16().float()
        assert torch.equal(load(name).network.model.embed_tokens.weight, wanted), name
        assert load(name).family.mask_id is not None


def test_the_fingerprint_needs_no_weights_and_loading_names_the_cure(exported):
    checkpoints, networks = exported
    before = {name: describe(name) for name in networks}
    (trend.WEIGHTS / KEPT[0] / "model.safetensors").unlink()
    assert {name: describe(name) for name in networks} == before
    with pytest.raises(UserError, match=r"not committed and not at .*`python -m lib.training.study --fast dlm-2m`"):
        load(KEPT[0])
    assert load(KEPT[1])


def test_other_weights_are_refused_and_another_record_is_another_model(exported):
    checkpoints, networks = exported
    before = describe(NAME)[1]
    save_weights(networks[KEPT[0]], trend.WEIGHTS / NAME / "model.safetensors")
    with pytest.raises(UserError, match="does not hold the weights that .*weights.json names"):
        load(NAME)
    record = checkpoints / NAME / "weights.json"
    found = json.loads(record.read_text())
    record.write_text(json.dumps(found | {NAME: found[NAME] | {"sha256": found[KEPT[0]]["sha256"]}}))
    assert describe(NAME)[1] == describe(KEPT[0])[1] != before
    assert load(NAME)
    for damaged, words in (("{}", "has no dlm-2m"), ("[", "is not JSON"), ('{"dlm-2m": {"sha256": "x"}}', "sha256")):
        record.write_text(damaged)
        with pytest.raises(UserError, match=words):
            describe(NAME)
    record.unlink()
    with pytest.raises(UserError, match="cannot be read .*--fast dlm-2m` makes it"):
        load(NAME)


def test_config_and_tokenizer_decide_too(exported):
    checkpoints, _ = exported
    seen = {own_fingerprint(MODELS[NAME], checkpoints)}
    for file in (f"{NAME}/config.json", "tokenizer/tokenizer.json"):
        path = checkpoints / file
        path.write_bytes(path.read_bytes() + b" ")
        seen.add(own_fingerprint(MODELS[NAME], checkpoints))
    assert len(seen) == 3


def test_one_card_for_a_training_that_says_where_its_weights_are(exported):
    checkpoints, networks = exported
    texts = card_texts(checkpoints.parent, {}, {})
    assert [path.parent.name for path in texts] == [NAME]
    (text,) = texts.values()
    parameters = sum(p.numel() for p in networks[NAME].parameters())
    assert f"{parameters:,} parameters" in text and "masked diffusion" in text
    assert "`weights.json` holds their hashes" in text and text == (checkpoints / NAME / "README.md").read_text()
    assert not list(checkpoints.rglob("*.safetensors"))


def test_a_step_that_was_not_kept_is_no_export(exported, capsys):
    (command.TRAINING / NAME / "step-300.safetensors").unlink()
    assert command.main(["--export", NAME]) == 1
    assert "step-300.safetensors, which the recipe of dlm-2m keeps, is missing" in capsys.readouterr().err


def test_committed_weights_serve_where_none_were_made_and_never_hide_those_that_were(exported):
    checkpoints, networks = exported
    made = trend.WEIGHTS / NAME / "model.safetensors"
    committed = trend.committed_at(NAME, checkpoints / NAME)
    made.rename(committed)
    assert torch.equal(load(NAME).network.lm_head.weight, networks[NAME].bfloat16().float().lm_head.weight)
    committed.rename(made)
    save_weights(build_model("draft"), committed)  # of an earlier training
    assert trend.weights_of(MODELS[NAME], checkpoints) == made
