"""The load generator of serving.py: keep-alive connections that post one body again and again; prints JSON."""

import asyncio
import json
import sys
import time
import zlib
from pathlib import Path


async def connection(
    port: int, path: str, body: bytes, until: float, seconds: list[float], statuses: dict, answers: dict
) -> None:
    """Post until the time is over; a connection that the server closed is opened again."""
    kind = "Host: localhost\r\nContent-Type: application/json"
    head = f"POST {path} HTTP/1.1\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    message, writer = head.encode() + body, None
    while (began := time.perf_counter()) < until:
        sent = False
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
        statuses[status] = statuses.get(status, 0) + 1
        seconds.append(time.perf_counter() - began)


async def main(port: int, path: str, file: str, connections: int, duration: float) -> None:
    """All connections at once."""
    body, seconds, statuses, answers = Path(file).read_bytes(), list[float](), dict[str, int](), dict[int, int]()
    began = time.perf_counter()
    until = began + duration
    given = port, path, body, until, seconds, statuses, answers
    await asyncio.gather(*(connection(*given) for _ in range(connections)))
    took, ranked = time.perf_counter() - began, sorted(seconds)
    at = {f"p{q}": round(ranked[min(len(ranked) - 1, len(ranked) * q // 100)] * 1e3, 2) for q in (50, 99)}
    print(json.dumps({"rate": round(len(seconds) / took, 1), **at, "statuses": statuses, "answers": answers}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
