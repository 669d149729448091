"""aiderm-dicom with a real DICOMweb server (Orthanc) and a folder: every image gets one report, and no log names a patient."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pydicom
import pytest
from tests import dicom_files as files
from tests.dicom_tools import dciodvfy, needs_dciodvfy
from tests.fhir import fhir_validator

from aiderm_client import dicom_node
from aiderm_client.dicom_node import Folder, Memory, Server, Service, run_once

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
needs_orthanc = pytest.mark.skipif(
    shutil.which("Orthanc") is None or not PLUGIN.exists(), reason="Orthanc is missing (Debian: orthanc, orthanc-dicomweb)"
)
WIDTH, HEIGHT = 160, 120


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def patient(number: int, **changes: object) -> bytes:
    """A photograph of an invented patient, in a colour that the tests' model does not reject."""
    colour = bytes([number % 250, 100, 10])
    return files.photograph(
        colour * (WIDTH * HEIGHT), WIDTH, HEIGHT, name=1000 + number,
        PatientName=f"Nachname{number}Zw^Vorname{number}Qk", PatientID=f"PATID-{number:05}-XQ", **changes,
    )  # fmt: skip


@contextmanager
def orthanc(folder: Path, port: int) -> Iterator[str]:
    """Runs Orthanc; yields the address of its DICOMweb root."""
    settings = {
        "Name": "tests", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
        "HttpPort": port, "DicomPort": free_port(), "DicomServerEnabled": False, "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False, "Plugins": [str(PLUGIN)], "OverwriteInstances": True, "DicomWeb": {"Enable": True},
    }  # fmt: skip
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("ab") as log:
        process = subprocess.Popen(["Orthanc", str(file)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/system").status_code == 200:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        process.terminate()
        process.wait(30)


def stow(url: str, photographs: list[bytes]) -> None:
    import requests
    from dicomweb_client.api import DICOMwebClient

    with requests.Session() as session:
        session.hooks["response"] = [lambda response, **_: response.content and None]
        DICOMwebClient(url, session=session).store_instances([pydicom.dcmread(io.BytesIO(each)) for each in photographs])


def stored(url: str, modality: str) -> list[bytes]:
    """All instances of a modality, as the server has stored them."""
    root = url.removesuffix("/dicom-web")
    query = {"Level": "Instance", "Query": {"Modality": modality}}
    return [httpx.get(f"{root}/instances/{each}/file").content for each in httpx.post(f"{root}/tools/find", json=query).json()]


def hold(url: str, bundles: Path, count: int, said: str, tmp_path: Path) -> None:
    """Asserts that each patient has one valid report, one heatmap and one valid Bundle, and that ``said`` names no patient."""
    reports, heatmaps = stored(url, "SR"), stored(url, "OT")
    assert (len(reports), len(heatmaps)) == (count, count)
    assert {str(pydicom.dcmread(io.BytesIO(each)).PatientID) for each in reports} == {f"PATID-{n:05}-XQ" for n in range(count)}
    assert [error for each in (*reports, *heatmaps) for error in dciodvfy(each, tmp_path)] == []
    problems = fhir_validator()
    written = [json.loads(path.read_text("utf-8")) for path in sorted(bundles.glob("*.fhir.json"))]
    assert len(written) == count
    assert [problem for bundle in written for problem in problems(bundle)] == []
    assert len(said) > 100
    assert re.findall(r"PATID|Nachname|Vorname|1\.2\.826\.0\.1|" + "|".join(files.SECRETS.values()), said) == []


@needs_orthanc
@needs_dciodvfy
@pytest.mark.parametrize("count", [pytest.param(4, marks=pytest.mark.ci), pytest.param(200, marks=pytest.mark.soak)])
def test_patients_in_by_stow_and_out_as_reports(count, service, tmp_path, capfd, caplog):
    bundles, port = tmp_path / "fhir", free_port()
    caplog.set_level("INFO")
    with orthanc(tmp_path, port) as url:
        stow(url, [patient(number) for number in range(count)])
        state = tmp_path / "state"
        arguments = ["--dicomweb", url, "--out", str(bundles), "--fhir", "--once", "--state", str(state)]
        for modality in ("XC", "SR", "OT"):
            arguments += ["--modality", modality]
        # While the service is down, everything waits.
        assert dicom_node.main([*arguments, "--service", f"http://127.0.0.1:{free_port()}"]) == 1
        assert stored(url, "SR") == []
        assert dicom_node.main([*arguments, "--service", service]) == 0
        hold(
            url,
            bundles,
            count,
            "".join(capfd.readouterr()) + "".join(f"\n{record.name}: {record.getMessage()}" for record in caplog.records),
            tmp_path,
        )
    # The archive goes down and comes back: nothing is done twice, and the node's own reports and heatmaps are skipped.
    assert dicom_node.main([*arguments, "--service", service]) == 1
    with orthanc(tmp_path, port) as url:
        assert dicom_node.main([*arguments, "--service", service]) == 0
        outcomes = [line.split(maxsplit=1)[1] for line in state.read_text().splitlines()]
        assert (outcomes.count("reported"), outcomes.count("skipped")) == (count, 2 * count)
        # Without its state file it stores the same instances again, not new ones.
        state.unlink()
        assert dicom_node.main([*arguments, "--service", service]) == 0
        assert len(stored(url, "SR")) == count


def test_a_folder_of_images(service, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dicom_node, "_SETTLED_SECONDS", 0)
    caplog.set_level("INFO")
    source, target = tmp_path / "in", tmp_path / "in" / "out"  # its own reports are below the folder of images
    source.mkdir()
    for number in range(2):
        (source / f"IM{number}").write_bytes(patient(number))
    (source / "Nachname.dcm").write_bytes(files.photograph(bytes(WIDTH * HEIGHT), WIDTH, HEIGHT, colours="MONOCHROME2"))
    (source / "notes.txt").write_text("no image")
    memory, place = Memory(tmp_path / "state"), Folder(source, target)
    with httpx.Client() as client:
        first, second = (run_once(place, Service(service, client=client), memory, fhir=True) for _ in range(2))
    assert (first["reported"], first["refused (undecodable)"]) == (2, 1)
    assert second["reported"] == 0
    assert first["skipped"] + second["skipped"] == 4
    names = sorted(path.name.partition(".")[2] for path in target.iterdir())
    assert names == ["0.dcm", "0.dcm", "1.dcm", "1.dcm", "fhir.json", "fhir.json"]
    assert not list(target.glob(".*"))
    modes = {path.stat().st_mode for path in target.iterdir()}
    assert modes == {(source / "notes.txt").stat().st_mode}, "another user's import may read them"
    assert "Nachname" not in caplog.text


def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "key.0.dcm").mkdir()
    with pytest.raises(IsADirectoryError):
        Folder(tmp_path, tmp_path).store(dicom_node.Image("key", lambda: None), [b"report"], None)
    assert [path.name for path in tmp_path.iterdir()] == ["key.0.dcm"]


def test_what_may_pass_is_tried_again(tmp_path):
    image = dicom_node.Image("key", lambda: patient(1))

    class Place:
        stored = 0

        def images(self):
            yield image

        def store(self, image, reports, bundle):
            self.stored += 1
            if self.stored == 1:
                raise dicom_node.TemporaryError("full")

    answers = iter([httpx.Response(503), httpx.Response(200, headers={"content-type": "x; boundary=b"}, content=b"--b--")])
    again = httpx.Response(200, headers={"content-type": "x; boundary=b"}, content=b"--b--")
    client = httpx.Client(transport=httpx.MockTransport(lambda request: next(answers, again)))
    service, memory, place = Service("http://service", client=client), Memory(tmp_path / "state"), Place()
    rounds = [dict(run_once(place, service, memory)) for _ in range(4)]
    assert rounds == [{"postponed": 1}, {"postponed": 1}, {"reported": 1}, {"done before": 1}]


def test_a_server_that_is_away_ends_the_round():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        place = Server(f"http://127.0.0.1:{found.getsockname()[1]}/dicom-web", ["XC"])
        with closing(place), httpx.Client() as client:
            assert run_once(place, Service("http://127.0.0.1:1", client=client), Memory(None)) == {"postponed": 1}
