#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets into fuzz/corpus: a few good inputs and some near misses for each."""
import pathlib, struct, zlib

here = pathlib.Path(__file__).parent / "corpus"


def zigzag(n):
    n = (n << 1) ^ (n >> 63)
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def text(value):
    raw = value.encode()
    return zigzag(len(raw)) + raw


def seed(target, name, data):
    folder = here / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


good = b'{"name":"ada","amount":12.50,"count":-7,"items":[1,2],"raw":[1],"at":1700000000000,"flag":true}'
flat = b'{"name":"ada","amount":12.50,"count":7,"small":200,"flag":true}'
for name, data in {
    "good": good, "flat": flat, "two": flat + b"\n" + flat.replace(b"ada", b"bob"), "nulls": b'{"name":"","amount":0,"count":null}',
    "escape": flat + b"\n" + flat.replace(b"ada", b"a\\u0064a"), "number": flat + b"\n" + flat.replace(b"12.50", b"1e400"),
    "twice": b'{"name":"a","name":"b","amount":1}', "cut": flat[:20], "utf8": b'{"name":"\xff","amount":1}',
}.items():
    seed("json", name, data)

mixed = text("ada") + struct.pack("<d", 12.5) + zigzag(1) + zigzag(-7) + zigzag(2) + zigzag(1) + zigzag(2) + zigzag(0)
mixed += zigzag(1) + zigzag(2) + b"\x01\x02" + b"\x01"
seed("avro", "mixed", b"\x00" + mixed)
seed("avro", "cut", b"\x00" + mixed[:-3])
seed("avro", "skipped", b"\x01" + zigzag(0) + text("bob") + struct.pack("<f", 1.5) + zigzag(3) + zigzag(1700000000000))
seed("avro", "blocks", b"\x01" + zigzag(-1) + zigzag(3) + text("k") + zigzag(0) + zigzag(0) + text("b") + struct.pack("<f", 1) + zigzag(3) + zigzag(0))
seed("avro", "nested", b"\x02" + zigzag(1) + zigzag(0) + text("in") + zigzag(1) + zigzag(0) + text("out") + zigzag(2) + zigzag(0))
seed("avro", "decimal", b"\x03" + zigzag(3) + zigzag(0) + zigzag(1) + zigzag(2) + b"\x04\xd2")
seed("avro", "claim", b"\x00" + text("a") + struct.pack("<d", 1) + zigzag(0) + zigzag(1 << 60))

record = b'{"type":"record","name":"Mixed","fields":[{"name":"name","type":"string"},{"name":"amount","type":"int"},{"name":"count","type":["null","long"],"default":null}]}'
later = record.replace(b'"int"', b'"double"').replace(b'"count"', b'"number","aliases":["count"]')
seed("avro_schemas", "same", record + b"\0" + record + b"\0" + text("a") + zigzag(1) + zigzag(0))
seed("avro_schemas", "evolved", record + b"\0" + later + b"\0" + text("a") + zigzag(1) + zigzag(0))
seed("avro_schemas", "recursive", record.replace(b'"int"', b'["null","Mixed"]') + b"\0" + record + b"\0\2")
seed("avro_schemas", "enum", b'{"type":"enum","name":"E","symbols":["A"]}\0{"type":"enum","name":"E","symbols":["B"],"default":"B"}\0\0')

sync = bytes(range(16))


def container(codec, pack, data):
    head = b"Obj\x01" + zigzag(2) + text("avro.schema") + text(record.decode()) + text("avro.codec") + text(codec) + zigzag(0) + sync
    block = pack(b"".join(data))
    return head + zigzag(len(data)) + zigzag(len(block)) + block + sync


def deflate(data):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(data) + squeeze.flush()


lines = [text(name) + zigzag(n) + zigzag(0) for n, name in enumerate(["a", "bb", "ccc"])]
seed("avro_container", "plain", container("null", bytes, lines))
seed("avro_container", "deflate", container("deflate", deflate, lines))
seed("avro_container", "unknown", container("lzma", bytes, lines))
seed("avro_container", "cut", container("null", bytes, lines)[:-20])

payment = b"\x0a\x03ada\x11" + struct.pack("<d", 1.5) + b"\x18\x07\x2a\x02\x01\x02\x32\x01\xff\x3a\x02\x08\x07\x40\x01"
seed("protobuf", "good", payment)
seed("protobuf", "nested", b"\x4a" + bytes([len(payment)]) + payment + b"\x52\x05\x0a\x01k\x12\x00")
seed("protobuf", "cut", payment[:9])

seed("wire", "confluent", b"\0\0\0\0\x07" + lines[0])
seed("wire", "indexes", b"\0\0\0\0\x07\x04\x02\x00" + payment)
seed("wire", "single", b"\xc3\x01" + bytes(8) + lines[0])
seed("wire", "text", "grüße".encode())
