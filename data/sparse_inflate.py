"""Inflate what is nearly all zeros, as the filtered rows of a map of segments are: only the other bytes are written.

A match that repeats zeros then costs its symbols, however long it is, and any other match the few bytes in it that are not 0.
From RFC 1950 (zlib), RFC 1951 (deflate). Whatever is unusual or damaged is refused, for zlib to decide on.
"""

from dataclasses import dataclass

import numpy as np

from runtime.compiled import kernel

LONGEST_CODE = 15
"""Bits."""
LITERAL, MATCH, END, INVALID = range(4)
CODE_LENGTH_ORDER = np.array((16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15))
BLOCK_SHIFT = 8
"""Of each block of 2 ** BLOCK_SHIFT bytes it is known where its own bytes begin among those that are not 0."""


def _pack(value: int, kind: int, extra: int = 0) -> int:
    """What a symbol means, above the 4 bits that its code's length takes in a table; `extra` bits follow the code."""
    return value << 12 | kind << 8 | extra << 4


def _with_bases(first: int, extras: list[int]) -> list[int]:
    """Symbols whose values begin where those of the symbol before end."""
    bases = np.cumsum([first] + [1 << extra for extra in extras[:-1]]).tolist()
    return [_pack(base, MATCH, extra) for base, extra in zip(bases, extras, strict=True)]


_LENGTHS = [*_with_bases(3, [max(0, k // 4 - 1) for k in range(28)]), _pack(258, MATCH)]
LITERALS_AND_LENGTHS = np.array([*(_pack(k, LITERAL) for k in range(256)), _pack(0, END), *_LENGTHS, *[_pack(0, INVALID)] * 2])
DISTANCES = np.array([*_with_bases(1, [max(0, k // 2 - 1) for k in range(30)]), *[_pack(0, INVALID)] * 2])
CODE_LENGTHS = np.array([_pack(k, LITERAL) for k in range(19)])
FIXED_LENGTHS = np.repeat(np.array((8, 9, 7, 8)), (144, 112, 24, 8))
FIXED_DISTANCES = np.full(32, 5)


@dataclass(frozen=True)
class Room:
    """Memory to inflate into, used again and again: a fresh array costs more than what is written to it.

    positions, values: of the bytes that are not 0. firsts: of each block, the first of them. tables: of the two codes.
    """

    positions: np.ndarray
    values: np.ndarray
    firsts: np.ndarray
    tables: np.ndarray

    @classmethod
    def for_streams(cls, size: int, most: int) -> "Room":
        """Room for streams of up to `size` bytes, of which up to `most` differ from 0."""
        return cls(
            np.empty(most + 1, np.int32),
            np.empty(most + 1, np.uint8),
            np.empty((size >> BLOCK_SHIFT) + 2, np.int32),
            np.empty((2, 1 << LONGEST_CODE), np.int32),
        )


def inflate_sparse(compressed: np.ndarray, size: int, room: Room) -> tuple[np.ndarray, np.ndarray] | None:
    """Inflate a whole zlib stream.

    Args:
        compressed: (N,) uint8.
        size: bytes that it must give, below 2**31.
        room: for as many.

    Returns:
        The positions, (M,) int32 and ascending, of the bytes that are not 0, and these, (M,) uint8, both in `room`. None where
        the stream is not right, not of this size, not as sparse, or of a form that only zlib knows.
    """
    num = _inflate(compressed, size, room.positions, room.values, room.firsts, room.tables)
    return None if num < 0 else (room.positions[:num], room.values[:num])


@kernel
def _inflate(data, size, positions, values, firsts, tables):
    """How many bytes are not 0; -1 where the stream is refused."""
    most, refused = len(positions) - 1, -1
    lengths_table, distances_table = tables
    total = len(data)
    # The header of a window of 32 KiB without dictionary.
    if total < 6 or data[0] != 0x78 or data[1] & 32 or (0x7800 + data[1]) % 31:
        return refused
    at, buffer, bits = 2, 0, 0
    position, num, block = 0, 0, -1
    is_last = False
    while not is_last:
        while bits <= 48 and at < total:
            buffer |= np.int64(data[at]) << bits
            bits += 8
            at += 1
        if bits < 3:
            return refused
        is_last, form = buffer & 1 == 1, buffer >> 1 & 3
        buffer >>= 3
        bits -= 3
        if form == 0:
            at -= bits >> 3  # what was read ahead
            buffer, bits = 0, 0
            if at + 4 > total:
                return refused
            length = np.int64(data[at]) | np.int64(data[at + 1]) << 8
            if length ^ 0xFFFF != np.int64(data[at + 2]) | np.int64(data[at + 3]) << 8 or at + 4 + length > total:
                return refused
            at += 4
            if position + length > size:
                return refused
            for k in range(at, at + length):
                if data[k]:
                    if num >= most:
                        return refused
                    while block < position >> BLOCK_SHIFT:
                        block += 1
                        firsts[block] = num
                    positions[num] = position
                    values[num] = data[k]
                    num += 1
                position += 1
            at += length
            continue
        if form == 1:
            length_bits = _fill_table(FIXED_LENGTHS, LITERALS_AND_LENGTHS, lengths_table)
            distance_bits = _fill_table(FIXED_DISTANCES, DISTANCES, distances_table)
        elif form == 2:
            lengths, num_literals, at, buffer, bits = _read_code_lengths(data, at, buffer, bits, lengths_table)
            if num_literals == 0 or lengths[256] == 0:
                return refused
            length_bits = _fill_table(lengths[:num_literals], LITERALS_AND_LENGTHS, lengths_table)
            distance_bits = _fill_table(lengths[num_literals:], DISTANCES, distances_table)
        else:
            return refused
        if length_bits < 0 or distance_bits < 0:
            return refused
        length_mask, distance_mask = (1 << length_bits) - 1, (1 << distance_bits) - 1
        while True:
            if bits < 48:  # what a match takes at most
                if at + 8 <= total:
                    num_bytes = (62 - bits) >> 3
                    buffer |= (_eight_bytes(data, at) & ((1 << 8 * num_bytes) - 1)) << bits
                    bits += 8 * num_bytes
                    at += num_bytes
                else:
                    while bits < 48 and at < total:
                        buffer |= np.int64(data[at]) << bits
                        bits += 8
                        at += 1
            symbols, before = buffer, bits
            entry = np.int64(lengths_table[buffer & length_mask])
            code = entry & 15
            buffer >>= code
            bits -= code
            kind = entry >> 8 & 3
            if kind == LITERAL:
                value = entry >> 12
                if code == 0 or bits < 0 or position >= size:
                    return refused
                if value:
                    if num >= most:
                        return refused
                    while block < position >> BLOCK_SHIFT:
                        block += 1
                        firsts[block] = num
                    positions[num] = position
                    values[num] = value
                    num += 1
                position += 1
                continue
            if kind != MATCH:
                if kind == INVALID or bits < 0:
                    return refused
                break
            extra = entry >> 4 & 15
            length = (entry >> 12) + (buffer & ((1 << extra) - 1))
            buffer >>= extra
            bits -= extra
            entry = np.int64(distances_table[buffer & distance_mask])
            code, extra = entry & 15, entry >> 4 & 15
            buffer >>= code
            distance = (entry >> 12) + (buffer & ((1 << extra) - 1))
            buffer >>= extra
            bits -= code + extra
            if code == 0 or bits < 0 or entry >> 8 & 3 != MATCH or distance > position or position + length > size:
                return refused
            source = position - distance
            position += length
            if num == 0 or positions[num - 1] < source:  # zeros, of which many such matches follow each other
                used = before - bits
                mask = (1 << used) - 1
                while bits >= used and buffer & mask == symbols & mask and position + length <= size:
                    buffer >>= used
                    bits -= used
                    position += length
                continue
            end = source + length
            k = np.int64(firsts[source >> BLOCK_SHIFT])
            while k < num and positions[k] < source:
                k += 1
            while k < num and positions[k] < end:  # what it adds itself is repeated as well
                if num >= most:
                    return refused
                place = positions[k] + distance
                while block < place >> BLOCK_SHIFT:
                    block += 1
                    firsts[block] = num
                positions[num] = place
                values[num] = values[k]
                num += 1
                k += 1
    at -= bits >> 3
    if position != size or at + 4 != total:
        return refused
    checksum = np.int64(0)
    for k in range(at, at + 4):
        checksum = checksum << 8 | np.int64(data[k])
    if checksum != _adler(positions, values, num, size):
        return refused
    return num


@kernel
def _eight_bytes(data, at):
    """As one number, the first byte lowest; the compiler makes one load of it, where the index has no sign."""
    start, found = np.uint64(at), np.int64(0)
    for k in range(8):
        found |= np.int64(data[start + np.uint64(k)]) << 8 * k
    return found


@kernel
def _adler(positions, values, num, size):
    """Adler-32 of `size` bytes, of which all but `num` are 0."""
    low, high = 1, size
    for start in range(0, num, 2**20):  # sums below 2**59
        for k in range(start, min(start + 2**20, num)):
            low += np.int64(values[k])
            high += np.int64(values[k]) * (size - positions[k])
        low %= 65521
        high %= 65521
    return (high % 65521) << 16 | low


@kernel
def _fill_table(lengths, symbols, table):
    """Enter at all numbers whose low bits are a code what its symbol means and the code's length; the bits of the longest code.

    -1 where the lengths give no complete code; a code of one symbol only, or of none, may be so.
    """
    counts, codes = np.zeros(LONGEST_CODE + 1, np.int64), np.zeros(LONGEST_CODE + 1, np.int64)
    for k in range(len(lengths)):
        counts[lengths[k]] += 1
    counts[0] = 0
    longest, free = 0, 1
    for bits in range(1, LONGEST_CODE + 1):
        codes[bits] = (codes[bits - 1] + counts[bits - 1]) << 1
        free = 2 * free - counts[bits]
        if free < 0:
            return -1
        if counts[bits]:
            longest = bits
    if free > 0 and longest > 1:
        return -1
    table[: 1 << longest] = 0
    for symbol in range(len(lengths)):
        length = lengths[symbol]
        if length == 0:
            continue
        code, mirrored = codes[length], 0
        codes[length] += 1
        for _ in range(length):
            mirrored = mirrored << 1 | code & 1
            code >>= 1
        for k in range(mirrored, 1 << longest, 1 << length):
            table[k] = symbols[symbol] | length
    return longest


@kernel
def _read_code_lengths(data, at, buffer, bits, table):
    """The head of a block with its own codes: (lengths of both codes, how many of the first, at, buffer, bits); 0 of the first
    where it is refused."""
    total = len(data)
    lengths = np.zeros(320, np.int64)
    num_literals, num_distances, num_lengths = 257 + (buffer & 31), 1 + (buffer >> 5 & 31), 4 + (buffer >> 10 & 15)
    buffer >>= 14
    bits -= 14
    if bits < 0 or num_literals > 286 or num_distances > 30:
        return lengths, 0, at, buffer, bits
    of_lengths = np.zeros(19, np.int64)
    for k in range(num_lengths):
        while bits < 3 and at < total:
            buffer |= np.int64(data[at]) << bits
            bits += 8
            at += 1
        of_lengths[CODE_LENGTH_ORDER[k]] = buffer & 7
        buffer >>= 3
        bits -= 3
    longest = _fill_table(of_lengths, CODE_LENGTHS, table)
    if bits < 0 or longest < 1:
        return lengths, 0, at, buffer, bits
    num = 0
    while num < num_literals + num_distances:
        while bits < 16 and at < total:
            buffer |= np.int64(data[at]) << bits
            bits += 8
            at += 1
        entry = np.int64(table[buffer & ((1 << longest) - 1)])
        code, symbol = entry & 15, entry >> 12
        buffer >>= code
        bits -= code
        if code == 0 or bits < 0 or (symbol == 16 and num == 0):
            return lengths, 0, at, buffer, bits
        if symbol < 16:
            lengths[num] = symbol
            num += 1
            continue
        extra = 2 if symbol == 16 else (3 if symbol == 17 else 7)
        repeats = (11 if symbol == 18 else 3) + (buffer & ((1 << extra) - 1))
        buffer >>= extra
        bits -= extra
        if bits < 0 or num + repeats > num_literals + num_distances:
            return lengths, 0, at, buffer, bits
        value = lengths[num - 1] if symbol == 16 else 0
        for _ in range(repeats):
            lengths[num] = value
            num += 1
    return lengths[:num], num_literals, at, buffer, bits
