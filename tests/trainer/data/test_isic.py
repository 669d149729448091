"""Downloads from a fake server with the ISIC Archive's API v2, which also fails as real servers do."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import cv2
import httpx
import pytest
from typer.testing import CliRunner

from aiderm_trainer.cli import app
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.sources.download import DownloadError, Fetcher
from aiderm_trainer.data.sources.isic import ArchiveQuery, fetch
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.synthetic import lesion

PAGE = 3  # the server's page size


class Archive(ThreadingHTTPServer):
    """A fake archive with images, and faults for the next requests of a path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files, self.records, self.mishaps, self.seen = {}, [], {}, []
        self.lock = threading.Lock()

    def add(self, number, diagnosis=("Benign", "Nevus"), licence="CC-0", **changes):
        isic_id = changes.pop("isic_id", f"ISIC_{number:07d}")
        clinical = {"diagnosis_1": diagnosis[0], "diagnosis_3": diagnosis[1], "sex": "female", "age_approx": 55}
        clinical |= {"anatom_site_general": "lower extremity"} | changes.pop("clinical", {})
        acquisition = {"image_type": "dermoscopic", "pixels_x": 128} | changes.pop("acquisition", {})
        sizes = {}
        for form, side in (("full", 160), ("thumbnail_256", 112)):
            pixels = cv2.cvtColor(lesion(number, False, side), cv2.COLOR_RGB2BGR)
            data = changes.pop(form, None) or cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            path = f"/files/{form}/{number}"
            self.files[path] = data
            sizes[form] = {"url": f"{self.url}{path}?Signature=secret", "size": len(data)}
        record = {
            "isic_id": isic_id, "public": True, "copyright_license": licence, "attribution": "Clinic A", "files": sizes,
            "metadata": {"acquisition": acquisition, "clinical": clinical},
        }  # fmt: skip
        self.records.append(record | changes)

    def times(self, part):
        return [headers for path, headers in self.seen if part in path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        archive, parts = self.server, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with archive.lock:
            archive.seen.append((self.path, dict(self.headers)))
            waiting = archive.mishaps.get(parts.path, [])
            mishap = waiting.pop(0) if waiting else None
        if mishap is not None and mishap(self, archive.files.get(parts.path, b"")):
            return
        if parts.path in archive.files:
            self.send_file(archive.files[parts.path])
        elif parts.path == "/api/v2/collections/":
            self.page(
                [{"id": 65, "name": "Challenge 2019: Training"}, {"id": 66, "name": "Twice"}, {"id": 67, "name": "twice"}], query
            )
        elif parts.path == "/api/v2/images/":
            self.page(archive.records, query)
        elif parts.path == "/api/v2/images/search/":
            chosen = archive.records
            if query.get("query") == 'diagnosis_3:"Nevus"':
                chosen = [r for r in chosen if r["metadata"]["clinical"]["diagnosis_3"] == "Nevus"]
            if query.get("collections") == "65":
                chosen = chosen[:2]
            self.page(chosen, query)
        elif parts.path.startswith("/api/v2/images/ISIC_"):
            self.send_json(next(r for r in archive.records if r["isic_id"] == parts.path.split("/")[-2]))
        else:
            self.answer(404, b"")

    def page(self, records, query):
        start = int(query.get("cursor", 0))
        following = None
        if start + PAGE < len(records):
            rest = {key: value for key, value in query.items() if key != "cursor"} | {"cursor": start + PAGE}
            following = f"{self.server.url}{urlsplit(self.path).path}?{urlencode(rest)}"
        self.send_json({"count": len(records), "next": following, "previous": None, "results": records[start : start + PAGE]})

    def send_json(self, value):
        self.answer(200, json.dumps(value).encode())

    def send_file(self, data):
        wanted = self.headers.get("Range")
        if wanted is None:
            self.answer(200, data)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            self.answer(416, b"")
        else:
            self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})

    def answer(self, status, body, headers=(), length=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body) if length is None else length), **dict(headers)}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


def status(code, **headers):
    def mishap(handler, _):
        handler.answer(code, b"", {key.replace("_", "-"): value for key, value in headers.items()})
        return True

    return mishap


def dropped(handler, data):
    handler.answer(200, data[: len(data) // 2], length=len(data))
    handler.close_connection = True
    return True


def truncated(handler, data):
    """Sends fewer bytes than the record states, with a Content-Length that matches them."""
    handler.answer(200, data[: len(data) // 2])
    return True


def ignores_range(handler, data):
    handler.answer(200, data)
    return True


def garbled(handler, data):
    handler.answer(200, data[:200] + bytes(len(data) - 200))
    return True


@pytest.fixture
def archive():
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(archive, tmp_path):
    """Returns a function that downloads into tmp_path/isic; waits are recorded and take no time."""
    waits = []

    def run(request=ArchiveQuery(), attempts=4, **options):  # noqa: B008
        with httpx.Client(timeout=10, trust_env=False, follow_redirects=True) as client:
            fetcher = Fetcher(client, attempts, waits.append)
            return fetch(tmp_path / "isic", request, api=f"{archive.url}/api/v2", fetcher=fetcher, progress=False, **options)

    run.waits, run.out = waits, tmp_path / "isic"
    return run


def table(out):
    with (out / "isic.csv").open(encoding="utf-8", newline="") as file:
        return {row["isic_id"]: row for row in csv.DictReader(file)}


def test_pages_licences_and_labels_become_a_table_that_prepare_takes(archive, get, tmp_path):
    for number in range(12):
        archive.add(number, clinical={"lesion_id": f"IL_{number // 2}"})
    archive.add(20, ("Malignant", "Melanoma Invasive"), "CC-BY", clinical={"lesion_id": "IL_20", "patient_id": "IP_1"})
    archive.add(21, ("Malignant", "Melanoma, NOS"), "CC-BY-NC", attribution="Clínic, B", clinical={"lesion_id": "IL_20"})
    archive.add(22, ("Indeterminate", "Solar or actinic keratosis"))
    archive.add(23, ("Malignant", "Merkel cell carcinoma"))
    archive.add(30, licence="All rights reserved")
    archive.add(31, licence="")
    archive.add(32, acquisition={"image_type": "clinical: overview"})
    archive.add(33, ("Indeterminate", "Atypical melanocytic neoplasm"))
    archive.add(34, ("Benign", "Melanoma in situ"))
    archive.add(35, isic_id="../../ISIC_0000035")
    archive.add(36, files={})
    report = get()
    rows = table(get.out)
    assert (report.rows, report.fetched, report.kept, report.failed) == (16, 16, 0, {})
    assert report.skipped == {
        "licence All rights reserved": 1, "licence not stated": 1, "not dermoscopic": 1,
        "no diagnosis of benign or malignant": 1, "contradictory diagnosis": 1, "malformed": 2,
    }  # fmt: skip
    labels = {isic_id: (row["dx"], row["malignant"]) for isic_id, row in rows.items()}
    assert labels["ISIC_0000000"] == ("nv", "0")
    assert labels["ISIC_0000020"] == labels["ISIC_0000021"] == ("mel", "1")
    assert labels["ISIC_0000022"] == ("akiec", "1")
    assert labels["ISIC_0000023"] == ("", "1")
    mel = rows["ISIC_0000021"]
    assert (mel["licence"], mel["attribution"], mel["source"]) == ("CC-BY-NC", "Clínic, B", "Clínic, B")
    assert (mel["age"], mel["sex"], mel["localization"]) == ("55", "female", "lower extremity")
    assert mel["group"] == rows["ISIC_0000020"]["group"] == "IP_1"  # one lesion, of which only one image names the patient
    for row in rows.values():
        data = (get.out / row["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert data == archive.files[f"/files/full/{int(row['isic_id'][5:])}"]
    assert not (tmp_path / "ISIC_0000035.jpg").exists()
    assert len(archive.times("/images/?")) == 8  # pages in total
    prepare(get.out / "isic.csv", tmp_path / "split.csv", near_duplicates=False, progress=False)
    split = read_split(tmp_path / "split.csv")
    assert Counter(row.dx for row in split) == {"nv": 12, "mel": 2, "akiec": 1, "": 1}
    assert {row.source for row in split} == {"Clinic A", "Clínic, B"}


def test_what_is_finished_is_not_fetched_again_and_what_was_damaged_is(archive, get):
    for number in range(5):
        archive.add(number)
    get()
    before = (get.out / "isic.csv").read_bytes()
    archive.seen.clear()
    again = get()
    assert (again.fetched, again.kept) == (0, 5)
    assert archive.times("/files/") == []
    assert (get.out / "isic.csv").read_bytes() == before
    damaged = get.out / "images" / "ISIC_0000002.jpg"
    content = bytearray(damaged.read_bytes())
    content[-30] ^= 1  # same size, different checksum
    damaged.write_bytes(content)
    (get.out / "images" / "ISIC_0000003.jpg").unlink()
    with (get.out / "ledger.jsonl").open("a") as file:
        file.write('{"key": "ISIC_0000004", "form": "fu')  # a process that was killed while it wrote
    repaired = get()
    assert (repaired.fetched, repaired.kept) == (2, 3)
    assert (get.out / "isic.csv").read_bytes() == before
    assert damaged.read_bytes() == archive.files["/files/full/2"]


def test_a_connection_dropped_half_way_is_gone_on_with(archive, get):
    archive.add(1)
    archive.mishaps["/files/full/1"] = [dropped]
    assert get().failed == {}
    first, second = archive.times("/files/full/1")
    assert "Range" not in first
    size = len(archive.files["/files/full/1"])
    assert second["Range"] == f"bytes={size // 2}-"
    assert (get.out / "images" / "ISIC_0000001.jpg").read_bytes() == archive.files["/files/full/1"]
    assert len(get.waits) == 1


def test_a_process_that_was_stopped_is_gone_on_with(archive, get):
    archive.add(1)
    archive.mishaps["/files/full/1"] = [dropped, status(500), status(500), status(500)]
    stopped = get()
    assert list(stopped.failed) == ["ISIC_0000001"]
    assert "HTTP 500" in stopped.failed["ISIC_0000001"]
    assert "secret" not in stopped.failed["ISIC_0000001"]
    assert not (get.out / "images" / "ISIC_0000001.jpg").exists()
    assert table(get.out) == {}
    archive.seen.clear()
    assert get().fetched == 1
    assert archive.times("/files/")[0]["Range"].startswith("bytes=")
    assert [path.name for path in (get.out / "images").iterdir()] == ["ISIC_0000001.jpg"]


def test_a_server_that_knows_no_ranges_starts_anew(archive, get):
    archive.add(1)
    archive.mishaps["/files/full/1"] = [dropped, ignores_range]
    assert get().failed == {}
    assert (get.out / "images" / "ISIC_0000001.jpg").read_bytes() == archive.files["/files/full/1"]


def test_busy_servers_are_waited_for_as_long_as_they_ask(archive, get):
    archive.add(1)
    archive.mishaps["/files/full/1"] = [status(429, Retry_After="7"), status(503, Retry_After="100000")]
    archive.mishaps["/api/v2/images/"] = [status(429, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT"), status(502)]
    assert get().rows == 1
    assert get.waits[0] == 0.0  # a date in the past
    assert 0.5 <= get.waits[1] <= 2.0  # no Retry-After header, so it backs off
    assert get.waits[2:] == [7.0, 300.0]


def test_files_that_are_not_what_the_archive_says(archive, get):
    archive.add(1)
    archive.add(2)
    archive.add(3, full=b"no picture at all" * 20)
    archive.add(4)
    archive.mishaps["/files/full/1"] = [truncated] * 9
    archive.mishaps["/files/full/2"] = [garbled]
    archive.mishaps["/files/full/4"] = [truncated]
    report = get(attempts=2)
    assert set(report.failed) == {"ISIC_0000001", "ISIC_0000003"}
    assert "expected" in report.failed["ISIC_0000001"]
    assert "unsupported_type" in report.failed["ISIC_0000003"]
    assert set(table(get.out)) == {"ISIC_0000002", "ISIC_0000004"}
    for number in (2, 4):
        assert (get.out / "images" / f"ISIC_000000{number}.jpg").read_bytes() == archive.files[f"/files/full/{number}"]


def test_addresses_that_expired_are_asked_for_again(archive, get):
    archive.add(1)
    archive.mishaps["/files/full/1"] = [status(403)]
    assert get().failed == {}
    assert len(archive.times("/api/v2/images/ISIC_0000001/")) == 1


def test_query_collection_size_and_limit(archive, get):
    for number in range(8):
        archive.add(number, ("Malignant", "Melanoma in situ") if number % 2 else ("Benign", "Nevus"))
    assert set(table((get(ArchiveQuery(query='diagnosis_3:"Nevus"')), get.out)[1])) == {f"ISIC_000000{n}" for n in (0, 2, 4, 6)}
    assert get(ArchiveQuery(collections=("challenge 2019: training",))).rows == 2
    assert get(ArchiveQuery(collections=("65",), limit=1)).rows == 1
    assert get(ArchiveQuery(limit=5)).rows == 5
    small = get(ArchiveQuery(limit=2, size="thumbnail"))
    assert (small.fetched, small.kept) == (2, 0)
    assert (get.out / "images" / "ISIC_0000000.jpg").read_bytes() == archive.files["/files/thumbnail_256/0"]
    assert get(ArchiveQuery(licences=("CC-0",), limit=3)).rows == 3
    with pytest.raises(ValueError, match="no image is left: 8 licence CC-0"):
        get(ArchiveQuery(licences=("CC-BY",)))
    for name in ("Twice", "unknown"):
        with pytest.raises(ValueError, match=name):
            get(ArchiveQuery(collections=(name,)))


def test_an_api_that_answers_nonsense(archive, get):
    archive.add(1)
    archive.mishaps["/api/v2/images/"] = [lambda handler, _: handler.answer(200, b"<html>") or True]
    with pytest.raises(DownloadError, match="JSON"):
        get()
    archive.mishaps["/api/v2/images/"] = [lambda handler, _: handler.send_json([1, 2]) or True]
    with pytest.raises(DownloadError, match="results"):
        get()
    elsewhere = {"count": 1, "results": [], "next": "http://elsewhere.example/api/v2/images/?cursor=1"}
    archive.mishaps["/api/v2/images/"] = [lambda handler, _: handler.send_json(elsewhere) or True]
    with pytest.raises(DownloadError, match=r"elsewhere\.example"):
        get()
    archive.mishaps["/api/v2/images/"] = [status(400)]
    with pytest.raises(DownloadError, match="HTTP 400"):
        get()


@pytest.mark.parametrize("wrong", [{"licences": ("CC-BY-SA",)}, {"licences": ()}, {"size": "huge"}, {"limit": 0}])
def test_requests_that_are_none(wrong):
    with pytest.raises(ValueError, match="Received"):
        ArchiveQuery(**wrong)


def test_the_command(archive, tmp_path):
    archive.add(1)
    archive.add(2, licence="CC-BY-NC")
    archive.add(3)
    archive.mishaps["/files/full/3"] = [status(410)]

    def run(*more):
        arguments = ["fetch", "isic", str(tmp_path / "x"), "--api", f"{archive.url}/api/v2", "--licence", "cc-0, CC-BY", *more]
        return CliRunner().invoke(app, arguments)

    failed = run()
    assert failed.exit_code == 1, failed.output
    assert "ISIC_0000003" in failed.output
    done = run()
    assert done.exit_code == 0, done.output
    assert "2 images" in done.output
    assert "licence CC-BY-NC: 1" in done.output
    assert run("--size", "huge").exit_code == 2
