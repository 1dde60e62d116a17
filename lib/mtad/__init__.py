"""MTAD (arXiv 2407.09722): decoding with a small draft model, accepted by joint probability.

Read `reference.py` beside the paper. `mtad.py` is the method and its tree form, `mtjd.py` the joint decoding that it
approximates; `peers/` holds the lossless rules, the simple lossy ones, and what `transformers` has. They share
`draft.py` (chains, trees, beams), `loop.py` and `sequences.py`.
"""

from lib.mtad.mtad import Mtad
from lib.mtad.mtjd import Mtjd
from lib.mtad.peers.assisted import Assisted, BeamSearch
from lib.mtad.peers.hsd import Hsd
from lib.mtad.peers.lossy import Bild, Threshold, Typical
from lib.mtad.peers.speculative import Speculative, TreeSpeculative
from lib.mtad.peers.truncation import Truncated

__all__ = [
    "Assisted",
    "BeamSearch",
    "Bild",
    "Hsd",
    "Mtad",
    "Mtjd",
    "Speculative",
    "Threshold",
    "TreeSpeculative",
    "Truncated",
    "Typical",
]
