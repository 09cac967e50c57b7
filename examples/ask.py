#!/usr/bin/env python3
"""Sends an operation to a GraphQL server from the shell. It needs Python 3.9 or later and nothing else.

    ask.py [--key KEY] [--until PATH VALUE] [--get PATH] DOCUMENT [variable=value ...]

Prints the answer's data, or with --get the one value at a path. With --until it asks again until the value at a path is as
wanted, for a minute. A path names fields and places in lists: `campaigns.nodes.0.id`; or, in a list, the first item with a
field of a value: `goals.nodes.name=Book a demo.id`. A variable's value is JSON, or else a text.

SORTIE_URL is the endpoint, http://127.0.0.1:4000/graphql unless set; SORTIE_KEY the key. It waits for
a server that is not up yet, for a minute.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ.get("SORTIE_URL", "http://127.0.0.1:4000/graphql")
MINUTE = 60


def ask(document, variables, key, deadline):
    body = json.dumps({"query": document, "variables": variables}).encode()
    headers = {"content-type": "application/json", "accept": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=MINUTE) as response:
                answer = json.load(response)
            break
        except urllib.error.HTTPError as err:
            sys.exit(f"{URL} answers {err.code}: {err.read().decode(errors='replace')}")
        except OSError as err:
            if time.monotonic() > deadline:
                sys.exit(f"no answer from {URL}: {err}")
            time.sleep(0.2)
    if answer.get("errors"):
        sys.exit("\n".join(f"{error.get('path', '')} {error['message']}" for error in answer["errors"]))
    return answer["data"]


def at(value, path):
    """The value at a path; None where the path leads nowhere."""
    for part in path.split("."):
        if isinstance(value, list) and "=" in part:
            name, wanted = part.split("=", 1)
            value = next((one for one in value if str(one.get(name)) == wanted), None)
        elif isinstance(value, list):
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = (value or {}).get(part)
    return value


def shown(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def main():
    words = argparse.ArgumentParser(description="Asks a GraphQL server from the shell.")
    words.add_argument("--key", default=os.environ.get("SORTIE_KEY"), help="the key to show; SORTIE_KEY unless given")
    words.add_argument("--until", nargs=2, metavar=("PATH", "VALUE"), help="ask again until the value at the path is this")
    words.add_argument("--get", metavar="PATH", help="print the value at this path alone")
    words.add_argument("document")
    words.add_argument("variables", nargs="*", metavar="variable=value")
    said = words.parse_args()
    variables = {}
    for pair in said.variables:
        name, text = pair.split("=", 1)
        try:
            variables[name] = json.loads(text)
        except ValueError:
            variables[name] = text
    deadline = time.monotonic() + MINUTE
    while True:
        data = ask(said.document, variables, said.key, deadline)
        if not said.until or shown(at(data, said.until[0])) == said.until[1]:
            break
        if time.monotonic() > deadline:
            sys.exit(f"waited a minute for {said.until[0]} to be {said.until[1]}:\n{json.dumps(data, indent=2)}")
        time.sleep(0.2)
    if not said.get:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    elif at(data, said.get) is None:
        sys.exit(f"there is nothing at {said.get}:\n{json.dumps(data, indent=2)}")
    else:
        print(shown(at(data, said.get)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
