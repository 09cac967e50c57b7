#!/usr/bin/env python3
"""A stand-in for the warehouse that examples/order-fulfilment.yaml calls: answers each reservation and each shipment, and
is down for the first call, so that a retry can be seen. `python3 examples/warehouse.py 8099` listens on that port."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Warehouse(BaseHTTPRequestHandler):
    calls = 0

    def do_POST(self):
        asked = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        Warehouse.calls += 1
        if Warehouse.calls == 1:
            status, answer = 503, {"error": "down"}
        elif self.headers.get("authorization") != "Bearer let-me-in" and self.path == "/reservations":
            status, answer = 401, {"error": "who are you?"}
        elif self.path == "/reservations":
            status, answer = 201, {"id": f"R-{Warehouse.calls}", "shelf": "B3"}
        else:
            status, answer = 200, {"tracking": f"T-{Warehouse.calls}"}
        print(status, self.path, asked, flush=True)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


try:
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Warehouse).serve_forever()
except KeyboardInterrupt:
    pass
