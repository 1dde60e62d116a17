"""The cases of `make bench`: each is measured in turns with its peer, after both were seen to do equal work."""

import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from lib.analysis.interleaved import time_ratio
from lib.analysis.stats import Estimate
from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco
from lib.bench import peers
from lib.bench.limits import bandwidth, memory
from lib.bench.rows import Row, fastest, rows_of, share
from lib.bench.work import NEW, compiling, device, endless, model, ours, prompts
from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.distributions import draw
from lib.decoding.randomness import RowGenerator
from lib.decoding.session import watching
from lib.mtad import Assisted, Mtad, Speculative
from lib.running.evaluation import run_all
from lib.running.run import Run
from lib.tolerator.reference import tolerator as plain_tolerator
from lib.tolerator.refine import Tolerator

QUESTION = "Write a short paragraph about tea."
SETTING = {"temperature": 0.8, "top_p": 0.9}


def against_generate(case: str, name: str, batch: int, rounds: int, least: float = 0.98) -> Row:
    """Greedy decoding beside `generate` and vLLM, all by the fastest of their settings here.

    `least`: the share of tokens that must be equal, less than all since a tie of two tokens may part two texts.
    """
    network, ids = model(name).network, prompts(name, batch)
    twin, static = peers.compiled(network), {"cache_implementation": "static"}
    variants = {
        "ours": lambda: ours(name, ids),
        "ours, compiled": compiling()(lambda: ours(name, ids)),
        "generate": lambda: peers.generate(network, ids, NEW),
        "generate, static cache, compiled": lambda: peers.generate(twin, ids, NEW, **static),
    }
    if find_spec("vllm"):
        variants["vLLM"] = peers.vllm(model(name), ids, NEW)
    texts = {}
    for variant, run in list(variants.items()):
        try:
            texts[variant] = run()
        except Exception as error:  # no compiler here, of many kinds
            print(f"{case}: {variant} does not run here ({str(error).splitlines()[0]})", file=sys.stderr)
            del variants[variant]
    same = {variant: (text == texts["ours"]).double().mean().item() for variant, text in texts.items()}
    if min(same.values()) < least:
        raise RuntimeError(f"{case}: not the same work: {same}")
    return fastest(case, rows_of(variants, rounds, batch * NEW), "tokens/s")


def samples_of_a_prompt(rounds: int) -> Row:
    """Eight samples of each of eight prompts, beside the loop of the first edition: equal tokens."""
    network, ids = model("study-ar").network, prompts("study-ar", 8).repeat_interleave(8, 0)
    generator = RowGenerator.of(0, [str(row) for row in range(64)])
    options = Autoregressive(NEW // 2, temperature=1.0)
    variants = {
        "ours": lambda: ours("study-ar", ids, options),
        "the first edition's loop": lambda: peers.first_edition(network, ids, NEW // 2, 1.0, generator),
    }
    same = (variants["ours"]() == variants["the first edition's loop"]()).double().mean().item()
    if same < 0.98:
        raise RuntimeError(f"samples-8: not the same work: {same}")
    return fastest("samples-8", rows_of(variants, rounds, 64 * NEW // 2), "tokens/s")


def tolerator(case: str, batch: int, rounds: int, name: str = "study-dlm", least: float = 0.98) -> Row:
    """TOLERATOR on the masked diffusion model, beside the loop as the paper has it, a text at a time."""
    network, ids, family = model(name).network, prompts(name, batch), endless(name)
    options = Tolerator(canvas=NEW, forwards=NEW // 2)
    rows = [RowGenerator.of(0, [str(row)]) for row in range(batch)]
    together = RowGenerator.of(0, [str(row) for row in range(batch)])
    variants = {
        "ours": lambda: decode(network, ids, options, generator=together, family=family).responses,
        "the paper's loop, plain": lambda: torch.tensor(
            [
                plain_tolerator(network, text, options, row, family)
                for text, row in zip(ids.tolist(), rows, strict=True)
            ]
        ),
    }
    one, other = (run().cpu() for run in variants.values())
    if (one == other).double().mean() < least:
        raise RuntimeError(f"{case}: not the same work")
    return fastest(case, rows_of(variants, rounds, batch * NEW), "tokens/s")


def nucleus(case: str, vocabulary: int, rounds: int, batch: int = 8, repeats: int = 20) -> Row:
    """A draw from a nucleus, beside the warper of `generate`, on logits that fall by rank as a model's do."""
    random = torch.Generator().manual_seed(0)
    rank = torch.stack([torch.randperm(vocabulary, generator=random) for _ in range(batch)]) + 1
    logits = -1.5 * rank.float().log() + 0.3 * torch.randn(batch, vocabulary, generator=random)
    uniform = torch.rand(batch, generator=random, dtype=torch.float64)
    logits, uniform = logits.to(device()), uniform.to(device())
    kept = torch.isfinite(peers.TopPLogitsWarper(0.9)(None, logits))
    if not kept.gather(1, draw(logits, uniform, 1.0, 0.9)[:, None]).all():
        raise RuntimeError(f"{case}: a token outside of the nucleus")
    variants = {
        "ours": lambda: [draw(logits, uniform, 1.0, 0.9) for _ in range(repeats)],
        "transformers' top-p warper": lambda: [peers.nucleus_by_warper(logits, 0.9) for _ in range(repeats)],
    }
    return fastest(case, rows_of(variants, rounds, repeats * batch), "draws/s")


def speculative(rounds: int, gamma: int = 3) -> Row:
    """Greedy speculative decoding beside `transformers`' assisted generation: equal tokens, equal draft length."""
    target, draft = model("smollm2-135m"), model("smollm2-draft").network
    ids, _ = target.encode([QUESTION])
    same = {"gamma": gamma, "temperature": 0.0}
    settings = {"ours": Speculative(NEW, **same), "assisted generation": Assisted(NEW, **same)}
    variants = {name: lambda o=o: ours("smollm2-135m", ids, o, draft=draft) for name, o in settings.items()}
    texts = [run() for run in variants.values()]
    if (texts[0] == texts[1]).double().mean() < 0.98:
        raise RuntimeError("speculative-vs-assisted: not the same work")
    return fastest("speculative-vs-assisted", rows_of(variants, rounds, NEW), "tokens/s")


def mtad_outside(rounds: int) -> Row:
    """What of MTAD's time is spent outside of the two networks, on SmolLM2 at batch 1."""
    target, draft = model("smollm2-135m"), model("smollm2-draft").network
    ids, _ = target.encode([QUESTION])
    inside = [0.0]

    def watch(_, begins: bool) -> None:
        inside[0] += -time.perf_counter() if begins else time.perf_counter()

    found = []
    for number in range(-1, rounds):
        inside[0] = 0.0
        started = time.perf_counter()
        with watching(watch):
            ours("smollm2-135m", ids, Mtad(NEW, gamma=3, tau=0.05), draft=draft)
        whole = time.perf_counter() - started
        if number >= 0:
            found.append((100 * (1 - inside[0] / whole), whole, inside[0]))
    shares, wholes, insides = zip(*found, strict=True)
    return share("mtad-outside", shares, np.median(wholes), np.median(insides), "s", "the two networks")


def autodeco_extra(rounds: int) -> Row:
    """What AutoDeco's heads add to a token's time, on SmolLM2 at batch 1: beside the constant that they say."""
    base, ids = model("smollm2-135m").network, prompts("smollm2-135m", 1)
    heads = Heads.saying(HeadsConfig(base.config.hidden_size), **SETTING)
    with_heads = AutoDecoForCausalLM.from_base(base, heads)
    variants = {
        "AutoDeco": lambda: ours("smollm2-135m", ids, AutoDeco(NEW), with_heads),
        "constant": lambda: ours("smollm2-135m", ids, Autoregressive(NEW, **SETTING)),
    }
    if (variants["AutoDeco"]() == variants["constant"]()).double().mean() < 0.9:
        raise RuntimeError("autodeco-b1: not the same work")
    rows = rows_of(variants, rounds, NEW)
    e, pace = time_ratio(rows, "AutoDeco", "constant"), (rows.seconds / rows.work).groupby(rows.variant).median()
    extra = Estimate(100 * (e.value - 1), 100 * (e.low - 1), 100 * (e.high - 1), e.n)
    return Row("autodeco-b1", extra, 1e3 * pace["AutoDeco"], 1e3 * pace["constant"], "ms/token", "the same constant")


def evaluation_outside(rounds: int) -> Row:
    """What of a run's time is not decoding: making prompts, scoring, writing."""
    found = []
    for number in range(-1, rounds):
        run = Run.of("study-ar", "worded_math", "autoregressive", 96, 2, seed=number + 1, temperature=1.0)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            lines = run_all([run], Path(folder), workers=0)[run]
            whole = time.perf_counter() - started
        decoding = sum(line["seconds"] for line in lines)
        if number >= 0:
            found.append((100 * (1 - decoding / whole), whole, decoding))
    shares, wholes, decodings = zip(*found, strict=True)
    return share("evaluation-outside", shares, np.median(wholes), np.median(decodings), "s", "decoding")


def cases(rounds: int) -> Iterator[Row]:
    """Every case, one after another."""
    yield against_generate("smollm2-b1", "smollm2-135m", 1, rounds)
    yield speculative(rounds)
    yield mtad_outside(rounds)
    yield autodeco_extra(3 * rounds)
    yield from bandwidth(rounds)
    yield memory()
    yield samples_of_a_prompt(rounds)
    yield evaluation_outside(rounds)
    yield tolerator("tolerator-b1", 1, rounds)
    yield tolerator("tolerator-b16", 16, rounds)
    yield against_generate("study-ar-b64", "study-ar", 64, rounds)
    yield against_generate("study-ar-b1", "study-ar", 1, 3 * rounds)
    yield nucleus("nucleus-2k", 2_048, 3 * rounds)
    yield nucleus("nucleus-49k", 49_152, rounds)
    yield nucleus("nucleus-152k", 151_936, rounds)
