from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.config import check, read

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "ray_cluster.yaml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped file with one thing changed."""
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "ray_cluster.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def line_of(path: Path, text: str) -> int:
    return 1 + next(n for n, line in enumerate(path.read_text().splitlines()) if text in line)


def test_the_shipped_file_is_valid() -> None:
    found = read(SHIPPED)
    assert found.name == "mien"
    assert len(found.hosts) == 3 and found.hosts[0] == found.head
    assert found.min_workers == found.max_workers == 2


def test_ray_takes_the_shipped_file_too() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(SHIPPED.read_text())))


SETUP = "setup_commands:\n    - chmod 600 ~/.ray/auth_token"
MOUNTS = "file_mounts:\n    ~/.ray/auth_token: ~/.ray/auth_token"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("cluster_name: mien", "cluster_nam: mien", "unknown key cluster_nam; did you mean"),
        ("cluster_name: mien", "cluster_name: a b", "cluster_name is 'a b'"),
        ("type: local", "type: aws", "provider.type is 'aws'"),
        ("min_workers: 2", "docker: {}", "docker is for clouds; provider local has no such key"),
        ("min_workers: 2", "available_node_types: {}", "available_node_types is for clouds"),
        ("head_ip: 10.0.0.1", "coordinator_address: a:1", "unknown key provider.coordinator_addr"),
        ("ssh_user: mien", "ssh_port: 22", "unknown key auth.ssh_port"),
        ("ssh_user: mien", "ssh_public_key: k.pub", "auth.ssh_public_key is for clouds"),
        ("speed: 1.0", "speed: fast", "upscaling_speed: 'fast' is not of type 'number'"),
        ("idle_timeout_minutes: 60", "idle_timeout_minutes: -1", "-1 is less than the minimum"),
        (SETUP, "setup_commands: x", "setup_commands: 'x' is not of type 'array'"),
        (MOUNTS, "file_mounts: [a]", "file_mounts: ['a'] is not of type 'object'"),
        ("min_workers: 2", "rsync_filter: !x y", "this is not YAML: could not determine"),
        ("head_ip: 10.0.0.1", "head_ip: 10 0", "provider.head_ip is '10 0'"),
        ("head_ip: 10.0.0.1", "head_ips: 10.0.0.1", "unknown key provider.head_ips"),
        ("[10.0.0.2, 10.0.0.3]", "[10.0.0.2, 10.0.0.2]", "each address once"),
        ("[10.0.0.2, 10.0.0.3]", "[10.0.0.1]", "has '10.0.0.1'"),
        ("[10.0.0.2, 10.0.0.3]", "10.0.0.2", "a list of addresses"),
        ("min_workers: 2", "min_workers: 3", "min_workers is 3; a number from 0 to 2"),
        ("min_workers: 2", "min_workers: two", "min_workers is 'two'"),
        ("max_workers: 2", "max_workers: 1", "min_workers is 2; at most max_workers = 1"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(ValueError) as error:
        read(path)
    assert says in str(error.value)
    where = "min_workers" if says.startswith("min_workers is 2") else new.splitlines()[0]
    assert str(error.value).startswith(f"{path}:{line_of(path, where)}: ")


@pytest.mark.parametrize("mode", ["", "RAY_AUTH_MODE=disabled ", "RAY_AUTH_MODE= "])
@pytest.mark.parametrize("where", ["head", "worker"])
def test_every_node_must_ask_for_a_token(tmp_path: Path, mode: str, where: str) -> None:
    text, said = SHIPPED.read_text(), "RAY_AUTH_MODE=token "
    before, _, after = text.partition(said) if where == "head" else text.rpartition(said)
    path = tmp_path / "ray_cluster.yaml"
    path.write_text(f"{before}{mode}{after}")
    with pytest.raises(ValueError, match=rf"{where}_start_ray_commands must .* whoever reaches"):
        read(path)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of a user who has a key and no token yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").touch()
    return tmp_path


def test_a_check_finds_every_local_file(own: Path) -> None:
    assert check(SHIPPED) == "mien, 3 machines"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("id_ed25519", "id_none", "auth.ssh_private_key: there is no ~/.ssh/id_none on this"),
        (": ~/.ray/auth_token", ": ~/none", "file_mounts: ~/.ray/auth_token: there is no ~/none"),
        (": ~/.ray/auth_token", ": [a]", "~/.ray/auth_token is ['a']; the path of a file here"),
        (
            "type: local",
            "type: aws",
            "there is no ~/.ray/auth_token on this machine; make it: `ray",
        ),
    ],
)
def test_a_file_that_is_not_here_is_named(own: Path, old: str, new: str, says: str) -> None:
    path = changed(own, old, new)
    if "aws" in new:
        path.write_text(path.read_text().replace("min_workers: 2\n", "", 1))
    with pytest.raises(ValueError) as error:
        check(path)
    assert says in str(error.value)
    line = line_of(path, "    ~/.ray/auth" if "aws" in new else new.removeprefix(": "))
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_a_missing_key_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    path = changed(tmp_path, "    ssh_user: mien", "    # no user")
    with pytest.raises(ValueError, match=r"auth\.ssh_user is missing; the user that logs in"):
        read(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "min_workers: 2", "min_workers: 2\nmin_workers: 1")
    with pytest.raises(ValueError, match="min_workers stands here and in line"):
        read(path)


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"cluster\.yaml:\d+: "):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no cluster file"):
        read(tmp_path / "none.yaml")
