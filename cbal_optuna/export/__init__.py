"""The final model as a folder that timm loads."""

from __future__ import annotations

from cbal_optuna.export.exporting import export_model
from cbal_optuna.export.folder import check_folder


__all__ = ["check_folder", "export_model"]
