"""`receiptd health`, against a server that is well, ill, somebody else, and nobody."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from receiptd.cli import exit_codes, main
from tests.web.http_harness import running


@pytest.fixture
def server(tmp_path):
    with running(f"sqlite:///{tmp_path}/receiptd.db") as one:
        yield one


def ask(server, *more: str) -> int:
    return main(["health", "--url", f"http://127.0.0.1:{server.http.port}", *more])


def test_a_daemon_that_is_ready_is_0(server, capsys):
    assert ask(server) == exit_codes.OK
    assert capsys.readouterr().out == "ready\n"


def test_one_that_is_not_ready_is_69_and_says_why(server, capsys):
    server.http._health.is_stopping = True

    assert ask(server) == exit_codes.UNAVAILABLE
    assert capsys.readouterr().out == "not ready: the daemon stops\n"


def test_json_is_what_readyz_says(server, capsys):
    assert ask(server, "--json") == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["database"] == {"ready": True}


def test_nobody_there_is_69(capsys):
    assert main(["health", "--url", "http://127.0.0.1:9"]) == exit_codes.UNAVAILABLE
    assert "nobody answers" in capsys.readouterr().out


def test_somebody_else_is_69(capsys):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        code = main(["health", "--url", f"http://127.0.0.1:{other.server_port}"])
        thread.join()

    assert code == exit_codes.UNAVAILABLE
    assert "no receiptd" in capsys.readouterr().out


def test_the_address_comes_from_the_configuration(server, tmp_path, monkeypatch):
    port = server.http.port
    config = tmp_path / "config.toml"
    for listen in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        config.write_text(f'[http]\nlisten = "{listen}"\ntoken = "a-token-of-24-characters"\n')
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert main(["health", "--config", str(config)]) == exit_codes.OK


def test_http_that_is_off_is_a_matter_of_configuration(tmp_path, capsys):
    config = tmp_path / "config.toml"
    config.write_text('[http]\nlisten = ""\n')

    assert main(["health", "--config", str(config)]) == exit_codes.CONFIG
    assert "http.listen" in capsys.readouterr().err


def test_an_address_that_is_none_is_usage(capsys):
    assert main(["health", "--url", "nonsense"]) == exit_codes.USAGE
