"""The loop that drafting methods share: its text, its caches, its counters and what it refuses."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import AR, tiny
from enumeration import FIVE, PLAIN, Scripted, drafted_beams, paths_of
from transformers import (
    BloomConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lib import decoders
from lib.decoders import decode
from lib.decoding import session
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.models.registry import Model
from lib.mtad import (
    Assisted,
    BeamSearch,
    Bild,
    Hsd,
    Mtad,
    Mtjd,
    Speculative,
    Threshold,
    TreeSpeculative,
    Truncated,
    Typical,
    loop,
    mtjd,
    sequences,
)

ENDLESS = Family("endless", eot_ids=(5,), chat=False)  # no model of five tokens says it
BASE = {"max_new_tokens": 12, "temperature": 1.0, "top_k": 4, "top_p": 0.95}
DRAFTING = {
    "speculative": Speculative(gamma=3, **BASE),
    "block": Speculative(gamma=3, block=True, **BASE),
    "tree-speculative": TreeSpeculative(branches=(2, 2, 1), **BASE),
    "hsd": Hsd(gamma=3, **BASE),
    "truncated": Truncated(gamma=3, epsilon=0.3, delta=0.8, **BASE),
    "threshold": Threshold(gamma=3, **BASE),
    "typical": Typical(gamma=3, **BASE),
    "bild": Bild(gamma=3, fallback=0.4, **BASE),
    "mtad": Mtad(gamma=3, width=3, **BASE),
    "mtad-distinct": Mtad(gamma=3, width=3, replacement=False, **BASE),
    "mtad-tree": Mtad(gamma=3, width=3, tree=True, tau=0.3, reference="best", **BASE),
    "mtad-released": Mtad(gamma=3, width=3, tree=True, tau=0.3, reference="slot", weights="softmax", **BASE),
}
ALL = DRAFTING | {
    "mtjd": Mtjd(gamma=3, width=4, joint_temperature=0.7, **BASE | {"top_p": 1.0}),
    "assisted": Assisted(gamma=3, **BASE),
    "beam": BeamSearch(max_new_tokens=12, width=3),
}
GAMMAS = {
    f"{name}-{gamma}": replace(options, gamma=gamma, **({"branches": (2, 2, 1)[:gamma]} if "tree-s" in name else {}))
    for name, options in DRAFTING.items()
    for gamma in (1, 2, 3)
}


@pytest.fixture(scope="module")
def pair():
    """A target, and a draft that is the target with noise in every weight."""
    target = tiny(vocabulary=5, seed=59, scale=8)
    draft = deepcopy(target)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in draft.parameters():
            weight += 0.5 * weight.std() * torch.randn_like(weight) if weight.ndim == 2 else 0
    return target, draft


@pytest.fixture(scope="module")
def eight():
    """Eight prompts of different length, left-padded: ids and attention mask [8, 9]."""
    torch.manual_seed(2)
    lengths = torch.tensor([9, 1, 4, 7, 2, 3, 8, 5])
    mask = (torch.arange(9) >= 9 - lengths[:, None]).long()
    return torch.randint(1, 5, (8, 9)) * mask, mask


def run(pair, options, ids, mask=None, family=FIVE, generator=4, **given):
    given |= {} if isinstance(options, (Mtjd, BeamSearch, Autoregressive)) else {"draft": pair[1]}
    return decode(pair[0], ids, options, generator=generator, family=family, attention_mask=mask, **given)


def cold(options, **changes):
    """At temperature 0; BiLD, which then sees the softmax as it is, takes back whatever is not the target's."""
    more = {"rollback": 1e-9} if isinstance(options, Bild) else {}
    return replace(options, temperature=0.0, **changes, **more)


GREEDY = GAMMAS | {"mtad-one-beam": Mtad(gamma=3, width=1), "assisted": Assisted(gamma=3)}


@pytest.mark.parametrize("options", GREEDY.values(), ids=GREEDY)
def test_at_temperature_0_the_text_is_greedy(options, pair, eight):
    out = run(pair, cold(options, max_new_tokens=12), *eight)
    greedy = run(pair, Autoregressive(max_new_tokens=12), *eight)
    assert torch.equal(out.responses, greedy.responses) and torch.equal(out.lengths, greedy.lengths)
    assert len(greedy.lengths.unique()) > 2


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_a_row_is_the_same_alone_and_in_a_batch(options, pair, eight):
    ids, mask = eight
    generator = RowGenerator.of(5, [str(i) for i in range(8)])
    batch = run(pair, options, ids, mask, generator=generator)
    assert options not in DRAFTING.values() or len(batch.trace.target_forwards.unique()) > 1
    for row in range(8):
        own = mask[row].bool()
        alone = run(pair, options, ids[row : row + 1, own], generator=generator.select(torch.tensor([row])))
        assert torch.equal(alone.responses[0], batch.responses[row])
        one, other = alone.trace.row(0), batch.trace.row(row)
        assert one.pop("joint", 0) == pytest.approx(other.pop("joint", 0), abs=1e-4)
        assert one == other


class Watched(session.Session):
    """Compares its cache, each time that it is settled, with a fresh forward over the text of each row."""

    seen: list["Watched"] = []
    text = None

    def __init__(self, network, rows, room):
        super().__init__(network, rows, room)
        self.uneven = self.checked = 0
        Watched.seen.append(self)

    def keep(self, kept, whole=False):
        super().keep(kept, whole)
        assert not self.tentative.shape[1] and self.valid.shape[1] == self.cache.get_seq_length()
        assert self.valid.shape[1] == self.slots <= self._room() <= 2 * (7 + 10 + 64 + 9)
        self.uneven += len(self.length.unique()) > 1
        for row, length in enumerate(torch.minimum(self.length, Watched.text.total).tolist()):
            fresh = self.network(input_ids=Watched.text.tokens[row : row + 1, :length]).past_key_values
            slots = self.valid[row].nonzero()[:length, 0]
            for mine, theirs in zip(self.cache.layers, fresh.layers, strict=True):
                torch.testing.assert_close(mine.keys[row, :, slots], theirs.keys[0], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(mine.values[row, :, slots], theirs.values[0], atol=1e-4, rtol=1e-4)
            self.checked += length


class WatchedText(sequences.Sequences):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        Watched.text = self


@pytest.mark.parametrize("slack", [64, 1])
@pytest.mark.parametrize("name", [*DRAFTING, "mtjd"])
def test_a_cache_after_rejections_is_that_of_a_fresh_prefill(name, slack, pair, eight, monkeypatch):
    options = replace(ALL[name], max_new_tokens=10)
    expected = run(pair, options, *eight, family=ENDLESS)
    monkeypatch.setattr(session, "SLACK", slack)
    Watched.seen.clear()
    for module in (loop, mtjd):
        monkeypatch.setattr(module, "Session", Watched)
        monkeypatch.setattr(module, "Sequences", WatchedText)
    assert torch.equal(run(pair, options, *eight, family=ENDLESS).responses, expected.responses)
    assert len(Watched.seen) == (1 if name == "mtjd" else 2)
    assert all(watched.checked > 200 and watched.uneven > 2 for watched in Watched.seen)


@pytest.mark.parametrize("branches", [None, (2, 2, 1), (3,), (1, 1, 1, 1)], ids=str)
def test_one_pass_over_a_tree_is_one_pass_over_each_of_its_paths(branches, pair, eight):
    ids, mask = eight
    options = Mtad(gamma=len(branches or (1, 1, 1)), width=3, tree=True, **PLAIN)
    with torch.inference_mode():
        draft, logits = drafted_beams(*pair, options, ids, mask, branches=branches)
        assert draft.tokens.shape[1] == {None: 9, (2, 2, 1): 10, (3,): 3}.get(branches, 4)
        for row in range(8):
            prompt = ids[row, mask[row].bool()].tolist()
            paths = paths_of(draft, row)
            for node, path in enumerate(paths):
                plain = pair[0](input_ids=torch.tensor([[*prompt, *path]])).logits[0]
                torch.testing.assert_close(logits[row, node + 1], plain[-1], atol=2e-4, rtol=1e-4)
                torch.testing.assert_close(logits[row, 0], plain[len(prompt) - 1], atol=2e-4, rtol=1e-4)
                own = pair[1](input_ids=torch.tensor([[*prompt, *path]])).logits[0, len(prompt) - 1 :].softmax(-1)
                places = [0, *(p + 1 for p in draft.path(torch.full((8,), node))[row].tolist() if p >= 0)]
                known = [place for place in places if place < draft.distributions.probs.shape[1]]
                torch.testing.assert_close(
                    draft.distributions.probs[row, known], own[: len(known)], atol=2e-5, rtol=1e-3
                )


@pytest.mark.parametrize("options", GAMMAS.values(), ids=GAMMAS)
def test_counters_add_up(options, pair, eight):
    ids, mask = eight
    out = run(pair, options, ids, mask)
    trace, of = out.trace, out.trace.measures
    made = (out.lengths + 1).clamp(max=options.max_new_tokens)
    lengths, blocks = of["accept_lengths"], of["blocks"]
    assert torch.equal(of["accepted"] + of["bonus"], made) and (of["bonus"] <= blocks).all()
    assert torch.equal(lengths.sum(-1), blocks) and lengths.shape == (8, options.gamma + 1)
    assert torch.equal((lengths * torch.arange(options.gamma + 1)).sum(-1), of["accepted"])
    assert torch.equal(trace.target_forwards, blocks) and trace.batch_forwards == blocks.max()
    assert torch.equal(trace.positions, mask.sum(-1) + blocks - 1 + of["drafted"])
    assert torch.equal(trace.head_positions, blocks + of["drafted"])
    assert (of["accepted"] <= of["drafted"]).all() and (of["accepted"] <= of["reached"]).all()
    assert (trace.draft_forwards <= options.gamma * blocks).all() and (trace.draft_forwards >= blocks).all()
    assert (of["reached"] <= options.gamma * blocks).all() and (of["reached"] <= of["drafted"]).all()
    assert of["accepted"].sum() and of["bonus"].sum() and made.unique().numel() > 2  # the case is not idle


class Count:
    """Calls of a network and the positions they computed, seen from outside."""

    def __init__(self, network):
        self.calls = self.positions = 0
        self.handle = network.register_forward_hook(self.see, with_kwargs=True)

    def see(self, _, args, kwargs, output):
        self.calls += 1
        self.positions += kwargs["input_ids"].numel()


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("bild", "beam")])
def test_counters_are_what_hooks_on_the_networks_count(name, pair):
    counts = [Count(network) for network in pair]
    trace = run(pair, ALL[name], torch.tensor([[3, 1, 4, 2]]), family=ENDLESS).trace
    for count in counts:
        count.handle.remove()
    assert (trace.target_forwards[0], trace.positions[0]) == (counts[0].calls, counts[0].positions)
    assert trace.batch_forwards == counts[0].calls
    if name != "mtjd":
        assert (trace.draft_forwards[0], trace.draft_positions[0]) == (counts[1].calls, counts[1].positions)


def test_events_tell_every_verdict(pair, eight):
    options = ALL["mtad-tree"]
    out = run(pair, options, *eight, record=True)
    response = [[] for _ in range(8)]
    for event in out.trace.events:
        for i, row in enumerate(event["rows"].tolist()):
            path = [place for place in event["path"][i].tolist() if place >= 0]
            assert len(path) == event["accepted"][i]
            assert event["parents"][i, path].tolist() == [-1, *path][:-1] if path else True
            response[row] += event["drafted"][i, path].tolist() + [event["bonus"][i].item()]
    for row, tokens in enumerate(response):
        length = int(out.lengths[row])
        assert tokens[:length] == out.responses[row, :length].tolist()


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_nothing_is_past_max_new_tokens(options, pair, eight):
    longer = run(pair, options, *eight)
    for limit in (1, 2, 5):
        out = run(pair, replace(options, max_new_tokens=limit), *eight)
        assert out.responses.shape == (8, limit) and out.lengths.max() <= limit
        if options in (ALL["assisted"], ALL["beam"]):
            continue  # near the limit they choose otherwise
        assert torch.equal(out.responses, longer.responses[:, :limit])
        assert torch.equal(out.lengths, longer.lengths.clamp(max=limit))
        if "accepted" in (of := out.trace.measures):
            assert torch.equal(of["accepted"] + of["bonus"], (out.lengths + 1).clamp(max=limit))
            assert (of["accepted"] <= of["reached"]).all() and (of["reached"] <= limit * of["blocks"]).all()


@pytest.mark.parametrize("name", [*DRAFTING, "mtjd"])
def test_a_row_at_its_limit_is_the_same_alone_and_in_a_batch(name, pair):
    ids = torch.cartesian_prod(*[torch.arange(1, 5)] * 2)
    options = replace(ALL[name], max_new_tokens=4, top_k=0, top_p=1.0)
    generator = RowGenerator.of(6, [str(i) for i in range(16)])
    batch = run(pair, options, ids, generator=generator, family=ENDLESS).responses
    for row in range(0, 16, 2):
        own = generator.select(torch.tensor([row]))
        alone = run(pair, options, ids[row : row + 1], generator=own, family=ENDLESS)
        assert torch.equal(alone.responses[0], batch[row])


@pytest.mark.parametrize("end", [0, 4])
@pytest.mark.parametrize("options", DRAFTING.values(), ids=DRAFTING)
def test_a_text_is_cut_at_an_end_among_the_accepted(options, end):
    family = Family("two-ends", eot_ids=(0, 4), chat=False)
    for place in range(1, 6):
        says = Scripted([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3])
        says.text[place] = end
        if place < 5:
            says.text[place + 1] = 3 - says.text[place + 1] % 2
        out = run((says, says), options, torch.tensor([[2]]), family=family)
        text = says.text[1:place].tolist()
        assert out.responses[0].tolist() == text + [0] * (12 - len(text)) and out.lengths.tolist() == [len(text)]
        of = out.trace.measures
        bonus = place // 4  # blocks are of three drafted tokens and one more
        assert of["accepted"].tolist() == [place - bonus] and of["bonus"].tolist() == [bonus]
        assert of["blocks"].tolist() == [(place + 3) // 4]
        assert torch.equal(of["reached"], of["accepted"])  # nothing is computed behind an end


def test_mtjd_is_cut_at_an_end():
    says = Scripted([1, 2, 3, 1, 0, 3, 1])
    out = run((says, says), Mtjd(max_new_tokens=8, gamma=3, width=4, **PLAIN), torch.tensor([[2]]))
    assert out.responses[0].tolist() == [2, 3, 1, 0, 0, 0, 0, 0] and out.trace.measures["blocks"].tolist() == [2]


@pytest.mark.parametrize("width", [1, 5])
def test_mtjd_of_one_token_is_greedy(width, pair, eight):
    out = run(pair, Mtjd(max_new_tokens=12, gamma=1, width=width), *eight)
    assert torch.equal(out.responses, run(pair, Autoregressive(max_new_tokens=12), *eight).responses)


def test_beam_search_of_one_beam_is_greedy(pair, eight):
    out = run(pair, BeamSearch(max_new_tokens=12, width=1), *eight)
    assert torch.equal(out.responses, run(pair, Autoregressive(max_new_tokens=12), *eight).responses)
    assert out.trace.draft_forwards is None


@pytest.mark.parametrize("cold", [{"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-3}], ids=str)
def test_assisted_that_is_left_one_token_is_greedy(cold, pair, eight):
    options = Assisted(**{"max_new_tokens": 12, "gamma": 3, "temperature": 1.0, "top_k": 0, "top_p": 1.0} | cold)
    greedy = run(pair, Autoregressive(max_new_tokens=12), *eight)
    assert torch.equal(run(pair, options, *eight).responses, greedy.responses)


def test_assisted_without_weight_on_the_target_is_the_draft(pair, eight):
    options = Assisted(max_new_tokens=6, gamma=8, temperature=1e-3, ensemble=1e-9)
    drafts = run(pair[::-1], Autoregressive(max_new_tokens=6), *eight)
    targets = run(pair, Autoregressive(max_new_tokens=6), *eight)
    out = run(pair, options, *eight).responses[:, :5]  # the last token is the target's
    assert torch.equal(out, drafts.responses[:, :5]) and not torch.equal(out, targets.responses[:, :5])


def test_assisted_leaves_the_draft_as_it_was(pair, eight):
    own = pair[1].generation_config
    before = own.to_dict()
    run(pair, Assisted(gamma=5, confidence=0.4, **BASE), *eight)
    assert pair[1].generation_config is own and own.to_dict() == before


@pytest.mark.parametrize("name", ["assisted", "beam"])
def test_generate_has_no_events(name, pair, eight):
    with pytest.raises(UserError, match="record"):
        run(pair, ALL[name], *eight, record=True)


@pytest.mark.parametrize("name", [*DRAFTING, "assisted"])
def test_a_pair_speaks_of_the_same_tokens(name, pair, eight):
    with pytest.raises(UserError, match="24 and 5 tokens"):
        run((pair[0], tiny(vocabulary=24)), ALL[name], *eight)
    with pytest.raises(UserError, match="draft=small_model"):
        run((pair[0], None), ALL[name], *eight)


def test_what_is_no_network_or_no_draft_is_refused():
    given = {"generator": 0, "family": ENDLESS}
    for wrong in ("study-draft", Model("study-draft", tiny(24), None, ENDLESS)):
        with pytest.raises(UserError, match="draft must be a network: give load"):
            decode(tiny(24), torch.tensor([[1]]), Mtad(), draft=wrong, **given)
    with pytest.raises(UserError, match="model must be a network"):
        decode(Model("study-ar", tiny(24), None, ENDLESS), torch.tensor([[1]]), Autoregressive(), **given)
    for options in (Autoregressive(), Mtjd(), BeamSearch()):
        with pytest.raises(UserError, match=f"{type(options).__name__} takes no draft: leave it out"):
            decode(tiny(24), torch.tensor([[1]]), options, draft=tiny(24), **given)
    assert {type(options) for options in DRAFTING.values()} | {Assisted} == {
        decoder.options for decoder in decoders.DECODERS.values() if decoder.drafts
    }


def test_an_empty_prompt_is_refused(pair):
    with pytest.raises(UserError, match="empty"):
        run(pair, ALL["mtad"], torch.tensor([[1, 2], [0, 0]]), torch.tensor([[1, 1], [0, 0]]))


SHAPE = {"vocab_size": 5, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 0}
WIDE = {"head_dim": 16, "tie_word_embeddings": False, "num_hidden_layers": 3}
SLIDING = {
    "gpt-oss": (
        GptOssForCausalLM,
        GptOssConfig(**SHAPE, head_dim=16, num_local_experts=2, num_experts_per_tok=1, sliding_window=4),
    ),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    ),
    "mistral": (MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=4)),
    "phi3": (Phi3ForCausalLM, Phi3Config(**SHAPE, sliding_window=4)),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SHAPE | WIDE, sliding_window=4)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**SHAPE | WIDE, sliding_window=4, sliding_window_pattern=2)),
}


@pytest.mark.parametrize("name", ["mtad", "mtad-tree", "tree-speculative"])
@pytest.mark.parametrize("kind", SLIDING)
def test_sliding_windows_are_kept_whole_and_rolled_back(kind, name, pair, eight):
    """Greedy drafting is greedy decoding, whatever is rejected; prompts are longer than the window of 4."""
    torch.manual_seed(3)
    network, config = SLIDING[kind]
    model = network(config).eval()
    model.get_output_embeddings().weight.data *= 20
    ids, mask = eight
    options = replace(ALL[name], temperature=0.0)
    options = replace(options, tau=0.99) if name == "mtad" else options
    if name != "mtad":
        options = Speculative(gamma=3, temperature=0.0, max_new_tokens=12)
    out = run((model, pair[1]), options, ids, mask)
    for row in range(len(ids)):
        prompt = ids[row : row + 1, mask[row].bool()]
        for token in out.responses[row, : out.lengths[row]].tolist():  # transformers, without a cache
            assert model(input_ids=prompt, use_cache=False).logits[0, -1].argmax() == token
            prompt = torch.cat([prompt, torch.tensor([[token]])], 1)


@pytest.mark.parametrize("name", DRAFTING)
def test_a_text_may_reach_the_last_position(name, eight):
    """Drafts run on behind it, where a table of learned positions has no row; what is drafted there is cut."""
    torch.manual_seed(3)
    config = OPTConfig(
        vocab_size=5, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=32,
        max_position_embeddings=18, pad_token_id=0, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    pair = [OPTForCausalLM(config).eval() for _ in range(2)]
    for model in pair:
        model.lm_head.weight.data *= 20
    ids, mask = eight
    options = cold(DRAFTING[name], max_new_tokens=10)
    out = run(pair, options, ids, mask, family=ENDLESS)
    greedy = run(pair, Autoregressive(max_new_tokens=10), ids, mask, family=ENDLESS)
    assert torch.equal(out.responses, greedy.responses) and greedy.responses.unique().numel() > 1
    with pytest.raises(UserError, match="behind a prompt of 9 tokens there is room for 10 in the 18 positions"):
        run(pair, replace(options, max_new_tokens=11), ids, mask, family=ENDLESS)
    run(pair, replace(options, max_new_tokens=18), ids[1:2, -1:], family=ENDLESS)  # the prompt has one token


@pytest.mark.parametrize("config", [BloomConfig(), MptConfig()], ids=["bloom", "mpt"])
def test_positions_by_slot_are_refused_for_drafting(config):
    parts = SimpleNamespace(config=config, parameters=lambda: iter([torch.zeros(1)]))
    with pytest.raises(UserError, match="ALiBi.*cannot be rolled back"):
        session.Session(parts, 1)


def test_full_attention_is_not_refused(eight):
    config = MistralConfig(**SHAPE, sliding_window=None)
    model = MistralForCausalLM(config).eval()
    out = run((model, model), replace(ALL["mtad"], temperature=0.0), *eight)
    assert torch.equal(out.responses, run((model, model), Autoregressive(max_new_tokens=12), *eight).responses)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        *((Speculative, "gamma", value) for value in (0, -1)),
        *((Speculative, "temperature", value) for value in (-0.1,)),
        *((Speculative, "top_p", value) for value in (0.0, 1.1)),
        (Speculative, "top_k", -1),
        (Speculative, "max_new_tokens", 0),
        (Speculative, "block", 1),
        (TreeSpeculative, "branches", ()),
        (TreeSpeculative, "branches", (4, 0, 2)),
        (TreeSpeculative, "gamma", 2),
        *((Threshold, "tau", value) for value in (-0.1, 1.1)),
        *((Typical, "epsilon", value) for value in (0.0, 1.1)),
        (Typical, "delta", 0.0),
        *((Bild, "fallback", value) for value in (-0.1, 1.1)),
        (Bild, "rollback", 0.0),
        (Mtad, "width", 0),
        *((Mtad, "tau", value) for value in (-0.1, 1.1)),
        (Mtad, "reference", "worst"),
        (Mtad, "weights", "flat"),
        *((Truncated, "epsilon", value) for value in (0.0, 1.1)),
        (Truncated, "delta", 0.0),
        (Assisted, "heads", True),
        (Mtjd, "width", 0),
        (Mtjd, "joint_temperature", -1.0),
        *((Assisted, "confidence", value) for value in (-0.1, 1.0)),
        *((Assisted, "ensemble", value) for value in (0.0, 1.1)),
        (BeamSearch, "width", 0),
        (BeamSearch, "max_new_tokens", 0),
        (Mtjd, "max_new_tokens", 0),
    ],
)
def test_an_option_out_of_range_is_named(kind, name, values):
    with pytest.raises(UserError, match=rf"{kind.__name__}\.{name} must be"):
        kind(**{name: values})


def test_two_kinds_of_end_are_both_ends(pair, eight):
    family = replace(AR, eot_ids=(4, 2))
    greedy = run(pair, Autoregressive(max_new_tokens=12), *eight, family=family)
    for options in DRAFTING.values():
        out = run(pair, cold(options), *eight, family=family)
        assert torch.equal(out.responses, greedy.responses)
