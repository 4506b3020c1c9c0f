"""Real and odd messages of other projects' tests: CPython's, and those in the source packages of four libraries.

The packages come from the index that pip is configured for, once a run, into a private directory; of an archive only
the messages are read, and nothing is installed. What cannot be had fails the test where CI=true and skips it elsewhere.
"""

import atexit
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.process import missing

_TIMEOUT_S: Final = 400
# Versions are fixed: what is refused of these messages is listed.
_PACKAGES: Final = {
    "flufl.bounce==6.0.0": re.compile(r"tests/data/[^/]+\.txt"),
    "dkimpy==1.1.8": re.compile(r"dkim/tests/data/[^/]+\.(?:msg|mbox|message[^/]*)"),
    "mail-parser==4.8.0": re.compile(r"tests/mails/mail_(?:test|malformed)_\d+"),
    "authheaders==0.16.3": re.compile(r"authheaders/test/[^/]*message[^/]*"),
}


@functools.cache
def cpython() -> dict[str, bytes]:
    """The messages of CPython's email tests, by `cpython/name`; its pictures and sounds are no messages."""
    package = importlib.util.find_spec("test.test_email")
    if package is None or package.origin is None:
        missing("this Python comes without its own tests")
    data = Path(package.origin).parent / "data"
    return {f"cpython/{path.name}": path.read_bytes() for path in sorted(data.glob("msg_*.txt"))}


@functools.cache
def packages() -> dict[str, bytes]:
    """The messages in the packages, by `package/name`."""
    directory = Path(tempfile.mkdtemp(prefix="mail-gateway-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-deps", "--no-binary", ":all:", "--dest", str(directory), *_PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        missing(f"the packages did not come within {_TIMEOUT_S} s")
    if done.returncode != 0:
        missing(f"the packages cannot be had: {done.stderr[-500:]}")
    found: dict[str, bytes] = {}
    for package, wanted in _PACKAGES.items():
        name, _, version = package.partition("==")
        (archive,) = directory.glob(f"{re.sub('[-.]', '?', name)}-{version}.tar.gz")
        found |= {f"{name}/{path.rpartition('/')[2]}": data for path, data in _messages(archive, wanted)}
    return found


def _messages(archive: Path, wanted: re.Pattern[str]) -> list[tuple[str, bytes]]:
    out = []
    with tarfile.open(archive) as files:
        for member in files:
            path = member.name.partition("/")[2]
            if wanted.fullmatch(path) and (file := files.extractfile(member)) is not None:
                out.append((path, file.read()))
    return sorted(out)
