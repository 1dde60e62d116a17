"""Every decoder by name. A new one is a file of its own and a line here."""

import lib.autodeco.decode
import lib.autodeco.peers.entropy
import lib.autodeco.peers.eta
import lib.autodeco.peers.min_p
import lib.autodeco.peers.p_less
import lib.autodeco.peers.top_h
import lib.autodeco.peers.typical
import lib.decoding.autoregressive
import lib.mtad.mtad
import lib.mtad.mtjd
import lib.mtad.peers.assisted
import lib.mtad.peers.hsd
import lib.mtad.peers.lossy
import lib.mtad.peers.speculative
import lib.mtad.peers.truncation
import lib.tolerator.controls.settle
import lib.tolerator.fill
import lib.tolerator.peers.core
import lib.tolerator.peers.fast_dllm
import lib.tolerator.peers.rcr
import lib.tolerator.peers.remdm
import lib.tolerator.peers.remdm_llada
import lib.tolerator.peers.remdm_port
import lib.tolerator.peers.t2m
import lib.tolerator.peers.wino
import lib.tolerator.refine  # noqa: F401  each import registers its decoders
from lib.decoding.generate import custom_generate
from lib.decoding.registry import DECODERS, Decoder, decode, decoder_of, options_of

__all__ = ["DECODERS", "Decoder", "custom_generate", "decode", "decoder_of", "options_of"]
