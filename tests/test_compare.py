"""The entries of a comparison."""

import pytest

from configs.compare import pretraining
from launch import compare
from safety_align.errors import InputError


def test_entries_of_a_comparison_take_overrides():
    for entry in pretraining.get_config().to_dict()["train"]:
        workdir, config, announcement = compare.training(entry)
        assert (config.lambda_cls == 0.0) == (workdir == "runs/pretrain_control")
        assert workdir in announcement and ("lambda_cls=0.0" in announcement) == (config.lambda_cls == 0.0)
    for bad in (("a", "b.py", {}, {}), ("a", "b.py", "c")):
        with pytest.raises(InputError, match="overrides"):
            compare.training(bad)
