"""
A service of one's own, with its latencies under the objective of configs/slo.yaml (or its defaults).

    uvicorn app:app --port 8000
    curl 'localhost:8000/embed?text=你好'
    curl localhost:8000/latencies
    slo budget                       # what is left of the error budget, from the rows of the source `service`
"""

from __future__ import annotations

import hashlib

from fastapi import FastAPI

from slo import get_recent_metrics, monitor

app = FastAPI()


@monitor
def encode(text: str) -> list[float]:
    """Put your model here."""
    return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()]


@app.get("/embed")
def embed(text: str) -> list[float]:
    """The vector of `text`. What `encode` raises counts as a bad request."""
    return encode(text)


@app.get("/latencies")
def latencies() -> list[float]:
    """Milliseconds of the last five minutes, oldest first."""
    return get_recent_metrics("embedding_latency_ms", "5m")
