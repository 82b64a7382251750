"""The inventory: good and bad files by folder, what variables mean, what is selected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetaudit.errors import InventoryError, Place
from fleetaudit.inventory import FORMATS, Disk, Inventory, Overrides, load
from fleetaudit.inventory.tree import Tree
from fleetaudit.model import Become, Boundary, Host, Secret, Source

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOOD = sorted((HERE / "good").iterdir())
BAD = sorted((HERE / "bad").iterdir())


def no_folder(path: str) -> None:
    """Nothing is a directory."""


def from_text(text: str, overrides: Overrides | None = None, **more: str) -> Inventory:
    files = {"inventory.yaml": text, **{f"{name}.yaml": content for name, content in more.items()}}
    return load(
        list(files), Disk(lambda path: files[path].encode(), no_folder), home="/home/me", overrides=overrides
    )


def from_file(path: Path) -> Inventory:
    return load([str(path)], home="/home/me")


def by_name(inventory: Inventory) -> dict[str, Host]:
    return {host.name: host for host in inventory.hosts}


def names(hosts: tuple[Host, ...]) -> list[str]:
    return [host.name for host in hosts]


@pytest.mark.parametrize("path", [*GOOD, ROOT / "inventory.example.yaml"], ids=lambda path: path.stem)
def test_good_file_loads(path: Path) -> None:
    inventory = from_file(path)
    assert inventory.hosts
    assert names(inventory.hosts) == sorted(names(inventory.hosts))
    assert set(inventory.groups["all"]) == set(names(inventory.hosts))
    assert inventory.sources == (
        Source(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), "ansible_yaml"),
    )


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_file_is_refused_with_its_message(path: Path) -> None:
    """Its first comment line must stand in the message; after the file's name if it begins with ':'."""
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    with pytest.raises(InventoryError) as caught:
        from_file(path)
    wanted = f"{path}{expected}" if expected.startswith(":") else expected
    assert wanted in str(caught.value)
    assert len(caught.value.problems) == 1


def test_variables_apply_from_all_down_to_the_host() -> None:
    hosts = by_name(from_file(HERE / "good" / "precedence.yaml"))
    assert hosts["h1"].user == "from-child"
    assert hosts["h2"].user == "from-host"
    assert {host.port for host in hosts.values()} == {2001}
    assert hosts["h1"].context.variables == {"tier": "parent", "deep": "child"}
    assert hosts["h3"].context.variables == {"tier": "n"}
    assert hosts["h4"].context.variables == {"tier": "o"}
    assert hosts["h1"].context.groups == ("a_parent", "q_top", "z_child")


def test_a_group_in_several_places_has_the_depth_of_its_longest_way() -> None:
    hosts = by_name(from_file(HERE / "good" / "diamond.yaml"))
    assert hosts["h1"].context.variables == {"tier": "leaf"}
    assert hosts["h1"].context.groups == ("leaf", "left", "middle", "other", "right", "top")
    assert hosts["h2"].context.groups == ("left", "top")


def test_depth_counts_before_priority() -> None:
    text = """
    top:
      vars: {ansible_user: top, ansible_group_priority: 99}
      children: {low: {vars: {ansible_user: low}, hosts: {w1: }}}
    """
    assert by_name(from_text(text))["w1"].user == "low"


def test_a_port_in_a_name_counts_where_the_host_is_first_named() -> None:
    text = "{a: {hosts: {w1: {ansible_port: 1}, 'w2:2': }}, b: {hosts: {'w1:3': , 'w2:3': }}}"
    assert [host.port for host in from_text(text).hosts] == [1, 2]


def test_ranges_ports_and_addresses_in_names() -> None:
    inventory = from_file(HERE / "good" / "names.yaml")
    assert set(inventory.groups["web"]) == {
        *("web01.example", "web02.example", "web03.example"),
        *("db-a-1", "db-a-2", "db-b-1", "db-b-2", "db-c-1", "db-c-2"),
        *("step0", "step5", "step10", "up0", "up1", "web9", "2001:db8::1", "2001:db8::2", "192.0.2.7", "42"),
    }
    assert set(inventory.groups["lower"]) == {"z-y", "z-z", "z-A", "z-B"}
    assert inventory.groups["ungrouped"] == ("loner",)
    assert inventory.groups["empty"] == ()
    hosts = by_name(inventory)
    assert (hosts["web9"].address, hosts["web9"].port) == ("web9", 2222)
    assert (hosts["2001:db8::1"].address, hosts["2001:db8::1"].port) == ("2001:db8::1", 2200)
    assert hosts["web01.example"].port is None
    assert sorted(inventory.branches["all"].children) == ["empty", "lower", "ungrouped", "web"]


def test_every_variable_reaches_its_field() -> None:
    hosts = by_name(from_file(HERE / "good" / "reach.yaml"))
    new, old, here = hosts["new"], hosts["old"], hosts["here"]
    assert (new.address, new.port, new.user) == ("192.0.2.1", 2222, "old-name-wins")
    assert new.password == Secret("s3cret {x")
    assert (new.private_key, new.interpreter) == ("/home/me/.ssh/id", "/usr/bin/python3")
    assert new.become == Become("doas", "admin", Secret("pw1"), "/opt/bin/doas")
    assert (old.address, old.port, old.password) == ("192.0.2.2", 2223, Secret("pw2"))
    assert (old.private_key, old.interpreter, old.transport) == ("/keys/id", None, "ssh")
    assert old.become == Become("sudo", "root", Secret("pw4"), flags=("-H", "-g", "wheel", "--chdir=/"))
    assert (here.transport, here.become, here.context.boundary) == ("local", None, Boundary.CONTAINER)


def test_the_transport_for_fleetaudit_alone_wins_and_is_no_variable_of_policies() -> None:
    text = "{all: {vars: {ansible_connection: ssh, fleetaudit_transport: openssh}, hosts: {web1: }}}"
    (host,) = from_text(text).hosts
    assert (host.transport, dict(host.context.variables)) == ("openssh", {})
    with pytest.raises(InventoryError, match=r"did you mean fleetaudit_transport\?"):
        from_text("{all: {vars: {fleetaudit_transprt: openssh}, hosts: {web1: }}}")


def test_no_password_in_any_rendering() -> None:
    inventory = from_file(HERE / "good" / "reach.yaml")
    assert not re.search("s3cret|pw[1-4]", repr(inventory) + str(inventory))


def test_a_wrong_password_is_not_repeated() -> None:
    with pytest.raises(InventoryError) as caught:
        from_text("web: {hosts: {w1: {ansible_password: 90210, ansible_become_pass: 'hunter {{ 2 }}'}}}")
    assert len(caught.value.problems) == 2
    assert not re.search("90210|hunter", str(caught.value))


def test_the_inventory_wins_over_options() -> None:
    options = Overrides(
        user="option",
        private_key="/option",
        password=Secret("option"),
        become=True,
        become_user="option",
        become_method="su",
        become_password=Secret("option"),
        transport="local",
        boundary=Boundary.CONTAINER,
    )
    text = """
    web:
      hosts:
        silent:
        never: {ansible_become: false}
        half: {ansible_become_user: oracle, ansible_sudo_pass: for-sudo-only}
        says:
          ansible_user: says
          ansible_password: says
          ansible_ssh_private_key_file: /says
          ansible_connection: ssh
          ansible_become_method: sudo
          ansible_become_pass: says
          fleetaudit_boundary: host
    """
    hosts = by_name(from_text(text, options))
    silent, says = hosts["silent"], hosts["says"]
    assert (silent.user, silent.private_key, silent.transport) == ("option", "/option", "local")
    assert silent.become == Become("su", "option", Secret("option"))
    assert silent.password == Secret("option")
    assert silent.context.boundary is Boundary.CONTAINER
    assert (says.user, says.private_key, says.transport) == ("says", "/says", "ssh")
    assert says.password == Secret("says")
    assert says.become == Become("sudo", "option", Secret("says"))
    assert says.context.boundary is Boundary.HOST
    assert hosts["never"].become is None
    assert hosts["half"].become == Become("su", "oracle", Secret("option"))


def test_only_named_variables_reach_policies() -> None:
    text = """
    web:
      vars:
        policy_vars: [web_user, ports, fleetaudit_api_key, absent]
        web_user: www-data
        ports: [80, {tls: 443}]
        db_user: hidden
        fleetaudit_site: north
        fleetaudit_api_key: listed
        fleetaudit_DB_Password: hidden
        fleetaudit_monkey: shown
        fleetaudit_boundary: host
        ansible_user: hidden
      hosts: {w1: , w2: {policy_vars: []}}
    """
    hosts = by_name(from_text(text))
    assert hosts["w1"].context.variables == {
        "web_user": "www-data",
        "ports": (80, {"tls": 443}),
        "fleetaudit_site": "north",
        "fleetaudit_api_key": "listed",
        "fleetaudit_monkey": "shown",
    }
    assert list(hosts["w2"].context.variables) == ["fleetaudit_monkey", "fleetaudit_site"]
    with pytest.raises(TypeError):
        hosts["w1"].context.variables["web_user"] = "root"  # type: ignore[index]  # what must fail


def test_a_later_source_wins_and_lists_add_hosts() -> None:
    inventory = load(
        ["a.yaml", "b.yaml", "w1:99,extra:2200, [2001:db8::5]:23 ,"],
        Disk(
            lambda path: {
                "a.yaml": b"web: {hosts: {w1: {ansible_user: a, ansible_port: 1}}, vars: {ansible_host: a}}",
                "b.yaml": b"web: {hosts: {w1: {ansible_user: b}}, vars: {ansible_host: b}}",
            }[path],
            no_folder,
        ),
        home="/",
    )
    hosts = by_name(inventory)
    assert (hosts["w1"].user, hosts["w1"].port, hosts["w1"].address) == ("b", 1, "b")
    assert hosts["w1"].context.groups == ("web",)
    assert (hosts["extra"].port, hosts["extra"].context.groups) == (2200, ("ungrouped",))
    assert hosts["2001:db8::5"].port == 23
    assert [source.name for source in inventory.sources] == ["ansible_yaml", "ansible_yaml", "host_list"]


def test_null_unsets_an_inherited_variable() -> None:
    hosts = by_name(from_text("web: {vars: {ansible_user: a}, hosts: {w1: {ansible_user: }, w2: }}"))
    assert (hosts["w1"].user, hosts["w2"].user) == (None, "a")


@pytest.mark.parametrize(
    ("pattern", "limit", "expected"),
    [
        ("all", None, "db1 db2 w1 w2 w3"),
        ("web:&prod:!w2", None, "w1"),
        ("!web", None, "db1 db2"),
        ("all", "w*", "w1 w2 w3"),
        ("prod", "web,db2", "db2 w1 w2"),
        ("~w[12]", "!w1", "w2"),
    ],
)
def test_select(pattern: str, limit: str | None, expected: str) -> None:
    text = "{web: {hosts: {'w[1:3]': }}, db: {hosts: {'db[1:2]': }}, prod: {hosts: {w1: , w2: , db2: }}}"
    assert names(from_text(text).select(pattern, limit)) == expected.split()


@pytest.mark.parametrize(
    ("pattern", "limit", "message"),
    [
        ("wbe", None, "no host or group is called 'wbe' (did you mean web?)"),
        ("web:!w9x", None, "no host or group is called 'w9x'"),
        ("x*", None, "'x*' matches no host (groups with hosts: all, db, web)"),
        ("web:&db", None, "'web:&db' matches no host"),
        ("web", "db", "'db' matches no host within 'web'"),
        ("web", "", "the host pattern is empty"),
    ],
)
def test_select_refuses(pattern: str, limit: str | None, message: str) -> None:
    inventory = from_text("{web: {hosts: {'w[1:3]': }}, db: {hosts: {db1: }}}")
    with pytest.raises(InventoryError, match=re.escape(message)):
        inventory.select(pattern, limit)


def test_every_mistake_is_told_once() -> None:
    text = """
    web:
      vars: {ansible_port: x, ansible_ssh_args: "-4"}
      hosts: {'w[1:500]': , w1: {ansible_become: perhaps}}
    """
    with pytest.raises(InventoryError) as caught:
        from_text(text)
    told = [
        (problem.place.line if problem.place else 0, problem.message) for problem in caught.value.problems
    ]
    assert sorted(told) == [
        (3, "ansible_port: 'x' is not a port"),
        (3, "ansible_ssh_args: the ssh option '-4' is not understood here"),
        (4, "ansible_become: 'perhaps' is neither true nor false"),
    ]


def test_problems_of_several_sources_come_together_and_end_somewhere() -> None:
    hosts = "".join(f"    w {number}:\n" for number in range(90))
    with pytest.raises(InventoryError) as caught:
        from_text("web:\n  hosts:\n" + hosts, second="web: [1]")
    assert len(caught.value.problems) == 51
    assert caught.value.problems[-1].message == "and 41 more problems"


def missing(tmp_path: Path) -> Path:
    return tmp_path / "missing.yaml"


def script(tmp_path: Path) -> Path:
    (tmp_path / "hosts.py").write_text("#!/usr/bin/env python3\nprint('{}')\n")
    return tmp_path / "hosts.py"


def vault(tmp_path: Path) -> Path:
    (tmp_path / "hosts.yaml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6263\n")
    return tmp_path / "hosts.yaml"


def binary(tmp_path: Path) -> Path:
    (tmp_path / "hosts").write_bytes(b"\x7fELg\0\0")
    return tmp_path / "hosts"


def big(tmp_path: Path) -> Path:
    (tmp_path / "big.yaml").write_bytes(b"# filler\n" * 1_200_000)
    return tmp_path / "big.yaml"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            missing,
            "the inventory cannot be read: No such file or directory (name an inventory file, or hosts",
        ),
        (script, "this script is not executable (chmod +x"),
        (vault, "the file is encrypted by ansible-vault (pass --inventory-via ansible"),
        (binary, "this is a binary file"),
        (big, "the limit is 2097152"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_inventory_is_named(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(InventoryError) as caught:
        from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("sources", [[], [""], [","], ["a\0b"]])
def test_sources_that_name_nothing(sources: list[str]) -> None:
    with pytest.raises(InventoryError):
        load(sources, home="/")


def test_host_list_mistakes_come_together() -> None:
    with pytest.raises(InventoryError) as caught:
        load(["w1,w 2,-x,w3:0,"], home="/")
    assert len(caught.value.problems) == 3


def test_formats_are_asked_in_the_order_of_the_table() -> None:
    texts = {
        "a,": b"",
        "a": b"all:\n  hosts:\n",
        "b": b"# web:\n\nweb1:22 x=1\n",
        "b.yml": b"web1\n",
        "b.ini": b"all:\n",
        "c": b"[web]\nw1\n",
        "d": b'{"_meta": {}}',
        "e": b'{"web": {"hosts": []}, "_meta": {}}',
        "f": b"'web': {hosts: {a: }}",
        "g": b"a=b\n",
        "h": b"---\n[a]\n",
    }
    first = {
        source: next(name for name, form in FORMATS.items() if form.claims(source, text))
        for source, text in texts.items()
    }
    assert first == {
        "a,": "host_list",
        "a": "ansible_yaml",
        "b": "ansible_ini",
        "b.yml": "ansible_yaml",
        "b.ini": "ansible_ini",
        "c": "ansible_ini",
        "d": "ansible_list",
        "e": "ansible_list",
        "f": "ansible_yaml",
        "g": "ansible_ini",
        "h": "ansible_yaml",
    }


def test_host_entries_have_an_end() -> None:
    def fill(tree: Tree) -> None:
        place = Place("f")
        for number in range(1_000_000):
            tree.add_host(f"w{number % 10}", "ungrouped", place)

    with pytest.raises(InventoryError, match="more than 500000 host entries"):
        fill(Tree())


def test_ten_thousand_hosts_keep_their_own_variables() -> None:
    hosts = "".join(f"    h{number}: {{ansible_port: {number + 1}}}\n" for number in range(10_000))
    inventory = from_text("web:\n  vars: {ansible_user: u}\n  hosts:\n" + hosts)
    assert {(host.name, host.port, host.user) for host in inventory.hosts} == {
        (f"h{number}", number + 1, "u") for number in range(10_000)
    }
