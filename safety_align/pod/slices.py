"""TPU slices as Google Cloud sells them: chips, hosts, and the names they go by.

Sources: the pages "TPU v5e", "TPU v5p", "TPU v6e" and "Plan TPUs in GKE" of cloud.google.com.
"""

import dataclasses
import math
import re

from safety_align.errors import InputError
from safety_align.pod.topology import CHIPS

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_BELOW_A_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
_LARGEST_V5P = 6144

_GKE = {  # accelerator label, machine family
    "v5e": ("tpu-v5-lite-podslice", "ct5lp-hightpu"),
    "v5p": ("tpu-v5p-slice", "ct5p-hightpu"),
    "v6e": ("tpu-v6e-slice", "ct6e-standard"),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips joined by their own links. kind: of `CHIPS`; shape: chips along each axis, such as "4x4"."""

    kind: str
    shape: str

    def __post_init__(self):
        if self.kind not in CHIPS:
            raise InputError(f"chip {self.kind!r} is not one of {', '.join(CHIPS)}")
        if self.kind != "v5p":
            if self.shape not in _FLAT:
                raise InputError(f"{self.kind}:{self.shape} is no slice on offer; shapes: {', '.join(_FLAT)}")
        elif self.shape not in _BELOW_A_CUBE:
            sizes = [int(n) for n in self.shape.split("x")] if re.fullmatch(r"\d+x\d+x\d+", self.shape) else [1]
            cubes = all(n and n % 4 == 0 for n in sizes) and sizes == sorted(sizes)
            if not cubes or math.prod(sizes) > _LARGEST_V5P:
                raise InputError(
                    f"v5p:{self.shape} is no slice on offer; shapes: {', '.join(_BELOW_A_CUBE)}, or AxBxC of multiples "
                    f"of 4 in ascending order, up to {_LARGEST_V5P} chips"
                )

    @classmethod
    def parse(cls, name: str) -> "Slice":
        """The slice of a name such as "v5e:4x4", as `launch.compile_pod --topology` takes it."""
        kind, colon, shape = name.partition(":")
        if not colon:
            raise InputError(
                f"topology {name!r} is not of the form KIND:AxB or KIND:AxBxC with KIND in {', '.join(CHIPS)}"
            )
        return cls(kind, shape)

    @property
    def chips(self) -> int:
        """How many there are."""
        return math.prod(int(n) for n in self.shape.split("x"))

    @property
    def chips_per_host(self) -> int:
        """v5e and v6e come as 1, 4 or 8 chips on one machine; slices of several machines have 4 on each."""
        return self.chips if self.kind != "v5p" and self.chips <= 8 else 4

    @property
    def hosts(self) -> int:
        """Machines, each of which runs one process."""
        return self.chips // self.chips_per_host

    @property
    def accelerator_type(self) -> str:
        """The name for `gcloud --accelerator-type`; v5p counts cores, of which a chip has two."""
        return f"{CHIPS[self.kind].slice_name}-{self.chips * (2 if self.kind == 'v5p' else 1)}"

    @property
    def gke_accelerator(self) -> str:
        """The value of the node label cloud.google.com/gke-tpu-accelerator."""
        return _GKE[self.kind][0]

    @property
    def machine_type(self) -> str:
        """The machine type of the nodes of a GKE node pool."""
        return f"{_GKE[self.kind][1]}-{self.chips_per_host}t"
