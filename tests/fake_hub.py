"""A local stand-in for the Hugging Face hub: its file protocol over HTTP, for a few folders.

It answers what ``huggingface_hub`` asks when it downloads a model: the model-info and tree APIs,
and ``/{repository}/resolve/{revision}/{file}``. As on the real hub, weights are behind one more
redirect, to a store of large files, and a repository's old name redirects to its new one.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LARGE = {".safetensors", ".bin", ".h5"}  # what the hub keeps in its store of large files


class FakeHub(ThreadingHTTPServer):
    """The server; use it in a ``with`` statement.

    Parameters
    ----------
    repositories : dict of str to Path
        The folder behind every repository's name.
    renamed : dict of str to str
        Old names and the new names that they redirect to.

    Attributes
    ----------
    url : str
        What to set ``HF_ENDPOINT`` to.
    requests : int
        How many there were, of any kind.
    downloads : Counter
        How often the content of each file was asked for, by the path of the file.
    authorized : bool
        Whether any request carried a token.
    breaks_at : int or None
        After how many bytes of a file the connection breaks; None: it does not.

    Examples
    --------
    >>> with FakeHub({"google-t5/t5-small": folder}, {"t5-small": "google-t5/t5-small"}) as hub:
    ...     subprocess.run(command, env=os.environ | {"HF_ENDPOINT": hub.url})  # doctest: +SKIP
    """

    def __init__(self, repositories: dict[str, Path], renamed: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.renamed = renamed
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = 0
        self.downloads: Counter[str] = Counter()
        self.authorized = False
        self.breaks_at: int | None = None

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port: whoever asks now is refused."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests += 1
        self.server.authorized |= "Authorization" in self.headers
        for old, new in self.server.renamed.items():
            for prefix in (f"/api/models/{old}", f"/{old}/resolve/"):
                if path.startswith(prefix):
                    return self.answer(307, {"Location": self.path.replace(old, new, 1)})
        for name, folder in self.server.repositories.items():
            if path.startswith(f"/api/models/{name}"):
                return self.api(path.removeprefix(f"/api/models/{name}"), name, folder)
            if path.startswith(f"/{name}/resolve/"):
                revision, file = path.removeprefix(f"/{name}/resolve/").split("/", 1)
                return self.resolve(name, revision, file)
            if path.startswith(f"/large/{name}/"):
                return self.file(folder, path.removeprefix(f"/large/{name}/"), {})
        self.answer(401, {"X-Error-Code": "RepoNotFound"})  # 401: it may be a private one

    do_HEAD = do_GET

    def api(self, question: str, name: str, folder: Path) -> None:
        """Model info, or the list of files."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        said: object
        if question.startswith("/tree/"):
            said = [
                {"type": "file", "path": file, "size": len(data), "oid": _sha1(data)}
                for file, data in files.items()
            ]
        else:
            said = {
                "id": name,
                "sha": _commit(folder),
                "siblings": [{"rfilename": file} for file in files],
                **{"private": False, "downloads": 0, "likes": 0, "tags": []},
            }
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(said).encode())

    def resolve(self, name: str, revision: str, file: str) -> None:
        """One file of one revision."""
        folder = self.server.repositories[name]
        commit = _commit(folder)
        if revision not in ("main", commit):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        path, headers = folder / file, {"X-Repo-Commit": commit}
        if not path.is_file():
            return self.answer(404, headers | {"X-Error-Code": "EntryNotFound"})
        data = path.read_bytes()
        if path.suffix not in LARGE:
            return self.file(folder, file, headers | {"ETag": f'"{_sha1(data)}"'})
        headers["X-Linked-Size"] = str(len(data))
        headers["X-Linked-Etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        self.answer(302, headers | {"Location": f"{self.server.url}/large/{name}/{file}"})

    def file(self, folder: Path, file: str, headers: dict[str, str]) -> None:
        """The content of a file, or what follows the part that the client has already."""
        data = (folder / file).read_bytes()
        self.server.downloads[file] += self.command == "GET"
        status, headers = 200, headers | {"Accept-Ranges": "bytes"}
        if wanted := self.headers.get("Range"):  # "bytes=100-"
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status, data = 206, data[start:]
        self.answer(status, headers, data)

    def answer(self, status: int, headers: dict[str, str], data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: self.server.breaks_at])
            self.close_connection |= self.server.breaks_at is not None

    def log_message(self, format: str, *args: object) -> None:
        pass  # `requests` of the server has it all


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _commit(folder: Path) -> str:
    return _sha1(
        b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    )
