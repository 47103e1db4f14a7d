"""The API keeps what its OpenAPI document says, whatever is sent to it."""

import subprocess
import sys

import pytest

from receiptd.web import rates
from tests.web.http_harness import TOKEN, own, running

# What a call of a provider's API must hold is the provider's to say, and more than a schema can.
CONFIG = """
[[operations]]
include-name = "POST /v1/sends"
checks.positive_data_acceptance.enabled = false
"""
EXAMPLES = 15


def test_schemathesis_finds_nothing(url, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(rates, "REQUESTS_AT_ONCE", 1e9)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    authorization = f"Authorization: Bearer {TOKEN}"
    with running(url, token=TOKEN) as server:
        sends = [own(number) for number in range(20)]
        server.ask("POST", "/v1/sends", sends, {"Authorization": f"Bearer {TOKEN}"})
        found = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", "-H", authorization),
                *("--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"),
                *("--generation-database", "none", "--request-timeout", "20"),
                f"http://127.0.0.1:{server.http.port}/openapi.json",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
        )

    assert found.returncode == 0, found.stdout[-5000:]
    assert "Operations:       4 selected / 4 total" in found.stdout
    assert '"http.failed"' not in capfd.readouterr().err


def test_the_document_names_the_token_where_there_is_one(url, tmp_path):
    with running(url) as bare:
        assert "security" not in bare.get("/openapi.json").json
    with running(f"sqlite:///{tmp_path}/other.db", token=TOKEN) as guarded:
        document = guarded.get("/openapi.json", Authorization=f"Bearer {TOKEN}").json
    assert document["security"] == [{"token": []}]


@pytest.mark.parametrize("path", ["/v1/sends", "/v1/receipts", "/v1/uplinks"])
def test_every_path_has_all_its_refusals_written_down(server, path):
    [operation] = server.get("/openapi.json").json["paths"][path].values()

    assert {"200", "400", "401", "421", "429", "503"} <= set(operation["responses"])
