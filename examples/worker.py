#!/usr/bin/env python3
"""An agent outside, complete: claims steps, works on them, renews its leases meanwhile, and settles.

    SORTIE_URL=http://127.0.0.1:8080/graphql SORTIE_KEY=sortie_… python3 examples/worker.py

It needs a key of the role WORKER that belongs to an agent (`sortie key create --role WORKER --agent email-drafter …`) and
the client `gql` with `requests` (`pip install 'gql[requests]'`). Kill it at any time: what it held is claimed
again when its lease has run out, and what it brings too late is refused.

WORKER_ONCE=1 ends it when there is nothing to do; WORKER_SLOW=seconds lets each step take so long.
"""

import os
import socket
import sys
import threading
import time

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportQueryError
from gql.transport.requests import RequestsHTTPTransport

URL = os.environ.get("SORTIE_URL", "http://127.0.0.1:8080/graphql")
KEY = os.environ.get("SORTIE_KEY", "")
ONCE = bool(os.environ.get("WORKER_ONCE"))
SLOW = float(os.environ.get("WORKER_SLOW", "0"))
NAME = f"{socket.gethostname()}-{os.getpid()}"
LEASE = int(os.environ.get("WORKER_LEASE", "30"))

CLAIM = """
    mutation Claim($worker: String!, $lease: Int!) {
      claimSteps(input: { worker: $worker, limit: 10, leaseSeconds: $lease }) {
        steps { id token key type attempt config context }
      }
    }
"""
RENEW = """
    mutation Renew($steps: [HeldStepInput!]!, $lease: Int!) {
      renewSteps(input: { steps: $steps, leaseSeconds: $lease }) { steps { id lost } }
    }
"""
COMPLETE = """
    mutation Complete($id: ID!, $token: String!, $result: JSON!) {
      completeStep(input: { id: $id, token: $token, result: $result }) { step { id status } }
    }
"""
FAIL = """
    mutation Fail($id: ID!, $token: String!, $why: String!) {
      failStep(input: { id: $id, token: $token, reason: $why, retryable: true }) { step { id status } }
    }
"""


def client():
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    return Client(transport=RequestsHTTPTransport(url=URL, headers=headers, retries=3))


def ask(session, document, **variables):
    return session.execute(GraphQLRequest(document, variable_values=variables))


def work(step):
    """The work itself. Here: a mail from what the context shows of the step's record."""
    time.sleep(SLOW)
    context = step["context"] or {}
    name = (context.get("record") or {}).get("name", "there")
    goal = ((context.get("run") or {}).get("campaign") or {}).get("goal") or {}
    tone = step["config"].get("tone", "short")
    opening = f"Dear {name}," if tone == "short" else f"Dear {name}, I hope this finds you well."
    return {
        "subject": f"{goal.get('name', 'A word')}, {name}?",
        "body": f"{opening}\n\nMay I show you what we do? {goal.get('description', '')}\n",
    }


class Leases:
    """Renews what is held, beside the work, until it is settled."""

    def __init__(self):
        self.held, self.lock = {}, threading.Lock()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        session = client()
        while True:
            time.sleep(LEASE / 3)
            with self.lock:
                steps = [{"id": id, "token": token} for id, token in self.held.items()]
            if steps:
                answer = ask(session, RENEW, steps=steps, lease=LEASE)
                for one in answer["renewSteps"]["steps"]:
                    if one["lost"]:
                        self.drop(one["id"])

    def take(self, step):
        with self.lock:
            self.held[step["id"]] = step["token"]

    def drop(self, id):
        with self.lock:
            self.held.pop(id, None)

    def has(self, id):
        with self.lock:
            return id in self.held


def main():
    session, leases = client(), Leases()
    while True:
        answer = ask(session, CLAIM, worker=NAME, lease=LEASE)
        steps = answer["claimSteps"]["steps"]
        for step in steps:
            leases.take(step)
        for step in steps:
            print(f"holds {step['id']}", flush=True)
            if not leases.has(step["id"]):
                continue
            held = {"id": step["id"], "token": step["token"]}
            try:
                result = work(step)
                ask(session, COMPLETE, **held, result=result)
                print(f"completed {step['id']}", flush=True)
            except TransportQueryError as refused:
                print(f"refused {step['id']}: {refused}", file=sys.stderr, flush=True)
            except Exception as failed:  # whatever went wrong with the work is told, and tried again
                ask(session, FAIL, **held, why=str(failed) or "failed")
            finally:
                leases.drop(step["id"])
        if not steps:
            if ONCE:
                return
            time.sleep(1)


if __name__ == "__main__":
    main()
