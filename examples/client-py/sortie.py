"""The connection to Sortie: the generated client, with requests that are repeated while the server is away, and a
subscription that survives cuts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import httpx
from websockets import ClientConnection, ConnectionClosed, InvalidHandshake

from sortie_api import Client
from sortie_api.async_base_client import Response
from sortie_api.changes import Changes, ChangesRunStatusChanged
from sortie_api.exceptions import GraphQLClientGraphQLMultiError, GraphQLClientHttpError

ATTEMPTS = 20


class Sortie(Client):
    def __init__(self, url: str, key: str | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        ws_url = url.replace("http", "ws", 1)
        super().__init__(url=url, headers=headers, ws_url=ws_url, ws_connection_init_payload=dict(headers))
        self._socket: ClientConnection | None = None

    async def execute(
        self,
        query: str,
        operation_name: str | None = None,
        variables: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Response:
        """Sends a request, again while the server can't be reached or says when to come back. What the server did
        with the first one is unknown, so a mutation needs an idempotency key."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await super().execute(query, operation_name, variables, **kwargs)
            except httpx.TransportError:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(0.5)
                continue
            seconds = retry_after_seconds(response)
            if seconds is None or attempt == ATTEMPTS:
                return response
            await asyncio.sleep(seconds)
        raise AssertionError("the last attempt returns or raises")

    async def follow(self, campaign: str, after: str) -> AsyncGenerator[ChangesRunStatusChanged, None]:
        """The changes of the campaign's runs from behind the cursor `after`, each once, through every temporary end."""
        attempt = 0
        while True:
            try:
                # websockets pings every 20 s, and ends a connection that does not answer.
                items = self.changes(campaign=campaign, after=after, create_connection=self._connection)
                async with aclosing(cast(AsyncGenerator[Changes, None], items)) as open_items:
                    async for item in open_items:
                        attempt, after = 0, item.run_status_changed.cursor
                        yield item.run_status_changed
                # The server completed the operation or closed the socket; there may be more behind the newest cursor.
            except GraphQLClientGraphQLMultiError as err:
                # Temporary ends say where to resume, or when. The reason BEYOND_END means that the database is another
                # one, or was restored: a program that shows data reloads it then, and begins with a new cursor.
                extensions = err.errors[0].extensions or {}
                cursor, seconds = extensions.get("cursor"), extensions.get("retryAfterSeconds")
                if (cursor is None and seconds is None) or attempt == ATTEMPTS:
                    raise
                after = cursor if isinstance(cursor, str) else after
                await asyncio.sleep(seconds if isinstance(seconds, int) else 0)
            except ConnectionClosed as closed:
                # From 4400 on: the key was refused or is no longer valid (4403), or this client is wrong.
                refused = closed.rcvd is not None and closed.rcvd.code >= 4400
                if refused or attempt == ATTEMPTS:
                    raise
            except (OSError, InvalidHandshake):
                if attempt == ATTEMPTS:
                    raise
            attempt += 1
            await asyncio.sleep(min(0.2 * 2**attempt, 2))

    def _connection(self, *args: Any, **kwargs: Any) -> ClientConnection:
        self._socket = ClientConnection(*args, **kwargs)
        return self._socket

    def cut(self) -> None:
        """Cuts the socket without a word, as a network goes away."""
        if self._socket:
            self._socket.transport.abort()


def retry_after_seconds(response: Response) -> float | None:
    """The seconds after which the server wants the request again; none if the response is final."""
    for error in errors_of(response):
        seconds = error.get("extensions", {}).get("retryAfterSeconds")
        if isinstance(seconds, int):
            return seconds
    return None


def errors_of(response: Response) -> list[dict[str, Any]]:
    try:
        body = response.json()
    except ValueError:
        return []
    errors = body.get("errors", []) if isinstance(body, dict) else []
    return errors if isinstance(errors, list) else []


def describe(err: BaseException) -> str:
    """An error in one line, with the server's code and message where it sent them."""
    match err:
        case GraphQLClientGraphQLMultiError():
            return "; ".join(f"{(one.extensions or {}).get('code')}: {one.message}" for one in err.errors)
        case GraphQLClientHttpError(response=httpx.Response() as response):
            told = "; ".join(str(error.get("message")) for error in errors_of(response))
            return f"HTTP status {err.status_code}: {told}"
        case _:
            return str(err) or type(err).__name__
