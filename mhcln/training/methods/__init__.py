"""What `--loss` means: each method in a file of its own, that chooses sampler, network, loss and optimiser together.

- `method`: what a method is made of.
- `mhcln`, `semihard`: on the network and the optimiser of the paper.
- `shared`: sampler, network and optimiser of the methods below, which differ in their loss.
- `orthohash`: cosines to fixed class codes.
"""

from mhcln.training.methods import mhcln, orthohash, semihard
from mhcln.training.methods.method import PRECISIONS, Method, MethodSpec

METHODS: dict[str, MethodSpec] = {
    "mhcln": mhcln.SPEC,
    "semihard": semihard.SPEC,
    "orthohash": orthohash.SPEC,
}

__all__ = ["METHODS", "PRECISIONS", "Method", "MethodSpec"]
