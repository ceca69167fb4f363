from __future__ import annotations

from collections.abc import Iterator
import signal

import pytest

from cbal_optuna.interruption import Interrupted
from cbal_optuna.interruption import Interruption
from cbal_optuna.interruption import silent_end


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of a process in the foreground, however the tests were started; puts them back."""
    before = [signal.getsignal(number) for number in SIGNALS]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in zip(SIGNALS, before):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_at_once_unless_deferred(number: signal.Signals) -> None:
    Interruption()
    with pytest.raises(Interrupted, match=number.name) as caught:
        signal.raise_signal(number)
    assert caught.value.number == number


@pytest.mark.parametrize("number", SIGNALS)
def test_a_deferred_signal_raises_where_it_is_checked_for(number: signal.Signals) -> None:
    interruption = Interruption()
    interruption.defer()
    interruption.check()
    signal.raise_signal(number)
    with pytest.raises(Interrupted, match=number.name):
        interruption.check()


def test_a_second_signal_raises_at_once() -> None:
    interruption = Interruption()
    interruption.defer()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)


def test_a_process_started_to_ignore_ctrl_c_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Interruption()
    signal.raise_signal(signal.SIGINT)


def test_while_modules_are_loaded_the_system_ends_the_process() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with silent_end():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_handles_ctrl_c_goes_on_handling_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with silent_end():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
