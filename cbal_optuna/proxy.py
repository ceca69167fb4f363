"""A storage that another process serves: many workers then need no more of the database's
connections than one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import copy
from functools import partial
from functools import wraps
import time
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeVar
from uuid import uuid4

from optuna.exceptions import StorageInternalError
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages import GrpcStorageProxy
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import Study
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.passwords import without_passwords
from cbal_optuna.patience import Patience
from cbal_optuna.patience import ServerAwayError
from cbal_optuna.patience import StorageUnavailableError
from cbal_optuna.stored_trials import note_silence


if TYPE_CHECKING:
    import grpc

# System attributes of a trial: one that changes as long as its worker is alive, and one that says
# by which call it was made.
_SIGN, _CALL = "cbal:alive", "cbal:made by"
# No longer than that between two attempts to reach a server that was away.
_RECONNECT_MILLISECONDS = 1000
# By then a server answers whose own database is not away.
_PROMPT_SECONDS = 20

Result = TypeVar("Result")


class StorageProxy(GrpcStorageProxy, BaseHeartbeat):
    """Optuna's client of such a storage, which waits for its server, with heartbeats, which
    Optuna's server does not hand on.

    A sign of life is a system attribute of the trial that is written anew. Who looks for dead
    workers compares it with what it was, by its own clock; no two clocks have to agree.

    A server that goes away may or may not have done what it was asked for last. Most of it may be
    done twice; for a new trial or another state, signs that are left in the trial tell.

    Args:
        host, port:
            Of ``python -m cbal_optuna serve-storage``.
        while_waiting:
            Called every second while the server is away; what it raises ends the waiting.
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
        while_waiting: Callable[[], None],
        heartbeat_seconds: int,
        grace_seconds: int,
        on_stale: Callable[[Study, FrozenTrial], None],
    ) -> None:
        self.url = f"grpc://{host}:{port}"
        self._patience = Patience(self.url, while_waiting)
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

        self._channel = grpc.insecure_channel(
            f"{self._host}:{self._port}",
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MILLISECONDS),
                ("grpc.max_reconnect_backoff_ms", _RECONNECT_MILLISECONDS),
            ],
        )
        outages = _outages(self.url, self._patience)
        self._stub = StorageServiceStub(grpc.intercept_channel(self._channel, outages))
        self._cache = GrpcClientCache(self._stub)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        call = uuid4().hex
        trial = copy.copy(template_trial or create_trial(state=TrialState.RUNNING))
        trial.system_attrs = {**trial.system_attrs, _CALL: call}
        create = partial(GrpcStorageProxy.create_new_trial, self, study_id, trial)

        def create_unless_made() -> int:
            trials = GrpcStorageProxy.get_all_trials(self, study_id, deepcopy=False)
            made = [t._trial_id for t in trials if t.system_attrs.get(_CALL) == call]
            return made[0] if made else create()

        return self._patience.until_it_answers(create, create_unless_made)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        sign = uuid4().hex
        # A trial's own worker alone completes or prunes it.
        is_for_one = state in (TrialState.COMPLETE, TrialState.PRUNED)
        if not is_for_one:
            self.set_trial_system_attr(trial_id, _SIGN, sign)
        change = partial(GrpcStorageProxy.set_trial_state_values, self, trial_id, state, values)

        def change_unless_changed() -> bool:
            trial = GrpcStorageProxy.get_trial(self, trial_id)
            is_own = is_for_one or trial.system_attrs.get(_SIGN) == sign
            if trial.state == state and is_own:
                return True
            # It was put back, and another has taken it since.
            if state == TrialState.WAITING and not is_own:
                return True
            return change()

        return self._patience.until_it_answers(change, change_unless_changed)

    def record_heartbeat(self, trial_id: int) -> None:
        """Or not, if it cannot be done at once: the next one is soon."""
        try:
            GrpcStorageProxy.set_trial_system_attr(self, trial_id, _SIGN, time.time())
        except UpdateFinishedTrialError:
            # It has ended by now.
            return
        except StorageInternalError:
            self._patience.note_outage()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Those that are to be given up, which are told why. While the server was away nobody
        could give a sign of life; then all have time to."""
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        now, before = time.monotonic(), self._seen.get(study_id, {})
        seen = self._seen[study_id] = {}
        for trial in running:
            sign = trial.system_attrs.get(_SIGN)
            earlier, since = before.get(trial._trial_id, (sign, now))
            seen[trial._trial_id] = (sign, since if sign == earlier else now)
        if self._patience.was_away_within(2 * self._heartbeat_seconds):
            return []
        stale = [i for i, (_, since) in seen.items() if now - since > self._grace_seconds]
        note_silence(self, stale, self._grace_seconds)
        return stale

    def get_heartbeat_interval(self) -> int:
        return self._heartbeat_seconds

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Study, FrozenTrial], None]:
        return self._on_stale

    # Its name before Optuna 4.9.
    get_failed_trial_callback = get_heartbeat_stale_trial_callback


def _outages(url: str, patience: Patience) -> grpc.UnaryUnaryClientInterceptor:
    """Makes of a server that is gone, or cannot do what it was asked for, what other storages
    raise then."""
    import grpc

    away = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    # Of these Optuna's client makes what Optuna raises.
    meant = (
        grpc.StatusCode.OK,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    )

    class Outages(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            begin = time.monotonic()
            call = continuation(details, request)
            if time.monotonic() - begin > _PROMPT_SECONDS:
                patience.note_outage()
            if call.code() in meant:
                return call
            reason = " ".join(without_passwords(str(call.details())).split())
            if call.code() in away:
                raise ServerAwayError(reason)
            raise StorageUnavailableError(f"`storage` {url} cannot be used: {reason}")

    return Outages()


def _patient(method: Callable[..., Result]) -> Callable[..., Result]:
    @wraps(method)
    def patient(storage: StorageProxy, *arguments: Any, **named: Any) -> Result:
        return storage._patience.until_it_answers(lambda: method(storage, *arguments, **named))

    return patient


for _name, _method in vars(GrpcStorageProxy).items():
    _is_asked = _name in vars(BaseStorage) and not _name.startswith("_")
    if _is_asked and _name not in vars(StorageProxy):
        setattr(StorageProxy, _name, _patient(_method))
