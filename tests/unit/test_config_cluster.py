from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.config import read

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


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("cluster_name: mien", "cluster_nam: mien", "unknown key cluster_nam; did you mean"),
        ("cluster_name: mien", "cluster_name: a b", "cluster_name is 'a b'"),
        ("type: local", "type: aws", "provider.type is 'aws'"),
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


def test_every_node_must_say_how_it_authenticates(tmp_path: Path) -> None:
    path = changed(tmp_path, "RAY_AUTH_MODE=token ", "")
    with pytest.raises(ValueError, match=r"head_start_ray_commands must .* RAY_AUTH_MODE"):
        read(path)


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
