"""Whether a run can begin: every check that needs no data, before its workdir is claimed and its data are prepared."""

import os
import pathlib
from collections.abc import Collection

import jax

from safety_align import sharding, sizes
from safety_align.data.exchanges import EXCHANGES
from safety_align.data.sources import ATTACKERS, DERIVED, MADE, OWN_ANSWERS, SOURCES, TUNERS, check_source
from safety_align.data.specs import SPECS
from safety_align.data.suffixes import directories, read_suffixes
from safety_align.errors import InputError
from safety_align.files import check_file
from safety_align.model import abstract_params
from safety_align.text import check_template_name
from safety_align.training.checkpoint import stored_sources
from safety_align.training.config import TrainConfig


def check_run(config: TrainConfig, mesh: jax.sharding.Mesh, trains: bool = True) -> None:
    """Raises InputError for a run that cannot begin on `mesh`: too large, not divisible, or of things that are not there.

    `trains`: False for one that only reads what its model says, and needs no optimizer.
    """
    pipeline = config.pipeline
    sizes.check_training(
        config.model,
        mesh,
        pipeline.batch_size,
        pipeline.sequence_length + pipeline.checks_per_row,
        trainable=config.trainable,
        accumulation=config.accumulation,
        pairs=pipeline.pairs_per_row or 0,
        trains=trains and not config.optimizer.rank,  # factors are small
    )
    sharding.process_rows(mesh, pipeline.batch_size)
    sharding.param_shardings(mesh, abstract_params(config.model))
    check_training_data(config)


def check_training_data(config: TrainConfig, to_come: Collection[str] = ()) -> None:
    """Raises InputError for a template or a data source that there is none of, or a data file that is not there.

    `to_come`: directories of `MADE` sources, and of suffixes, that will be made before the run begins.
    """
    check_names(config)
    for name, _ in config.pipeline.mixture:
        _check_files(config, name, made=name in MADE and getattr(config.data, MADE[name][0]) in to_come)
    coming = {os.path.normpath(name) for name in to_come}
    read_suffixes(",".join(str(d) for d in directories(config.data.suffixes) if str(d) not in coming))
    if config.data.passages:
        _check_files(config, config.data.passages_from, made=False)


def check_names(config: TrainConfig) -> None:
    """Raises InputError for a template or a data source that there is none of."""
    check_template_name(config.template)
    names = config.pipeline.sources
    for name in names:
        if name not in (*SOURCES, *MADE):
            raise InputError(f"data source {name!r} is not one of {', '.join((*SOURCES, *MADE))}")
    if is_attack(names):
        alone = all(name in TUNERS for name in names) and config.dpo is None and config.trainable == "all"
        if not alone or not config.init_from or (config.model.safety_signal and config.lambda_cls):
            raise InputError(
                f"{', '.join(ATTACKERS)} are an attacker's data, for a run that is an attack (configs/embedded_fine_tuned.py): no "
                'source beside them but embedded_answered, lambda_cls=0, trainable="all", no dpo, and init_from the model that '
                "is attacked; else leave them out of data.mixture"
            )
    judged = [name in EXCHANGES for name in names]
    if any(judged) and not all(judged):
        raise InputError(
            f"{', '.join(EXCHANGES)} are for judges (configs/judge.py) and train nothing that is judged: no other source beside them"
        )


def is_attack(sources: Collection[str]) -> bool:
    """Whether a run on these sources is an attack on the model that it starts from."""
    return any(name in ATTACKERS for name in sources)


def check_descent(config: TrainConfig, has_signal: bool) -> None:
    """Raises InputError for a run that would go on from what an attack left, and is none itself; and for an attack on a signal that its
    `init_from`, which `has_signal` or not, lacks."""
    start = pathlib.Path(config.init_from)
    if is_attack(config.pipeline.sources):
        if config.model.safety_signal and not has_signal:
            raise InputError(
                f"init_from {start} has no safety signal, and an attack trains none: set model.safety_signal=False"
            )
        return
    is_run = (start / "checkpoints").is_dir() or start.parent.name == "checkpoints"  # a run, or one of its steps
    if is_run and is_attack(stored_sources(start)):
        raise InputError(
            f"init_from {start} was trained as an attack ({', '.join(ATTACKERS)}): start from the model that it attacked"
        )


def _check_files(config: TrainConfig, name: str, made: bool) -> None:
    data_dir = pathlib.Path(config.data.data_dir)
    if name in MADE and not made:
        field, command = MADE[name]
        if not getattr(config.data, field):
            raise InputError(f"data.{field} is empty; give the directory of {command}, which {name} reads")
        try:
            check_file(pathlib.Path(getattr(config.data, field)) / "about.json")
        except InputError as error:
            raise InputError(f"data.{field}: {error}; give the directory of {command}") from error
    check_source(name, data_dir)
    base = DERIVED[name][0] if name in DERIVED else name
    holds_queries = (base in SPECS and not base.startswith("text_")) or name == OWN_ANSWERS
    if config.data.drop_leaks and holds_queries and not (data_dir / "eval").is_dir():
        raise InputError(f"{data_dir / 'eval'} does not exist: its prompts are left out of training (data.drop_leaks)")
