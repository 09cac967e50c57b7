#!/usr/bin/env python3
"""A complete external worker: it claims steps, works on them, renews its leases, and reports the outcomes. It needs Python
3.9 or later and nothing else.

    SORTIE_AGENT=email-drafter python3 examples/worker.py        # development mode: no key, the agent is named
    SORTIE_KEY=sortie_... python3 examples/worker.py             # a key of the role WORKER belongs to an agent

Kill it at any time: its steps can be claimed again when their leases have expired, and late results are refused.

SORTIE_URL      the endpoint, http://127.0.0.1:4000/graphql unless set
WORKER_ONCE=1   end when there is nothing to do
WORKER_SLOW=2   take that many seconds for each step
WORKER_LEASE=30 seconds to hold a step before it is renewed
"""

import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

URL = os.environ.get("SORTIE_URL", "http://127.0.0.1:4000/graphql")
KEY = os.environ.get("SORTIE_KEY", "")
AGENT = os.environ.get("SORTIE_AGENT") or None
ONCE = bool(os.environ.get("WORKER_ONCE"))
SLOW = float(os.environ.get("WORKER_SLOW", "0"))
NAME = f"{socket.gethostname()}-{os.getpid()}"
LEASE = int(os.environ.get("WORKER_LEASE", "30"))

CLAIM = """
    mutation Claim($agent: String, $worker: String!, $lease: Int!) {
      claimSteps(input: { agent: $agent, worker: $worker, limit: 10, leaseSeconds: $lease }) {
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


class Refused(Exception):
    """The server has answered, and refuses."""


def ask(document, **variables):
    """The data of an answer. Tries again while the server is away; raises Refused for what it refuses."""
    body = json.dumps({"query": document, "variables": variables}).encode()
    headers = {"content-type": "application/json", "accept": "application/json"}
    if KEY:
        headers["authorization"] = f"Bearer {KEY}"
    pause = 0.5
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=60) as response:
                answer = json.load(response)
            break
        except urllib.error.HTTPError as err:
            text = err.read().decode(errors="replace")
            if err.code < 500:
                raise Refused(text) from err
            print(f"the server answers {err.code}, trying again: {text}", file=sys.stderr, flush=True)
        except OSError as err:
            print(f"no answer from {URL}, trying again: {err}", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(pause * 2, 30)
    if answer.get("errors"):
        raise Refused("; ".join(error["message"] for error in answer["errors"]))
    return answer["data"]


def work(step):
    """The work itself. Here: a mail, or the class of a ticket, from what the agent's context shows of the step."""
    time.sleep(SLOW)
    context = step["context"] or {}
    record = context.get("record") or {}
    if step["type"] == "classify":
        amount = (record.get("attributes") or {}).get("amount", 0)
        return {"kind": "refund" if amount else "question", "amount": amount}
    goal = ((context.get("run") or {}).get("campaign") or {}).get("goal") or {}
    name = record.get("name") or "there"
    tone = (step["config"] or {}).get("tone", "short")
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
        while True:
            time.sleep(LEASE / 3)
            with self.lock:
                steps = [{"id": id, "token": token} for id, token in self.held.items()]
            if not steps:
                continue
            try:
                answer = ask(RENEW, steps=steps, lease=LEASE)
            except Refused as refused:
                # Settled meanwhile; what is still held is renewed in the next round.
                print(f"renew: {refused}", file=sys.stderr, flush=True)
                continue
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
    leases = Leases()
    while True:
        try:
            answer = ask(CLAIM, agent=AGENT, worker=NAME, lease=LEASE)
        except Refused as refused:
            sys.exit(f"refused: {refused}")
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
                ask(COMPLETE, **held, result=result)
                print(f"completed {step['id']}", flush=True)
            except Refused as refused:
                print(f"refused {step['id']}: {refused}", file=sys.stderr, flush=True)
            except Exception as failed:  # the work has failed: the step is tried again after a pause
                print(f"failed {step['id']}: {failed!r}", file=sys.stderr, flush=True)
                try:
                    ask(FAIL, **held, why=str(failed) or type(failed).__name__)
                except Refused as refused:
                    print(f"refused {step['id']}: {refused}", file=sys.stderr, flush=True)
            finally:
                leases.drop(step["id"])
        if not steps:
            if ONCE:
                return
            time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
