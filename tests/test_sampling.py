"""Randomness that depends on its key alone, and draws that follow the exact distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from lib.decoding import distributions as sampling
from lib.decoding.distributions import categorical, nucleus, warp
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError

FALSE_ALARM = 1e-4  # of each statistical test below: with fixed seeds they either always pass or never


def test_uniform_draws_are_uniform_and_uncorrelated():
    generator = RowGenerator.of(0, [f"i{k}" for k in range(200)])
    draws = generator.uniform(step=3, stream=1, width=500)
    assert 0 < draws.min() and draws.max() < 1
    assert kstest(draws.flatten().numpy(), "uniform").pvalue > FALSE_ALARM
    neighbours = torch.corrcoef(torch.stack([draws[:, :-1].flatten(), draws[:, 1:].flatten()]))[0, 1]
    steps = torch.corrcoef(torch.stack([draws.flatten(), generator.uniform(4, 1, 500).flatten()]))[0, 1]
    rows = torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[0, 1]
    for correlation in (neighbours, steps, rows):
        assert abs(correlation) < 4 / 100_000**0.5


def test_a_draw_depends_on_its_key_alone():
    names = list("abcdef")
    every = RowGenerator.of(5, names, [0, 0, 1, 1, 2, 2]).uniform(2, 0, 7)
    alone = RowGenerator.of(5, ["d"], [1]).uniform(2, 0, 7)
    assert torch.equal(every[3:4], alone)
    assert torch.equal(every[:, :3], RowGenerator.of(5, names, [0, 0, 1, 1, 2, 2]).uniform(2, 0, 3))
    for other in (RowGenerator.of(6, ["d"], [1]), RowGenerator.of(5, ["d"], [2]), RowGenerator.of(5, ["e"], [1])):
        assert not torch.equal(other.uniform(2, 0, 7), alone)


def test_pinned_draws():
    """The committed results rest on these numbers: a change of the generator must be deliberate."""
    draws = RowGenerator.of(0, ["item"]).uniform(0, 0, 3)[0].tolist()
    assert draws == pytest.approx([0.22566659586156324, 0.36397545249941643, 0.20032576380002143], abs=1e-15)


def test_a_torch_generator_or_a_seed_will_do():
    first = RowGenerator.coerce(torch.Generator().manual_seed(1), 3).keys
    again = RowGenerator.coerce(torch.Generator().manual_seed(1), 3).keys
    assert torch.equal(first, again) and len(set(first.tolist())) == 3
    with pytest.raises(ValueError, match="2 rows"):
        RowGenerator.coerce(RowGenerator.of(0, ["a", "b"]), 3)


def test_categorical_follows_the_distribution():
    probs = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05])
    uniform = RowGenerator.of(1, ["x"]).uniform(0, 0, 100_000)[0]
    counts = torch.bincount(categorical(probs.expand(100_000, 5), uniform), minlength=5)
    assert counts[1] == 0
    kept = [0, 2, 3, 4]
    assert (
        chisquare(counts[kept].numpy(), (probs[kept] * 100_000).numpy().astype(float), sum_check=False).pvalue
        > FALSE_ALARM
    )


def test_categorical_at_the_ends_of_the_interval():
    probs = torch.tensor([[0.0, 0.4, 0.6, 0.0]])
    assert categorical(probs, torch.tensor([1e-18], dtype=torch.float64)).item() == 1
    assert categorical(probs, torch.tensor([1 - 2**-52], dtype=torch.float64)).item() == 2


def nucleus_by_hand(probs: list[float], top_p: float) -> list[float]:
    """Smallest set of most probable tokens whose mass reaches top_p."""
    order = sorted(range(len(probs)), key=lambda i: -probs[i])
    kept, mass = [], 0.0
    for i in order:
        if mass >= top_p:
            break
        kept.append(i)
        mass += probs[i]
    return [p / mass if i in kept else 0.0 for i, p in enumerate(probs)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-6, 6), min_size=2, max_size=9, unique=True), st.floats(0.05, 0.99), st.floats(0.2, 3))
def test_nucleus_equals_the_definition(logits, top_p, temperature):
    z = torch.tensor(logits, dtype=torch.float32)
    ours = warp(z, temperature, top_p)
    exact = torch.softmax(z / temperature, -1)
    # Skip draws whose cumulative mass meets the threshold to rounding: either side is right there.
    ordered = exact.sort(descending=True).values.cumsum(-1)
    if (ordered - top_p).abs().min() > 1e-5:
        assert torch.allclose(ours, torch.tensor(nucleus_by_hand(exact.tolist(), top_p)), atol=1e-5)


def test_warp_limits():
    z = torch.tensor([1.0, 3.0, 3.0, -torch.inf])
    assert warp(z, 0.0).tolist() == [0, 1, 0, 0], "temperature 0: the first of the largest"
    assert torch.equal(warp(z, 1.0), torch.softmax(z, -1))
    assert (warp(z, 1.0, top_k=1) > 0).sum() == 1
    assert warp(z, 1.0, top_p=1e-9).max() == 1
    assert warp(z, 1.0)[3] == 0


def by_sorting(probs, top_p):
    """The nucleus after a stable sort of the whole vocabulary, mass in float64."""
    ordered, order = torch.sort(probs, dim=-1, descending=True, stable=True)
    before = ordered.double().cumsum(-1) - ordered.double()
    kept = ordered.masked_fill((before >= top_p.double()) & (top_p < 1), 0)
    kept = torch.where(top_p < 1, kept / kept.sum(-1, keepdim=True), kept)
    return torch.zeros_like(probs).scatter(-1, order, kept)


@pytest.mark.parametrize("width", [1, 3, 256])
def test_nucleus_equals_a_sort_of_the_vocabulary(width, monkeypatch):
    monkeypatch.setattr(sampling, "WIDTH", width)
    generator = torch.Generator().manual_seed(width)
    size = 400
    rows = [torch.randn(size, generator=generator) * scale for scale in (0.1, 1, 4, 20)]
    rows += [torch.randint(0, 3, (size,), generator=generator).float() for _ in range(4)]  # ties
    rows += [
        torch.zeros(size),
        torch.eye(size)[7] * 1e4,
        torch.full((size,), -torch.inf).index_fill(0, torch.tensor(5), 0),
    ]
    logits = torch.stack(rows)
    logits[1, ::2] = -torch.inf
    probs = torch.softmax(logits, -1)
    for value in (1e-9, 0.1, 0.5, 0.7, 0.95, 0.999, 1.0):
        top_p = torch.full((len(rows), 1), value)
        ours, sorted_ = nucleus(probs, top_p), by_sorting(probs, top_p)
        assert torch.equal(ours > 0, sorted_ > 0), value
        assert torch.allclose(ours, sorted_, atol=1e-6)
    mixed = torch.linspace(0.05, 1.0, len(rows))[:, None]
    assert torch.equal(nucleus(probs, mixed)[-1], probs[-1])
    assert torch.equal(nucleus(probs, mixed) > 0, by_sorting(probs, mixed) > 0)


def test_a_setting_a_row_equals_the_rows_alone():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    temperature = torch.tensor([0.0, 0.3, 1.0, 1.7, 0.0, 1.0])
    top_p = torch.tensor([0.5, 0.9, 1.0, 0.2, 1.0, 0.8])
    together = warp(logits, temperature, top_p)
    for row in range(6):
        assert torch.equal(together[row], warp(logits[row], temperature[row].item(), top_p[row].item()))
    assert torch.equal(warp(logits, torch.ones(6), torch.ones(6)), torch.softmax(logits, -1))


def test_the_coldest_temperature_is_finite_and_nan_is_an_error():
    assert warp(torch.tensor([1.0, 1e30, -1e30]), 1e-38).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="NaN"):
        warp(torch.tensor([[1.0, torch.nan]]), 0.0)
