# SPDX-License-Identifier: GPL-2.0-or-later
"""Listings: stable offsets, changes while listing, many names, rewinding."""
import ctypes
import os
import random
import struct
import subprocess
import time

from lib import k, test, tree


def _names(entries):
    return [n for _, _, n in entries if n not in ('.', '..')]


def _stack(t, n=1000):
    """n names spread over three layers, some in several, some whited out."""
    u = t.union(lowers=2)
    want = set()
    for i in range(n):
        name = 'name-%05d' % i
        u.put('f d/' + name, i % 2)
        if i % 5 == 0:
            u.put('f d/' + name, 1 - i % 2)
        if i % 7 == 0:
            u.put('w d/' + name, 'upper')
        elif i % 11 == 0:
            u.put('f d/' + name, 'upper')
        if i % 7:
            want.add(name)
    return u, want


@test(everywhere=True)
def seekdir(t):
    """Every position remembered with telldir gives the same entry again, in any order."""
    u, want = _stack(t)
    u.mount()
    for attempt in range(2):
        d = k.Dir(u.m('d'))
        seen = []
        while True:
            pos = d.tell()
            e = d.read()
            if e is None:
                break
            seen.append((pos, e))
        t.eq(set(_names(e for _, e in seen)), want)
        t.eq(len(seen), len(want) + 2)
        for pos, e in seen[::-37] + seen[::53] + seen[:3] + seen[-3:]:
            d.seek(pos)
            t.eq(d.read(), e, 'at position %d' % pos)
        d.close()
        k.drop_caches(3) if t.root else None


@test(everywhere=True)
def removal_while_listing(t):
    """Each name that is there all the time comes exactly once, whatever is removed meanwhile."""
    u, want = _stack(t)
    u.mount()
    d = k.Dir(u.m('d'))
    seen = []
    removed = set()
    n = 0
    while True:
        e = d.read()
        if e is None:
            break
        if e[2] in ('.', '..'):
            continue
        seen.append(e[2])
        n += 1
        if n % 3 == 0 and e[2] not in removed:  # behind us (a removed name may still be listed)
            os.unlink(u.m('d/' + e[2]))
            removed.add(e[2])
        if n % 50 == 0:                         # ahead of us, perhaps
            v = sorted(want - removed - set(seen))[:1]
            for x in v:
                os.unlink(u.m('d/' + x))
                removed.add(x)
    d.close()
    t.eq(len(seen), len(set(seen)), 'a name twice')
    t.ok(want - removed <= set(seen), 'missing: %s' % sorted(want - removed - set(seen))[:5])
    t.eq(set(tree.names(u.m('d'))), want - removed)


@test()
def creation_while_listing(t):
    """Names created meanwhile may or may not come; the others come exactly once."""
    u, want = _stack(t, 600)
    u.mount()
    d = k.Dir(u.m('d'))
    seen = []
    i = 0
    while True:
        e = d.read()
        if e is None:
            break
        seen.append(e[2])
        if i < 200:
            tree.write(u.m('d/new-%d' % i), '')
        i += 1
    d.close()
    t.eq(len(seen), len(set(seen)))
    t.ok(want <= set(seen))
    t.eq(set(tree.names(u.m('d'))), want | {'new-%d' % i for i in range(200)})


@test(everywhere=True, timeout=120)
def ten_thousand_entries(t):
    """Complete, unique, sorted out of two layers; listed quickly a second time."""
    u = t.union()
    os.mkdir(u.low('d'))
    for i in range(8000):
        tree.write(u.low('d/low-%d' % i), '')
    u.check_lowers = False
    u.mount()
    for i in range(2000):
        tree.write(u.m('d/up-%d' % i), '')
    for i in range(0, 8000, 8):
        os.unlink(u.m('d/low-%d' % i))
    want = {'low-%d' % i for i in range(8000) if i % 8} | {'up-%d' % i for i in range(2000)}
    for _ in range(2):
        entries = k.listing(u.m('d'))
        t.eq(len(entries), len(want) + 2)
        t.eq(set(_names(entries)), want)
    begin = time.monotonic()
    os.listdir(u.m('d'))
    t.ok(time.monotonic() - begin < 2 * t.slow)
    out = t.sh('ls -f d | wc -l; find d | wc -l; rm -r d', cwd=u.mnt).split()
    t.eq(out, ['9002', '9001'] if len(want) == 9000 else out)
    t.eq(os.listdir(u.mnt), [])


@test()
def rewinddir_shows_changes(t):
    """An open stream, rewound, shows what was created and removed, also when the directory was a
    lower one and was copied up meanwhile."""
    u = t.union(text='f d/x 1; f low/x 1; d gone')
    u.put('f d/y 1', 'upper')
    u.mount()
    for name in ('d', 'low'):
        d = k.Dir(u.m(name))
        first = sorted(_names(d.all()))
        tree.write(u.m(name + '/z'), '1')
        os.unlink(u.m(name + '/x'))
        d.rewind()
        t.eq(sorted(_names(d.all())), sorted(set(first) - {'x'} | {'z'}))
        d.close()
    d = k.Dir(u.m('gone'))
    os.rmdir(u.m('gone'))
    d.rewind()
    t.eq(_names(d.all()), [])
    d.close()


@test()
def listing_follows_every_change(t):
    """The kernel keeps listings; each kind of change must be seen by the next one."""
    u = t.mounted('f d/a 1; f e/b 1; d d/sub')
    d = u.m('d')

    def now(*want):
        t.eq(tree.names(d), sorted(want))
    now('a', 'sub')
    tree.write(d + '/f', '')
    now('a', 'f', 'sub')
    os.mkdir(d + '/g')
    now('a', 'f', 'g', 'sub')
    os.symlink('x', d + '/l')
    now('a', 'f', 'g', 'l', 'sub')
    os.link(d + '/f', d + '/h')
    now('a', 'f', 'g', 'h', 'l', 'sub')
    os.unlink(d + '/f')
    now('a', 'g', 'h', 'l', 'sub')
    os.rename(d + '/h', u.m('e/h'))
    now('a', 'g', 'l', 'sub')
    os.rename(u.m('e/b'), d + '/b')
    now('a', 'b', 'g', 'l', 'sub')
    os.rmdir(d + '/g')
    now('a', 'b', 'l', 'sub')
    os.rename(d + '/a', d + '/b')
    now('b', 'l', 'sub')
    os.rmdir(d + '/sub')
    now('b', 'l')
    os.mkfifo(d + '/p')
    now('b', 'l', 'p')
    k.rename2(d + '/p', u.m('e/h'), k.RENAME_EXCHANGE)
    now('b', 'l', 'p')
    t.ok(os.path.isfile(d + '/p'))


@test()
def small_buffers(t):
    """getdents64 with a buffer for one or two entries, as static programs do it."""
    u, want = _stack(t, 200)
    u.mount()
    fd = os.open(u.m('d'), os.O_RDONLY)
    buf = ctypes.create_string_buffer(64)
    seen = []
    while True:
        n = k.syscall('getdents64', ctypes.c_int(fd), buf, ctypes.c_uint(64))
        if n == 0:
            break
        off = 0
        while off < n:
            reclen, = struct.unpack_from('H', buf.raw, off + 16)
            seen.append(buf.raw[off + 19:off + reclen].split(b'\0')[0].decode())
            off += reclen
    os.close(fd)
    t.eq(sorted(seen), sorted(want | {'.', '..'}))


@test()
def two_readers_and_a_writer(t):
    """Listings by two processes while a third creates and removes: the fixed names always come."""
    u, want = _stack(t, 300)
    u.mount()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            for _ in range(40):
                got = _names(k.listing(u.m('d')))
                if len(got) != len(set(got)) or not want <= set(got):
                    os._exit(1)
            os._exit(0)
        pids.append(pid)
    for i in range(400):
        tree.write(u.m('d/tmp-%d' % i), '')
        if i >= 10:
            os.unlink(u.m('d/tmp-%d' % (i - 10)))
    for p in pids:
        t.eq(os.waitpid(p, 0)[1], 0, 'a reader missed names')


SMALL = r'''
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
	static struct { long at; char name[32]; } seen[20000];
	DIR *d = opendir(argv[1]);
	struct dirent *e;
	int n = 0, bad = 0;

	if (!d || sizeof(e->d_off) != 4)
		return 2;
	for (;;) {
		seen[n].at = telldir(d);
		errno = 0;
		e = readdir(d);
		if (!e)
			break;
		snprintf(seen[n++].name, sizeof(seen->name), "%s", e->d_name);
	}
	if (errno)
		perror("readdir");
	for (int i = 0; i < n; i += 97) {
		seekdir(d, seen[i].at);
		e = readdir(d);
		bad += !e || strcmp(e->d_name, seen[i].name) != 0;
	}
	printf("%d names, %d wrong after seekdir\n", n, bad);
	return 0;
}
'''


@test(needs=('gcc',), timeout=120)
def without_large_file_support(t):
    """A program whose off_t has 32 bits lists directories and comes back to positions in them."""
    tree.write(t.dir + '/small.c', SMALL)
    p = subprocess.run(['gcc', '-m32', '-o', t.dir + '/small', t.dir + '/small.c'], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if p.returncode or subprocess.run([t.dir + '/small']).returncode not in (1, 2, -11):
        t.skip('no programs of 32 bits here: %s' % p.stdout[-200:])
    u = t.union(lowers=2)
    for i in range(10000):
        tree.write(u.low('name-%d' % i, i % 2), '')
    u.check_lowers = False
    for opts in ((), ('ino32_t',), ('timeout=0',)):
        u.mount(*opts)
        for i in range(5):
            tree.write(u.m('new-%d' % i), '')
        t.eq(t.run(t.dir + '/small', u.mnt), '10007 names, 0 wrong after seekdir\n', '%s' % (opts,))
        u.umount()


def _cpu(u):
    """Seconds the daemon has computed."""
    with open('/proc/%d/stat' % u.proc.pid) as f:
        return sum(map(int, f.read().rpartition(')')[2].split()[11:13])) / os.sysconf('SC_CLK_TCK')


@test(identities=('root',), timeout=180)
def names_of_one_hash(t):
    """Names chosen to meet in a table (each has the same hash of a well-known kind) cost what others do."""
    spent = {}
    for kind in ('usual', 'chosen'):
        u = t.union(name=kind)
        for i in range(1 << 15):
            name = 'f%028d' % i
            if kind == 'chosen':        # Ez and FY: 33 * E + z = 33 * F + Y
                name = ''.join('Ez' if i >> b & 1 else 'FY' for b in range(15))
            os.close(os.open(u.low(name), os.O_CREAT | os.O_WRONLY))
        u.check_lowers = False
        u.mount()
        before = _cpu(u)
        for _ in range(2):
            t.eq(sum(e.stat().st_nlink for e in os.scandir(u.mnt)), 1 << 15)
        spent[kind] = _cpu(u) - before
        u.umount()
    t.ok(spent['chosen'] < 2 * spent['usual'] + 0.1, 'seconds of the daemon: %s' % spent)


@test(identities=('root', 'userns'), timeout=180)
def changes_while_listing_in_small_steps(t):
    """Names that are there all the time come exactly once, with a buffer for a few names, whatever others are made
    and removed meanwhile; also where every listing reads the layers anew."""
    for opts in ((), ('timeout=0',)):
        u = t.union(name='u%d' % len(opts))
        for i in range(3000):
            tree.write(u.low('stays-%d' % i), '')
        u.check_lowers = False
        u.mount(*opts)
        fd = os.open(u.mnt, os.O_RDONLY)
        buf = ctypes.create_string_buffer(256)
        seen, step, r = [], 0, random.Random(7)
        while True:
            n = k.syscall('getdents64', ctypes.c_int(fd), buf, ctypes.c_uint(len(buf)))
            if n == 0:
                break
            at = 0
            while at < n:
                _, _, reclen, _ = struct.unpack_from('QqHB', buf, at)
                seen.append(os.fsdecode(ctypes.string_at(ctypes.addressof(buf) + at + 19)))
                at += reclen
            for _ in range(3):
                step += 1
                name = u.m('comes-%d' % r.randrange(400))
                if os.path.lexists(name):
                    os.unlink(name)
                else:
                    tree.write(name, '')
            if step % 500 < 3:
                os.listdir(u.mnt)       # with timeout=0 this reads the layers
        os.close(fd)
        stays = [n for n in seen if n.startswith('stays')]
        t.eq((len(stays), len(set(stays))), (3000, 3000), str(opts))
        u.umount()
