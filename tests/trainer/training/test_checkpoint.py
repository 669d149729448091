from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from aiderm_trainer.config import ConfigError
from aiderm_trainer.training import checkpoint


def test_values_and_progress_come_back(tmp_path: Path) -> None:
    variables = [tf.Variable([1.0, 2.0]), tf.Variable(3, dtype=tf.int64), tf.Variable(np.array([4, 5], np.uint32))]
    checkpoint.save(tmp_path / "c.npz", variables, {"step": 7, "best": None})
    others = [tf.Variable([0.0, 0.0]), tf.Variable(0, dtype=tf.int64), tf.Variable(np.zeros(2, np.uint32))]
    assert checkpoint.restore(tmp_path / "c.npz", others) == {"step": 7, "best": None}
    assert [v.numpy().tolist() for v in others] == [[1.0, 2.0], 3, [4, 5]]


def test_a_broken_save_leaves_the_last_one(tmp_path: Path) -> None:
    variable = tf.Variable(1.0)
    checkpoint.save(tmp_path / "c.npz", [variable], {"step": 1})
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "c.npz", [variable], {"step": object()})
    assert checkpoint.restore(tmp_path / "c.npz", [variable]) == {"step": 1}


def test_another_network_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.npz", [tf.Variable([1.0, 2.0])], {})
    with pytest.raises(ConfigError, match="another network"):
        checkpoint.restore(tmp_path / "c.npz", [tf.Variable([1.0])])
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:50])
    with pytest.raises(ConfigError, match="cannot read the checkpoint"):
        checkpoint.restore(tmp_path / "c.npz", [tf.Variable([1.0, 2.0])])
    with pytest.raises(ConfigError, match="cannot read the checkpoint"):
        checkpoint.restore(tmp_path / "none.npz", [])
