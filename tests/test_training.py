"""Training: the loss is the published one, a killed run goes on where it was, batches are a function of the step."""

import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from lib.decoding.bidirectional import bidirectional_mask, canvas_logits
from lib.errors import UserError
from lib.models.registry import FAMILIES
from lib.models.study import SHAPES, build_model, build_tokenizer
from lib.training.state import save_state
from lib.training.study import __main__ as command
from lib.training.study import data, loop
from lib.training.study.data import Batch, Example, by_length, collate, order
from lib.training.study.objectives import distillation, masked_diffusion, next_token
from lib.training.study.recipe import BED, RECIPES, Recipe

ROWS = [Example([5, 6, 7], [8, 9, 0], 6), Example([5], [10, 0], 6), Example([6, 7], [11, 12, 13, 0], 6)]


def small(seed=0):
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
        )
    )


def test_next_token_loss_counts_the_response_alone_and_padding_changes_nothing():
    model = small()
    losses, count = 0.0, 0
    for row in ROWS:
        ids = torch.tensor([row.prompt + row.response])
        logits = model(ids).logits[0, len(row.prompt) - 1 : -1]
        losses += F.cross_entropy(logits, torch.tensor(row.response), reduction="sum")
        count += len(row.response)
    batch = collate(ROWS, pad=0, full_canvas=False)
    assert next_token(model, batch).item() == pytest.approx((losses / count).item(), abs=1e-5)
    assert batch.response.sum() == count == 9


def test_masked_diffusion_loss_equals_its_formula_and_sees_both_sides():
    """(1/N) sum over rows and masked positions of CE / t, predicted one position to the left."""
    model, mask_id = small(), 1
    batch = collate(ROWS, pad=0, full_canvas=True)
    loss = masked_diffusion(model, batch, mask_id=mask_id, eot_id=0, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    t = (torch.arange(3) + torch.rand(3, generator=generator)) / 3
    t = 0.02 + 0.98 * t[torch.randperm(3, generator=generator)]
    masked = (torch.rand(batch.input_ids.shape, generator=generator) < t[:, None]) & batch.response
    total = 0.0
    for i, row in enumerate(ROWS):
        canvas = batch.input_ids[i, -6:]
        noisy = canvas.masked_fill(masked[i, -6:], mask_id)
        ids = torch.cat([torch.tensor(row.prompt), noisy])[None]
        logits = canvas_logits(model, ids, torch.ones_like(ids), torch.ones(1, 6).bool(), FAMILIES["study-dlm"])
        total += (F.cross_entropy(logits, canvas, reduction="none") * masked[i, -6:]).sum() / t[i]
    assert loss.item() == pytest.approx((total / 18).item(), rel=1e-5)


def test_the_canvas_is_padded_with_eot_and_counted():
    batch = collate(ROWS, pad=0, full_canvas=True)
    assert batch.response.sum(-1).tolist() == [6, 6, 6]
    assert batch.input_ids[1, -6:].tolist() == [10, 0, 0, 0, 0, 0]
    assert batch.attention_mask[1].tolist() == [0, 0, 1] + [1] * 6


def test_the_wide_mask_is_bidirectional():
    model = small()
    ids = torch.randint(3, 16, (1, 6))
    mask = torch.ones_like(ids)
    changed = ids.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 13 + 3
    first = [model(input_ids=x, attention_mask=bidirectional_mask(mask)).logits[0, 0] for x in (ids, changed)]
    causal = [model(input_ids=x, attention_mask=mask).logits[0, 0] for x in (ids, changed)]
    assert not torch.allclose(*first) and torch.equal(*causal)


def test_distillation_is_zero_for_the_same_model_and_positive_otherwise():
    batch = collate(ROWS, pad=0, full_canvas=False)
    assert distillation(small(), batch, teacher=small()).item() == pytest.approx(0, abs=1e-6)
    assert distillation(small(), batch, teacher=small(1)).item() > 1e-4


def test_batches_depend_on_seed_and_epoch_and_cover_each_sequence_once():
    rows = ROWS * 20
    assert order(rows, 8, 0, 0) == order(rows, 8, 0, 0) != order(rows, 8, 0, 1)
    indices = [i for batch in order(rows, 8, 0, 0) for i in batch]
    assert len(indices) == len(set(indices)) == 56
    parts = by_length(rows[:10], 4)
    assert sum(map(len, parts)) == 10 and len(parts) == 4


def test_learning_rate_rises_holds_and_falls_to_zero():
    recipe = Recipe("study-ar", "next_token", steps=1000, learning_rate=1.0, warmup=100)
    assert recipe.rate(0) == 0.01 and recipe.rate(99) == recipe.rate(599) == 1.0
    assert recipe.rate(800) == pytest.approx(0.5) and recipe.rate(999) < 0.01


@pytest.fixture
def tiny_training(monkeypatch):
    """A real run of the loop on few sequences with a network of one layer."""
    monkeypatch.setitem(SHAPES, "study-ar", SHAPES["study-draft"] | {"num_hidden_layers": 1, "hidden_size": 32})
    monkeypatch.setattr(loop, "SAVE_EVERY", 10)
    tokenizer = build_tokenizer(data.texts(30))
    recipe = replace(RECIPES["study-ar"], steps=30, batch_size=8, warmup=4, sequences=64)
    return tokenizer, recipe


def test_killed_and_resumed_equals_uninterrupted(tiny_training, tmp_path, monkeypatch):
    tokenizer, recipe = tiny_training
    whole = loop.train(recipe, tokenizer, tmp_path / "whole", load=None)
    saves = []
    real = loop._save

    def kill_after_the_second(*arguments):
        real(*arguments)
        saves.append(arguments)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", kill_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tokenizer, tmp_path / "killed", load=None)
    monkeypatch.setattr(loop, "_save", real)
    resumed = loop.train(recipe, tokenizer, tmp_path / "killed", load=None)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "whole" / "curve.jsonl").read_text() == (tmp_path / "killed" / "curve.jsonl").read_text()


def test_a_state_of_another_recipe_is_refused(tiny_training, tmp_path):
    tokenizer, recipe = tiny_training
    loop.train(replace(recipe, steps=10), tokenizer, tmp_path, load=None)
    with pytest.raises(UserError, match="another recipe"):
        loop.train(recipe, tokenizer, tmp_path, load=None)


def test_study_models_have_the_sizes_that_are_claimed():
    sizes = {name: sum(p.numel() for p in build_model(name).parameters()) for name in SHAPES}
    assert 5e6 < sizes["study-ar"] < 25e6 and sizes["study-dlm"] == sizes["study-ar"]
    assert 0.08 < sizes["study-draft"] / sizes["study-ar"] < 0.13


def test_tokenizer_splits_digits_and_keeps_text():
    tokenizer = build_tokenizer(data.texts(50))
    text = "Each of 1234 boxes holds 56 apples.\n    return x + 10"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert all(sum(c.isdigit() for c in token) <= 1 for token in tokenizer.convert_ids_to_tokens(ids))
    assert (tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 1)


def test_the_command_takes_names_and_refuses_others(monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(command, "train", lambda recipe, *_, **__: trained.append(recipe.name))
    monkeypatch.setattr(command, "export", lambda *_: None)
    monkeypatch.setattr(command, "tokenizer", lambda recipe: None)
    assert command.main([]) == 0 and trained == list(RECIPES)
    assert command.main(["study-draft"]) == 0 and trained[3:] == ["study-draft"]
    assert command.main(["study-draft", "study-xl"]) == 1 and len(trained) == 4
    words = f"error: there is no recipe 'study-xl'; known: {', '.join(RECIPES | BED)}\n"
    assert capsys.readouterr().err == words


def test_half_trained_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "TRAINING", tmp_path)
    (tmp_path / "study-draft").mkdir()
    recipe = asdict(RECIPES["study-draft"])
    for state in ({"recipe": recipe, "step": 10}, {"recipe": recipe | {"seed": 9}, "step": recipe["steps"]}):
        save_state({**state, "model": build_model("study-draft").state_dict()}, tmp_path / "study-draft" / "state.pt")
        with pytest.raises(UserError, match="finish it"):
            command.trained("study-draft")


def test_suffixes_mask_the_end_of_the_canvas_with_the_same_weight():
    """With every row a suffix row: the loss is that of the last ceil(t G) canvas positions, divided by t."""
    model = small()
    batch = collate(ROWS, pad=0, full_canvas=True)
    loss = masked_diffusion(
        model, batch, mask_id=1, eot_id=0, generator=torch.Generator().manual_seed(3), suffixes=1.0
    )
    generator = torch.Generator().manual_seed(3)
    t = (torch.arange(3) + torch.rand(3, generator=generator)) / 3
    t = 0.02 + 0.98 * t[torch.randperm(3, generator=generator)]
    total = 0.0
    for i, row in enumerate(ROWS):
        canvas, count = batch.input_ids[i, -6:], math.ceil(6 * t[i])
        noisy = torch.cat([canvas[: 6 - count], torch.ones(count, dtype=torch.long)])
        ids = torch.cat([torch.tensor(row.prompt), noisy])[None]
        logits = canvas_logits(model, ids, torch.ones_like(ids), torch.ones(1, 6).bool(), FAMILIES["study-dlm"])
        total += F.cross_entropy(logits[-count:], canvas[-count:], reduction="sum") / t[i]
    assert loss.item() == pytest.approx((total / 18).item(), rel=1e-5)


def test_causal_rows_have_the_next_token_loss_up_to_the_first_eot():
    """Two rows of three: their loss without the padding of the canvas, plus the diffusion loss of the third."""
    model, given = small(), {"mask_id": 1, "eot_id": 0}
    batch = collate(ROWS, pad=0, full_canvas=True)
    loss = masked_diffusion(model, batch, generator=torch.Generator().manual_seed(3), causal=0.7, **given)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(3, generator=generator).tolist()
    causal = next_token(model, collate([ROWS[i] for i in order[:2]], pad=0, full_canvas=False))
    third = Batch(*(tensor[order[2:]] for tensor in vars(batch).values()))
    diffusion = masked_diffusion(model, third, generator=generator, **given)
    assert loss.item() == pytest.approx((causal + diffusion).item(), rel=1e-5)


def test_stages_follow_each_other(tiny_training, tmp_path, monkeypatch):
    """The second stage begins at its step with its own mixture, from its first batch on."""
    asked = []
    real = data.examples
    monkeypatch.setattr(loop, "examples", lambda *args, **more: asked.append(args[2:] or more) or real(*args, **more))
    tokenizer, recipe = tiny_training
    loop.train(replace(recipe, stages=((0, "tasks"), (4, "drilled")), steps=8), tokenizer, tmp_path, load=None)
    assert asked[1:] == [("tasks",), ("drilled",)]
