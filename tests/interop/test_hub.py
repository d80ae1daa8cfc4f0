"""Models of the hub by name: the real client against a server of ours that speaks its routes."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from safety_align.interop import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 8192
LARGE = bytes(range(256)) * 100_000
"""The client writes 10 MiB at a time: of less there is nothing to go on from."""
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/tool.jinja": b"tool",
    "model.safetensors": WEIGHTS,
    "consolidated.safetensors": b"the same once more",
    "onnx/model.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "modeling.py": b"raise SystemExit",
    "README.md": b"#",
}
TAKEN = {
    "config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "model.safetensors",
    "additional_chat_templates/tool.jinja",
}


class Hub(http.server.ThreadingHTTPServer):
    """What the hub answers to a client that reads: `repositories` {name: {file: bytes}}, each of one commit.

    `asked`: (method, path, the range asked for) so far; `breaks`: how often a file of more than a megabyte is broken off
    in its middle; `falls`: and then nothing is answered any more (`down`); `gated`: names whose files need a login.
    """

    def __init__(self, repositories: dict):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.asked, self.gated = repositories, [], set()
        self.breaks, self.falls, self.down = 0, False, False
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # of a client that is gone


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_HEAD = do_GET

    def answer(self):
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"] or path[2:3] == ["resolve"]:
            self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        if self.server.down:
            self.refuse(500)
        elif path[:2] == ["api", "models"]:
            self.describe("/".join(path[2:4]), path[4:])
        elif path[2:3] == ["resolve"]:
            self.file("/".join(path[:2]), "/".join(path[4:]))
        else:
            self.refuse(404)

    def describe(self, repo: str, rest: list[str]):
        files = self.server.repositories.get(repo)
        if files is None:
            return self.refuse(401) if repo == "some/secret" else self.refuse(404, "RepoNotFound")
        if rest[1:] and rest[1] not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if rest[:1] == ["tree"]:
            listing = [{"type": "file", "path": n, "size": len(b), "oid": _etag(b)} for n, b in files.items()]
            return self.send(200, json.dumps(listing).encode())
        return self.send(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": []}).encode())

    def file(self, repo: str, name: str):
        if repo in self.server.gated:
            return self.refuse(401, "GatedRepo")
        data = self.server.repositories[repo][name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        more = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            more["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        broken = self.command == "GET" and len(data) > 1 << 20 and self.server.breaks > 0
        self.server.breaks -= broken
        self.server.down = broken and self.server.falls
        return self.send(206 if start else 200, data[start:], more, broken)

    def refuse(self, status: int, code: str | None = None):
        self.send(status, b"", {"X-Error-Code": code} if code else {})

    def send(self, status: int, body: bytes, more: dict | None = None, broken: bool = False):
        self.send_response(status)
        for key, value in ((more or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if broken else body)
        if broken:
            self.close_connection = True


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextlib.contextmanager
def serving(repositories: dict):
    server = Hub(repositories)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server():
    pickled = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with serving(
        {"some/model": FILES, "some/pickle": pickled, "some/gated": FILES, "some/data": {"a.csv": b""}}
    ) as found:
        found.gated.add("some/gated")
        yield found


def environment(home: pathlib.Path, url: str, **more: str) -> dict[str, str]:
    """What a process that asks the hub at `url` has: a cache and a login (none) of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return kept | {"HF_HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | more


FETCH = f"""
import importlib.util, sys
from safety_align.errors import InputError
spec = importlib.util.spec_from_file_location("hub", {hub.__file__!r})  # without its package, which imports jax
hub = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hub)
assert "huggingface_hub" not in sys.modules
for name in sys.argv[1:]:
    try:
        print(hub.pinned(name), hub.directory(name))
    except InputError as error:
        print("error:", error)
"""


def fetch(home: pathlib.Path, url: str, *names: str, **more: str) -> list[str]:
    """For each name a line: what it is pinned to, and its folder; or "error: …"."""
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *names],
        env=environment(home, url, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_model_is_fetched_once_and_nothing_that_runs_is(server, tmp_path):
    [line] = fetch(tmp_path, server.url, "some/model@main")
    name, folder = line.split()
    assert name == f"some/model@{COMMIT}"
    there = {str(p.relative_to(folder)): p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()}
    assert there == {name: FILES[name] for name in TAKEN}
    first = len(server.asked)
    assert (
        fetch(tmp_path, server.url, name, name) == [line, line] and len(server.asked) == first
    )  # a commit: nothing to ask
    assert fetch(tmp_path, server.url, "some/model") == [line]
    assert not any("resolve" in path for _, path, _ in server.asked[first:])  # only which commit it is


def test_without_the_network_the_cache_serves(server, tmp_path):
    [line] = fetch(tmp_path, server.url, "some/model")
    first = len(server.asked)
    asked = ("some/model", line.split()[0], "some/gated")
    found = fetch(tmp_path, server.url, *asked, HF_HUB_OFFLINE="1")
    assert found[:2] == [line, line] and "HF_HUB_OFFLINE is set" in found[2] and len(server.asked) == first
    found = fetch(tmp_path, "http://127.0.0.1:9", *asked)
    assert found[:2] == [line, line] and "the hub cannot be reached" in found[2]


def test_what_is_not_to_be_had_is_one_line(server, tmp_path):
    names = "some/none", "some/secret", "some/gated", "some/pickle", "some/data", "some/model@v2"
    lines = fetch(tmp_path, server.url, *names)
    said = (
        "does not exist, or is private",
        "refuses it to you; log in",
        "is gated: ask for access",
        "only pickled weights (pytorch_model.bin)",
        "no *.safetensors",
    )
    for line, expected in zip(lines, (*said, "no such revision"), strict=True):
        assert line.startswith("error:") and expected in line
    assert not any("pytorch_model.bin" in path for _, path, _ in server.asked)


def ranges(server: Hub, first: int = 0) -> list[int]:
    """From which byte on the weights were asked for."""
    asked = [r for method, path, r in server.asked[first:] if method == "GET" and path.endswith("/model.safetensors")]
    return [int((r or "bytes=0-")[6:-1]) for r in asked]


def test_an_interrupted_file_goes_on_where_it_broke_off(server, tmp_path):
    """Where the hub is gone for longer the command ends; the next one keeps the files that are whole."""
    server.repositories["some/model"] = FILES | {"model.safetensors": LARGE}
    server.breaks = 1
    [line] = fetch(tmp_path / "once", server.url, "some/model")
    assert (pathlib.Path(line.split()[1]) / "model.safetensors").read_bytes() == LARGE
    assert ranges(server) == [0, 10 << 20]
    server.breaks, server.falls, first = 1, True, len(server.asked)
    [line] = fetch(tmp_path / "twice", server.url, "some/model")
    assert line.startswith("error: some/model@") and "what is whole is kept" in line
    [line] = fetch(tmp_path / "twice", server.url, f"some/model@{COMMIT}", HF_HUB_OFFLINE="1")
    assert line.startswith("error:") and "it is not (wholly) in the cache" in line
    server.down, first = False, len(server.asked)
    [line] = fetch(tmp_path / "twice", server.url, "some/model")
    assert (pathlib.Path(line.split()[1]) / "model.safetensors").read_bytes() == LARGE
    assert {path.split("/")[-1] for method, path, _ in server.asked[first:] if "resolve" in path} == {
        "model.safetensors"
    }


def test_what_is_here_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commit = f"a/b@{COMMIT}"
    assert hub.parse("a/b") == ("a/b", None) and hub.parse(pathlib.Path(commit)) == ("a/b", COMMIT)
    for path in (
        "a",
        "/a/b",
        "./a/b",
        "../a",
        "a/b/c",
        "runs/a",
        "checkpoints/a",
        "a/b@",
        "~/a",
        "a/-b",
        "a b/c",
        "a/b@../c",
    ):
        assert hub.parse(path) is None and hub.pinned(path) == path, path
        assert hub.directory(path, weights=False) == pathlib.Path(path)
    (tmp_path / "a").mkdir()
    assert hub.parse("a/b") is None and hub.parse(commit) == (
        "a/b",
        COMMIT,
    )  # a path that is mistyped; a name for certain
    (tmp_path / commit).mkdir()
    assert hub.directory(commit) == pathlib.Path(commit) and hub.identity(commit) == str(tmp_path / commit)
