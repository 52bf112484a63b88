"""The decoders of compressed pixel data, in a process of their own with a limit on its memory.

A codestream says how much memory its decoder shall ask for, and some damaged ones make gdcm, the only decoder of JPEG
Lossless with a free licence, end its process. So they run apart, with nothing in their environment worth reading, and a
worker lives on with a refusal.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from threading import Timer
from typing import IO, Self

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from gateway.dicom.volume_values import DAMAGED

LIMIT_BYTES = 2 * 2**30
"""Address space of the process: some 200 MB of libraries, and what a frame takes to decode."""

_PATIENCE_S = 60.0  # for one frame


class DecoderProcess:
    """Decodes frames in a child process that starts when it is first needed and ends with the context, or with us.

    The child may have `limit_bytes` of address space.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process, if there is one; the next frame starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def frame(self, path: Path, index: int, plugin: str = "") -> NDArray[np.integer]:
        """Stored values (rows, columns) of frame `index`, from 0, of the file at `path`, by a decoder of pydicom's.

        Raises RuntimeError with the decoder's words, or when the decoder's process ended.
        """
        process = self._process = self._process or _start(self._limit_bytes)
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = Timer(_PATIENCE_S, process.kill)
        watchdog.start()
        try:
            process.stdin.write(json.dumps([str(path.absolute()), index, plugin]).encode() + b"\n")
            process.stdin.flush()
            return _reply(process.stdout)
        except (BrokenPipeError, EOFError) as error:
            self.close()
            raise RuntimeError("the decoder's process ended on this codestream") from error
        finally:
            watchdog.cancel()


def _start(limit_bytes: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own module, its frames named on a pipe
        [sys.executable, "-m", __name__, str(limit_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # each thread of a linear algebra library would reserve memory that nobody uses here
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
    )


def _reply(replies: IO[bytes]) -> NDArray[np.integer]:
    """One frame as `_serve` writes it; raises EOFError when the process ended before it was whole."""
    line = replies.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    reply = json.loads(line)
    if "error" in reply:
        raise RuntimeError(reply["error"])
    pixels = replies.read(reply["bytes"])
    if len(pixels) != reply["bytes"]:
        raise EOFError
    return np.frombuffer(pixels, reply["dtype"]).reshape(reply["shape"])


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer each line [path, index, plugin] with a line that describes the frame, followed by its bytes."""
    opened, ds = None, pydicom.Dataset()
    for line in requests:
        path, index, plugin = json.loads(line)
        try:
            if path != opened:
                opened, ds = path, pydicom.dcmread(path)
            frame = pixel_array(ds, index=index, raw=True, decoding_plugin=plugin)
            head = {"dtype": frame.dtype.str, "shape": frame.shape, "bytes": frame.nbytes}
            replies.write(json.dumps(head).encode() + b"\n" + frame.tobytes())
        except MemoryError:
            opened, ds = None, pydicom.Dataset()
            replies.write(json.dumps({"error": "the decoder needs more memory than it may have"}).encode() + b"\n")
        except DAMAGED as error:
            replies.write(json.dumps({"error": str(error)}).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the patient's image
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries in C print where they like
    _serve(sys.stdin.buffer, answers)
