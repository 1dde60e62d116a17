"""What all results come to: results/headline.json, claims.json and claims.md, the README's tables, model cards."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lib.errors import UserError
from lib.paths import RESULTS, ROOT, result_files, write_whole
from lib.reporting.cards import card_texts
from lib.reporting.claims import DIRECTION, FAILS, HOLDS, OPEN, OWN, UNTESTABLE, as_text
from lib.reporting.inert import markdown_cell
from lib.running import index

TIGHTEST_FIRST = ("paper", "gpu", "night", "laptop")  # smoke decides nothing
# What a headline is; differences are in points of accuracy.
DESCRIPTIONS = {
    "autodeco_head_training_seconds": "AutoDeco: training both heads of the study model",
    "autodeco_overhead_percent": "AutoDeco: extra time a token on SmolLM2, batch 1 and 16",
    "autodeco_passk_gain": "AutoDeco minus default sampling, pass@64 in math",
    "autodeco_reward_heads_vs_constant": "AutoDeco's heads by reward minus a constant tuned as much, three tasks",
    "autodeco_vs_default_math": "AutoDeco minus default sampling, math",
    "autodeco_vs_greedy_math": "AutoDeco minus greedy decoding, math",
    "autodeco_vs_mean_constant_math": "AutoDeco minus its own mean setting as a constant, math",
    "composition_autodeco_speculative_speed": "AutoDeco in speculative decoding over AutoDeco alone: tokens a second",
    "control_high_consistency": "SmolLM2, taught heads: questions whose mean T rises behind «be diverse» (chance 50)",
    "control_low_consistency": "SmolLM2, taught heads: questions whose mean T falls behind «do not» (chance 50)",
    "draft_agreement": "the draft's likeliest token is the target's",
    "hsd_vs_speculative_speed": "hierarchical speculative decoding over speculative: tokens a second, study pair",
    "hsd_vs_speculative_speed_ar_2m": "HSD over speculative decoding: tokens a second, larger draft",
    "logic_dlm": "diffusion study model, 9x9 Sudoku, one token a forward",
    "logic_dlm_4_a_forward": "diffusion study model, 9x9 Sudoku, four tokens a forward",
    "mtad_block_efficiency": "MTAD on SmolLM2: tokens a pass of the target, seven tasks",
    "mtad_perplexity_change_percent": "MTAD's texts against sampled ones: perplexity under the target, three tasks",
    "mtad_vs_autoregressive_speed": "MTAD (gamma 3, tau 0.05) over sampling: tokens a second, SmolLM2, batch 1",
    "mtad_vs_speculative_energy": "speculative decoding over MTAD: joules a token",
    "mtad_vs_speculative_speed_published_tau": "MTAD (tau 0.5) over speculative: tokens a second, study pair",
    "mtad_vs_speculative_speed_published_tau_ar_2m": "MTAD over speculative, larger draft",
    "mtad_vs_speculative_score": "MTAD minus speculative decoding on SmolLM2, five judged tasks",
    "mtad_vs_speculative_speed": "MTAD (gamma 3, tau 0.05) over speculative: tokens a second, SmolLM2, its domain",
    "speculative_vs_hf_assisted_speed": "our speculative decoding over transformers' assisted, greedy, same pair",
    "study_ar_code": "autoregressive study model, code",
    "study_ar_qa": "autoregressive study model, QA",
    "study_dlm_code": "diffusion study model, code",
    "study_dlm_qa": "diffusion study model, QA",
    "tolerator_batch_speedup": "TOLERATOR: a batch of 32 over one prompt at a time",
    "tolerator_gain_per_capability": "TOLERATOR minus vanilla, published rates: what 10 points of capability add",
    "worded_ar_math": "autoregressive study model, math in words",
    "worded_dlm_math": "diffusion study model, math in words, one token a forward",
    "worded_dlm_math_4_a_forward": "diffusion study model, math in words, four tokens a forward",
    "tolerator_own_rule_vs_published": "Settle (ours, greedy, tuned here) minus TOLERATOR as published, four tasks",
    "tolerator_passk_gain": "TOLERATOR minus vanilla diffusion decoding, pass@16, middle budget, math",
    "tolerator_vs_vanilla": "TOLERATOR minus vanilla diffusion decoding, middle budget, mean of four tasks",
    "tolerator_vs_vanilla_corrector": "TOLERATOR minus vanilla on the corrector, middle budget, mean of four tasks",
    "tolerator_vs_vanilla_logic": "TOLERATOR minus vanilla diffusion decoding, middle budget, Sudoku",
    "tolerator_vs_vanilla_same_eot": "TOLERATOR minus vanilla with its EoT penalty, middle budget, mean of 4 tasks",
    "tolerator_vs_vanilla_math": "TOLERATOR minus vanilla diffusion decoding, middle budget, math",
    "tolerator_vs_vanilla_terse": "TOLERATOR minus vanilla diffusion decoding, middle budget, math in bare chains",
    "tolerator_vs_vanilla_worded": "TOLERATOR minus vanilla diffusion decoding, middle budget, math in sentences",
    "wino_vs_vanilla_worded": "WINO minus greedy vanilla diffusion decoding, middle budget, math in sentences",
}


def write_all(results: Path = RESULTS, readme: Path = ROOT / "README.md") -> dict[str, dict]:
    """Everything anew from the results, and the index of them all; returns the headlines."""
    for path, text in collected(results, readme).items():
        write_whole(path, text)
    index.write(results, readme)
    return headlines(results)


def collected(results: Path = RESULTS, readme: Path = ROOT / "README.md") -> dict[Path, str]:
    """What `write_all` writes, by file. Raises UserError where the README lacks a mark."""
    entries, claims = headlines(results), ledger(results)
    text = _between(readme.read_text(encoding="utf-8"), "headlines", _headline_table(entries))
    cards = card_texts(results, entries, DESCRIPTIONS)
    return cards | {
        results / "headline.json": json.dumps(entries, indent=1, sort_keys=True) + "\n",
        results / "claims.json": json.dumps(claims, indent=1) + "\n",
        results / "claims.md": page(claims),
        readme: _between(text, "claims", _claim_counts(claims)),
    }


def headlines(results: Path = RESULTS) -> dict[str, dict]:
    """Each name from the tightest profile that has it."""
    merged: dict[str, dict] = {}
    for path in _tightest_first(results, "headline.json"):
        for name, entry in json.loads(path.read_text()).items():
            merged.setdefault(name, entry)
    return merged


def ledger(results: Path = RESULTS) -> list[dict]:
    """Every claim with profile and notebook, each notebook's from the tightest profile that has it."""
    found: dict[str, list[dict]] = {}
    for path in _tightest_first(results, "claims.json"):
        profile, name = path.parts[-3:-1]
        place = {"profile": profile, "from": name}
        found.setdefault(name, [row | place for row in json.loads(path.read_text())])
    return [row for _, own in sorted(found.items()) for row in own]


def _tightest_first(results: Path, name: str) -> Iterator[Path]:
    for profile in TIGHTEST_FIRST:
        yield from result_files(name, results, profile)


def page(claims: list[dict]) -> str:
    """The ledger as a page for a forge."""
    lines = [
        "# Claims",
        "",
        "Written by `make report` from the results. *Printed* is theirs, on their models; *here* is ours with its "
        f"95 % interval. **{HOLDS}**: ours differs the way that is claimed and its interval reaches what is claimed. "
        f"**{DIRECTION}**: it stays below that. **{FAILS}**: ours differs the other way, or the interval excludes "
        f"what is claimed. **{OPEN}**: neither. **{UNTESTABLE}**: all that is compared "
        f"is near zero, or the model is not fit to tell (lib/analysis/fitness.py). Rows of *{OWN}* are what a paper "
        "leaves unasked.",
        "",
        "| where | claim | printed | here | verdict | report |",
        "|---|---|---|---|---|---|",
    ]
    for row in claims:
        link = f"[{row['from']}]({row['profile']}/{row['from']}/{row['from']}.ipynb)"
        cells = (row["where"], row["says"], row["printed"], as_text(row), f"**{row['verdict']}**", link)
        lines.append(f"| {' | '.join(map(markdown_cell, cells))} |")
    return "\n".join(lines) + "\n"


def _headline_table(entries: dict[str, dict]) -> list[str]:
    rows = ["| name | what | value, 95 % interval | n | report |", "|---|---|---|---|---|"]
    for name, e in sorted(entries.items()):
        interval = "" if e["low"] is None else f" [{e['low']:g}, {e['high']:g}]"
        link = f"[{e['from']}](results/{e['profile']}/{e['from']}/{e['from']}.ipynb)"
        value = "not measured" if e["value"] is None else markdown_cell(f"{e['value']:g}{interval} {e['unit']}")
        rows.append(f"| `{name}` | {DESCRIPTIONS.get(name, '')} | {value} | {e['n']} | {link} |")
    return rows


def _claim_counts(claims: list[dict]) -> list[str]:
    """How many claims hold, a row a paper: the paper is the first word of a notebook's name."""
    verdicts = (HOLDS, DIRECTION, FAILS, OPEN, UNTESTABLE)
    rows = [f"| | {' | '.join(verdicts)} |", "|---" * (1 + len(verdicts)) + "|"]
    counts: dict[str, Counter] = {}
    for row in claims:
        if row["where"] != OWN:
            counts.setdefault(re.sub(r"^\d+_", "", row["from"]).split("_")[0], Counter())[row["verdict"]] += 1
    names = {"autodeco": "AutoDeco", "tolerator": "TOLERATOR", "mtad": "MTAD"}
    for paper, count in counts.items():
        cells = " | ".join(str(count[verdict]) for verdict in verdicts)
        rows.append(f"| {names.get(paper, paper)} | {cells} |")
    return rows


def _between(text: str, name: str, rows: list[str]) -> str:
    """Put rows between the two marks of that name."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(first) != 1 or text.count(last) != 1:
        raise UserError(f"the README must hold {first} and {last} once each: between them `make report` writes")
    before, rest = text.split(first)
    return "\n".join([before + first, *rows, last + rest.split(last)[1]])
