"""Reads the files of a party that is watched, in a child with bounds on memory, time and files.

A file that is made to be huge, slow or poisonous ends the child: whoever asked is told so, and asks on with a new one.

The parent writes a request as a line of JSON. The child answers with frames: a kind (one byte), the length of the
content (four bytes), the content. After each part it waits for a line that says whether to go on. Record batches travel
as Arrow messages and are validated by the parent.
"""

import ctypes
import os
import resource
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec
import pyarrow as pa

from files.foreign import REMEDY, PlainFiles
from files.read import FileMissing, HostFault
from schemas.errors import InvalidInput

MEMORY_BYTES = 192 << 20
"""How much the child may allocate beyond what it has when it starts (some 70 MB)."""

ANSWER_S = 60
"""How long one answer may take in all, without the time that its reader needs; also in CPU seconds."""

FRAME_BYTES = 8 << 20
"""Batches are cut to about this size on their way; a row of its own may be larger."""

FRAME_BYTES_MAX = 96 << 20
PATIENCE_S = 5
"""How long the end of a child is waited for once its output has ended."""

START = """
import os, sys
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # it takes what is asked for, where others reserve a gigabyte
sys.path.insert(0, sys.argv[1])
from files import confined
confined.serve(int(sys.argv[2]), float(sys.argv[3]))
"""
"""The child's first words."""

M_MMAP_THRESHOLD = -3
"""From malloc.h."""

ON, STOP = b"on\n", b"stop\n"
HEADER = struct.Struct("<cI")
DATA, END, MISSING, OF_HOST, REFUSED = b"D", b"E", b"M", b"H", b"R"
_ERRORS: dict[bytes, type[InvalidInput]] = {MISSING: FileMissing, OF_HOST: HostFault, REFUSED: InvalidInput}


class Overrun(InvalidInput):
    """A file that its reader did not survive: it took more memory or time than any honest one."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question; `most` is the largest number of bytes or rows, `schema` an Arrow schema as a message."""

    want: Literal["chunks", "sha256", "batches", "rows"]
    folder: str
    path: str
    most: int = 0
    first_row: int = 0
    schema: bytes = b""


class ConfinedFiles:
    """The files of `folder`, read by a child that the first question starts: see ForeignFiles.

    All questions raise Overrun besides. A context manager: at its end no child is left.
    """

    def __init__(self, folder: Path, *, memory_bytes: int = MEMORY_BYTES, answer_s: float = ANSWER_S) -> None:
        self.folder = folder
        self._memory_bytes, self._answer_s = memory_bytes, answer_s
        self._child: subprocess.Popen[bytes] | None = None
        self._turn = 0
        self._is_waiting = False

    def __enter__(self) -> "ConfinedFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child."""
        self._is_waiting = False
        if (child := self._child) is not None:
            self._child = None
            child.kill()
            child.communicate()

    def chunks(self, path: Path, max_bytes: int) -> Iterator[bytes]:
        """See ForeignFiles."""
        for part in self._answer(Request(want="chunks", folder=str(self.folder), path=str(path), most=max_bytes)):
            max_bytes -= len(part)
            if max_bytes < 0:
                raise Overrun(f"{path} was read to more bytes than it may have: {REMEDY}")
            yield part

    def sha256(self, path: Path) -> str:
        """See ForeignFiles."""
        return b"".join(self._answer(Request(want="sha256", folder=str(self.folder), path=str(path)))).decode()

    def batches(self, path: Path, schema: pa.Schema, max_rows: int, first_row: int = 0) -> Iterator[pa.RecordBatch]:
        """See ForeignFiles. After another question it goes on where it was."""
        while True:
            turn = self._turn + 1
            for part in self._answer(self._of_table("batches", path, schema, max_rows, first_row)):
                batch = _batch(part, path, schema)
                first_row += batch.num_rows
                if first_row > max_rows:
                    raise Overrun(f"{path} was read to more than {max_rows:,} rows: {REMEDY}")
                yield batch
            if self._turn == turn:
                return

    def rows(self, path: Path, schema: pa.Schema, max_rows: int) -> int:
        """See ForeignFiles."""
        (count,) = self._answer(self._of_table("rows", path, schema, max_rows))
        return int.from_bytes(count)

    def _of_table(
        self, want: Literal["batches", "rows"], path: Path, schema: pa.Schema, most: int, first_row: int = 0
    ) -> Request:
        return Request(
            want=want, folder=str(self.folder), path=str(path), most=most, first_row=first_row,
            schema=schema.serialize().to_pybytes(),
        )  # fmt: skip

    def _answer(self, request: Request) -> Iterator[bytes]:
        """The parts that answer a request. They end early where another question has come in between."""
        self._turn += 1
        turn, left_s = self._turn, self._answer_s
        try:
            if self._is_waiting:
                self._say(request, STOP)
            self._say(request, msgspec.json.encode(request) + b"\n")
            self._is_waiting = True
            while True:
                started = time.monotonic()
                kind, content = self._frame(request, started + left_s)
                left_s -= time.monotonic() - started
                if kind != DATA:
                    self._is_waiting = False
                    break
                yield content
                if self._turn != turn:
                    return
                self._say(request, ON)
        except Overrun:
            self.close()
            raise
        if kind != END:
            raise _ERRORS.get(kind, Overrun)(content.decode(errors="replace"))

    def _say(self, request: Request, words: bytes) -> None:
        child = self._start()
        try:
            cast(BinaryIO, child.stdin).write(words)
            cast(BinaryIO, child.stdin).flush()
        except OSError:
            raise Overrun(self._end_of(child, request)) from None

    def _frame(self, request: Request, until: float) -> tuple[bytes, bytes]:
        child = self._start()
        kind, size = HEADER.unpack(self._exactly(child, request, HEADER.size, until))
        if size > FRAME_BYTES_MAX:
            raise Overrun(f"{request.path} holds a row of {size:,} bytes: {REMEDY}")
        return kind, self._exactly(child, request, size, until)

    def _exactly(self, child: "subprocess.Popen[bytes]", request: Request, size: int, until: float) -> bytes:
        """Exactly `size` bytes of the child's output. Raises Overrun where they don't come in time."""
        output = cast(BinaryIO, child.stdout).fileno()
        content = bytearray(size)
        view, done = memoryview(content), 0
        while done < size:
            if not select.select([output], [], [], max(0.0, until - time.monotonic()))[0]:
                raise Overrun(f"reading {request.path} took more than {self._answer_s:g} s: {REMEDY}")
            count = os.readv(output, [view[done:]])
            if not count:
                raise Overrun(self._end_of(child, request))
            done += count
        return bytes(content)

    def _end_of(self, child: "subprocess.Popen[bytes]", request: Request) -> str:
        """What a child's end says, in words."""
        try:
            code = child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"by signal {-code}" if code < 0 else f"with {code}"
        return (
            f"the process that read {request.path} has ended ({how}), within {self._answer_s:g} s and"
            f" {self._memory_bytes >> 20} MiB: {REMEDY}"
        )

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", START, str(Path(__file__).parents[1]), str(self._memory_bytes),
                 str(self._answer_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return self._child


def _batch(part: bytes, path: Path, schema: pa.Schema) -> pa.RecordBatch:
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(part), schema)
        batch.validate(full=True)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise Overrun(f"{path} was not read as a table ({error}): {REMEDY}") from None
    return batch


def serve(memory_bytes: int, answer_s: float) -> None:
    """The child: answers requests until its input ends."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    _confine(memory_bytes)
    output = sys.stdout.buffer
    while line := sys.stdin.buffer.readline():
        request = msgspec.json.decode(line, type=Request)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + answer_s) + 1)
        try:
            for part in _asked(request):
                _send(output, DATA, part)
                if sys.stdin.buffer.readline() != ON:
                    break
            else:
                _send(output, END)
        except FileMissing as error:
            _send(output, MISSING, str(error).encode())
        except HostFault as error:
            _send(output, OF_HOST, str(error).encode())
        except InvalidInput as error:
            _send(output, REFUSED, str(error).encode())


def _asked(request: Request) -> Iterator[bytes]:
    files, path = PlainFiles(Path(request.folder)), Path(request.path)
    if request.want == "chunks":
        yield from files.chunks(path, request.most)
    elif request.want == "sha256":
        yield files.sha256(path).encode()
    else:
        schema = pa.ipc.read_schema(pa.py_buffer(request.schema))
        if request.want == "rows":
            yield files.rows(path, schema, request.most).to_bytes(8)
        for batch in files.batches(path, schema, request.most, request.first_row) if request.want == "batches" else ():
            yield from _messages(batch)


def _messages(batch: pa.RecordBatch) -> Iterator[bytes]:
    """A batch as messages of about FRAME_BYTES."""
    if batch.nbytes > FRAME_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _messages(batch.slice(0, half))
        yield from _messages(batch.slice(half))
    else:
        yield batch.serialize().to_pybytes()


def _send(output: BinaryIO, kind: bytes, content: bytes = b"") -> None:
    output.write(HEADER.pack(kind, len(content)))
    output.write(content)
    output.flush()


def _confine(memory_bytes: int) -> None:
    """Bounds for all that this process does from here on. Where the system knows its size, memory counts from now."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no such switch
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)  # what is freed goes back
        status = Path("/proc/self/status").read_text()
        held = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:"))
        _limit(resource.RLIMIT_DATA, held + memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 32)


def _limit(which: int, most: int) -> None:
    """The soft limit: the hard one stays, so that a limit of CPU time can grow with each answer."""
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
