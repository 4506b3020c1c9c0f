"""nginx as a real peer: a reverse proxy before the daemon, in a process of its own.

It keeps its connections to the daemon and puts requests of different clients on them, one after the other: where the
two disagree on where a request ends, one client gets another's answer. Nothing of the machine's own nginx is read.
"""

import subprocess
from pathlib import Path
from typing import Final, Self

from tests.peers.process import free_port, listens, require, wait_until

_CONFIGURATION: Final = """\
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream gateway {{ server 127.0.0.1:{upstream}; keepalive {kept}; }}
  map $http_upgrade $wanted {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 100m;
    underscores_in_headers on;
    ignore_invalid_headers off;
    merge_slashes off;
    location / {{
      proxy_pass http://gateway;
      proxy_http_version 1.1;
      proxy_request_buffering {buffering};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Connection {connection};
      {upgrade}
    }}
  }}
}}
"""


class Nginx:
    """`with Nginx(directory, upstream) as nginx`: a proxy on `port` before the port `upstream`.

    `kept` connections are kept open. Without `buffering` a request is passed on while it comes. With `upgrade` the
    proxy passes on Upgrade and Connection, as it is told to for WebSockets.
    """

    def __init__(
        self, directory: Path, upstream: int, *, kept: int = 1, buffering: bool = False, upgrade: bool = False
    ) -> None:
        self.port = free_port()
        self.directory = directory
        self._program = require("nginx")
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)
        (directory / "nginx.conf").write_text(
            _CONFIGURATION.format(
                directory=directory,
                port=self.port,
                upstream=upstream,
                kept=kept,
                buffering="on" if buffering else "off",
                connection="$wanted" if upgrade else '""',
                upgrade="proxy_set_header Upgrade $http_upgrade;" if upgrade else "",
            )
        )

    def __enter__(self) -> Self:
        command = [
            self._program,
            "-p",
            str(self.directory),
            "-c",
            "nginx.conf",
            "-e",
            str(self.directory / "error.log"),
        ]
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_until(lambda: listens(self.port), f"nginx listens: {self.log()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def log(self) -> str:
        """What it complains of."""
        paths = [self.directory / name for name in ("output", "error.log")]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())
