"""Another user of the machine: what lies in a node's directory, its sockets, ports and processes.

The tests act as ``nobody``, in a process forked for it, so they need root.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entgldb.actors.host import wire as host_wire
from entgldb.launch.node.handle import Node, launch
from entgldb.launch.node.init import Plan, init
from entgldb.messages.client import Done, Ping
from entgldb.messages.codec import encode
from entgldb.messages.errors import EntglError
from entgldb.messages.framing import frame
from entgldb.messages.secret import Secret
from entgldb.storage.recovery import backup
from entgldb.web.door.tokens import FILE, Tokens
from tests.system.support.processes import listeners, tree, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user"),
]
PTRACE_ATTACH = 16
PATIENCE = 20.0


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that everybody may enter: nothing above it keeps anybody out of a node's directory."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def node(public: Path) -> Iterator[Node]:
    """A node with all that a node can have in its directory."""
    made = init(Plan(public / "n1", node_id="n1", host="127.0.0.1"))
    with launch(made.directory) as started:
        Tokens(made.directory).add("reader", "read", [], 0)
        until((made.directory / "log" / "entgldb.log").exists, PATIENCE, "a log")
        yield started


def as_nobody(trial: Callable[[], list[str]]) -> list[str]:
    """What ``trial`` finds that it can do as another user, who is in no group of ours."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            other = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setgid(other.pw_gid)
            os.setuid(other.pw_uid)
            os.write(write, json.dumps(trial()).encode())
        except BaseException as fault:  # noqa: BLE001 -- told to the parent
            os.write(write, json.dumps([f"the trial failed: {fault!r}"]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found: list[str] = json.loads(pipe.read())
    os.waitpid(child, 0)
    return found


def can(what: str, act: Callable[[], object]) -> list[str]:
    """The name of what it could do, where nobody stopped it."""
    try:
        act()
    except OSError:
        return []
    return [what]


def paths(directory: Path) -> list[Path]:
    return [directory, *directory.rglob("*")]


def open_to(found: list[Path]) -> Callable[[], list[str]]:
    """The paths that the one who asks may list, read, write, replace, connect to or lock."""

    def trial() -> list[str]:
        able: list[str] = []
        for path, mode in modes:
            if stat.S_ISDIR(mode):
                able += can(f"list {path}", lambda path=path: os.listdir(path))
                able += can(f"plant in {path}", lambda path=path: os.symlink("/etc/passwd", path / "planted"))
            elif stat.S_ISSOCK(mode):
                able += can(f"connect {path}", lambda path=path: connected(path).close())
            else:
                able += can(f"read {path}", lambda path=path: os.close(os.open(path, os.O_RDONLY)))
                able += can(f"write {path}", lambda path=path: os.close(os.open(path, os.O_WRONLY)))
            able += can(f"remove {path}", lambda path=path: os.rename(path, f"{path}.moved"))
        return able

    modes = [(path, path.lstat().st_mode) for path in found]
    return trial


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    try:
        made.connect(str(path))
    except OSError:
        made.close()
        raise
    return made


def test_the_trial_would_find_what_is_open(public: Path) -> None:
    file = public / "open"
    file.write_text("for everybody")
    file.chmod(0o666)
    assert as_nobody(open_to([file])) == [f"read {file}", f"write {file}"]
    file.unlink()


def test_nothing_of_a_directory_is_open_to_another_user(node: Node) -> None:
    found = paths(node.directory)
    names = {path.name for path in found}
    assert names >= {"entgldb.db", "cluster.key", "node.key", "actors.key", "entgldb.lock", "entgldb.sock"}
    assert names >= {"entgldb.log", FILE, "store", "node.json", "entgldb.toml"}
    assert as_nobody(open_to(found)) == []


def test_each_file_keeps_others_out_by_itself(node: Node) -> None:
    """Also where an operator lets everybody into the directory, and those in it."""
    found = paths(node.directory)
    folders = [path for path in found if path.is_dir()]
    for folder in folders:
        folder.chmod(0o755)
    try:
        able = as_nobody(open_to(found))
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert [one for one in able if not one.startswith("list ")] == []
    print(f"{len(found)} paths, of which {len(folders)} folders")


def test_a_lane_takes_nobody_by_the_kernels_word_though_it_is_open(node: Node) -> None:
    lane = node.directory / "lane"
    ours = [node.directory, lane, lane / "store"]
    for path in ours:
        path.chmod(0o777)

    def trial() -> list[str]:
        with connected(lane / "store") as made:
            return can("go on", lambda: exchanged(made))

    try:
        assert as_nobody(trial) == []
    finally:
        for path in ours:
            path.chmod(0o700)
    assert node.ask("store", Ping()) == Done()


def exchanged(made: socket.socket) -> None:
    """Raises ConnectionError where the other side hangs up."""
    made.sendall(frame(encode(Ping(), 7)))
    if not made.recv(1):
        raise ConnectionError("closed")


def test_a_backup_is_its_makers_alone_and_follows_no_link(node: Node, public: Path) -> None:
    """Also in a folder where everybody may leave a file."""
    shelf = public / "shelf"
    shelf.mkdir()
    shelf.chmod(0o777)
    victim = public / "victim"
    victim.write_text("as it was")
    target = shelf / "n1.bak"

    def plant() -> list[str]:
        for name in ("n1.bak.part", "n1.bak.json.new", "n1.bak.part-journal"):
            os.symlink(victim, shelf / name)
        return ["planted"]

    assert as_nobody(plant) == ["planted"]
    backup.write(node.directory, target, "t", 0, lambda *_: None)
    assert victim.read_text() == "as it was"
    shelf.chmod(0o755)
    assert as_nobody(open_to([target, shelf / "n1.bak.json"])) == []
    backup.verify(target)


def test_another_user_reaches_no_process(node: Node) -> None:
    pids = tree(node.process.pid)
    libc = ctypes.CDLL(None, use_errno=True)

    def attach(pid: int) -> None:
        if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
            raise PermissionError(ctypes.get_errno())

    def trial() -> list[str]:
        able: list[str] = []
        for pid in pids:
            able += can(f"signal {pid}", lambda pid=pid: os.kill(pid, 0))
            able += can(f"attach {pid}", lambda pid=pid: attach(pid))
            able += can(f"files of {pid}", lambda pid=pid: os.listdir(f"/proc/{pid}/fd"))
            for part in ("environ", "mem", "maps", "stack"):
                able += can(f"{part} of {pid}", lambda place=f"/proc/{pid}/{part}": read_some(place))
        return able

    assert len(pids) >= 8
    assert as_nobody(trial) == []


def read_some(place: str) -> bytes:
    with open(place, "rb") as opened:
        return opened.read(1)


def test_the_ports_of_actors_give_another_user_nothing(node: Node) -> None:
    """He can connect, as everybody can; frames under another key are not read, and no port is his."""
    host_wire.use_key(Secret(bytes(32)))
    tls = node.record["ports"]["sync"]
    ports = {port for pid in tree(node.process.pid) for _, port in listeners(pid)} - {tls}
    idle = {port for _, port in listeners(node.process.pid)}
    said = (host_wire.address_of(1), host_wire.Envelope(host_wire.ASK, encode(Ping())))
    frames = {port: host_wire.Serializer.dumps(said, port) for port in ports}

    def trial() -> list[str]:
        able: list[str] = []
        for port, forged in frames.items():
            able += can(f"take {port}", lambda port=port: bind(port))
            if port in idle:
                # the launcher reads its port only while it talks to the node
                continue
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as made:
                try:
                    made.sendall(b"%d>" % len(forged) + forged)
                    answer = made.recv(100)
                except ConnectionError:
                    answer = b""
            able += [f"an answer of {port}: {answer!r}"] if answer else []
        return able

    assert len(ports) >= 8
    assert as_nobody(trial) == []
    assert node.ask("store", Ping()) == Done()


def bind(port: int) -> None:
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
            made.bind(("127.0.0.1", port))
            made.listen()


def test_a_node_does_not_start_where_others_may_plant_files(public: Path) -> None:
    made = init(Plan(public / "n2", node_id="n2", host="127.0.0.1"))
    made.directory.chmod(0o1777)
    with pytest.raises(EntglError, match=r"not-allowed: everybody may write into .*/n2\. Try: chmod 700"):
        launch(made.directory)
