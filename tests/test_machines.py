"""Tests the machines on which other tests run clusters."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.machines import Machine, eventually, need_machines, switch

pytestmark = pytest.mark.ci
SUBNET = "198.18.90"
# Answers every connection with its own address until it is ended.
PROGRAM = """
import os, socket, sys
server = socket.create_server((sys.argv[1], 7))
open(os.environ["folder"] + "/ready", "w").close()
while True:
    with server.accept()[0] as connection:
        connection.sendall(sys.argv[1].encode())
"""
ASK = 'import socket, sys; print(socket.create_connection((sys.argv[1], 7), timeout=5).recv(100).decode(), end="")'


def test_machines_reach_each_other_and_end_with_all_they_started(tmp_path: Path) -> None:
    need_machines("python3")
    with switch(SUBNET) as joined:
        machines = [Machine(number, tmp_path / str(number), SUBNET) for number in (1, 2)]
        try:
            for machine in machines:
                machine.folder.mkdir()
                script = 'set -e\nNETWORK\nsleep 1000 & exec python3 -c "$@"\n'
                machine.boot(joined, script, [PROGRAM, machine.address], {"folder": str(machine.folder)})
            for machine in machines:
                eventually((machine.folder / "ready").exists, 30, f"machine {machine.number}: {machine.log.read_text()}")
                joined.run("python3", "-c", ASK, machine.address)
            children = Path(f"/proc/{machines[0].first}/task/{machines[0].first}/children").read_text().split()
            assert children, "the sleep in the background"
            machines[0].stop()
            eventually(lambda: not Path(f"/proc/{children[0]}").exists(), 10, "the end of what the machine had started")
            assert not machines[0].alive
            joined.cut(2)
            with pytest.raises(AssertionError):
                joined.run("python3", "-c", ASK, machines[1].address)
            assert machines[1].alive
        finally:
            for machine in machines:
                machine.stop()
