"""The distributions of MTAD and of what it is compared with, against exact enumeration on five tokens."""

from dataclasses import replace
from itertools import product
from math import log

import pytest
import torch
from enumeration import (
    FIVE,
    NUCLEUS,
    PLAIN,
    PROMPT,
    WARPED,
    TableModel,
    accepted_by,
    assert_follows,
    blocks_by,
    drafted_beams,
    joint,
    keys,
    many_prompts,
    mtad_block,
    paths_of,
    prompts,
    texts,
    token_by_token,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.decoders import decode
from lib.decoding.distributions import Distribution, distribution_of, warp
from lib.decoding.randomness import RowGenerator
from lib.mtad import Bild, Mtad, Mtjd, Speculative, Threshold, TreeSpeculative, Typical
from lib.mtad.draft import Draft, beams
from lib.mtad.mtad import verify_joint
from lib.mtad.peers import lossy

TARGET, DRAFT = TableModel.pair()
SETTINGS = {"plain": PLAIN, "warped": WARPED, "nucleus": NUCLEUS}
LOSSLESS = [
    *((Speculative, {"gamma": gamma, "block": block}) for gamma in (1, 2, 3) for block in (False, True)),
    *((TreeSpeculative, {"gamma": len(b), "branches": b}) for b in [(3,), (2, 2), (2, 1, 2)]),
]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("kind", "shape"), LOSSLESS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_lossless_methods_give_the_targets_texts(kind, shape, setting):
    options = kind(max_new_tokens=3, **shape, **SETTINGS[setting])
    out = decode(TARGET, prompts(), options, draft=DRAFT, generator=keys(), family=FIVE)
    assert 0 < out.trace.measures["accepted"].sum() < out.trace.measures["drafted"].sum()
    assert_follows(out.responses, texts(token_by_token(TARGET.distributions(options)), 3))


@pytest.mark.parametrize(("kind", "shape"), LOSSLESS[4:], ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_draft_that_never_says_some_tokens_loses_nothing(kind, shape):
    options = kind(max_new_tokens=3, **shape, **WARPED)
    narrow = TableModel(DRAFT.table.masked_fill(torch.tensor([False, True, False, True, False]), -torch.inf))
    out = decode(TARGET, prompts(), options, draft=narrow, generator=keys(), family=FIVE)
    assert_follows(out.responses, texts(token_by_token(TARGET.distributions(options)), 3))


@pytest.mark.parametrize(
    ("setting", "shape"),
    [
        (PLAIN, {"gamma": 1, "width": 2, "tau": 0.5}),
        (PLAIN, {"gamma": 2, "width": 1, "tau": 0.5}),
        (PLAIN, {"gamma": 2, "width": 2, "tau": 0.3}),
        (NUCLEUS, {"gamma": 2, "width": 2, "tau": 0.9}),
        (PLAIN, {"gamma": 2, "width": 2, "tau": 0.5, "replacement": False}),
        (WARPED, {"gamma": 3, "width": 2, "tau": 0.6}),
        (WARPED, {"gamma": 1, "width": 3, "tau": 0.5, "tree": True}),
        *(
            (PLAIN, {"gamma": 2, "width": 2, "tau": tau, "tree": True, "reference": reference})
            for reference in ("kept", "best", "own")
            for tau in (0.3, 0.9)
        ),
        (WARPED, {"gamma": 3, "width": 2, "tau": 0.3, "tree": True, "reference": "own"}),
        (WARPED, {"gamma": 3, "width": 2, "tau": 0.6, "tree": True, "reference": "kept"}),
    ],
    ids=str,
)
def test_mtad_follows_the_enumerated_distribution(setting, shape):
    length = 3 if shape["gamma"] < 3 else 4
    options = Mtad(max_new_tokens=length, **setting, **shape)
    out = decode(TARGET, prompts(), options, draft=DRAFT, generator=keys(), family=FIVE)
    assert_follows(out.responses, texts(mtad_block(TARGET, DRAFT, options), length))


def test_mtad_is_not_the_targets_distribution():
    options = Mtad(max_new_tokens=3, gamma=2, width=2, tau=0.3, **PLAIN)
    exact = texts(mtad_block(TARGET, DRAFT, options), 3)
    target = texts(token_by_token(TARGET.distributions(options)), 3)
    assert sum(abs(exact[text] - target[text]) for text in target) / 2 > 0.05


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("reference", ["kept", "best", "own"])
def test_joint_verdict_is_that_of_every_path_by_brute_force(tree, reference):
    options = Mtad(gamma=3, width=4, tau=0.4, tree=tree, reference=reference, **PLAIN)
    ids = many_prompts()[::4]
    draft, logits = drafted_beams(TARGET, DRAFT, options, ids)
    verdict = verify_joint(draft, options.distribution(logits), options)
    p, q = TARGET.distributions(options), DRAFT.distributions(options)
    for row, prompt in enumerate(map(tuple, ids.tolist())):
        paths = paths_of(draft, row)
        weights = draft.weights[row].tolist()
        layers = [[(x, 0.0) for x in paths if len(x) == depth] for depth in (1, 2)]
        layers.append(list(zip(paths[-len(weights) :], weights, strict=True)))
        took = tuple(draft.tokens[row, place].item() for place in verdict.path[row] if place >= 0)
        assert took == accepted_by(layers, p, q, options, prompt)
        torch.testing.assert_close(verdict.bonus.dense(5)[row], torch.tensor(p(prompt + took)))


def test_accepted_prefixes_are_within_log_tau_of_the_draft():
    shortest = 0.0
    for tau in (0.2, 0.6):
        options = Mtad(max_new_tokens=5, gamma=4, width=3, tau=tau, **PLAIN)
        ids = many_prompts()
        out = decode(TARGET, ids, options, draft=DRAFT, generator=keys(len(ids)), family=FIVE, record=True)
        step, p, q = out.trace.events[0], TARGET.distributions(options), DRAFT.distributions(options)
        for prompt, drafted, count in zip(ids, step["drafted"].tolist(), step["accepted"].tolist(), strict=True):
            start, path = tuple(prompt.tolist()), tuple(drafted[:count])
            if path:
                gap = log(joint(q, start, path)) - log(joint(p, start, path))
                assert gap < log(1 / tau) + 1e-5
                shortest = max(shortest, gap)
    assert shortest > 0.5  # the bound is used


@pytest.mark.parametrize("tree", [False, True])
def test_accepted_length_falls_as_tau_rises(tree):
    lengths = []
    for tau in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        options = Mtad(max_new_tokens=6, gamma=4, width=3, tau=tau, tree=tree, **PLAIN)
        draft, logits = drafted_beams(TARGET, DRAFT, options, many_prompts())
        lengths.append((verify_joint(draft, options.distribution(logits), options).path >= 0).sum(-1))
    for looser, stricter in zip(lengths, lengths[1:], strict=False):
        assert (looser >= stricter).all()
    assert (lengths[0] == 4).all() and 0.5 < lengths[3].float().mean() < 3.5 and (lengths[-1] == 0).all()


def test_the_longest_prefix_is_never_shorter_than_the_first_failure():
    options = Mtad(gamma=4, width=3, tau=0.5, **PLAIN)
    draft, logits = drafted_beams(TARGET, DRAFT, options, many_prompts())
    longest = (verify_joint(draft, options.distribution(logits), options).path >= 0).sum(-1)
    p, q = TARGET.distributions(options), DRAFT.distributions(options)
    stopped = []
    for prompt, row in zip(many_prompts().tolist(), draft.tokens.tolist(), strict=True):
        starts = [(tuple(prompt), tuple(row[:n])) for n in range(1, 5)]
        ratios = [joint(p, *start) / joint(q, *start) for start in starts]
        stopped.append(next((n for n, ratio in enumerate(ratios) if ratio <= 0.5), 4))
    assert (longest >= torch.tensor(stopped)).all() and (longest > torch.tensor(stopped)).any()


@pytest.mark.parametrize("tree", [False, True])
def test_nothing_behind_an_end_decides_what_mtad_accepts(tree):
    options = Mtad(max_new_tokens=5, gamma=4, width=3, tau=0.5, tree=tree, **PLAIN)
    verdicts = []
    for seed in (7, 8):
        changed = TableModel(TARGET.table), TableModel(DRAFT.table)
        for model, own in zip(changed, (TARGET, DRAFT), strict=True):
            random = torch.randn(5003, 5, generator=torch.Generator().manual_seed(seed))
            model.look = lambda keys, own=own, random=random: torch.where(
                has_end(keys)[..., None], 3 * random[keys % 5003], own.look(keys)
            )
        ids = many_prompts()
        out = decode(changed[0], ids, options, draft=changed[1], generator=keys(len(ids)), family=FIVE)
        verdicts.append((out.responses, out.trace.measures["accepted"], out.trace.measures["accept_lengths"]))
    assert all(torch.equal(one, two) for one, two in zip(*verdicts, strict=True))


def has_end(keys):
    """Whether an EoT is among the tokens of a TableModel's keys."""
    found = torch.zeros_like(keys, dtype=torch.bool)
    while (keys > 0).any():
        found |= keys % 6 == 1
        keys = keys // 6
    return found


def test_an_ended_beam_keeps_its_probability_and_its_weight():
    distribution = distribution_of(torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0)))
    last = (None, torch.tensor([[0, 3]]), None, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.7, 0.3]]))
    uniform = (torch.arange(2000)[None] + 0.5) / 2000
    up, tokens, chance, _, _ = beams(2000, True, uniform, torch.tensor([0]))(distribution, last, 0)
    ended = up[0] == 0
    assert ended.sum() == 1400 and (tokens[0, ended] == 0).all() and (chance[0, ended] == 1).all()


@pytest.mark.parametrize("setting", [PLAIN, WARPED], ids=["plain", "warped"])
def test_joints_are_the_products_along_the_parents(setting):
    options = Mtad(gamma=4, width=3, tree=True, **setting)
    draft, _ = drafted_beams(TARGET, DRAFT, options, prompts(100))
    q = DRAFT.distributions(options)
    for row in range(100):
        paths = paths_of(draft, row)
        exact = torch.tensor([joint(q, PROMPT, path) for path in paths])
        torch.testing.assert_close(draft.joint[row].exp(), exact, atol=1e-6, rtol=1e-4)
        seen = [{path[:n] for n in range(1, len(path) + 1)} for path in paths]
        for node, ancestors in enumerate(seen):
            assert {paths[i] for i in draft.sees[row, node].nonzero()[:, 0].tolist()} == ancestors
            assert draft.behind[row, node] == (0 in paths[node][:-1])


def test_beams_without_replacement_are_distinct():
    options = Mtad(gamma=3, width=4, replacement=False, tree=True, **PLAIN)
    draft, _ = drafted_beams(TARGET, DRAFT, options, prompts(500))
    for row in range(500):
        paths = paths_of(draft, row)
        assert all(len({x for x in paths if len(x) == depth}) == 4 for depth in (1, 2, 3))


@pytest.mark.parametrize(("gamma", "limit"), [(1, 6), (2, 6), (3, 6), (3, 4), (3, 2)])
def test_mtjd_takes_the_likeliest_block(gamma, limit):
    options = Mtjd(max_new_tokens=limit, gamma=gamma, width=5**gamma, **PLAIN)
    distribution, ids = TARGET.distributions(options), many_prompts()[::20]
    out = decode(TARGET, ids, options, generator=0, family=FIVE).responses.tolist()
    for prompt, response in zip(map(tuple, ids.tolist()), out, strict=True):
        exact = texts(lambda prefix: blocks_by(0, distribution, gamma, prefix), limit, prompt)
        assert [tuple(response)] == list(exact)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("gamma", [1, 2])
def test_mtjd_at_joint_temperature_1_gives_the_targets_texts(gamma, setting):
    options = Mtjd(max_new_tokens=3, gamma=gamma, width=25, joint_temperature=1.0, **SETTINGS[setting])
    out = decode(TARGET, prompts(), options, generator=keys(), family=FIVE)
    assert_follows(out.responses, texts(token_by_token(TARGET.distributions(options)), 3))


@pytest.mark.parametrize("setting", [PLAIN, WARPED], ids=["plain", "warped"])
def test_mtjd_sharpens_the_joint(setting):
    options = Mtjd(max_new_tokens=4, gamma=2, width=25, joint_temperature=0.5, **setting)
    distribution = TARGET.distributions(options)
    out = decode(TARGET, prompts(), options, generator=keys(), family=FIVE)
    assert_follows(out.responses, texts(lambda prefix: blocks_by(0.5, distribution, 2, prefix), 4))


def test_the_likeliest_blocks_are_likelier_than_greedy_ones():
    every = torch.tensor(list(product(range(1, 5), repeat=3)))
    options = Mtjd(max_new_tokens=3, gamma=3, width=125, **PLAIN)
    one = Mtjd(max_new_tokens=3, gamma=3, width=1, **PLAIN)
    likeliest, greedy = (
        decode(TARGET, every, choice, generator=0, family=FIVE).trace.measures["joint"] for choice in (options, one)
    )
    assert (likeliest >= greedy - 1e-5).all() and likeliest.mean() > greedy.mean() + 0.05


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.05, 0.7, 1.0, 3.0]),
    st.integers(0, 9),
    st.floats(0.05, 1.0),
)
@settings(max_examples=150, deadline=None)
def test_a_law_is_the_warped_distribution(seed, temperature, top_k, top_p):
    logits = 3 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(seed))
    distribution, dense = distribution_of(logits, temperature, top_p, top_k), warp(logits, temperature, top_p, top_k)
    kept = warp(logits, temperature or 1.0, 1.0, top_k).sort(-1, descending=True).values.cumsum(-1)
    assume((kept - top_p).abs().min() > 1e-5 or top_p == 1)
    torch.testing.assert_close(distribution.dense(7), dense)
    every = torch.arange(7).expand(2, 3, 7)
    torch.testing.assert_close(distribution.at(every), dense)
    other = logits.roll(1, -1)
    rest = distribution.minus(distribution_of(other, temperature, top_p, top_k), 0.8).dense(7)
    torch.testing.assert_close(rest, (0.8 * dense - warp(other, temperature, top_p, top_k)).clamp(min=0))
    drawn = distribution.draw(RowGenerator(torch.arange(2)).uniform(0, 0, 3))
    assert (dense.gather(-1, drawn[..., None]) > 0).all()


def test_a_law_without_mass_gives_way_to_another():
    some, none = torch.tensor([0.2, 0.0]), torch.zeros(2)
    distribution = Distribution(torch.stack([some, none])).or_else(
        Distribution(torch.tensor([[0.5, 0.5], [0.3, 0.7]]))
    )
    torch.testing.assert_close(distribution.probs, torch.tensor([[0.2, 0.0], [0.3, 0.7]]))


HALF, FLAT, SURE = [0.5, 0.5, 0.0, 0.0, 0.0], [0.2] * 5, [0.0, 0.96, 0.02, 0.01, 0.01]
BY_HAND = [
    # p/q of the drafted token 1: 0.5/0.2, 0.2/0.5, 0.96/0.5, 0.5/0.96
    (Threshold(tau=0.39), [HALF, FLAT, SURE, HALF], [FLAT, HALF, HALF, SURE], 4),
    (Threshold(tau=0.41), [HALF, FLAT, SURE, HALF], [FLAT, HALF, HALF, SURE], 1),
    (Threshold(tau=0.53), [HALF, SURE, HALF], [FLAT, HALF, SURE], 2),
    (Threshold(tau=1.0), [HALF, HALF], [HALF, HALF], 0),
    # exp(-H) of a flat distribution is 0.2, of the half one 0.5
    (Typical(epsilon=0.9, delta=0.9), [HALF, FLAT], [FLAT, FLAT], 2),
    (Typical(epsilon=0.9, delta=1.1), [HALF, FLAT], [FLAT, FLAT], 0),
    (Typical(epsilon=0.3, delta=1.1), [HALF, HALF, FLAT], [FLAT, FLAT, FLAT], 2),
    (Typical(epsilon=0.19, delta=9.0), [HALF, HALF, FLAT], [FLAT, FLAT, FLAT], 3),
    # -log 0.5 = 0.69, -log 0.2 = 1.61, -log 0.96 = 0.04
    (Bild(rollback=1.7), [HALF, FLAT, SURE], [FLAT] * 3, 3),
    (Bild(rollback=1.5), [HALF, FLAT, SURE], [FLAT] * 3, 1),
    (Bild(rollback=0.5), [SURE, HALF, SURE], [FLAT] * 3, 1),
]


@pytest.mark.parametrize(("options", "target", "draft", "accepted"), BY_HAND, ids=str)
def test_simple_rules_stop_at_the_first_failure(options, target, draft, accepted, monkeypatch):
    monkeypatch.setattr(lossy, "chain", lambda model, ids, options, verify, **given: verify)
    rule = getattr(lossy, f"decode_{type(options).__name__.lower()}")(None, None, options)
    n = len(draft)
    line = torch.arange(n)
    distributions = Distribution(torch.tensor([draft]))
    drafted = Draft(
        tokens=torch.ones(1, n, dtype=torch.long),
        parents=line[None] - 1,
        depth=line,
        real=torch.ones(1, n, dtype=torch.bool),
        sees=torch.ones(1, n, n, dtype=torch.bool).tril(),
        chance=distributions.probs[..., 1],
        joint=distributions.probs[..., 1].log().cumsum(-1),
        behind=torch.zeros(1, n, dtype=torch.bool),
        distributions=distributions,
        fed=line[None],
        read=n - 1,
    )
    after = [*target, [0.1, 0.1, 0.1, 0.1, 0.6]]
    verdict = rule(drafted, Distribution(torch.tensor([after])), torch.full((1, n), 0.5))
    assert verdict.path.tolist() == [[i if i < accepted else -1 for i in range(n)]]
    if isinstance(options, Typical):  # the target's likeliest, or a draw
        assert verdict.bonus.tokens.tolist() == [[int(torch.tensor(after[accepted]).argmax())]]
        rule = lossy.decode_typical(None, None, replace(options, argmax=False))
        verdict = rule(drafted, Distribution(torch.tensor([after])), torch.full((1, n), 0.5))
    torch.testing.assert_close(verdict.bonus.probs, torch.tensor([after[accepted]]))


def test_bild_drafts_while_the_draft_is_sure():
    options = Bild(max_new_tokens=5, gamma=4, fallback=0.6, rollback=50.0, **PLAIN)
    out = decode(TARGET, prompts(300), options, draft=DRAFT, generator=keys(300), family=FIVE, record=True)
    step, q = out.trace.events[0], DRAFT.distributions(options)
    counts = []
    for drafted in step["drafted"].tolist():
        sure = [max(q(PROMPT + tuple(drafted[:n]))) >= 0.6 for n in range(4)]
        counts.append(sure.index(False) if False in sure else 4)
    assert step["accepted"].tolist() == counts


@pytest.mark.parametrize(("setting", "tau"), [(PLAIN, 0.4), (WARPED, 0.7)], ids=["plain", "warped"])
def test_threshold_follows_the_enumerated_distribution(setting, tau):
    options = Threshold(max_new_tokens=3, gamma=2, tau=tau, **setting)
    p, q = TARGET.distributions(options), DRAFT.distributions(options)

    def block(prefix, left=2):
        found = {}
        for token, chance in enumerate(q(prefix)) if left else ():
            if not chance:
                continue
            if p(prefix)[token] / chance > tau:
                rest = block(prefix + (token,), left - 1) if token else {(): 1.0}
                new = {(token, *tokens): chance * c for tokens, c in rest.items()}
            else:
                new = {(bonus,): chance * c for bonus, c in enumerate(p(prefix))}
            found = {x: found.get(x, 0) + new.get(x, 0) for x in found | new}
        return found or token_by_token(p)(prefix)

    out = decode(TARGET, prompts(), options, draft=DRAFT, generator=keys(), family=FIVE)
    assert_follows(out.responses, texts(block, 3))
