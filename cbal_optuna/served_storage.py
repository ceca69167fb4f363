"""A database as it is served to many workers, which may have been there before the server."""

from __future__ import annotations

from datetime import datetime

from optuna.distributions import BaseDistribution
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._grpc.server import make_server
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from cbal_optuna.patient_storage import PatientStorage


# What is being done when a server is asked to end has so long.
_GRACE_SECONDS = 10.0


class ServedStorage(_CachedStorage):
    """Optuna's cache, but for what workers go on with when a server is started anew."""

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None and template_trial.state == TrialState.RUNNING:
            # By the clock by which it will end.
            template_trial.datetime_start = datetime.now()
        return super().create_new_trial(study_id, template_trial)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        if trial_id in self._trial_id_to_study_id_and_number:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        else:
            # It was made before this server was started, and the cache would not look for it.
            self._backend.set_trial_param(trial_id, param_name, param_value_internal, distribution)


def serve(storage: PatientStorage, host: str, port: int) -> None:
    """Serve a database until an exception, as that of a signal, ends it; what is being done is
    done to its end."""
    server = make_server(ServedStorage(storage), host, port)
    server.start()
    try:
        server.wait_for_termination()
    finally:
        server.stop(_GRACE_SECONDS).wait()
