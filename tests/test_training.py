"""Training: the loss is the published one, a killed run goes on where it was, batches are a function of the step."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from lib.decoding.bidirectional import bidirectional_mask, canvas_logits
from lib.errors import UserError
from lib.models.registry import FAMILIES
from lib.models.study import SHAPES, build_model, build_tokenizer
from lib.paths import CHECKPOINTS
from lib.training.state import save_state
from lib.training.study import __main__ as command
from lib.training.study import data, loop
from lib.training.study.data import Batch, Example, collate, order, packed
from lib.training.study.objectives import (
    _draws,
    distillation,
    logits_of,
    masked_diffusion,
    next_token,
    token_losses,
)
from lib.training.study.recipe import RECIPES, TREND, Recipe, same_recipe

ROWS = [
    Example(np.array(prompt), np.array(response), 6)
    for prompt, response in (([5, 6, 7], [8, 9, 0]), ([5], [10, 0]), ([6, 7], [11, 12, 13, 0]))
]


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


def batch_of(rows, full_canvas, width=16, **more):
    return collate(rows, pad=0, full_canvas=full_canvas, width=width, **more)


def alone(row):
    """One sequence in a batch of its own, on its full canvas."""
    return batch_of([row], True, width=row.length(True))


def test_next_token_loss_counts_the_response_alone_and_packing_changes_nothing():
    model = small()
    losses, count = 0.0, 0
    for row in ROWS:
        ids = torch.tensor([[*row.prompt, *row.response]])
        logits = model(ids).logits[0, len(row.prompt) - 1 : -1]
        losses += F.cross_entropy(logits, torch.tensor(row.response), reduction="sum")
        count += len(row.response)
    for width, at_least in ((6, 0), (9, 0), (16, 0), (40, 3)):
        batch = batch_of(ROWS, False, width, at_least=at_least)
        assert next_token(model, batch).item() == pytest.approx((losses / count).item(), abs=1e-5)
        assert batch.response.sum() == count == 9 and len(batch.input_ids) >= at_least


def by_hand(model, batch, masked, t):
    """(1/N) sum over sequences and masked positions of CE / t, one sequence at a time by the decoder's forward."""
    total, canvas = 0.0, 0
    for r, number in {(r, int(d)) for r, row in enumerate(batch.document) for d in row if d}:
        at = (batch.document[r] == number).nonzero()[:, 0]
        ids, hidden, wanted = batch.input_ids[r, at], masked[r, at], batch.response[r, at]
        noisy = ids.masked_fill(hidden, 1)[None]
        family = FAMILIES["study-dlm"]
        logits = canvas_logits(model, noisy, torch.ones_like(noisy), wanted[wanted][None], family)
        losses = F.cross_entropy(logits, ids[wanted], reduction="none")
        total += (losses * hidden[wanted] / t[r, at][wanted]).sum()
        canvas += int(wanted.sum())
    return (total / canvas).item()


def times(batch, generator):
    last = torch.cat([torch.zeros(1).long(), batch.document.amax(-1).cumsum(0)[:-1]])
    number = batch.document + last[:, None]
    return 0.02 + 0.98 * ((number * 0.6180339887498949 + torch.rand((), generator=generator)) % 1)


@pytest.mark.parametrize("width", [9, 16, 30])
def test_masked_diffusion_loss_equals_its_formula_and_sees_both_sides(width):
    model, batch = small(), batch_of(ROWS * 3, True, width)
    loss = masked_diffusion(model, batch, mask_id=1, eot_id=0, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    t = times(batch, generator)
    torch.rand(t.shape, generator=generator)
    masked = (torch.rand(t.shape, generator=generator) < t) & batch.response
    assert loss.item() == pytest.approx(by_hand(model, batch, masked, t), rel=1e-5)


def test_times_are_spread_evenly_over_a_batch():
    t = torch.sort(times(batch_of(ROWS * 40, True), torch.Generator().manual_seed(0)).unique()).values
    assert len(t) >= 120 and (t[1:] - t[:-1]).max() < 3 / 120 and t[0] < 0.05 and t[-1] > 0.97


def test_the_canvas_is_padded_with_eot_and_counted():
    batch = alone(ROWS[1])
    assert batch.input_ids.tolist() == [[5, 10, 0, 0, 0, 0, 0]]
    assert batch.left.tolist() == [[0, 6, 5, 4, 3, 2, 1]] and batch.length.tolist() == [[0] + [6] * 6]


def test_packing_wastes_little_and_loses_nothing():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 180, 192).tolist()
    rows = packed(lengths, 256)
    assert sorted(i for row in rows for i in row) == list(range(192))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 256
    assert sum(lengths) / (256 * len(rows)) > 0.95
    firsts = [i for row in rows[: len(rows) // 2] for i in row]
    assert np.mean([lengths[i] for i in firsts]) == pytest.approx(np.mean(lengths), rel=0.2)


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
    batch = batch_of(ROWS, False)
    assert distillation(small(), batch, teacher=small()).item() == pytest.approx(0, abs=1e-6)
    assert distillation(small(), batch, teacher=small(1)).item() > 1e-4


def test_batches_depend_on_seed_and_epoch_and_cover_each_sequence_once():
    rows = ROWS * 20
    assert order(rows, 8, 0, 0) == order(rows, 8, 0, 0) != order(rows, 8, 0, 1)
    indices = [i for batch in order(rows, 8, 0, 0) for i in batch]
    assert len(indices) == len(set(indices)) == 56


def test_learning_rate_rises_holds_and_falls_to_zero():
    recipe = Recipe("study-ar", "next_token", steps=1000, learning_rate=1.0, warmup=100)
    assert recipe.rate(0) == 0.01 and recipe.rate(99) == recipe.rate(599) == 1.0
    assert recipe.rate(800) == pytest.approx(0.5) and recipe.rate(999) < 0.01


@pytest.fixture
def tiny_training(monkeypatch, tmp_path):
    """A real run of the loop on few sequences with a network of one layer."""
    monkeypatch.setitem(SHAPES, "6m", SHAPES["draft"] | {"num_hidden_layers": 1, "hidden_size": 32})
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    monkeypatch.setattr(data, "DRAWN", tmp_path / "drawn")
    tokenizer = build_tokenizer(data.texts(30))
    recipe = replace(RECIPES["study-ar"], steps=30, batch_size=8, warmup=4, sequences=64)
    return tokenizer, recipe


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_fast_training_resumed_in_a_later_epoch_equals_the_uninterrupted(tiny_training, tmp_path, monkeypatch):
    """Rows are added for one shape of all batches, and draws depend on the shape: it must be that of the epoch."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    tokenizer, recipe = tiny_training
    recipe = replace(recipe, objective="masked_diffusion", sequences=33, batch_size=8, steps=20)
    epochs = []

    def most_rows(rows, batches, full_canvas):  # fewer from epoch to epoch
        if batches not in epochs:
            epochs.append(batches)
        return 9 - epochs.index(batches)

    monkeypatch.setattr(loop, "most_rows", most_rows)
    whole = loop.train(recipe, tokenizer, tmp_path / "whole", load=None, fast=True)
    assert len(epochs) == 5
    real = loop._save

    def kill_after_step_10(*arguments):
        real(*arguments)
        if arguments[4] == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", kill_after_step_10)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tokenizer, tmp_path / "killed", load=None, fast=True)
    resumed = loop.train(recipe, tokenizer, tmp_path / "killed", load=None, fast=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.slow
def test_a_state_of_another_recipe_is_refused(tiny_training, tmp_path):
    tokenizer, recipe = tiny_training
    loop.train(replace(recipe, steps=10), tokenizer, tmp_path, load=None)
    with pytest.raises(UserError, match="another recipe"):
        loop.train(recipe, tokenizer, tmp_path, load=None)


def test_study_models_have_the_sizes_that_are_claimed():
    sizes = {name: sum(p.numel() for p in build_model(name).parameters()) for name in SHAPES}
    for name in ("2m", "6m", "20m"):
        assert sizes[name] == pytest.approx(float(name[:-1]) * 1e6, rel=0.17), name
    assert 0.08 < sizes["draft"] / sizes["6m"] < 0.13
    for name in RECIPES | TREND:
        assert (RECIPES | TREND)[name].shape in SHAPES, name


def test_the_committed_weights_are_of_the_recipes_of_today():
    for name in (RECIPES | TREND).keys() & {path.name for path in CHECKPOINTS.iterdir()}:
        stored = json.loads((CHECKPOINTS / name / "recipe.json").read_text())
        assert same_recipe(stored, (RECIPES | TREND)[name]), name
        assert not same_recipe(stored | {"seed": 9}, (RECIPES | TREND)[name])


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
    monkeypatch.setattr(command, "tokenizer", lambda: None)
    assert command.main([]) == 0 and trained == list(RECIPES)
    assert command.main(["study-draft"]) == 0 and trained[len(RECIPES) :] == ["study-draft"]
    assert command.main(["study-draft", "study-xl"]) == 1 and len(trained) == len(RECIPES) + 1
    words = f"error: there is no recipe 'study-xl'; known: {', '.join(RECIPES | TREND)}\n"
    assert capsys.readouterr().err == words


def test_half_trained_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "TRAINING", tmp_path)
    (tmp_path / "study-draft").mkdir()
    recipe = asdict(RECIPES["study-draft"])
    for state in ({"recipe": recipe, "step": 10}, {"recipe": recipe | {"seed": 9}, "step": recipe["steps"]}):
        save_state({**state, "model": build_model("draft").state_dict()}, tmp_path / "study-draft" / "state.pt")
        with pytest.raises(UserError, match="finish it"):
            command.trained("study-draft")


def test_suffixes_mask_the_end_of_the_canvas_with_the_same_weight():
    """With every sequence a suffix one: the loss is that of the last ceil(t G) canvas positions, divided by t."""
    model, batch = small(), batch_of(ROWS * 2, True, 20)
    given = {"mask_id": 1, "eot_id": 0, "suffixes": 1.0}
    loss = masked_diffusion(model, batch, generator=torch.Generator().manual_seed(3), **given)
    t = times(batch, torch.Generator().manual_seed(3))
    masked = batch.response & (batch.left <= (t * 6).ceil())
    assert loss.item() == pytest.approx(by_hand(model, batch, masked, t), rel=1e-5)


def test_causal_rows_have_the_next_token_loss_up_to_the_first_eot():
    """Two rows of three: their loss without the padding of the canvas, plus the diffusion loss of the third."""
    model, given = small(), {"mask_id": 1, "eot_id": 0}
    batch = batch_of(ROWS, True, 9)
    loss = masked_diffusion(model, batch, generator=torch.Generator().manual_seed(3), causal=0.7, **given)
    generator = torch.Generator().manual_seed(3)
    t = times(batch, generator)
    torch.rand(t.shape, generator=generator)
    masked = (torch.rand(t.shape, generator=generator) < t) & batch.response
    causal = next_token(model, batch_of(ROWS[:2], False))
    third = Batch(*(tensor[2:] for tensor in vars(batch).values()))
    assert loss.item() == pytest.approx(causal.item() + by_hand(model, third, masked[2:], t[2:]), rel=1e-5)


def test_a_corrector_is_shown_its_own_draws_and_asked_for_every_token():
    """Half of the masked positions hold draws of the network, the law is the network's, and right tokens count."""
    model, shown = small(), []

    def losses(model, input_ids, *rest):
        shown.append(input_ids)
        return torch.ones(input_ids.shape[0], input_ids.shape[1] - 1)

    batch = batch_of(ROWS * 400, True, 9)
    given = {"mask_id": 1, "eot_id": 0, "losses": losses}
    loss = masked_diffusion(model, batch, generator=torch.Generator().manual_seed(3), corrected=1.0, **given)
    generator = torch.Generator().manual_seed(3)
    t = times(batch, generator)
    torch.rand(t.shape, generator=generator)
    masked = (torch.rand(t.shape, generator=generator) < t) & batch.response
    assert torch.equal(shown[0][~masked], batch.input_ids[~masked])
    still = (shown[0] == 1) & masked
    assert still.sum() / masked.sum() == pytest.approx(0.5 + 0.5 / 16, abs=0.03)
    weight = torch.where(masked, 1 / t, batch.response.float())
    assert loss.item() == pytest.approx((weight.sum() / batch.response.sum()).item(), rel=1e-4)
    # The first canvas position of the sequence [5] sees the same where all else is masked: draws against the law.
    model.lm_head.weight.data *= 20  # laws of neighbouring positions differ
    bare = alone(ROWS[1])
    noisy = bare.input_ids.masked_fill(bare.response, 1).repeat(4000, 1)
    seen = torch.ones(4000, 7, 7).bool()
    drawn = _draws(model, noisy, seen, bare.position.repeat(4000, 1), torch.Generator().manual_seed(0))
    law = logits_of(model, noisy[:1], seen[:1], bare.position)[0, 0].softmax(-1)
    assert torch.allclose(torch.bincount(drawn[:, 1], minlength=16) / 4000, law, atol=0.025)


@pytest.mark.slow
def test_a_compiled_step_has_the_loss_and_the_gradients_of_the_plain_one():
    batch, gradients, losses = batch_of(ROWS * 4, True, 16, at_least=8), [], []
    for each in (token_losses, torch.compile(token_losses, dynamic=False)):
        model, generator = small(), torch.Generator().manual_seed(3)
        given = {"mask_id": 1, "eot_id": 0, "causal": 0.4, "corrected": 0.5, "losses": each}
        loss = masked_diffusion(model, batch, generator=generator, **given)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and torch.allclose(*gradients, atol=1e-5)


@pytest.mark.slow
def test_a_fast_training_goes_down(tiny_training, tmp_path):
    tokenizer, recipe = tiny_training
    loop.train(recipe, tokenizer, tmp_path, load=None, fast=True)
    curve = [json.loads(line)["loss"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert len(curve) == 3 and curve[2] < curve[0]
