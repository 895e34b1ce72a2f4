"""Starts PostgreSQL on loopback in a temporary folder, for Prefect servers that must not lose events."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

if sys.platform != "win32":
    import pwd

START_SECONDS = 60


def free_port() -> int:
    """A TCP port of loopback on which no program listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Start PostgreSQL on a fresh cluster; yield Prefect's URL of its empty database `prefect`.

    Raises `RuntimeError` where PostgreSQL is missing, and on Windows.
    """
    if sys.platform == "win32":
        raise RuntimeError("tests start PostgreSQL on Linux and macOS only")
    programs = _programs()
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="narration-postgres-"))
    try:
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        cluster = folder / "cluster"
        subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={cluster}",
                "--username=prefect",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **_as(account),
        )
        port = free_port()
        # A test's database need not survive a power cut: fsync off is several times faster.
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    programs / "postgres",
                    *("-D", cluster),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *("-c", f"port={port}"),
                    *("-c", "unix_socket_directories="),
                    *("-c", "fsync=off"),
                    *("-c", "max_connections=200"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=folder,
                **_as(account),
            )
        try:
            _create_database(programs, port, server, folder / "log")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            server.send_signal(signal.SIGINT)  # "fast": ends clients' sessions, where SIGTERM waits for them
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create_database(programs: Path, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    create: list[str | Path] = [
        programs / "createdb",
        "--host=127.0.0.1",
        f"--port={port}",
        "--username=prefect",
        "prefect",
    ]
    while True:
        done = subprocess.run(create, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {done.stderr}\n{log.read_text()}")
        time.sleep(0.1)


def _programs() -> Path:
    """The folder of the server's programs: Debian keeps them off PATH, by version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if versions:
        return versions[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise RuntimeError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return Path(on_path).resolve().parent


def _account() -> pwd.struct_passwd | None:
    """The account to run as: PostgreSQL refuses root, so root hands over to `postgres`."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as(account: pwd.struct_passwd | None) -> _RunAs:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
