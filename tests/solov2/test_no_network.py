"""Loading stage 1 looks no name of a server up."""

import subprocess
import sys

from runtime.command_line import REPOSITORY

CODE = """
import socket
asked = []
def refuse(host, *_, **__):
    asked.append(host)
    raise OSError("no network in this test")
socket.getaddrinfo = refuse
import solov2
import mmdet.datasets
print(asked)
"""


def test_loading_mmdet_asks_no_server():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
