"""``python -m server.bench.bare PORT BYTES``: the least that FastAPI can do with a checkout.

One route on the server of production: it parses the same body and answers as many bytes.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response

from server.api.customer import OrderIn


def bare_app(size: int) -> FastAPI:
    """The application; ``size`` is the length of its answer in bytes."""
    app = FastAPI()
    answer = b"{" + b" " * (size - 2) + b"}"

    @app.post("/v1/orders", status_code=201)
    async def create_order(body: OrderIn) -> Response:
        return Response(answer, 201, media_type="application/json")

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    port, size = int(sys.argv[1]), int(sys.argv[2])
    uvicorn.run(
        bare_app(size), port=port, log_config=None, access_log=False, server_header=False,
        lifespan="off", loop="uvloop",
    )  # fmt: skip


if __name__ == "__main__":
    main()
