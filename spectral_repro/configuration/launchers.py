"""What runs the jobs of a sweep."""

import sys

from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Installed(Callback):
    """Ends a sweep with an error if the package of its launcher is missing."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        if config.hydra.launcher._target_ not in Plugins.instance().class_name_to_class:
            chosen = f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}"
            print(f"{chosen}: the package is not installed; pip install 'spectral-repro[launchers]'", file=sys.stderr)
            raise SystemExit(1)  # Hydra turns the exceptions of a callback into warnings
