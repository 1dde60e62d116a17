"""AutoDeco's training: losses by hand, what heads learn, commands, the adapter."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import AR, CONFIG, heads, tiny

from lib.autodeco import AutoDecoForCausalLM, Heads
from lib.autodeco.decode import AutoDeco
from lib.autodeco.peers.entropy import EntropyTemperature
from lib.decoding.distributions import warp
from lib.errors import UserError
from lib.models.registry import Model
from lib.training.autodeco.adapter import Adapter, train_adapter
from lib.training.autodeco.commands import (
    HELD_OUT_HIGH,
    HELD_OUT_LOW,
    HELD_OUT_NEUTRAL,
    HIGH,
    LOW,
    NEUTRAL,
    NO_RANDOMNESS,
    NONE,
)
from lib.training.autodeco.control import (
    Commanded,
    Control,
    command_loss,
    commands_of,
    question_of,
    ranking_loss,
    said,
    train_control,
)
from lib.training.autodeco.hidden_states import States, states_of
from lib.training.autodeco.loop import logits_of, train_heads
from lib.training.autodeco.recipe import Recipe
from lib.training.autodeco.soft import objective, soft_top_p
from lib.training.optimise import optimise


def test_soft_top_p_by_hand():
    probs = torch.tensor([0.1, 0.6, 0.05, 0.25])
    weights = [math.exp(-30 * max(0, c - 0.7)) for c in (0.6, 0.85, 0.95, 1.0)]
    by_hand = [p * w for p, w in zip((0.6, 0.25, 0.1, 0.05), weights, strict=True)]
    by_hand = [x / (sum(by_hand) + 1e-9) for x in by_hand]
    ours = soft_top_p(probs, torch.tensor(0.7))
    assert ours.tolist() == pytest.approx([by_hand[2], by_hand[0], by_hand[3], by_hand[1]], abs=1e-6)
    assert ours[1] == pytest.approx(0.995, abs=1e-3), "the crossing token is damped, which the hard nucleus keeps"
    assert (warp(probs.log(), 1.0, 0.7) > 0).tolist() == [False, True, False, True]


def test_soft_top_p_has_no_gradient_below_the_largest_probability():
    probs = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
    for value, dead in ((0.3, True), (0.55, True), (0.7, False), (0.9, False)):
        top_p = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        soft_top_p(probs, top_p)[1].log().backward()
        assert (abs(top_p.grad.item()) < 1e-3) == dead, value  # what is left is the epsilon
        step = 1e-5
        numeric = (
            soft_top_p(probs, torch.tensor(value + step).double())[1].log()
            - soft_top_p(probs, torch.tensor(value - step).double())[1].log()
        ) / (2 * step)
        assert top_p.grad.item() == pytest.approx(numeric.item(), rel=1e-2, abs=1e-3)


def test_objectives_by_hand():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    temperature, top_p, tokens = torch.tensor([0.5, 2.0]), torch.tensor([0.95, 0.97]), torch.tensor([0, 1])
    kept, weights = torch.tensor([False, True]), torch.tensor([0.3, 0.6])
    scaled = torch.softmax(logits / temperature[:, None], -1)
    soft = soft_top_p(scaled, top_p)
    soft_loss = [-math.log(soft[0, 0]), -math.log(soft[1, 1])]
    temp_loss = [-math.log(scaled[0, 0]), -math.log(scaled[1, 1])]
    given = (logits, temperature, top_p, tokens, kept, weights)
    assert objective("paper", *given).item() == pytest.approx(0.6 * soft_loss[1], rel=1e-4)
    both = (0.3 * soft_loss[0] + 0.6 * soft_loss[1]) / 2
    assert objective("code", *given).item() == pytest.approx(0.6 * temp_loss[1] + both, rel=1e-4)
    only = objective("code", *given, train=("temperature",)).item()
    assert only == pytest.approx(0.6 * temp_loss[1], rel=1e-4)
    plain = soft_top_p(torch.softmax(logits, -1), top_p)
    expected = (0.3 * -math.log(plain[0, 0]) + 0.6 * -math.log(plain[1, 1])) / 2
    assert objective("code", *given, train=("top_p",)).item() == pytest.approx(expected, rel=1e-4)


def states(n=4000, seed=0):
    """Positions whose best temperature depends on the first hidden number: sharp where it is large."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 32, generator=generator)
    unembedding = torch.nn.Linear(32, 12, bias=False)
    torch.manual_seed(1)
    torch.nn.init.normal_(unembedding.weight)
    unembedding.requires_grad_(False)
    scale = torch.where(hidden[:, :1] > 0, 3.0, 0.7)  # 1 / T of the distribution that the tokens follow
    tokens = torch.multinomial(torch.softmax(unembedding(hidden) * scale, -1), 1, generator=generator)[:, 0]
    return unembedding, States(hidden.half(), tokens)


def test_training_finds_the_temperatures_that_the_tokens_were_drawn_at(tmp_path):
    unembedding, data = states()
    recipe = Recipe(
        objective="paper",
        train=("temperature",),
        mask_easy=0.0,
        fine_tuning_weights=False,
        steps=400,
        batch=512,
        width=32,
    )
    trained, curve, _ = train_heads(unembedding, data, recipe, tmp_path)
    hidden = data.hidden.float()
    temperature = trained.temperature(hidden)
    sharp = hidden[:, 0] > 0.5
    blunt = hidden[:, 0] < -0.5
    assert temperature[sharp].mean() < 0.6 and temperature[blunt].mean() > 1.1
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize("name, other", [("temperature", "top_p_head"), ("top_p", "temp_head")])
def test_one_head_alone_leaves_the_other(tmp_path, name, other):
    unembedding, data = states(500)
    before, *_ = train_heads(unembedding, data, Recipe(train=(name,), steps=1, batch=64, width=16), tmp_path / "a")
    after, *_ = train_heads(unembedding, data, Recipe(train=(name,), steps=20, batch=64, width=16), tmp_path / "b")
    for key, value in after.state_dict().items():
        assert torch.equal(value, before.state_dict()[key]) == key.startswith(other), key
    hidden = data.hidden.float()
    found = dict(zip(("temperature", "top_p"), after(hidden, unembedding(hidden))[:2], strict=True))
    assert (found.pop(name) != 1).any() and (found.popitem()[1] == 1).all(), "without a head its setting is 1"


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    """What all trainings share: a random loss of the step, killed between two saved states."""

    class Killed(Exception):
        pass

    def run(name, kill_at=None, key="a"):
        torch.manual_seed(0)
        module = torch.nn.Linear(4, 1)
        module.bias.requires_grad_(False)

        def loss_at(step):
            if step == kill_at:
                raise Killed
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            return (module(x) - x.sum(-1, keepdim=True)).square().mean(), {"weight": module.weight.mean().item()}

        given = {"steps": 60, "learning_rate": 0.05, "path": tmp_path / name, "key": key, "every": 10}
        curve, _ = optimise(loss_at, {"module": module}, **given)
        return module, curve

    whole, curve = run("whole.pt")
    assert curve[-1]["loss"] < curve[0]["loss"] and [row["step"] for row in curve] == [10, 20, 30, 40, 50, 60]
    with pytest.raises(Killed):
        run("killed.pt", kill_at=45)
    resumed, same = run("killed.pt")
    assert torch.equal(whole.weight, resumed.weight) and curve == same
    with pytest.raises(UserError, match="another recipe"):
        run("killed.pt", key="b")


def test_a_finished_training_is_not_taken_for_another(tmp_path):
    unembedding, data = states(500)
    recipe = Recipe(steps=20, batch=64, width=16)
    first, curve, _ = train_heads(unembedding, data, recipe, tmp_path, held_out=data)
    again, same, _ = train_heads(unembedding, data, recipe, tmp_path, held_out=data)
    assert curve == same
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for other in ((data, Recipe(steps=21, batch=64, width=16)), (states(500, seed=1)[1], recipe)):
        with pytest.raises(UserError, match="another recipe or from other data"):
            train_heads(unembedding, *other, tmp_path)


def test_the_curve_has_the_loss_on_held_out_answers(tmp_path):
    unembedding, data = states(500)
    _, curve, _ = train_heads(unembedding, data, Recipe(steps=200, batch=64, width=16), tmp_path, held_out=data)
    assert [row["step"] for row in curve if "held_out" in row] == [100, 200]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Recipe(objective="both"), "paper, code"),
        (lambda: Recipe(train=("topp",)), "temperature, top_p"),
        (lambda: AutoDeco(temperature=-1), "0 or more"),
        (lambda: AutoDeco.of({"temprature": 1}), "no option 'temprature'"),
        (lambda: EntropyTemperature(base=1.0), r"in \(0, 1\)"),
    ],
)
def test_bad_options_name_their_range(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_the_ranking_loss_by_hand():
    plain, low, high = torch.tensor([0.5, 0.5]), torch.tensor([0.35, 0.48]), torch.tensor([0.7, 0.4])
    # First question: both beyond the margin. Second: 0.02 of 0.1 below, and 0.1 below where it should be 0.1 above.
    assert ranking_loss(plain, low, high, 0.1).item() == pytest.approx((0 + 0.08 + 0.2) / 2)


@pytest.mark.slow
def test_teaching_moves_the_means_the_way_of_the_commands(tmp_path):
    """A command is a shift of one hidden number; after teaching new questions follow it by about the margin.

    The plain ones and those behind a neutral sentence, a shift of another number, stay where they were.
    """
    unembedding, data = states(600)
    lengths = [6] * 100

    def behind(shift, place=5):
        hidden = data.hidden.clone().float()
        hidden[:, place] += shift
        return States(hidden.half(), data.tokens)

    parts = {"plain": data, "low": behind(-2.0), "high": behind(2.0), "neutral": behind(2.0, place=6)}
    control = Control(steps=200, questions=32)
    whole = Commanded(parts, question_of([[0] * n for n in lengths]), count=70)
    torch.manual_seed(0)
    heads = Heads(CONFIG)
    before = copy.deepcopy(heads)
    curve, _ = train_control(heads, unembedding, whole, Recipe(), control, tmp_path, watched=whole)

    def means(by):  # of questions 70 to 99, which were never drawn
        found = {}
        for name, part in parts.items():
            hidden = part.hidden[420:].float()
            found[name] = [value.view(30, 6).mean(1) for value in by(hidden, unembedding(hidden))[:2]]
        return found

    was, now = means(before), means(heads)
    for setting, margin in ((0, control.temperature_margin), (1, control.top_p_margin)):
        assert (now["high"][setting] > now["plain"][setting]).float().mean() > 0.9
        assert (now["low"][setting] < now["plain"][setting]).float().mean() > 0.9
        for name in ("plain", "neutral"):
            assert (now[name][setting] - was["plain"][setting]).abs().mean() < margin, name
    for row, setting in ((curve[19], "temperature"), (curve[-1], "top_p")):
        assert row[f"watched_{setting}_low"] < 0 < row[f"watched_{setting}_high"]
    assert not any(p.requires_grad for p in heads.parameters())
    # The top-p head was taught at the temperatures that the first phase ended with.
    first = torch.load(tmp_path / "control_temperature.pt", weights_only=True)["parameters"]
    assert torch.equal(first["temperature.mlp.0.weight"], heads.temp_head.mlp[0].weight)
    inputs = said(heads, unembedding, data).inputs
    hidden = data.hidden.float()
    assert torch.allclose(inputs[:, hidden.shape[1]], heads.temperature(hidden))
    assert torch.allclose(torch.sigmoid(heads.top_p_head(inputs)[:, 0]), heads(hidden, unembedding(hidden))[1])
    for lost in ((), ("top_p",), ("temperature", "top_p")):  # a kill after both phases, after the first, within it
        for setting in lost:
            (tmp_path / f"control_{setting}.pt").unlink()
        again = copy.deepcopy(before)
        found, _ = train_control(again, unembedding, whole, Recipe(), control, tmp_path, watched=whole)
        assert found == curve, lost
        assert all(torch.equal(p, q) for p, q in zip(again.parameters(), heads.parameters(), strict=True)), lost


def test_commands_are_taught_to_both_heads_or_none(tmp_path):
    unembedding, data = states(12)
    whole = Commanded({"plain": data}, question_of([[0] * 12]), count=1)
    one = Heads(replace(CONFIG, heads=("temperature",)))
    with pytest.raises(UserError, match="both are used"):
        train_control(one, unembedding, whole, Recipe(), Control(), tmp_path)


def test_held_out_sentences_are_held_out():
    everything = LOW + HIGH + NONE + NEUTRAL + HELD_OUT_LOW + HELD_OUT_HIGH + HELD_OUT_NEUTRAL + (NO_RANDOMNESS,)
    assert len(set(everything)) == len(everything)
    learned, watched = commands_of(Control(none=1.0)), commands_of(Control(none=1.0), watched=True)
    assert set(learned) == set(watched) == {"plain", "low", "high", "neutral", "none"}
    assert not any(set(learned[name]) & set(watched[name]) for name in learned if name != "plain")
    assert "none" not in commands_of(Control())


def test_the_loss_of_commands_by_hand():
    """Two questions, the first of two tokens: means are 0.6 and 0.6 before, then as written out."""
    places = torch.tensor([0, 0, 1])
    before = torch.tensor([0.5, 0.7, 0.6])
    control = Control(ranking=5.0, keep=3.0, none=2.0, temperature_margin=0.1, top_p_margin=0.05)
    found = {
        "plain": before + 0.01,  # 0.61, 0.61: moved by 0.01
        "low": torch.tensor([0.5, 0.5, 0.6]),  # 0.50, 0.60: the second is 0.01 below plain
        "high": torch.tensor([0.7, 0.9, 0.63]),  # 0.80, 0.63: the second is 0.02 above plain
        "neutral": torch.tensor([0.6, 0.6, 0.9]),  # 0.60, 0.90: moved by 0 and 0.3
    }

    def loss(setting):
        return float(command_loss(found, before, places, 2, control, setting))

    kept = 3.0 * (0.01 + (0 + 0.3) / 2)
    assert loss("temperature") == pytest.approx(5 * ((0.1 - 0.02) + (0.1 - 0.01)) / 2 + kept, abs=1e-6)
    assert loss("top_p") == pytest.approx(5 * ((0.05 - 0.02) + (0.05 - 0.01)) / 2 + kept, abs=1e-6)
    plain, found["none"] = loss("top_p"), torch.tensor([0.1, 0.3, 0.4])
    assert loss("top_p") == pytest.approx(plain), "only the temperature is asked to be none"
    expected = 5 * ((0.1 - 0.02) + (0.1 - 0.01)) / 2 + kept + 2 * (0.2 + 0.4) / 2
    assert loss("temperature") == pytest.approx(expected, abs=1e-6)


ADAPTER = Adapter(rank=4, steps=200, questions=6, learning_rate=1e-2)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A tiny base with heads and an adapter that were trained together, and the folder of both."""
    folder, model = tmp_path_factory.mktemp("adapted"), Model("tiny", tiny(), Letters(), AR)
    rows = [(f"question {i}\n", [5 + i % 20, 6, 7, 0]) for i in range(12)]
    trained, control = heads(), Control(none=1.0)
    network, curve, _ = train_adapter(model, trained, rows, Recipe(), control, ADAPTER, folder / "work")
    AutoDecoForCausalLM.from_base(tiny(), trained).save_pretrained(folder / "heads")
    network.save_pretrained(folder / "heads")
    return SimpleNamespace(folder=folder, network=network, heads=trained, curve=curve, rows=rows)


class Letters:
    """A tokenizer of single letters for a vocabulary of 24."""

    def encode(self, text, add_special_tokens=False):
        return [1 + ord(letter) % 23 for letter in text]


@pytest.mark.slow
def test_an_adapter_learns_what_no_randomness_means(adapted):
    last = adapted.curve[-1]
    plain, none, neutral = (last[f"temperature_{name}"] for name in ("plain", "none", "neutral"))
    assert plain + none < 0.9 * (plain + neutral), last
    assert not any("base_layer" in name and p.requires_grad for name, p in adapted.network.named_parameters())


def test_an_adapter_comes_back_merged(adapted, prompts):
    ids, mask = prompts
    loaded = AutoDecoForCausalLM.from_pretrained(adapted.folder / "heads", tiny())
    with torch.no_grad():
        ours = loaded(input_ids=ids, attention_mask=mask)
        trained = adapted.network(input_ids=ids, attention_mask=mask)
        plain = tiny()(input_ids=ids, attention_mask=mask)
    assert torch.allclose(ours.logits, trained.logits, atol=1e-4)
    assert not torch.allclose(ours.logits, plain.logits, atol=1e-2), "the adapter does nothing"
    with pytest.raises(UserError, match="adapter"):
        loaded.save_pretrained(adapted.folder / "again")
    with pytest.raises(UserError, match="another base"):
        AutoDecoForCausalLM.from_pretrained(adapted.folder / "heads", tiny(seed=1))


def test_adapter_training_goes_on_after_a_kill(adapted):
    """The saved state of a finished run is the run: nothing is trained again."""
    fresh = Model("tiny", tiny(), Letters(), AR)
    given = (adapted.rows, Recipe(), Control(none=1.0))
    again = heads(seed=9)
    network, curve, _ = train_adapter(fresh, again, *given, ADAPTER, adapted.folder / "work")
    assert curve == adapted.curve
    for key, value in again.state_dict().items():
        assert torch.equal(value, adapted.heads.state_dict()[key]), key
    with pytest.raises(UserError, match="another recipe"):
        train_adapter(fresh, again, *given, Adapter(rank=4, steps=31), adapted.folder / "work")


def test_heads_are_trained_in_float32_on_a_base_in_bfloat16(tmp_path):
    """States, unembedding, commands and adapter of a bfloat16 base; the heads keep float32 and are saved in it."""
    base = Model("tiny", tiny().bfloat16(), Letters(), AR)
    rows = [(f"question {i}\n", [5 + i % 20, 6, 7, 0]) for i in range(12)]
    data, unembedding = states_of(base, rows), base.network.get_output_embeddings()
    recipe = Recipe(steps=20, batch=64, width=16)
    trained, curve, _ = train_heads(unembedding, data, recipe, tmp_path)
    assert {p.dtype for p in trained.parameters()} == {torch.float32} and math.isfinite(curve[-1]["loss"])
    assert logits_of(unembedding, data.hidden[:3].float()).dtype == torch.float32
    whole = Commanded(dict.fromkeys(("plain", "low", "high", "neutral"), data), question_of([[0] * 4] * 12), count=12)
    train_control(trained, unembedding, whole, recipe, Control(steps=10, questions=4), tmp_path)
    train_adapter(base, trained, rows, recipe, Control(), Adapter(rank=2, steps=2, questions=3), tmp_path / "adapter")
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
