"""The model that `evaluate`, `calibrate` and `tradeoff` measure, and what is noted of it beside the results."""

import dataclasses

from jax.sharding import Mesh
from ml_collections import ConfigDict

from launch import devices
from safety_align import distributed
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.evaluation.config import EvalConfig, check_evaluation_data
from safety_align.evaluation.gates import gate_for
from safety_align.interop import load_unrolled


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model on the devices of the `mesh` (None: one device), its gate with the config's changes (None: no signal), and "about"."""

    bundle: Bundle
    gate: GateConfig | None
    mesh: Mesh | None
    about: dict

    def needed_gate(self, what: str) -> GateConfig:
        """The gate; InputError, which says `what` is missing, for a model without a signal."""
        if self.gate is None:
            raise InputError(f"{self.about['checkpoint']} has no safety signal: there is no {what}")
        return self.gate


def load_subject(arguments, config: ConfigDict, eval_config: EvalConfig, overrides: dict) -> Subject:
    """The model of --checkpoint, once the data of `eval_config` have been looked at; `overrides`: of its gate."""
    mesh = devices.start(arguments)
    with distributed.agreed():
        check_evaluation_data(eval_config)
    checkpoint = devices.located(arguments.checkpoint)
    bundle = load_unrolled(checkpoint, mesh, arguments.dtype, arguments.weights)
    about = {"config": config.to_dict(), "checkpoint": str(checkpoint), "step": bundle.step}
    return Subject(bundle, gate_for(bundle, overrides), mesh, about | devices.computed(bundle))
