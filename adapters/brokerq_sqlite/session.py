"""One connection that writes, with the lock that goes before it."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from brokerq.errors import BrokerqError, StorageError
from brokerq_sqlite.errors import locked, translate, vanished
from brokerq_sqlite.lock import FileLock
from brokerq_sqlite.running import Running

APPLICATION_ID = 0x62726B71  # "brkq"
_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)
_STATEMENTS = 128
_ABOUT = "brokerq_about"
_SHARED = 4
"""From this version on an app may use `user_version` for its own tables."""
_VERSION = "SELECT value FROM brokerq_about WHERE name = 'schema'"
_SET_VERSION = "INSERT OR REPLACE INTO brokerq_about (name, value) VALUES ('schema', ?)"
_MOST_UNSYNCED = 2**32
"""More claims than anybody could make between two commits that are synced."""
_CACHE = 16_384
"""KiB for pages of the file: with SQLite's two MiB, those that every batch needs do not stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a file is opened.

    Attributes:
        lock_timeout: Seconds to wait for another process that writes.
        boot: Returns the id of the machine's boot.
        max_pages: The file may have no more pages than this; None: as many as the disk has.
    """

    path: Path
    lock_timeout: float
    boot: Callable[[], str]
    max_pages: int | None = None


def migrations() -> list[str]:
    """Return the SQL of every version, the first one first."""
    folder = resources.files("brokerq_sqlite.schema")
    scripts = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [entry.read_text("utf-8") for entry in scripts]


def connect_reader(options: Options) -> sqlite3.Connection:
    """Return a connection that only reads; the file exists and is ours."""
    db = _connect(options)
    db.execute("PRAGMA query_only = ON")
    return db


def _connect(options: Options) -> sqlite3.Connection:
    db = sqlite3.connect(
        options.path,
        timeout=options.lock_timeout,
        isolation_level=None,
        cached_statements=_STATEMENTS,
    )
    db.execute("PRAGMA temp_store = MEMORY")
    return db


class Session:
    """The writing connection of one process; used by one thread, which also closes it.

    Raises only our errors.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.path = options.path
        try:
            _refuse_foreign_header(self.path)
            self.path.parent.mkdir(exist_ok=True)
            self._lock = FileLock(Path(f"{self.path}-lock"))
        except OSError as exc:
            raise _unusable(self.path, exc) from exc
        try:
            self.db = self._open()
        except BaseException:
            self._lock.close()
            raise
        self.running = Running(self.db)
        self._durable = True

    def _open(self) -> sqlite3.Connection:
        if not self._lock.acquire(self._options.lock_timeout):
            raise locked(self.path)
        db: sqlite3.Connection | None = None
        try:
            db = _connect(self._options)
            _prepare(db, self._options)
            status = os.stat(self.path)  # noqa: PTH116 - half the time of Path.stat
            self._identity = (status.st_dev, status.st_ino)
        except BaseException as exc:
            if db is not None:
                db.close()
            if isinstance(exc, sqlite3.Error):
                raise translate(exc, self.path) from exc
            if isinstance(exc, OSError):
                raise _unusable(self.path, exc) from exc
            raise
        finally:
            self._lock.release()
        return db

    def begin(self, *, durable: bool = True) -> None:
        """Begin a transaction that may write; if it is durable its commit waits for the disk."""
        if not self._lock.acquire(self._options.lock_timeout):
            raise locked(self.path)
        try:
            self._refuse_another_file()
            if durable is not self._durable:
                # NORMAL syncs no commit of a write-ahead log; the next FULL one syncs it all.
                self.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self.db.execute("BEGIN IMMEDIATE")
        except BaseException as exc:
            self._lock.release()
            if isinstance(exc, sqlite3.Error):
                raise translate(exc, self.path) from exc
            raise

    def _refuse_another_file(self) -> None:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - as above; once per transaction
        except OSError as exc:
            raise vanished(self.path) from exc
        if (status.st_dev, status.st_ino) != self._identity:
            raise vanished(self.path)

    def commit(self) -> None:
        """Make what was written last; afterwards the transaction is over, come what may."""
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error as exc:
            self._undo()
            raise translate(exc, self.path, committing=True) from exc
        finally:
            self._lock.release()

    def rollback(self) -> None:
        """Give up what was written."""
        try:
            self._undo()
        finally:
            self._lock.release()

    def _undo(self) -> None:
        if self.db.in_transaction:  # SQLite ends it by itself when the disk is full, for one
            self.db.execute("ROLLBACK")

    def close(self) -> None:
        """Disconnect; the last one to do so moves everything into the one file."""
        try:
            self.db.close()
        except sqlite3.Error as exc:
            raise translate(exc, self.path) from exc
        finally:
            self._lock.close()


def _refuse_foreign_header(path: Path) -> None:
    """Look at the file without SQLite, which would leave its own files beside it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    named = int.from_bytes(head[_APPLICATION_ID_AT], "big")
    if head.startswith(_MAGIC) and named not in {0, APPLICATION_ID}:
        raise _foreign(path)


def _foreign(path: Path) -> StorageError:
    return StorageError(
        f"{path} is a database of another program and was left as it is: name a new file; your own "
        "tables can be added to that"
    )


def _unusable(path: Path, exc: OSError) -> BrokerqError:
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        kind = sqlite3.SQLITE_READONLY
    elif exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        kind = sqlite3.SQLITE_FULL
    else:
        kind = sqlite3.SQLITE_CANTOPEN
    cause = sqlite3.OperationalError(str(exc))
    cause.sqlite_errorcode = kind
    return translate(cause, path)


def _prepare(db: sqlite3.Connection, options: Options) -> None:
    """Bring the file to this version's schema, with the file lock held."""
    known = migrations()
    version = _check(db, options.path, known=len(known))
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StorageError(
            f"{options.path} is on a file system that SQLite's write-ahead log does not work on: "
            "put it on a local disk"
        )
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_size_limit = 67108864")
    db.execute(f"PRAGMA cache_size = -{_CACHE:d}")
    if options.max_pages is not None:
        db.execute(f"PRAGMA max_page_count = {options.max_pages:d}")
    db.execute("BEGIN IMMEDIATE")
    try:
        for number, script in enumerate(known[version:], version + 1):
            _migrate(db, script, number, options.path)
        _lapse_leases_of_another_boot(db, options.boot())
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _check(db: sqlite3.Connection, path: Path, *, known: int) -> int:
    """Return the version of the schema; zero for a new file."""
    (named,) = db.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema").fetchall()}
    if named == 0 and not tables:
        return 0
    if named != APPLICATION_ID:
        raise _foreign(path)
    version_in = _VERSION if _ABOUT in tables else "PRAGMA user_version"
    (version,) = db.execute(version_in).fetchone()
    if version > known:
        (needs,) = db.execute("SELECT value FROM brokerq_about WHERE name = 'needs'").fetchone()
        raise StorageError(
            f"{path} has schema {version} and needs brokerq {needs} or newer, this one knows "
            f"schema {known}: upgrade brokerq here"
        )
    return int(version)


def _migrate(db: sqlite3.Connection, script: str, number: int, path: Path) -> None:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            try:
                db.execute(statement)
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
                    raise
                raise StorageError(  # renaming reads all views, triggers and indexes
                    f"{path} cannot be brought to schema {number}, and is as it was: {exc}; mend "
                    "or remove what is broken in it, and open it again"
                ) from exc
            statement = ""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
    if number >= _SHARED:
        db.execute(_SET_VERSION, (number,))


def _lapse_leases_of_another_boot(db: sqlite3.Connection, boot: str) -> None:
    (written,) = db.execute("SELECT value FROM brokerq_about WHERE name = 'boot'").fetchone()
    # Written even if it is the same: a file that can only be read is found out now, not later.
    db.execute("UPDATE brokerq_about SET value = ? WHERE name = 'boot'", (boot,))
    if written != boot:
        # Claims are not synced, so the last fences may have been lost with the host.
        db.execute(
            "UPDATE brokerq_about SET value = value + ? WHERE name = 'fence'", (_MOST_UNSYNCED,)
        )
        db.execute("UPDATE brokerq_messages SET lease_until = 0 WHERE state = 1")
        db.execute("UPDATE brokerq_jobs SET lease_until = 0 WHERE lease_until > 0")
        db.execute("UPDATE brokerq_letters SET lease_until = 0 WHERE lease_until > 0")
        db.execute("UPDATE brokerq_outbox SET lease_until = 0 WHERE lease_until > 0")
