"""The methods that `--loss` names, each in a file of its own.

- `method`: the parts of a method, in iterations or in closed form.
- `mhcln`, `semihard`: on the network and the optimiser of the paper.
- `shared`: sampler, network and optimiser of the methods below, which differ in their loss.
- `orthohash`, `csq`, `dpn`: towards fixed class codes, by cosines, by bits, by a margin.
- `pairs`: pairs of the images of a batch, which `dsh`, `dpsh`, `hashnet` compare; `dtsh` compares triplets.
- `greedyhash`: a classifier of the signs.
- `projections`: codes as signs of projections of the centred features, for the methods below.
- `sdh`: kernel regression to class codes, in closed form.
- `itq`, `lsh`, `sign`: in closed form, without labels.
"""

from mhcln.training.methods import (
    csq,
    dpn,
    dpsh,
    dsh,
    dtsh,
    greedyhash,
    hashnet,
    itq,
    lsh,
    mhcln,
    orthohash,
    sdh,
    semihard,
    sign,
)
from mhcln.training.methods.method import PRECISIONS, ClosedForm, Iterative, Method, MethodSpec

METHODS: dict[str, MethodSpec] = {
    "mhcln": mhcln.SPEC,
    "semihard": semihard.SPEC,
    "orthohash": orthohash.SPEC,
    "dsh": dsh.SPEC,
    "dpsh": dpsh.SPEC,
    "dtsh": dtsh.SPEC,
    "hashnet": hashnet.SPEC,
    "greedyhash": greedyhash.SPEC,
    "csq": csq.SPEC,
    "dpn": dpn.SPEC,
    "sdh": sdh.SPEC,
    "itq": itq.SPEC,
    "lsh": lsh.SPEC,
    "sign": sign.SPEC,
}


__all__ = ["METHODS", "PRECISIONS", "ClosedForm", "Iterative", "Method", "MethodSpec"]
