"""Lists folders without hidden files and files of the operating system."""

from operator import attrgetter
from pathlib import Path

LEFT_BY_SYSTEMS = frozenset(  # by Windows, macOS, Linux and network drives, in lower case; hidden files are not listed here
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir"}
)


def visible(folder: Path) -> list[Path]:
    """The content of a folder by name, without hidden files (``.DS_Store``, ``._x``) and files of the operating system.

    Raises:
        OSError: for a folder that cannot be read.
    """
    return sorted(filter(is_visible, folder.iterdir()), key=attrgetter("name"))


def is_visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in LEFT_BY_SYSTEMS
