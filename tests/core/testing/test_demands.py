"""The demands of ``check_backend`` and their stage: they tell right from wrong, and say what is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import check_backend
from ae_core.testing._conformance import cases_limits
from ae_core.testing._conformance.check import ConformanceError
from ae_core.testing._conformance.scene import (
    BLOCKING,
    HOSTED,
    Case,
    CaseFailed,
    CaseSkipped,
    Scene,
    expect,
    expect_raises,
    run_case,
)

left: list[ae.Watcher] = []


async def false(scene: Scene) -> None:
    expect(1 > 2, "one is more than two")


async def raises_nothing(scene: Scene) -> None:
    with expect_raises(OSError):
        await scene.pause(0)


async def raises_something_else(scene: Scene) -> None:
    with expect_raises(OSError):
        raise KeyError("x")


async def waits_by_itself(scene: Scene) -> None:
    await asyncio.sleep(0)


async def leaves_a_watcher(scene: Scene) -> None:
    left.append(ae.timer(60, left.clear))


async def has_an_error_in_a_callback(scene: Scene) -> None:
    ae.postpone(scene.trace.remove)  # type: ignore[arg-type]
    await scene.turns(1)


@pytest.mark.parametrize(
    ("demand", "kind", "text"),
    [
        (false, CaseFailed, "^one is more than two$"),
        (raises_nothing, CaseFailed, "^expected OSError, nothing was raised$"),
        (raises_something_else, KeyError, "x"),
        (waits_by_itself, CaseFailed, "^the case waited by itself, not by the scene$"),
        (leaves_a_watcher, CaseFailed, "^watchers are left: timer "),
        (has_an_error_in_a_callback, CaseFailed, r"^errors in callbacks: \['TypeError: "),
    ],
)
def test_a_demand_that_is_not_met_says_what_is_wrong(
    demand: Callable[[Scene], Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        run_case(Case("test", demand, None, ()), BLOCKING, 1.0)
    while left:
        left.pop().cancel()


def test_a_hosted_demand_needs_a_host() -> None:
    with pytest.raises(CaseSkipped, match="no loop to be hosted by"):
        run_case(Case("test", false, None, ()), HOSTED, 1.0)


@pytest.mark.skipif(os.name != "posix", reason="sockets are no files there")
def test_a_number_can_be_opened_again_wherever_it_is() -> None:
    async def demand(scene: Scene) -> None:
        for number in (os.dup(0), 777):
            if number != 777:
                os.close(number)  # the next free one
            peer, fd = scene.reopen(number)
            assert fd == number
            peer.send(b"x")
            assert os.read(fd, 10) == b"x"

    run_case(Case("test", demand, None, ()), BLOCKING, 1.0)


@pytest.mark.parametrize("strict", ["", "1"])
def test_strict_mode_is_off_for_what_it_refuses_and_on_again_afterwards(
    strict: str, script: Callable[..., str]
) -> None:
    """Also where the first loop of the process is that of the demand."""
    output = script(
        """
        from ae_core import strict
        from ae_core.testing import check_backend
        print(check_backend("loop", only="refusal: what is not open"))
        print(strict.enabled())
        """,
        AE_STRICT=strict,
    )
    assert output == f"backend 'loop': 2 ok, 0 failed, 0 skipped\n{bool(strict)}\n"


@pytest.mark.parametrize("strict", ["", "1"])
def test_strict_mode_of_the_environment_does_not_begin_in_a_demand_that_it_refuses(
    strict: str, script: Callable[..., str]
) -> None:
    """The first loop of a process switches it on, and that may be the one of the demand's host."""
    output = script(
        """
        import asyncio
        from ae_core import strict
        from ae_core.testing._conformance.check import CASES
        from ae_core.testing._conformance.scene import HOSTED, run_case

        (demand,) = (each for each in CASES if "refusal: what is not open" in repr(each))
        run_case(demand, HOSTED, 10.0, asyncio.run)
        print(strict.enabled())
        """,
        AE_STRICT=strict,
    )
    assert output == f"{bool(strict)}\n"


def test_an_inner_limit_that_strikes_before_its_time_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ae.timeout

    def too_early(seconds: float) -> object:
        return real(cases_limits.SOON / 2 if seconds == cases_limits.LATE else seconds)

    monkeypatch.setattr(cases_limits, "timeout", too_early)
    with pytest.raises(ConformanceError, match=r"expected \['outer'\], got \['inner', 'outer'\]"):
        check_backend("loop", only="limit: the outer of two limits")
