"""AutoDeco's heads in target and draft: lossless rules give AutoDeco's texts, MTAD is held to their law."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from conftest import heads, tiny
from enumeration import ENDS, FIVE, assert_follows, keys, mtad_block, prompts, texts, token_by_token
from exact import chains, drafted, law

from lib.autodeco import AutoDecoForCausalLM
from lib.autodeco.decode import AutoDeco
from lib.autodeco.reference import nucleus, settings
from lib.decoders import decode
from lib.decoding.distributions import filtered
from lib.decoding.session import Session
from lib.errors import UserError
from lib.models.distilled import DistilledDraft
from lib.mtad import Assisted, Bild, Hsd, Mtad, Mtjd, Speculative, Threshold, TreeSpeculative
from lib.mtad.draft import grow
from lib.mtad.loop import read
from lib.mtad.peers.hsd import verify_hsd
from lib.mtad.peers.speculative import verify_block, verify_tokens
from lib.mtad.sequences import Sequences

START = (2, 3)
OWN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "heads": True}  # what the heads say, and nothing else
USER = OWN | {"temperature": 0.7, "top_p": 0.9}
FILTERED = OWN | {"temperature": 1.3, "top_k": 3, "top_p": 0.95}
SETTINGS = {"own": OWN, "user": USER, "filtered": FILTERED}


class Warped:
    """The law of a network of five tokens after a prefix, by the paper's page on AutoDeco where it has heads."""

    def __init__(self, network):
        self.network = network

    def distributions(self, options):
        @cache
        @torch.inference_mode()
        def distribution(prefix: tuple[int, ...]) -> list[float]:
            out = self.network(input_ids=torch.tensor([prefix]), output_hidden_states=True)
            logits, own = out.logits[0, -1].float(), getattr(self.network, "heads", None)
            said = (
                settings(own, out.hidden_states[-1][0, -1], logits) if own is not None and options.heads else (1, 1)
            )
            p = torch.softmax(logits / (said[0] * options.temperature), -1)
            best = p.topk(options.top_k or 5)
            p = torch.zeros(5).scatter(0, best.indices, best.values / best.values.sum())
            kept = nucleus(p.tolist(), said[1] * options.top_p)
            return [x / sum(kept) for x in kept]

        return distribution


@pytest.fixture(scope="module")
def target():
    return AutoDecoForCausalLM.from_base(tiny(vocabulary=5, seed=59, scale=8), heads(seed=3))


@pytest.fixture(scope="module")
def draft(target):
    """The base with noise in every weight."""
    noisy = deepcopy(tiny(vocabulary=5, seed=59, scale=8))
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in noisy.parameters():
            weight += 0.4 * weight.std() * torch.randn_like(weight) if weight.ndim == 2 else 0
    return noisy


@pytest.fixture(params=["plain draft", "draft with heads"])
def small(request, draft):
    return draft if request.param == "plain draft" else AutoDecoForCausalLM.from_base(draft, heads(seed=4))


def test_the_heads_say_something_else_everywhere(target):
    own, plain = (Warped(target).distributions(Mtad(**OWN | {"heads": asked})) for asked in (True, False))
    prefixes = (2,), (2, 3), (2, 1), (4, 4, 1)
    gaps = [sum(abs(a - b) for a, b in zip(own(x), plain(x), strict=True)) for x in prefixes]
    assert min(gaps) > 0.02 and any(min(own(x)) == 0 for x in prefixes)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rule", [verify_tokens, verify_block, verify_hsd], ids=["tokens", "block", "hsd"])
@torch.inference_mode()
def test_a_lossless_step_adds_what_autodeco_adds_over_every_draft_and_draw(rule, setting, target, small):
    options, tokens = Speculative(gamma=2, **SETTINGS[setting]), chains(5, 2)
    text = Sequences(prompts(len(tokens), START), torch.ones(len(tokens), 2).long(), 8, ENDS, ahead=4)
    sessions = Session(target, len(tokens)), Session(small, len(tokens))
    up, there = torch.zeros(len(tokens), 1, dtype=torch.long), torch.ones(len(tokens), 1, dtype=torch.bool)

    def expand(distribution, last, depth):  # each row drafts a chain of its own, all of them together
        token = tokens[:, depth : depth + 1]
        return up, token, distribution.at(token[..., None]).squeeze(-1), there, None

    found = grow(sessions[1], *text.unread(sessions[1].length), options, 2, expand, ENDS)
    distribution = sessions[0].law(options, read(sessions[0], text, found)).padded(3)
    q = Warped(small).distributions(options)
    for row, chain in enumerate(tokens.tolist()):
        for place in range(2 - (chain[0] == 0)):
            exact = torch.tensor(q((*START, *chain[:place])))
            torch.testing.assert_close(found.distributions.dense(5)[row, place], exact, atol=2e-5, rtol=1e-3)
    added, expected = law(rule, drafted(tokens, found.distributions, (0,)), distribution, 5, (0,))
    exact = texts(token_by_token(Warped(target).distributions(options)), 3, START)
    whole = torch.zeros(5, 5, 5, dtype=torch.double)
    for one, chance in exact.items():
        whole[one] = chance
    torch.testing.assert_close(added, whole, atol=2e-5, rtol=0)
    assert 0.2 < expected < 2


KINDS = {
    "tokens": (Speculative, {"gamma": 2}),
    "block": (Speculative, {"gamma": 3, "block": True}),
    "hsd": (Hsd, {"gamma": 3}),
    "tree": (TreeSpeculative, {"gamma": 2, "branches": (2, 2)}),
}


@pytest.mark.parametrize("setting", ["own", "filtered"])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_autodecos(kind, setting, target, small):
    method, shape = KINDS[kind]
    options = method(max_new_tokens=3, **shape, **SETTINGS[setting])
    out = decode(target, prompts(3000, START), options, draft=small, generator=keys(3000), family=FIVE)
    assert_follows(out.responses, texts(token_by_token(Warped(target).distributions(options)), 3, START))
    assert 0 < out.trace.measures["accepted"].sum() < out.trace.measures["drafted"].sum()


def test_autodecos_own_texts_are_those(target):
    out = decode(target, prompts(3000, START), AutoDeco(max_new_tokens=3), generator=keys(3000), family=FIVE)
    assert_follows(out.responses, texts(token_by_token(Warped(target).distributions(Mtad(**OWN))), 3, START))


def test_a_draft_of_few_tokens_loses_nothing(target, draft):
    few = DistilledDraft.cut(draft, (0, 1), torch.tensor([0, 2, 3]))
    options = Speculative(max_new_tokens=3, gamma=2, **FILTERED)
    for network in (few, AutoDecoForCausalLM.from_base(few, heads(seed=4))):
        out = decode(target, prompts(3000, START), options, draft=network, generator=keys(3000), family=FIVE)
        assert_follows(out.responses, texts(token_by_token(Warped(target).distributions(options)), 3, START))


@torch.inference_mode()
def test_heads_of_a_draft_of_few_tokens_see_its_whole_distribution(draft):
    network = AutoDecoForCausalLM.from_base(DistilledDraft.cut(draft, (0, 1), torch.tensor([0, 2, 3])), heads(seed=4))
    session, ids = Session(network, 1), torch.tensor([[2, 3]])
    seen = torch.ones(1, 2, 2, dtype=torch.bool).tril()
    sizes = []
    network.heads.register_forward_hook(lambda _, inputs, said: sizes.append(inputs[1].shape[-1]))
    found = session.distribution(Mtad(**FILTERED), ids, torch.ones(1, 2, dtype=torch.bool), seen, 1)
    assert sizes == [5]
    logits = network.base_forward(ids).logits[:, -1:]
    _, top_p, probs = network.heads.settings(session.hidden, logits, FILTERED["temperature"], FILTERED["top_p"])
    torch.testing.assert_close(found.dense(5), filtered(probs, top_p, FILTERED["top_k"]).dense(5))


@pytest.mark.parametrize("setting", ["own", "filtered"])
@pytest.mark.parametrize("tree", [False, True])
def test_mtads_reference_is_the_law_of_the_heads(tree, setting, target, small):
    options = Mtad(max_new_tokens=3, gamma=2, width=2, tau=0.5, tree=tree, **SETTINGS[setting])
    out = decode(target, prompts(3000, START), options, draft=small, generator=keys(3000), family=FIVE)
    assert_follows(out.responses, texts(mtad_block(Warped(target), Warped(small), options), 3, START))


def test_mtjd_draws_blocks_of_the_heads_law(target):
    options = Mtjd(max_new_tokens=3, gamma=2, width=25, joint_temperature=1.0, **OWN)
    out = decode(target, prompts(3000, START), options, generator=keys(3000), family=FIVE)
    assert_follows(out.responses, texts(token_by_token(Warped(target).distributions(options)), 3, START))


GREEDY = (Speculative(gamma=3), Hsd(gamma=3), TreeSpeculative(branches=(2, 1, 1)), Mtad(gamma=3, tree=True))


@pytest.mark.parametrize("options", GREEDY, ids=lambda options: type(options).__name__)
def test_at_temperature_0_the_heads_say_nothing(options, target, small):
    ids = torch.cartesian_prod(torch.arange(1, 5), torch.arange(1, 5))
    options = type(options)(**vars(options) | {"temperature": 0.0, "heads": True, "max_new_tokens": 12})
    out = decode(target, ids, options, draft=small, generator=0, family=FIVE)
    greedy = decode(target, ids, AutoDeco(max_new_tokens=12, temperature=0.0), generator=0, family=FIVE)
    assert torch.equal(out.responses, greedy.responses)


def test_without_the_option_heads_change_nothing(target, draft):
    options = Threshold(max_new_tokens=8, gamma=3, tau=0.3)
    ids = torch.cartesian_prod(torch.arange(1, 5), torch.arange(1, 5))
    base = tiny(vocabulary=5, seed=59, scale=8)
    outs = [decode(one, ids, options, draft=draft, generator=5, family=FIVE).responses for one in (target, base)]
    assert torch.equal(*outs)


def test_a_target_without_heads_is_refused(target, draft):
    greedy = Bild(4, heads=True, temperature=0.0)  # heads say nothing there, and yet are asked for
    for options in (Speculative(4, heads=True), Mtad(4, heads=True), Hsd(4, heads=True), greedy):
        with pytest.raises(
            UserError, match=rf"{type(options).__name__}\.heads asks for a target with AutoDeco's heads"
        ):
            decode(draft, torch.tensor([[1]]), options, draft=target, generator=0, family=FIVE)
    with pytest.raises(UserError, match="Mtjd.heads asks"):
        decode(draft, torch.tensor([[1]]), Mtjd(4, heads=True), generator=0, family=FIVE)
    with pytest.raises(UserError, match="Assisted.heads must be False"):
        Assisted(heads=True)
