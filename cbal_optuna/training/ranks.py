"""Processes that do each training together, as ``torchrun`` starts them.

The first, rank 0, leads: it has the study, says what is trained and evaluates the model; the
others follow. What is to be done and what went wrong goes by way of the store that torchrun keeps,
as JSON, so settings arrive bit for bit. Gradients and embeddings go through a process group that
is made for one training and does not outlive it: a training that fails on one rank fails on all,
and the next one begins with a new group.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
import gc
import io
import json
import os
from threading import Event
from threading import Thread
import time
from traceback import clear_frames
from typing import Any
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from cbal_optuna.training.micro_batches import is_out_of_memory
from cbal_optuna.training.one_process import OneProcess


if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# Seconds between two looks at the store.
_PAUSE = 0.02
_WATCH = 0.5
# How long a rank whose connection broke waits for the one that broke it to say why.
_GRACE = 5.0
_END = "end"


class OtherRankError(RuntimeError):
    """A training that has ended on another rank."""


class Ranks(OneProcess):
    """The processes that train together.

    Args:
        store:
            Which they share.
        rank, size:
            The number of this process, and how many there are.
        local_rank:
            The number of this process on its machine.
        machine:
            The number of that.
    """

    def __init__(
        self, store: Store, rank: int, size: int, *, local_rank: int = 0, machine: int = 0
    ) -> None:
        self._store = store
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self._machine = machine
        self._n_works = 0
        self._n_joined = 0
        self._n_met = 0

    def prepare(self, prepare: Callable[[], None]) -> None:
        key = f"prepared/{self._machine}"
        while self.local_rank > 0 and not self._store.check([key]):
            if self._store.check(["work/1"]):
                # The end, before there was anything to do.
                return
            time.sleep(_PAUSE)
        prepare()
        self._store.set(key, "")

    def end(self) -> None:
        self._store.set(f"work/{self._n_works + 1}", json.dumps(_END))

    def follow(self, take_part: Callable[[dict[str, Any]], None]) -> None:
        """Take part in what the leader announces, until the end; what goes wrong is told to it."""
        while True:
            key = f"work/{self._n_works + 1}"
            while not self._store.check([key]):
                time.sleep(_PAUSE)
            work = json.loads(self._store.get(key))
            if work == _END:
                return
            self._n_works += 1
            try:
                take_part(work)
            except Exception as error:
                # What goes wrong from there on has been told already.
                if self._n_joined < self._n_works:
                    self._tell_end(error)

    @contextmanager
    def together(self, device: torch.device, **work: Any) -> Iterator[None]:
        self._n_met = 0
        if self.leads:
            self._n_works += 1
            self._store.set(f"work/{self._n_works}", json.dumps(work))
            # All have joined the one before, or said that they cannot, so they know it.
            self._store.delete_key(f"work/{self._n_works - 1}")
        self._join()
        with self._group(device):
            try:
                yield
            except BaseException as error:
                cause = self._cause(error)
                if cause is None:
                    self._tell_end(error)
                # Once nothing holds the group its connections close, and other ranks wait no more.
                clear_frames(error.__traceback__)
                gc.collect()
                if cause is None:
                    raise
                raise cause from error

    def meet(self) -> None:
        self._n_met += 1
        key = self._key("met", self._n_met)
        if self.leads:
            self._store.set(key, "")
        while not self._store.check([key]):
            if self._ended() is not None:
                raise OtherRankError("the leader has ended it")
            time.sleep(_PAUSE)

    def parallel(self, module: nn.Module, device: torch.device) -> nn.Module:
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def shared(self, state: dict[str, Any], device: torch.device) -> dict[str, Any]:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        contents = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).to(device)
        length = torch.tensor(len(contents), device=device)
        distributed.broadcast(length, src=0)
        if not self.leads:
            contents = torch.empty(int(length), dtype=torch.uint8, device=device)
        distributed.broadcast(contents, src=0)
        received = io.BytesIO(contents.cpu().numpy().tobytes())
        saved: dict[str, Any] = torch.load(received, map_location="cpu", weights_only=True)
        return saved

    def _join(self) -> None:
        """Wait until all can begin: a group is not formed without a rank that cannot, and torch
        would wait for it for half an hour.

        Raises:
            OtherRankError, MemoryError: As :meth:`together`.
        """
        self._n_joined = self._n_works
        self._store.set(self._key("joined", self.rank), "")
        for rank in range(self.size):
            joined, ended = self._key("joined", rank), self._key("ended", rank)
            while not (self._store.check([joined]) or self._store.check([ended])):
                time.sleep(_PAUSE)
        if (ended_there := self._ended()) is not None:
            raise _error_of(*ended_there)

    @contextmanager
    def _group(self, device: torch.device) -> Iterator[None]:
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=distributed.PrefixStore(  # type: ignore[attr-defined]
                f"group/{self._n_works}", self._store
            ),
            rank=self.rank,
            world_size=self.size,
        )
        over = Event()
        watch = Thread(target=self._abort_when_ended, args=(over,), daemon=True)
        # Gloo's operations end by themselves when a rank leaves, NCCL's do not.
        if device.type == "cuda":
            watch.start()
        try:
            yield
        finally:
            over.set()
            if watch.is_alive():
                watch.join()
            with suppress(RuntimeError):
                distributed.destroy_process_group()

    def _abort_when_ended(self, over: Event) -> None:
        store = self._store.clone()
        while not over.wait(_WATCH):
            if self._ended(store) is not None:
                group = distributed.group.WORLD
                assert group is not None
                group.abort()
                return

    def _cause(self, error: BaseException) -> Exception | None:
        """What ended the work on another rank, if that is why an operation failed here."""
        is_of_group = isinstance(error, distributed.DistError) or type(error) is RuntimeError
        if not is_of_group or is_out_of_memory(error):
            return None
        patience = time.monotonic() + _GRACE
        while (ended := self._ended()) is None and time.monotonic() < patience:
            time.sleep(_PAUSE)
        return None if ended is None else _error_of(*ended)

    def _tell_end(self, error: BaseException) -> None:
        self._store.set(self._key("ended", self.rank), _described(error))

    def _ended(self, store: Store | None = None) -> tuple[int, dict[str, Any]] | None:
        """The first rank, besides this one, on which the work has ended by an error."""
        store = store or self._store
        for rank in range(self.size):
            key = self._key("ended", rank)
            if rank != self.rank and store.check([key]):
                return rank, json.loads(store.get(key))
        return None

    def _key(self, *parts: object) -> str:
        return "/".join(map(str, ("during", self._n_works, *parts)))


def ranks_of_environment() -> OneProcess:
    """The processes that torchrun has started, if there is more than this one.

    Raises:
        ValueError: Its other variables are missing, or are no numbers.
        RuntimeError: There is no store where they say.
    """
    environment = os.environ
    if int(environment.get("WORLD_SIZE", "1")) == 1:
        return OneProcess()
    store, rank, size = next(rendezvous("env://"))
    local_rank, machine = (int(environment.get(k, "0")) for k in ("LOCAL_RANK", "GROUP_RANK"))
    return Ranks(store, rank, size, local_rank=local_rank, machine=machine)


def _described(error: BaseException) -> str:
    return json.dumps(
        {
            "error": f"{type(error).__name__}: {error}",
            "out of memory": is_out_of_memory(error),
        }
    )


def _error_of(rank: int, reason: dict[str, Any]) -> Exception:
    kind = MemoryError if reason["out of memory"] else OtherRankError
    return kind(f"on rank {rank}: {reason['error']}")
