"""What was found, in sentences whose every number and direction comes from results/headline.json.

A sentence that names a headline which no result has is left out. In braces stands a headline's name.
"""

import re

SENTENCES = {
    "AutoDeco": (
        "Against default sampling its heads score {autodeco_vs_default_math} in math, {autodeco_vs_default_qa} in "
        "facts and {autodeco_vs_default_code} in code.",
        "Against a constant at their own mean setting, which nobody has to train: "
        "{autodeco_vs_mean_constant_math} in math, {autodeco_vs_mean_constant_qa} in facts, "
        "{autodeco_vs_mean_constant_code} in code.",
        "Of 64 draws in math one is right, against default sampling, for {autodeco_passk_gain}.",
        "Heads trained by reward against a constant that was tuned as long: {autodeco_reward_heads_vs_constant}.",
        "Inside of speculative decoding the heads write {composition_autodeco_speculative_speed} as fast as alone.",
    ),
    "TOLERATOR": (
        "At equal forwards, against vanilla decoding, it scores {tolerator_vs_vanilla_worded} in math in sentences, "
        "{tolerator_vs_vanilla_terse} on the same questions as bare chains, {tolerator_vs_vanilla_logic} in Sudoku.",
        "On a model that learned to mend wrong tokens: {tolerator_vs_vanilla_corrector}.",
        "WINO, which takes tokens back too, against greedy vanilla decoding: {wino_vs_vanilla_worded} in math.",
        "Learned temperatures in the fill-up against a constant at their mean: {fill_up_heads_vs_constant}.",
    ),
    "MTAD": (
        "At its published tau it writes {mtad_vs_speculative_speed_published_tau} as fast as speculative decoding, "
        "{mtad_vs_speculative_speed_published_tau_ar_2m} with a larger draft.",
        "With a weak draft, draft length 3 and tau 0.05, on prompts like those that the draft learned from: "
        "{mtad_vs_speculative_speed} as fast.",
        "Its texts are less perplexing than sampled ones by {mtad_perplexity_change_percent}.",
    ),
}
NAME = re.compile(r"\{(\w+)\}")


def findings(entries: dict[str, dict], prefix: str = "") -> list[str]:
    """A Markdown list, a paper an entry; links to the reports begin with `prefix`."""
    return [f"- **{paper}**: {words}" for paper, words in findings_of(entries, prefix).items()]


def findings_of(entries: dict[str, dict], prefix: str = "") -> dict[str, str]:
    """Paper -> its sentences that can be told, with links to the reports."""
    found = {}
    for paper, sentences in SENTENCES.items():
        told = [
            s for s in sentences if all(entries.get(name, {}).get("value") is not None for name in NAME.findall(s))
        ]
        if not told:
            continue
        text = " ".join(NAME.sub(lambda m: in_words(entries[m[1]]), sentence) for sentence in told)
        named = dict.fromkeys(name for sentence in told for name in NAME.findall(sentence))
        places = dict.fromkeys((entries[name]["profile"], entries[name]["from"]) for name in named)
        links = ", ".join(f"[{stem[:2]}]({prefix}{profile}/{stem}/{stem}.ipynb)" for profile, stem in places)
        found[paper] = f"{text} (Notebooks {links}.)"
    return found


def in_words(entry: dict) -> str:
    """`1.03 points more [0.5, 1.6]`, `0.02 points fewer [-0.3, 0.2] (not told apart)` or `1.2 times [1.1, 1.4]`."""
    value, low, high, unit = (entry[key] for key in ("value", "low", "high", "unit"))
    interval = "" if low is None else f" [{low:g}, {high:g}]"
    if unit != "points":
        return f"{value:g} {unit}{interval}"
    apart = "" if low is None or low > 0 or high < 0 else " (not told apart)"
    return f"{abs(value):g} points {'more' if value >= 0 else 'fewer'}{interval}{apart}"
