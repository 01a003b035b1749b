"""The release server: HTTP over mutual TLS, by aiohttp.

One path, `POST /unwrap`, with a JSON object; see `keyjax.release.releasing`.
Requests that arrive while a batch is written to the disk form the next batch,
so that one write serves all of them.
"""

import asyncio
import contextlib
import functools
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator
from typing import Any

from keyjax.errors import KeyringError
from keyjax.extras import library
from keyjax.keyring.encoding import dump
from keyjax.release.asks import MAX_BODY, Answer, Ask, parse_ask
from keyjax.release.releasing import Releaser

_BATCH = 256
_QUEUE = 1024
_BODY_SECONDS = 10.0
_IDLE_SECONDS = 75.0
_SHUTDOWN_SECONDS = 5.0
_LOG = logging.getLogger("keyjax.release")


@contextlib.asynccontextmanager
async def serving(
  releaser: Releaser, tls: ssl.SSLContext, *, host: str, port: int
) -> AsyncIterator[str]:
  """Serve while the block runs.

  Args:
    releaser: What decides.
    tls: Context of `server_context`.
    host: Address to listen on.
    port: Port, or 0 for a free one.

  Yields:
    The address, `https://HOST:PORT`.

  Raises:
    KeyringError: If aiohttp is not installed.
    OSError: If the address cannot be listened on.
  """
  web = library("aiohttp.web", "release")
  queue = _Batches(releaser)
  app = web.Application(client_max_size=MAX_BODY)
  app.router.add_post("/unwrap", functools.partial(_unwrap, web, queue))
  runner = web.AppRunner(
    app,
    access_log=None,
    keepalive_timeout=_IDLE_SECONDS,
    shutdown_timeout=_SHUTDOWN_SECONDS,
  )
  await runner.setup()
  worker = asyncio.create_task(queue.run())
  try:
    site = web.TCPSite(runner, host, port, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"https://{f'[{host}]' if ':' in host else host}:{port}"
  finally:
    await runner.cleanup()
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
      await worker


class _Batches:
  """Requests that wait for the next batch."""

  def __init__(self, releaser: Releaser):
    self._releaser = releaser
    self._waiting: asyncio.Queue[tuple[Ask, asyncio.Future[Answer]]] = (
      asyncio.Queue(_QUEUE)
    )

  async def answer(self, ask: Ask) -> Answer:
    """Return the answer to a request."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    try:
      self._waiting.put_nowait((ask, future))
    except asyncio.QueueFull:
      return Answer(503, {"error": "too many requests wait"})
    return await future

  async def run(self) -> None:
    """Answer batches for ever, in a thread."""
    loop = asyncio.get_running_loop()
    while True:
      batch = [await self._waiting.get()]
      while len(batch) < _BATCH and not self._waiting.empty():
        batch.append(self._waiting.get_nowait())
      asks = [ask for ask, _ in batch]
      try:
        answers = await loop.run_in_executor(None, self._releaser.answer, asks)
      except Exception as error:  # The next batch may fare better.
        _LOG.error("a batch failed: %s", type(error).__name__)
        answers = [Answer(503, {"error": "the server failed"})] * len(asks)
      for (_, future), answer in zip(batch, answers, strict=True):
        if not future.done():  # The client may have gone.
          future.set_result(answer)


async def _unwrap(web: Any, queue: _Batches, request: Any) -> Any:
  """Answer one request of HTTP."""
  certificate = _certificate(request)
  try:
    async with asyncio.timeout(_BODY_SECONDS):
      body = await request.read()
    answer = await queue.answer(parse_ask(body, certificate))
  except web.HTTPRequestEntityTooLarge:
    answer = Answer(413, {"error": f"a request has at most {MAX_BODY} bytes"})
  except TimeoutError:
    answer = Answer(408, {"error": "the request did not arrive in time"})
  except KeyringError as error:
    answer = Answer(400, {"error": " ".join(str(error).split())})
  return web.Response(
    body=dump(answer.document),
    status=answer.status,
    content_type="application/json",
  )


def _certificate(request: Any) -> str:
  """Return the SHA-256 of the client's certificate, in hexadecimal."""
  connection = request.transport.get_extra_info("ssl_object")
  return hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()
