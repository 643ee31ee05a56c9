"""Makes Hydra read the folders of options with `FolderSource` instead of its own file reader."""

import pickle
from pathlib import Path
from typing import ClassVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spectral_repro.configuration.folders import CONF, NOT_CHOSEN, files, folders, read_yaml
from spectral_repro.configuration.tables import experiment, row_names
from spectral_repro.configuration.targets import check_file
from spectral_repro.errors import UserError, first_line

EXPERIMENT = "experiment"


class FolderSource(ConfigSource):
    """A folder of options, and the rows of its tables as options of the group experiment.

    Options in subfolders of a group are listed as options of the group: in help, errors, glob(...) and shell completion. A file
    is read once in a process. A file that names code that is not allowed is an error.
    """

    _read: ClassVar[dict[tuple[str, str], bytes]] = {}  # pickled, the fastest way to copy them

    @staticmethod
    def scheme() -> str:
        return "options"

    @property
    def folder(self) -> Path:
        return Path(self.path)

    def available(self) -> bool:
        return self.folder.is_dir()

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removesuffix(".yaml")
        if (self.path, name) not in self._read:
            self._read[self.path, name] = pickle.dumps(self._load(name))
        copied: ConfigResult = pickle.loads(self._read[self.path, name])
        return copied

    def _load(self, name: str) -> ConfigResult:
        group, _, row = name.partition("/")
        path = self.folder / f"{name}.yaml"
        described = experiment(row, self.folder) if group == EXPERIMENT else None
        if described is None and not path.is_file():
            raise ConfigLoadError(f"{path}: no such file")
        place = f"{self.path}: {name}" if described else str(path)
        content = described.config(place) if described else read_yaml(path) or {}
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise UserError(f"{path}: must be keys with values, each key a string")
        if path.stem in (content.get("defaults") or ()):
            raise UserError(f"{path}: lists itself under defaults")
        check_file(content, place)
        package = "_global_" if described else _package(path)
        try:
            config = OmegaConf.create(content)
        except OmegaConfBaseException as error:
            raise UserError(": ".join(filter(None, (place, error.full_key, first_line(error))))) from error
        return ConfigResult(self.provider, self.full_path(), config, {"package": package})

    def is_group(self, config_path: str) -> bool:
        group, _, paper = config_path.partition("/")
        tables = self.folder / "table" / paper
        return (self.folder / config_path).is_dir() or (group == EXPERIMENT and tables.is_dir())

    def is_config(self, config_path: str) -> bool:
        name = config_path.removesuffix(".yaml")
        group, _, row = name.partition("/")
        return (self.folder / f"{name}.yaml").is_file() or (group == EXPERIMENT and experiment(row, self.folder) is not None)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        groups, options = [], files(self.folder, config_path)
        if config_path == "":
            options = [option for option in options if "/" not in option]
            groups = sorted({path.name for path in self.folder.glob("*/")} - {*NOT_CHOSEN} | {EXPERIMENT})
        elif config_path == EXPERIMENT:
            options = sorted({*options, *row_names(self.folder)})
        if results_filter is None:
            return [*groups, *options]
        return groups if results_filter is ObjectType.GROUP else options


def _package(path: Path) -> str | None:
    """The package in the first line of a file: # @package _global_"""
    first, *_ = path.read_text(encoding="utf-8").splitlines() or [""]
    return first.removeprefix("# @package ").strip() if first.startswith("# @package ") else None


class FolderSearchPath(SearchPathPlugin):
    """Makes Hydra read conf/ and the user's folders through `FolderSource`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for element in list(search_path.get_path()):
            if element.path in (str(CONF), f"file://{CONF}"):
                element.path = f"{FolderSource.scheme()}://{CONF}"
                for folder in folders()[1:]:
                    search_path.append("own", f"{FolderSource.scheme()}://{folder}")


for plugin in (FolderSource, FolderSearchPath):
    Plugins.instance().register(plugin)
