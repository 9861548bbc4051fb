"""Runs ministack as this project needs it.

Requests over plain HTTP count as if a proxy had terminated TLS: the bucket policy of template.yaml denies plain HTTP, and
a browser does not trust a certificate made on this machine. A function that was built for another architecture runs
under QEMU (`apt-get install qemu-user-static`).
"""

import pathlib
import platform
import subprocess

from ministack import app as ministack

from aws import machine

app = ministack.app


async def behind_tls(scope, receive, send):
    await app({**scope, "scheme": "https"}, receive, send)


class Popen(subprocess.Popen):
    def __init__(self, args, **kwargs):
        program = pathlib.Path(args[0])
        if program.name == "bootstrap":
            with program.open("rb") as file:
                built_for = machine(file.read(20))
            if built_for not in (None, platform.machine()):
                args = [f"qemu-{built_for}-static", *args]
        super().__init__(args, **kwargs)


ministack.app = behind_tls
subprocess.Popen = Popen
ministack.main()
