"""What pydantic says about a configuration, in the operator's words: place, rule, value, cure."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from receiptd.config import shown
from receiptd.config.settings import Settings, Table, is_table_of_tables, secret_keys, table_model
from receiptd.errors import Problem

# pydantic's error types -> our rule, with the numbers and words of the error's context.
_RULES = {
    "missing": "is required",
    "less_than_equal": "must be at most {le}",
    "greater_than_equal": "must be at least {ge}",
    "literal_error": "must be one of {expected}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "string_pattern_mismatch": "a name has only a-z 0-9 _ - and at most 64 of them",
}


def from_pydantic(exc: ValidationError) -> list[Problem]:
    """Return one problem for each error; their texts hold no secret."""
    return [_from_error(error) for error in exc.errors(include_url=False)]


def unknown_key(keys: Sequence[str | int], known: Iterable[str]) -> Problem:
    """Return the problem of a key that is none of `known`. Its value is not shown: a misspelt
    secret's name does not make its value less secret."""
    near = difflib.get_close_matches(str(keys[-1]), list(known), n=1)
    cure = f"did you mean {near[0]}?" if near else "known here: " + ", ".join(known)
    return Problem(place=shown.place(keys), rule="unknown key", cure=cure)


def _from_error(error: ErrorDetails) -> Problem:
    keys = [key for key in error["loc"] if key != "[key]"]
    if error["type"] == "extra_forbidden":
        model = _model_at(keys[:-1])
        return unknown_key(keys, model.model_fields if model else ())
    kind, context = error["type"], dict(error.get("ctx", {}))
    if kind == "value_error":
        rule = str(context["error"])
    elif kind in _RULES:
        rule = _RULES[kind].format_map(context)
    else:
        rule = error["msg"][:1].lower() + error["msg"][1:]
    if kind == "missing" or _is_secret(keys):
        return Problem(place=shown.place(keys), rule=rule)
    return Problem(place=shown.place(keys), rule=rule, value=shown.value(error["input"]))


def _is_secret(keys: Sequence[str | int]) -> bool:
    model = _model_at(keys[:-1])
    return shown.is_hidden(keys) or (model is not None and keys[-1] in secret_keys(model))


def _model_at(path: Sequence[str | int]) -> type[Table] | None:
    model: type[Table] | None = Settings
    rest = list(path)
    while rest and model is not None:
        key = str(rest.pop(0))
        named = key in model.model_fields and is_table_of_tables(model, key)
        model = table_model(model, key)
        if model is not None and named:
            if not rest:
                return None  # `accounts` itself: any name is welcome there
            rest.pop(0)
    return model


def cross_checks(values: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong between tables. Reads the raw tables, so that these problems are told
    together with those of shape."""
    accounts = _tables(values, "accounts")
    problems = []
    for name, account in accounts.items():
        if (other := account.get("receipts_account")) and other not in accounts:
            problems.append(_no_account(("accounts", name, "receipts_account"), other, accounts))
    queues: dict[tuple[str, ...], str] = {}
    for name, source in _tables(values, "sources").items():
        account_name = source.get("account")
        if isinstance(account_name, str) and account_name not in accounts:
            problems.append(_no_account(("sources", name, "account"), account_name, accounts))
        if source.get("puller") == "push" and _is_off(values.get("http")):
            rule = "needs HTTP, which http.listen turns off"
            place = shown.place(("sources", name, "puller"))
            problems.append(Problem(place, rule, cure="give http.listen an address"))
        if not (source.get("queue") or source.get("topic")):
            continue
        first = queues.setdefault(_queue_of(source, accounts), name)
        if first != name:
            problems.append(
                Problem(
                    place=shown.place(("sources", name)),
                    rule=f"reads the same queue as {shown.place(('sources', first))}",
                    cure="remove one of them; `threads` makes one source read faster",
                )
            )
    return problems


def _is_off(http: object) -> bool:
    return isinstance(http, dict) and http.get("listen") == ""


def _queue_of(
    source: Mapping[str, Any], accounts: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """What makes a queue the same queue, whatever the source is called and whoever reads it."""
    puller = str(source.get("puller", ""))
    endpoint = source.get("endpoint")
    if not endpoint:
        endpoints = accounts.get(str(source.get("account")), {}).get("endpoints")
        endpoint = endpoints.get(puller, "") if isinstance(endpoints, dict) else ""
    rest = (str(source.get(key, "")) for key in ("queue", "instance_id", "topic", "group", "tag"))
    return (puller, str(endpoint).rstrip("/").lower(), *rest)


def _no_account(keys: Sequence[str], name: object, accounts: Iterable[str]) -> Problem:
    known = sorted(accounts)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        cure = f"did you mean {near[0]}?"
    else:
        cure = "configured accounts: " + (", ".join(known) or "none")
    return Problem(
        place=shown.place(keys), rule="names no account", value=shown.value(name), cure=cure
    )


def _tables(values: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    tables = values.get(key)
    if not isinstance(tables, dict):
        return {}
    return {name: table for name, table in tables.items() if isinstance(table, dict)}
