"""What was found, in sentences whose every number and direction comes from results/headline.json.

A sentence that names a headline which no result has is left out. In braces stands a headline's name.
"""

import re

from lib.reporting.claims import EQUIVALENT, MARGIN, OPEN, UNTESTABLE

BEYOND = "Beyond the papers"
SENTENCES = {
    "AutoDeco": (
        "Against default sampling its heads score {autodeco_vs_default_math} in math, {autodeco_vs_default_qa} in "
        "facts and {autodeco_vs_default_code} in code; against greedy decoding {autodeco_vs_greedy_math}, "
        "{autodeco_vs_greedy_qa} and {autodeco_vs_greedy_code}.",
        "Against a constant at their own mean setting: "
        "{autodeco_vs_mean_constant_math} in math, {autodeco_vs_mean_constant_qa} in facts, "
        "{autodeco_vs_mean_constant_code} in code.",
        "With 64 draws at least one is right on {autodeco_passk_gain} of the math questions than with default "
        "sampling.",
        "Heads trained by reward against a constant that was tuned as long: {autodeco_reward_heads_vs_constant}.",
    ),
    "TOLERATOR": (
        "Against vanilla decoding at equal forwards it scores {tolerator_vs_vanilla_worded} in math in sentences, "
        "{tolerator_vs_vanilla_terse} on the same questions as bare chains, {tolerator_vs_vanilla_logic} in Sudoku; "
        "in the mean of math, Sudoku, facts and functions {tolerator_vs_vanilla_mean}, without Sudoku "
        "{tolerator_vs_vanilla_but_logic}.",
        "Without its penalty on the end of text, at vanilla's temperature: "
        "{tolerator_without_penalty_vs_published} than as published.",
        "On a model that learned to mend wrong tokens: {tolerator_vs_vanilla_corrector}.",
        "Over models from weak to strong its gain changes by {tolerator_gain_per_capability}.",
        "WINO, which takes tokens back too, against greedy vanilla decoding: {wino_vs_vanilla_worded} in math.",
    ),
    "MTAD": (
        "At tau 0.5, as released, it writes {mtad_vs_speculative_speed_published_tau} as fast as speculative "
        "decoding, {mtad_vs_speculative_speed_published_tau_ar_2m} with a larger draft; the smaller agrees with the "
        "target on {draft_agreement}.",
        "On SmolLM2, at tau 0.05, which is not the paper's setting: {mtad_vs_speculative_speed} as fast where its "
        "weak draft is at home; elsewhere {mtad_vs_autoregressive_speed_elsewhere} as fast as sampling without a "
        "draft.",
        "Against sampled texts the perplexity of its texts changes by {mtad_perplexity_change_percent}; printed is "
        "-21.2 %, and a text without any surprise would have {perplexity_least_change_percent} here.",
    ),
    BEYOND: (
        "Inside of speculative decoding AutoDeco is {composition_autodeco_speculative_speed} as fast as alone with "
        "heads in target and draft, {composition_heads_in_target_speed} with heads in the target alone; with heads "
        "in both {composition_heads_vs_constant_speed} as fast as a constant at their mean there.",
        "Heads that learn the temperatures of a diffusion model's fill-up score {fill_up_heads_vs_constant} than a "
        "constant at their mean.",
        "At one token a forward TOLERATOR's first refinement leaves {tolerator_first_refinement_logic} of the "
        "Sudokus right than its fill-up had, all its refinements together {tolerator_refinements_logic}; at 8 "
        "forwards all together {tolerator_refinements_middle_logic}.",
        "Of 16 draws at least one is right on {remdm_passk_gain} of the math questions with ReMDM than with vanilla "
        "decoding, and on {tolerator_passk_gain} with TOLERATOR, whose draws differ more; of one draw alone: "
        "{remdm_pass1_gain} and {tolerator_pass1_gain}, and in Sudoku {remdm_pass1_gain_logic} and "
        "{tolerator_pass1_gain_logic}.",
        "Settle, our own rule, scores {tolerator_own_rule_vs_published} than TOLERATOR; its fill-up alone, which "
        "keeps sure tokens at once, {settle_fill_up_gain} than greedy vanilla decoding, to which its checks add "
        "{settle_checks_gain}.",
    ),
}
NAME = re.compile(r"\{(\w+)\}")


def findings(entries: dict[str, dict], prefix: str = "", most: int | None = None) -> list[str]:
    """A Markdown list, a paper an entry; links to the reports begin with `prefix`. In short (`most`) papers alone."""
    found = findings_of(entries, prefix, most)
    return [f"- **{paper}**: {words}" for paper, words in found.items() if not most or paper != BEYOND]


def findings_of(entries: dict[str, dict], prefix: str = "", most: int | None = None) -> dict[str, str]:
    """Paper -> its sentences that can be told, the first `most` of them, with links to the reports."""
    found = {}
    for paper, sentences in SENTENCES.items():
        told = [
            s for s in sentences if all(entries.get(name, {}).get("value") is not None for name in NAME.findall(s))
        ]
        told = told[:most]
        if not told:
            continue
        text = " ".join(NAME.sub(lambda m: in_words(entries[m[1]]), sentence) for sentence in told)
        named = dict.fromkeys(name for sentence in told for name in NAME.findall(sentence))
        places = dict.fromkeys((entries[name]["profile"], entries[name]["from"]) for name in named)
        links = ", ".join(f"[{stem[:2]}]({prefix}{profile}/{stem}/{stem}.ipynb)" for profile, stem in places)
        found[paper] = f"{text} (Notebooks {links}.)"
    return found


def in_words(entry: dict) -> str:
    """`1.03 points more [0.5, 1.6]`, `0.02 points fewer [-0.3, 0.2] (equal within a point)`, `1.2 times [1, 1.4]`."""
    value, low, high, unit = (entry[key] for key in ("value", "low", "high", "unit"))
    interval = "" if low is None else f" [{low:g}, {high:g}]"
    told = "" if low is None else _told(low, high, unit, entry.get("verdict"))
    if unit != "points":
        sign = "+" if unit == "%" and value > 0 else ""
        return f"{sign}{value:g} {unit}{interval}{told}"
    points = "point" if abs(value) == 1 else "points"
    return f"{abs(value):g} {points} {'more' if value >= 0 else 'fewer'}{interval}{told}"


def _told(low: float, high: float, unit: str, verdict: str | None) -> str:
    """What an interval says of «no difference», for what is a difference or a ratio; `verdict`: of the claim on it,
    which is corrected."""
    zero = {"points": 0.0, "%": 0.0, "times": 1.0}.get(unit.partition(" for ")[0])
    if zero is None:
        return ""
    if verdict == UNTESTABLE:
        return f" ({UNTESTABLE})"
    if low > zero or high < zero:
        return f" ({OPEN} once corrected)" if verdict == OPEN else ""
    if verdict is None and unit == "points" and -MARGIN < low and high < MARGIN:
        verdict = EQUIVALENT
    if verdict == EQUIVALENT:
        return {"points": " (equal within a point)", "%": " (equal within 5 %)", "times": " (equal within 5 %)"}.get(
            unit, f" ({EQUIVALENT})"
        )
    return " (not told apart)"
