"""What Hydra would let pass in a sweep."""

import sys

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class NotEmpty(Callback):
    """Ends a sweep with an error where a key has no values, such as glob(...) that matches nothing: it would run no job."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        texts = [f"{key}={values}" for key, values in (config.hydra.sweeper.params or {}).items()]
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides([*texts, *config.hydra.overrides.task])
        for key, override in {override.key_or_group: override for override in overrides}.items():
            if override.is_sweep_override() and next(override.sweep_string_iterator(), None) is None:
                print(f"{override.input_line}: no {key} matches, so there is nothing to run", file=sys.stderr)
                raise SystemExit(1)  # Hydra turns the exceptions of a callback into warnings
