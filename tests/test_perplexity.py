"""Likelihood: a text's surprise is that of its tokens one by one; perplexities are compared item by item."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lib.analysis.bootstrap import RESAMPLES
from lib.analysis.perplexity import distinct, perplexity, perplexity_change, repeated, surprises
from lib.models.registry import load

NAN = float("nan")
# Prompt, response, whether it ended: of different lengths, so that a batch pads both sides.
PAIRS = [
    ("What is the capital of France?\n", "Paris", True),
    ("If there are 8 girls and 2 times the number of boys, how many kids are there?\n", "8*2=16;8+16=24#24", False),
    ("def f(x):\n", "    return x + 10\n", True),
    ("Is it?\n", "", True),
    ("Which is the currency of Japan? Name it in one word.\n", "yen", False),
    ("Is it?\n", "", False),
]


@pytest.fixture(scope="module", params=["relative positions", "absolute positions"])
def model(request):
    """The study's draft; a random network that padding would move, did it not get the positions of real tokens."""
    draft = load("study-draft")
    if request.param == "relative positions":
        return draft
    torch.manual_seed(0)
    shape = {"n_positions": 128, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(draft.tokenizer), **shape)).eval()
    network.transformer.wpe.weight.data *= 40
    network.transformer.wte.weight.data *= 20
    return replace(draft, network=network)


def by_hand(model, prompt, response, ended):
    """Each token's -log p, a forward of its own without padding, and their mean."""
    start = model.tokenizer.encode(prompt, add_special_tokens=False)
    tokens = model.tokenizer.encode(response, add_special_tokens=False) + list(model.family.eot_ids[:1]) * ended
    found = []
    for i, token in enumerate(tokens):
        with torch.inference_mode():
            logits = model.network(torch.tensor([start + tokens[:i]])).logits[0, -1]
        found.append(-logits.double().log_softmax(-1)[token].item())
    return sum(found) / len(found) if found else NAN


@pytest.mark.parametrize("batch", [1, 2, 6])
def test_a_surprise_is_the_mean_over_its_tokens_whatever_the_batch(model, batch):
    expected = [by_hand(model, *pair) for pair in PAIRS]
    assert surprises(model, PAIRS, batch=batch) == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert [math.isnan(value) for value in expected] == [False] * 5 + [True]


def test_the_order_of_texts_changes_only_the_order_of_values(model):
    there, back = surprises(model, PAIRS, batch=2), surprises(model, PAIRS[::-1], batch=2)
    assert there == pytest.approx(back[::-1], rel=1e-4, nan_ok=True) and len(set(there[:5])) == 5


def test_an_end_is_a_token_more(model):
    """n + 1 times the mean with the end is n times the mean without it, and the surprise of the end."""
    prompt, text = PAIRS[1][:2]
    n = len(model.tokenizer.encode(text, add_special_tokens=False))
    open_, ended = surprises(model, [(prompt, text, False), (prompt, text, True)])
    last = surprises(model, [(prompt + text, "", True)])[0]
    assert (n + 1) * ended == pytest.approx(n * open_ + last, rel=1e-4)


def test_texts_without_tokens_have_no_surprise(model):
    assert all(map(math.isnan, surprises(model, [("Is it?\n", "", False)] * 2)))


def test_an_instruction_is_read_by_a_chat_model_alone(model):
    pair, words = [("Is it?\n", "yes", True)], "Answer in one word. "
    assert surprises(model, pair, words) == surprises(model, pair)
    chat = replace(model, tokenizer=load("study-draft").tokenizer, family=replace(model.family, chat=True))
    chat.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    expected = by_hand(model, words + "Is it?\n", "yes", True)
    assert surprises(chat, pair, words)[0] == pytest.approx(expected, rel=1e-4)
    assert surprises(chat, pair)[0] != pytest.approx(expected, rel=1e-2)


def test_perplexity_is_exp_of_the_mean_over_items():
    e = perplexity(np.array([[1.0, 3.0], [NAN, 0.5], [NAN, NAN]]))
    assert (e.value, e.n) == (pytest.approx(math.exp((2 + 0.5) / 2)), 2)
    assert (e.low, e.high) == pytest.approx((math.exp(0.5), math.exp(2))), "a quarter of resamples is one item twice"
    same = perplexity(np.full((4, 1), 0.75))
    assert same.low == same.value == same.high == math.exp(0.75)


def rows(seed, items=7, samples=2):
    return np.random.default_rng(seed).integers(0, 64, (items, samples)) / 16  # sums are exact


def test_a_text_against_itself_has_changed_by_nothing():
    e = perplexity_change(rows(0), rows(0))
    assert (e.value, e.low, e.high, e.n, e.p) == (0, 0, 0, 7, 1)


@pytest.mark.parametrize("shift", [-1.5, -0.125, 0.25, 2.0])
def test_a_constant_shift_is_known_without_error(shift):
    e = perplexity_change(rows(1) + shift, rows(1))
    assert e.value == e.low == e.high == 100 * np.expm1(shift)
    assert e.p == pytest.approx(2 / (RESAMPLES + 1)), "no resample is on the other side"


def test_a_change_is_the_ratio_of_the_perplexities():
    a, b = rows(2), rows(3)
    e, back = perplexity_change(a, b), perplexity_change(b, a)
    assert 1 + e.value / 100 == pytest.approx(perplexity(a).value / perplexity(b).value)
    assert (1 + e.value / 100) * (1 + back.value / 100) == pytest.approx(1) and e.p == back.p
    assert e.low < e.value < e.high and back.low < back.value < back.high


def test_a_change_is_paired_on_items():
    """Items that differ much among each other and all by about the same from their pair: a narrow interval."""
    b = np.arange(20.0)[:, None]
    a = b + np.tile([0.25, 0.375], 10)[:, None]
    e = perplexity_change(a, b)
    assert 100 * np.expm1(0.25) < e.low < e.value < e.high < 100 * np.expm1(0.375)


@pytest.mark.parametrize(("items", "p"), [([0.5, 0.25], 2 / (RESAMPLES + 1)), ([-0.5, 0.5], 1.0)])
def test_p_is_twice_the_share_of_resamples_on_one_side(items, p):
    assert perplexity_change(np.array([items]).T, np.zeros((2, 1))).p == pytest.approx(p)


def test_p_of_one_item_in_three_against_two():
    """Items -1, 0.25, 0.25: the mean is above 0 only without the first, in (2/3)^3 of resamples."""
    p = perplexity_change(np.array([[-1.0], [0.25], [0.25]]), np.zeros((3, 1))).p
    assert p == pytest.approx(2 * (2 / 3) ** 3, abs=0.04)


def test_items_without_tokens_in_either_are_left_out():
    a, b = rows(4), rows(5)
    whole = perplexity_change(a[2:], b[2:])
    a[0], b[1] = NAN, NAN
    assert perplexity_change(a, b) == whole and whole.n == 5
    a[2, 0] = NAN
    one = a[2:].copy()
    one[0] = a[2, 1]
    assert perplexity_change(a, b) == perplexity_change(one, b[2:]), "a sample without tokens leaves the others"


def test_repetition_is_the_share_of_grams_that_stood_before():
    assert repeated("a b c d a b c d") == pytest.approx(1 / 5)  # abcd, bcda, cdab, dabc, abcd
    assert repeated("a b c d a b c d", n=1) == 0.5
    assert repeated("a " * 13) == pytest.approx(9 / 10)
    assert repeated("a b c") == repeated("") == repeated("a b c d e") == 0


def test_distinct_grams_are_counted_over_all_texts_and_across_none():
    assert distinct(["a b a b", "a b"]) == 2 / 4  # ab, ba, ab; ab
    assert distinct(["a b", "b a"]) == 1 and distinct(["a", "b c"]) == 1
    assert distinct(["a a", "a"], n=1) == pytest.approx(1 / 3)
    assert math.isnan(distinct(["a", ""]))
