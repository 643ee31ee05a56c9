"""Where conf/ is, and how the commands read it."""

import functools
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import ClassVar

import hydra
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spectral_repro.configuration.groups import CONF, options, spelled_for_hydra
from spectral_repro.configuration.sweeps import BASIC, Sweeper
from spectral_repro.configuration.targets import check_file
from spectral_repro.errors import UserError

WITHOUT_HYDRA = [
    f"~hydra/{group}"
    for group in ("env", "help", "hydra_help", "hydra_logging", "job_logging", "launcher", "output", "sweeper")
]


class CheckedFiles(FileConfigSource):
    """Files of which none names code that it must not: those of --config-dir, and of hydra.searchpath."""

    def load_config(self, config_path: str) -> ConfigResult:
        result = super().load_config(config_path)
        check_file(OmegaConf.to_container(result.config), f"{self.path}/{config_path}")
        return result


class ConfSource(CheckedFiles):
    """conf/ with the options in folders of a group listed as the group's own: in help, errors, glob(...), shell completion.

    A file is read once in a process: the rows of a paper, a hundred and more, are composed of the same ones.
    """

    _read: ClassVar[dict[str, bytes]] = {}  # pickled, the fastest way to copies

    @staticmethod
    def scheme() -> str:
        return "conf"

    def load_config(self, config_path: str) -> ConfigResult:
        if config_path not in self._read:
            self._read[config_path] = pickle.dumps(super().load_config(config_path))
        return pickle.loads(self._read[config_path])

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if not config_path:
            return super().list(config_path, results_filter)
        return [] if results_filter == ObjectType.GROUP else options(config_path)


class ConfSearchPath(SearchPathPlugin):
    """Has Hydra read conf/ through `ConfSource`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for element in search_path.get_path():
            if element.path == str(CONF):
                element.path = f"{ConfSource.scheme()}://{CONF}"


for plugin in (ConfSource, ConfSearchPath):
    Plugins.instance().register(plugin)
CheckedFiles.__name__ = FileConfigSource.__name__  # by which a launcher's process, reading the plugins anew, knows it
SourcesRegistry.instance().types[FileConfigSource.scheme()] = CheckedFiles
Plugins.instance().class_name_to_class[BASIC] = Sweeper
for launcher in options("hydra/launcher"):
    ConfigStore.instance().repo["hydra"]["launcher"].pop(f"{launcher}.yaml", None)  # of a plugin; that of conf/ is whole


def command(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Makes a function of the configuration into a command: Hydra's command line, errors with what is allowed instead."""

    def decorate(job: Callable[[DictConfig], None]) -> Callable[[], None]:
        run = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)

        @functools.wraps(job)
        def main() -> None:
            try:
                sys.argv[1:] = spelled_for_hydra(sys.argv[1:])
                run()
            except UserError as error:
                print(error, file=sys.stderr)
                sys.exit(1)
            except KeyboardInterrupt:
                sys.exit(130)
            except SystemExit as leaving:
                _print_allowed(leaving.__context__)
                raise

        return main

    return decorate


def _print_allowed(error: BaseException | None) -> None:
    """What Hydra leaves out: the keys beside an unknown one."""
    cause = getattr(error, "__cause__", None)
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        allowed = [str(key) for key in cause.parent_node if not str(key).startswith("_")]
        print(f"Allowed here: {', '.join(allowed) or 'no keys'}", file=sys.stderr)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run for these overrides, as on the command line of train, without Hydra's own part.

    Where no override is Hydra's, that part is not even composed: it would take as long as all the rest.
    """
    if not any(override.lstrip("+~").startswith("hydra") for override in overrides):
        overrides = [*overrides, *WITHOUT_HYDRA]
    state = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("train", overrides=spelled_for_hydra(overrides))
    finally:
        GlobalHydra.instance().hydra = state
