"""The fast loops give, token by token, what the references of the three papers give for each prompt alone."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import AR, SHIFTED, UNSHIFTED, heads, tiny

from lib.autodeco import AutoDecoForCausalLM
from lib.autodeco.decode import AutoDeco
from lib.autodeco.reference import autodeco
from lib.decoders import decode
from lib.decoding.randomness import RowGenerator
from lib.mtad import Mtad
from lib.mtad.reference import mtad
from lib.tolerator import Tolerator
from lib.tolerator.reference import tolerator

SEEDS = (0, 1, 2)
ENDS = (0, 5, 9)  # of 24 tokens, so that many a text ends in the middle


def varied(base, **changes) -> dict:
    """`base`, and it with one option changed, under a name for each; a dict changes several."""
    found = {"base": base}
    for name, values in changes.items():
        for value in values:
            change = value if isinstance(value, dict) else {name: value}
            found["-".join(f"{k}={v}" for k, v in change.items())] = replace(base, **change)
    return found


def cases(options: dict):
    return pytest.mark.parametrize("options", options.values(), ids=options)


def assert_same(reference, model, prompts, options, family, **given) -> None:
    """Decode the batch with every seed, and each of its rows by `reference(prompt [P], options, generator, family)`.

    Of all these texts some end before their limit, and they are not all the same.
    """
    ids, mask = prompts
    texts, limit = [], getattr(options, "canvas", None) or options.max_new_tokens
    for seed in SEEDS:
        generator = RowGenerator.of(seed, [str(row) for row in range(len(ids))])
        out = decode(model, ids, options, generator=generator, family=family, attention_mask=mask, **given)
        for row, length in enumerate(out.lengths.tolist()):
            own = generator.select(torch.tensor([row]))
            texts.append(reference(ids[row, mask[row].bool()].tolist(), options, own, family))
            assert out.responses[row, :length].tolist() == texts[-1], f"seed {seed}, row {row}"
    assert any(0 < len(text) < limit for text in texts) and len(set(map(tuple, texts))) > 2


AUTODECO = varied(AutoDeco(max_new_tokens=12), temperature=[0.0, 0.5, 1.6], top_p=[0.3, 0.8])


@cases(AUTODECO)
@pytest.mark.parametrize("statistics", [True, False])
def test_autodeco(options, statistics, prompts):
    model = AutoDecoForCausalLM.from_base(tiny(), heads(statistics=statistics))
    assert_same(partial(autodeco, model), model, prompts, options, replace(AR, eot_ids=ENDS))


FILL = Tolerator(canvas=9, forwards=6, eot_form="off")
TOLERATOR = varied(
    FILL,
    canvas=[4, 8, 16],
    forwards=[2, 3, 11, {"canvas": 16, "forwards": 16, "rho": 0.3}],
    rho=[0.2, 0.8],
    gammas=[{"gamma_max": 1.0}, {"gamma_max": 0.5, "gamma_min": 0.1}, {"canvas": 15, "gamma_min": 0.8}],
    temperature=[0.0, 1.5],
    refine_temperature=[0.0, 1.0],
    eot_lambda=[{"eot_form": form, "eot_lambda": lam} for form in ("prob_div", "logit_div") for lam in (0.5, 4.0)],
    refine_eot_lambda=[
        {"eot_form": f, "eot_lambda": 1.0, "refine_eot_lambda": 4.0} for f in ("prob_div", "logit_div")
    ],
)


@pytest.fixture(scope="module")
def mixing():
    """A network whose masked positions differ: what each attends to weighs more than that it is a mask."""
    model = tiny(scale=10)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= 30 if "self_attn" in name else 1
    return model


@cases(TOLERATOR)
@pytest.mark.parametrize("family", [SHIFTED, UNSHIFTED], ids=lambda family: family.name)
def test_tolerator(options, family, mixing, prompts):
    assert_same(partial(tolerator, mixing), mixing, prompts, options, replace(family, eot_ids=ENDS))


CHAIN = Mtad(max_new_tokens=12, gamma=3, width=3, top_k=10)
MTAD = varied(
    CHAIN,
    max_new_tokens=[2, 5],
    gamma=[1, 2, 5],
    width=[1, 2, 6],
    tau=[0.0, 0.1, 0.9, 1.0],
    temperature=[0.0, 0.6, 1.5],
    top_k=[0, 3, 24],
    top_p=[0.5, 1.0],
    warp=[{"top_k": 0, "top_p": 1.0}, {"top_k": 0, "top_p": 1.0, "tau": 0.1, "gamma": 5}],
)


@pytest.fixture(scope="module")
def pair():
    """A target, and a draft that is the target with noise in every weight."""
    target = tiny(scale=8)
    draft = deepcopy(target)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in draft.parameters():
            weight += 0.3 * weight.std() * torch.randn_like(weight) if weight.ndim == 2 else 0
    return target, draft


@cases(MTAD)
@pytest.mark.parametrize("tree", [False, True], ids=["chain", "tree"])
def test_mtad(options, tree, pair, prompts):
    family = replace(AR, eot_ids=ENDS)
    assert_same(partial(mtad, *pair), pair[0], prompts, replace(options, tree=tree), family, draft=pair[1])
