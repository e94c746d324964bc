"""`mien server`, `mien cluster` and `mien doctor`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cluster import tables, terminal
from cluster.options import AsJson
from cluster.terminal import show, table, working

app = typer.Typer()
server = typer.Typer(
    help="The MLflow tracking server.", epilog="Example: mien server start", no_args_is_help=True
)
app.add_typer(server, name="server")
machines = typer.Typer(
    help="Ray on the machines of ray_cluster.yaml.",
    epilog="Example: mien cluster up ray_cluster.yaml",
    no_args_is_help=True,
)
app.add_typer(machines, name="cluster")

ClusterFile = Annotated[Path, typer.Argument(metavar="FILE", help="In the format of `ray up`.")]
RAY_CLUSTER = Path("ray_cluster.yaml")


@server.command("start", epilog="Example: mien server start --port 5000")
def server_start(
    host: Annotated[str, typer.Option(help="The interface that it listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A name that others call it by.")
    ] = None,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Keep runs in a PostgreSQL of this home, for good.")
    ] = False,
    artifacts: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --postgres: where artifacts lie, as s3://…"),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the server, and PostgreSQL behind it if it is to have one; wait until both answer."""
    from cluster import mlflow_server
    from cluster.mlflow_store import page

    if (tls_certificate is None) != (tls_key is None):
        raise ValueError("TLS needs both, --tls-certificate and --tls-key")
    tls = (
        mlflow_server.Tls(certificate=tls_certificate, key=tls_key)
        if tls_certificate and tls_key
        else None
    )
    with terminal.progress("starting"):
        state = mlflow_server.start(
            host=host,
            port=port,
            allowed_hosts=allow or (),
            own_postgres=postgres,
            tls=tls,
            artifacts=artifacts,
        )
    told = f"MLflow: {page(state.address)}  (user mien, password in {state.password_file})"
    show(state.as_json(), [told, f"log: {state.log}"], as_json)


@server.command("stop", epilog="Example: mien server stop")
def server_stop(as_json: AsJson = False) -> None:
    """Stop the server that this home started."""
    from cluster import mlflow_server

    with terminal.progress("stopping"):
        state = mlflow_server.stop()
    text = "stopped" if state.running else "nothing was running"
    show({**state.as_json(), "running": False}, [text], as_json)


@server.command("status", epilog="Example: mien server status")
def server_status(as_json: AsJson = False) -> None:
    """Whether it runs, and where."""
    from cluster import mlflow_server

    state = mlflow_server.status()
    text = f"running at {state.address}" if state.running else "not running"
    show(state.as_json(), [f"MLflow: {text}; store: {state.store}"], as_json)


@machines.command("check", epilog="Example: mien cluster check ray_cluster.yaml")
def cluster_check(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """Read the file as `up` will; says in which line which key is wrong."""
    from cluster.config import check

    found = check(file)
    show({"found": found}, [f"{file}: {found}; nothing is wrong"], as_json)


@machines.command(
    "wait", epilog="Example: mien cluster wait --nodes 3, with --address auto before cluster"
)
def cluster_wait(
    nodes: Annotated[int, typer.Option(min=1, help="How many are to be there.")],
    seconds: Annotated[float, typer.Option(help="How long to wait for them.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Wait until so many nodes have joined the Ray at --address."""
    from cluster.session import connect, wait_for_nodes

    if not os.environ.get("RAY_ADDRESS"):
        raise ValueError("whose nodes? Give mien --address host:port (or auto) cluster wait")
    with working("cluster-wait"), terminal.progress("waiting"), connect():
        wait_for_nodes(nodes, seconds)
    show({"nodes": nodes}, [f"{nodes} nodes are there"], as_json)


@machines.command("up", epilog="Example: mien cluster up ray_cluster.yaml")
def cluster_up(
    file: ClusterFile = RAY_CLUSTER,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="For all to join, each time.")
    ] = 180.0,
    as_json: AsJson = False,
) -> None:
    """Start Ray on every machine, and wait until all have joined."""
    from cluster import launcher
    from cluster.config import check, read

    check(file)
    config = read(file)
    with working("cluster-up"), terminal.progress("starting"):
        states = launcher.up(config, wait_seconds=wait)
    show({"hosts": [one.as_json() for one in states]}, [tables.hosts(states)], as_json)
    terminal.say(f"on {config.head}: mien --address auto train ...")


@machines.command("status", epilog="Example: mien cluster status ray_cluster.yaml")
def cluster_status(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """Which machines are there; exit code 1 when one of them is not."""
    from cluster import launcher
    from cluster.config import read

    with terminal.progress("asking the head"):
        states = launcher.status(read(file))
    show({"hosts": [one.as_json() for one in states]}, [tables.hosts(states)], as_json)
    if not all(one.alive for one in states):
        raise typer.Exit(terminal.FAILED)


@machines.command("down", epilog="Example: mien cluster down ray_cluster.yaml")
def cluster_down(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """End every Ray process of that user on every machine."""
    from cluster import launcher
    from cluster.config import read

    config = read(file)
    with terminal.progress("stopping"):
        unreached = launcher.down(config)
    text = f"not reached: {', '.join(unreached)}" if unreached else "stopped everywhere"
    show({"unreached": list(unreached)}, [text], as_json)
    if unreached:
        raise typer.Exit(terminal.FAILED)


@app.command(epilog="Example: mien doctor; of a cluster: mien --address auto doctor")
def doctor(
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also check this ray_cluster.yaml.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is installed, what is missing, what would fail, and how to mend it."""
    from cluster.doctor import examine, examine_cluster

    with terminal.progress("checking"):
        checks = examine(cluster)
        if os.environ.get("RAY_ADDRESS"):
            checks += tuple(examine_cluster(cluster))
    rows = [(one.state, one.name, one.found, one.mend) for one in checks]
    shown = table(("", "what", "found", "how to mend it"), rows)
    show({"checks": [one.as_json() for one in checks]}, [shown], as_json)
    if any(one.state == "fail" for one in checks):
        raise typer.Exit(terminal.FAILED)
