"""One module a notebook: which runs it needs, its tables, its figures, its reading."""

from importlib import import_module

from lib.errors import require_known

# Notebook -> module.
STUDIES = {
    "00_study_models": "study_models",
    "10_autodeco_scores": "autodeco_scores",
    "11_autodeco_pass_at_k": "autodeco_pass_at_k",
    "12_autodeco_sweep": "autodeco_sweep",
    "13_autodeco_ablation": "autodeco_ablation",
    "14_autodeco_control": "autodeco_control",
    "15_autodeco_tokens": "autodeco_tokens",
    "16_autodeco_overhead": "autodeco_overhead",
    "17_autodeco_real": "autodeco_real",
    "18_autodeco_control_real": "autodeco_control_real",
    "20_tolerator_scores": "tolerator_scores",
    "21_tolerator_split": "tolerator_split",
    "22_tolerator_rate": "tolerator_rate",
    "23_tolerator_eot": "tolerator_eot",
    "24_tolerator_cost": "tolerator_cost",
    "25_tolerator_controls": "tolerator_controls",
    "26_tolerator_steps": "tolerator_steps",
    "30_mtad_scores": "mtad_scores",
    "31_mtad_joint": "mtad_joint",
    "32_mtad_sweep": "mtad_sweep",
    "33_mtad_frontier": "mtad_frontier",
    "34_mtad_speed": "mtad_speed",
    "35_mtad_real": "mtad_real",
    "36_mtad_tau": "mtad_tau",
    "37_mtad_tau_real": "mtad_tau_real",
}
# What a plain `make reproduce` renders: the models, and a paper's first claim.
HEADLINES = ("00_study_models", "10_autodeco_scores", "20_tolerator_scores", "30_mtad_scores")


def study_of(notebook: str):
    """The `Study` class behind a notebook."""
    require_known("notebook", [notebook], STUDIES)
    return import_module(f"lib.studies.{STUDIES[notebook]}").Study
