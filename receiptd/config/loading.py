"""How the configuration is found, overlaid by the environment, and checked: all of it at once."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_settings import BaseSettings, EnvSettingsSource

from receiptd.config import durations, problems, secrets
from receiptd.config.settings import Settings
from receiptd.errors import ConfigError, Problem

PREFIX = "RECEIPTD_"
DELIMITER = "__"
CONFIG_VARIABLE = "RECEIPTD_CONFIG"
SYSTEM_FILE = Path("/etc/receiptd/config.toml")

_TOML_LINE = re.compile(r" \(at line ([0-9]+), column [0-9]+\)")


def load(
    path: Path | None,
    environ: Mapping[str, str],
    check: Callable[[Mapping[str, Any]], list[Problem]] = lambda values: [],
) -> Settings:
    """Return the configuration: `path` or the file that is found, overlaid by `environ`.

    Raises ConfigError with everything that is wrong, not only the first of it: `check` then looks
    at the raw tables, too, for what is otherwise found once there are settings.
    """
    file = find(path, environ)
    overlay, found = _overlay(environ)
    if file is None and not overlay and not found:
        raise ConfigError([_nothing_found()])
    values = _merged(_read(file) if file else {}, overlay)
    base = file.parent if file else Path()
    found += secrets.resolve(values, environ, base)
    found += problems.cross_checks(values)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as exc:
        found = problems.from_pydantic(exc) + found
    if found:
        raise ConfigError([*found, *check(values)])
    return settings


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file: `path`, `$RECEIPTD_CONFIG`, `./config.toml` or
    `/etc/receiptd/config.toml`, whichever comes first; None if there is none.

    A file that was named is returned whether it is there or not.
    """
    if path is not None:
        return path
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    for candidate in (Path("config.toml"), SYSTEM_FILE):
        if os.path.exists(candidate):
            return candidate
    return None


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, for editors."""
    schema = Settings.model_json_schema(schema_generator=_Schema)
    return {"$schema": _Schema.schema_dialect, **schema, "title": "receiptd configuration"}


class _Schema(GenerateJsonSchema):
    """Defaults as one would write them in the file."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, tuple):
            return [self.encode_default(item) for item in dft]
        if isinstance(dft, timedelta):
            return durations.text(dft)
        if isinstance(dft, SecretStr):
            return dft.get_secret_value()  # a default is no secret
        return super().encode_default(dft)


class _Variables(Settings, BaseSettings):  # type: ignore[misc]  # two kinds of model_config
    """Settings, in the shape that pydantic-settings reads variables for. Never instantiated."""


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        # What is no JSON is left as it is: the model then says what it should have been, together
        # with all other errors, while an exception here would be the only one.
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value


def _overlay(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the tables that the environment sets, and what is wrong with its names.

    Only names with a `__` are keys: RECEIPTD_CONFIG is none, nor is what Kubernetes sets for a
    service called receiptd (RECEIPTD_PORT, RECEIPTD_SERVICE_HOST).
    """
    variables = {
        name.lower(): value
        for name, value in environ.items()
        if name.upper().startswith(PREFIX) and DELIMITER in name[len(PREFIX) :]
    }
    unknown = []
    for name in sorted(variables):
        table = name.removeprefix(PREFIX.lower()).split(DELIMITER)[0]
        if table not in Settings.model_fields:
            problem = problems.unknown_key([table], Settings.model_fields)
            unknown.append(Problem(name.upper(), "is no configuration key", cure=problem.cure))
    source = _Environment(_Variables, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
    source.env_vars = variables
    return source(), unknown


def _merged(values: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `overlay` on top, table by table."""
    result = dict(values)
    for key, value in overlay.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = _merged(below, value)
        else:
            result[key] = value
            # A secret from the environment replaces the file named below it, and the reverse.
            other = key.removesuffix("_file") if key.endswith("_file") else key + "_file"
            if other not in overlay:
                result.pop(other, None)
    return result


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        rule = f"cannot be read: {exc.strerror}"
        raise ConfigError([Problem(place=str(file), rule=rule)]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(place=str(file), rule="is not UTF-8 text")]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message = str(exc)
        line = _TOML_LINE.search(message)
        place = f"{file}:{line[1]}" if line else str(file)
        rule = "is not TOML: " + _TOML_LINE.sub("", message)
        raise ConfigError([Problem(place=place, rule=rule)]) from None
    except RecursionError:
        raise ConfigError([Problem(place=str(file), rule="is nested too deeply")]) from None


def _nothing_found() -> Problem:
    looked = f"--config, ${CONFIG_VARIABLE}, ./config.toml, {SYSTEM_FILE}"
    return Problem(
        place="config.toml",
        rule=f"no configuration was found (looked at {looked}, and {PREFIX}… variables)",
        cure="`receiptd demo` needs none",
    )
