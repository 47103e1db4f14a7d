"""Does what deploy/Dockerfile says, without a container engine, and tries what comes out.

    sudo python3 -m deploy.image_steps

Each stage gets a clean root directory (bind mounts of this machine's /usr, or of --base), and its
RUN and COPY steps are done in it. Then the daemon runs as the image's user in the last one, which
cannot be written but for the volume, against `receiptd sandbox`: until it is ready, sends are
delivered, and it has drained after the stop signal. Needs root and util-linux; takes a minute, is
ended after three, and leaves nothing behind. Exits 0 if all was as it should be, else 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
LIMIT_S = 170
_NOT_COVERED = (
    "the base image itself: its Python and its libraries are those of this machine or of --base",
    "an engine's own reading of the Dockerfile, its layers, its cache, and the size of the image",
    "HEALTHCHECK and STOPSIGNAL as an engine acts on them; seccomp and cgroup limits",
    "other architectures; Kubernetes and Compose, whose files are only read by tests",
    "a server as the database, TLS, and the providers themselves",
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--base", type=Path, default=Path("/"), help="a root file system")
    options.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inside:
        from deploy.image_trial import trial

        return trial(TREE, given.inside, given.base)
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        print("needs root and unshare (util-linux): nothing was tried", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="receiptd-image-") as name:
        Path(name).chmod(0o755)
        try:
            fetch(Path(name), given.base)
            code = inside(Path(name), given.base)
        except subprocess.CalledProcessError as exc:
            print(exc.stderr, file=sys.stderr)
            print(f"FAILED: {json.dumps([str(word) for word in exc.cmd])}", file=sys.stderr)
            code = 1
        except subprocess.TimeoutExpired as exc:
            print(f"FAILED: not within {exc.timeout:.0f} s", file=sys.stderr)
            code = 1
    print("Not covered:", *_NOT_COVERED, sep="\n  - ")
    return code


def fetch(folder: Path, base: Path) -> None:
    """Download what pip will be asked for, with whatever index this machine has: the steps
    themselves get no network, so that nothing comes in that is not pinned."""
    python = next(p for p in ("usr/local/bin/python3", "usr/bin/python3") if (base / p).exists())
    environment, wheels = folder / "fetch", folder / "wheels"
    own = Path("/") / python if (Path("/") / python).exists() else Path(sys.executable)
    _do(own, "-m", "venv", environment)
    pip = (environment / "bin/pip", "--quiet")
    build, run = (TREE / "requirements" / f"{name}.txt" for name in ("build", "run"))
    found = ("--dest", wheels, "--no-deps", "--require-hashes")
    _do(*pip, "download", *found, "--requirement", build)
    _do(*pip, "install", "--no-index", "--find-links", wheels, "--requirement", build)
    _do(*pip, "download", *found, "--no-build-isolation", "--requirement", run)
    print(
        f"fetched {len(list(wheels.iterdir()))} distributions, all with the hashes that are locked"
    )


def inside(folder: Path, base: Path) -> int:
    """Go on in namespaces of our own: with them all mounts, processes and addresses are gone."""
    return subprocess.run(
        [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"),
            *(sys.executable, "-m", "deploy.image_steps"),
            *("--inside", str(folder), "--base", str(base)),
        ],
        cwd=TREE,
        timeout=LIMIT_S,
    ).returncode


def _do(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT_S, cwd="/")


if __name__ == "__main__":
    sys.exit(main())
