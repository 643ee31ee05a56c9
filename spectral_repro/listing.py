"""What of a folder counts."""

from operator import attrgetter
from pathlib import Path

LEFT_BY_SYSTEMS = frozenset(  # of Windows, macOS, Linux and network drives, in small letters; hidden ones need no mention
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir"}
)


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what is hidden (``.DS_Store``, ``._x``) and what operating systems leave there.

    Raises:
        OSError: for a folder that cannot be read.
    """
    return sorted(filter(is_visible, folder.iterdir()), key=attrgetter("name"))


def is_visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in LEFT_BY_SYSTEMS
