#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes generated TOML documents and what Python's tomllib makes of them, for test_toml.c.

usage: toml_peer.py SEED COUNT

Each document is "<length of document> <length of answer>\\n", the document, the answer. An answer is "error" or the tree:
s<hex> i<decimal> f<hex of the double's bits> b0 b1 t<date or time> [a,b,] {<hex of key>=v,}. Whatever our parser refuses by its
own documented limits (integers beyond 64 bits, NUL in keys) counts as an error. Exit status 77: no tomllib.
"""

import datetime
import math
import random
import struct
import sys

try:
    import tomllib
except ImportError:
    sys.exit(77)


class Limit(Exception):
    pass


def stamp(v):
    def time(t):
        return "%02d:%02d:%02d.%06d" % (t.hour, t.minute, t.second, t.microsecond)

    if isinstance(v, datetime.datetime):
        text = "%04d-%02d-%02dT%s" % (v.year, v.month, v.day, time(v))
        if v.tzinfo is not None:
            text += "%+d" % (v.utcoffset().total_seconds() // 60)
        return text
    if isinstance(v, datetime.date):
        return "%04d-%02d-%02d" % (v.year, v.month, v.day)
    return time(v)


def answer(v):
    if isinstance(v, str):
        return "s" + v.encode().hex()
    if isinstance(v, bool):
        return "b%d" % v
    if isinstance(v, int):
        if not -(2**63) <= v < 2**63:
            raise Limit
        return "i%d" % v
    if isinstance(v, float):
        return "fnan" if math.isnan(v) else "f" + struct.pack(">d", v).hex()
    if isinstance(v, list):
        return "[" + "".join(answer(x) + "," for x in v) + "]"
    if isinstance(v, dict):
        if any("\0" in k for k in v):
            raise Limit
        return "{" + "".join("%s=%s," % (k.encode().hex(), answer(x)) for k, x in v.items()) + "}"
    return "t" + stamp(v)


class Generator:
    """Few key names, so that redefinitions are common; most documents are nearly valid."""

    def __init__(self, rnd):
        self.r = rnd

    def blanks(self):
        return self.r.choice(["", "", "", " ", "\t", "  "])

    def key_part(self):
        r = self.r
        k = r.choice(["a", "b", "c", "d"]) if r.random() < 0.9 else r.choice(["", "x-y", "1", "k_2", "a b", "é", "0x1", "a.b"])
        bare = k and all(c.isascii() and (c.isalnum() or c in "-_") for c in k)
        style = r.random()
        if bare and style < 0.85:
            return k
        if style < 0.93:
            return "'%s'" % k
        return '"%s"' % k.replace("a", r.choice(["a", "\\u0061", "\\U00000061"]))

    def key(self, longest=3):
        n = self.r.choice([1, 1, 1, 2, 2, longest])
        return (self.blanks() + "." + self.blanks()).join(self.key_part() for _ in range(n))

    def string(self):
        r = self.r
        basic = ["a", "Z", " ", "\t", "'", "\\n", "\\t", '\\"', "\\\\", "\\u00e9", "\\U0001F600", "\\b", "\\f", "\\r", "ü", "€", "𝄞", "#", "="]
        literal = ["a", "\\", '"', " ", "\t", "ß", "#", "\\u"]
        lines = ["\n", "\r\n", "\n\n", '"', '""', "\\\n", "\\  \n \t\n  x", "\\\r\n"]
        n = r.randrange(8)
        kind = r.randrange(4)
        if kind == 0:
            return '"' + "".join(r.choice(basic) for _ in range(n)) + '"'
        if kind == 1:
            return "'" + "".join(r.choice(literal) for _ in range(n)) + "'"
        if kind == 2:
            return '"""' + r.choice(["", "\n", "\r\n"]) + "".join(r.choice(basic + lines) for _ in range(n)) + '"""'
        return "'''" + r.choice(["", "\n"]) + "".join(r.choice(literal + ["\n", "'", "''", "\r\n"]) for _ in range(n)) + "'''"

    def number(self):
        r = self.r
        return r.choice(
            [
                lambda: str(r.randrange(-100, 100)),
                lambda: "+%d" % r.randrange(10),
                lambda: str(r.choice([2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**70])),
                lambda: "{:_}".format(r.randrange(10**9)),
                lambda: r.choice(["0x", "0o", "0b", "0X"]) + r.choice(["1", "0_1", "10", "7f", "DEADBEEF", "7fffffffffffffff", "8000000000000000", "_1", "1_"]),
                lambda: "%s%s%s" % (r.choice(["", "+", "-"]), r.choice(["1.5", "0.0", "3.14_15", "1e6", "1E+2", "6.626e-34", "1_0.5e1_0", "01.5", "1.", ".5", "1.e2", "1e"]), ""),
                lambda: r.choice(["", "+", "-"]) + r.choice(["inf", "nan"]),
                lambda: r.choice(["00", "01", "1__0", "_1", "1_", "-0", "+0", "0", "0e0", "-0.0", "1e400"]),
            ]
        )()

    def date(self):
        r = self.r
        day = "%04d-%02d-%02d" % (r.choice([1979, 2000, 1900, 2024, 9999]), r.randrange(1, 13), r.choice([1, 15, 28, 29, 30, 31]))
        time = "%02d:%02d:%02d" % (r.choice([0, 7, 23, 24]), r.choice([0, 32, 59, 60]), r.choice([0, 30, 59]))
        time += r.choice(["", "", ".5", ".123456", ".123456789", "."])
        zone = r.choice(["", "Z", "z", "+01:00", "-07:30", "+00:00", "-00:00", "+24:00", "+1:00"])
        return r.choice([day, time, day + r.choice(["T", "t", " "]) + time + zone, day + " ", day + "T"])

    def value(self, depth=0):
        r = self.r
        p = r.random()
        if depth < 4 and p < 0.12:
            gap = r.choice(["", " ", "\n", " # c\n", "\r\n"])
            n = r.randrange(4)
            inner = ("," + gap).join(self.value(depth + 1) + gap for _ in range(n))
            return "[" + gap + inner + ("," + gap if n and r.random() < 0.3 else "") + "]"
        if depth < 4 and p < 0.26:
            n = r.randrange(4)
            inner = ",".join(self.blanks() + self.key() + self.blanks() + "=" + self.blanks() + self.value(depth + 1) + self.blanks() for _ in range(n))
            return "{" + self.blanks() + inner + r.choice(["", "", "", "", "", ",", "\n"]) + "}"
        if p < 0.5:
            return self.string()
        if p < 0.6:
            return r.choice(["true", "false", "True", "tru"]) if r.random() < 0.2 else r.choice(["true", "false"])
        if p < 0.72:
            return self.date()
        return self.number()

    def statement(self):
        r = self.r
        p = r.random()
        if p < 0.18:
            text = "[" + self.blanks() + self.key() + self.blanks() + "]"
        elif p < 0.28:
            text = "[[" + self.blanks() + self.key() + self.blanks() + "]]"
        elif p < 0.33:
            text = ""
        else:
            text = self.key() + self.blanks() + "=" + self.blanks() + self.value()
        return self.blanks() + text + self.blanks() + r.choice(["", "", "", "# é comment\t"]) + r.choice(["\n", "\n", "\n", "\r\n"])

    def document(self):
        r = self.r
        doc = "".join(self.statement() for _ in range(r.choice([1, 2, 3, 4, 6, 9]))).encode()
        if r.random() < 0.1 and doc.endswith(b"\n"):
            doc = doc[:-1]
        if r.random() < 0.25 and doc:
            at = r.randrange(len(doc))
            noise = bytes([r.choice([r.randrange(256), *b"[]{}=.,\"'\\#\n\r\t 0_-+eTZ:"])])
            doc = doc[:at] + r.choice([b"", noise]) + doc[at + r.randrange(2) :]
        return doc


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    generator = Generator(random.Random(seed))
    out = sys.stdout.buffer
    for _ in range(count):
        doc = generator.document()
        if b"0000-" in doc:  # Python knows no year 0
            continue
        try:
            text = answer(tomllib.loads(doc.decode()))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, Limit):
            text = "error"
        out.write(b"%d %d\n" % (len(doc), len(text)) + doc + text.encode())


main()
