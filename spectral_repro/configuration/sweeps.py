"""Callbacks that Hydra calls around a sweep."""

import sys
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class NotEmpty(Callback):
    """Ends a sweep with an error if a key has no values, such as a glob(...) that matches nothing: no job would run."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        texts = [f"{key}={values}" for key, values in (config.hydra.sweeper.params or {}).items()]
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides([*texts, *config.hydra.overrides.task])
        for key, override in {override.key_or_group: override for override in overrides}.items():
            if override.is_sweep_override() and next(override.sweep_string_iterator(), None) is None:
                print(f"{override.input_line}: no {key} matches, so there is nothing to run", file=sys.stderr)
                raise SystemExit(1)  # Hydra turns the exceptions of a callback into warnings


class Installed(Callback):
    """Ends a sweep with an error if the package of its launcher is missing."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if config.hydra.launcher._target_ not in Plugins.instance().class_name_to_class:
            chosen = f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}"
            print(f"{chosen}: the package is not installed; pip install 'spectral-repro[launchers]'", file=sys.stderr)
            raise SystemExit(1)  # Hydra turns the exceptions of a callback into warnings
