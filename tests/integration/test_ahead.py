# SPDX-License-Identifier: GPL-2.0-or-later
"""Read-ahead across files: who reads the files of a directory one after the other finds the next ones in memory."""
import ctypes
import json
import mmap
import os
import resource
import subprocess
import time

from lib import k, test, tree
from lib.slow import Slow, detach, times

SIZE = 9000
N = 60

_c = ctypes.CDLL(None, use_errno=True)
_c.mmap.restype = ctypes.c_void_p
_c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_c.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_c.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _cached(path):
    """Is the beginning of it in memory? Nothing is read by that."""
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    vec = ctypes.create_string_buffer(1)
    at = _c.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    try:
        assert at != ctypes.c_void_p(-1).value and _c.mincore(at, 4096, vec) == 0
    finally:
        _c.munmap(at, 4096)
        os.close(fd)
    return vec[0] != b'\0'


def _evict(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


class _Dirs:
    """Directories of @n files each in the lower, mounted, none of their data in memory."""

    def __init__(self, t, dirs=('d',), n=N, opts=(), **how):
        self.t, self.u = t, t.union()
        for d in dirs:
            os.mkdir(self.u.low(d))
            for i in range(n):
                f = self.u.low('%s/f%d' % (d, i * 7919 % 1000))
                tree.write(f, '%-*d' % (SIZE, i))
                os.utime(f, ns=(10**18, 2 * 10**18))
        self.u.mount(*opts, **how)
        self.names = {d: [e for _, _, e in k.listing(self.u.m(d)) if e[0] != '.'] for d in dirs}
        self.evict()

    def evict(self):
        for d, names in self.names.items():
            for n in names:
                _evict(self.u.low('%s/%s' % (d, n)))
                if _cached(self.u.low('%s/%s' % (d, n))):
                    self.t.skip('what is in memory of this file system stays there')

    def read(self, d, *names):
        for n in names:
            self.t.eq(len(tree.read(self.u.m('%s/%s' % (d, n)))), SIZE)

    def cached(self, d, names=None):
        """Those of the directory that are in memory, in the layer."""
        return [n for n in (self.names[d] if names is None else names) if _cached(self.u.low('%s/%s' % (d, n)))]

    def undisturbed(self, *read):
        """What has been read is in memory, as long as nobody empties the machine's caches."""
        if not all(_cached(self.u.low(f)) for f in read):
            self.t.skip('others have emptied the caches')

    def wait(self, d, names, read):
        """Until they all are; the file @read has been read before."""
        end = time.monotonic() + 5 * self.t.slow
        while self.cached(d, names) != names:
            if time.monotonic() > end:
                self.undisturbed(read)
            self.t.ok(time.monotonic() < end, (len(names), self.cached(d)))
            time.sleep(0.01)


def _orders(x, d):
    names = x.names[d]
    return {'listed': names, 'inode': sorted(names, key=lambda n: os.stat(x.u.m(d + '/' + n)).st_ino),
            'name': sorted(names)}


@test(everywhere=True)
def next_files(t):
    """Two in a row, in any of three orders, and the others are asked for; nothing is told to the kernel."""
    x = _Dirs(t, dirs=('d', 'e', 'f'))
    for d, order in zip(x.names, ('listed', 'inode', 'name')):
        names = _orders(x, d)[order]
        # Each by a process of its own, which has read nothing before.
        t.run('cat', x.u.m(d + '/' + names[10]))
        time.sleep(0.05)
        x.undisturbed(d + '/' + names[10])
        t.eq(x.cached(d), [names[10]], order + ': one alone')
        t.run('cat', x.u.m(d + '/' + names[11]))
        x.wait(d, names[10:], d + '/' + names[11])
        t.eq(x.cached(d, names[:10]), [], order + ': those before')
    # Where pages are is the layer's affair: each file is still read by a request.
    n = x.u.requests_during(lambda: x.read('d', *_orders(x, 'd')['listed'][12:]))['READ']
    t.ok(n >= N - 12, n)
    x.u.umount()


@test()
def next_directory(t):
    """Who has read so in one directory is thought to go on so in those that he lists then."""
    x = _Dirs(t, dirs=('d', 'e'))
    x.read('d', *x.names['d'])
    t.eq(x.cached('e'), [])
    # Its listing is kept by the kernel otherwise.
    x.u.umount()
    x.u.mount()
    x.evict()
    k.listing(x.u.m('d'))
    x.read('d', *x.names['d'])
    k.listing(x.u.m('e'))
    x.wait('e', x.names['e'], 'd/' + x.names['d'][-1])
    x.u.umount()


@test()
def many_files(t):
    """A window moves on with the reader, and not further."""
    x = _Dirs(t, n=400)
    names = x.names['d']
    for i in range(300):
        x.read('d', names[i])
        if i % 50 == 49:
            x.wait('d', names[:i + 10], 'd/' + names[i])
            t.eq(x.cached('d', names[i + 140:]), [])
    x.u.umount()


@test()
def other_readers(t):
    """In no order, backwards for instance: nothing is asked for."""
    x = _Dirs(t, n=200)
    orders = _orders(x, 'd').values()
    some = []
    for b in x.names['d'][::-1]:
        if all(not 0 < o.index(b) - o.index(a) < 10 for a in some for o in orders):
            some.append(b)
    t.ok(len(some) > 5, some)
    x.read('d', *some)
    time.sleep(0.3)
    x.undisturbed(*('d/' + n for n in some))
    t.eq(sorted(x.cached('d')), sorted(some))
    x.u.umount()


@test()
def warm_costs_nothing(t):
    """What is in memory is read by one call as ever, and nothing is asked for."""
    t.need('strace')
    x = _Dirs(t)
    for n in x.names['d']:
        tree.read(x.u.low('d/' + n))
    pid = x.u.daemon_pid()
    log = t.dir + '/calls'
    p = subprocess.Popen(['strace', '-f', '-o', log, '-e', 'trace=pread64,preadv2,fadvise64,openat2,openat', '-p', str(pid)],
                         stderr=subprocess.PIPE, text=True)
    p.stderr.readline()
    x.read('d', *x.names['d'])
    time.sleep(0.2)
    p.terminate()
    p.communicate()
    lines = open(log).read().split('\n')
    calls = [line.split('(')[0].split()[-1] for line in lines if '(' in line and 'resumed' not in line]
    count = {c: calls.count(c) for c in set(calls)}
    t.eq(count.get('pread64', 0) + count.get('preadv2', 0), N, count)
    t.eq((count.get('fadvise64', 0), [line for line in lines if 'meminfo' in line]), (0, []))
    t.ok(count.get('openat2', 0) + count.get('openat', 0) <= N + 5, count)
    x.u.umount()


@test()
def others_have_changed_it(t):
    """What is no file any more, is gone or closed to the daemon is passed by, without a word."""
    x = _Dirs(t, opts=('cache=immutable',))
    x.u.check_lowers = False
    names = x.names['d']
    low = [x.u.low('d/' + n) for n in names]
    for i in (4, 5, 6):
        os.unlink(low[i])
    os.mkfifo(low[5])
    os.symlink('/dev/zero', low[6])
    os.chmod(low[7], 0)
    os.truncate(low[8], 0)
    os.unlink(low[9])
    os.mkdir(low[9])
    before = x.u.log_text()
    x.read('d', *names[:2])
    end = time.monotonic() + 5 * t.slow
    while not all(_cached(f) for f in low[10:]):
        if time.monotonic() > end:
            x.undisturbed('d/' + names[0])
        t.ok(time.monotonic() < end, x.u.log_text())
    t.eq(x.u.log_text(), before)
    x.read('d', *names[10:])
    x.u.umount()


@test()
def no_time_of_access_moves(t):
    """The layer's times are those of who reads it."""
    x = _Dirs(t)
    low = [x.u.low('d/' + n) for n in x.names['d']]
    x.read('d', *x.names['d'][:2])
    x.wait('d', x.names['d'], 'd/' + x.names['d'][0])
    t.eq({os.stat(f).st_atime_ns for f in low[2:]}, {10**18})
    x.u.umount()


@test()
def few_descriptors(t):
    """There is something better to do with them."""
    x = _Dirs(t, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
    x.read('d', *x.names['d'][:3])
    time.sleep(0.3)
    x.undisturbed(*('d/' + n for n in x.names['d'][:3]))
    t.eq(x.cached('d'), x.names['d'][:3])
    x.u.umount()


def _on_slow_disk(t):
    """(server, where its ext4 is mounted): directories a and b of files whose blocks are found by reading another one."""
    src, at = t.plain('src'), t.dir + '/disk'
    os.mkdir(at)
    with open(src + '/img', 'wb') as f:
        f.truncate(64 << 20)
    t.run('mkfs.ext4', '-q', '-F', '-O', '^has_journal', src + '/img')
    t.run('mount', '-o', 'loop', src + '/img', at)
    for d in 'ab':
        os.mkdir(at + '/' + d)
        for i in range(20):
            with open('%s/%s/f%d' % (at, d, i), 'wb') as f:
                for block in range(8):
                    f.seek(block * 8192)
                    f.write(b'x' * 4096)
    t.run('umount', at)
    slow = Slow(t, src, 0)
    t.run('mount', '-o', 'ro,loop', slow.at + '/img', at)
    return slow, at


def _hanging_calls(pid):
    """The numbers of the system calls that its threads are in."""
    out = []
    for task in os.listdir('/proc/%d/task' % pid):
        try:
            out.append(open('/proc/%d/task/%s/syscall' % (pid, task)).read().split()[0])
        except OSError:
            pass
    return out


@test(identities=('root',), timeout=120, alone=True)
def layer_hangs(t):
    """Whoever asks a disk that does not answer for what nobody has read yet keeps nobody waiting."""
    t.need('mkfs.ext4')
    slow, at = _on_slow_disk(t)
    try:
        for how in ('go on', 'umount'):
            u = t.union(lowers=2, name=how.replace(' ', ''))
            u.lowers[0] = at
            u.check_lowers = False
            tree.build(u.lowers[1], '; '.join('f c/f%d hello' % i for i in range(100)))
            u.mount('cache=immutable')
            k.drop_caches(3)
            for i in range(20):
                os.stat(at + '/b/f%d' % i)
            os.listdir(at + '/b')
            for n in os.listdir(u.m('a')):
                tree.read(u.m('a/' + n))
            slow.stop()
            os.listdir(u.m('b'))
            time.sleep(0.5 * t.slow)
            # fadvise64, preadv2: there is a thread that waits for the disk
            t.ok({'221', '327'} & set(_hanging_calls(u.daemon_pid())), _hanging_calls(u.daemon_pid()))
            took = times([u.m('c/f%d' % i) for i in range(100)])
            t.ok(took[-1] < 0.3 * t.slow, took[-5:])
            t.eq(tree.text(u.m('c/f7')), 'hello')
            tree.write(u.m('new'), 'y')
            t.eq(json.loads(t.run(t.binary, 'ctl', u.mnt, 'status', '--json'))['daemon']['pid'], u.daemon_pid())
            if how == 'umount':
                begin = time.monotonic()
                detach(t, u.mnt)
                t.eq(k.mounted_at(u.mnt), [])
                t.ok(time.monotonic() - begin < 2 * t.slow)
            slow.go_on()
            if how == 'umount':
                u.wait_end()
            else:
                t.eq(len(tree.read(u.m('b/f3'))), 15 * 4096)
                u.umount()
    finally:
        slow.go_on()
        t.run('umount', '-l', at, check=False)
        slow.close()
