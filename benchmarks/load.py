"""The load generator of serving.py: keep-alive connections that post one body again and again; prints JSON.

With a rate, so many requests a second begin in all, as long as answers come before each connection's next turn.
"""

import asyncio
import json
import sys
import time
import zlib
from pathlib import Path


async def connection(
    port: int, path: str, body: bytes, until: float, seconds: dict, answers: dict, turn: float, every: float
) -> None:
    """Post until the time is over, every so many seconds; a connection that the server closed is opened again."""
    kind = "Host: localhost\r\nContent-Type: application/json"
    head = f"POST {path} HTTP/1.1\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    message, writer = head.encode() + body, None
    while time.perf_counter() < until:
        await asyncio.sleep(max(0.0, turn - time.perf_counter()))
        began, sent = time.perf_counter(), False
        turn = max(began, turn + every)
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(message)
            await writer.drain()
            sent = True
            answer = await reader.readuntil(b"\r\n\r\n")
            status, headers = answer[9:12].decode(), answer.lower()
            size = headers.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            content = zlib.crc32(await reader.readexactly(int(size)))
            answers[content] = answers.get(content, 0) + 1
            if b"connection: close" in headers:
                writer.close()
                writer = None
        except ConnectionRefusedError:
            return  # the server has gone
        except (OSError, asyncio.IncompleteReadError):
            status, writer = "lost" if sent else "unsent", None
        seconds.setdefault(status, []).append(time.perf_counter() - began)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ranked = sorted(seconds)
    return {f"p{q}": round(ranked[min(len(ranked) - 1, len(ranked) * q // 100)] * 1e3, 2) for q in (50, 99)}


async def main(port: int, path: str, file: str, connections: int, duration: float, rate: float = 0.0) -> None:
    """All connections at once, or one after the other within the time that each has between two requests."""
    body, seconds, answers = Path(file).read_bytes(), dict[str, list[float]](), dict[int, int]()
    began = time.perf_counter()
    every = connections / rate if rate else 0.0
    given = port, path, body, began + duration, seconds, answers
    await asyncio.gather(*(connection(*given, began + every * i / connections, every) for i in range(connections)))
    took, all_of = time.perf_counter() - began, [each for of in seconds.values() for each in of]
    told = {
        "rate": round(len(all_of) / took, 1),
        "mean": round(sum(all_of) / len(all_of) * 1e3, 2),
        **quantiles(all_of),
    }
    told |= {"statuses": {status: len(of) for status, of in seconds.items()}, "answers": answers}
    print(json.dumps(told | {"of": {status: quantiles(of) for status, of in seconds.items()}}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), *map(float, sys.argv[5:])))
