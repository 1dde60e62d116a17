"""The cases of `make bench`: each is measured in turns with its peer, after both were seen to do equal work."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.analysis.interleaved import interleaved, time_ratio
from lib.analysis.stats import Estimate
from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco
from lib.bench import peers
from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.distributions import draw
from lib.decoding.randomness import RowGenerator
from lib.decoding.session import watching
from lib.models.registry import Model, load
from lib.mtad import Assisted, Mtad, Speculative
from lib.running.evaluation import Run, run_all
from lib.tasks import get_task

NEW = 64  # tokens of a text
PROMPT = 48  # tokens of a prompt
QUESTION = "Write a short paragraph about tea."
SETTING = {"temperature": 0.8, "top_p": 0.9}


@dataclass(frozen=True)
class Row:
    """A case: how many times as fast as the peer (or a share in %), with its interval; ours and the peer's figure."""

    case: str
    ratio: Estimate
    ours: float
    peer: float
    unit: str
    against: str


@cache
def model(name: str) -> Model:
    return load(name)


def endless(name: str):
    """The family of a model of which no token ends a text, so that all have the same length."""
    return replace(model(name).family, eot_ids=(-1,))


def prompts(name: str, batch: int) -> Tensor:
    """Word problems one after another, cut to PROMPT tokens: [batch, PROMPT]."""
    text = "\n".join(item.prompt for item in get_task("gsm_symbolic").items("test", 40))
    ids = model(name).tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor([ids[97 * i % (len(ids) - PROMPT) :][:PROMPT] for i in range(batch)])


def ours(name: str, ids: Tensor, options=None, network=None, **given) -> Tensor:
    options = options or Autoregressive(NEW)
    out = decode(network or model(name).network, ids, options, generator=0, family=endless(name), **given)
    return out.responses


def against_generate(case: str, name: str, batch: int, rounds: int) -> Row:
    """Greedy decoding beside `generate`, by the faster of its settings here."""
    network, ids = model(name).network, prompts(name, batch)
    twin = peers.compiled(network)
    variants = {
        "ours": lambda: ours(name, ids),
        "generate": lambda: peers.generate(network, ids, NEW),
        "generate, static cache, compiled": lambda: peers.generate(twin, ids, NEW, cache_implementation="static"),
    }
    texts = {}
    for variant, run in list(variants.items()):
        try:
            texts[variant] = run()
        except Exception as error:  # no compiler here, of many kinds
            print(f"{case}: {variant} does not run here ({str(error).splitlines()[0]})", file=sys.stderr)
            del variants[variant]
    same = {variant: (text == texts["ours"]).double().mean().item() for variant, text in texts.items()}
    if min(same.values()) < 0.98:  # a tie of two tokens may part two texts
        raise RuntimeError(f"{case}: not the same work: {same}")
    return fastest(case, rows_of(variants, rounds, batch * NEW), "tokens/s")


def rows_of(variants: dict[str, Callable], rounds: int, work: int):
    def counted(run: Callable) -> Callable[[], int]:
        return lambda: (run(), work)[1]

    return interleaved({name: counted(run) for name, run in variants.items()}, rounds)


def fastest(case: str, rows, unit: str) -> Row:
    """Ours beside the fastest of the others."""
    pace = (rows.work / rows.seconds).groupby(rows.variant).median()
    other = pace.drop("ours").idxmax()
    return Row(case, time_ratio(rows, other, "ours"), pace["ours"], pace[other], unit, other)


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


def nucleus(case: str, vocabulary: int, rounds: int, batch: int = 8, repeats: int = 20) -> Row:
    """A draw from a nucleus, beside the warper of `generate`, on logits that fall by rank as a model's do."""
    random = torch.Generator().manual_seed(0)
    rank = torch.stack([torch.randperm(vocabulary, generator=random) for _ in range(batch)]) + 1
    logits = -1.5 * rank.float().log() + 0.3 * torch.randn(batch, vocabulary, generator=random)
    uniform = torch.rand(batch, generator=random, dtype=torch.float64)
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


def share(case: str, shares: list[float], ours: float, peer: float, unit: str, against: str) -> Row:
    """Shares in % of some rounds: their median, with a bootstrap over rounds."""
    values = np.array(shares)
    drawn = np.median(np.random.default_rng(0).choice(values, (4000, len(values))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Row(
        case, Estimate(float(np.median(values)), float(low), float(high), len(values)), ours, peer, unit, against
    )


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
        run = Run.of(
            "study-ar", "gsm_symbolic", "autoregressive", items=96, temperature=1.0, samples=2, seed=number + 1
        )
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            lines = run_all([run], Path(folder), workers=0)[run]
            whole = time.perf_counter() - started
        decoding = sum(line["seconds"] for line in lines)
        if number >= 0:
            found.append((100 * (1 - decoding / whole), whole, decoding))
    shares, wholes, decodings = zip(*found, strict=True)
    return share("evaluation-outside", shares, np.median(wholes), np.median(decodings), "s", "decoding")


def bandwidth(rounds: int) -> list[Row]:
    """What share of the machine's limits a token of SmolLM2 at batch 1 reaches: reading its weights once, and
    multiplying each of them by a vector, in the same rounds."""
    from lib.decoding.llama import linear

    network, ids = model("smollm2-135m").network, prompts("smollm2-135m", 1)
    weights = [p for p in network.parameters() if p.ndim == 2]
    vectors = [torch.randn(1, p.shape[1]) for p in weights]
    size = sum(p.numel() * p.element_size() for p in weights)

    @torch.inference_mode()
    def read() -> None:
        for p in weights:
            p.sum()

    @torch.inference_mode()
    def multiply() -> None:
        for p, x in zip(weights, vectors, strict=True):
            linear(x, p)

    first = Autoregressive(1)  # the prompt's time is no token's
    variants = {
        "decoded": (lambda: ours("smollm2-135m", ids), NEW),
        "prompt": (lambda: ours("smollm2-135m", ids, first), 1),
        "read": (read, 1),
        "multiplied": (multiply, 1),
    }
    rows = interleaved({name: (lambda run=run, n=n: (run(), n)[1]) for name, (run, n) in variants.items()}, rounds)
    wide = rows.pivot(index="round", columns="variant", values="seconds")
    token = (wide.decoded - wide.prompt) / (NEW - 1)
    gigabytes = size / 1e9
    return [
        share(
            case,
            list(100 * wide[limit] / token),
            gigabytes / token.median(),
            gigabytes / wide[limit].median(),
            "GB/s",
            against,
        )  # fmt: skip
        for case, limit, against in (
            ("bandwidth-share", "read", "reading the weights"),
            ("product-share", "multiplied", "matrix-vector products of the weights"),
        )
    ]


def memory() -> Row:
    """Peak memory of a decoding above weights, cache and one buffer of logits, in a process of its own."""
    code = "from lib.bench.engine import peak; peak()"
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    needed, taken = map(float, out.stdout.split())
    return share("memory-over", [100 * (taken / needed - 1)], taken / 1e6, needed / 1e6, "MB", "what it must hold")


def peak(batch: int = 16) -> None:
    """Print the bytes that a decoding must hold, weights among them, and these with what the process grew by."""
    network, ids = model("smollm2-135m").network, prompts("smollm2-135m", batch)
    ours("smollm2-135m", ids[:1], Autoregressive(2))  # libraries make their buffers
    config = network.config
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * batch * (PROMPT + NEW) * 4
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    Path("/proc/self/clear_refs").write_text("5")  # the peak of loading is forgotten
    before = _status("VmRSS")
    ours("smollm2-135m", ids)
    print(weights + cache + batch * config.vocab_size * 4, weights + _status("VmHWM") - before)


def _status(name: str) -> int:
    """A number of bytes that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def cases(rounds: int) -> Iterator[Row]:
    """Every case, one after another."""
    yield against_generate("smollm2-b1", "smollm2-135m", 1, rounds)
    yield speculative(rounds)
    yield mtad_outside(rounds)
    yield autodeco_extra(2 * rounds)
    yield from bandwidth(rounds)
    yield memory()
    yield samples_of_a_prompt(rounds)
    yield evaluation_outside(rounds)
    yield against_generate("study-ar-b64", "study-ar", 64, rounds)
    yield against_generate("study-ar-b1", "study-ar", 1, 3 * rounds)
    yield nucleus("nucleus-2k", 2_048, 3 * rounds)
    yield nucleus("nucleus-49k", 49_152, rounds)
    yield nucleus("nucleus-152k", 151_936, rounds)
