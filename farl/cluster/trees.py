"""File trees as bytes: what is sent between machines that share no files, and how it is put down without harm.

A tree is an uncompressed tar archive of regular files. Whoever unpacks one trusts its sender with the content, never with
the place: a name that leads outside the target is refused before anything is written.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from farl.errors import UserError
from farl.files import write_bytes

Edit = Callable[[str, bytes], bytes]
"""name in the tree, content -> what is to be written in its place"""
Stamp = tuple[int, int]
"""time of the last change in nanoseconds, size in bytes: differs whenever the file does"""
APPENDED = (".jsonl", ".txt")
"""files that only grow: having more of them than the rest knows of is harmless, having less is not"""


def same(name: str, content: bytes) -> bytes:
    """The edit that changes nothing."""
    return content


def stamps(root: Path) -> dict[str, Stamp]:
    """Every file below ``root`` by its name; hidden ones are left out, which are locks and half-written files."""
    found: dict[str, Stamp] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        facts = path.stat()
        found[name.as_posix()] = (facts.st_mtime_ns, facts.st_size)
    return found


def pack(root: Path, names: Iterable[str] | None = None, edit: Edit = same) -> bytes:
    """The files of ``root`` (those in ``names``, or all) as one archive; ``root`` may be a single file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if root.is_file():
            _add(archive, root, root.name, edit)
        else:
            for name in stamps(root) if names is None else names:
                _add(archive, root / name, name, edit)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: Path, name: str, edit: Edit) -> None:
    content = edit(name, path.read_bytes())
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), path.stat().st_mtime
    archive.addfile(entry, io.BytesIO(content))


def unpack(tree: bytes, target: Path, edit: Edit = same, gone: Iterable[str] = ()) -> None:
    """Write every file of ``tree`` below ``target``, each at once or not at all, then delete those named in ``gone``.

    Growing files come first and the others in the order they were written in, so that a writer stopped half way leaves what
    the sender itself might have left. Raises UserError for a broken tree and for names outside ``target``, before writing.
    """
    files = _read(tree)
    for name in (*files, *gone):
        _inside(target, name)
    for name, (_, content) in sorted(files.items(), key=lambda item: (not item[0].endswith(APPENDED), item[1][0])):
        write_bytes(target / name, edit(name, content))
    for name in gone:
        (target / name).unlink(missing_ok=True)


def _read(tree: bytes) -> Mapping[str, tuple[float, bytes]]:
    files: dict[str, tuple[float, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tree), mode="r:") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None:
                    raise UserError(f"a file tree holds '{entry.name}', which is no regular file; nothing was written")
                files[entry.name] = float(entry.mtime), content.read()
    except tarfile.TarError as error:
        raise UserError(f"a file tree that was sent here is broken ({error}); nothing was written") from error
    return files


def _inside(target: Path, name: str) -> None:
    """Neither the name itself nor a link on its way may lead out of ``target``."""
    parts = PurePosixPath(name)
    root = target.resolve()
    if parts.is_absolute() or ".." in parts.parts or not (root / parts).parent.resolve().is_relative_to(root):
        raise UserError(f"a file tree holds '{name}', which leads outside {target}; nothing was written")
