"""A server that pretends to run a model: completions as a stream, continuous batching, steps that take as long as it is told.

    python pretended_server.py PORT MOST PROMPT_TOKEN_S STEP_S EACH_S

A step of n sequences takes STEP_S + n * EACH_S, and PROMPT_TOKEN_S for each token of the prompts that start in it.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

PORT, MOST = int(sys.argv[1]), int(sys.argv[2])
PROMPT_TOKEN_S, STEP_S, EACH_S = map(float, sys.argv[3:6])
waiting: Queue[tuple[int, int, Queue[bool]]] = Queue()


def run() -> None:
    running: list[tuple[int, Queue[bool]]] = []
    end = time.monotonic()
    while True:
        new = [waiting.get()] if not running else []
        if not running:
            end = max(end, time.monotonic())
        while not waiting.empty() and len(running) + len(new) < MOST:
            new.append(waiting.get())
        end += (STEP_S + len(running) * EACH_S if running else 0) + sum(
            prompt for prompt, _, _ in new
        ) * PROMPT_TOKEN_S
        time.sleep(max(0.0, end - time.monotonic()))  # by the clock, so that lateness does not add up
        running = [(left - 1, out) for left, out in running] + [(output - 1, out) for _, output, out in new]
        for left, out in running:
            out.put(left > 0)
        running = [(left, out) for left, out in running if left > 0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/completions" and asked["stream"] and asked["ignore_eos"]
        if not asked["prompt"]:
            self.send_error(400, "an empty prompt")
            return
        tokens: Queue[bool] = Queue()
        waiting.put((len(asked["prompt"]), asked["max_tokens"], tokens))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        more = True
        while more:
            more = tokens.get()
            self.wfile.write(b'data: {"choices": [{"text": "a"}]}\n\n')
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    threading.Thread(target=run, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
