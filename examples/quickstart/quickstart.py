"""Starts the pieces, runs the workload twice, prints the comparison. `run.sh` builds everything and calls this."""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import client
import workload

ENGINES = 4
MODEL = "sim-model"
# One engine's cache holds a third of the tenants' prompts, the fleet's all of them.
KV_EVENTS = ["--kv-events-config",
             '{"enable_kv_cache_events":true,"endpoint":"tcp://*:0","replay_endpoint":"tcp://*:0"}']
ENGINE_FLAGS = ["--num-gpu-blocks", "1800", "--speedup", "2", "--model", MODEL]
START_WITHIN = 60


class Stack:
    """The processes that were started, ended in reverse order, each by its own process id."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, name, *command):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, start_new_session=True)
        self.running.append((name, process))
        return process

    def stop(self):
        while self.running:
            _, process = self.running.pop()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until(self, what, ready):
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            for name, process in self.running:
                if process.poll() is not None:
                    sys.exit(f"{name} ended early; its log:\n{(self.folder / f'{name}.log').read_text()[-3000:]}")
            try:
                if result := ready():
                    return result
            except (OSError, ValueError):
                pass
            time.sleep(0.1)
        tail = "\n".join((self.folder / f"{name}.log").read_text()[-1500:] for name, _ in self.running)
        sys.exit(f"{what} was not ready within {START_WITHIN} s; the end of the logs:\n{tail}")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def start_engines(stack, options):
    ready = stack.folder / "engines.json"
    ready.unlink(missing_ok=True)
    stack.start("vllm-sim", options.binaries / "vllm-sim", "--engines", ENGINES, "--port", 0, "--ready-file", ready,
                *ENGINE_FLAGS, *(KV_EVENTS if options.exact else []))
    return stack.until("vllm-sim", lambda: json.loads(ready.read_text()))


def write_config(stack, options, engines, port):
    ports = {name: free_port() for name in ("grpc", "http", "admin")}
    config = {
        "listen": {name: f"127.0.0.1:{ports[name]}" for name in ("grpc", "http")},
        "pools": [{"name": "quickstart", "explain": True, "discovery": {"static": {"endpoints": engines}}}],
        "gateway": {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{ports['admin']}", "wasm": str(options.wasm),
                    "workers": 2},
    }
    if options.exact:
        tokenizer = stack.folder / "tokenizer"
        subprocess.run([options.binaries / "vllm-sim", "write-tokenizer", tokenizer], check=True)
        config["pools"][0]["exact"] = {"model": str(tokenizer)}
    path = stack.folder / "kvasir.yaml"
    path.write_text(json.dumps(config, indent=2))
    return path, ports


def start_round_robin(stack, options, engines, port):
    """The same Envoy and clusters without the filter: without a steering header they are chosen round robin."""
    config, _ = write_config(stack, options, engines, port)
    rendered = subprocess.run([options.binaries / "kvasir", "envoy", "--config", config], check=True,
                              capture_output=True).stdout
    bootstrap = json.loads(rendered)
    for listener in bootstrap["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [one for one in manager["http_filters"] if one["name"].endswith(".router")]
    path = stack.folder / "round-robin.json"
    path.write_text(json.dumps(bootstrap))
    stack.start("envoy", os.environ["ENVOY_BIN"], "-c", path, "--concurrency", 2, "--use-dynamic-base-id",
                "--log-level", "warn")


def start_kvasir(stack, options, engines, port):
    config, ports = write_config(stack, options, engines, port)
    stack.start("kvasir", options.binaries / "kvasir", "standalone", "--config", config)
    if options.exact:
        stack.until("exact residency", lambda: followed(ports) or None)
    return ports


def published(ports):
    return json.loads(get(f"http://127.0.0.1:{ports['http']}/api/v1/table"))["pools"][0]


def followed(ports):
    prefixes = published(ports)["prefixes"]
    return prefixes["mode"] == "exact" and all(engine["followed"] for engine in prefixes["engines"])


def print_truth(ports):
    """How well the gateway knew what the engines had cached."""
    pool = published(ports)
    counters = pool["counters"]
    responses = max(1, counters["predictions"])
    print(f"\nPrefixes were {pool['prefixes']['mode']} ({pool['prefixes']['reason']}). Predicted against reported cached"
          f" tokens, per response: {counters['overpredicted_tokens'] / responses:.1f} too many,"
          f" {counters['underpredicted_tokens'] / responses:.1f} too few, of"
          f" {counters['prompt_tokens'] / responses:.0f} prompt tokens.")


def measure(stack, name, port, options):
    stack.until("Envoy", lambda: get(f"http://127.0.0.1:{port}/v1/models"))
    best = workload.BestCache()
    users = workload.conversations(seed=7, users=options.users, seconds=options.seconds)
    total = len(users) * workload.TURNS

    def progress(done):
        if sys.stderr.isatty():
            print(f"\r{name}: {done} of {total} requests ", end="", file=sys.stderr, flush=True)
        elif done % 160 == 0:
            print(f"{name}: {done} of {total} requests", file=sys.stderr)

    seen, failures = asyncio.run(
        client.run(("127.0.0.1", port), MODEL, users, best, workload.ANSWER_TOKENS, progress))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return Result(name, seen, failures, best.ratio())


class Result:
    def __init__(self, name, seen, failures, best_ratio):
        ttfts = sorted(one.ttft for one in seen) or [float("nan")]
        self.name = name
        self.requests = len(seen)
        self.failures = failures
        self.p50 = statistics.median(ttfts)
        self.p95 = ttfts[min(len(ttfts) - 1, int(len(ttfts) * 0.95))]
        self.hit_ratio = sum(one.cached_tokens for one in seen) / max(1, sum(one.prompt_tokens for one in seen))
        self.best_ratio = best_ratio
        self.per_pod = sorted(collections.Counter(one.engine for one in seen).values(), reverse=True)

    def row(self):
        return [self.name, str(self.requests), str(len(self.failures)), f"{self.p50 * 1e3:.0f} ms",
                f"{self.p95 * 1e3:.0f} ms", f"{self.hit_ratio:.1%}", f"{self.hit_ratio / self.best_ratio:.1%}",
                " ".join(map(str, self.per_pod))]


def print_table(results):
    head = ["routing", "requests", "failed", "TTFT p50", "TTFT p95", "cache hits", "of the best possible",
            "requests per pod"]
    rows = [head] + [result.row() for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(f"\nThe best possible hit ratio for these requests is {results[-1].best_ratio:.1%}: one cache of the whole fleet,"
          "\nnever full, usable from every pod, that has each prompt the moment it is sent.")


def explain_one(port):
    """One more request, to show why it goes where it goes."""
    messages = workload.conversations(7, 1, 1)[0]
    body = json.dumps({"model": MODEL, "max_tokens": 4,
                       "messages": [*messages.messages, {"role": "user", "content": messages.questions[0]}]})
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body.encode(),
                                     {"content-type": "application/json", "x-kvasir-explain": "1"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        decision = json.loads(answer.headers["x-kvasir-decision"])
    print("\nWhy one request went where it went (x-kvasir-explain: 1; milliseconds, least cost wins):")
    for candidate in decision["candidates"]:
        chosen = {1: "<- chosen", None: ""}.get(candidate.get("choice"), f"fallback {candidate.get('choice', 1) - 1}")
        print("  {endpoint:21} cost {cost_ms:8.1f} = own TTFT {own_ttft_ms:7.1f} + queue {queue_harm_ms:6.1f} + stall "
              "{stall_ms:7.1f} + decode {decode_harm_ms:7.1f} + preemption {preemption_risk_ms:5.1f}   "
              "cached {matched_tokens:6.0f} tokens".format(**candidate), chosen)


def judge(plain, ours):
    """What `--check` asks for."""
    checks = {
        "no request failed": not plain.failures and not ours.failures,
        "TTFT p50 at least 2x lower than round robin": ours.p50 * 2 <= plain.p50,
        "hit ratio at least 95 % of the best possible": ours.hit_ratio >= 0.95 * ours.best_ratio,
        "every pod was used": len(ours.per_pod) == ENGINES,
    }
    for claim, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'} {claim}")
    for failure in (plain.failures + ours.failures)[:5]:
        print(f"     {failure}")
    return all(checks.values())


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("--check", action="store_true", help="verify the result and exit 0 or 1 instead of staying up")
    parser.add_argument("--users", type=int, default=160, help="conversations of 4 turns each (default 160)")
    parser.add_argument("--seconds", type=float, default=16, help="time over which they begin (default 16)")
    parser.add_argument("--exact", action="store_true",
                        help="engines publish KV events, and Kvasir follows them instead of learning from routes")
    parser.add_argument("--binaries", type=pathlib.Path, default="target/debug", help=argparse.SUPPRESS)
    parser.add_argument("--wasm", type=pathlib.Path, default="target/wasm/kvasir_filter.wasm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.wasm = options.wasm.resolve()
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="kvasir-quickstart-") as folder:
        stack = Stack(pathlib.Path(folder))
        try:
            port = free_port()
            start_round_robin(stack, options, start_engines(stack, options), port)
            plain = measure(stack, "round robin", port, options)
            stack.stop()
            port = free_port()
            ports = start_kvasir(stack, options, start_engines(stack, options), port)
            stack.until("Kvasir's table", lambda: get(f"http://127.0.0.1:{port}/v1/models"))
            ours = measure(stack, "Kvasir", port, options)
            print_table([plain, ours])
            time.sleep(1.2)  # what the control plane shows of itself is at most a second old
            print_truth(ports)
            explain_one(port)
            if options.check:
                print()
                return 0 if judge(plain, ours) else 1
            print(f"""
It stays up until Ctrl-C. Try:
  curl -si -H 'x-kvasir-explain: 1' http://127.0.0.1:{port}/v1/chat/completions \\
    -d '{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "hello"}}]}}'
  curl -s http://127.0.0.1:{ports['http']}/api/v1/table            # endpoints, bookings, rates, residency
  curl -s http://127.0.0.1:{ports['http']}/metrics                 # the control plane's metrics
  curl -s http://127.0.0.1:{ports['admin']}/stats/prometheus | grep kvasir   # the filter's
Logs: {folder}""")
            signal.pause()
        except KeyboardInterrupt:
            return 0
        finally:
            stack.stop()


if __name__ == "__main__":
    sys.exit(main())
