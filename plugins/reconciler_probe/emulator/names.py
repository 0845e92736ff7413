"""A resolver over UDP and TCP that answers from a list of records and says truthfully what does not exist."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from reconciler.resource import JSONObject
from reconciler.sandbox.server import Faults
from reconciler_probe.emulator.door import exactly
from reconciler_probe.emulator.sockets import Listener

SOA = "ns.invalid. hostmaster.invalid. 1 7200 3600 1209600 300"


@dataclass(frozen=True, slots=True)
class Record:
    """One record: names without the dot at the end, a TXT as one text."""

    name: str
    type: str
    value: str
    ttl: int = 300


def record(data: JSONObject) -> Record:
    """Read a record of the seed."""
    return Record(str(data["name"]).lower().removesuffix("."), data["type"], str(data["value"]), int(data.get("ttl", 300)))


def rdata(one: Record) -> dns.rdata.Rdata:
    """Give a record's value as it goes over the wire; a TXT is cut into strings of 255 bytes."""
    text = one.value
    if one.type == "TXT":
        raw = text.encode()
        text = " ".join('"' + "".join(f"\\{byte:03d}" for byte in raw[start : start + 255]) + '"' for start in range(0, len(raw) or 1, 255))
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(one.type), text, origin=dns.name.root, relativize=False)


class Resolver:
    """One resolver. ``records`` may be replaced at any time.

    ``silent`` makes it take questions and answer none; ``trouble`` is the only answer it gives, such as SERVFAIL.
    """

    def __init__(self, records: Callable[[], Iterable[Record]], faults: Faults) -> None:
        """Take the records; nothing is bound yet."""
        self.records, self.faults, self.silent, self.trouble = records, faults, False, ""
        self._tcp = Listener(self._stream)
        self._udp = Listener(self._datagram, datagrams=True)

    @property
    def port(self) -> int:
        """The port, the same for UDP and TCP, once started."""
        return self._tcp.port

    def start(self) -> None:
        """Answer from now on."""
        self._tcp.start()
        self._udp.port = self._tcp.port
        self._udp.start()

    def stop(self) -> None:
        """Close the sockets."""
        self._tcp.stop()
        self._udp.stop()

    def _datagram(self, request: tuple[bytes, socket.socket, Any]) -> None:
        data, sock, address = request
        answer = self._reply(data)
        if answer is not None:
            query = dns.message.from_wire(data)
            with contextlib.suppress(OSError):
                sock.sendto(truncated(answer, max(query.payload, 512)), address)

    def _stream(self, connection: socket.socket) -> None:
        (length,) = struct.unpack("!H", exactly(connection, 2))
        answer = self._reply(exactly(connection, length))
        if answer is not None:
            wire = answer.to_wire(max_size=65535)
            connection.sendall(struct.pack("!H", len(wire)) + wire)

    def _reply(self, data: bytes) -> dns.message.Message | None:
        """Answer one question, or not."""
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return None
        self.faults.requests.append(("GET", "dns"))
        fault = self.faults.take("GET", "dns")
        if fault is not None and fault.kind == "latency":
            time.sleep(fault.seconds)
        if self.silent or (fault is not None and fault.kind.startswith("cut")):
            return None
        answer = dns.message.make_response(query, recursion_available=True)
        if self.trouble or (fault is not None and fault.kind != "latency"):
            answer.set_rcode(dns.rcode.from_text(self.trouble or "SERVFAIL"))
            return answer
        self._fill(answer, query.question[0])
        return answer

    def _fill(self, answer: dns.message.Message, question: dns.rrset.RRset) -> None:
        """Put the records in, aliases followed; say NXDOMAIN only of a name that has no record at all."""
        name, wanted = question.name, question.rdtype
        for _ in range(8):
            here = [one for one in self.records() if dns.name.from_text(one.name) == name]
            found = [one for one in here if dns.rdatatype.from_text(one.type) in (wanted, dns.rdatatype.CNAME)]
            for one in found:
                type = dns.rdatatype.from_text(one.type)
                answer.find_rrset(answer.answer, name, dns.rdataclass.IN, type, create=True).add(rdata(one), one.ttl)
            alias = next((one for one in found if one.type == "CNAME"), None)
            if alias is None or wanted == dns.rdatatype.CNAME:
                break
            name = dns.name.from_text(alias.value)
        if not found:
            answer.set_rcode(dns.rcode.NOERROR if here else dns.rcode.NXDOMAIN)
            answer.authority.append(dns.rrset.from_text(dns.name.root, 300, "IN", "SOA", SOA))


def truncated(answer: dns.message.Message, size: int) -> bytes:
    """Give the answer, or where it is longer than ``size`` an empty one that asks to come again over TCP."""
    wire = answer.to_wire(max_size=65535)
    if len(wire) <= size:
        return wire
    answer.answer.clear()
    answer.flags |= dns.flags.TC
    return answer.to_wire()
