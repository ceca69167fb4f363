from __future__ import annotations

import numpy as np
import pytest
import torch

from cbal_optuna.training import device_rows
from cbal_optuna.training.device_rows import DeviceRows


CPU = torch.device("cpu")
ITEMS = np.array([7, 0, 7, 2999])


def numbers() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3000, 2, 3), np.uint8)


@pytest.fixture(params=["in its place", "on the device"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A CPU stands in for a GPU with so much free memory."""
    free = 4 * numbers().nbytes - (request.param == "in its place")
    monkeypatch.setattr(device_rows, "_free_memory", lambda device: free)
    name: str = request.param
    return name


def test_rows_are_those_of_the_array(place: str) -> None:
    rows = DeviceRows(numbers(), CPU)(ITEMS)
    assert rows.dtype == torch.uint8
    np.testing.assert_array_equal(rows.numpy(), numbers()[ITEMS])


def test_an_array_of_a_quarter_of_the_free_memory_lives_on_the_device(place: str) -> None:
    array = numbers()
    rows = DeviceRows(array, CPU)
    array[:] = 0
    assert rows(ITEMS).any() == (place == "on the device")


@pytest.mark.parametrize(("share", "free"), [(1.0, 60), (0.25, 25)])
def test_free_memory_is_what_a_worker_may_take(
    monkeypatch: pytest.MonkeyPatch, share: float, free: int
) -> None:
    told = {"mem_get_info": (60, 100), "get_per_process_memory_fraction": share}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value, raising=False)
    assert device_rows._free_memory(torch.device("cuda")) == free


def test_rows_may_be_written_to(place: str) -> None:
    rows = DeviceRows(numbers(), CPU)
    rows(ITEMS).zero_()
    np.testing.assert_array_equal(rows(ITEMS).numpy(), numbers()[ITEMS])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("free", [0, 2**40])
def test_rows_reach_a_gpu_without_waiting_for_it(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(device_rows, "_free_memory", lambda device: free)
    rows = DeviceRows(numbers(), torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = rows(ITEMS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    np.testing.assert_array_equal(found.cpu().numpy(), numbers()[ITEMS])
