"""Files behind a URL: `s3://` by boto3, `https://` by httpx; every answer is checked, every failure is said in words.

What another try may mend (a dropped connection, a server that is busy or says nothing) is a `TransientError`, and `patiently`
tries it again, a bounded number of times; what no further try mends (no such bucket, no permission) is an `InputError`.
Connections follow the usual settings: ``AWS_*`` variables and profiles for s3, proxies and ``~/.netrc`` for https.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

from data_manifests.errors import InputError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

SCHEMES = ("https", "http", "s3")
TRIES = 6
FIRST_PAUSE_S = 0.1
"""Doubles with each try."""
CONNECT_S, ANSWER_S = 10.0, 30.0
"""How long a server may take to accept a connection, and to send the next bytes."""
CONNECTIONS = 16
_BLOCK_BYTES = 1 << 20
_NOT_ALLOWED = ("AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_OTHER_REGION = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL.

    Attributes:
        url: Its URL.
        size_bytes: Its size.
        tag: The server's ETag, which changes with the content; empty where the server gives none.
        mtime_s: When it was last changed; 0 where the server does not say.
    """

    url: str
    size_bytes: int
    tag: str = ""
    mtime_s: int = 0


class TransientError(Exception):
    """An answer that another try may mend; the text says what was wrong."""


class MissingFileError(FileNotFoundError):
    """There is no such file behind the URL."""


class RemoteStore(Protocol):
    """Files behind URLs of one scheme.

    Raises (all methods):
        InputError: what no further try mends.
        MissingFileError: there is no such file.
        TransientError: anything else.
    """

    def describe(self, url: str) -> RemoteFile:
        """Return a file's size, tag and time."""

    def below(self, url: str) -> Iterator[RemoteFile]:
        """Yield the files whose URLs begin with `url`, sorted."""

    def open(self, file: RemoteFile, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return the file's bytes from `offset` on, and where they really begin: 0 where the server cannot do otherwise."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL that `remote_store` can open."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def remote_store(url: str) -> RemoteStore:
    """Return what reads a URL.

    Raises:
        InputError: another kind of URL, one with a password or a query in it, or a package is missing.
    """
    if not is_url(url):
        raise InputError(
            f"{url!r} is not a URL that can be read", allowed=", ".join(f"{name}://..." for name in SCHEMES)
        )
    parts = urlsplit(url)
    if "@" in parts.netloc or not parts.netloc:
        what = "has a user or a password in it" if "@" in parts.netloc else "names no server or bucket"
        raise InputError(
            f"{url.partition('://')[0]}://{parts.netloc.rpartition('@')[2]}{parts.path}: the URL {what}",
            allowed="s3://BUCKET/PATH or https://HOST/PATH; it is recorded, so it holds no secret",
            fix="put secrets into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or into ~/.netrc",
        )
    return s3_store() if parts.scheme == "s3" else _http_store()


def patiently(what: str, work: Callable[[], T]) -> T:
    """Return what `work` returns; after a `TransientError` it is called again, with pauses that double.

    Raises:
        InputError: it failed `TRIES` times.
    """
    why = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            return work()
        except TransientError as error:
            why = str(error)
    raise given_up(what, why)


def given_up(what: str, why: str, allowed: str = "a server that answers", fix: str = "") -> InputError:
    """Return the error that there was no right answer in all tries."""
    return InputError(
        f"{what}: no right answer in {TRIES} tries, the last: {why}",
        allowed=allowed,
        fix=fix or "look at the server or the network, then run the same command again; what is here already is kept",
    )


class S3Store:
    """Reads ``s3://BUCKET/KEY``.

    Without credentials requests are not signed, which public buckets answer.
    """

    def __init__(self) -> None:
        try:
            import boto3
            import botocore
            from botocore.config import Config
        except ImportError as error:
            raise InputError(f"s3://: {error}", fix="pip install 'clipcurate[remote]'") from None
        with self._said("s3://"):
            session = boto3.Session()
            self._is_signed = session.get_credentials() is not None
            config = Config(
                connect_timeout=CONNECT_S,
                read_timeout=ANSWER_S,
                retries={"total_max_attempts": 1},  # `patiently` counts the tries
                max_pool_connections=CONNECTIONS,
                **({} if self._is_signed else {"signature_version": botocore.UNSIGNED}),
            )
            region = session.region_name or "us-east-1"
            self._client = session.client("s3", config=config, region_name=region)

    def describe(self, url: str) -> RemoteFile:
        """Return a file's size, tag and time."""
        bucket, key = _bucket_and_key(url)
        try:
            with self._said(url):
                found = self._client.head_object(Bucket=bucket, Key=key)
        except MissingFileError:
            with self._said(url):  # such an answer does not say whether there is a bucket
                self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
            raise
        time_s = int(found["LastModified"].astimezone(UTC).timestamp())
        return RemoteFile(url, int(found["ContentLength"]), found["ETag"].strip('"'), time_s)

    def below(self, url: str) -> Iterator[RemoteFile]:
        """Yield the files whose URLs begin with `url`, sorted; a thousand with each request."""
        bucket, prefix = _bucket_and_key(url)
        options: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            found = patiently(url, lambda options=options: self._listed(url, options))  # type: ignore[misc]
            for item in found.get("Contents", ()):
                time_s = int(item["LastModified"].astimezone(UTC).timestamp())
                yield RemoteFile(f"s3://{bucket}/{item['Key']}", int(item["Size"]), item["ETag"].strip('"'), time_s)
            if not found.get("IsTruncated"):
                return
            options = {**options, "ContinuationToken": found["NextContinuationToken"]}

    def open(self, file: RemoteFile, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return the file's bytes from `offset` on, if it is still the same file."""
        bucket, key = _bucket_and_key(file.url)
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        with self._said(file.url):
            body = self._client.get_object(Bucket=bucket, Key=key, IfMatch=f'"{file.tag}"', **asked)["Body"]
        return offset, self._blocks(file.url, body)

    def size(self, path: str) -> int:
        """Return a file's size."""
        return self.describe(path).size_bytes

    def cat_ranges(
        self, paths: Sequence[str], starts: Sequence[int], ends: Sequence[int], **_: Any
    ) -> list[bytes | Exception]:
        """Return byte ranges, requested at once, as file systems of fsspec do; errors take the place of bytes."""
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            return list(threads.map(self._range, paths, starts, ends))

    def _range(self, url: str, first: int, end: int) -> bytes | Exception:
        bucket, key = _bucket_and_key(url)
        try:
            with self._said(url):
                answer = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes={first}-{end - 1}")
                data: bytes = answer["Body"].read()
                return data
        except (InputError, OSError, TransientError) as error:
            return error

    def _listed(self, url: str, options: dict[str, Any]) -> dict[str, Any]:
        with self._said(url):
            found: dict[str, Any] = self._client.list_objects_v2(**options)
        return found

    def _blocks(self, url: str, body: Any) -> Iterator[bytes]:
        with self._said(url):
            yield from iter(lambda: body.read(_BLOCK_BYTES), b"")

    @contextmanager
    def _said(self, url: str) -> Iterator[None]:
        """Turn boto's errors into ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            answer = error.response.get("Error", {})
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            self._raise(url, str(answer.get("Code", status)), status, str(answer.get("Message", "")))
        except (BotoCoreError, OSError) as error:
            if isinstance(error, MissingFileError):
                raise
            name = type(error).__name__
            if (
                "Credential" in name
                or "Profile" in name
                or "Region" in name
                or name in ("InvalidEndpoint", "ParamValidationError")
            ):
                raise InputError(
                    f"{url}: {error}",
                    allowed="settings as the AWS tools take them",
                    fix="correct AWS_PROFILE, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION or the files in ~/.aws",
                ) from None
            raise TransientError(f"{name}: {error}") from None

    def _raise(self, url: str, code: str, status: int, message: str) -> NoReturn:
        """Raise the error that an answer of the server means."""
        bucket, _ = _bucket_and_key(url)
        if code == "NoSuchBucket":
            raise InputError(
                f"{url}: there is no bucket '{bucket}'" + _endpoint(self._client.meta.endpoint_url),
                fix="check the name, and AWS_ENDPOINT_URL where the server is not Amazon's",
            ) from None
        if status == 404:
            raise MissingFileError(f"{url}: no such object")
        if status in (401, 403) or code in _NOT_ALLOWED:
            with_what = "with the credentials found here" if self._is_signed else "and no credentials were found here"
            raise InputError(
                f"{url}: the server refuses it ({status} {code}) {with_what}" + (f": {message}" if message else ""),
                allowed="an object or bucket that these credentials may use; the server may also say so of one that is not there",
                fix="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and check the URL",
            ) from None
        if code in _OTHER_REGION or status == 301:
            raise InputError(
                f"{url}: the bucket is in another region ({code})", fix="set AWS_DEFAULT_REGION to the bucket's region"
            ) from None
        if status == 412 or code == "PreconditionFailed":
            raise TransientError("it changed meanwhile") from None
        if 400 <= status < 500 and status not in (408, 409, 429):
            raise InputError(f"{url}: the server answers {status} {code}: {message}", fix="check the URL") from None
        raise TransientError(f"{status} {code}: {message}") from None


class _HttpStore:
    """Reads ``https://`` and ``http://``."""

    def __init__(self) -> None:
        import httpx

        limits = httpx.Limits(max_connections=CONNECTIONS)
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        headers = {"Accept-Encoding": "identity"}
        self._client = httpx.Client(timeout=timeout, limits=limits, follow_redirects=True, headers=headers)

    def describe(self, url: str) -> RemoteFile:
        """Return a file's size, tag and time."""
        with self._said():
            answer = self._client.head(url)
            if answer.status_code in (405, 501) or "content-length" not in answer.headers:
                with self._client.stream("GET", url, headers={"Range": "bytes=0-0"}) as answer:
                    pass
        _check_status(url, answer)
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        size = total if total.isdecimal() else answer.headers.get("content-length", "")
        if not size.isdecimal():
            raise InputError(
                f"{url}: the server does not say how large it is",
                allowed="a server of files, which sends Content-Length",
                fix="download the file and name it by its path",
            )
        tag = answer.headers.get("etag", "")
        return RemoteFile(url, int(size), tag, _http_time(answer.headers.get("last-modified", "")))

    def below(self, url: str) -> Iterator[RemoteFile]:
        """Raise an error: there is no list of files behind https."""
        raise InputError(
            f"{url}: https:// has no list of files",
            allowed="URLs of files: https://HOST/{00000..00003}.tar, or several joined by ::",
            fix="name the files, or give s3://BUCKET/FOLDER",
        )

    def open(self, file: RemoteFile, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return the file's bytes from `offset` on; from the start where it changed or the server sends no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and file.tag and not file.tag.startswith("W/"):
            headers["If-Range"] = file.tag
        request = self._client.build_request("GET", file.url, headers=headers)
        with self._said():
            answer = self._client.send(request, stream=True)
        try:
            _check_status(file.url, answer)
        except BaseException:
            answer.close()
            raise
        return (offset if answer.status_code == 206 else 0), self._blocks(answer)

    def _blocks(self, answer: httpx.Response) -> Iterator[bytes]:
        try:
            with self._said():
                yield from answer.iter_raw()
        finally:
            answer.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn httpx's errors into ours."""
        import httpx

        try:
            yield
        except httpx.TimeoutException:
            raise TransientError(f"no answer within {ANSWER_S:.0f} s") from None
        except httpx.TransportError as error:
            raise TransientError(f"{type(error).__name__}: {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(f"{error}", allowed="https://HOST/PATH", fix="check the URL") from None


def _check_status(url: str, answer: httpx.Response) -> None:
    """Check that a server has given what was asked for."""
    status = answer.status_code
    if status in (404, 410):
        raise MissingFileError(f"{url}: no such file ({status})")
    if status in (401, 403):
        raise InputError(
            f"{url}: the server refuses it ({status} {answer.reason_phrase})",
            allowed="files that may be read without asking, or with the password of this host in ~/.netrc",
            fix="check the URL and the permissions",
        )
    if status in (408, 425, 429) or status >= 500:
        raise TransientError(f"{status} {answer.reason_phrase}")
    if status >= 300:
        raise InputError(f"{url}: the server answers {status} {answer.reason_phrase}", fix="check the URL")


def _http_time(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except ValueError:
        return 0


def _bucket_and_key(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def _endpoint(url: str) -> str:
    return "" if url.rstrip("/").endswith("amazonaws.com") else f" on {url}"


s3_store = lru_cache(maxsize=1)(S3Store)
"""The connections of this process."""
_http_store = lru_cache(maxsize=1)(_HttpStore)
