"""What `--loss` means: each method in a file of its own.

- `method`: what a method is made of, in iterations or in closed form.
- `mhcln`, `semihard`: on the network and the optimiser of the paper.
- `shared`: sampler, network and optimiser of the methods below, which differ in their loss.
- `orthohash`, `csq`, `dpn`: towards fixed class codes, by cosines, by bits, by a margin.
- `pairs`: pairs of the images of a batch, which `dsh`, `dpsh`, `hashnet` compare; `dtsh` compares triplets.
- `greedyhash`: a classifier of the signs.
- `projections`: what the methods below share: codes are the signs of projections of the centred features.
- `sdh`: kernel regression to class codes, in closed form.
- `itq`, `lsh`, `sign`: in closed form, without labels.
"""

from mhcln.storage.run_record import TrainConfig
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


def usual_config(loss: str) -> TrainConfig:
    """Return the configuration of a method, in which 0 stands for what it has no use for."""
    method = METHODS[loss]
    if isinstance(method, Iterative):
        return TrainConfig(loss=loss, alpha=TrainConfig.alpha if method.has_margin else 0.0)
    return TrainConfig(loss=loss, alpha=0.0, batch_size=0, iterations=0)


__all__ = ["METHODS", "PRECISIONS", "ClosedForm", "Iterative", "Method", "MethodSpec", "usual_config"]
