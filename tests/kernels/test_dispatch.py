from __future__ import annotations

import logging

import pytest
import torch

from rillvox.errors import ConfigError
from rillvox.kernels import dispatch
from rillvox.kernels.dispatch import Operation, references_only

CPU = torch.device("cpu")


def double(x: int) -> int:
    return x * 2


def double_twice_as_fast(x: int) -> int:
    return x + x


def test_the_reference_runs_where_nothing_faster_is_known() -> None:
    assert Operation("double", double).on(CPU) is double


def test_a_twin_runs_on_its_kind_of_device_only() -> None:
    operation = Operation("double", double)
    operation.add("cpu", "sum", double_twice_as_fast)
    assert operation.on(CPU) is double_twice_as_fast
    assert operation.on(torch.device("meta")) is double


def test_a_twin_that_comes_late_is_used() -> None:
    operation = Operation("double", double)
    assert operation.on(CPU) is double
    operation.add("cpu", "sum", double_twice_as_fast)
    assert operation.on(CPU) is double_twice_as_fast


def test_references_only_holds_inside_its_block() -> None:
    operation = Operation("double", double)
    operation.add("cpu", "sum", double_twice_as_fast)
    with references_only():
        assert operation.on(CPU) is double
        with references_only():
            assert operation.on(CPU) is double
        assert operation.on(CPU) is double
    assert operation.on(CPU) is double_twice_as_fast


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    operation = Operation("double", double)
    operation.add("cpu", "sum", double_twice_as_fast)
    with caplog.at_level(logging.INFO, logger="rillvox.kernels.dispatch"):
        for _ in range(3):
            operation.on(CPU)
        with references_only():
            operation.on(CPU)
    assert [record.getMessage() for record in caplog.records] == [
        "double on cpu: sum",
        "double on cpu: reference",
    ]


def test_the_environment_can_ask_for_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RILLVOX_KERNELS", "reference")
    assert dispatch.wants_references()
    monkeypatch.setenv("RILLVOX_KERNELS", "fastest")
    assert not dispatch.wants_references()
    monkeypatch.setenv("RILLVOX_KERNELS", "slowest")
    with pytest.raises(ConfigError, match="RILLVOX_KERNELS must be fastest or reference, got 'slowest'"):
        dispatch.wants_references()
