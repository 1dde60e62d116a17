"""MTAD (arXiv 2407.09722) and what it is compared with: decoding with a small draft model.

`mtad.py` is the method and its tree form, `mtjd.py` the joint decoding that it approximates. `speculative.py` holds
the lossless rules, `lossy.py` the simple lossy ones, `assisted.py` what `transformers` has. They share `draft.py`
(chains, trees, beams), `loop.py`, `session.py` (a cache that rows roll back by different counts) and `distribution.py`.
"""

from lib.mtad.mtad import Mtad
from lib.mtad.mtjd import Mtjd
from lib.mtad.peers.assisted import Assisted, BeamSearch
from lib.mtad.peers.lossy import Bild, Threshold, Typical
from lib.mtad.peers.speculative import Speculative, TreeSpeculative

__all__ = ["Assisted", "BeamSearch", "Bild", "Mtad", "Mtjd", "Speculative", "Threshold", "TreeSpeculative", "Typical"]
