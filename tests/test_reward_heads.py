"""Heads trained by reward: the gradient against enumeration, what heads learn where the best setting is known."""

import json
from dataclasses import replace

import pytest
import torch
from bigram import Bigram
from conftest import AR, tiny

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco
from lib.decoders import decode
from lib.decoding.distributions import warp
from lib.decoding.family import Family
from lib.errors import UserError
from lib.models.registry import MODELS, Model
from lib.tasks.base import Item, Score, Task
from lib.training.autodeco import __main__ as command
from lib.training.autodeco.hidden_states import states_of
from lib.training.autodeco.loop import train_heads
from lib.training.autodeco.policy import (
    Drawn,
    Policy,
    advantages,
    choices,
    log_policy,
    policy_loss,
    seen_by_top_p,
    tempered,
    token_log_probs,
)
from lib.training.autodeco.recipe import RECIPES, Recipe
from lib.training.autodeco.reward import REWARDS, Reward, draw_group, first_heads, train_by_reward

FEW = Policy(choices=3, farthest=2.0, spread=1.5)
FAMILY = Family("toy", eot_ids=(0,), chat=False)
# 0 ends. Behind 1 the base says 3 or 4, 3 to 2; behind 2 it says 3, and 4 one time in ten; then it ends.
TABLE = torch.full((5, 5), -12.0)
TABLE[1, 3], TABLE[1, 4] = torch.tensor([0.6, 0.4]).log()
TABLE[2, 3], TABLE[2, 4] = torch.tensor([0.9, 0.1]).log()
TABLE[3:, 0] = 0.0


class Digits:
    """A tokenizer: a token is its digit."""

    def encode(self, text, add_special_tokens=False):
        return [int(text[-1])]

    def decode(self, ids, skip_special_tokens=True):
        return "".join(map(str, ids))


def item(index: int) -> Item:
    """Two sorts of question: of the first the answer is 3 in 60 % and else 4, of the second it is 4."""
    kind, right = 1 + index % 2, "3" if index % 2 == 0 and index // 2 % 5 < 3 else "4"
    return Item(f"toy/{index}", str(kind), right, {"answer": right})


def stream(split: str):
    assert split == "train", "no other item is asked"
    yield from map(item, range(200))


TOY = Task("toy", "toy", "MIT", 2, stream, lambda item, text: Score(int(text == item.reference["answer"])))


@pytest.fixture
def toy():
    return Model("toy", Bigram(TABLE), Digits(), FAMILY)


def toy_heads(seed: int = 0, **changes) -> Heads:
    """Heads on five hidden numbers whose settings differ by state."""
    torch.manual_seed(seed)
    found = Heads(HeadsConfig(**{"hidden_size": 5, "width": 8} | changes))
    with torch.no_grad():
        for head in (found.temp_head, found.top_p_head):
            head.mlp[-1].weight *= 4
    return found


@torch.no_grad()
def mean_reward(made: Heads) -> float:
    """Exact, of decoding with these heads: half of the questions are of either sort."""
    logits = TABLE[1:3]
    temperature, top_p, _ = made(torch.eye(5)[1:3], logits)
    p = warp(logits, temperature, top_p)
    return float((0.6 * p[0, 3] + 0.4 * p[0, 4] + p[1, 4]) / 2)


def joint(made: Heads, policy: Policy) -> tuple:
    """For the states 1 and 2 and every token: the policy [2, K], [2, K, J], log p_kj [2, V, K, J], what is seen."""
    hidden, logits = torch.eye(5)[1:3], TABLE[1:3]
    temperatures, top_ps = choices(made, policy)
    scaled, probs = tempered(logits, temperatures)
    seen = seen_by_top_p(made, temperatures, scaled, probs)
    likely = torch.stack([token_log_probs(probs, top_ps, torch.full((2,), token)) for token in range(5)], 1)
    return (*log_policy(made, hidden, seen, policy), likely, seen)


def gradient(value: torch.Tensor, made: Heads) -> torch.Tensor:
    return torch.cat(
        [part.flatten() for part in torch.autograd.grad(value, list(made.parameters()), materialize_grads=True)]
    )


def exact_gradient(made: Heads, policy: Policy, state: int, reward: torch.Tensor) -> torch.Tensor:
    """Of the expected reward [V] of the first token behind a state."""
    log_t, log_p, likely, _ = joint(made, policy)
    chance = (log_t[state, :, None] + log_p[state] + likely[state]).exp().sum((-2, -1))  # [V]
    assert chance.sum().item() == pytest.approx(1, abs=1e-5)
    return gradient((chance * reward).sum(), made)


@pytest.mark.parametrize("used", [("temperature", "top_p"), ("temperature",), ("top_p",)], ids="-".join)
def test_chances_of_tokens_are_those_that_are_drawn_from(used):
    """Against the ordinary warp at every choice, on rows with ties, a ban and a peak."""
    rows = 2 * torch.randn(30, 11, generator=torch.Generator().manual_seed(1))
    rows[0], rows[1, :4], rows[2, 3], rows[3, 0] = 0.0, 1.0, -torch.inf, 60.0
    temperatures, top_ps = choices(toy_heads(heads=used), Policy())
    assert (len(temperatures) == 1) == ("temperature" not in used) and (len(top_ps) == 1) == ("top_p" not in used)
    assert max(temperatures) <= 2 and max(top_ps) <= 1 and min(temperatures) > 0.03
    _, probs = tempered(rows, temperatures)
    for token in range(11):
        found = token_log_probs(probs, top_ps, torch.full((30,), token)).exp()
        for k, temperature in enumerate(temperatures):
            for j, top_p in enumerate(top_ps):
                there = warp(rows, torch.full((30,), float(temperature)), torch.full((30,), float(top_p)))
                assert torch.allclose(found[:, k, j], there[:, token], atol=2e-6)


def test_a_nucleus_ends_with_the_token_that_reaches_it():
    probs, top_ps = torch.tensor([[[0.25, 0.5, 0.25]]]), torch.tensor([0.4, 0.5, 0.6, 0.75, 1.0])
    found = [token_log_probs(probs, top_ps, torch.tensor([token]))[0, 0].exp().tolist() for token in range(3)]
    assert found[1] == pytest.approx([1, 1, 2 / 3, 2 / 3, 0.5], abs=1e-6)
    assert found[0] == pytest.approx([0, 0, 1 / 3, 1 / 3, 0.25], abs=1e-6)
    assert found[2] == pytest.approx([0, 0, 0, 0, 0.25], abs=1e-6)


def test_the_policy_is_a_gaussian_around_the_head():
    made, policy = toy_heads(), Policy(choices=5, farthest=2.0, spread=0.9)
    hidden = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    temperatures, top_ps = choices(made, policy)
    assert torch.allclose(torch.logit(temperatures / 2), torch.tensor([-2.0, -1, 0, 1, 2]), atol=1e-5)
    assert torch.allclose(torch.logit(top_ps), torch.tensor([-2.0, -1, 0, 1, 2]), atol=1e-5)
    scaled, probs = tempered(torch.randn(7, 9), temperatures)
    seen = seen_by_top_p(made, temperatures, scaled, probs)
    log_t, log_p = log_policy(made, hidden, seen, policy)
    centre = torch.logit(made.temperature(hidden) / 2)
    by_hand = torch.exp(-((torch.arange(-2, 3) - centre[:, None]) ** 2) / (2 * 0.9**2))
    assert torch.allclose(log_t.exp(), by_hand / by_hand.sum(-1, keepdim=True), atol=1e-5)
    for k, temperature in enumerate(temperatures):  # the top-p head sees the temperature that was chosen
        said = made.top_p(hidden, temperature.expand(7), scaled[:, k], probs[:, k])
        by_hand = torch.exp(-((torch.arange(-2, 3) - torch.logit(said)[:, None]) ** 2) / (2 * 0.9**2))
        assert torch.allclose(log_p[:, k].exp(), by_hand / by_hand.sum(-1, keepdim=True), atol=1e-4)


@pytest.mark.parametrize("estimator", ["tokens", "settings"])
@pytest.mark.parametrize("used", [("temperature", "top_p"), ("temperature",), ("top_p",)], ids="-".join)
def test_the_gradient_is_exact_in_expectation(estimator, used):
    """All pairs of responses of one token, by what was chosen and drawn, each with its chance: the mean of the loss's
    gradient over them, with the other response as baseline, is that of the expected reward."""
    made, policy = toy_heads(seed=3, heads=used), replace(FEW, estimator=estimator)
    reward = torch.tensor([0.1, 0.0, 0.4, 1.0, 0.3])
    steepest = 0.0
    for state in (0, 1):
        log_t, log_p, likely, seen = joint(made, policy)
        chance = log_t[state, :, None, None] + log_p[state, :, :, None] + likely[state].permute(1, 2, 0)
        chance = chance.detach().exp()
        outcomes = [(index, float(chance[tuple(index)])) for index in (chance > 0).nonzero().tolist()]
        drawn = Drawn(
            hidden=torch.eye(5)[1 + state].expand(len(outcomes), -1),
            seen=seen[state].expand(len(outcomes), -1, -1),
            chosen=torch.tensor([index[:2] for index, _ in outcomes]),
            log_probs=torch.stack([likely[state, index[2]] for index, _ in outcomes]),
            response=torch.arange(len(outcomes)),
        )
        weight = torch.tensor([p for _, p in outcomes])
        gained = reward[[index[2] for index, _ in outcomes]]
        both = torch.stack(torch.broadcast_tensors(gained[:, None], gained), -1).flatten(0, 1)  # [pairs, 2]
        first = advantages(both)[:, 0].view(len(outcomes), -1)
        expected = weight * (first * weight).sum(-1) * len(outcomes)  # of a response, over its partners
        found = -gradient(policy_loss(made, drawn, expected, policy), made)
        exact = exact_gradient(made, policy, state, reward)
        steepest = max(steepest, float(exact.abs().max()))
        assert torch.allclose(found, exact, atol=2e-5), (found - exact).abs().max()
    assert steepest > 1e-3


def test_drawn_groups_have_the_exact_gradient_and_tokens_vary_less(toy):
    """60 steps of 2 groups of 16 responses by the loop: their mean gradient is within five standard errors of it."""
    made, found = toy_heads(seed=3), {}
    reward = Reward(choices=3, farthest=2.0, spread=1.5, samples=16)
    asked = [item(2), item(1)]  # one of each sort: of the first 3 is right
    exact = sum(
        exact_gradient(made, reward, state, torch.eye(5)[right]) / 2 for state, right in ((0, 3), (1, 4))
    )  # what follows the first token is certain
    for estimator in ("tokens", "settings"):
        options, parts = replace(reward, estimator=estimator), []
        for step in range(60):
            drawn, scores = draw_group(toy, made, TOY, asked, options, step)
            loss = policy_loss(made, drawn, advantages(scores).flatten(), options)
            parts.append(-gradient(loss, made))
        parts = torch.stack(parts)
        error = parts.std(0) / len(parts) ** 0.5
        assert ((parts.mean(0) - exact).abs() <= 5 * error + 1e-5).all()
        found[estimator] = parts.var(0).sum()
    assert found["tokens"] < 0.5 * found["settings"]


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    assert torch.allclose(advantages(rewards)[0], torch.tensor([2 / 3, -2 / 3, -2 / 3, 2 / 3]))
    scaled = advantages(rewards, scaled=True)
    assert torch.allclose(scaled[0], torch.tensor([0.5, -0.5, -0.5, 0.5]) / rewards[0].std(), atol=1e-4)
    assert (advantages(rewards)[1] == 0).all() and (scaled[1] == 0).all()


def test_the_bonus_is_the_entropy_of_all_choices():
    made, policy = toy_heads(seed=3), replace(FEW, entropy=0.3)
    log_t, log_p, likely, seen = joint(made, policy)
    drawn = Drawn(torch.eye(5)[1:3], seen, torch.zeros(2, 2, dtype=torch.long), likely[:, 3], torch.arange(2))
    bonus = policy_loss(made, drawn, torch.zeros(2), policy)
    whole = (log_t[..., None] + log_p).exp()
    assert bonus.item() == pytest.approx(0.3 * (whole * whole.log()).sum((1, 2)).mean().item(), abs=1e-6)


def test_heads_learn_what_pays_and_beat_those_of_likelihood(toy, tmp_path):
    """Behind 1 the likelier answer pays, so cold is best (0.6); behind 2 the rarer one, so hot is (0.25 at T = 2).

    Likelihood, shown the right answers alone, makes the first no colder: the base is calibrated there.
    """
    options = Reward(steps=100, questions=8, samples=16, prompts=200, learning_rate=3e-2)
    recipe = Recipe(width=16, steps=150, batch=256, learning_rate=3e-2)
    made = first_heads(5, recipe, options)
    before = mean_reward(made)
    curve, _ = train_by_reward(toy, made, [TOY], options, tmp_path / "reward")
    cold, hot = made.temperature(torch.eye(5)[1:3]).tolist()
    assert cold < 0.5 and hot > 1.5
    right = [("1", [int(item(i).target), 0]) for i in range(0, 200, 2)] + [("2", [4, 0])] * 20
    states = states_of(toy, right)
    likely, *_ = train_heads(toy.network.head, states, recipe, tmp_path / "likelihood")
    assert mean_reward(made) > mean_reward(likely) + 0.02 and mean_reward(made) > before + 0.04
    assert likely.temperature(torch.eye(5)[2]) > 1.5, "it learned what it can"
    assert mean_reward(made) > 0.41, "of at most 0.425"
    assert set(curve[-1]) == {"step", "loss", "reward", "temperature", "top_p"}
    assert not any(p.requires_grad for p in made.parameters())


def test_a_killed_training_goes_on_to_the_same_heads(toy, tmp_path, monkeypatch):
    options = Reward(steps=25, questions=2, samples=4)

    def trained(folder, killed_at=None):
        made = first_heads(5, Recipe(width=8), options)
        asked = []

        def score(item, text):
            asked.append(item.id)
            if killed_at and len(asked) > killed_at * 8:
                raise KeyboardInterrupt
            return TOY.score(item, text)

        curve, _ = train_by_reward(toy, made, [replace(TOY, score=score)], options, tmp_path / folder)
        return made.state_dict(), curve, len(asked)

    whole, curve, count = trained("whole")
    assert count == 25 * 8 == options.responses == options.evaluations(1)
    with pytest.raises(KeyboardInterrupt):
        trained("killed", killed_at=17)
    resumed, same, rest = trained("killed")
    assert rest == 15 * 8 and curve == same
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    options = replace(options, spread=0.5)
    with pytest.raises(UserError, match="another recipe"):
        trained("killed")


def test_tasks_take_turns_and_a_task_without_training_items_is_refused(toy, tmp_path):
    asked = []

    def counted(name):
        def score(item, text):
            asked.append(name)
            return Score(1)

        return replace(TOY, name=name, score=score)

    options = Reward(steps=5, questions=1, samples=2)
    train_by_reward(toy, first_heads(5, Recipe(width=8), options), [counted("a"), counted("b")], options, tmp_path)
    assert asked == ["a", "a", "b", "b"] * 2 + ["a", "a"] and len(asked) == options.responses
    assert asked.count("b") == options.evaluations(2) == 4, "of each task, no more than any of them had"
    few = replace(TOY, name="few", stream=lambda split: iter(list(TOY.stream(split))[:3]))
    with pytest.raises(UserError, match="few has 3 training items, and a step asks 4"):
        train_by_reward(toy, toy_heads(), [few], replace(options, questions=4), tmp_path / "few")
    empty = replace(TOY, name="empty", stream=lambda split: iter(()))
    with pytest.raises(UserError, match="empty has no training items"):
        train_by_reward(toy, toy_heads(), [empty], options, tmp_path / "no")


def test_one_head_alone_leaves_the_other(toy, tmp_path):
    options = Reward(steps=3, questions=4, samples=4, learning_rate=0.1)
    for used, other in (("temperature", "top_p_head"), ("top_p", "temp_head")):
        made = first_heads(5, Recipe(width=8, train=(used,)), options)
        before = {key: value.clone() for key, value in made.state_dict().items()}
        train_by_reward(toy, made, [TOY], options, tmp_path / used)
        for key, value in made.state_dict().items():
            assert torch.equal(value, before[key]) or not key.startswith(other)
        assert any(not torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_heads_say_at_first_what_is_asked_for():
    made = first_heads(32, Recipe(), Reward(temperature=0.7, top_p=0.9))
    temperature, top_p, _ = made(torch.randn(50, 32), torch.randn(50, 24))
    assert torch.allclose(temperature, torch.tensor(0.7)) and torch.allclose(top_p, torch.tensor(0.9))
    with pytest.raises(UserError, match="below 2.0"):
        first_heads(32, Recipe(), Reward(temperature=2.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"questions": 8, "prompts": 7}, "questions must be at most prompts, 7, not 8"),
        ({"samples": 1}, "samples must be 2 or more"),
        ({"estimator": "both"}, "one of tokens, settings"),
        ({"top_p": 1.0}, r"top_p must be in \(0, 1\)"),
        ({"choices": 1}, "choices must be 2 or more"),
        ({"spread": 0.0}, "spread must be above 0"),
    ],
)
def test_bad_options_name_their_range(change, words):
    with pytest.raises(UserError, match=words):
        Reward(**change)


def test_the_command_trains_them_into_files_that_decoding_takes(tmp_path, monkeypatch, prompts):
    """`python -m lib.training.autodeco study-ar-reward` on a tiny base: heads as any others, and how they came."""
    name, asked = "study-ar-reward", []
    assert set(REWARDS) <= set(RECIPES) and set(REWARDS) <= set(MODELS)

    class Letters:
        def encode(self, text, add_special_tokens=False):
            return [1 + ord(letter) % 23 for letter in text]

        def decode(self, ids, skip_special_tokens=True):
            return " ".join(map(str, ids))

    def score(item, text):
        asked.append(item.id)
        return Score(int(len(text) > 12))

    task = replace(TOY, max_new_tokens=6, score=score)
    monkeypatch.setattr(command, "get_task", lambda name: task)
    monkeypatch.setitem(command.REWARDS, name, Reward(steps=2, questions=3, samples=2))
    monkeypatch.setitem(command.RECIPES, name, Recipe(width=8))
    monkeypatch.setattr(command, "load", lambda *given: Model("tiny", tiny(), Letters(), AR))
    monkeypatch.setattr(command, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(command, "BUILD", tmp_path / "build")
    assert command.main([name]) == 0
    assert len(asked) == 2 * 3 * 2, "nothing is drawn for likelihood"
    folder = tmp_path / "checkpoints" / name
    written = json.loads((folder / "recipe.json").read_text())
    assert written["reward"]["samples"] == 2 and written["width"] == 8 and "objective" not in written
    model = AutoDecoForCausalLM.from_pretrained(folder, tiny())
    out = decode(model, prompts[0], AutoDeco(max_new_tokens=4), generator=0, family=AR, attention_mask=prompts[1])
    assert out.responses.shape == (4, 4)
