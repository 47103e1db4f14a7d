"""Reads a Dockerfile: as much of the language as ours uses, and a refusal of the rest."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

# Without effect on what runs, or said for people only.
_SAID = ("LABEL", "EXPOSE")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Step:
    """One RUN or COPY, with what the steps before it set."""

    word: str
    text: str  # of RUN, as the shell gets it
    paths: tuple[str, ...]  # of COPY: the sources, and the target
    origin: str  # of COPY: the stage that it copies from; "" for the tree
    folder: str
    environ: Mapping[str, str]


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"
    volumes: list[str] = field(default_factory=list)


def read(text: str, environ: Mapping[str, str]) -> list[Stage]:
    """Return the stages; `environ` is that of their base. Raises ValueError for what is not known
    here: a step that was passed over would be a step that nobody tried."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in _lines(text):
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            base, _, name = _expanded(rest, arguments).partition(" AS ")
            stages.append(Stage(base, name, environ=dict(environ)))
        else:
            _take(stages[-1], word, rest)
    return stages


def _lines(text: str) -> list[str]:
    """Return the instructions, each on one line and without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _take(stage: Stage, word: str, rest: str) -> None:
    if word == "ENV":
        told = dict(part.split("=", 1) for part in shlex.split(_expanded(rest, stage.environ)))
        stage.environ |= told
    elif word == "WORKDIR":
        stage.folder = rest
    elif word == "USER":
        stage.user = rest
    elif word == "VOLUME":
        stage.volumes.append(rest)
    elif word == "STOPSIGNAL":
        stage.stop_signal = rest
    elif word == "ENTRYPOINT":
        stage.entrypoint = _words(rest)
    elif word == "CMD":
        stage.command = _words(rest)
    elif word == "HEALTHCHECK":
        stage.health = _words(rest.partition("CMD ")[2])
    elif word == "RUN":
        stage.steps.append(_step(stage, word, text=rest))
    elif word == "COPY":
        stage.steps.append(_copy(stage, rest))
    elif word not in _SAID:
        raise ValueError(f"{word} is not known here")


def _copy(stage: Stage, rest: str) -> Step:
    paths = rest.split()
    options = [path for path in paths if path.startswith("--")]
    origin = next((one.removeprefix("--from=") for one in options if "--from=" in one), "")
    if options and not origin:
        raise ValueError(f"COPY {options[0]} is not known here")
    return _step(stage, "COPY", paths=tuple(paths[len(options) :]), origin=origin)


def _step(
    stage: Stage, word: str, *, text: str = "", paths: tuple[str, ...] = (), origin: str = ""
) -> Step:
    return Step(word, text, paths, origin, stage.folder, dict(stage.environ))


def _words(text: str) -> list[str]:
    """Read the exec form. Raises ValueError for the shell form: there may be no shell."""
    words: list[str] = json.loads(text)
    return words


def _expanded(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)
