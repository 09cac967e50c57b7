"""gql, the Python client: the schema by introspection, a query by it, a refusal, and a subscription over a WebSocket."""

import asyncio
import sys

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportQueryError

url = sys.argv[1]
key = sys.argv[2] if len(sys.argv) > 2 else None
headers = {"Authorization": f"Bearer {key}"} if key else {}


async def main():
    async with Client(transport=AIOHTTPTransport(url=url, headers=headers), fetch_schema_from_transport=True) as http:
        assert http.client.schema.query_type.fields["viewer"]
        answer = await http.execute(gql("{ viewer { role } records { totalCount } }"))
        assert answer["viewer"]["role"] == "ADMIN", answer
        try:
            await http.execute(gql('mutation { createGoal(input: { name: "" }) { goal { id } } }'))
            raise AssertionError("an empty name was taken")
        except TransportQueryError as err:
            assert err.errors[0]["extensions"]["code"] == "BAD_USER_INPUT", err
            assert err.errors[0]["extensions"]["field"] == "name", err
        # Not its WebsocketsTransport: that one looks for `Sec-WebSocket-Protocol` in these very capitals (gql 4.0.0), while
        # names of headers have no case, and hyper writes them small.
        ws = AIOHTTPWebsocketsTransport(
            url=url.replace("http", "ws", 1),
            subprotocols=["graphql-transport-ws"],
            init_payload=headers,
            ping_interval=0.2,
        )
        async with Client(transport=ws) as socket:
            events = socket.subscribe(gql('subscription { events(filter: { kinds: ["record.created"] }) { cursor recordId } }'))
            first = asyncio.ensure_future(anext(events))
            made = []
            while not first.done():
                record = await http.execute(gql('mutation { createRecord(input: { kind: "lead", name: "By Python" }) { record { id } } }'))
                made.append(record["createRecord"]["record"]["id"])
            assert first.result()["events"]["recordId"] in made
    print("gql works")


asyncio.run(asyncio.wait_for(main(), 60))
