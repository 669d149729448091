"""POST /predict, /predict/batch and /predict/lesion over real HTTP."""

from __future__ import annotations

import base64
import math
import threading

import cv2
import numpy as np
import pytest

ACCEPTED = {
    **{form: (form, 400, 300) for form in ("jpeg", "png", "webp", "bmp", "tiff")},
    "rotated": ("jpeg", 200, 300),
    "12_megapixel": ("jpeg", 4000, 3000),
    "cmyk": ("jpeg", 400, 300),
    "greyscale": ("jpeg", 400, 300),
    "16_bit": ("png", 400, 300),
    "alpha": ("png", 160, 120),
    "animated_gif": ("gif", 160, 120),
}
REFUSED = {
    **dict.fromkeys(("heic", "svg", "pdf", "html", "garbage"), (415, "unsupported_type")),
    "bomb": (422, "too_many_pixels"),
    "1x1": (422, "too_small"),
    "truncated": (422, "truncated"),
    "empty": (422, "empty_file"),
}


def problem_of(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(client, pictures, name):
    # the content type that the client declares is ignored
    answer = client.post("/predict", files={"file": ("a.txt", pictures[name], "text/plain")})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    image = body["image"]
    assert (image["format"], image["width"], image["height"]) == ACCEPTED[name]
    side = min(image["width"], image["height"])
    region = body["region"]
    assert region == {
        "x": (image["width"] - side) // 2,
        "y": (image["height"] - side) // 2,
        "width": side,
        "height": side,
    }


def test_the_first_frame_of_an_animation_is_judged(client, pictures):
    body = client.post("/predict", files={"file": pictures["animated_gif"]}).json()
    assert "first_frame" in body["image"]["notes"]
    assert body["malignancy"]["probability"] == pytest.approx(200 / 255, abs=0.02)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(client, pictures, name):
    problem = problem_of(client.post("/predict", files={"file": ("a.jpg", pictures[name], "image/jpeg")}), *REFUSED[name])
    if name == "heic":
        assert "HEIC" in problem["detail"]
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("red", "blue", "decision", "reason"),
    [
        (230, 10, "suspicious", "threshold"),
        (128, 10, "uncertain", "band"),
        (20, 10, "low_suspicion", "threshold"),
        (230, 150, "rejected", "novelty"),
    ],
)
def test_decisions(client, forms, red, blue, decision, reason):
    body = client.post("/predict?explain=true", files={"file": forms.png_of(red, 100, blue)}).json()
    assert body["decision"] == decision
    assert [item["code"] for item in body["reasons"]] == [reason]
    assert body["model"] == {"name": "melanoma", "version": "1"}
    assert body["novelty"] == {"score": pytest.approx(blue * 10, abs=0.1), "limit": 1000.0}
    assert body["disclaimer"] == "Research use only; not a medical device; not a diagnosis."
    if decision == "rejected":
        assert body["malignancy"] is None
        assert body["classes"] == []
        assert body["heatmap"] is None
        return
    assert body["malignancy"] == {
        "probability": pytest.approx(red / 255, abs=1e-4),
        "threshold": 0.5,
        "uncertain": [0.4, 0.6],
        "prevalence": 0.3,
    }
    probabilities = [item["probability"] for item in body["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    malignant = sum(item["probability"] for item in body["classes"] if item["malignant"])
    assert malignant == pytest.approx(red / 255, abs=1e-4)
    assert body["heatmap"].startswith("data:image/png;base64,")


def test_quality_warns_and_rejects(client, forms):
    dark = client.post("/predict?model=binary", files={"file": forms.png_of(20, 60, 10)}).json()
    assert dark["decision"] == "uncertain"
    assert [item["code"] for item in dark["reasons"]] == ["quality"]
    assert [item["code"] for item in dark["quality"]["warnings"]] == ["brightness"]
    assert [item["id"] for item in dark["classes"]] == ["benign", "malignant"]
    black = client.post("/predict?model=binary", files={"file": forms.png_of(0, 0, 0)}).json()
    assert black["decision"] == "rejected"
    assert [item["code"] for item in black["reasons"]] == ["quality_brightness"]


def test_heatmap_grows_with_the_value(client, forms):
    """Green falls from left to right, so colour and opacity must as well."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[..., 2] = 230
    pixels[..., 1] = np.linspace(250, 0, 128, dtype=np.uint8)
    ok, png = cv2.imencode(".png", pixels)
    assert ok
    body = client.post("/predict?explain=true", files={"file": png.tobytes()}).json()
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(body["heatmap"].partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn.shape == (64, 64, 4)
    assert drawn.dtype == np.uint8
    opacity = drawn[32, :, 3].astype(int)
    assert opacity[2] > 120
    assert opacity[-2] < 20
    assert (np.diff(opacity) <= 2).all()
    light = cv2.cvtColor(drawn[..., :3], cv2.COLOR_BGR2GRAY)[32].astype(int)
    assert light[2] > light[32] > light[-2]


def test_no_heatmap_unless_asked(client, forms):
    assert client.post("/predict", files={"file": forms.png_of(230)}).json()["heatmap"] is None


def test_answers_are_not_cached(client, forms):
    answer = client.post("/predict", files={"file": forms.png_of(230)})
    assert answer.headers["cache-control"] == "no-store"
    timing = answer.json()["timing_ms"]
    assert set(timing) == {"queue", "decode", "quality", "forward", "total"}
    assert timing["total"] >= timing["decode"] + max(timing["quality"], timing["forward"])


def test_unknown_model(client, forms):
    problem = problem_of(client.post("/predict?model=nonsense", files={"file": forms.png_of(9)}), 404, "unknown_model")
    assert "melanoma" in problem["detail"]


def test_invalid_parameter(client, forms):
    problem = problem_of(client.post("/predict?explain=maybe", files={"file": forms.png_of(9)}), 422, "invalid_parameter")
    assert "maybe" in problem["detail"]


def test_batch(client, pictures, forms):
    files = [("files", forms.png_of(230)), ("files", pictures["pdf"]), ("files", forms.png_of(20)), ("files", b"")]
    answer = client.post("/predict/batch", files=files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [item["index"] for item in results] == [0, 1, 2, 3]
    assert [item["assessment"] and item["assessment"]["decision"] for item in results] == [
        "suspicious",
        None,
        "low_suspicion",
        None,
    ]
    assert [item["problem"] and item["problem"]["code"] for item in results] == [None, "unsupported_type", None, "empty_file"]
    assert results[1]["problem"]["request_id"] == answer.headers["x-request-id"]


def test_batch_equals_single_answers(client, pictures):
    names = ["jpeg", "png", "webp", "cmyk"]
    batch = client.post("/predict/batch", files=[("files", pictures[name]) for name in names]).json()["results"]
    for name, item in zip(names, batch, strict=True):
        single = client.post("/predict", files={"file": pictures[name]}).json()
        assert item["assessment"]["malignancy"] == single["malignancy"]


def test_batch_limits(serve, forms, pictures):
    running = serve(batch_max_files=3, max_upload_bytes=50_000, batch_max_bytes=120_000, max_inflight_bytes=500_000)
    post = running.client.post
    problem_of(post("/predict/batch", files=[("files", forms.png_of(9))] * 4), 413, "too_large")
    problem_of(post("/predict/batch", files=[("files", bytes(49_000))] * 3 + [("x", bytes(60_000))]), 413, "too_large")
    mixed = post("/predict/batch", files=[("files", bytes(60_000)), ("files", forms.png_of(230))])
    assert [item["problem"] and item["problem"]["code"] for item in mixed.json()["results"]] == ["too_large", None]
    problem_of(post("/predict/batch", files={"file": forms.png_of(9)}), 400, "missing_file")


def test_a_batch_that_the_service_fails_is_no_success(serve, forms):
    running = serve(workers=1, deadline_seconds=0.2)
    with running.blocked():
        answer = running.client.post("/predict/batch", files=[("files", forms.png_of(230))] * 2)
    problem_of(answer, 504, "deadline")


def queued_request(running, forms):
    """Sends a request that waits for a worker; returns its thread, and the list to which its response will be added."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(running.client.post("/predict", files={"file": forms.png_of(230)})))
    thread.start()
    forms.wait_until(lambda: running.services.pool.depth == 1)
    return thread, answers


def test_overload(serve, forms):
    running = serve(workers=1, queue_size=1)
    with running.blocked() as gate:
        waiting, waited = queued_request(running, forms)
        shed = running.client.post("/predict", files={"file": forms.png_of(230)})
        problem = problem_of(shed, 503, "overloaded")
        assert int(shed.headers["retry-after"]) == problem["retry_after"] >= 1
        assert running.client.get("/health").status_code == 200
        gate.set()
        waiting.join()
    assert waited[0].status_code == 200
    assert 'aiderm_shed_total{reason="overloaded"} 1.0' in running.client.get("/metrics").text


def test_deadline(serve, forms):
    running = serve(workers=1, deadline_seconds=0.3)
    with running.blocked():
        problem_of(running.client.post("/predict", files={"file": forms.png_of(230)}), 504, "deadline")
        assert running.services.pool.depth == 0
    assert 'aiderm_shed_total{reason="deadline"} 1.0' in running.client.get("/metrics").text


def test_a_client_that_hangs_up_frees_its_place(serve, forms):
    running = serve(workers=1, queue_size=4)
    body = forms.multipart(("file", "a.png", forms.png_of(230)))
    with running.blocked():
        with running.connect() as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=frontier\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            forms.wait_until(lambda: running.services.pool.depth == 1)
        forms.wait_until(lambda: running.services.pool.depth == 0)
        forms.wait_until(lambda: running.services.budget.held == 0)


def test_requests_in_progress_are_finished_on_shutdown(serve, forms):
    running = serve(workers=1)
    with running.blocked() as gate:
        thread, answers = queued_request(running, forms)
        running.server.should_exit = True
        gate.set()
        thread.join()
    running.thread.join(20)
    assert not running.thread.is_alive()
    assert answers[0].status_code == 200


def test_thorough_judges_by_a_rule_of_its_own(client, forms):
    """The graph's output is equal in all orientations, so only the rule differs: 230/255 is above 0.5 and inside 0.85..0.95."""
    plain = client.post("/predict?model=binary", files={"file": forms.png_of(230)}).json()
    thorough = client.post("/predict?model=binary&thorough=true&explain=true", files={"file": forms.png_of(230)}).json()
    assert (plain["thorough"], plain["decision"], plain["malignancy"]["threshold"]) == (False, "suspicious", 0.5)
    assert (thorough["thorough"], thorough["decision"], thorough["malignancy"]["threshold"]) == (True, "uncertain", 0.9)
    assert thorough["malignancy"]["uncertain"] == [0.85, 0.95]
    assert thorough["malignancy"]["probability"] == pytest.approx(230 / 255, abs=1e-4)
    assert thorough["novelty"] == plain["novelty"]
    assert thorough["heatmap"].startswith("data:image/png;base64,")
    assert client.post("/predict?model=binary&thorough=false", files={"file": forms.png_of(230)}).json()["thorough"] is False


def test_thorough_is_refused_where_it_was_not_measured_to_help(client, forms):
    for path in ("/predict", "/predict/batch"):
        field = "files" if path.endswith("batch") else "file"
        answer = client.post(f"{path}?thorough=true", files={field: forms.png_of(230)})
        problem = problem_of(answer, 422, "invalid_parameter")
        assert "thorough=true" in problem["detail"]
        assert "Allowed: thorough=false" in problem["detail"]
        assert "melanoma 1" in problem["detail"]


def test_thorough_batch(client, pictures, forms):
    files = [("files", forms.png_of(250)), ("files", pictures["pdf"]), ("files", forms.png_of(230))]
    results = client.post("/predict/batch?model=binary&thorough=true", files=files).json()["results"]
    assert [item["assessment"] and item["assessment"]["decision"] for item in results] == ["suspicious", None, "uncertain"]
    assert all(item["assessment"]["thorough"] for item in results if item["assessment"])


def test_thorough_keeps_the_deadline(serve, forms):
    running = serve(workers=1, deadline_seconds=0.3)
    with running.blocked():
        answer = running.client.post("/predict?model=binary&thorough=true", files={"file": forms.png_of(230)})
        problem_of(answer, 504, "deadline")
        assert running.services.pool.depth == 0


def test_models_say_where_thorough_is_offered(client):
    offered = {item["name"]: item["thorough"] for item in client.get("/models").json()["models"]}
    assert offered["melanoma"] is None
    assert offered["binary"]["decision"]["threshold"] == 0.9
    assert offered["binary"]["gain"]["auc"] == 0.01
    assert client.get("/models/binary").json()["thorough"] == offered["binary"]


def lesion_of(client, *contents, path="/predict/lesion"):
    answer = client.post(path, files=[("files", content) for content in contents])
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_lesion(client, pictures, forms):
    """The threshold is 0.5 and the band 0.4..0.6; blue 255 is above the novelty limit, so that image is left out."""
    two = lesion_of(client, forms.png_of(230), forms.png_of(200), path="/predict/lesion?explain=true")
    single = [client.post("/predict", files={"file": forms.png_of(red)}).json() for red in (230, 200)]
    assert [item["assessment"]["malignancy"] for item in two["images"]] == [answer["malignancy"] for answer in single]
    assert all(item["assessment"]["heatmap"].startswith("data:image/png") for item in two["images"])
    odds = [math.log(red / (255 - red)) for red in (230, 200)]
    assert two["decision"] == "suspicious"
    assert two["malignancy"] == single[0]["malignancy"] | {
        "probability": pytest.approx(1 / (1 + math.exp(-sum(odds) / 2)), abs=1e-4)
    }
    assert sum(item["probability"] for item in two["classes"] if item["malignant"]) == pytest.approx(
        two["malignancy"]["probability"], abs=1e-9
    )
    assert two["spread"]["log_odds_sd"] == pytest.approx((odds[0] - odds[1]) / math.sqrt(2), abs=1e-3)
    assert two["spread"]["probability"] == pytest.approx([200 / 255, 230 / 255], abs=1e-4)
    assert (two["counted"], two["left_out"], two["disagreement"]) == ([0, 1], [], None)

    apart = lesion_of(client, forms.png_of(20), pictures["pdf"], forms.png_of(230), forms.png_of(250, 100, 255))
    assert (apart["decision"], [reason["code"] for reason in apart["reasons"]]) == ("uncertain", ["band", "disagreement"])
    assert apart["disagreement"] == {"higher": [2], "lower": [0]}
    assert "picture 1 alone, but not for picture 3" in apart["reasons"][-1]["text"]
    assert apart["counted"] == [0, 2]
    left_out = [(item["index"], [reason["code"] for reason in item["reasons"]]) for item in apart["left_out"]]
    assert left_out == [(1, ["unsupported_type"]), (3, ["novelty"])]
    assert apart["images"][1]["problem"]["code"] == "unsupported_type"

    nothing = lesion_of(client, forms.png_of(230, 100, 255), pictures["pdf"])
    assert (nothing["decision"], nothing["malignancy"], nothing["classes"]) == ("rejected", None, [])
    assert nothing["reasons"][0]["code"] == "no_image"


def test_the_same_file_counts_once(client, pictures, forms):
    """Otherwise a copy would look like a second photograph that agrees."""
    low, suspicious, novel = forms.png_of(20), forms.png_of(230), forms.png_of(230, 100, 255)
    alone = lesion_of(client, low, low)
    assert (alone["decision"], alone["counted"], alone["spread"]) == ("low_suspicion", [0], None)
    assert [(item["index"], item["reasons"][0]["code"]) for item in alone["left_out"]] == [(1, "same_file")]
    assert alone["images"][1]["assessment"]["decision"] == "low_suspicion"
    several = lesion_of(client, pictures["pdf"], suspicious, novel, suspicious, pictures["pdf"], novel, forms.png_of(200))
    assert (several["decision"], several["counted"]) == ("suspicious", [1, 6])
    left_out = {item["index"]: item["reasons"][0]["code"] for item in several["left_out"]}
    refused = dict.fromkeys((0, 4), "unsupported_type")
    assert left_out == refused | {2: "novelty", 3: "same_file", 5: "same_file"}
    assert several["malignancy"] == lesion_of(client, suspicious, forms.png_of(200))["malignancy"]


def test_lesion_with_averaged_orientations_has_their_rule(client, forms):
    answer = lesion_of(client, *[forms.png_of(230)] * 2, path="/predict/lesion?model=binary&tta=true")
    assert (answer["thorough"], answer["decision"], answer["malignancy"]["threshold"]) == (True, "uncertain", 0.9)


def test_lesion_refusals(client, serve, pictures, forms):
    one = problem_of(client.post("/predict/lesion", files=[("files", forms.png_of(230))]), 400, "missing_file")
    assert "2 to 8" in one["detail"]
    problem_of(client.post("/predict/lesion", files=[("files", forms.png_of(230))] * 9), 413, "too_large")
    unreadable = [("files", pictures["pdf"]), ("files", b"")]
    problem_of(client.post("/predict/lesion", files=unreadable), 415, "unsupported_type")
    running = serve(workers=1, deadline_seconds=0.3)
    with running.blocked():
        problem_of(running.client.post("/predict/lesion", files=[("files", forms.png_of(230))] * 2), 504, "deadline")
