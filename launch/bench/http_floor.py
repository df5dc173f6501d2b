"""The floor of W11: a bare application on the same server. It keeps nothing and asks nobody.

It is ``python -m entgldb.launch.bench.http_floor DESCRIPTOR``, of a socket that listens.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.launch.bench.http_load import HOST
from entgldb.launch.bench.sides import document
from entgldb.launch.node.child import end, end_with_parent, environment

STOP_SECONDS: Final = 5.0


@contextmanager
def bare_server() -> Iterator[int]:
    """Its port; requests wait until it serves."""
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        process = subprocess.Popen(  # noqa: S603 -- this very program
            [sys.executable, "-m", __name__, str(listener.fileno())],
            stdin=subprocess.DEVNULL,
            env=environment(),
            pass_fds=(listener.fileno(),),
            preexec_fn=end_with_parent,
        )
        try:
            yield listener.getsockname()[1]
        finally:
            end(process, STOP_SECONDS)


def serve(descriptor: int) -> None:
    """Answer every GET with one document, every PUT with a few bytes, until SIGTERM."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    body = json.dumps(document(1))

    async def get(request: Request) -> Response:
        return Response(body, media_type="application/json")

    async def put(request: Request) -> Response:
        fields = json.loads(await request.body())
        return Response(json.dumps({"fields": len(fields)}), media_type="application/json")

    path = "/v1/collections/{collection}/documents/{key:path}"
    app = Starlette(routes=[Route(path, get, methods=["GET"]), Route(path, put, methods=["PUT"])])
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
