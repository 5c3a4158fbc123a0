"""Shared by the peers: the constants of the wire contract and small helpers.

Server roles print ``PORT n`` once they listen and then run until killed.
Measured roles (timers, watchers, ...) return ``{metric: (value, unit)}``.
"""

import os
import resource
import socket
import ssl
import sys
import time

HOST = "127.0.0.1"
UNIT = 4 << 20  # sink: one b"." back for every UNIT bytes taken
CHUNK = 65536  # source: size of one write
BLOB = b"\0" * CHUNK
BACKLOG = 1024
now = time.perf_counter


def ready(port):
    sys.stdout.write(f"PORT {port}\n")
    sys.stdout.flush()


def listener():
    # the protocol number named: asyncio turns Nagle off only where it sees IPPROTO_TCP
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    s.bind((HOST, 0))
    s.listen(BACKLOG)
    s.setblocking(False)
    return s


def nodelay(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def cert(opt):
    d = opt["tls"]
    return os.path.join(d, "cert.pem"), os.path.join(d, "key.pem")


def server_ctx(opt, ssl=ssl):
    """A standard-library TLS 1.3 server context, or None for plain TCP."""
    if "tls" not in opt:
        return None
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.minimum_version = ssl.TLSVersion.TLSv1_3
    ctx.load_cert_chain(*cert(opt))
    return ctx


def rss():
    """Resident bytes now."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def delays(n, lo=10.0, span=60.0):
    """n reproducible scattered timer delays, none of which falls due in a run."""
    x, out = 12345, []
    for _ in range(n):
        x = (1103515245 * x + 12345) & 0x7FFFFFFF
        out.append(lo + span * x / 0x7FFFFFFF)
    return out


def hops(n, count=65536):
    """A reproducible stream of 'some other server' indices for the servers scenario."""
    x, out = 99991, []
    for _ in range(count):
        x = (1103515245 * x + 12345) & 0x7FFFFFFF
        out.append((x >> 8) % n)
    return out


def pairs(n, first):
    """n non-blocking socket pairs; the first `first` have one byte to read on [1]."""
    ps = []
    for i in range(n):
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        ps.append((a, b))
        if i < first:
            a.send(b"x")
    return ps


def readable_fds(n):
    """n descriptors (duplicates of one socket end) that stay readable for ever."""
    a, b = socket.socketpair()
    a.send(b"x")
    return [os.dup(b.fileno()) for _ in range(n)], (a, b)


def per(seconds, n, unit="ns"):
    return (seconds / n * {"ns": 1e9, "us": 1e6}[unit], unit)


# ---------------------------------------------------------------- redis
REDIS_VALUE = b"v" * 32


def redis_batch(depth):
    """RESP bytes of `depth` commands: SET key:i / GET key:i alternately."""
    out = []
    for i in range(depth // 2):
        k = b"key:%d" % i
        out.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$32\r\n%s\r\n" % (len(k), k, REDIS_VALUE))
        out.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(k), k))
    return out


def resp_parse(buf, out):
    """Minimal pure-Python RESP2 reader: appends whole replies to `out`, returns the rest."""
    pos, n = 0, len(buf)
    find = buf.find
    while pos < n:
        e = find(b"\r\n", pos)
        if e < 0:
            break
        t = buf[pos]
        if t == 36:  # $
            ln = int(buf[pos + 1 : e])
            if ln < 0:
                out.append(None)
                pos = e + 2
                continue
            end = e + 2 + ln
            if n < end + 2:
                break
            out.append(buf[e + 2 : end])
            pos = end + 2
        elif t == 43:  # +
            out.append(buf[pos + 1 : e])
            pos = e + 2
        elif t == 58:  # :
            out.append(int(buf[pos + 1 : e]))
            pos = e + 2
        else:
            raise ValueError(buf[pos:e])
    return buf[pos:]


# ---------------------------------------------------------------- dns
def dns_socket(port):
    """A connected UDP socket with room for a thousand answers (beyond the limit where allowed)."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
    except OSError:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.connect((HOST, port))
    s.setblocking(False)
    return s


def dns_query(qid, serial):
    n = b"q%d" % serial
    return (
        (b"%c%c\1\0\0\1\0\0\0\0\0\0%c" % (qid >> 8, qid & 255, len(n)))
        + n
        + b"\5bench\4test\0\0\1\0\1"
    )


def dns_parse(msg):
    """(id, [A addresses]) of an answer whose owner names are pointers or labels."""
    qd, an = msg[4] << 8 | msg[5], msg[6] << 8 | msg[7]
    p = 12
    for _ in range(qd):
        while msg[p]:
            p += msg[p] + 1
        p += 5
    got = []
    for _ in range(an):
        if msg[p] >= 192:
            p += 2
        else:
            while msg[p]:
                p += msg[p] + 1
            p += 1
        rdlen = msg[p + 8] << 8 | msg[p + 9]
        if msg[p : p + 2] == b"\0\1":
            got.append(socket.inet_ntoa(msg[p + 10 : p + 10 + rdlen]))
        p += 10 + rdlen
    return msg[0] << 8 | msg[1], got
