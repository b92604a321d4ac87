# SPDX-License-Identifier: GPL-2.0-or-later
"""The first request: what the kernel offers, and what really is in the answer that leaves, whatever libfuse knows."""
import ctypes
import errno
import os
import re
import struct

from lib import k, test

# linux/fuse.h
FLAGS = dict(ASYNC_READ=0, ATOMIC_O_TRUNC=3, EXPORT_SUPPORT=4, DONT_MASK=6, SPLICE_WRITE=7, SPLICE_MOVE=8, SPLICE_READ=9,
             AUTO_INVAL_DATA=12, DO_READDIRPLUS=13, READDIRPLUS_AUTO=14, ASYNC_DIO=15, WRITEBACK_CACHE=16, PARALLEL_DIROPS=18,
             HANDLE_KILLPRIV=19, POSIX_ACL=20, CACHE_SYMLINKS=23, HANDLE_KILLPRIV_V2=28, SETXATTR_EXT=29,
             NO_EXPORT_SUPPORT=38, ALLOW_IDMAP=40)
ALWAYS = {'ASYNC_READ', 'DONT_MASK', 'AUTO_INVAL_DATA', 'DO_READDIRPLUS', 'PARALLEL_DIROPS', 'CACHE_SYMLINKS',
          'HANDLE_KILLPRIV_V2', 'SETXATTR_EXT', 'NO_EXPORT_SUPPORT', 'ALLOW_IDMAP'}
INIT, OUT_HEADER, IN_HEADER = 26, 16, 40


def _names(flags):
    return {n for n, bit in FLAGS.items() if flags >> bit & 1}


def _messages(text):
    """(call, bytes) of every read and write that strace -xx has seen."""
    for line in text.split('\n'):
        m = re.search(r'\b(read|write|readv|writev)\(\d+, (.*)', line)
        if m:
            yield m[1], b''.join(bytes.fromhex(s.replace('\\x', '')) for s in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', m[2]))


def _handshake(t, *opts):
    """The names of flags offered, and answered."""
    u = t.union(name='u%d' % len(t.unions))
    out = '%s/strace.%d' % (t.logs, len(t.unions))
    u.mount(*opts, wrap=('strace', '-f', '-q', '-xx', '-s', '200', '-o', out, '-e', 'trace=read,readv,write,writev'),
            env={'ASAN_OPTIONS': 'detect_leaks=0:' + os.environ.get('ASAN_OPTIONS', '')})
    u.umount()
    offered = answered = None
    with open(out) as f:
        for call, data in _messages(f.read()):
            if call.startswith('read') and len(data) >= IN_HEADER + 20 and struct.unpack_from('<I', data, 4)[0] == INIT:
                low, high = struct.unpack_from('<II', data, IN_HEADER + 12)
                offered = _names(low | high << 32)
            if call.startswith('write') and offered is not None and len(data) == struct.unpack_from('<I', data)[0] == 80:
                low, = struct.unpack_from('<I', data, OUT_HEADER + 12)
                high, = struct.unpack_from('<I', data, OUT_HEADER + 32)
                answered = _names(low | high << 32)
                break
    t.ok(offered and answered, 'no INIT seen')
    return offered, answered


@test(identities=('root',), needs=('strace',))
def every_wanted_flag_leaves(t):
    for opts, more, less in (((), {'POSIX_ACL'}, set()), (('noacl',), set(), set()),
                             (('allow_root',), {'POSIX_ACL'}, {'ALLOW_IDMAP'}),
                             (('writeback=1',), {'POSIX_ACL', 'WRITEBACK_CACHE'}, set())):
        offered, answered = _handshake(t, *opts)
        t.eq(answered, ((ALWAYS | more) - less) & offered, str(opts))


@test()
def no_handles_that_do_not_last(t):
    """Exporters and others that keep handles are told at once that there are none."""
    u = t.mounted('f f hello')
    handle = struct.pack('Ii', 128, 0) + bytes(128)
    for name in ('f', ''):
        t.fails(errno.EOPNOTSUPP, k.syscall, 'name_to_handle_at', -1, u.m(name).encode(), ctypes.create_string_buffer(handle),
                ctypes.byref(ctypes.c_int()), 0)
