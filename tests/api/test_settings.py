from __future__ import annotations

import pytest

from aiderm_api.settings import SettingsError, load_settings, unknown_settings
from aiderm_core.runtime.cores import usable_cores


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    import os

    for name in os.environ:
        if name.startswith("AIDERM_"):
            monkeypatch.delenv(name)


def test_defaults_are_those_of_the_contract():
    settings = load_settings()
    assert (settings.host, settings.port, settings.default_model, settings.runtime) == (
        "127.0.0.1",
        8000,
        "melanoma",
        "openvino",
    )
    assert (settings.max_upload_bytes, settings.max_pixels, settings.min_side) == (20_000_000, 50_000_000, 100)
    assert (settings.batch_max_files, settings.batch_max_bytes) == (16, 60_000_000)
    assert settings.cors_origins == ()
    assert settings.frontend_dir is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("RUNTIME", "torch"),
        ("WORKERS", "0"),
        ("PRECISION", "f16"),
        ("QUEUE_SIZE", "0"),
        ("DEADLINE_SECONDS", "-1"),
        ("DEADLINE_SECONDS", "nan"),
        ("MAX_UPLOAD_BYTES", "12"),
        ("DEFAULT_MODEL", "../etc"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.example"),
        ("CORS_ORIGINS", "https://a.example/"),
        ("CORS_ORIGINS", "null"),
        ("KEY_RATE", "0"),
        ("KEY_RATE", "inf"),
        ("KEY_BURST", "0"),
        ("DRIFT_WINDOW", "10"),
        ("FRONTEND_DIR", "/nonexistent"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_unusable_values_are_named(monkeypatch, variable, value):
    monkeypatch.setenv(f"AIDERM_{variable}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"AIDERM_{variable}" in str(caught.value)
    assert value in str(caught.value)


def test_limits_must_fit_each_other(monkeypatch):
    monkeypatch.setenv("AIDERM_BATCH_MAX_BYTES", "5000000")
    with pytest.raises(SettingsError, match="AIDERM_MAX_UPLOAD_BYTES"):
        load_settings()
    monkeypatch.setenv("AIDERM_MAX_UPLOAD_BYTES", "5000000")
    monkeypatch.setenv("AIDERM_MAX_INFLIGHT_BYTES", "4000000")
    with pytest.raises(SettingsError, match="AIDERM_MAX_INFLIGHT_BYTES"):
        load_settings()


def test_lists_and_case(monkeypatch):
    monkeypatch.setenv("AIDERM_CORS_ORIGINS", "https://A.example, http://b.example:81")
    monkeypatch.setenv("AIDERM_LOG_LEVEL", "INFO")
    monkeypatch.setenv("AIDERM_THREADS", "")
    monkeypatch.setenv("AIDERM_PRECISION", "INT8")
    settings = load_settings()
    assert settings.cors_origins == ("https://a.example", "http://b.example:81")
    assert settings.log_level == "info"
    assert settings.threads is None
    assert settings.precision == "int8"


def test_a_picture_at_work_for_each_core(monkeypatch):
    assert load_settings().worker_count == usable_cores() + 1
    monkeypatch.setenv("AIDERM_THREADS", "3")
    assert load_settings().worker_count == 4
    monkeypatch.setenv("AIDERM_WORKERS", "5")
    assert load_settings().worker_count == 5


def test_a_misspelt_variable_is_told(monkeypatch):
    """If it were silently ignored, the service might run without protection."""
    monkeypatch.setenv("AIDERM_API_KEYS_FILE", "keys.json")
    monkeypatch.setenv("AIDERM_PORT", "8000")
    assert unknown_settings() == ["AIDERM_API_KEYS_FILE is no setting of the API; did you mean AIDERM_KEYS_FILE?"]


def test_hosts_are_names_or_addresses(monkeypatch):
    monkeypatch.setenv("AIDERM_HOSTS", "Clinic.example, 192.0.2.1,[2001:db8::1]")
    monkeypatch.setenv("AIDERM_HOST", "0.0.0.0")
    own = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
    assert load_settings().allowed_hosts == own | {"clinic.example", "192.0.2.1", "2001:db8::1"}
    monkeypatch.setenv("AIDERM_HOSTS", "*")
    assert "*" in load_settings().allowed_hosts
    monkeypatch.delenv("AIDERM_HOSTS")
    assert load_settings().allowed_hosts == own
    for wrong in ("http://a.example", "a.example:80", "a*.example", "*.", "a b", "a..b"):
        monkeypatch.setenv("AIDERM_HOSTS", wrong)
        with pytest.raises(SettingsError, match="AIDERM_HOSTS"):
            load_settings()


def test_memory_for_decoding_is_bounded_by_default(monkeypatch):
    assert 0 < load_settings().decoded_bytes <= 500_000_000
    monkeypatch.setenv("AIDERM_MAX_DECODED_BYTES", "700000000")
    assert load_settings().decoded_bytes == 700_000_000
