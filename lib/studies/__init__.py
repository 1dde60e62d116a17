"""One module a notebook: which runs it needs, its tables, its figures, its reading."""

from importlib import import_module

from lib.errors import require_known

# Notebook -> module.
STUDIES = {
    "00_study_models": "models",
    "10_autodeco_scores": "autodeco.scores",
    "11_autodeco_pass_at_k": "autodeco.pass_at_k",
    "12_autodeco_sweep": "autodeco.sweep",
    "13_autodeco_ablation": "autodeco.ablation",
    "14_autodeco_control": "autodeco.control",
    "15_autodeco_tokens": "autodeco.tokens",
    "16_autodeco_overhead": "autodeco.overhead",
    "17_autodeco_real": "autodeco.real",
    "18_autodeco_control_real": "autodeco.control_real",
    "19_autodeco_rivals": "autodeco.rivals",
    "20_tolerator_scores": "tolerator.scores",
    "21_tolerator_split": "tolerator.split",
    "22_tolerator_rate": "tolerator.rate",
    "23_tolerator_eot": "tolerator.eot",
    "24_tolerator_cost": "tolerator.cost",
    "25_tolerator_controls": "tolerator.controls",
    "26_tolerator_steps": "tolerator.steps",
    "27_tolerator_trend": "tolerator.trend",
    "28_tolerator_rivals": "tolerator.rivals",
    "29_tolerator_pass_at_k": "tolerator.pass_at_k",
    "30_mtad_scores": "mtad.scores",
    "31_mtad_joint": "mtad.joint",
    "32_mtad_sweep": "mtad.sweep",
    "33_mtad_frontier": "mtad.frontier",
    "34_mtad_speed": "mtad.speed",
    "35_mtad_real": "mtad.real",
    "36_mtad_tau": "mtad.tau",
    "37_mtad_tau_real": "mtad.tau_real",
    "38_mtad_lossless": "mtad.lossless",
    "39_composition": "mtad.composition",
    "40_fill_up_heads": "tolerator.learned",
    "50_advice": "advice",
}
# What a plain `make reproduce` renders: the models, and a paper's first claim.
HEADLINE_NOTEBOOKS = ("00_study_models", "10_autodeco_scores", "20_tolerator_scores", "30_mtad_scores")


def study_of(notebook: str):
    """The `Study` class behind a notebook."""
    require_known("notebook", [notebook], STUDIES)
    return import_module(f"lib.studies.{STUDIES[notebook]}").Study
