"""ae-redis beside redis-py: 100-deep pipelines, SET and GET in turn, against one redis-server.

    python bench.py [--seconds S] [--rounds N] [--depth D] [--json] [--readme]

Needs redis-server, and ``redis[hiredis]`` for the others. The contestants take turns, each in a
process of its own, and the medians of the rounds are compared, commands per second of the client's
processor: others may want the machine. On Linux the server has one processor and the client
another, where there are two. ``--readme`` writes the table into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from turns import MISSING, medians, put_into_readme

VALUE = b"v" * 32


def ae_callback(port: int, depth: int, seconds: float) -> float:
    """Commands queued one by one, the next hundred from the callback of the last reply."""
    import ae_core as ae
    from ae_redis import Redis

    redis = Redis(port=port)
    keys = keys_for(depth)
    done = ae.CondVar[float]()
    count, started = 0, time.process_time()

    def batch() -> None:
        last = None
        for key in keys:
            redis.set(key, VALUE)
            last = redis.get(key)
        assert last is not None
        last.on_ready(answered)

    def answered(reply: ae.CondVar[Any]) -> None:
        nonlocal count
        assert reply.recv() == VALUE
        count += depth
        elapsed = time.process_time() - started
        if elapsed < seconds:
            batch()
        else:
            done.send(count / elapsed)

    batch()
    rate = done.recv()
    redis.close()
    return rate


def ae_await(port: int, depth: int, seconds: float) -> float:
    """Commands queued one by one, each reply awaited."""
    import ae_core as ae
    from ae_redis import Redis

    async def main() -> float:
        with Redis(port=port) as redis:
            keys = keys_for(depth)
            count, started = 0, time.process_time()
            while time.process_time() - started < seconds:
                replies = []
                for key in keys:
                    replies.append(redis.set(key, VALUE))
                    replies.append(redis.get(key))
                for reply in replies:
                    await reply
                assert await replies[-1] == VALUE
                count += depth
            return count / (time.process_time() - started)

    return ae.run(main())


def ae_pipeline(port: int, depth: int, seconds: float) -> float:
    """An explicit pipeline, awaited: what redis-py's users write."""
    import ae_core as ae
    from ae_redis import Redis

    async def main() -> float:
        with Redis(port=port) as redis:
            keys = keys_for(depth)
            count, started = 0, time.process_time()
            while time.process_time() - started < seconds:
                pipeline = redis.pipeline()
                for key in keys:
                    pipeline.set(key, VALUE)
                    pipeline.get(key)
                assert (await pipeline.execute())[-1] == VALUE
                count += depth
            return count / (time.process_time() - started)

    return ae.run(main())


def ae_asyncio(port: int, depth: int, seconds: float) -> float:
    """The same, with asyncio as the loop."""
    import ae_core as ae

    ae.use("asyncio")
    return ae_pipeline(port, depth, seconds)


def redis_py_asyncio(port: int, depth: int, seconds: float) -> float:
    """redis-py's asyncio client."""
    import asyncio

    import redis.asyncio

    async def main() -> float:
        client = redis.asyncio.Redis(host="127.0.0.1", port=port)
        keys = keys_for(depth)
        count, started = 0, time.process_time()
        while time.process_time() - started < seconds:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.set(key, VALUE)
                pipeline.get(key)
            assert (await pipeline.execute())[-1] == VALUE
            count += depth
        rate = count / (time.process_time() - started)
        await client.aclose()
        return rate

    return asyncio.run(main())


def redis_py_sync(port: int, depth: int, seconds: float) -> float:
    """redis-py's blocking client, with the parser in C."""
    import hiredis
    import redis

    assert hiredis.Reader
    client = redis.Redis(host="127.0.0.1", port=port)
    keys = keys_for(depth)
    count, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.set(key, VALUE)
            pipeline.get(key)
        assert pipeline.execute()[-1] == VALUE
        count += depth
    rate = count / (time.process_time() - started)
    client.close()
    return rate


CONTESTANTS: dict[str, tuple[Callable[[int, int, float], float], str]] = {
    "ae-redis callback": (ae_callback, "ae_redis"),
    "ae-redis await": (ae_await, "ae_redis"),
    "ae-redis pipeline, await": (ae_pipeline, "ae_redis"),
    "ae-redis pipeline, asyncio": (ae_asyncio, "ae_redis"),
    "redis-py asyncio": (redis_py_asyncio, "redis"),
    "redis-py sync, hiredis": (redis_py_sync, "hiredis"),
}


def keys_for(depth: int) -> list[bytes]:
    return [b"key:%d" % number for number in range(depth // 2)]


def processors() -> list[int]:
    """Return the processors there are for the client and the server, or none if only one."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    found = sorted(os.sched_getaffinity(0))
    return found[:2] if len(found) > 1 else []


def pinned(command: list[str], which: int) -> list[str]:
    cores = processors()
    if not cores or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(cores[which]), *command]


def start_server(directory: str) -> tuple[subprocess.Popen[str], int]:
    """Start a redis-server on a free port; return it when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    volatile = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", directory]
    command = pinned(["redis-server", "--port", str(port), *volatile], 1)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if "ready to accept" in line.lower():
            return server, port
    raise SystemExit("redis-server does not start")


def table(rates: dict[str, float]) -> str:
    """Return a table, with what each is in comparison to redis-py."""
    theirs = [name for name in rates if name.startswith("redis-py")]
    rows = [
        "".join(f"| {head} " for head in ("", "commands/s", *(f"x {name}" for name in theirs))),
        "|---" + "|---:" * (1 + len(theirs)),
    ]
    for name, rate in rates.items():
        ratios = "".join(f" | {rate / rates[other]:.2f}" for other in theirs)
        rows.append(f"| {name} | {rate:,.0f}{ratios} ")
    return "\n".join(f"{row}|" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=100, help="commands in a pipeline, even")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    parser.add_argument("--one", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run, library = CONTESTANTS[options.one]
        try:
            __import__(library)
        except ImportError:
            return MISSING
        run(options.port, options.depth, min(0.1, options.seconds))  # warm
        print(run(options.port, options.depth, options.seconds))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        server, port = start_server(directory)
        words = ["--port", port, "--depth", options.depth, "--seconds", options.seconds, "--one"]
        command = [sys.executable, __file__, *map(str, words)]
        try:
            rates = medians(CONTESTANTS, options.rounds, pinned(command, 0))
        finally:
            server.kill()
            server.communicate()
    text = table(rates)
    print(json.dumps(rates) if options.json else text)
    if options.readme:
        put_into_readme(text, __file__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
