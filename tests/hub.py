"""A consortium on loopback inside this process: coordinators, nodes and an analyst in threads,
quick to start and to end.

The real server, the real links, the real conversations; only the processes are missing (see
`fedstats.demo.laptop` for those).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import fedstats
from fedstats import Rules
from fedstats.client.connected import Connected
from fedstats.client.federation import Federation, load_tables
from fedstats.client.memory import SimulatedHouse
from fedstats.coordinator.app import Application, server_of
from fedstats.crypto.identity import Identity
from fedstats.demo.laptop import free_port
from fedstats.disclosure import NO_RULES
from fedstats.transport.http import Link
from fedstats.wire.roster import Consortium, member_of
from nodes.journal import Journal
from nodes.service import Node

from . import flat_registries

HOST = "127.0.0.1"
START_SECONDS = 30.0


class Hub:
    """One coordinator that can be started, stopped and started again at the same port."""

    def __init__(self, me, port=None, tls=None):
        self.me, self.port, self.tls = me, port or free_port(), tls
        self.server = None

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def start(self, roster, round_seconds=5.0):
        self.application = Application(self.me, roster, round_seconds=round_seconds)
        self.server = server_of(self.application, host=HOST, port=self.port, tls=self.tls)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started)

    def stop(self):
        if self.server is not None:
            self.server.should_exit = self.server.force_exit = True
            loop = self.application.loop
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._drop)
            self.thread.join(START_SECONDS)
            self.server = None

    def _drop(self):
        """As when the power goes: nobody is told, every line is cut."""
        visitors = self.application.visitors
        self.application.stop()
        for group in (*visitors.members.values(), *visitors.strangers.values()):
            for one in list(group):
                one.end()

    def metrics(self):
        with self.call(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as near:
            text = b"".join(iter(lambda: near.recv(65536), b"")).decode()
        lines = [line.split() for line in text.splitlines() if line.startswith("fedstats_")]
        return {name.removeprefix("fedstats_"): int(value) for name, value in lines}

    @contextlib.contextmanager
    def call(self, sent=b"", seconds=10.0):
        """A plain connection of somebody without a key."""
        with socket.create_connection((HOST, self.port), timeout=seconds) as near:
            near.sendall(sent)
            yield near


class World:
    """A consortium of three registries, an analyst and `hubs` coordinators; `with World() as
    world:` runs it."""

    def __init__(self, hubs=1, *, one_key=False, nodes=True, tls=None, round_seconds=5.0, seed=3):
        names = ["hub"] if one_key else [f"hub{k}" for k in range(hubs)]
        self.people = {name: Identity.generate(name) for name in (*names, "ana")}
        self.hubs = [Hub(self.people[names[0 if one_key else k]], tls=tls) for k in range(hubs)]
        self.round_seconds, self.has_nodes = round_seconds, nodes
        self.tables = flat_registries.registries(seed, sites=3, patients=600)
        self.book, self.data, _ = load_tables(self.tables, flat_registries.DICTIONARY, None)
        self.people |= {name: Identity.generate(name) for name in self.tables}
        coordinators = [
            member_of(
                self.people[name],
                "coordinator",
                tuple(hub.url for hub in self.hubs if hub.me.name == name),
            )
            for name in names
        ]
        self.roster = Consortium(
            name="world",
            epoch=1,
            dictionary="",
            dictionary_sha256=self.book.dictionary.digest,
            rules=Rules(),
            members=(
                *coordinators,
                member_of(self.people["ana"], "analyst"),
                *(member_of(self.people[name], "registry") for name in self.tables),
            ),
        )
        self.nodes, self.threads = {}, {}
        self.journals = {name: Journal() for name in self.tables}

    def link(self, name, hub=None, **options):
        hub = hub or self.hubs[0]
        return Link(self.people[name], hub.me.name, (hub.url,), **options)

    def links(self, name):
        return [
            Link(self.people[name], coordinator, (address,))
            for coordinator, address in self.roster.coordinators
        ]

    def node(self, name, **options):
        house = SimulatedHouse(self.book, self.data[name], NO_RULES, "cut")
        return Node(
            self.people[name],
            self.roster,
            house,
            options.get("journal") or self.journals[name],
            options.get("links") or self.links(name),
            round_seconds=self.round_seconds,
        )

    def run_node(self, name, **options):
        if name in self.nodes:
            self.journals[name] = Journal()  # a node closes its own when it stops
        node = self.nodes[name] = self.node(name, **options)
        self.threads[name] = threading.Thread(target=node.run, daemon=True)
        self.threads[name].start()
        return node

    def stop_node(self, name):
        self.nodes[name].stopping.set()  # `stop` is for the process of a node
        self.threads[name].join(START_SECONDS)

    def __enter__(self):
        for hub in self.hubs:
            hub.start(self.roster, self.round_seconds)
        for name in self.tables if self.has_nodes else ():
            self.run_node(name)
        self.settle()
        return self

    def settle(self):
        """Until every node reads its mail at every coordinator that runs."""
        running = {hub.application.boot for hub in self.hubs if hub.server}
        wait_for(
            lambda: all(
                running <= {line.boot for line in node.lines.all} for node in self.nodes.values()
            )
        )

    def __exit__(self, *_):
        for node in self.nodes.values():
            node.stopping.set()
        for hub in self.hubs:
            hub.stop()
        for thread in self.threads.values():
            thread.join(START_SECONDS)

    def federation(self, timeout=20.0, progress=None, links=None):
        first, *others = links or self.links("ana")
        return Federation(
            Connected(
                self.people["ana"],
                self.roster,
                self.book,
                first,
                tuple(self.tables),
                timeout=timeout,
                progress=progress,
                others=others,
            )
        )

    def ask(self, timeout=20.0, **options):
        with self.federation(timeout, **options) as fed:
            return fed.cohort().summary(["age"])

    def pooled(self):
        fed = fedstats.pooled(self.tables, dictionary=flat_registries.DICTIONARY, rules=Rules())
        return fed.cohort().summary(["age"])


def wait_for(what, seconds=START_SECONDS):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
