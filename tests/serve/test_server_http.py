"""HTTP as libraries speak it, against a real Xinference: routes of ours and built-in ones."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.serve.test_protocol import H2C
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]

JAVA = """
import java.net.URI; import java.net.http.*;
public class Ask {
    public static void main(String[] a) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 3; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(a[0])).header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(a[1])).build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body().contains("embedding"));
        }
    }
}
"""


def asked(server: Server, request: bytes) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    parts = urlsplit(server.endpoint)
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=30) as client:
        client.sendall(request)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    ("path", "extra"),
    [("/v1/embeddings", {}), ("/v1/embeddings", {"truncate_prompt_tokens": 500})],
    ids=["ours", "built in"],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_offered_upgrade_is_ignored(server: Server, path: str, extra: dict[str, int], version: str) -> None:
    body = json.dumps({"model": server.model, "input": "升级", **extra}).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    offer = H2C.replace(b"Connection: ", b"Connection: close, ")
    status, answer = asked(server, head.encode() + offer + b"\r\n" + body)
    assert status == 200, answer
    assert b'"embedding"' in answer


def test_an_offered_upgrade_is_ignored_by_a_route_of_xinference(server: Server) -> None:
    body = b'{"model": "nobody", "messages": []}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    plain = asked(server, head + b"Connection: close\r\n\r\n" + body)
    offered = asked(server, head + H2C.replace(b"Connection: ", b"Connection: close, ") + b"\r\n" + body)
    assert plain[0] < 500
    assert offered[0] == plain[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl_that_offers_http2(server: Server) -> None:
    command = ["curl", "--http2", "-sS", "-w", "%{http_code}", "-H", "Content-Type: application/json", "-d",
               json.dumps({"model": server.model, "input": "curl"}), f"{server.endpoint}/v1/embeddings"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("200")


@pytest.mark.skipif(shutil.which("javac") is None, reason="no JDK")
def test_javas_own_client(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "Ask.java"
    source.write_text(JAVA, encoding="utf-8")
    body = json.dumps({"model": server.model, "input": "来自 Java"})
    command = ["java", "-Dfile.encoding=UTF-8", str(source), f"{server.endpoint}/v1/embeddings", body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["200", "true"] * 3


def test_our_routes_stand_in_the_servers_own_document(server: Server) -> None:
    document = requests.get(f"{server.endpoint}/openapi.json", timeout=60).json()
    assert {"/v1/embeddings", "/slo/livez", "/slo/api/window", "/slo/api/control"} <= document["paths"].keys()
