"""What it takes for a name in a folder to outlive a power cut.

Owns: the one call that a file system needs beside the syncing of a file itself.
Promises: when it returns, which names the folder holds is on disk.
Exposure: none.
"""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
