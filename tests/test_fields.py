"""Typed configs hold what they say."""

import dataclasses
import functools

import pytest

from safety_align.attacks import FeedbackPrefill, Prefill, SamplingGrid
from safety_align.data.pipeline import PipelineConfig
from safety_align.errors import InputError
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.measurements import Measurements
from safety_align.fields import check_fields
from safety_align.routing import RoutingConfig
from safety_align.training.config import DataConfig, MeshConfig
from safety_align.training.dpo import DpoConfig
from safety_align.training.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class Inner:
    number: int = 1


@dataclasses.dataclass(frozen=True)
class Outer:
    count: int | None = None
    rate: float = 0.5
    name: str = ""
    on: bool = False
    mixture: tuple[tuple[str, float], ...] = ()
    inner: Inner | None = None

    def __post_init__(self):
        check_fields(self, "outer.", count=1)


@pytest.mark.parametrize("change, said", [
    (dict(count=True), "outer.count must be int | None, got True"), (dict(count=1.0), "got 1.0"), (dict(count="3"), "got '3'"),
    (dict(count=0), "outer.count must be at least 1, got 0"), (dict(count=2**31), "32 bits"), (dict(count=-(10**30)), "32 bits"),
    (dict(rate=float("nan")), "outer.rate must be finite, got nan"), (dict(rate="1"), "outer.rate must be float"),
    (dict(rate=10**400), "outer.rate must be float"), (dict(rate=None), "got None"), (dict(on=1), "outer.on must be bool"),
    (dict(name=3), "outer.name must be str"), (dict(mixture=(("a", float("inf")),)), "outer.mixture must be finite"),
    (dict(mixture=(("a",),)), "outer.mixture must be tuple[tuple[str, float], ...]"),
    (dict(inner=OptimizerConfig()), "outer.inner must be Inner | None, got a OptimizerConfig"),
])  # fmt: skip
def test_a_field_of_another_type_is_named(change, said):
    with pytest.raises(InputError) as caught:
        Outer(**change)
    assert said in str(caught.value) and len(str(caught.value)) < 200


def test_fields_are_held_in_their_types():
    found = Outer(3, 2, mixture=[["a", 1]], inner=Inner())
    assert type(found.rate) is float and found.mixture == (("a", 1.0),) and hash(found)


EVAL = functools.partial(EvalConfig, Measurements())
PIPELINE = dict(sequence_length=8, batch_size=2, checks_per_row=4, mixture=(("embedded", 1.0),))


@pytest.mark.parametrize("make, change, named", [
    (lambda **c: PipelineConfig(**PIPELINE | c), dict(seed=-1), "data.seed"),
    (lambda **c: PipelineConfig(**PIPELINE | c), dict(checks_per_row=-1), "data.checks_per_row"),
    (lambda **c: PipelineConfig(**PIPELINE | c), dict(batch_size=True), "data.batch_size"),
    (OptimizerConfig, dict(learning_rate=float("nan")), "optimizer.learning_rate"),
    (OptimizerConfig, dict(clip=float("inf")), "optimizer.clip"), (OptimizerConfig, dict(b2=1.0), "b2"),
    (OptimizerConfig, dict(warmup=-1), "optimizer.warmup"), (MeshConfig, dict(data=1.5), "mesh.data"),
    (DataConfig, dict(data_dir=None), "data.data_dir"), (DataConfig, dict(max_bad_fraction=-0.1), "data.max_bad_fraction"),
    (RoutingConfig, dict(windows=10**12), "routing.windows"), (DpoConfig, dict(reference="x", lm=-1), "dpo.lm"),
    (DpoConfig, dict(reference="x", beta=float("nan")), "dpo.beta"), (EVAL, dict(seed=-1), "seed"),
    (EVAL, dict(behaviors="7"), "behaviors"), (EVAL, dict(judge="rules"), "judge"), (Prefill, dict(tokens=0), "tokens"),
    (SamplingGrid, dict(temperatures=(float("nan"),)), "temperatures"), (SamplingGrid, dict(best_of=10**9), "draws"),
    (SamplingGrid, dict(temperatures=(1.0,) * 5_000, top_ps=(1.0,) * 5_000, top_ks=(0,) * 400), "10000000000 draws"),
    (SamplingGrid, dict(top_ps=(2.0,)), "top_p"), (SamplingGrid, dict(top_ps=()), "draws"),
    (FeedbackPrefill, dict(rounds=0), "rounds"), (FeedbackPrefill, dict(new_tokens=1.5), "new_tokens"),
])  # fmt: skip
def test_the_projects_configs_check_theirs(make, change, named):
    with pytest.raises(InputError, match=named):
        make(**change)
