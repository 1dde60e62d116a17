"""AutoDeco (arXiv 2510.26697): heads on a frozen model that choose temperature and top-p at every token.

Read `heads.py` for the two heads, `decode.py` for decoding and its controls, `model.py` for the drop-in `generate`,
`lib/training/autodeco/soft.py` for what the heads learn from.
"""

from lib.autodeco.heads import Heads, HeadsConfig
from lib.autodeco.model import AutoDecoForCausalLM

__all__ = ["AutoDecoForCausalLM", "Heads", "HeadsConfig"]
