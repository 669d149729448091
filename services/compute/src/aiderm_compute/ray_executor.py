"""An executor on the nodes of a Ray cluster: each call runs as a task in its own process."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from aiderm_compute.executor import Call, Done, FindMissing, attempt
from aiderm_compute.ray_cluster import ClusterError, connect, nodes, on_every_node

THREADS = 2  # per trial by default; not this machine's number, as the trial runs on another one
_TRIES = 4  # most attempts at a call whose process dies or whose node is lost
_PATIENCE = 300.0  # seconds for a node's check, which reads the weights files


@dataclass(frozen=True)
class _NodeReport:
    """A node's reply: what it lacks for the work, or the outcome of the work."""

    node: str
    address: str
    missing: str | None
    done: Done | None = None


@contextmanager
def ray_nodes(address: str, jobs: int | None, gpus: float, console: Console) -> Iterator[RayNodes]:
    """Connects to a cluster and yields an executor on its nodes.

    Args:
        address: see ``aiderm_compute.ray_cluster.connect``.
        jobs: most calls at a time; None for as many as the nodes have room for.
        gpus: GPUs per call; with 0 a call sees no GPU.
        console: where messages about nodes and calls are printed.

    Raises:
        ClusterError: the connection failed.
    """
    with connect(address):
        yield RayNodes(jobs, gpus, console)


class RayNodes:
    """Runs calls on the cluster that this process is connected to; nodes that join later are used too.

    Ray decides which node runs which call. A call whose process or node dies is run again; what it had written remains.
    """

    def __init__(self, jobs: int | None, gpus: float, console: Console) -> None:
        import ray

        self._ray: Any = ray
        self._jobs, self._gpus, self._console = jobs, gpus, console
        self._find_missing: FindMissing | None = None
        self._fit: frozenset[str] = frozenset()
        self._unfit: set[str] = set()
        # One call per process: the next may need another number of threads, which TensorFlow accepts only once.
        self._remote = ray.remote(max_calls=1)(_do)

    def check(self, find_missing: FindMissing) -> None:
        """Asks all nodes at once what they lack.

        Raises:
            ClusterError: a node lacks something.
        """
        answers = on_every_node(find_missing, seconds=_PATIENCE)
        unfit = [f"node {node.address}: {answer}" for node, answer in answers.items() if answer is not None]
        if unfit or not answers:
            raise ClusterError(
                f"{len(unfit)} of {len(answers)} nodes cannot be used. {'; '.join(unfit[:3])}. Every node must have the folders "
                "of --data, --weights-folder and --out at the same paths with the same content, and the same aiderm-trainer"
            )
        self._find_missing, self._fit = find_missing, frozenset(node.id for node in answers)

    def run(self, calls: Sequence[Call]) -> Iterator[Done]:
        """See ``Executor``."""
        if self._find_missing is None:
            raise ClusterError("check comes before run")
        self._find_room(calls)
        ray = self._ray
        shared = _Shared(ray)
        waiting, running, deaths = deque(calls), dict[Any, Call](), Counter[str]()
        while waiting or running:
            while waiting and (self._jobs is None or len(running) < self._jobs):
                call = waiting.popleft()
                running[self._submit(call, shared)] = call
            try:
                ready, _ = ray.wait(list(running), num_returns=1, timeout=60)
            except ConnectionError as error:
                raise ClusterError(f"the connection to the cluster was lost: {error}. Run the command again to resume") from error
            for reference in ready:
                call = running.pop(reference)
                try:
                    report = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    yield Done(call.name, error=" ".join(str(error.cause or error).split()))
                except ray.exceptions.RayError as error:
                    deaths[call.name] += 1
                    if deaths[call.name] == _TRIES:
                        yield Done(call.name, error=f"its process died {_TRIES} times (out of memory?). {_first_line(error)}")
                    else:
                        self._console.print(f"again: {call.name}: {_first_line(error)}", highlight=False, markup=False)
                        waiting.appendleft(call)
                else:
                    if report.done:
                        self._fit |= {report.node}
                        yield report.done
                    else:
                        if report.node not in self._unfit:
                            self._unfit.add(report.node)
                            self._console.print(
                                f"node {report.address} is not used: {report.missing}", highlight=False, markup=False
                            )
                        waiting.appendleft(call)

    def _submit(self, call: Call, shared: _Shared) -> Any:
        options: dict[str, Any] = {"num_cpus": call.threads, "num_gpus": self._gpus, "max_retries": 0, "name": call.name}
        if self._unfit:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._unfit))})"}
        light = replace(call, arguments=())
        arguments = [shared.reference(argument) for argument in call.arguments]
        return self._remote.options(**options).remote(self._find_missing, self._fit, light, *arguments)

    def _find_room(self, calls: Sequence[Call]) -> None:
        """Raises an error if no node is large enough; Ray would wait forever."""
        threads = max((call.threads for call in calls), default=0)
        there = nodes()
        if not any(node.cpus >= threads and node.gpus >= self._gpus for node in there):
            offered = ", ".join(f"{node.address}: {node.cpus:g} cores, {node.gpus:g} GPUs" for node in there)
            raise ClusterError(
                f"no node has room for a trial of {threads} threads and {self._gpus:g} GPUs (--threads, --gpus-per-trial). "
                f"There are: {offered or 'no nodes'}"
            )


class _Shared:
    """Sends lists among the arguments to the cluster once, not with every call."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._put: dict[int, tuple[Any, Any]] = {}

    def reference(self, argument: Any) -> Any:
        """Returns the argument, or a reference that Ray replaces with the argument."""
        if not isinstance(argument, list):
            return argument
        if id(argument) not in self._put:
            self._put[id(argument)] = (argument, self._ray.put(argument))  # the list is kept so that its id is not reused
        return self._put[id(argument)][1]


def _do(find_missing: FindMissing, fit: frozenset[str], call: Call, *arguments: Any) -> _NodeReport:
    """Runs a call on a node; a node that joined after the check is checked first."""
    import ray

    context = ray.get_runtime_context()
    node, address = context.get_node_id(), ray.util.get_node_ip_address()
    if node not in fit and (missing := find_missing()):
        return _NodeReport(node, address, missing)
    if not context.get_accelerator_ids().get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return _NodeReport(node, address, None, attempt(replace(call, arguments=arguments), address))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
