#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Who may include whom. The table is the architecture: changing it is a visible decision.

ops/ may use transport/ because a handler needs fields of the request that libfuse drops (the
kill-set-id bit of WRITE, the flags of SETXATTR) and requests libfuse does not decode; transport/
still knows no operation. cli/ may use layer/choices.h, in which there are no functions: what a user
can choose is defined where it takes effect, and nobody translates one enum into another. src/main.c
wires the rooms and may include all of them.
"""
import pathlib
import re
import sys

MAY = {
    'util': set(),
    'watch': {'util'},
    'layer': {'util'},
    'merge': {'layer', 'util'},
    # The live union has three storeys: what is there, how an object moves up, what a caller asks for.
    'object': {'watch', 'merge', 'layer', 'util'},
    'copyup': {'object', 'merge', 'layer', 'util'},
    'union': {'copyup', 'object', 'merge', 'layer', 'util'},
    'ops': {'union', 'transport', 'watch', 'util'},
    'transport': {'util'},
    'cli': {'util'},
    'ctl': {'util'},
    'tool': {'merge', 'layer', 'util'},
}
# One header of a room, which includes none itself, for a room that may not use the rest of it.
MAY_HEADER = {
    'cli': {'layer/choices.h'},
}
MAX_LINES = 600
# A layer is asked by its table only, so that what a test makes fail or records is all there is.
TABLE_ONLY = {'merge', 'object', 'copyup', 'union'}
RAW = re.compile(r'(?<![\w>.])(?:%s)\(' % '|'.join('''
    openat2? open fstatat f?stat statx ioctl lseek fstatvfs statvfs fstatfs name_to_handle_at open_by_handle_at fchmod
    fchmodat fchown fchownat utimensat futimens renameat2? linkat unlinkat mkdirat mknodat symlinkat readlinkat
    f?[gs]etxattr f?listxattr f?removexattr copy_file_range fallocate ftruncate fsync fdatasync sync_file_range syncfs preadv?2? pwrite posix_fadvise readahead
    getdents64 dup fcntl flock faccessat'''.split()))
# Fields that one file alone may write, by any pointer to their struct that is not named so.
ONE_WRITER = {
    ('rdir', 'rname', 'orphan'): ('object/place.c', r'\b(?!data->|c->|v->|d->|old->)\w+->(%s)\s*=[^=]'),
}


def check(root):
    bad = []
    for f in sorted([*root.glob('src/**/*.[ch]'), *root.glob('include/**/*.h')]):
        room = f.parent.name
        lines = f.read_text().splitlines()
        rel = f.relative_to(root)
        if len(lines) > MAX_LINES and rel.parts[0] == 'src':
            bad.append('%s: %d lines; a file beyond %d is asking to be two' % (rel, len(lines), MAX_LINES))
        if rel.parts == ('src', 'main.c'):
            continue
        if room not in MAY:
            bad.append('%s: %s/ is no room of the table in tests/rooms.py' % (rel, room))
            continue
        for n, line in enumerate(lines, 1):
            m = re.match(r'\s*#\s*include\s+["<](?:\.\./)*(?:src/|include/)?([a-z]+)/([^">]+)[">]', line)
            header = m and '%s/%s' % (m[1], m[2])
            if header in MAY_HEADER.get(room, ()):
                continue
            if m and m[1] in MAY and m[1] != room and m[1] not in MAY[room]:
                bad.append('%s:%d: %s/ must not include %s/' % (rel, n, room, m[1]))
            raw = room in TABLE_ONLY and not re.match(r'\s*/?\*', line) and RAW.search(line)
            if raw:
                bad.append('%s:%d: %s...) is not asked of a layer by its table' % (rel, n, raw[0]))
            for fields, (owner, pattern) in ONE_WRITER.items():
                w = re.search(pattern % '|'.join(fields), line)
                if w and not str(rel).endswith(owner):
                    bad.append('%s:%d: %s is written by %s only' % (rel, n, w[1], owner))
            if m and m[1] in MAY and m[1] != room and m[2].endswith('_i.h'):
                bad.append('%s:%d: %s/%s is private to its room' % (rel, n, m[1], m[2]))
    return bad


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[1])
    bad = check(root)
    print('\n'.join(bad) or 'rooms: all in order')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
