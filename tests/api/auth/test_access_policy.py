"""A service that requires API keys: access, rate limits, and the headers that browsers get."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiderm_api.__main__ import main
from aiderm_api.auth.keys import Rate, changing, new_key
from aiderm_api.settings import Settings, SettingsError

ORIGIN = "https://clinic.example"


@pytest.fixture
def keys(tmp_path: Path):
    """Returns a function that adds keys to a file and returns their secrets."""

    class Keys:
        path = tmp_path / "keys.json"

        def add(self, name: str = "clinic", **options) -> dict[str, str]:
            key, secret = new_key(name, **options)
            with changing(self.path) as keys:
                keys.append(key)
            return {"Authorization": f"Bearer {secret}"}

        def revoke(self, name: str) -> None:
            with changing(self.path) as keys:
                keys[:] = [key for key in keys if key.name != name]

    return Keys()


def test_everything_but_health_and_documentation_needs_a_key(serve, keys, forms):
    given = keys.add()
    client = serve(keys_file=keys.path).client
    for path in ("/health", "/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
    for path in ("/models", "/models/melanoma", "/models/melanoma/report", "/metrics"):
        assert client.get(path).status_code == 401, path
        assert client.get(path, headers=given).status_code == 200, path
    for path in ("/nothing", "/predict", "/health/", "//health", "/healthz"):
        assert client.get(path).status_code == 401, path
    picture = {"file": forms.png_of(230)}
    refused = client.post("/predict", files=picture)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == 'Bearer realm="aiderm"'
    assert refused.headers["x-request-id"] == refused.json()["request_id"]
    assert client.post("/predict/batch", files={"files": forms.png_of(230)}).status_code == 401
    assert client.post("/predict", files=picture, headers=given).json()["decision"] == "suspicious"
    metrics = client.get("/metrics", headers=given).text
    assert 'aiderm_unauthorized_total{reason="missing"}' in metrics
    assert 'aiderm_requests_total{method="POST",route="/predict",status="401"} 1.0' in metrics
    assert "aiderm_keys_valid 1.0" in metrics


def test_the_other_ways_to_have_no_key(serve, keys):
    given = keys.add()["Authorization"]
    old = keys.add("old", expires_at=datetime.now(UTC) - timedelta(seconds=1))["Authorization"]
    secret = given.removeprefix("Bearer ")
    client = serve(keys_file=keys.path).client
    for header in (
        *("", "Bearer", f"Basic {secret}", secret, f"{given}0", f"Bearer {'x' * 500}", old, "Bearer ÄÖ"),
        f"{given}, {given}",
    ):
        answer = client.get("/models", headers={"Authorization": header.encode("utf-8")})
        assert answer.status_code == 401, header
        assert answer.headers["www-authenticate"] == 'Bearer realm="aiderm", error="invalid_token"'
        assert secret not in answer.text
    assert "is over" in client.get("/models", headers={"Authorization": old}).json()["detail"]
    assert client.get("/models", headers=[("Authorization", given), ("Authorization", given)]).status_code == 401
    assert client.get(f"/models?key={secret}").status_code == 401
    for header in (given, given.replace("Bearer", "bearer"), f"BEARER   {secret}"):
        assert client.get("/models", headers={"Authorization": header}).status_code == 200, header


def test_keys_come_and_go_without_a_restart(serve, keys, forms):
    keys.add("first")
    running = serve(keys_file=keys.path)
    late = keys.add("late")
    forms.wait_until(lambda: running.client.get("/models", headers=late).status_code == 200)
    keys.revoke("late")
    forms.wait_until(lambda: running.client.get("/models", headers=late).status_code == 401)


def test_a_key_is_slowed_down_to_its_rate_and_the_others_are_not(serve, keys, forms):
    slow = keys.add("slow", rate=Rate(per_second=0.01, burst=2))
    usual = keys.add("usual")
    free = keys.add("free", rate="unlimited")
    client = serve(keys_file=keys.path, key_rate=0.01, key_burst=4).client

    def predict(key):
        return client.post("/predict", files={"file": forms.png_of(230)}, headers=key)

    assert [predict(slow).status_code for _ in range(3)] == [200, 200, 429]
    refused = predict(slow)
    assert refused.json()["code"] == "rate_limited"
    assert refused.json()["retry_after"] == int(refused.headers["retry-after"])
    assert 1 <= int(refused.headers["retry-after"]) <= 100
    assert "0.01 a second" in refused.json()["detail"]
    assert client.get("/models", headers=slow).status_code == 200, "only pictures are counted"
    assert [predict(usual).status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    assert {predict(free).status_code for _ in range(8)} == {200}
    identifier = slow["Authorization"].split("_")[1]
    assert f'aiderm_rate_limited_total{{key="{identifier}"}} 2.0' in client.get("/metrics", headers=free).text


def test_several_images_in_one_request_count_as_many_as_they_are(serve, keys, forms):
    asked = {"/predict/batch": (6, 4), "/predict/lesion": (6, 4), "/compare": (2, 1)}
    named = {path: keys.add(rate=Rate(per_second=0.01, burst=burst)) for path, (_, burst) in asked.items()}
    client = serve(keys_file=keys.path).client
    for path, (count, burst) in asked.items():
        assert client.post(path, files=[("files", forms.png_of(230))] * count, headers=named[path]).status_code == 200
        refused = client.post("/predict", files={"file": forms.png_of(230)}, headers=named[path])
        assert refused.status_code == 429
        seconds = 100 * (count - burst + 1)  # until the bucket is out of debt and admits one more
        assert seconds - 50 <= int(refused.headers["retry-after"]) <= seconds


def test_browsers_of_named_sites_get_through_the_preflight_and_read_refusals(serve, keys, forms):
    given = keys.add(rate=Rate(per_second=0.01, burst=1))
    client = serve(keys_file=keys.path, cors_origins=(ORIGIN,)).client
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-request-id",
    }
    preflight = client.options("/predict", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in preflight.headers
    picture = {"file": forms.png_of(230)}
    answers = [
        client.post("/predict", files=picture, headers={"Origin": ORIGIN, **given}),
        client.post("/predict", files=picture, headers={"Origin": ORIGIN, **given}),
        client.post("/predict", files=picture, headers={"Origin": ORIGIN}),
    ]
    assert [answer.status_code for answer in answers] == [200, 429, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"x-request-id", "retry-after", "www-authenticate"} <= exposed
    for origin in ("https://evil.example", "http://clinic.example", f"{ORIGIN}.evil.example", f"{ORIGIN}:444", "null"):
        other = client.options("/predict", headers={**asked, "Origin": origin})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers
        assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": origin}).headers


def test_a_shed_request_can_be_read_by_the_named_site_too(serve, forms):
    running = serve(workers=1, queue_size=1, cors_origins=(ORIGIN,))
    with running.blocked(), running.connect() as waiting:
        body = forms.multipart(("file", "a.png", forms.png_of(200)))
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=frontier\r\n"
        waiting.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        forms.wait_until(lambda: running.services.pool.depth == 1)
        refused = running.client.post("/predict", files={"file": forms.png_of(1)}, headers={"Origin": ORIGIN})
        assert refused.status_code == 503
        assert refused.headers["access-control-allow-origin"] == ORIGIN


def test_preflight_without_named_sites_is_nobodys(serve, keys):
    keys.add()
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert serve(keys_file=keys.path).client.options("/predict", headers=asked).status_code == 401
    answer = serve().client.options("/predict", headers=asked)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_of_one_process_is_open_and_its_api_is_not(serve, keys, forms, tmp_path):
    given = keys.add()
    page = tmp_path / "public"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>page</title>")
    client = serve(keys_file=keys.path, frontend_dir=page).client
    assert client.get("/").status_code == 200
    for prefix in ("", "/api"):
        assert client.get(f"{prefix}/health").status_code == 200
        assert client.get(f"{prefix}/models").status_code == 401
        assert client.get(f"{prefix}/models", headers=given).status_code == 200
        assert client.post(f"{prefix}/predict", files={"file": forms.png_of(1)}).status_code == 401
        assert client.post(f"{prefix}/predict", files={"file": forms.png_of(1)}, headers=given).status_code == 200


def test_a_large_upload_without_a_key_is_told_so(serve, keys):
    keys.add()
    client = serve(keys_file=keys.path).client
    assert client.post("/predict", files={"file": bytes(15_000_000)}).json()["code"] == "unauthorized"


def test_keys_are_described(client):
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearerKey"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == ("401" in operation["responses"]) == (not path.startswith("/health"))


def test_required_keys_that_are_not_there_end_the_process_with_an_explanation(keys, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("AIDERM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIDERM_KEYS_FILE", str(keys.path))
    assert main([]) == 2
    said = capsys.readouterr().err
    assert f"AIDERM_KEYS_FILE: There is no file of keys at {keys.path}" in said
    assert "aiderm-api keys add" in said
    keys.add()
    monkeypatch.setenv("AIDERM_AUDIT", "/dev/stderr")
    assert main(["serve"]) == 2
    assert "AIDERM_AUDIT: the log goes to stderr" in capsys.readouterr().err


def test_each_unsafe_file_is_refused_before_the_port_opens(serve, keys):
    keys.add()
    keys.path.chmod(0o666)
    with pytest.raises(SettingsError, match="chmod go-w"):
        serve(keys_file=keys.path)
    keys.path.chmod(0o600)
    keys.revoke("clinic")
    with pytest.raises(SettingsError, match="none that is valid"):
        serve(keys_file=keys.path)


def test_without_a_file_of_keys_nothing_changes(client):
    assert Settings.model_fields["keys_file"].default is None
    assert client.get("/models").status_code == 200
    assert client.get("/models", headers={"Authorization": "Bearer whatever"}).status_code == 200
