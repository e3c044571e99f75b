"""Keys, origins, quotas, settings, counters, logs, admission."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from rillvox.errors import AuthError, ConfigError
from rillvox.streaming.admission import StepMeter
from rillvox.streaming.guard import Guard, OriginError, QuotaError
from rillvox.streaming.settings import GatewaySettings, is_loopback
from rillvox.streaming.telemetry import JsonLines, Telemetry

KEY = "a-long-key"


def guard(**settings: object) -> Guard:
    return Guard(GatewaySettings(**settings))  # type: ignore[arg-type]


def test_without_keys_everybody_on_this_machine_is_welcome() -> None:
    assert guard().authenticate({}, {}, []) is None
    with pytest.raises(ConfigError, match="API key"):
        GatewaySettings(host="0.0.0.0")
    GatewaySettings(host="0.0.0.0", api_keys=(KEY,))


@pytest.mark.parametrize(
    ("headers", "query", "offered", "known"),
    [
        ({"authorization": f"Bearer {KEY}"}, {}, [], True),
        ({"authorization": f"bearer  {KEY} "}, {}, [], True),
        ({"authorization": f"Token {KEY}"}, {}, [], True),
        ({"api-key": KEY}, {}, [], True),
        ({"xi-api-key": KEY}, {}, [], True),
        ({}, {}, ["realtime", f"openai-insecure-api-key.{KEY}"], True),
        ({}, {}, [], False),
        ({"authorization": KEY}, {}, [], False),
        ({"authorization": f"Basic {KEY}"}, {}, [], False),
        ({"authorization": "Bearer "}, {}, [], False),
        ({"api-key": KEY[:-1]}, {}, [], False),
        ({"api-key": "\udce9"}, {}, [], False),
        ({}, {"api_key": KEY}, [], False),  # unless it is switched on
        ({"authorization": "Bearer wrong", "api-key": KEY}, {}, [], False),  # the first one counts
    ],
)
def test_keys(headers: dict[str, str], query: dict[str, str], offered: list[str], known: bool) -> None:
    check = guard(api_keys=("another-key", KEY))
    if known:
        name = check.authenticate(headers, query, offered)
        assert name is not None
        assert len(name) == 8
        assert name not in KEY
    else:
        with pytest.raises(AuthError) as refused:
            check.authenticate(headers, query, offered)
        assert KEY not in str(refused.value)


def test_a_key_in_the_address_needs_a_switch() -> None:
    assert guard(api_keys=(KEY,), allow_query_key=True).authenticate({}, {"api_key": KEY}, [])


@pytest.mark.parametrize(
    ("settings", "origin", "welcome"),
    [
        ({}, None, True),
        ({}, "http://localhost:3000", True),
        ({}, "http://127.0.0.1:8000", True),
        ({}, "http://[::1]:8000", True),
        ({}, "http://gateway.example", False),  # though it is the Host: the name may be rebound
        ({}, "null", False),
        ({}, "http://[broken", False),
        ({"allow_origins": ("https://a.example",)}, "https://a.example", True),
        ({"allow_origins": ("https://a.example",)}, "https://b.example", False),
        ({"allow_origins": ("*",)}, "https://b.example", True),
        ({"api_keys": (KEY,)}, "http://gateway.example", True),
        ({"api_keys": (KEY,)}, "http://other.example", False),
    ],
)
def test_origins(settings: dict[str, object], origin: str | None, welcome: bool) -> None:
    headers = {"host": "gateway.example"} | ({} if origin is None else {"origin": origin})
    if welcome:
        guard(**settings).check_origin(headers)
    else:
        with pytest.raises(OriginError):
            guard(**settings).check_origin(headers)


def test_a_key_has_so_many_sessions_and_requests() -> None:
    check = guard(api_keys=(KEY,), sessions_per_key=2, requests_per_minute=3)
    with check.session("k"), check.session("k"):
        with pytest.raises(QuotaError), check.session("k"):
            pass
        with check.session("other"), check.session(None):
            pass
    with check.session("k"):
        pass
    for now in (0.0, 1.0, 2.0):
        check.count_request("k", now)
    with pytest.raises(QuotaError) as refused:
        check.count_request("k", 10.0)
    assert refused.value.retry_after == 51
    check.count_request("other", 10.0)
    check.count_request("k", 60.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"port": 70000},
        {"default_dialect": "klingon"},
        {"api_keys": ("short",)},
        {"drain_seconds": -1.0},
    ],
)
def test_settings_name_the_field_they_refuse(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).split("_")[0].replace("api", "API")):
        GatewaySettings(**wrong)  # type: ignore[arg-type]


def test_loopback_names() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "LOCALHOST.")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "example.org", "10.0.0.1", "localhost.example.org", ""))
    )


def test_counters_are_written_as_prometheus_reads_them() -> None:
    telemetry = Telemetry()
    telemetry.add("closed_total", code="1000", side='a"b')
    telemetry.add("closed_total", 2, code="1001", side="x")
    text = telemetry.render({"active": 3.0})
    assert 'closed_total{code="1000",side="a\\"b"} 1\n' in text
    assert text.count("# TYPE closed_total counter") == 1
    assert "# TYPE active gauge\nactive 3\n" in text


def test_a_log_line_is_one_json_object() -> None:
    record = logging.makeLogRecord({"msg": "session ended", "levelname": "INFO", "dialect": "ü\n", "n": 3})
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "session ended",
        "dialect": "ü\n",
        "n": 3,
    }


def test_step_times_are_split_into_a_fixed_and_a_growing_part() -> None:
    meter = StepMeter()
    random = np.random.default_rng(0)
    for _ in range(300):
        lanes = int(random.integers(1, 9))
        meter.add(0.010 + 0.05 * lanes * 0.32, lanes * 0.32)
    fixed, rate = meter.fit()
    assert fixed == pytest.approx(0.010)
    assert rate == pytest.approx(0.05)
    # 0.7 of real time: 0.010 / 0.32 + 0.05 n
    assert meter.fits(13, 0.32)
    assert not meter.fits(14, 0.32)


def test_a_meter_without_variety_is_careful() -> None:
    meter = StepMeter()
    assert meter.fits(1000, 0.32)  # nothing is known
    for _ in range(10):
        meter.add(0.05, 0.32)
    assert meter.share(2, 0.32) == pytest.approx(2 * 0.05 / 0.32)
    meter.add(0.01, 0.64)  # nonsense: more audio, less time
    assert min(meter.fit()) >= 0
