"""Assesses images on a Ray cluster: Ray Data hands chunks to tasks on the nodes, each of which supervises a worker process."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa

from aiderm_compute.ray_cluster import ClusterError, Node, connect, on_every_node
from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.read import Reader
from aiderm_scorer.score_rows import schema, to_table
from aiderm_scorer.scoring_model import Model
from aiderm_scorer.worker_process import WorkerProcess

CHUNK = (32, 256)
"""Smallest (fewer if there are few images) and largest number of images that go to a node at once.

The first chunks are large: some seconds of work, which makes the transfer negligible; that much is repeated if a node is lost.
Later chunks are smaller, so that cores do not wait for each other at the end.
"""
_SHARES = 4  # chunks into which each core's part of the remaining images would be divided
_SAMPLES = 5


@contextmanager
def on_cluster(
    chunks: Sequence[Sequence[Item]], model: Model, table_schema: pa.Schema, *, address: str, jobs: int | None, timeout: float
) -> Iterator[Iterator[pa.Table]]:
    """Assesses chunks on the nodes of a cluster, one core per chunk; tables come as chunks are finished, in any order.

    If a node is lost, its unfinished chunks go to other nodes; nodes that join later are used. The model is sent to the nodes;
    they must be able to read the items under the same names.

    Args:
        chunks: of items, which are divided anew for the cluster.
        model: a verified bundle.
        table_schema: see ``score_rows.schema``.
        address: of the cluster, see ``aiderm_compute.ray_cluster.connect``.
        jobs: most cores to use; None for all free ones.
        timeout: seconds that an image may take.

    Raises:
        ClusterError: the cluster cannot be reached, a node lacks the scorer or the images, or a node cannot load the model.
    """
    items = list(chain.from_iterable(chunks))
    with connect(address):
        import ray

        cores = sum(node.cpus for node in _probe(items, model.limits.max_bytes))
        rows = [{"items": pickle.dumps(chunk)} for chunk in _split(items, cores)]
        work = (rows, model.packed(), jobs, timeout)
        # Ray Data must run on a node. If this process does not, an actor on a node runs it instead.
        contents = _through_an_actor(work) if address.startswith("ray://") else _scores(*work)
        try:
            yield (pa.ipc.open_stream(content).read_all().cast(table_schema) for content in contents)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise ClusterError(f"the cluster cannot go on: {str(cause).strip().splitlines()[-1]}") from error


def _split(items: list[Item], cores: float) -> Iterator[list[Item]]:
    """Yields chunks of decreasing size (guided self-scheduling, Polychronopoulos and Kuck 1987, doi:10.1109/TC.1987.5009495)."""
    shares, start = _SHARES * max(1.0, cores), 0
    least, most = min(CHUNK[0], math.ceil(len(items) / shares)), CHUNK[1]  # even with few images, each core gets a share
    while start < len(items):
        end = start + min(most, max(least, math.ceil((len(items) - start) / shares)))
        yield items[start:end]
        start = end


def _scores(rows: list[dict[str, bytes]], model: Model, jobs: int | None, timeout: float) -> Iterator[bytes]:
    """Yields the scores of each chunk as an Arrow stream, as chunks finish."""
    import ray.data  # sets its own log level, so import it before the level is set here

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns that there are no progress bars, as intended
    ray.data.DataContext.get_current().enable_progress_bars = False
    work = partial(_score_block, model=model, timeout=timeout)
    # Tasks, not actors: those of a lost node move to any free core and do not wait for the node to return.
    scored = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        work, batch_size=None, batch_format="pyarrow", num_cpus=1, concurrency=jobs
    )
    for batch in scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield from batch["scores"].to_pylist()


class _Driver:
    """Runs ``_scores`` on a node and returns its results one at a time."""

    def __init__(self, *work: Any) -> None:
        self._contents = _scores(*work)

    def next(self) -> bytes | None:
        """The scores of the next chunk; None at the end."""
        return next(self._contents, None)


def _through_an_actor(work: tuple[Any, ...]) -> Iterator[bytes]:
    import ray

    driver = ray.remote(num_cpus=0)(_Driver).remote(*work)
    while (content := ray.get(driver.next.remote())) is not None:
        yield content


_workers: dict[str, WorkerProcess] = {}  # in this process on a node: at most one, kept from chunk to chunk


def _score_block(batch: pa.Table, *, model: Model, timeout: float) -> pa.Table:
    """Scores a block of chunks; runs on a node."""
    key = f"{model.manifest.dump()}{model.precision}{model.limits}{timeout}"
    worker = _workers.get(key)
    if worker is None:
        for other in _workers.values():
            other.close()
        _workers.clear()
        worker = _workers[key] = WorkerProcess(model, timeout)
    table_schema = schema(model.manifest, model.precision, model.limits)
    scores = []
    for content in batch["items"].to_pylist():
        items: list[Item] = pickle.loads(content)  # noqa: S301 (from the driver, which could as well send code)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table_schema) as stream:
            stream.write_table(to_table(list(worker.score(items)), table_schema))
        scores.append(sink.getvalue().to_pybytes())
    return pa.table({"scores": pa.array(scores, pa.large_binary())})


def _probe(items: Sequence[Item], max_bytes: int) -> list[Node]:
    """Returns the nodes, after checking that all of them can read the same inputs.

    Raises:
        ClusterError: a node cannot; the message names it and what it lacks.
    """
    samples = [item for item in items[:: max(1, len(items) // _SAMPLES)] if item.problem is None][: _SAMPLES + 1]
    found = on_every_node(_find_unreadable, samples, max_bytes)
    here = _find_unreadable(samples, max_bytes)
    for node, seen in found.items():
        if isinstance(seen, ImportError):
            raise ClusterError(f"the node {node.address} has no aiderm-scorer: {seen}")
        if isinstance(seen, Exception):
            raise ClusterError(f"the node {node.address} does not answer as it should: {seen}")
    for place, sample in enumerate(samples):
        readable = here[place] is None or any(seen[place] is None for seen in found.values())
        for node, seen in found.items():
            if readable and seen[place] is not None:
                raise ClusterError(
                    f"the node {node.address} cannot read {sample.image}, which others can: {seen[place]} "
                    "The images must be there under the same name on every node (NFS, or s3://)"
                )
    return list(found)


def _find_unreadable(samples: Sequence[Item], max_bytes: int) -> list[str | None]:
    """Returns for each sample why it cannot be read here; None if it can."""
    with Reader(max_bytes) as reader:
        found = [reader.read(sample) for sample in samples]
    return [data.detail if isinstance(data, ItemProblem) and data.code == "unreadable" else None for data in found]
