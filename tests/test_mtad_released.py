"""What MTAD's released code does otherwise, as options, re-stated from it: slots, softmaxed weights, greedy trees."""

from math import exp, log

import pytest
import torch
from enumeration import (
    DRAWS,
    FIVE,
    PLAIN,
    PROMPT,
    WARPED,
    TableModel,
    assert_follows,
    drafted_beams,
    joint,
    keys,
    many_prompts,
    mtad_block,
    paths_of,
    prompts,
    texts,
)

from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.mtad import Mtad
from lib.mtad.mtad import verify_joint

TARGET, DRAFT = TableModel.pair()
COLD = {"temperature": 0.0, "top_k": 0, "top_p": 1.0}


def by_slot(paths, weights, p, q, tau: float, start: tuple[int, ...]) -> tuple[int, ...]:
    """TreeMTADStrategy_v2: the bar of depth d is the joint of what stands at the best final beam's place there."""
    width = len(weights)
    place = max(range(width), key=lambda i: weights[i])
    found = ()
    for first in range(0, len(paths), width):
        layer = paths[first : first + width]
        bar = log(joint(q, start, layer[place]))
        target = [joint(p, start, path) for path in layer]
        passing = [i for i in range(width) if target[i] and log(target[i]) - bar > log(tau)]
        if passing:
            found = layer[max(passing, key=lambda i: target[i])]
    return found


@pytest.mark.parametrize("tau", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("weights", ["normalised", "softmax"])
def test_slot_is_the_released_reference(tau, weights):
    options = Mtad(gamma=3, width=4, tau=tau, tree=True, reference="slot", weights=weights, **PLAIN)
    ids = many_prompts()[::4]
    draft, logits = drafted_beams(TARGET, DRAFT, options, ids)
    verdict = verify_joint(draft, options.distribution(logits), options)
    kept = verify_joint(draft, options.distribution(logits), Mtad(gamma=3, tau=tau, tree=True, **PLAIN))
    p, q = TARGET.distributions(options), DRAFT.distributions(options)
    for row, start in enumerate(map(tuple, ids.tolist())):
        paths = [path[: path.index(0) + 1] if 0 in path else path for path in paths_of(draft, row)]
        expected = by_slot(paths, draft.weights[row].tolist(), p, q, tau, start)
        took = [draft.tokens[row, place].item() for place in verdict.path[row] if place >= 0]
        took = took[: took.index(0) + 1] if 0 in took else took
        assert tuple(took) == expected
    assert (verdict.path != kept.path).any()


@pytest.mark.parametrize(
    ("setting", "shape"),
    [
        (PLAIN, {"gamma": 2, "width": 2, "tau": 0.3}),
        (WARPED, {"gamma": 3, "width": 2, "tau": 0.6}),
        (PLAIN, {"gamma": 2, "width": 2, "tau": 0.5, "tree": True}),
    ],
    ids=str,
)
def test_softmaxed_weights_follow_their_enumerated_distribution(setting, shape):
    length = 3 if shape["gamma"] < 3 else 4
    options, plain = (Mtad(max_new_tokens=length, weights=w, **setting, **shape) for w in ("softmax", "normalised"))
    out = decode(TARGET, prompts(), options, draft=DRAFT, generator=keys(), family=FIVE)
    exact = texts(mtad_block(TARGET, DRAFT, options), length)
    assert_follows(out.responses, exact)
    other = texts(mtad_block(TARGET, DRAFT, plain), length)
    assert sum(abs(exact[x] - other[x]) for x in exact | other) / 2 > 0.005  # the test would notice
    assert len(out.responses) == DRAWS


def test_a_softmax_of_probabilities_flattens_them():
    """The example of the paper's fact sheet: 0.60 and 0.05 become 0.63 and 0.37 where they are 0.92 and 0.08."""
    weights = torch.softmax(torch.tensor([0.6, 0.05]), -1)
    options = Mtad(gamma=1, width=2, weights="softmax", tree=True, **PLAIN)
    draft, _ = drafted_beams(TARGET, DRAFT, options, prompts(400))
    chance = draft.chance
    torch.testing.assert_close(draft.weights, torch.softmax(chance, -1))
    assert weights.tolist() == pytest.approx([0.634, 0.366], abs=1e-3)


def beam_search(q, start: tuple[int, ...], width: int, gamma: int, softmax: bool) -> list[list[tuple]]:
    """The layers of the released tree at temperature 0: the largest cells of weight times q, as (path, weight)."""
    layers = [[((), 1.0)]]
    for depth in range(gamma):
        cells = []
        for path, weight in layers[-1]:
            after = [(0, 1.0)] if 0 in path else enumerate(q(start + path))
            cells += [((*path, token), weight * chance) for token, chance in after]
        best = sorted(cells, key=lambda cell: -cell[1])[:width]
        masses = [exp(mass) if softmax and depth else mass for _, mass in best]
        layers.append([(path, mass / sum(masses)) for (path, _), mass in zip(best, masses, strict=True)])
    return layers[1:]


@pytest.mark.parametrize("weights", ["normalised", "softmax"])
@pytest.mark.parametrize(("width", "gamma"), [(1, 3), (3, 3), (4, 2), (7, 2)])
def test_a_tree_at_temperature_0_holds_the_likeliest_cells(width, gamma, weights):
    options = Mtad(max_new_tokens=6, gamma=gamma, width=width, tree=True, weights=weights, **COLD)
    ids = many_prompts()[::10]
    out = decode(TARGET, ids, options, draft=DRAFT, generator=0, family=FIVE, record=True)
    step, q = out.trace.events[0], DRAFT.distributions(Mtad(**PLAIN))
    greedy = decode(TARGET, ids, Autoregressive(6), generator=0, family=FIVE).responses.tolist()
    lengths = []
    for row, start in enumerate(map(tuple, ids.tolist())):
        layers = beam_search(q, start, width, gamma, weights == "softmax")
        found, tokens, parents = [], step["drafted"][row].tolist(), step["parents"][row].tolist()
        for token, parent in zip(tokens, parents, strict=True):
            found.append((found[parent] if parent >= 0 else ()) + (token,))
        assert set(found) == {path for layer in layers for path, _ in layer}
        own = tuple(greedy[row])
        text = own[: own.index(0)] + (0,) * 6 if 0 in own else own
        lengths.append(max((len(path) for path in found if path == text[: len(path)]), default=0))
    assert step["accepted"].tolist() == lengths
    assert out.responses.tolist() == greedy


def test_a_tree_at_temperature_0_accepts_more_than_a_chain():
    rounds = {}
    for tree in (False, True):
        options = Mtad(max_new_tokens=12, gamma=4, width=4, tree=tree, **COLD)
        out = decode(TARGET, many_prompts()[::10], options, draft=DRAFT, generator=0, family=FIVE)
        rounds[tree] = (out.responses, out.trace.measures["accepted"].sum() / out.trace.measures["blocks"].sum())
    assert torch.equal(rounds[False][0], rounds[True][0])
    assert rounds[True][1] > 1.5 * rounds[False][1]


def test_a_greedy_tree_never_goes_beyond_the_target():
    options = Mtad(max_new_tokens=8, gamma=3, width=4, tree=True, **COLD)
    out = decode(TARGET, torch.tensor([PROMPT]), options, draft=DRAFT, generator=0, family=FIVE)
    assert out.trace.measures["overshoot"].tolist() == [0.0] == out.trace.measures["beyond"].tolist()
