"""The link between actor and learner: who may speak, what may cross, and that nobody waits for ever."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from farl.algorithms.rollout import Rollout
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.online.distributed import link, protocol, wire
from farl.online.distributed.courier import Courier
from farl.online.distributed.link import Channel, LinkLost, WrongKey
from farl.online.distributed.other_process import LinkConfig
from farl.online.distributed.serving import LearnerServer
from farl.online.learner import Handover
from farl.online.run import OnlineConfig, learner_of, run
from method import cliff

KEY, OTHER = b"k" * 64, b"o" * 64


# ---------------------------------------------------------------- messages


def test_a_message_arrives_as_it_was_sent():
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.Adam([parameter], fused=True)
    parameter.grad = torch.ones(3, 2)
    optimizer.step()
    content = {
        "optimizer": optimizer.state_dict(),
        "flags": torch.tensor([[True], [False]]),
        "generator": torch.Generator().manual_seed(3).get_state(),
        "none": None,
        "numbers": [1, 2.5, float("inf"), 2**60],
        "empty": torch.zeros(0, 4),
        "twice": [parameter, parameter],
    }
    kind, found = wire.decode(wire.encode("state", content))
    assert kind == "state"
    assert found["numbers"] == content["numbers"]
    assert found["none"] is None
    assert found["empty"].shape == (0, 4)
    assert torch.equal(found["generator"], content["generator"])
    assert torch.equal(found["flags"], content["flags"])
    assert torch.equal(found["twice"][1], parameter)
    assert found["optimizer"]["state"].keys() == {0}
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    optimizer.load_state_dict(found["optimizer"])


def test_what_is_neither_plain_nor_a_tensor_is_not_sent():
    with pytest.raises(TypeError, match="Path"):
        wire.encode("state", {"where": Path("x")})


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_unread(tmp_path):
    sprung = tmp_path / "sprung"
    payload = pickle.dumps(Trap(sprung))
    message = wire.encode("rollout", {"tensor": torch.zeros(3)})
    header, tensors = message[:-100], message[-100:]
    for bad in (payload, header + payload, message[:16] + payload + tensors, message[:-5], b""):
        with pytest.raises(wire.NotAMessage):
            wire.decode(bad)
    assert not sprung.exists()
    pickle.loads(payload)
    assert sprung.exists()  # the trap does work


# ---------------------------------------------------------------- the channel


def linked(key: bytes = KEY, other: bytes = KEY) -> tuple[Channel, Channel]:
    """Both ends of a connection between a listener that knows ``key`` and one that knows ``other``."""
    listener, ends = link.listen("127.0.0.1", 0), []

    def attend():
        with contextlib.suppress(LinkLost, WrongKey):
            ends.append(link.accept(listener.accept()[0], key))

    thread = threading.Thread(target=attend)
    thread.start()
    try:
        near = link.connect(*listener.getsockname(), other)
    finally:
        thread.join(10)
        listener.close()
    return near, ends[0]


def test_frames_of_any_size_cross_both_ways_in_order():
    near, far = linked()
    frames = [b"", b"x", bytes(3_000_000)]
    sender = threading.Thread(target=lambda: [near.send(frame) for frame in frames])
    sender.start()
    assert [far.receive(5) for _ in frames] == frames
    sender.join()
    far.send(b"back")
    assert near.receive(5) == b"back"
    assert near.receive(0.01) is None


def test_a_wrong_key_is_refused():
    with pytest.raises(WrongKey, match="does not know the key"):
        linked(KEY, OTHER)


def test_a_listener_that_does_not_know_the_key_learns_nothing_and_is_refused():
    """It may copy the greeting, but cannot answer the challenge."""
    listener = link.listen("127.0.0.1", 0)

    def impostor():
        sock = listener.accept()[0]
        sock.sendall(b"farl link 1\n" + bytes(32))
        proof = sock.recv(64)
        sock.sendall(proof[32:])  # what the other side proved, sent back
        sock.close()

    threading.Thread(target=impostor, daemon=True).start()
    with pytest.raises(WrongKey):
        link.connect(*listener.getsockname(), KEY)
    listener.close()


@pytest.mark.parametrize("attack", ["change", "repeat", "leave out"])
def test_frames_that_were_meddled_with_on_the_way_are_refused(attack):
    near, far = linked()
    raw = near._writer
    captured = []

    class Meddler:
        def sendall(self, content):
            captured.append(content)

    near._writer = Meddler()
    for content in (b"first", b"second"):
        near.send(content)
    first, second = captured
    sent = {"change": [first[:-1] + b"!"], "repeat": [first, first], "leave out": [second]}[attack]
    for frame in sent:
        raw.sendall(frame)
    for _ in sent[:-1]:
        assert far.receive(5) == b"first"
    with pytest.raises(LinkLost, match="changed on the way"):
        far.receive(5)


def test_an_announcement_of_too_much_is_refused_before_it_is_read():
    near, far = linked()
    near._writer.sendall(link._FRAME.pack(link.LARGEST + 1, bytes(32)))
    with pytest.raises(LinkLost, match="at most"):
        far.receive(5)


def test_the_link_is_on_loopback_unless_told_otherwise_and_its_key_is_for_its_owner_alone(tmp_path):
    assert LinkConfig().host == "127.0.0.1"
    key = link.key_of(tmp_path / "key")
    assert link.key_of(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert link.key_of(tmp_path / "another") != key


# ---------------------------------------------------------------- the server


@pytest.fixture
def config(bundle_folder, tmp_path) -> OnlineConfig:
    return cliff.online(bundle_folder, tmp_path / "run")


@contextlib.contextmanager
def serving(
    config: OnlineConfig, actors: int = 1, patience_s: float = 60.0
) -> Iterator[tuple[LearnerServer, list[str]]]:
    """A learner at work in a thread of this process, and what it says."""
    bundle, said = OfflineBundle.load(config.bundle, config.task), []
    listener, who = link.listen("127.0.0.1", 0), protocol.identity(config, bundle)
    server = LearnerServer(learner_of(config, bundle), listener, KEY, who, patience_s, 30.0, said.append)
    server.address = listener.getsockname()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server, said
    finally:
        server.stop()
        thread.join(10)


def hello(server: LearnerServer, config: OnlineConfig, **changes: object) -> tuple[Channel, str, dict]:
    """Introduce an actor; the channel and the answer."""
    channel = link.connect(*server.address, KEY)
    identity = {**protocol.identity(config, OfflineBundle.load(config.bundle, config.task)), **changes}
    channel.send(wire.encode("hello", {"identity": identity}))
    return channel, *wire.decode(channel.receive(10))


def answer(channel: Channel) -> tuple[str, dict]:
    """The next message that is no sign of life."""
    while True:
        message = channel.receive(20)
        assert message is not None
        kind, content = wire.decode(message)
        if kind != "beat":
            return kind, content


def until(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rollout_of(config: OnlineConfig, envs: int, seed: int) -> Rollout:
    """Steps in which everything differs, by nobody in particular."""
    generator = torch.Generator().manual_seed(seed)
    rollout = Rollout.empty(16, envs, 6, 2)
    for name in ("obs", "next_obs", "proposed", "reward", "proposed_log_prob"):
        getattr(rollout, name).normal_(generator=generator)
    rollout.executed, rollout.executed_log_prob = rollout.proposed.clone(), rollout.proposed_log_prob.clone()
    return rollout


def test_an_actor_of_another_run_is_told_what_differs(config):
    with serving(config) as (server, said):
        for other, what in (
            (replace(config, seed=7), "seed: 7 there, 0 here"),
            (replace(config, ppo=replace(config.ppo, clip=0.3)), "ppo: "),
        ):
            _, kind, content = hello(server, other)
            assert kind == "refused"
            assert what in content["why"]
        assert hello(server, config, bundle="f00")[1:][0] == "refused"
        assert "bundle f00 there" in said[-1]
        assert hello(server, config, protocol=0)[1] == "refused"
        assert hello(server, replace(config, steps=9, out=Path("elsewhere"), evaluate_every=7))[1] == "welcome"


def test_one_actor_is_served_at_a_time_and_may_come_back(config):
    with serving(config) as (server, said):
        first, kind, _ = hello(server, config)
        assert kind == "welcome"
        assert hello(server, config)[1] == "refused"
        first.close()
        until(lambda: any("is gone" in line and "waiting" in line for line in said))
        assert hello(server, config)[1] == "welcome"


def test_a_pickle_from_one_who_knows_the_key_costs_them_the_connection_and_runs_nothing(config, tmp_path):
    with serving(config) as (server, said):
        channel, _, _ = hello(server, config)
        channel.send(pickle.dumps(Trap(tmp_path / "sprung")))
        until(lambda: any("not a message of this program" in line for line in said))
        assert not (tmp_path / "sprung").exists()
        assert hello(server, config)[1] == "welcome"


def test_who_connects_and_says_nothing_keeps_nobody_waiting(config):
    with (
        serving(config) as (server, _),
        socket.create_connection(server.address),
        socket.create_connection(server.address),
    ):
        begun = time.monotonic()
        assert hello(server, config)[1] == "welcome"
        assert time.monotonic() - begun < link.GREETING_S


def test_a_learner_that_nobody_comes_to_ends_and_says_so(config):
    with serving(config, patience_s=0.2) as (_, said):
        until(lambda: any("no actor came" in line for line in said))


def test_what_comes_back_is_the_learners_whole_state_after_that_rollout_whatever_order_they_came_in(config):
    rollouts = [rollout_of(config, 4, seed) for seed in (1, 2)]
    here = learner_of(config, OfflineBundle.load(config.bundle))
    begin = wire.encode("begin", {"state": here.state_dict()})
    with serving(config) as (server, _):
        channel, _, _ = hello(server, config)
        channel.send(begin)
        for number in (2, 1):
            channel.send(protocol.rollout_message(Handover(number, rollouts[number - 1], 0.1 * number)))
        for number in (1, 2):
            expected, _ = here.learn(rollouts[number - 1], 0.1 * number)
            kind, update = answer(channel)
            assert (kind, update["number"], update["losses"]) == ("update", number, expected)
            assert wire.encode("state", update["state"]) == wire.encode("state", here.state_dict())
        channel.send(begin)  # again from the start: what was learned is forgotten
        channel.send(protocol.rollout_message(Handover(1, rollouts[0], 0.1)))
        assert answer(channel)[1]["number"] == 1


def test_a_learner_that_somebody_else_started_serves_a_whole_run_and_stays(config, tmp_path):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    with serving(config) as (server, said):
        host, port = server.address
        there = LinkConfig(learner=f"{host}:{port}", key=tmp_path / "key", ahead=0)
        run(replace(config, mode="async", link=there, steps=256, evaluation_episodes=0))
        assert len(cliff.lines(config.out, "metrics")) == server.learner.version == 2
        until(lambda: any("good-bye" in line for line in said))
        assert hello(server, config)[1] == "welcome"
        with pytest.raises(UserError, match=r"serves another run .*seed"):
            run(replace(config, mode="async", link=there, seed=3, out=tmp_path / "other"))


# ---------------------------------------------------------------- the actor's end


class Silent:
    """A learner that greets and is never heard of again."""

    def __init__(self) -> None:
        self.listener, self.reached, self.ended = link.listen("127.0.0.1", 0), 0, 0
        self.kept: list[Channel] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            channel = link.accept(self.listener.accept()[0], KEY)
            channel.receive(5)
            channel.send(wire.encode("welcome", {"version": 0}))
            self.kept.append(channel)

    def reach(self, failed: int) -> Channel:
        self.reached += 1
        return link.connect(*self.listener.getsockname(), KEY)

    def stuck(self) -> None:
        self.ended += 1


@pytest.mark.parametrize(("silence_s", "update_s", "why"), [(0.3, 60, "silent for"), (60, 0.3, "an update took more")])
def test_a_learner_that_says_nothing_or_never_finishes_is_given_up_and_looked_for_again(silence_s, update_s, why):
    learner, said = Silent(), []
    courier = Courier(learner, {}, {}, silence_s, update_s, said.append)
    courier.start()
    courier.send(1, wire.encode("rollout", {"number": 1}))
    until(lambda: learner.reached >= 2)
    assert why in said[0]
    assert (learner.ended > 0) == (why == "an update took more")
    courier.close("bye")
    assert courier.take() is None
