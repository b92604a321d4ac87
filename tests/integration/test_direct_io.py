# SPDX-License-Identifier: GPL-2.0-or-later
"""Direct and asynchronous I/O beside the page cache."""
import ctypes
import mmap
import os
import struct
import time

from lib import k, test, tree

SIZE, BLOCK = 512 * 1024, 64 * 1024
PWRITE = 1


def _control_block(n, fd, buf):
    """struct iocb of a write of block @n."""
    packed = struct.pack('<QIiHhIQQqQII', n, 0, 0, PWRITE, 0, fd, buf + n * BLOCK, BLOCK, n * BLOCK, 0, 0, 0)
    return ctypes.create_string_buffer(packed, len(packed))


def _stale(path, seconds):
    """Rounds of direct asynchronous writes; how many buffered reads after their completion saw something older."""
    context = ctypes.c_ulong(0)
    k.syscall('io_setup', ctypes.c_int(64), ctypes.byref(context))
    memory = mmap.mmap(-1, SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    direct, buffered = os.open(path, os.O_RDWR | os.O_DIRECT), os.open(path, os.O_RDONLY)
    events = ctypes.create_string_buffer(32 * (SIZE // BLOCK))
    stale = rounds = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rounds += 1
        byte = bytes([rounds % 250 + 1])
        memory[:] = byte * SIZE
        blocks = [_control_block(i, direct, address) for i in range(SIZE // BLOCK)]
        pointers = (ctypes.c_void_p * len(blocks))(*[ctypes.addressof(b) for b in blocks])
        assert k.syscall('io_submit', context, ctypes.c_long(len(blocks)), pointers) == len(blocks)
        done = 0
        while done < len(blocks):
            n = k.syscall('io_getevents', context, ctypes.c_long(1), ctypes.c_long(len(blocks) - done), events, None)
            for i in range(n):
                block, _, result, _ = struct.unpack_from('<QQqq', events, 32 * i)
                assert result == BLOCK, result
                stale += os.pread(buffered, BLOCK, block * BLOCK) != byte * BLOCK
            done += n
    k.syscall('io_destroy', context)
    os.close(direct)
    os.close(buffered)
    return rounds, stale


@test(timeout=120, alone=True)
def asynchronous_writes_are_seen(t):
    """A buffered read after an asynchronous direct write is done, with somebody else reading all the time."""
    u = t.mounted('')
    try:
        tree.write(u.m('f'), bytes(SIZE))
        os.close(os.open(u.m('f'), os.O_RDWR | os.O_DIRECT))
    except OSError as e:
        t.skip('no O_DIRECT here: %s' % e)
    pid = os.fork()
    if pid == 0:
        fd = os.open(u.m('f'), os.O_RDONLY)
        while True:
            os.pread(fd, SIZE, 0)
    try:
        rounds, stale = _stale(u.m('f'), 5)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    t.ok(rounds > 10, rounds)
    t.eq(stale, 0, 'of %d rounds' % rounds)
