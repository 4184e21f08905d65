"""`python -m trainer.export run=DIR format=...`: a finished run as one file that other programs run."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from trainer.__main__ import fail
from trainer.exit_codes import FAULTS
from trainer.exporting.settings import ExportSettings, register_export_schema
from trainer.verb import run_verb, typed_settings

register_export_schema()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="export")
def export(composed: DictConfig) -> None:
    try:
        settings = typed_settings(composed, ExportSettings)
        target = settings.target
        from trainer.exporting.export_run import export_into  # imports torch, which --help must not wait for

        export_into(target, settings)
    except FAULTS as error:  # told here, because Hydra would tell it too
        fail(error)


def main() -> None:
    run_verb(export, "trainer.export")


if __name__ == "__main__":
    main()
