"""Artifacts in a bucket of an object store, by obstore.

    PREFIX/ID/abcdef…               a content of an execution, by its SHA-256

The rule that must not be broken: an object belongs to one execution, so no count of references is
needed to delete it. Equal contents of two executions are two objects.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goflow.artifacts.base import Artifacts, check_place, lost, pieces, temporary_address
from goflow.core.result import Artifact
from goflow.errors import StoreUnavailable


class BucketArtifacts(Artifacts):
    """Implements `Artifacts` at a URL such as `s3://bucket/prefix`. Credentials and region are
    those that obstore finds in the environment. Attempts make their files in a local folder."""

    def __init__(self, address: str, limit: int) -> None:
        super().__init__(address, limit)
        import obstore
        from obstore.store import LocalStore, from_url

        self._obstore: Any = obstore
        self._bucket: Any
        if address.startswith("file://"):
            self._bucket = LocalStore.from_url(address, automatic_cleanup=True, mkdir=True)
        else:
            self._bucket = from_url(address)
        self._local = Path(temporary_address())

    @property
    def work(self) -> Path:
        return self._local

    def keep(self, execution: str, name: str, body: bytes) -> Artifact:
        self.check_size(name, len(body))
        sha256 = hashlib.sha256(body).hexdigest()
        check_place(execution, sha256)
        self._put(f"{execution}/{sha256}", body)
        return Artifact(name, len(body), sha256)

    def keep_file(self, execution: str, name: str, path: Path) -> Artifact:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for piece in pieces(file):
                digest.update(piece)
            sha256, size = digest.hexdigest(), file.tell()
            self.check_size(name, size)
            check_place(execution, sha256)
            file.seek(0)
            self._put(f"{execution}/{sha256}", file)
        path.unlink()
        return Artifact(name, size, sha256)

    def chunks(self, execution: str, artifact: Artifact) -> Iterator[bytes]:
        check_place(execution, artifact.sha256)
        try:
            found = self._obstore.get(self._bucket, f"{execution}/{artifact.sha256}")
        except FileNotFoundError:
            raise lost(artifact) from None
        except Exception as error:  # obstore has exceptions of its own
            raise StoreUnavailable(f"{self.address}: {error}") from error
        for piece in found.stream():
            yield bytes(piece)

    def executions(self) -> Iterator[str]:
        found = self._obstore.list_with_delimiter(self._bucket)
        for prefix in found["common_prefixes"]:
            yield str(prefix).strip("/").rpartition("/")[2]

    def forget(self, execution: str) -> None:
        check_place(execution, "0" * 64)
        for page in self._obstore.list(self._bucket, prefix=f"{execution}/"):
            paths = [one["path"] for one in page]
            if paths:
                self._obstore.delete(self._bucket, paths)

    def close(self) -> None:
        shutil.rmtree(self._local, ignore_errors=True)

    def _put(self, path: str, content: Any) -> None:
        try:
            self._obstore.put(self._bucket, path, content)
        except OSError:
            raise
        except Exception as error:  # obstore has exceptions of its own
            raise OSError(f"{self.address}: {error}") from error
