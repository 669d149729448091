"""Requests that browsers send on behalf of other sites."""

from __future__ import annotations

import pytest

from aiderm_api.errors.problems import CrossSite
from aiderm_api.routes.admission import check_site

PARTNER = "https://partner.example"


def scope(**headers: str) -> dict:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "a.example"},
        {"host": "a.example", "origin": "https://a.example"},
        {"host": "a.example", "origin": "http://a.example"},  # a proxy terminated TLS
        {"host": "a.example:80", "origin": "http://a.example"},
        {"host": "a.example:8000", "origin": "http://a.example:8000", "sec_fetch_site": "same-origin"},
        {"host": "a.example", "origin": "null", "sec_fetch_site": "same-origin"},
        {"host": "a.example", "sec_fetch_site": "none"},
        {"host": "a.example", "origin": PARTNER, "sec_fetch_site": "cross-site"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
    ],
)
def test_programs_own_pages_and_named_sites_are_admitted(headers):
    check_site(scope(**headers), (PARTNER,))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "a.example", "origin": "https://evil.example"},
        {"host": "a.example", "origin": "https://a.example.evil.example"},
        {"host": "a.example", "origin": "https://a.example:444"},
        {"host": "a.example", "origin": "null"},
        {"host": "a.example", "origin": ""},
        {"host": "a.example", "origin": "file://a.example"},
        {"host": "a.example", "sec_fetch_site": "cross-site"},
        {"host": "a.example", "origin": "https://a.example", "sec_fetch_site": "cross-site"},
        {"host": "a.example", "origin": "https://sub.a.example", "sec_fetch_site": "same-site"},
        {"host": "a.example", "origin": "null", "sec_fetch_site": "cross-site"},
        {"origin": "https://a.example"},
    ],
)
def test_pages_of_other_sites_are_refused(headers):
    with pytest.raises(CrossSite, match="AIDERM_CORS_ORIGINS"):
        check_site(scope(**headers), (PARTNER,))


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/lesion", "/compare", "/predict?explain=true"])
def test_a_foreign_page_gets_403_before_its_image_is_read(client, forms, path):
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = client.post(path, files={"file": forms.png_of(9), "files": forms.png_of(9)}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
        assert client.get("/health", headers=headers).status_code == 200


def test_a_named_site_may_predict(serve, forms):
    client = serve(cors_origins=(PARTNER,)).client
    picture = {"file": forms.png_of(230)}
    headers = {"Origin": PARTNER, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/predict", files=picture, headers=headers).status_code == 200
    assert client.post("/predict", files=picture, headers=headers | {"Origin": "https://b.example"}).status_code == 403
