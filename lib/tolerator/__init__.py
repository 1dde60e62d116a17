"""TOLERATOR (arXiv 2510.05090) and the diffusion decoders it is compared with: vanilla, ReMDM, RCR.

Read `refine.py` for the method, `fill.py` for its first stage, which is also the vanilla decoder.
"""

from lib.tolerator.fill import Vanilla
from lib.tolerator.rcr import Rcr
from lib.tolerator.refine import Tolerator
from lib.tolerator.remdm import Remdm

__all__ = ["Rcr", "Remdm", "Tolerator", "Vanilla"]
