"""TensorFlow and OpenVINO return the same outputs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.runtime import OUTPUTS, Runtime, RuntimeFailure, load_runtime
from aiderm_core.runtime.cores import usable_cores
from aiderm_core.runtime.openvino import OPENVINO_GRAPH, write_openvino_graph
from aiderm_core.runtime.processor import has_integer_units

ENGINES = ["openvino", "tensorflow"]


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional graph with random weights; unlike the steerable one it accumulates rounding."""
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def variable(*shape: int) -> Any:
        return tf.Variable(rng.normal(0, shape[-2] ** -0.5 / 2, shape).astype(np.float32))

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.dense = variable(3, 3, 3, 16), variable(3, 3, 16, 32), variable(32, 4)

        @tf.function(input_signature=[tf.TensorSpec([None, 48, 48, 3], tf.uint8, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            features = tf.cast(image, tf.float32) / 127.5 - 1
            features = tf.nn.relu(tf.nn.conv2d(features, self.first, 2, "SAME"))
            features = tf.nn.relu(tf.nn.conv2d(features, self.second, 2, "SAME"))
            pooled = tf.reduce_mean(features, [1, 2])
            probability = tf.nn.softmax(pooled @ self.dense)
            malignancy = probability[:, 0] + probability[:, 1]
            heat = tf.reduce_mean(features, 3)
            heat = heat / (1e-6 + tf.reduce_max(heat, [1, 2], keepdims=True)) * malignancy[:, None, None]
            novelty = tf.reduce_sum(tf.square(pooled), 1)
            return {"probability": probability, "malignancy": malignancy, "heatmap": heat, "novelty": novelty}

    folder = tmp_path_factory.mktemp("convolution")
    net = Net()
    tf.saved_model.save(net, str(folder), signatures={"serving_default": net.serve})
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def runtime(request: pytest.FixtureRequest, convolution: Path) -> Runtime:
    return load_runtime(request.param, convolution)


def pictures(count: int, seed: int = 0, size: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_shapes_and_ranges(runtime: Runtime, count: int) -> None:
    outputs = runtime.run(pictures(count))
    assert outputs.probability.shape == (count, 4)
    assert outputs.malignancy.shape == outputs.novelty.shape == (count,)
    assert outputs.heatmap.shape == (count, 12, 12)
    for name in OUTPUTS:
        value = getattr(outputs, name)
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
    assert np.allclose(outputs.probability.sum(1), 1, atol=1e-5)
    assert outputs.heatmap.min() >= 0
    assert outputs.heatmap.max() <= 1


def test_engines_agree(convolution: Path) -> None:
    batch = pictures(16, seed=3)
    one, other = (load_runtime(engine, convolution).run(batch) for engine in ENGINES)
    for name in OUTPUTS:
        assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-4), name
    assert np.ptp(one.malignancy) > 1e-3  # the outputs vary, so the agreement means something


def test_a_picture_gets_the_same_answer_alone_and_in_a_batch(runtime: Runtime) -> None:
    batch = pictures(9, seed=4)
    together = runtime.run(batch)
    for index in range(9):
        alone = runtime.run(batch[index : index + 1])
        assert np.allclose(alone.probability[0], together.probability[index], atol=1e-5)
        assert np.allclose(alone.heatmap[0], together.heatmap[index], atol=1e-5)


def test_answers_are_not_overwritten_by_later_ones(runtime: Runtime) -> None:
    first = runtime.run(pictures(1, seed=5))
    before = first.probability.copy()
    runtime.run(pictures(1, seed=6))
    assert np.array_equal(first.probability, before)


def test_threads_do_not_disturb_one_another(runtime: Runtime) -> None:
    batches = [pictures(1 + seed % 3, seed) for seed in range(40)]
    expected = [runtime.run(batch).probability for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for want, outputs in zip(expected, pool.map(runtime.run, batches), strict=True):
            assert np.allclose(outputs.probability, want, atol=1e-6)


def test_weights_truncated_in_place_do_not_end_the_process(convolution: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(convolution, tmp_path / "copy"))
    program = """
import sys
from pathlib import Path
import numpy as np
from aiderm_core.runtime import load_runtime

bundle = Path(sys.argv[1])
runtime = load_runtime("openvino", bundle, threads=2)
for path in (bundle / "variables").iterdir():
    with path.open("r+b") as file:
        file.truncate(0)
for hint in ("latency", "throughput"):
    assert runtime.run(np.zeros((2, 48, 48, 3), np.uint8), hint).malignancy.shape == (2,)
print("alive")
"""
    ended = subprocess.run([sys.executable, "-c", program, str(copy)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr


def test_views_and_strides_are_accepted(runtime: Runtime) -> None:
    batch = pictures(2, size=60)[:, 6:54, 54:6:-1]
    assert not batch.flags.c_contiguous
    assert np.allclose(runtime.run(batch).probability, runtime.run(batch.copy()).probability, atol=1e-6)


@pytest.mark.parametrize(
    "batch",
    [
        pictures(1)[0],
        pictures(1)[:0],
        pictures(1, size=47),
        pictures(1)[:, :, :40],
        pictures(1)[..., :1],
        pictures(1).astype(np.float32),
        pictures(1)[None],
    ],
)
def test_other_batches_are_refused_alike(runtime: Runtime, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"batch must be uint8 \[N, 48, 48, 3\]. Received: "):
        runtime.run(batch)


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_inputs_of_a_bundle(engine: str, sound_bundle: Path, manifest: Manifest) -> None:
    runtime = load_runtime(engine, sound_bundle)
    for case in manifest.golden.cases:
        pixels = cv2.cvtColor(cv2.imread(str(sound_bundle / case.path)), cv2.COLOR_BGR2RGB)
        outputs = runtime.run(to_model_input(pixels, manifest.input.size)[None])
        assert np.allclose(outputs.probability[0], case.probability, atol=manifest.golden.tolerance)
        assert outputs.malignancy[0] == pytest.approx(case.malignancy, abs=manifest.golden.tolerance)
        assert outputs.novelty[0] == pytest.approx(case.novelty, rel=manifest.golden.tolerance)


def test_names_and_precision(convolution: Path) -> None:
    for engine in ENGINES:
        runtime = load_runtime(engine, convolution)
        assert (runtime.name, runtime.precision) == (engine, "f32")


@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_computes_in_f32_on_one_core_for_each_caller_and_on_all_for_one(convolution: Path, threads: int) -> None:
    import openvino as ov

    runtime: Any = load_runtime("openvino", convolution, threads=threads)
    assert len(runtime._one_core.compiled) == threads
    for graph in runtime._one_core.compiled:
        assert graph.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
        # OpenVINO starts no thread for this: it computes in the caller's.
        assert (graph.get_property("NUM_STREAMS"), graph.get_property("INFERENCE_NUM_THREADS")) == (0, 0)
    together = [
        (graph.get_property("INFERENCE_PRECISION_HINT"), graph.get_property("INFERENCE_NUM_THREADS"))
        for graph in runtime._all_cores.compiled
    ]
    assert together == ([(ov.Type.f32, 2)] if threads == 2 else [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "onnx"}, "runtime must be openvino or tensorflow. Received: 'onnx'"),
        ({"name": "openvino", "precision": "fp4"}, "precision of openvino must be f32 or bf16 or int8. Received: 'fp4'"),
        ({"name": "tensorflow", "precision": "int8"}, "precision of tensorflow must be f32. Received: 'int8'"),
    ],
)
def test_unknown_engine_or_precision(convolution: Path, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(RuntimeFailure, match=said):
        load_runtime(path=convolution, **arguments)


def test_openvinos_own_graph_answers_alike_and_is_the_one_that_is_read(convolution: Path, tmp_path: Path) -> None:
    converted = load_runtime("openvino", convolution).run(pictures(5, seed=7))
    folder = Path(shutil.copytree(convolution, tmp_path / "bundle"))
    write_openvino_graph(folder)
    (folder / "saved_model.pb").unlink()
    read = load_runtime("openvino", folder).run(pictures(5, seed=7))
    for name in OUTPUTS:
        assert np.allclose(getattr(read, name), getattr(converted, name), atol=1e-6), name
    (folder / OPENVINO_GRAPH).write_bytes(b"garbage")
    with pytest.raises(RuntimeFailure, match="cannot load"):
        load_runtime("openvino", folder)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "damage",
    [
        empty,
        shutil.rmtree,
        lambda folder: (folder / "saved_model.pb").write_bytes(b"garbage" * 100),
        lambda folder: shutil.rmtree(folder / "variables"),
    ],
    ids=["empty", "absent", "garbage", "no variables"],
)
def test_unreadable_graph_is_a_runtime_failure(engine: str, damage: Any, convolution: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(convolution, tmp_path / "bundle"))
    damage(folder)
    with pytest.raises(RuntimeFailure, match="cannot load"):
        load_runtime(engine, folder)


@pytest.mark.parametrize("engine", ENGINES)
def test_graph_without_an_output_is_refused(engine: str, tmp_path: Path) -> None:
    import tensorflow as tf

    class Partial(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 48, 48, 3], tf.uint8, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            mean = tf.reduce_mean(tf.cast(image, tf.float32), [1, 2, 3])
            return {"malignancy": mean, "probability": tf.stack([mean, 1 - mean], 1)}

    module = Partial()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    with pytest.raises(RuntimeFailure, match="the graph lacks heatmap, novelty"):
        load_runtime(engine, tmp_path)


def test_engine_that_is_not_installed(convolution: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "aiderm_core.runtime.openvino", raising=False)
    with pytest.raises(RuntimeFailure, match="the openvino runtime is not installed here"):
        load_runtime("openvino", convolution)


def test_tensorflow_cannot_change_its_threads_once_it_runs(convolution: Path) -> None:
    import tensorflow as tf

    tf.constant(1)
    with pytest.raises(RuntimeFailure, match="another number of threads"):
        load_runtime("tensorflow", convolution, threads=17)


def test_serving_needs_no_tensorflow(convolution: Path) -> None:
    script = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['keras'] = None\n"
        "import numpy as np; from pathlib import Path\n"
        "from aiderm_core import decision; from aiderm_core.bundle import store; from aiderm_core.imaging import decode\n"
        "from aiderm_core.quality import measurements; from aiderm_core.runtime import load_runtime\n"
        f"runtime = load_runtime('openvino', Path({str(convolution)!r}), threads=1)\n"
        "sys.exit(0 if runtime.run(np.zeros((2, 48, 48, 3), np.uint8)).malignancy.shape == (2,) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_openvinos_converter_is_only_imported_by_those_who_ask_for_it() -> None:
    script = (
        "import sys; import aiderm_core.runtime.openvino\n"
        "assert not [name for name in sys.modules if name.startswith('openvino.tools')]\n"
        "from openvino.tools.ovc import convert_model\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("count", [1, 5])
def test_both_ways_to_use_the_cores_give_the_same_answer(runtime: Runtime, count: int) -> None:
    batch = pictures(count, seed=7)
    alone, beside_others = runtime.run(batch, "latency"), runtime.run(batch, "throughput")
    for name in OUTPUTS:
        assert np.allclose(getattr(alone, name), getattr(beside_others, name), atol=1e-5), name


def test_each_of_openvinos_graphs_is_free_again_after_its_answer(convolution: Path) -> None:
    runtime: Any = load_runtime("openvino", convolution, threads=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: runtime.run(pictures(1 + seed % 4, seed), ("latency", "throughput")[seed % 2]), range(40)))
    assert (runtime._one_core._free.qsize(), runtime._all_cores._free.qsize()) == (2, 1)


def test_a_quantised_graph_is_read_from_its_file(convolution: Path, tmp_path: Path) -> None:
    import openvino as ov

    ov.save_model(ov.Core().read_model(str(convolution)), str(tmp_path / "model.xml"), compress_to_fp16=False)
    runtime = load_runtime("openvino", tmp_path / "model.xml", precision="int8")
    assert runtime.precision == "int8"
    batch = pictures(3)
    assert np.allclose(runtime.run(batch).malignancy, load_runtime("openvino", convolution).run(batch).malignancy, atol=1e-5)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu sse avx2 avx512_vnni\n", True),
        ("flags : fpu avx_vnni\n\nflags : fpu\n", True),
        ("flags : fpu sse avx2 avx512f\n", False),
        ("Features : fp asimd asimddp\n", False),
        (None, False),
    ],
)
def test_integer_units_are_read_from_the_processor(cpuinfo: str | None, expected: bool, tmp_path: Path) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert has_integer_units(tmp_path / "cpuinfo") is expected


def test_bf16_needs_a_processor_that_has_it(convolution: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino as ov

    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(RuntimeFailure, match="does not compute in bf16"):
        load_runtime("openvino", convolution, precision="bf16")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "9900000 100000\n"}, None),
    ],
)
def test_cores_are_those_of_the_containers_quota(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))
