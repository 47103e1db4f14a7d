"""The part of image_steps.py that works inside namespaces: builds the image's files and runs it."""

import fcntl
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from deploy import dockerfile
from deploy.clean_root import Root, context, mount, new_processes
from deploy.dockerfile import Stage

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WHEELS = "/wheels"
PORT = 8650
SANDBOX = "http://127.0.0.1:8700"
TOKEN = "a-token-for-a-trial-only"
# As a container gets them: the configuration in the environment, the secrets as files.
SETTINGS = {
    "RECEIPTD_HTTP__LISTEN": f"0.0.0.0:{PORT}",
    "RECEIPTD_ACCOUNTS__MAIN__PROVIDER": "aliyun",
    "RECEIPTD_ACCOUNTS__MAIN__ACCESS_KEY_ID": "testAK",
    "RECEIPTD_ACCOUNTS__MAIN__ENDPOINTS": json.dumps(
        {"dysms": SANDBOX, "dybase": SANDBOX, "mns": SANDBOX}
    ),
    "RECEIPTD_SOURCES__REPORTS__PULLER": "mns",
    "RECEIPTD_SOURCES__REPORTS__ACCOUNT": "main",
    "RECEIPTD_SOURCES__REPORTS__MESSAGE_TYPE": "SmsReport",
    "RECEIPTD_SOURCES__REPORTS__QUEUE": "Alicom-Queue-1092397003988387-SmsReport",
    "RECEIPTD_SOURCES__REPORTS__CREDENTIALS": "token",
}
SECRETS = {"accounts.main.access_key_secret": "testSK", "http.token": TOKEN}
PHONES = [f"1390000{number:04}" for number in range(20)]
START_S, STOP_S = 30.0, 10.0
_SIOCSIFFLAGS, _UP = 0x8914, 1


def trial(tree: Path, folder: Path, base: Path) -> int:
    """Build and run; return the exit code."""
    loopback_up()
    mount("", Path("/"), "--make-rprivate")
    try:
        stages, root = build(tree, folder, base)
    except subprocess.CalledProcessError as exc:
        print(f"FAILED: {exc.cmd[-1]}\n{exc.stdout}{exc.stderr}")
        return 1
    return Trial(stages[-1], root, folder).run()


def build(tree: Path, folder: Path, base: Path) -> tuple[list[Stage], Root]:
    """Do the steps of all stages; return them and the last one's root."""
    context(tree, folder / "context")
    stages = dockerfile.read((tree / "deploy/Dockerfile").read_text(), {"PATH": PATH})
    roots: dict[str, Root] = {}
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS}
    for number, stage in enumerate(stages):
        name = stage.name or f"stage {number}"
        root = roots[name] = Root(folder / name.replace(" ", "-"), base)
        root.mkdir(WHEELS)
        if len(stages) - 1 > number:
            mount(str(folder / "wheels"), root.path / WHEELS.lstrip("/"), "--bind")
        for step in stage.steps:
            began_at = time.monotonic()
            root.mkdir(step.folder)
            if step.word == "COPY":
                root.copy(step, roots[step.origin].path if step.origin else folder / "context")
            else:
                root.run(["/bin/sh", "-c", step.text], {**step.environ, **offline}, step.folder)
            said = " ".join((step.text or " ".join(step.paths)).split())
            print(f"{time.monotonic() - began_at:6.1f} s  [{name}] {step.word} {said[:90]}")
    return stages, root


class Trial:
    """One run of the image."""

    def __init__(self, stage: Stage, root: Root, folder: Path) -> None:
        self._stage = stage
        self._root = root
        self._folder = folder
        self._failures = 0

    def run(self) -> int:
        root, stage = self._root, self._stage
        for secret, value in SECRETS.items():
            file = root.path / "run/secrets/receiptd" / secret
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(value)  # readable by all, as Docker mounts them
        root.close_to_writes(stage.volumes)
        before = root.files(but=stage.volumes)
        sandbox = self._start("sandbox", ["receiptd", "sandbox"])
        self._await("the sandbox listens", lambda: listens(8700))
        new_processes()
        began_at = time.monotonic()
        daemon = self._start("daemon", [*stage.entrypoint, *stage.command])
        self._await("/livez is 200", lambda: ask("/livez")[0] == 200)
        self._await("/readyz is 200", lambda: ask("/readyz")[0] == 200)
        if not self._failures:
            print(f"ready after {time.monotonic() - began_at:.1f} s")
            self._look_at_process(daemon.pid)
            self._ask_http()
            self._use_commands()
            self._stop(daemon, signal.Signals[stage.stop_signal])
        sandbox.terminate()
        self._check("nothing was written outside the volume", root.files(stage.volumes) == before)
        kept = sorted(p.name for p in (root.path / stage.volumes[0].lstrip("/")).iterdir())
        self._check(f"the volume holds the database: {kept}", kept == ["receiptd.db"])
        print("FAILED" if self._failures else "all as it should be", flush=True)
        if self._failures:
            print((self._folder / "daemon.log").read_text()[-4000:])
        return 1 if self._failures else 0

    def _look_at_process(self, pid: int) -> None:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        wanted = self._stage.user.split(":")
        self._check(f"uid and gid are {wanted}", [status["Uid"][1], status["Gid"][1]] == wanted)
        self._check(
            "no capabilities", not any(int(status[f"Cap{x}"][0], 16) for x in ("Eff", "Bnd"))
        )
        self._check("no new privileges", status["NoNewPrivs"] == ["1"])
        self._check("it is process 1", status["NSpid"][-1] == "1")

    def _ask_http(self) -> None:
        self._check("/metrics wants the token", ask("/metrics")[0] == 401)
        status, body = ask("/metrics", TOKEN)
        self._check("/metrics", status == 200 and b"receiptd_build_info" in body)
        self._check("the dashboard: its templates are in the wheel", ask("/", TOKEN)[0] == 200)
        send = {"biz_id": "900000000000000001^0", "phone": "13900009999", "out_id": "app-1"}
        status, body = ask("/v1/sends", TOKEN, json.dumps(send).encode())
        self._check("an application records a send", status == 200)

    def _use_commands(self) -> None:
        write = ["python3", "-c", "open('/tmp/written', 'w')"]
        self._check("/tmp cannot be written", self._execute("write", write) != 0)
        self._check("HEALTHCHECK succeeds", self._execute("health", self._stage.health) == 0)
        self._check("`receiptd check` succeeds", self._execute("check", ["receiptd", "check"]) == 0)
        phones = [word for phone in PHONES for word in ("--phone", phone)]
        send = ["receiptd", "send", "--account", "main", "--api", "SendSms", *phones]
        text = [
            "--sign",
            "云通信",
            "--template",
            "SMS_1",
            "--param",
            "code=1234",
            "--wait",
            "--quiet",
        ]
        code = self._execute("send", [*send, *text])
        self._check(f"{len(PHONES)} sends are delivered, by their receipts", code == 0)

    def _stop(self, daemon: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
        peak = Path(f"/proc/{daemon.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        began_at = time.monotonic()
        daemon.send_signal(number)
        try:
            code: int | None = daemon.wait(STOP_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            code = None
        took_s = time.monotonic() - began_at
        self._check(f"{number.name} ends it with 0 (after {took_s:.2f} s)", code == 0)
        print(f"peak RSS {int(peak) / 1024:.0f} MB")

    def _start(self, name: str, words: list[str]) -> "subprocess.Popen[bytes]":
        # The image's PATH counts, not this machine's; a link may lead to what is only in the image.
        program = next(
            f"{folder}/{words[0]}"
            for folder in self._stage.environ["PATH"].split(":")
            if os.path.lexists(self._root.path / folder.lstrip("/") / words[0])
        )
        output = self._folder / f"{name}.log"
        return self._root.start([program, *words[1:]], self._stage, SETTINGS, output)

    def _execute(self, name: str, words: list[str]) -> int:
        """Run a command beside the daemon, as `docker exec` does; return its exit code."""
        return self._start(name, words).wait(60)

    def _await(self, what: str, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + (0 if self._failures else START_S)
        while not condition() and time.monotonic() < until:
            time.sleep(0.05)
        self._check(what, condition())

    def _check(self, what: str, is_so: bool) -> None:
        print(("ok      " if is_so else "NOT OK  ") + what, flush=True)
        self._failures += not is_so


def ask(target: str, token: str = "", body: bytes | None = None) -> tuple[int, bytes]:
    """Return the status and body of an answer; 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request("GET" if body is None else "POST", target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def loopback_up() -> None:
    """Switch on the one interface that a new network namespace has."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", _UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
