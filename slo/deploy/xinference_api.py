"""
Xinference's management API, as far as a launch needs it.

The server's own words reach the reader without the actor address that it puts in front of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import orjson
import requests

from slo.errors import BadAnswer, RegisterError, RequestTimeout, ServerFault, Unauthorized, Unreachable
from slo.http import ApiKey, HttpClient, is_ban, refusal

REPLICA_TIMEOUT_S = 300.0  # loading one more copy of the model takes as long as loading the first
Ending = Literal["stopped", "launching", "unknown"]  # what became of an order to stop a model
_UNDER_WAY = re.compile(r"is launching|not found in the model list, uid: .*-rep\d+$")
_ACTOR = re.compile(r"^\[address=[^\]]*\]\s*")


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user who may register and launch models; prints without the password."""

    username: str
    password: str = field(repr=False)
    origin: str


def base_url(endpoint: str) -> str:
    """The address without a trailing `/v1` or `/v1/embeddings`: management has paths of its own."""
    return endpoint.rstrip("/").removesuffix("/embeddings").removesuffix("/v1")


class XinferenceApi:
    """A connection to one Xinference supervisor. Logs in as `account` where the server wants to know who asks."""

    def __init__(
        self, endpoint: str, *, account: Account | None = None, key: ApiKey | None = None, timeout_s: float = 30.0
    ) -> None:
        self.endpoint = base_url(endpoint)
        self.account = account
        self.key = key
        self.timeout_s = timeout_s
        self._logged_in = False
        # Calls are few, and the server waits for idle connections when it stops: leave none behind.
        self._http = HttpClient(timeout_s=timeout_s, headers={"Connection": "close"}, hint="is the server up?")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def workers(self) -> int | None:
        """How many workers are connected; None while nobody answers."""
        try:
            response = self._send("GET", "/status", timeout_s=5.0)
        except (Unreachable, RequestTimeout, BadAnswer):
            return None
        if response.status_code != 200:
            return None
        data = _json(response)
        workers = data.get("workers") if isinstance(data, dict) else None
        return len(workers) if isinstance(workers, dict) else None

    def auth_enabled(self) -> bool:
        """Does the server ask for credentials?"""
        data = self._call("GET", "/v1/cluster/auth")
        return bool(data.get("auth")) if isinstance(data, dict) else False

    def registration(self, name: str) -> dict[str, Any] | None:
        """The model description known under `name`."""
        response = self._authorized("GET", f"/v1/model_registrations/embedding/{quote(name, safe='')}")
        if response.status_code == 400:
            return None
        data = self._checked(response)
        return data if isinstance(data, dict) else None

    def register(self, description: str) -> None:
        """Make the model known, also after a restart."""
        self._order("POST", "/v1/model_registrations/embedding", {"model": description, "persist": True})

    def unregister(self, name: str) -> None:
        """Forget the model; fine if it is not known."""
        self._call("DELETE", f"/v1/model_registrations/embedding/{quote(name, safe='')}")

    def launch(self, body: dict[str, Any]) -> None:
        """Begin to launch a model; `replicas` tells when it is ready."""
        self._order("POST", "/v1/models?wait_ready=false", body)

    def terminate(self, uid: str) -> Ending:
        """Stop a model, if it runs. A launch under way, or one that failed and is being cleared away, stays."""
        response = self._authorized("DELETE", f"/v1/models/{quote(uid, safe='')}")
        if response.status_code == 200:
            return "stopped"
        if response.status_code not in (400, 404):
            self._checked(response)
        # Not found is also said of a replica that no worker has reported yet: the model itself is known, then.
        return "launching" if _UNDER_WAY.search(detail(response)) else "unknown"

    def cancel(self, uid: str) -> None:
        """Give up a launch that is under way; fine if there is none."""
        self._authorized("POST", f"/v1/models/{quote(uid, safe='')}/cancel")

    def replicas(self, uid: str) -> list[dict[str, Any]]:
        """State of every replica of the running or starting model `uid`; empty if there is no such model.

        The server keeps rows of replicas that are no more: they are left out.
        """
        data = self._call("GET", f"/v1/models/instances?model_uid={quote(uid, safe='')}")
        statuses: list[dict[str, Any]] = []
        for instance in data if isinstance(data, list) else []:
            if instance.get("model_uid") != uid or instance.get("status") == "TERMINATED":
                continue
            found = instance.get("replica_statuses") or [{"status": instance.get("status"), "error_message": None}]
            statuses += [replica for replica in found if replica.get("status") != "TERMINATED"]
        return statuses

    def clearing(self, uid: str) -> bool:
        """Has a launch of `uid` failed whose remains the server is still clearing away?

        It does that by name, and would mark a launch that begins meanwhile as failed.
        """
        data = self._call("GET", f"/v1/models/instances?model_uid={quote(uid, safe='')}")
        return any(
            instance.get("model_uid") == uid
            and instance.get("status") == "CREATING"
            and any(replica.get("status") == "ERROR" for replica in instance.get("replica_statuses") or [])
            for instance in (data if isinstance(data, list) else [])
        )

    def add_replica(self, uid: str) -> int:
        """One more replica of a running model, ready when this returns; its number."""
        data = self._call(
            "POST", f"/v1/models/{quote(uid, safe='')}/replicas", {"replica": 1}, timeout_s=REPLICA_TIMEOUT_S
        )
        try:
            return int(data["replica_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise RegisterError(f"{uid}: the server does not say which replica it added") from error

    def remove_replica(self, uid: str, number: int) -> None:
        """Stop one replica of a running model."""
        self._call("DELETE", f"/v1/models/{quote(uid, safe='')}/replicas/{number}")

    def control(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have our extension in the server carry out `order`; what it answered."""
        data = self._call("POST", "/slo/api/control", order)
        return data if isinstance(data, dict) else {}

    def progress(self, uid: str) -> str:
        """What a launch is doing, in a word; empty if the server does not say."""
        data = self._call("GET", f"/v1/models/{quote(uid, safe='')}/progress")
        return str(data.get("stage") or "") if isinstance(data, dict) else ""

    def models(self) -> list[dict[str, Any]]:
        """Running models as `/v1/models` lists them."""
        data = self._call("GET", "/v1/models")
        return list(data.get("data") or []) if isinstance(data, dict) else []

    def engines(self, name: str) -> set[str]:
        """Engines that can run the registered model `name`."""
        return {engine for engine, offer in self._offers(name).items() if isinstance(offer, list)}

    def refusal(self, name: str, engine: str) -> str:
        """Why `engine` cannot run the registered model `name`; empty where the server does not say."""
        offer = self._offers(name).get(engine)
        return offer if isinstance(offer, str) else ""

    def _offers(self, name: str) -> dict[str, Any]:
        """Per engine its parameters, or in their place a string: the reason why it cannot."""
        data = self._call("GET", f"/v1/engines/embedding/{quote(name, safe='')}?enable_virtual_env=false")
        return data if isinstance(data, dict) else {}

    def create_key(self, name: str) -> str:
        """A new API key that may ask every model and nothing else."""
        data = self._call("POST", "/v1/admin/keys", {"name": name, "description": "made by xinference-slo"})
        if not isinstance(data, dict) or not data.get("key"):
            raise RegisterError(f"{self.endpoint}: the server made no API key")
        return str(data["key"])

    def login(self) -> None:
        """Take the account's token for the calls that follow. Raises `Unauthorized` if it is refused."""
        assert self.account is not None  # noqa: S101
        credentials = {"username": self.account.username, "password": self.account.password}
        response = self._send("POST", "/token", credentials)
        if is_ban(response.status_code, detail(response)):
            raise refusal(response, url=self.endpoint, words=detail(response))
        if response.status_code != 200:
            raise Unauthorized(
                f"{self.endpoint}: the login of {self.account.username!r} ({self.account.origin}) failed: "
                f"{detail(response)}",
                url=self.endpoint,
                status=response.status_code,
                hint="set SLO_ADMIN_USER and SLO_ADMIN_PASSWORD to an account that may launch models",
            )
        self._http.session.headers["Authorization"] = f"Bearer {_json(response)['access_token']}"
        self._logged_in = True

    def _call(self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        return self._checked(self._authorized(method, path, body, timeout_s=timeout_s))

    def _order(self, method: str, path: str, body: Any) -> None:
        """A call that asks for something to be done: also a refusal with 5xx is a refusal."""
        try:
            self._call(method, path, body)
        except ServerFault as error:
            raise RegisterError(error.message, hint=error.hint) from error

    def _authorized(
        self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None
    ) -> requests.Response:
        """Ask; on 401 log in (again: a token lives for half an hour) and ask once more."""
        if self.account is None and self.key is not None:
            self._http.session.headers["Authorization"] = f"Bearer {self.key.value}"
        response = self._send(method, path, body, timeout_s=timeout_s)
        if response.status_code == 401 and self.account is not None:
            self.login()
            response = self._send(method, path, body, timeout_s=timeout_s)
        if response.status_code in (401, 403) or is_ban(response.status_code, detail(response)):
            who = self.account.origin if self.account else str(self.key) if self.key else "no credentials"
            hint = "launching needs an administrator: set SLO_ADMIN_USER and SLO_ADMIN_PASSWORD"
            url = f"{self.endpoint}{path}"
            raise refusal(response, url=url, tried=f"tried {who}", key_hint=hint, words=detail(response))
        return response

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout_s: float | None = None,
    ) -> requests.Response:
        return self._http.send(method, f"{self.endpoint}{path}", json=body, timeout_s=timeout_s)

    def _checked(self, response: requests.Response) -> Any:
        if response.status_code >= 500:
            raise ServerFault(
                f"{response.url}: HTTP {response.status_code}: {detail(response)}",
                url=response.url,
                status=response.status_code,
                hint="the server's log has the traceback",
            )
        if response.status_code not in (200, 201):
            raise RegisterError(
                f"{urlsplit(response.url).path}: HTTP {response.status_code}: {detail(response)}",
                hint="is that a Xinference 4.1 server?" if response.status_code == 404 else None,
            )
        return _json(response)


def detail(response: requests.Response) -> str:
    """The server's explanation, in at most 500 characters."""
    data = _json(response)
    text = data.get("detail", data) if isinstance(data, dict) else data if data is not None else response.text
    return _ACTOR.sub("", " ".join(str(text).split()))[:500] or "(no message)"


def _json(response: requests.Response) -> Any:
    try:
        return orjson.loads(response.content)  # deep nesting is an error to it, not the end of the stack
    except ValueError:
        return None
