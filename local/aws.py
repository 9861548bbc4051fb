"""A local AWS: ministack on 127.0.0.1, over plain HTTP."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import botocore.exceptions
import botocore.session

PROJECT = pathlib.Path(__file__).resolve().parent.parent
STATE = PROJECT / ".local"
VENV_BIN = pathlib.Path(sys.executable).parent

HOST = "127.0.0.1"
REGION = "eu-central-1"


class Failed(Exception):
    """A step failed; the message contains the cause."""


@contextlib.contextmanager
def step(what):
    """Prints what is being done, and how long it took."""
    print(f"{what} … ", end="", flush=True)
    started_at = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started_at:.1f} s", flush=True)


def free_port(preferred):
    """Returns the preferred port, or another one if it is taken."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            free = listener.getsockname()[1]
            if free != preferred:
                print(f"port {preferred} is taken; using {free}")
            return free
    raise Failed(f"no free port on {HOST}")


@contextlib.contextmanager
def running(command, env, **kwargs):
    """Runs a program in its own process group, and stops the group at the end of the block."""
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd=PROJECT, start_new_session=True, **kwargs)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
                break


@contextlib.contextmanager
def running_aws():
    """Starts an empty local AWS and points this program and its children at it.

    Each port has a folder of its own, so that several can run at once.
    """
    clean_environment()
    port = free_port(4566)
    url = f"http://{HOST}:{port}"
    state = STATE / str(port)
    (state / "tmp").mkdir(parents=True, exist_ok=True)
    log = state / "ministack.log"
    os.environ.update(
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION=REGION,
        AWS_ENDPOINT_URL=url,
    )
    ministack = {
        "AUTH": "true",
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "MINISTACK_REGION": REGION,
        "TMPDIR": str(state / "tmp"),
    }
    with log.open("w") as output, contextlib.ExitStack() as processes:
        with step(f"starting a local AWS at {url}"):
            command = [sys.executable, PROJECT / "local" / "run_ministack.py"]
            process = processes.enter_context(running(command, ministack, stdout=output, stderr=output))
            wait_for(f"{url}/_ministack/health", process, log)
        yield


def clean_environment():
    """Removes the settings of AWS and of the function that the shell has set, and bypasses its proxies."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "UPLOAD_", "API_KEYS_", "S3_")):
            del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, no_proxy=f"{HOST},localhost")


def wait_for(url, process, log):
    """Waits until ministack responds, whatever the status."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"ministack exited with status {process.returncode}; see {log}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise Failed(f"no response from {url} after 60 s; see {log}")


def local_api_url(url):
    """Returns the URL of an API by which every client reaches it; on AWS, that is the same.

    Only browsers and curl resolve its host name on the local AWS to 127.0.0.1, so this replaces it with a path.
    """
    api_id, is_local, _ = url.removeprefix("http://").partition(".execute-api.localhost")
    return f"{os.environ['AWS_ENDPOINT_URL']}/_aws/execute-api/{api_id}" if is_local else url


def machine(program):
    """Returns the machine that an ELF program is for, as `platform.machine` names it, or `None`."""
    # e_machine in the header: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
    known = {b"\x3e\x00": "x86_64", b"\xb7\x00": "aarch64"}
    return known.get(program[18:20]) if program.startswith(b"\x7fELF") else None


def client(service):
    """Returns a client for a service of the local AWS, as its root user."""
    return botocore.session.Session().create_client(service)


@contextlib.contextmanager
def exit_on_failure(command, status_if_interrupted=130):
    """Exits with a message and no traceback if a step fails, and with `status_if_interrupted` on Ctrl-C."""
    # Closing the terminal or `kill` must also end the processes that this program started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(status_if_interrupted)
    except (Failed, OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"{command}: {error}")
