"""fedstats coordinator: the party that carries messages and adds ciphertexts, and never sees a number."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from .manners import note, plain_group, warn

app = plain_group("Run the blind adder and mailbox.")


@app.callback()
def group() -> None:
    """Run the blind adder and mailbox."""


@app.command()
def serve(consortium: Annotated[Path, typer.Option(help="The consortium file.")],
          key: Annotated[Path, typer.Option(help="The coordinator's key.")],
          host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
          port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8443,
          tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the TLS certificate.")] = None,
          tls_key: Annotated[Path | None, typer.Option(help="PEM file of the TLS key.")] = None,
          round_seconds: Annotated[float, typer.Option(help="Seconds without an answer after which a query is given up.",
                                                       min=1)] = 300.0) -> None:
    """Serve until interrupted (SIGINT or SIGTERM). Keeps nothing on disk: what is in flight when it stops may be asked again.

    Without --tls-cert a reverse proxy is expected to add TLS. /healthz and /metrics (Prometheus) are for operators.

    \b
    Example:  fedstats coordinator serve --consortium ms.toml --key hub.key --host 0.0.0.0 --port 8443 \\
                  --tls-cert hub.pem --tls-key hub-tls.key
    """
    from ..crypto.identity import Identity
    from ..errors import InputError
    from ..wire.roster import Consortium, check_pin

    roster, me = Consortium.load(consortium), Identity.load(key)
    check_pin(roster, key, consortium)
    if me.name not in roster.names("coordinator"):
        raise InputError(f"the key {key} belongs to {me.name}, who is not a coordinator of {roster.name}")
    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key belong together")
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise InputError(f"there is no file {file}")
    _check_free(host, port)
    if tls_cert is None and host not in ("127.0.0.1", "::1", "localhost"):
        warn("serving without TLS beyond this machine: a reverse proxy should add it")
    try:
        from ..coordinator.app import serve as run
    except ImportError as error:
        raise InputError(f"the coordinator needs {error.name}", hint='pip install "fedstats[coordinator]"') from None
    note(f"coordinator {me.name} of {roster.name}, epoch {roster.epoch}: listening on {host}:{port}")
    run(me, roster, host=host, port=port, round_seconds=round_seconds, tls=(str(tls_cert), str(tls_key)) if tls_cert else None)


def _check_free(host: str, port: int) -> None:
    """Raises InputError if nobody can listen there: said before anything starts."""
    from ..errors import InputError

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another --port or --host") from None
