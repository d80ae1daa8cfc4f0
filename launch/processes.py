"""Starts a command as several processes that work together, here or over ssh:

    python -m launch.processes --local=4 -- python -m launch.train --config=… --workdir=DIR
    python -m launch.processes --hosts=a,b,c -- python -m launch.train --config=… --workdir=DIR

Every process gets --distributed=HOST:PORT,N,I; over ssh it starts in this directory, which the hosts must share, as
they must DIR. Output is prefixed with the process's number. SIGTERM and Ctrl-C go to all processes, which save and
stop. When one fails, the others notice by themselves within half a minute; after --grace seconds they are killed. The
exit code is the first failure's.
"""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

from launch import cli
from safety_align.errors import InputError

HOST = r"([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*"
"""What ssh takes for a host and nothing else: no option, no command."""


def commands(arguments, command: list[str]) -> list[list[str]]:
    """What is started, one command for each process."""
    hosts = [host for host in (arguments.hosts or "").split(",") if host]
    if bool(hosts) == bool(arguments.local):
        raise InputError("give --local=N, or --hosts=A,B,…")
    for host in hosts:
        if not re.fullmatch(HOST, host):
            raise InputError(f"--hosts: {host!r} is no host; give NAME or USER@NAME")
    if not command:
        raise InputError("give the command after --, as in: -- python -m launch.train …")
    count = len(hosts) or arguments.local
    if count < 1:
        raise InputError(f"--local must be at least 1, got {count}")
    port = arguments.port or (8476 if hosts else _free_port())
    address = f"{hosts[0].rpartition('@')[2] if hosts else '127.0.0.1'}:{port}"
    started = [[*command, f"--distributed={address},{count},{index}"] for index in range(count)]
    if not hosts:
        return started
    here = shlex.quote(str(pathlib.Path.cwd()))
    # A terminal of its own (-tt), so that the remote process ends with the connection.
    return [["ssh", "-tt", host, f"cd {here} && exec {shlex.join(c)}"] for host, c in zip(hosts, started, strict=True)]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run_all(started: list[list[str]], grace: float) -> int:
    """Runs the commands side by side; the exit code of the first that failed, or 0."""
    children, stopped = [], []

    def stop(number=None, frame=None):
        stopped.append(number)
        for child in children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)

    # Before anything is started: a signal that finds no handler would leave the children without a parent.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for c in started:
        children.append(subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True))
    printers = [threading.Thread(target=_relay, args=(i, child.stdout)) for i, child in enumerate(children)]
    for printer in printers:
        printer.start()
    if stopped:  # while they were being started
        stop()
    code, deadline = 0, None
    while any(child.poll() is None for child in children):
        failed = [child.returncode for child in children if child.poll()]
        if failed and deadline is None:
            code, deadline = failed[0], time.monotonic() + grace
        if deadline and time.monotonic() > deadline:
            for child in children:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
        time.sleep(0.2)
    for printer in printers:
        printer.join()
    code = code or next((child.returncode for child in children if child.returncode), 0)
    return code if code >= 0 else 128 - code  # a child killed by signal s has the code -s


def _relay(index: int, stream) -> None:
    for line in stream:
        sys.stdout.write(f"[{index}] {line.decode(errors='replace').rstrip()}\n")
        sys.stdout.flush()


def main() -> int:
    argv = sys.argv[1:]
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = cli.Parser(__doc__)
    parser.add_argument("--local", type=cli.integer(1, 4096), metavar="N", help="processes on this machine")
    parser.add_argument("--hosts", metavar="A,B,…", help="one process on each, over ssh; the first coordinates")
    parser.add_argument(
        "--port", type=cli.integer(1, 65535), help="of the coordinator; default 8476 over ssh, a free one here"
    )
    parser.add_argument("--grace", type=cli.number, default=90.0, metavar="S", help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and stop")
    arguments = parser.parse_args(argv[:cut])
    started = commands(arguments, argv[cut + 1 :])
    for command in started:
        print("+ " + shlex.join(command), file=sys.stderr)
    return cli.EXIT_OK if arguments.dry_run else run_all(started, arguments.grace)


if __name__ == "__main__":
    cli.run(main)
