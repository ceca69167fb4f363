"""A storage that another process serves: many workers then need no more of the database's
connections than one."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import GrpcStorageProxy
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.stored_trials import note_silence


if TYPE_CHECKING:
    import grpc

# The system attribute of a trial that changes as long as its worker is alive.
_SIGN = "cbal:alive"


class StorageProxy(GrpcStorageProxy, BaseHeartbeat):
    """Optuna's client of such a storage, with heartbeats, which Optuna's server does not hand on.

    A sign of life is a system attribute of the trial that is written anew. Who looks for dead
    workers compares it with what it was, by its own clock; no two clocks have to agree.

    Args:
        host, port:
            Of ``python -m cbal_optuna serve-storage``.
        heartbeat_seconds, grace_seconds:
            Between two signs of life, and without one until a worker is held to be dead.
        on_stale:
            Called with the trial of such a worker, which has been failed.

    Attributes:
        url:
            By which :func:`~cbal_optuna.storage.open_storage` opens it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        heartbeat_seconds: int,
        grace_seconds: int,
        on_stale: Callable[[Study, FrozenTrial], None],
    ) -> None:
        self.url = f"grpc://{host}:{port}"
        self._heartbeat_seconds = heartbeat_seconds
        self._grace_seconds = grace_seconds
        self._on_stale = on_stale
        # By study and trial: the last sign of life, and when it was first seen.
        self._seen: dict[int, dict[int, tuple[Any, float]]] = {}
        super().__init__(host=host, port=port)

    def _setup(self) -> None:
        # Imported here, as only those who use a proxy have it.
        import grpc
        from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
        from optuna.storages._grpc.client import GrpcClientCache

        super()._setup()
        self._stub = StorageServiceStub(grpc.intercept_channel(self._channel, _outages(self.url)))
        self._cache = GrpcClientCache(self._stub)

    def record_heartbeat(self, trial_id: int) -> None:
        try:
            self.set_trial_system_attr(trial_id, _SIGN, time.time())
        except UpdateFinishedTrialError:
            # It has ended by now.
            return

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        now, before = time.monotonic(), self._seen.get(study_id, {})
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        seen = self._seen[study_id] = {}
        for trial in running:
            sign = trial.system_attrs.get(_SIGN)
            earlier, since = before.get(trial._trial_id, (sign, now))
            seen[trial._trial_id] = (sign, since if sign == earlier else now)
        stale = [i for i, (_, since) in seen.items() if now - since > self._grace_seconds]
        note_silence(self, stale, self._grace_seconds)
        return stale

    def get_heartbeat_interval(self) -> int:
        return self._heartbeat_seconds

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Study, FrozenTrial], None]:
        return self._on_stale

    # Its name before Optuna 4.9.
    get_failed_trial_callback = get_heartbeat_stale_trial_callback


def _outages(url: str) -> grpc.UnaryUnaryClientInterceptor:
    """Makes of a server that is gone what other storages raise then."""
    import grpc

    class Outages(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            call = continuation(details, request)
            if call.code() == grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(f"`storage` {url} does not answer: {call.details()}")
            return call

    return Outages()
