"""TOLERATOR (arXiv 2510.05090) and the diffusion decoders it is compared with: vanilla, ReMDM, RCR, and newer ones.

Read `refine.py` for the method, `fill.py` for its first stage, which is also the vanilla decoder.
`controls/settle.py` is a rule of our own.
"""

from lib.tolerator.controls.settle import Settle
from lib.tolerator.fill import Vanilla
from lib.tolerator.peers.core import Core
from lib.tolerator.peers.fast_dllm import FastDllm
from lib.tolerator.peers.rcr import Rcr
from lib.tolerator.peers.remdm import Remdm
from lib.tolerator.peers.remdm_llada import RemdmLlada
from lib.tolerator.peers.remdm_port import RemdmPort
from lib.tolerator.peers.t2m import T2m
from lib.tolerator.peers.wino import Wino
from lib.tolerator.refine import Tolerator

__all__ = [
    "Core",
    "FastDllm",
    "Rcr",
    "Remdm",
    "RemdmLlada",
    "RemdmPort",
    "Settle",
    "T2m",
    "Tolerator",
    "Vanilla",
    "Wino",
]
