"""A local object server with Cloud Storage's JSON API.

`gcp-storage-emulator`, extended by what TensorStore needs: the generation of
objects that are read, and writes that are refused if it has changed. It does
not model Google's consistency, credentials and limits.
"""

import contextlib
import http.server
import logging
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import fsspec
import pytest
import tensorstore as ts
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

from tests import ports

FORBIDDEN = "forbidden"  # A bucket without access.
after_write: list[Callable[[], None]] = []  # Called by the server.
served: list[int] = []  # Bytes of objects in each answer.


def _generation(storage: Any, bucket: str, name: str) -> str:
  try:
    return storage.get_file_obj(bucket, name)["generation"]
  except NotFound:
    return "0"


def _complete(patch: pytest.MonkeyPatch) -> None:
  """Add generations to the emulator."""
  download = objects.download
  upload = objects._media_upload

  def read(request: Any, response: Any, storage: Any, *rest: Any) -> None:
    place = request.params["bucket_name"], request.params["object_id"]
    response["X-Goog-Generation"] = _generation(storage, *place)
    download(request, response, storage, *rest)
    served.append(len(response._content))

  def write(request: Any, response: Any, storage: Any) -> None:
    place = request.params["bucket_name"], request.query["name"][0]
    wanted = request.query.get("ifGenerationMatch")
    if wanted and wanted[0] != _generation(storage, *place):
      response.status = HTTPStatus.PRECONDITION_FAILED
      return
    upload(request, response, storage)

  patch.setattr(objects, "download", read)
  patch.setattr(objects, "_media_upload", write)


def _do_not_block(patch: pytest.MonkeyPatch) -> None:
  """Serve connections in threads, and one request at a time."""
  lock = threading.Lock()
  handle = server.Router.handle

  def alone(router: Any, method: Any) -> None:
    asked = router._request_handler
    with lock:
      if f"/b/{FORBIDDEN}/" in asked.path:
        asked.send_error(HTTPStatus.FORBIDDEN)
      else:
        handle(router, method)
    if method in (server.POST, server.PUT):
      for call in list(after_write):
        call()

  patch.setattr(server.Router, "handle", alone)
  patch.setattr(http.server, "HTTPServer", http.server.ThreadingHTTPServer)


def _do_not_ask_for_its_kind(patch: pytest.MonkeyPatch) -> None:
  """Answer what the emulator cannot: whether a bucket has real folders.

  gcsfs asks Google before most operations, and again after each failure. First
  it looks for credentials, which takes a third of a test.
  """
  try:
    from gcsfs import extended_gcsfs as extended
  except ImportError:
    return  # A version that does not ask.

  async def kind(filesystem: Any, bucket: str) -> Any:
    del filesystem, bucket
    return extended.BucketType.NON_HIERARCHICAL

  patch.setattr(extended.ExtendedGcsFileSystem, "_get_bucket_type", kind)


@contextlib.contextmanager
def serving() -> Iterator[None]:
  """Serve `gs://bucket` to this process and its children."""
  import gcsfs

  port = ports.free_port()
  running = server.create_server(
    "127.0.0.1", port, in_memory=True, default_bucket="bucket"
  )
  url = f"http://127.0.0.1:{port}"
  # They report absent objects and missing credentials.
  for name in ("gcsfs", "gcp_storage_emulator", "google.auth"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  with pytest.MonkeyPatch.context() as patch:
    _complete(patch)
    _do_not_block(patch)
    _do_not_ask_for_its_kind(patch)
    patch.setenv("STORAGE_EMULATOR_HOST", url)
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
    patch.setenv("EPATH_USE_TF", "false")
    patch.setenv("NO_GCE_CHECK", "true")  # There are no credentials here.
    gcsfs.GCSFileSystem.clear_instance_cache()
    running.start()
    try:
      yield
    finally:
      running.stop()
      gcsfs.GCSFileSystem.clear_instance_cache()


def everything(folder: str) -> dict[str, bytes]:
  """Return the objects of a folder by their names in it."""
  bucket = fsspec.filesystem("gs")
  bucket.invalidate_cache()
  first = len(folder.removeprefix("gs://")) + 1
  return {name[first:]: bucket.cat_file(name) for name in bucket.find(folder)}


def write(folder: str, objects: dict[str, bytes | None]) -> None:
  """Write objects, or remove them, bypassing all caches of this process."""
  bucket, _, path = folder.removeprefix("gs://").partition("/")
  spec = {"driver": "gcs", "bucket": bucket, "path": f"{path}/"}
  store = ts.KvStore.open(spec).result()
  for name, data in objects.items():
    store.write(name, data).result()
