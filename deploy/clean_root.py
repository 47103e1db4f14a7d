"""A root directory of its own for each stage of an image, built of bind mounts.

Works in a mount namespace of its own (`unshare --mount`), with which everything mounted here goes.
"""

import ctypes
import fnmatch
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.dockerfile import Stage, Step

_BASE = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr")
_DEVICES = ("null", "zero", "random", "urandom")
_ACCOUNTS = {
    "passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n",
}
_NEW_PID = 0x20000000
_NO_NEW_PRIVILEGES, _DROP_BOUNDING = 38, 24
_CAPABILITIES = 41

_libc = ctypes.CDLL(None, use_errno=True)


class Root:
    """One stage's files: a base system that cannot be written, and what its steps add."""

    def __init__(self, path: Path, base: Path) -> None:
        """`base` has a /usr, and the rest of _BASE as a distribution has them."""
        self.path = path
        for name in ("etc", "proc", "dev", "tmp", "root", "run", "var/lib"):
            (path / name).mkdir(parents=True)
        (path / "tmp").chmod(0o1777)
        for name in _BASE:
            self._adopt(base / name, path / name)
        for name, text in _ACCOUNTS.items():
            (path / "etc" / name).write_text(text)
        # Where the libraries are; the linker's own folders are in _BASE.
        shutil.copy(base / "etc/ld.so.cache", path / "etc/ld.so.cache")
        mount("proc", path / "proc", "-t", "proc")
        for name in _DEVICES:
            (path / "dev" / name).touch()
            mount(f"/dev/{name}", path / "dev" / name, "--bind")

    def run(self, words: Sequence[str], environ: Mapping[str, str], folder: str) -> None:
        """Run a step as root. Raises CalledProcessError with its output if it fails."""
        subprocess.run(
            words,
            env=dict(environ),
            preexec_fn=lambda: self._enter(folder),
            check=True,
            capture_output=True,
            text=True,
        )

    def start(
        self, words: Sequence[str], stage: Stage, environ: Mapping[str, str], output: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program as the image's user, without any privilege; `output` gets all it says."""
        user, group = map(int, stage.user.split(":"))

        def become() -> None:
            self._enter(stage.folder)
            for number in range(_CAPABILITIES):
                _libc.prctl(_DROP_BOUNDING, number, 0, 0, 0)
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)

        with output.open("ab") as file:
            return subprocess.Popen(
                words,
                env={**stage.environ, **environ},
                preexec_fn=become,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def close_to_writes(self, volumes: Sequence[str]) -> None:
        """Make all of it read-only but `volumes`, whose owner and mode stay what the steps made."""
        for volume in volumes:
            mount(str(self._inside(volume)), self._inside(volume), "--bind")
        mount(str(self.path), self.path, "--rbind")
        mount("", self.path, "-o", "remount,bind,ro,nosuid")

    def files(self, but: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the size and time of each file outside of the base and of `but`."""
        found = {}
        passed = {self.path / name for name in (*_BASE, "proc", "dev")}
        passed |= {self._inside(name) for name in but}
        for folder, names, files in os.walk(self.path):
            here = Path(folder)
            names[:] = [name for name in names if here / name not in passed]
            for name in (*files, *names):
                status = (here / name).lstat()
                found[str(here / name)] = (status.st_size, status.st_mtime_ns)
        return found

    def copy(self, step: Step, origin: Path) -> None:
        """Do a COPY: folders by what is in them, and a target that ends in / is a folder."""
        *sources, target = step.paths
        into = self._inside(os.path.join(step.folder, target))
        for source in sources:
            file = origin / source.lstrip("/")
            if file.is_dir():
                shutil.copytree(file, into, symlinks=True, dirs_exist_ok=True)
            else:
                folder = into if target.endswith("/") else into.parent
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, into / file.name if target.endswith("/") else into)

    def mkdir(self, folder: str) -> None:
        self._inside(folder).mkdir(parents=True, exist_ok=True)

    def _inside(self, path: str) -> Path:
        return self.path / path.lstrip("/")

    def _enter(self, folder: str) -> None:
        os.chroot(self.path)
        os.chdir(folder)

    @staticmethod
    def _adopt(source: Path, target: Path) -> None:
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            target.mkdir()
            mount(str(source), target, "--rbind")
            mount("", target, "-o", "remount,bind,ro")


def mount(source: str, target: Path, *options: str) -> None:
    """Mount. Raises CalledProcessError."""
    words = ["mount", *options, *([source] if source else []), str(target)]
    subprocess.run(words, check=True, capture_output=True, text=True)


def context(tree: Path, into: Path) -> None:
    """Copy what .dockerignore lets through, as an engine sends it."""
    rules = [line for line in (tree / ".dockerignore").read_text().splitlines() if line.strip()]
    rules = [rule for rule in rules if not rule.startswith("#")]
    for folder, names, files in os.walk(tree):
        here = Path(folder).relative_to(tree)
        names[:] = [name for name in names if not _ignored(here / name, rules)]
        for name in files:
            if not _ignored(here / name, rules):
                (into / here).mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / here / name, into / here / name)


def _ignored(path: Path, rules: Sequence[str]) -> bool:
    """Return whether the last rule that fits says so; a rule for a folder fits all that is in
    it."""
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        anywhere = "**/" in rule
        candidates = path.parts if anywhere else [path.parts[0]]
        if any(fnmatch.fnmatchcase(one, pattern) for one in candidates):
            ignored = not rule.startswith("!")
    return ignored


def new_processes() -> None:
    """Let the next process that is started be the first of a namespace of its own, as in a
    container: signals that it does not handle are not for it. What is started after it joins it;
    once it has ended, nothing can be started any more."""
    if _libc.unshare(_NEW_PID) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
