"""What all results come to: results/headline.json, claims.json, claims.md, papers.md and README.md, what the README
says of them, model cards."""

import json
from pathlib import Path

from lib.errors import UserError
from lib.paths import RESULTS, ROOT, write_whole
from lib.reporting.cards import card_texts
from lib.reporting.findings import findings
from lib.reporting.ledger import count_table, ledger, page
from lib.reporting.overview import closing, overview
from lib.reporting.papers.page import page as papers_page
from lib.reporting.tightest import tightest_first
from lib.running import index

HALF = 0.00511  # what two roundings of one number, to two digits and to four, can be apart
# What a headline is; differences are in points of accuracy.
DESCRIPTIONS = {
    "autodeco_head_training_seconds": "AutoDeco: training both heads of the study model",
    "autodeco_overhead_percent": "AutoDeco: extra time a token on SmolLM2, short prompt, mean of batch 1 and 16",
    "autodeco_passk_gain": "AutoDeco minus default sampling, pass@64 in math",
    "autodeco_reward_heads_vs_constant": "AutoDeco's heads by reward minus a constant tuned as much, three tasks",
    **{
        f"autodeco_vs_{other}_{task}": f"AutoDeco minus {words}, {task}"
        for task in ("math", "qa", "code")
        for other, words in (
            ("default", "default sampling"),
            ("greedy", "greedy decoding"),
            ("mean_constant", "its own mean setting as a constant"),
        )
    },
    "composition_autodeco_speculative_speed": "AutoDeco in speculative decoding over AutoDeco alone: tokens a second",
    "composition_heads_in_target_speed": "the same with heads in the target alone",
    "composition_heads_vs_constant_speed": "speculative decoding with heads in both over a constant at their mean",
    "control_high_consistency": "SmolLM2, taught heads: mean T rises behind «be diverse», against no command",
    "control_low_consistency": "SmolLM2, taught heads: mean T falls behind «do not», against no command",
    "draft_agreement": "the draft's likeliest token is the target's",
    "fill_up_heads_vs_constant": "heads on a mask model's fill-up minus a constant at their mean, four tasks",
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
    "perplexity_least_change_percent": "sampled texts against a text without any surprise: the room for the last",
    "speculative_vs_hf_assisted_speed": "our speculative decoding over transformers' assisted, greedy, same pair",
    "study_ar_code": "autoregressive study model, code",
    "study_ar_qa": "autoregressive study model, QA",
    "study_dlm_code": "diffusion study model, code",
    "study_dlm_qa": "diffusion study model, QA",
    "mtad_vs_autoregressive_speed_elsewhere": "the same on prompts that the draft did not learn",
    "tolerator_batch_speedup": "TOLERATOR: a batch of 32 over one prompt at a time",
    "tolerator_vs_vanilla_mean": "TOLERATOR minus vanilla at equal forwards, middle budget, four tasks",
    "tolerator_vs_vanilla_but_logic": "the same without Sudoku",
    "tolerator_gain_per_capability": "TOLERATOR minus vanilla, published rates: what 10 points of capability add",
    "worded_ar_math": "autoregressive study model, math in words",
    "worded_dlm_math": "diffusion study model, math in words, one token a forward",
    "worded_dlm_math_4_a_forward": "diffusion study model, math in words, four tokens a forward",
    "tolerator_own_rule_vs_published": "Settle (ours, greedy, tuned here) minus TOLERATOR as published, four tasks",
    "tolerator_first_refinement_logic": "TOLERATOR: after one refinement minus its fill-up, Sudoku, 90 forwards",
    "tolerator_refinements_logic": "the same after the last refinement",
    "tolerator_refinements_middle_logic": "the same after the last refinement, middle budget",
    "tolerator_pass1_gain": "TOLERATOR minus vanilla diffusion decoding, pass@1, middle budget, math",
    "tolerator_passk_gain": "the same, pass@16",
    "remdm_pass1_gain": "ReMDM minus vanilla diffusion decoding, pass@1, middle budget, math",
    "remdm_passk_gain": "the same, pass@16",
    "remdm_pass1_gain_logic": "ReMDM minus vanilla diffusion decoding, pass@1, middle budget, Sudoku",
    "tolerator_pass1_gain_logic": "TOLERATOR minus vanilla diffusion decoding, pass@1, middle budget, Sudoku",
    "settle_fill_up_gain": "Settle (ours) without checks minus greedy vanilla, middle budget, mean of four tasks",
    "settle_checks_gain": "Settle (ours) minus Settle without checks, middle budget, mean of four tasks",
    "tolerator_vs_vanilla": "TOLERATOR minus vanilla diffusion decoding, middle budget, mean of four tasks",
    "tolerator_vs_vanilla_corrector": "TOLERATOR minus vanilla on the corrector, middle budget, mean of four tasks",
    "tolerator_vs_vanilla_logic": "TOLERATOR minus vanilla diffusion decoding, middle budget, Sudoku",
    "tolerator_vs_vanilla_same_eot": "TOLERATOR minus vanilla with its EoT penalty, middle budget, mean of 4 tasks",
    "tolerator_vs_vanilla_math": "TOLERATOR minus vanilla diffusion decoding, middle budget, math",
    "tolerator_vs_vanilla_terse": "TOLERATOR minus vanilla diffusion decoding, middle budget, math in bare chains",
    "tolerator_vs_vanilla_worded": "TOLERATOR minus vanilla diffusion decoding, middle budget, math in sentences",
    "tolerator_without_penalty_vs_published": "TOLERATOR at 0.3 without penalty minus as published, four tasks",
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
    found = [*count_table(claims), "", *findings(entries, "results/", most=2), *closing(results, "results/")]
    return card_texts(results, entries, DESCRIPTIONS) | {
        results / "headline.json": json.dumps(entries, indent=1, sort_keys=True) + "\n",
        results / "claims.json": json.dumps(claims, indent=1) + "\n",
        results / "claims.md": page(claims),
        results / "papers.md": papers_page(claims),
        results / "README.md": overview(results, entries, claims, DESCRIPTIONS),
        readme: _between(readme.read_text(encoding="utf-8"), "found", found),
    }


def headlines(results: Path = RESULTS) -> dict[str, dict]:
    """Each name from the tightest profile that has it; with the verdict of a claim that its page has on it."""
    merged: dict[str, dict] = {}
    for path in tightest_first(results, "headline.json"):
        claims = path.with_name("claims.json")
        rows = json.loads(claims.read_text()) if claims.exists() else []
        for name, entry in json.loads(path.read_text()).items():
            merged.setdefault(name, entry | verdict_on(entry, rows))
    return merged


def verdict_on(entry: dict, claims: list[dict]) -> dict[str, str]:
    """The verdict of the claims that ask whether a headline's very number is more than none, told by unit, n and
    interval; nothing where there is no such claim, or two say otherwise."""

    def same(row: dict) -> bool:
        if (row["unit"], row["n"]) != (entry["unit"], entry["n"]) or row.get("margin") is None:
            return False
        pairs = [(entry[a], row[b]) for a, b in (("value", "value"), ("low", "alone_low"), ("high", "alone_high"))]
        return all(None not in pair and abs(pair[0] - pair[1]) < HALF for pair in pairs)

    found = {row["verdict"] for row in claims if same(row)}
    return {"verdict": found.pop()} if len(found) == 1 else {}


def _between(text: str, name: str, rows: list[str]) -> str:
    """Put rows between the two marks of that name."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(first) != 1 or text.count(last) != 1:
        raise UserError(f"the README must hold {first} and {last} once each: between them `make report` writes")
    before, rest = text.split(first)
    return "\n".join([before + first, *rows, last + rest.split(last)[1]])
