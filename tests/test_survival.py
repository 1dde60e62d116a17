"""Survival, repair and strictness on networks where they are known, and on the committed diffusion model."""

import math
from types import SimpleNamespace

import pytest
import torch

from lib.analysis.strictness import strictness, uncertainties
from lib.analysis.survival import canvases_of, refined_once, survival_and_repair
from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.paths import CHECKPOINTS
from lib.tolerator import Tolerator

V, HALF = 6, 3  # tokens 2 ... 5 are letters, 0 ends a text, 1 is [MASK]
FAMILY = Family("copies", eot_ids=(0,), mask_id=1, shift=False, wide_mask=True, chat=False)
PROMPT, MASK = torch.tensor([[2]]), torch.tensor([[1]])


class Copies:
    """Answers w w of three letters each. Of a letter whose twin is visible it gives that one probability 1 - e, the
    others the rest; without it, all the same. With e = 3/4 letters are independent."""

    model = None

    def __init__(self, e: float):
        self.e = e

    def get_output_embeddings(self):
        return None

    def __call__(self, input_ids, **_):
        canvas = input_ids[:, 1:]
        twin = canvas.roll(HALF, 1)
        probs = torch.zeros(*canvas.shape, V)
        probs[..., 2:] = self.e / 3
        probs.scatter_(-1, twin[..., None], 1 - self.e)
        probs = torch.where((twin == 1)[..., None], torch.tensor([0, 0, *[0.25] * 4]), probs)
        return SimpleNamespace(logits=torch.cat([probs[:, :1], probs], 1).log())


def right(canvases):
    return (canvases[:, :HALF] == canvases[:, HALF:]).all(-1).tolist()


def words(n: int, seed: int = 0):
    w = torch.randint(2, V, (n, HALF), generator=torch.Generator().manual_seed(seed))
    return torch.cat([w, w], 1)


def measured(e: float, measure: str, n: int = 8):
    given = (Copies(e), FAMILY, PROMPT.expand(n, 1), MASK.expand(n, 1), words(n))
    return uncertainties(*given, measure=measure, batch=5)


@pytest.mark.parametrize("measure", ["entropy", "surprisal"])
def test_strictness_of_a_copy_is_one_and_of_independent_tokens_zero(measure):
    for e, expected in ((0.0, 1.0), (0.75, 0.0)):
        alone, given, counted = measured(e, measure)
        assert counted.all() and torch.allclose(alone, torch.tensor(math.log(4)).double())
        found = strictness(alone, given)
        assert found.value == pytest.approx(expected, abs=1e-6) and found.low <= found.value + 1e-9


def test_strictness_of_a_noisy_copy():
    alone, given, _ = measured(0.2, "entropy")
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2 / 3)
    assert strictness(alone, given).value == pytest.approx(1 - entropy / math.log(4), abs=1e-5)
    alone, given, _ = measured(0.2, "surprisal")
    assert strictness(alone, given).value == pytest.approx(1 + math.log(0.8) / math.log(4), abs=1e-5)


def test_what_stands_behind_the_first_end_does_not_count():
    canvases = torch.tensor([[2, 3, 0, 0, 0, 0]])
    _, given, counted = uncertainties(Copies(0.2), FAMILY, PROMPT, MASK, canvases)
    assert counted.tolist() == [[True] * 3 + [False] * 3] and (given[0, 3:] == 0).all()


def test_items_count_by_their_entropy():
    alone, given = torch.tensor([[3.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = strictness(alone, given)
    assert found.value == pytest.approx(1 - 2 / 5) and found.n == 2 and found.low == 0.0 and found.high == 0.75
    assert math.isnan(strictness(torch.zeros(2, 2), torch.zeros(2, 2)).value)


OPTIONS = Tolerator(canvas=2 * HALF, forwards=2, refine_temperature=1.0, eot_form="off")


def outcome(e, canvases, rate, samples=1, options=OPTIONS, **more):
    n = len(canvases)
    given = (Copies(e), FAMILY, PROMPT.expand(n, 1), MASK.expand(n, 1), canvases, right, rate, options, 3, samples)
    return survival_and_repair(*given, batch=7, **more)


def test_survival_and_repair_of_a_copy_with_one_token_masked():
    """A right answer survives where the copy is exact, or with 1 - e. One wrong letter of six is mended where it or
    its twin is masked: in 2 of 6."""
    wrong = words(3000)
    wrong[:, 0] = 2 + (wrong[:, 0] - 1) % 4
    assert not any(right(wrong))
    both = torch.cat([words(3000, 1), wrong])
    found = outcome(0.0, both, 1e-9)
    assert found.survival.value == 1 and found.survival.n == 3000
    assert found.repair.value == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 3000))
    noisy = outcome(0.2, both, 1 / 6)
    assert noisy.survival.value == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 3000))
    assert noisy.repair.value == pytest.approx(0.8 / 3, abs=4 * math.sqrt(0.2 / 3000))
    assert noisy.after(0.5) == pytest.approx((noisy.survival.value + noisy.repair.value) / 2)


def test_survival_of_independent_letters_and_of_all_masked():
    """Two of six masked, each right with 1/4; all masked: a copy of three letters by chance, 1/64."""
    found = outcome(0.75, words(4000), 1 / 3)
    assert found.repair is None
    twins = 1 / 5  # the two masked ones are twins of each other: then they need but agree
    exact = twins * 1 / 4 + (1 - twins) * 1 / 16
    assert found.survival.value == pytest.approx(exact, abs=4 * math.sqrt(exact / 4000))
    everything = outcome(0.0, words(4000), 1.0).survival
    assert everything.value == pytest.approx(1 / 64, abs=4 * math.sqrt(1 / 64 / 4000))
    with pytest.raises(ValueError, match="repair"):
        found.after(0.5)
    assert found.after(1.0) == found.survival.value


def test_samples_are_refined_apart_and_the_least_confident_can_be_masked():
    canvases = words(50)
    assert 0 < outcome(0.2, canvases, 0.5, samples=4).survival.value < 1
    generator, n = RowGenerator.of(0, [str(i) for i in range(50)]), 50
    given = (Copies(0.75), FAMILY, PROMPT.expand(n, 1), MASK.expand(n, 1), canvases, 1 / 6)
    least = Tolerator(canvas=6, forwards=2, subset="confidence", refine_temperature=1.0)
    confidence = torch.tensor([0.9, 0.9, 0.1, 0.9, 0.9, 0.9]).double().expand(50, 6)
    after = refined_once(*given, least, generator, confidence=confidence)
    assert torch.equal(after != canvases, (after != canvases) & (torch.arange(6) == 2)) and (after != canvases).any()
    assert not torch.equal(after, refined_once(*given, least, generator, step=1, confidence=confidence))
    with pytest.raises(UserError, match="needs the tokens' confidence"):
        refined_once(*given, least, generator)
    with pytest.raises(UserError, match="rate must be in"):
        refined_once(*given[:-1], 0.0, OPTIONS, generator)


@pytest.mark.slow
def test_the_committed_model():
    """Answers of few items: the milder the rate, the more survive; the answers' tokens decide one another."""
    from lib.models.registry import load
    from lib.tasks import get_task

    if not (CHECKPOINTS / "study-dlm" / "model.safetensors").exists():
        pytest.skip("no committed checkpoint")
    model, task = load("study-dlm"), get_task("worded_math")
    items = task.items("validation", 12)
    ids, mask = model.encode([item.prompt for item in items], task.instruction)
    canvases = canvases_of(model, [item.target for item in items], task.max_new_tokens)

    def judge(canvases):
        lengths = ((canvases == 0).cumsum(-1) == 0).sum(-1).tolist()
        texts = [model.text(row, n) for row, n in zip(canvases, lengths, strict=True)]
        return [bool(task.score(item, text).correct) for item, text in zip(items, texts, strict=True)]

    assert all(judge(canvases))
    given = (model.network, model.family, ids, mask, canvases)
    shares = [survival_and_repair(*given, judge, rate).survival.value for rate in (0.05, 0.4, 1.0)]
    assert shares[0] > 0.8 and shares[0] >= shares[1] > shares[2]
    alone, rest, _ = uncertainties(*(x[:4] if isinstance(x, torch.Tensor) else x for x in given))
    assert 0.5 < strictness(alone, rest).value < 1
    with pytest.raises(UserError, match="a canvas of more than"):
        canvases_of(model, [items[0].target], 3)
