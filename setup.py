"""How an installed package has one import name: the project's folders become subpackages of
`messageu`.

In a checkout `client`, `common`, `gateway` and `storage_worker` are packages of their own. In the
wheel they lie inside `messageu`, and every import of one of them is written anew to say so; nothing
else of a module changes. An editable install is a checkout: there the folders stay what they are.

Everything that needs no computing is in pyproject.toml.
"""

import ast
import sys
from pathlib import Path
from typing import Final

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

NAME: Final = "messageu"
FOLDERS: Final = ("client", "common", "gateway", "storage_worker")
PROGRAMS: Final = {
    "messageu": "client.__main__:main",
    "messageu-admin": "storage_worker.admin:main",
    "messageu-gateway": "gateway.__main__:main",
    "messageu-storage-worker": "storage_worker.__main__:main",
}


class ImportUnknown(Exception):
    """An import of a form that can't be written anew, such as `import client` without a
    name for it.
    """


def moved(module: str) -> str:
    """Give the name of a module in the wheel."""
    return f"{NAME}.{module}" if module.partition(".")[0] in FOLDERS else module


def rewritten(source: str) -> str:
    """Give a module's source with its imports as they are in the wheel. Raises `ImportUnknown`."""
    lines = source.encode().splitlines(keepends=True)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    # The last one first: columns before it stay right.
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        if isinstance(node, ast.ImportFrom):
            if node.level or not node.module or moved(node.module) == node.module:
                continue
            old, new = f"from {node.module} import", f"from {moved(node.module)} import"
        else:
            name, *others = node.names
            if all(moved(one.name) == one.name for one in node.names):
                continue
            if others or name.asname is None:
                raise ImportUnknown(f"line {node.lineno}: {ast.unparse(node)}")
            old, new = f"import {name.name} as", f"import {moved(name.name)} as"
        line, at = lines[node.lineno - 1], node.col_offset
        if not line.startswith(old.encode(), at):
            raise ImportUnknown(f"line {node.lineno}: {ast.unparse(node)}")
        lines[node.lineno - 1] = line[:at] + new.encode() + line[at + len(old.encode()) :]
    return b"".join(lines).decode()


class BuildInside(build_py):
    """Copies the modules into `messageu`, with their imports written anew."""

    def build_module(
        self, module: str, module_file: str, package: str | list[str] | tuple[str, ...]
    ) -> tuple[str, bool]:
        """Copy one module; gives what the original gives."""
        done: tuple[str, bool] = super().build_module(module, module_file, package)  # type: ignore[no-untyped-call]
        parts = package.split(".") if isinstance(package, str) else list(package)
        target = Path(self.get_module_outfile(self.build_lib, parts, module))  # type: ignore[no-untyped-call]
        target.write_text(rewritten(Path(module_file).read_text(encoding="utf-8")), encoding="utf-8")
        return done


def main() -> None:
    """Called by the build backend."""
    is_editable = "editable_wheel" in sys.argv
    packages = find_packages(include=[pattern for name in FOLDERS for pattern in (name, f"{name}.*")])
    setup(
        packages=[NAME, *(packages if is_editable else map(moved, packages))],
        package_dir={} if is_editable else {moved(name): name.replace(".", "/") for name in packages},
        package_data={NAME: ["py.typed"]},
        entry_points={
            "console_scripts": [
                f"{name} = {target if is_editable else moved(target)}" for name, target in PROGRAMS.items()
            ]
        },
        cmdclass={} if is_editable else {"build_py": BuildInside},
    )


if __name__ == "__main__":
    main()
