"""Changes that keep to the format of a file, so that they get past its checksums and its parser."""

from __future__ import annotations

import io
import json
import random
import zipfile

import numpy as np
from mutations import NUMBERS, TEXTS, mutated

from mhcln.quiet_tensorflow import tf

JSON_VALUES = (None, True, False, -1, 0.5, 1e308, 10**30, [], {}, [[]], *NUMBERS, *TEXTS)


def mutated_member(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return a zip archive with one member changed and packed anew, so that its CRC is right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(content))
    if name.endswith(".json") and rng.random() < 0.7:
        content[name] = json.dumps(mutated_json(rng, json.loads(content[name]))).encode()
    else:
        content[name] = mutated(rng, content[name], other)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, value in content.items():
            archive.writestr(member, value)
    return packed.getvalue()


def mutated_json(rng: random.Random, value: object) -> object:
    """Return a JSON value with something in it replaced, removed or moved."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            break
        (holder, key), (other, there) = rng.choice(places), rng.choice(places)
        change = rng.randrange(4)
        if change == 0:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(other[there])) if change == 1 else rng.choice(JSON_VALUES)
    return value


def _places(value: object):
    """Find every place in a JSON value: the list or object that holds it, and its index or key."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            waiting.append(holder[key])


OPS = ("Const", "Conv2D", "Concat", "ConcatV2", "Identity", "MaxPool", "AvgPool", "Relu", "ReadFile", "PyFunc", "NoOp")


def edited_graph(rng: random.Random, data: bytes) -> bytes:
    """Return a graph that is whole, with other operations, inputs, attributes or constants."""
    graph = tf.compat.v1.GraphDef.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        node = rng.choice(graph.node[: rng.choice((11, len(graph.node)))])  # the image's nodes are the first
        other = rng.choice(graph.node)
        change = rng.randrange(7)
        if change == 0:
            node.op = rng.choice((*OPS, other.op))
        elif change == 1 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice((other.name, f"^{other.name}", f"{other.name}:1"))
        elif change == 2:
            del node.input[rng.randrange(3) :]
        elif change == 3:
            graph.node.remove(node)
        elif change == 4:
            node.name = rng.choice((other.name, "x"))
        elif "value" in node.attr:
            edit_constant(rng, node.attr["value"].tensor)
        else:
            for value in node.attr.values():
                value.f = rng.choice((0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan")))
                value.list.i[:] = [rng.choice((0, 1, 2, 3, 8, 600, 2**40)) for _ in value.list.i]
                value.s = rng.choice((b"SAME", b"VALID", b"EXPLICIT", b"\xff"))
    return graph.SerializeToString()


def edit_constant(rng: random.Random, tensor: tf.compat.v1.TensorProto) -> None:
    change = rng.randrange(3)
    if change == 0:
        tensor.dtype = rng.randrange(24)
    elif change == 1 and tensor.tensor_shape.dim:
        dimension = rng.choice(tensor.tensor_shape.dim)
        dimension.size = rng.choice((-1, 0, 1, 2 * dimension.size, 2**20, 2**40, 2**62))
    else:
        values = np.array(
            [rng.choice((0, -1, 1e30, np.inf, np.nan, 300)) for _ in range(len(tensor.tensor_content) // 4)]
        )
        tensor.tensor_content = values.astype(np.float32).tobytes()
        tensor.float_val[:] = [rng.choice((0, -1, 1e30, np.inf, np.nan)) for _ in tensor.float_val]


# Opcodes that leave one thing more on the stack, or take some away; and those that make a name, an array or a row.
PIECES = (
    *(
        b"N",
        b"K\x01",
        b"M\xff\xff",
        b"\x88",
        b"U\x02f4",
        b"U\x04\0\0\0\0",
        b"X\x03\0\0\0a/b",
        b"]",
        b")",
        b"(",
        b"I1\n",
    ),
    *(b"a", b"e", b"t", b"l", b"\x85", b"\x86", b"\x87", b"R", b"b", b"0", b"2", b"1", b"d", b"}", b"s", b"\x81"),
    *(b"q\x01", b"h\x01", b"q\x02", b"h\x02", b"\x94", b"j\1\0\0\0", b"r\xff\xff\xff\x7f", b"g1\n", b"p1\n"),
    *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n"),
    b"cnumpy\ndtype\n(U\x02f4I0\nI1\ntR",
    b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85cnumpy\ndtype\n(U\x02f4I0\nI1\ntRI00\nU\x04\0\0\0\0tb",
)


def assembled_pickle(rng: random.Random, _data: bytes, _other: bytes) -> bytes:
    """Return a pickle of opcodes in any order, in a list that may hold a row."""
    pieces = [rng.choice(PIECES) for _ in range(rng.randrange(1, 60))]
    row = [PIECES[-1], rng.choice(pieces), b"X\x03\0\0\0a/b"] if rng.random() < 0.5 else pieces
    return b"\x80\x02](](" + b"".join(row) + b"ee."
