"""The master secrets: where they come from, and what is refused.

    --secret-file, else $TRICKLES_SECRET, else a file in the state directory, made at first start

Each may hold several, a line each: the first seals, all open (see `transport.keys`).

The last makes a restart transparent without configuration. The file is named after the service, so
that two services on one machine have nothing in common. Nothing here logs or prints a secret, and
none is taken from argv, which every user of the machine can read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from trickles_web.errors import SecretError

SECRET_BYTES = 32
"""Fewest bytes of a secret, and as many as a new one gets."""
LARGEST_FILE = 4096
ENVIRONMENT = "TRICKLES_SECRET"


def load_secrets(
    service: str, secret_file: str | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[bytes, ...]:
    """The secrets of `service`, one made and stored if nobody gave any. Raises SecretError."""
    if secret_file:
        return read_secrets(Path(secret_file))
    if environment.get(ENVIRONMENT):
        return _from_environment(environment[ENVIRONMENT])
    path = state_directory(environment) / file_name(service)
    if not path.exists():
        create_secret(path)
    return read_secrets(path)


def _from_environment(text: str) -> tuple[bytes, ...]:
    secrets = _decoded_lines(text)
    if secrets is None or min(map(len, secrets)) < SECRET_BYTES:
        raise SecretError(
            f"{ENVIRONMENT} must be {SECRET_BYTES} or more bytes in hex or base64; "
            "make one with: openssl rand -hex 32"
        )
    return secrets


def _decoded_lines(text: str) -> tuple[bytes, ...] | None:
    """The secrets of a text that is nothing else."""
    found = [_decode(line) for line in text.split()]
    secrets = tuple(secret for secret in found if secret is not None)
    return secrets if secrets and len(secrets) == len(found) else None


def _decode(text: str) -> bytes | None:
    """Hex or base64 (either alphabet, padding optional); None for anything else."""
    with contextlib.suppress(ValueError):
        return bytes.fromhex(text)
    try:
        padded = text.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """A file's secrets: a line of hex or base64 text each, or else its raw bytes. Raises
    SecretError.

    The descriptor is examined, not the path: what was checked is what is read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SecretError(
            f"{path}: no such secret file; make one with: "
            f"(umask 077; openssl rand -hex 32 > {path})"
        ) from None
    except (OSError, ValueError) as error:
        raise SecretError(
            f"{path}: the secret cannot be read ({getattr(error, 'strerror', None) or error}); "
            "name a file that this user can read"
        ) from None
    try:
        found = os.fstat(descriptor)
        mode = found.st_mode
        if not stat.S_ISREG(mode):
            raise SecretError(f"{path} is not a regular file; name a file that holds the secret")
        # Who mounts one for us (Kubernetes with fsGroup, systemd's credentials) owns it, and lets
        # us read it by its group.
        others = 0o077 if found.st_uid == os.geteuid() else 0o037
        if mode & others:
            raise SecretError(f"{path}: the secret is open to other users; run: chmod 600 {path}")
        content = os.read(descriptor, LARGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE:
        raise SecretError(f"{path} has over {LARGEST_FILE} bytes; is it the secret file?")
    secrets = _of_content(content)
    shortest = min(map(len, secrets))
    if shortest < SECRET_BYTES:
        raise SecretError(
            f"{path}: the secret has {shortest} bytes, {SECRET_BYTES} are needed; "
            f"make one with: (umask 077; openssl rand -hex 32 > {path})"
        )
    return secrets


def _of_content(content: bytes) -> tuple[bytes, ...]:
    try:
        decoded = _decoded_lines(content.decode("ascii"))
    except UnicodeDecodeError:
        decoded = None
    return (content,) if decoded is None else decoded


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """$STATE_DIRECTORY (systemd's, the first of them), else trickles-web/ in the XDG state
    directory.
    """
    systemd = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if systemd:
        return Path(systemd)
    state = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the XDG specification ignores relative paths
        home = environment.get("HOME") or os.path.expanduser("~")
        state = os.path.join(home, ".local", "state")
    return Path(state) / "trickles-web"


def file_name(service: str) -> str:
    """A readable part for people, and a hash so that no two services share a name."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", service).strip("-")[-40:]
    digest = hashlib.sha256(service.encode()).hexdigest()[:10]
    return f"{readable or 'service'}-{digest}.secret"


def create_secret(path: Path) -> None:
    """Stores a new secret at `path` unless one is there: of several starting at once, one wins.

    The whole file appears at once, by link(2), which unlike rename(2) never replaces what is there;
    so no reader sees half a secret, and none reads one that is replaced a moment later.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    except OSError as error:
        what = "no hard links there" if error.errno == errno.EPERM else error.strerror
        raise SecretError(
            f"{path}: a secret cannot be stored ({what}); "
            f"give --secret-file, or another directory in XDG_STATE_HOME"
        ) from None
