"""What one node tells of itself, judged: versions, GPUs, memory, network interfaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from cluster.checks import Check

MIN_GPU_FREE = 0.8
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def judge(
    address: str, look: Mapping[str, Any], here: Mapping[str, Any], ray_gpus: float
) -> Iterator[Check]:
    """All of it for the node at `address`, on which Ray counts `ray_gpus`; `here` is the driver."""
    yield _alike(address, look, here)
    yield _interface(address, look)
    yield _gpus(address, look, ray_gpus)
    yield _memory(address, look)


def _alike(address: str, look: Mapping[str, Any], here: Mapping[str, Any]) -> Check:
    """The same Python and packages as where the driver runs."""
    wanted = {"Python": here["python"], **here["packages"]}
    found = {"Python": look["python"], **look["packages"]}
    other = [
        f"{name} {found[name]}, here {wanted[name]}"
        for name in wanted
        if found[name] != wanted[name]
    ]
    return Check(
        name=f"{address}: versions",
        state="fail" if other else "ok",
        found="; ".join(other) or f"Python {look['python']}, ray {found['ray']}, as here",
        mend="make setup in the same clone on every machine" if other else "",
    )


def _gpus(address: str, look: Mapping[str, Any], ray_gpus: float) -> Check:
    """A worker is sent where Ray counts a GPU: torch must be able to use it there."""
    name, seen = f"{address}: GPU", len(look["gpus"])
    torch = f"torch {look['packages']['torch']}"
    why = f" ({look['gpu_error']})" if look["gpu_error"] else ""
    if ray_gpus > seen:
        return Check(
            name=name,
            state="fail",
            found=f"Ray hands out {ray_gpus:g}, {torch} can use {seen}{why}",
            mend="make setup TORCH_INDEX=(the index of a CUDA build) there, or start Ray there "
            f"with --num-gpus={seen}",
        )
    if seen == 0 and (look["driver"] or why):
        return Check(
            name=name,
            state="warn",
            found=f"one is there, but {torch} cannot use it{why}, and Ray counts none",
            mend="make setup TORCH_INDEX=(the index of a CUDA build) there, and start Ray anew",
        )
    if ray_gpus < seen:
        return Check(
            name=name,
            state="warn",
            found=f"Ray hands out {ray_gpus:g} of {seen}",
            mend="fine if Ray was started so; else start it anew, without --num-gpus",
        )
    return Check(name=name, state="ok", found=f"{seen}, as Ray counts" if seen else "none")


def _memory(address: str, look: Mapping[str, Any]) -> Check:
    gpus = [
        f"{gpu['name']} {gpu['free_bytes'] / 1e9:.0f}/{gpu['total_bytes'] / 1e9:.0f} GB free"
        for gpu in look["gpus"]
    ]
    taken = any(gpu["free_bytes"] < MIN_GPU_FREE * gpu["total_bytes"] for gpu in look["gpus"])
    return Check(
        name=f"{address}: memory",
        state="warn" if taken else "ok",
        found="; ".join([f"{look['memory_bytes'] / 1e9:.0f} GB", *gpus]),
        mend="`nvidia-smi` shows who else holds memory there" if taken else "",
    )


def _interface(address: str, look: Mapping[str, Any]) -> Check:
    """gloo and NCCL must talk over an interface that leads to other machines."""
    interfaces = look["interfaces"]
    leading = {name for name, own in interfaces.items() if _leads(address, own)}
    wrong = [name for name, chosen in look["chosen"].items() if not _suits(name, chosen, leading)]
    right = next((name for name, own in interfaces.items() if address in own), "INTERFACE")
    return Check(
        name=f"{address}: interface",
        state="warn" if wrong else "ok",
        found=", ".join(f"{name}={value}" for name, value in look["chosen"].items()),
        mend=f"start Ray there with {' '.join(f'{name}={right}' for name in wrong)}"
        if wrong
        else "",
    )


def _leads(address: str, own: list[str]) -> bool:
    """Whether an interface with these IP addresses is the node's, or one to another network."""
    found = [ip_address(one) for one in own]
    return address in own or any(not one.is_loopback and not one.is_link_local for one in found)


def _suits(setting: str, chosen: str, leading: set[str]) -> bool:
    """Whether the setting's value takes an interface that leads to others.

    gloo takes names with commas between; NCCL takes prefixes, names after `=`, and after `^` all
    that are not named.
    """
    if setting == "GLOO_SOCKET_IFNAME":
        return set(chosen.split(",")) <= leading
    if not chosen:
        return False
    names = chosen.removeprefix("^").removeprefix("=").split(",")
    exact = "=" in chosen[:2]
    named = {
        one
        for one in leading
        if any(one == name if exact else one.startswith(name) for name in names)
    }
    return bool(leading - named if chosen.startswith("^") else named)
