"""The image, the compose file and the Kubernetes manifests fit the program that they run."""

import json
import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs are locked for the sake of two tests

from deploy import clean_root, dockerfile, image_trial
from receiptd.config import Settings
from receiptd.config.loading import load
from receiptd.daemon import DRAIN_S
from receiptd.sandbox.configuration import config_toml
from tests.test_cli_help import COMMANDS

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yml").read_text())
MANIFESTS: dict[str, Any] = {
    one["kind"]: one
    for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/sidecar.yml").read_text())
}
POD: dict[str, Any] = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
SIDECAR: dict[str, Any] = POD["initContainers"][0]
UNIT = (ROOT / "systemd/receiptd.service").read_text()

SECRETS = {
    "accounts.main.access_key_secret": "an-access-key-secret",
    "database.url": "postgresql://receiptd:a-password@database/receipts",
    "http.token": "a-token-of-24-characters",
}
USER = "65534:65534"


def final_stage() -> dockerfile.Stage:
    return dockerfile.read(DOCKERFILE, {"PATH": "/usr/bin"})[-1]


# --- the image ---


def test_the_image_runs_the_daemon_without_a_shell_and_without_privileges() -> None:
    stage = final_stage()

    assert [*stage.entrypoint, *stage.command] == ["receiptd", "run"]
    assert stage.health == ["receiptd", "health"]
    assert stage.user == USER
    assert stage.stop_signal == "SIGTERM"
    assert stage.folder == stage.volumes[0] == "/var/lib/receiptd"
    assert stage.environ["PYTHONDONTWRITEBYTECODE"] == "1"
    assert stage.environ["CREDENTIALS_DIRECTORY"] == "/run/secrets/receiptd"
    assert stage.environ["PATH"].startswith("/opt/receiptd/bin:")


def test_everything_that_pip_installs_has_its_hash() -> None:
    installs = [line for line in _commands() if line.startswith("pip install")]

    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or line.endswith("--no-deps .")
        assert "--no-build-isolation" in line or "requirements/build.txt" in line


def _commands() -> list[str]:
    steps = [step for stage in dockerfile.read(DOCKERFILE, {}) for step in stage.steps]
    return [" ".join(one.split()) for step in steps for one in step.text.split("&&")]


def test_both_stages_have_one_base_without_a_host_name() -> None:
    bases = {stage.base for stage in dockerfile.read(DOCKERFILE, {})}

    assert bases == {"python:3.11-slim-bookworm"}


def test_the_build_gets_what_it_copies_and_nothing_private(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    private = ["config.toml", "receiptd.db", ".git/config", "secrets/aliyun.secret", "tests/a.py"]
    wanted = [
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "receiptd/a.py",
        "requirements/run.txt",
    ]
    for name in (*private, *wanted, "receiptd/__pycache__/a.pyc"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    (tree / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())

    clean_root.context(tree, tmp_path / "context")

    found = [p for p in (tmp_path / "context").rglob("*") if p.is_file()]
    assert {str(p.relative_to(tmp_path / "context")) for p in found} == set(wanted)


def test_what_the_build_copies_is_there() -> None:
    for stage in dockerfile.read(DOCKERFILE, {}):
        for step in stage.steps:
            if step.word == "COPY" and not step.origin:
                assert all((ROOT / source).exists() for source in step.paths[:-1])


def test_the_wheel_holds_every_file_that_the_program_reads() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = pyproject["tool"]["setuptools"]["package-data"]["receiptd"]
    package = ROOT / "receiptd"
    read = [
        file.name
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    ]
    held = [one for one in read if any(fnmatch(one, p.removeprefix("**/")) for p in patterns)]

    assert read
    assert held == read


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("ADD archive.tar /", "ADD"),
        ("SHELL ['/bin/bash']", "SHELL"),
        ("COPY --chown=1:1 a b", "--chown"),
        ("CMD receiptd run", "Expecting value"),
    ],
)
def test_a_step_that_image_steps_cannot_do_is_refused(line: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dockerfile.read(f"FROM base\n{line}\n", {})


def test_a_step_is_read_with_what_was_set_before_it() -> None:
    text = """
ARG BASE=python
FROM ${BASE}:3 AS build
ENV A=1 PATH=/x:$PATH
WORKDIR /src
# said in between
RUN one \\
    # and within
 && two
ENV A=2
"""
    [stage] = dockerfile.read(text, {"PATH": "/bin"})
    [step] = stage.steps

    assert (stage.base, stage.name) == ("python:3", "build")
    assert " ".join(step.text.split()) == "one && two"
    assert step.environ == {"PATH": "/x:/bin", "A": "1"}
    assert step.folder == "/src"


def test_the_trial_is_configured_as_the_program_reads_it(tmp_path: Path) -> None:
    settings = loaded(tmp_path, image_trial.SETTINGS, secrets=image_trial.SECRETS)

    assert settings.sources["reports"].credentials == "token"
    assert settings.http.host == "0.0.0.0"


def loaded(
    folder: Path,
    environ: Mapping[str, str],
    *,
    secrets: Mapping[str, str] = SECRETS,
    config: str = "",
) -> Settings:
    """Load a configuration as a container has it: variables, a file, and mounted secrets."""
    for name, value in secrets.items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o440)
    file = folder / "config.toml"
    file.write_text(config)
    return load(file, {**environ, "CREDENTIALS_DIRECTORY": str(folder)})


def config_of_the_sidecar() -> str:
    text: str = MANIFESTS["ConfigMap"]["data"]["config.toml"]
    return text.replace("LTAI…", "LTAI5tExample")


# --- Compose ---

OURS = [name for name, one in COMPOSE["services"].items() if one["image"] == "receiptd"]


@pytest.mark.parametrize("name", OURS)
def test_compose_runs_ours_read_only_and_lets_it_drain(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_S
    assert f"receiptd {service.get('command', ['run'])[0]}" in COMMANDS


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for one in COMPOSE["services"].values() for port in one.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_hands_in_the_secrets_by_the_names_that_are_read(tmp_path: Path) -> None:
    service = COMPOSE["services"]["receiptd"]
    targets = {Path(one["target"]) for one in service["secrets"]}

    assert {target.name for target in targets} == SECRETS.keys()
    assert {str(target.parent) for target in targets} == {
        final_stage().environ["CREDENTIALS_DIRECTORY"]
    }
    settings = loaded(tmp_path, service["environment"], config=config_of_the_sidecar())
    assert settings.database.upgrade_on_start is True
    assert settings.http.token.get_secret_value() == SECRETS["http.token"]
    assert all(one["source"] in COMPOSE["secrets"] for one in service["secrets"])
    assert {one["source"] for one in service["configs"]} <= COMPOSE["configs"].keys()


def test_the_try_out_reads_from_the_sandbox_beside_it(tmp_path: Path) -> None:
    service = COMPOSE["services"]["try"]
    text = (ROOT / "deploy/try.toml").read_text()

    assert text == config_toml("http://127.0.0.1:8700")
    assert service["network_mode"] == "service:sandbox"
    settings = loaded(tmp_path, service["environment"], secrets={}, config=text)
    assert settings.http.port == 8650
    assert COMPOSE["configs"]["try"] == {"file": "./try.toml"}


# --- Kubernetes ---


def test_the_sidecar_is_confined() -> None:
    security = SIDECAR["securityContext"]

    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == final_stage().user
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_sidecar_is_asked_where_it_answers_and_has_time_to_drain() -> None:
    probes = {name: SIDECAR[name]["httpGet"]["path"] for name in SIDECAR if name.endswith("Probe")}

    assert probes == {
        "startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz",
    }  # fmt: skip
    assert {SIDECAR[name]["httpGet"]["port"] for name in probes} == {SIDECAR["ports"][0]["name"]}
    # The database is waited for up to two seconds before /readyz answers.
    assert all(SIDECAR[name]["timeoutSeconds"] > 2 for name in probes)
    assert POD["terminationGracePeriodSeconds"] > DRAIN_S


def test_the_sidecar_starts_with_its_configuration_and_the_secrets_as_mounted(
    tmp_path: Path,
) -> None:
    environ = {one["name"]: one["value"] for one in SIDECAR["env"]}
    mounts = {one["name"]: one["mountPath"] for one in SIDECAR["volumeMounts"]}

    settings = loaded(tmp_path, environ, config=config_of_the_sidecar())

    assert settings.http.port == SIDECAR["ports"][0]["containerPort"]
    assert settings.database.upgrade_on_start is True
    assert mounts["receiptd-secrets"] == environ["CREDENTIALS_DIRECTORY"]
    [volume] = [one for one in POD["volumes"] if one["name"] == "receiptd-secrets"]
    assert volume["secret"]["defaultMode"] == 0o440
    assert str(POD["securityContext"]["fsGroup"]) == final_stage().user.partition(":")[2]


def test_the_application_gets_the_token_and_no_key() -> None:
    [application] = POD["containers"]
    names = {one["name"] for one in application["volumeMounts"]}
    [volume] = [one for one in POD["volumes"] if one["name"] in names]

    assert [item["key"] for item in volume["secret"]["items"]] == ["http.token"]
    body = re.search(r"--json '(\{.*?\})'", " ".join(application["args"]))
    assert body is not None
    assert json.loads(body[1]).keys() == {"biz_id", "phone", "out_id"}


def test_the_memory_is_bounded_alike_everywhere() -> None:
    assert "MemoryMax=256M\n" in UNIT
    assert SIDECAR["resources"]["limits"] == {"memory": "256Mi"}
    assert {COMPOSE["services"][name]["mem_limit"] for name in OURS} == {"256m"}
