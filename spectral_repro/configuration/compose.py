"""Reads the configuration of the commands."""

import copy
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from spectral_repro.configuration import sources  # noqa: F401 (registers how Hydra reads folders)
from spectral_repro.configuration.folders import CONF, OWN_FOLDERS, check_names, is_group, read_yaml
from spectral_repro.configuration.groups import PATHS, is_several, options, quoted, spelled_for_hydra
from spectral_repro.errors import UserError, first_line

WITHOUT_HYDRA = [
    f"hydra/{group}=[]"
    for group in ("env", "help", "hydra_help", "hydra_logging", "job_logging", "launcher", "output", "sweeper")
]
OWN_FOLDER = ("--config-dir", "-cd")
FOLDERS_OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir")
REPLACING = ("--config-path", "-cp")

# The one thing used of Hydra beyond its documented interface: ConfigStore can add an option, but not remove one. A launcher's
# plugin registers its own under the name of the file in conf/, and Hydra would merge the two.
for launcher in options("hydra/launcher"):
    ConfigStore.instance().repo["hydra"]["launcher"].pop(f"{launcher}.yaml", None)


def command(config_name: str, texts: Sequence[str] = ()) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Turns a function of the configuration into a command with Hydra's command line and helpful errors.

    Args:
        config_name: a file of conf/.
        texts: keys whose values are used literally, without Hydra's grammar.
    """

    def decorate(job: Callable[[DictConfig], object]) -> Callable[[], None]:
        run = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(_with_plain_errors(job))

        @functools.wraps(job)
        def main() -> None:
            replace_unprintable()
            try:
                sys.argv[1:] = [_with_quotes(argument, texts) for argument in sys.argv[1:]]
                with _arguments_read():
                    run()
            except UserError as error:
                print(error, file=sys.stderr)
                sys.exit(1)
            except KeyboardInterrupt:
                sys.exit(130)
            except SystemExit as leaving:
                _print_allowed(leaving.__context__, _groups(config_name))
                raise

        return main

    return decorate


def _with_plain_errors(job: Callable[[DictConfig], object]) -> Callable[[DictConfig], object]:
    """The function with one line for a value that stands for another one which is not there."""

    @functools.wraps(job)
    def run(config: DictConfig) -> object:
        try:
            return job(config)
        except OmegaConfBaseException as error:
            named = filter(None, (error.full_key, first_line(error)))
            raise UserError(": ".join(named)) from None  # Hydra prints the cause as well

    return run


@contextmanager
def _arguments_read() -> Iterator[None]:
    """Puts the folders of --config-dir into the environment, for other processes too; writes null as Hydra does.

    Raises:
        UserError: a folder does not exist or cannot be made, or an argument would replace conf/.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current folder: {error.strerror}; change to another") from error
    arguments, own = _without_own_folders(sys.argv[1:])
    for folder in own:
        if not os.path.isdir(os.path.expanduser(folder)):
            raise UserError(f"--config-dir {folder}: no such folder")
    if replaced := [each for each in arguments if each.partition("=")[0] in (*REPLACING, "hydra.searchpath")]:
        raise UserError(f"{replaced[0].partition('=')[0]}: name a folder of your own with --config-dir FOLDER")
    for key, _, value in (each.partition("=") for each in arguments):
        if key in PATHS and is_several(value) and not {"-m", "--multirun"} & {*arguments}:
            raise UserError(
                f"{key}={value}: a comma separates paths, for which -m is missing; one path is written \"{key}='{value}'\""
            )
        if key in FOLDERS_OF_HYDRA and "${" not in value:
            _make_folder(key, value.strip("'\""))
    several = [each for each in arguments if each in ("-m", "--multirun")]  # Hydra accepts them before the overrides only
    sys.argv[1:] = several[:1] + spelled_for_hydra([each for each in arguments if each not in several])
    before = os.environ.get(OWN_FOLDERS, "")
    _, completed = _without_own_folders(os.environ.get("COMP_LINE", "").split())  # the line on which TAB was pressed
    absolute = [os.path.abspath(Path(folder).expanduser()) for folder in (*own, *completed)]
    os.environ[OWN_FOLDERS] = os.pathsep.join(filter(None, [*absolute, before]))
    try:
        check_names()
        yield
    finally:
        os.environ[OWN_FOLDERS] = before


def _make_folder(key: str, folder: str) -> None:
    """Makes a folder of Hydra's, which answers one that cannot be made with a traceback."""
    try:
        os.makedirs(folder, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={folder}: cannot be made ({getattr(error, 'strerror', error)})") from error


def _without_own_folders(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The other arguments, and the folders that --config-dir names."""
    others, own, words = [], [], iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in OWN_FOLDER:
            own += [value] if equals else [*filter(None, [next(words, None)])]
        else:
            others.append(word)
    return others, own


def _with_quotes(argument: str, texts: Sequence[str]) -> str:
    """key='value' for key=value where the value is a text."""
    key, equals, value = argument.partition("=")
    if not equals or key not in texts or value[:1] in ("'", '"'):
        return argument
    return f"{key}={quoted(value)}"


def replace_unprintable() -> None:
    """Prints ``?`` for characters that the output's encoding lacks, and discards output if it is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _groups(config_name: str) -> list[str]:
    """The groups of options of a command."""
    defaults = read_yaml(CONF / f"{config_name}.yaml").get("defaults", [])
    return [group for each in defaults if isinstance(each, dict) for group in each if is_group(group)]


def _print_allowed(error: BaseException | None, groups: Sequence[str]) -> None:
    """Prints the allowed keys after Hydra's error for an unknown key, or the options of a group of which none is chosen."""
    cause = getattr(error, "__cause__", None)
    if not isinstance(cause, OmegaConfBaseException) or not isinstance(cause.parent_node, DictConfig):
        return
    if cause.key in groups:
        print(f"{cause.key} has no keys before {cause.key}={'|'.join(options(cause.key))} is chosen", file=sys.stderr)
        return
    allowed = [str(key) for key in cause.parent_node if not str(key).startswith("_")]
    if cause.full_key == cause.key:
        allowed = sorted({*allowed, *groups})
    print(f"Allowed here: {', '.join(allowed) or 'no keys'}", file=sys.stderr)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run for overrides of train's command line, without Hydra's own part.

    If no override is for Hydra, that part is not composed, because it would take as long as the rest.
    """
    if not any(override.lstrip("+~").startswith("hydra") for override in overrides):
        overrides = [*overrides, *WITHOUT_HYDRA]
    within = GlobalHydra.instance()  # of the command that calls this
    GlobalHydra.set_instance(copy.copy(within))
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("train", overrides=spelled_for_hydra(overrides))
    finally:
        GlobalHydra.set_instance(within)
