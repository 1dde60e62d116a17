"""AutoDeco's heads on a mask model: whose settings a masked token is drawn by, and what such heads are trained on."""

import numpy as np
import pytest
import torch
from conftest import SHIFTED, heads, tiny

from lib.autodeco import AutoDecoForCausalLM
from lib.autodeco.heads import Heads, HeadsConfig
from lib.decoders import decode
from lib.decoding import bidirectional
from lib.decoding.bidirectional import canvas_logits
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.models.registry import Model
from lib.studies.tolerator import learned
from lib.studies.tolerator.learned import CONSTANT, HEADS, Study
from lib.tolerator import Tolerator, Vanilla
from lib.training.autodeco.canvas_states import MASKINGS, canvas_states, shares

OWN = {"temperature": 1.0, "top_p": 1.0, "heads": True}


def saying(temperature, top_p):
    return AutoDecoForCausalLM.from_base(tiny(), Heads.saying(HeadsConfig(32, 16), temperature, top_p))


@pytest.fixture
def learning():
    return AutoDecoForCausalLM.from_base(tiny(), heads(seed=5))


def responses(model, prompts, options, rows=slice(None), seed=0):
    ids, mask = (x[rows] for x in prompts)
    items = [f"item {i}" for i in range(4)][rows]
    return decode(model, ids, options, generator=RowGenerator.of(seed, items), family=SHIFTED, attention_mask=mask)


@pytest.mark.parametrize("rule", ["confidence", "entropy", "margin"])
def test_heads_that_say_the_same_everywhere_are_that_setting(prompts, rule):
    told = Vanilla(canvas=12, steps=6, rule=rule, **OWN)
    plain = Vanilla(canvas=12, steps=6, rule=rule, temperature=0.7, top_p=0.8)
    a, b = responses(saying(0.7, 0.8), prompts, told), responses(tiny(), prompts, plain)
    assert torch.equal(a.responses, b.responses)
    assert torch.equal(a.trace.target_forwards, b.trace.target_forwards)
    np.testing.assert_allclose(a.trace.measures["temperature"], 0.7, atol=1e-4)
    np.testing.assert_allclose(a.trace.measures["top_p"], 0.8, atol=1e-4)
    other = responses(tiny(), prompts, Vanilla(canvas=12, steps=6, rule=rule, temperature=1.4))
    assert not torch.equal(a.responses, other.responses), "the setting decides nothing here"


def test_a_users_settings_multiply_what_the_heads_say(prompts):
    told = Vanilla(canvas=12, steps=6, temperature=2.0, top_p=0.5, heads=True)
    plain = Vanilla(canvas=12, steps=6, temperature=0.8, top_p=0.45)
    assert torch.equal(
        responses(saying(0.4, 0.9), prompts, told).responses, responses(tiny(), prompts, plain).responses
    )


def test_at_temperature_0_heads_say_nothing(learning, prompts):
    cold = {"canvas": 12, "steps": 6, "temperature": 0.0}
    a, b = responses(learning, prompts, Vanilla(heads=True, **cold)), responses(tiny(), prompts, Vanilla(**cold))
    assert torch.equal(a.responses, b.responses) and "temperature" not in a.trace.measures


def test_without_the_option_heads_do_nothing(learning, prompts):
    options = Vanilla(canvas=12, steps=6, temperature=0.7)
    assert torch.equal(responses(learning, prompts, options).responses, responses(tiny(), prompts, options).responses)


def test_tolerator_has_them_in_its_fill_up_alone(prompts):
    given = {"canvas": 12, "forwards": 8, "eot_form": "off"}
    options = Tolerator(**given, **OWN)
    assert options.fill_up == Vanilla(canvas=12, steps=options.fill_steps, **OWN), "what the drafts of a study are"
    told = responses(saying(0.7, 0.8), prompts, options)
    plain = responses(tiny(), prompts, Tolerator(**given, temperature=0.7, top_p=0.8))
    assert torch.equal(told.responses, plain.responses)


@pytest.mark.parametrize("way", ["fast", "plain"])
@torch.inference_mode()
def test_each_position_is_drawn_by_its_own_state(learning, prompts, way, monkeypatch):
    """The first fill step against settings from a plain forward of the base, position by position."""
    if way == "plain":
        monkeypatch.setattr(bidirectional.Llama, "of", classmethod(lambda cls, network: None))
    ids, mask = prompts
    canvas = torch.full((4, 5), SHIFTED.mask_id)
    whole = torch.cat([ids, canvas], 1)
    full = torch.cat([mask, torch.ones_like(canvas)], 1)
    states = tiny().model(
        input_ids=whole,
        attention_mask=bidirectional.bidirectional_mask(full),
        position_ids=bidirectional.position_ids(full),
    )[0][:, -6:-1]  # of a shifted model the state before a position predicts it
    needed = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.6
    seen = []
    logits = canvas_logits(learning, whole, full, needed, SHIFTED, seen=seen)
    torch.testing.assert_close(seen[0], states[needed], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(logits, tiny().lm_head(states)[needed], atol=2e-3, rtol=1e-4)
    told = learning.heads.settings(seen[0], logits)[0]
    assert told.std() > 0.1, "the heads say the same everywhere"
    out = responses(learning, prompts, Vanilla(canvas=5, steps=1, **OWN))
    expected = learning.heads.settings(states.flatten(0, 1), _without_mask(tiny().lm_head(states)).flatten(0, 1))
    np.testing.assert_allclose(out.trace.measures["temperature"], expected[0].view(4, 5).mean(1), atol=2e-4)
    np.testing.assert_allclose(out.trace.measures["top_p"], expected[1].view(4, 5).mean(1), atol=2e-4)


def _without_mask(logits):
    logits = logits.clone()
    logits[..., SHIFTED.mask_id] = -torch.inf
    return logits


def test_a_row_is_drawn_alike_in_any_batch(learning, prompts):
    options = Vanilla(canvas=12, steps=6, **OWN)
    together = responses(learning, prompts, options)
    for row in range(4):
        alone = responses(learning, prompts, options, slice(row, row + 1))
        assert torch.equal(alone.responses[0], together.responses[row])
        assert alone.trace.measures["temperature"][0] == pytest.approx(
            together.trace.measures["temperature"][row].item(), abs=2e-4
        )


@pytest.mark.parametrize(
    "options", [Vanilla(canvas=4, steps=2, heads=True), Tolerator(canvas=4, forwards=4, heads=True)]
)
def test_heads_are_asked_of_a_model_that_has_them(prompts, options):
    with pytest.raises(UserError, match="heads asks for a mask model with AutoDeco's heads"):
        responses(tiny(), prompts, options)


class Letters:
    """A tokenizer of one token a letter."""

    pad_token_id = 0

    def __call__(self, texts, **_):
        ids = [[3 + ord(letter) % 20 for letter in text] for text in texts]
        width = max(map(len, ids))
        return {
            "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in ids]),
            "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
        }


def test_masked_shares_spread_as_those_of_a_fill_up_do():
    counts = torch.stack([shares(number, 40, 0).sum(-1) for number in range(500)]).float()
    assert counts.min() >= 1 and counts.max() == 40
    assert counts.mean().item() == pytest.approx(20.5, abs=0.5)
    gaps = counts.sort(-1).values.diff(dim=-1)
    assert gaps.min() >= 9 and gaps.max() <= 11, "the shares of one canvas lie equally far apart"
    assert torch.equal(shares(7, 40, 0), shares(7, 40, 0)) and not torch.equal(shares(7, 40, 0), shares(8, 40, 0))


def test_states_are_those_that_predict_the_masked_tokens(monkeypatch):
    model, rng = Model("tiny", tiny(), None, SHIFTED), np.random.default_rng(0)
    monkeypatch.setattr(Model, "encode", lambda self, prompts: tuple(Letters()(prompts).values()))
    rows = [("abc", rng.integers(3, 24, 6).tolist()), ("a", rng.integers(3, 24, 4).tolist()),
            ("hello", rng.integers(3, 24, 6).tolist())]  # fmt: skip
    found = canvas_states(model, rows, seed=2, batch=2)
    states, tokens = [], []
    for number in (1, 0, 2):  # by width
        prompt, canvas = rows[number]
        ids, _ = model.encode([prompt])
        for chosen in shares(number, len(canvas), 2):
            shown = torch.tensor(canvas).masked_fill(chosen, SHIFTED.mask_id)
            text = torch.cat([ids, shown[None]], 1)
            mask = bidirectional.bidirectional_mask(torch.ones_like(text))
            with torch.inference_mode():
                out = model.network.model(input_ids=text, attention_mask=mask)[0][0, -len(canvas) - 1 : -1]
            states.append(out[chosen])
            tokens.append(torch.tensor(canvas)[chosen])
    assert torch.equal(found.tokens, torch.cat(tokens)) and len(found.tokens) >= 3 * MASKINGS
    torch.testing.assert_close(found.hidden.float(), torch.cat(states), atol=2e-2, rtol=2e-2)


COST = {"target_forwards": 3, "positions": 3, "tokens_kept": 3, "seconds": 0.1, "joules": None, "status": "ok"}


def made(correct):
    said = {"sample": 0, "temperature": 0.5, "top_p": 0.9} | COST
    return [{"item": f"{i:03d}", "correct": int(c)} | said for i, c in enumerate(correct)]


@pytest.fixture
def study():
    """Of 40 questions a task heads answer 30 in vanilla decoding and the constant 20 of these; all others 25."""
    found = Study(items=40, tasks=("math", "qa"))
    first = found.runs()
    lines = {key: made(np.arange(40) < (30 if key[1:] == ("vanilla", HEADS) else 25)) for key in first}
    later = found.later_runs(lines)
    lines |= {key: made(np.arange(40) < (20 if key[1] == "vanilla" else 25)) for key in later}
    found.__dict__["lines"] = lines
    return found


def test_the_page_compares_heads_with_their_own_mean(study):
    runs = study.runs() | study.later_runs(study.lines)
    for (short, method, setting), run in runs.items():
        options, plain = run.resolved(), runs[short, method, "published"].resolved()
        alike = {"temperature": plain.temperature, "top_p": plain.top_p, "heads": False}
        assert options.to_dict() | alike == plain.to_dict(), "the draws of the fill-up alone differ"
        assert run.model == ("study-dlm-autodeco" if setting == HEADS else "study-dlm")
        if setting == CONSTANT:
            assert (options.temperature, options.top_p) == (0.5, 0.9)
    assert study.headlines()["fill_up_heads_vs_constant"]["value"] == 25
    pooled = study.pooled.set_index(["method", "against"])
    assert pooled.verdict["vanilla", CONSTANT] == "higher" and pooled.verdict["TOLERATOR", CONSTANT] == "tied"
    assert "heads minus a constant at their own mean, in points: mean of the tasks +25.0" in study.reading()
    assert [claim.verdict for claim in study.claims()][2] == "holds"


def test_its_mean_setting_is_that_of_all_canvases():
    lines = [{"temperature": t, "top_p": 1.0} for t in (0.2, 0.4)]
    assert learned.mean_setting(lines) == {"temperature": 0.3, "top_p": 1.0}
